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
	"unsafe"
)

// peer is who is at the other end of a Unix socket (SO_PEERCRED and SO_PEERGROUPS, unix(7)).
type peer struct {
	PID, UID, GID int
	Groups        []int // supplementary ones, also those that a service manager gave; nil where the kernel does not say
}

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
	var groups []int
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		groups = peerGroups(fd)
	}); err != nil || cerr != nil {
		return peer{}, errors.Join(err, cerr)
	}
	return peer{PID: int(cred.Pid), UID: int(cred.Uid), GID: int(cred.Gid), Groups: groups}, nil
}

// peerGroups asks for the peer's supplementary groups (Linux 4.13).
func peerGroups(fd uintptr) []int {
	const soPeerGroups = 59 // asm-generic/socket.h
	gids := make([]uint32, 64)
	for range 2 {
		size := uint32(len(gids) * 4)
		_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.SOL_SOCKET, soPeerGroups,
			uintptr(unsafe.Pointer(&gids[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == syscall.ERANGE && size > 0: // size says what is needed
			gids = make([]uint32, (size+3)/4)
		case errno != 0:
			return nil
		default:
			groups := make([]int, 0, size/4)
			for _, g := range gids[:size/4] {
				groups = append(groups, int(g))
			}
			return groups
		}
	}
	return nil
}

const (
	sharedMode = 0o660 // of sockets for applications
	ownMode    = 0o600 // of sockets for the user that runs edged
)

// access says who may use a socket: root, the user that runs edged, and either one named user or the members of a group.
type access struct {
	user     string
	group    string
	uid, gid int // to own the socket; -1: as it is
	mode     fs.FileMode
}

// newAccess looks up the user, or the group if no user is named. What does not exist on this system admits nobody.
func newAccess(name, group string) access {
	a := access{user: name, group: group, uid: -1, gid: -1, mode: sharedMode}
	if name != "" {
		if u, err := user.Lookup(name); err == nil {
			a.uid = number(u.Uid)
		}
	} else if g, err := user.LookupGroup(group); err == nil {
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

// apply sets owner and mode of the socket at path. Where this process may not give the socket away, everybody may connect
// as far as the file is concerned, and admit alone decides. The path is opened first and has to be a socket then, so that
// who may write in its folder cannot have the access of another file changed.
func (a access) apply(path string) error {
	const oPath = 0x200000 // O_PATH, open(2): the same on all of Linux that Go knows
	fd, err := syscall.Open(path, oPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { _ = f.Close() }() // nothing was written
	if fi, err := f.Stat(); err != nil || fi.Mode()&fs.ModeSocket == 0 {
		return errors.Join(errors.New("it was replaced by something else"), err)
	}
	opened := fmt.Sprintf("/proc/self/fd/%d", fd) // fchmod(2) refuses O_PATH
	mode := a.mode
	if a.uid >= 0 || a.gid >= 0 {
		switch err := os.Chown(opened, a.uid, a.gid); {
		case errors.Is(err, fs.ErrPermission):
			mode = 0o666
		case err != nil:
			return err
		}
	}
	return os.Chmod(opened, mode)
}

// admit decides by the peer's credentials, which the kernel vouches for.
func (a access) admit(p peer) error {
	if p.UID == 0 || p.UID == os.Geteuid() || p.UID == a.uid && a.uid >= 0 {
		return nil
	}
	if a.user != "" {
		return fmt.Errorf("user %d may not use this socket, only %s", p.UID, a.user)
	}
	if a.group == "" {
		return fmt.Errorf("user %d may not use this socket, only root and the user that runs edged", p.UID)
	}
	if a.gid >= 0 && (p.GID == a.gid || slices.Contains(p.Groups, a.gid)) {
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
