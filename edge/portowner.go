package edge

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ownerOfPort names the process that listens on addr's port, as far as /proc (proc(5), net/tcp) shows it to this user.
func ownerOfPort(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return ""
	}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if inode := listeningInode(table, uint16(n)); inode != "" {
			if pid := processWithSocket(inode); pid > 0 {
				return fmt.Sprintf(" by process %d%s", pid, commandOf(pid))
			}
		}
	}
	return ""
}

func listeningInode(table string, port uint16) string {
	f, err := os.Open(table)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // nothing was written
	const listening = "0A"
	suffix := fmt.Sprintf(":%04X", port)
	for sc := bufio.NewScanner(f); sc.Scan(); {
		// Columns: sl local_address rem_address st ... inode is the tenth.
		cols := strings.Fields(sc.Text())
		if len(cols) > 9 && cols[3] == listening && strings.HasSuffix(cols[1], suffix) {
			return cols[9]
		}
	}
	return ""
}

func processWithSocket(inode string) int {
	want := "socket:[" + inode + "]"
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && target == want {
			pid, err := strconv.Atoi(strings.Split(fd, "/")[2])
			if err == nil {
				return pid
			}
		}
	}
	return 0
}
