package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// LockedError reports that another process holds the data folder.
type LockedError struct {
	Dir    string
	PID    int    // 0 if it could not be read
	Holder string // what the holder wrote about itself
}

// Error names the folder and its holder.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("data folder %s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("data folder %s is in use by process %d (%s)", e.Dir, e.PID, e.Holder)
}

// folderLock is an exclusive flock: the kernel releases it when the process ends, however it ends.
type folderLock struct{ file *os.File }

func lockFolder(dir string) (*folderLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of data folder: %w", err)
	}
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		held := heldBy(dir, f)
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, held
		}
		return nil, fmt.Errorf("lock data folder %s: %w", dir, err)
	}
	text := fmt.Sprintf("%d\n%s, since %s\n", os.Getpid(), filepath.Base(os.Args[0]), time.Now().UTC().Format(time.RFC3339))
	// What is written only helps the next one's message; a full disk must not keep the store from opening.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(text), 0)
	}
	return &folderLock{f}, nil
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func heldBy(dir string, f *os.File) *LockedError {
	e := &LockedError{Dir: dir}
	b := make([]byte, 256)
	n, _ := f.ReadAt(b, 0) // a short read is the normal case
	pid, holder, _ := strings.Cut(string(b[:n]), "\n")
	e.PID, _ = strconv.Atoi(pid) // 0 if the file holds something else
	e.Holder = strings.TrimSpace(holder)
	return e
}

func (l *folderLock) release() error {
	if err := l.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("unlock data folder: %w", err)
	}
	return nil
}
