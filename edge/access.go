package edge

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"
)

// peer is who is at the other end of a Unix socket (SO_PEERCRED, unix(7)).
type peer struct{ PID, UID, GID int }

func peerOf(c net.Conn) (peer, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return peer{}, fmt.Errorf("connection from %s has no peer credentials", c.RemoteAddr())
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var cred *syscall.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil || cerr != nil {
		return peer{}, errors.Join(err, cerr)
	}
	return peer{PID: int(cred.Pid), UID: int(cred.Uid), GID: int(cred.Gid)}, nil
}

// access says who may use a socket: root, the user that runs edged, and either one named user or the members of a group.
type access struct {
	user     string
	group    string
	uid, gid int // to own the socket; -1: as it is
}

// newAccess looks the user and the group up. What does not exist on this system admits nobody.
func newAccess(name, group string) access {
	a := access{user: name, group: group, uid: -1, gid: -1}
	if u, err := user.Lookup(name); name != "" && err == nil {
		a.uid = number(u.Uid)
	}
	if g, err := user.LookupGroup(group); name == "" && err == nil {
		a.gid = number(g.Gid)
	}
	return a
}

func number(id string) int {
	n, err := strconv.Atoi(id)
	if err != nil {
		return -1
	}
	return n
}

// apply sets owner and mode 0660. Where this process may not give the socket away, everybody may connect as far as the
// file is concerned, and admit alone decides.
func (a access) apply(path string) error {
	mode := fs.FileMode(0o660)
	if a.uid >= 0 || a.gid >= 0 {
		switch err := os.Chown(path, a.uid, a.gid); {
		case errors.Is(err, fs.ErrPermission):
			mode = 0o666
		case err != nil:
			return err
		}
	}
	return os.Chmod(path, mode)
}

// admit decides by the peer's credentials, which the kernel vouches for.
func (a access) admit(p peer) error {
	if p.UID == 0 || p.UID == os.Geteuid() || p.UID == a.uid && a.uid >= 0 {
		return nil
	}
	if a.user != "" {
		return fmt.Errorf("user %d may not use this socket, only %s", p.UID, a.user)
	}
	if a.gid >= 0 && p.GID == a.gid {
		return nil
	}
	u, err := user.LookupId(strconv.Itoa(p.UID))
	if err != nil {
		return fmt.Errorf("user %d is not known here", p.UID)
	}
	groups, err := u.GroupIds()
	if err == nil && a.gid >= 0 && slices.Contains(groups, strconv.Itoa(a.gid)) {
		return nil
	}
	return fmt.Errorf("user %s is not in group %s", u.Username, a.group)
}
