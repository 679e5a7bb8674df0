package resource

import (
	"context"
	"crypto/sha256"
	"os"
	"slices"
	"time"
)

// young is how long a file's modification time may fail to tell two writes apart, on the coarsest file systems.
const young = 3 * time.Second

// Watcher follows resource files. It looks at them instead of asking the kernel, so it works on every file system and
// costs a few system calls per look. A file that cannot be read or has faults leaves what it said before in force. It is
// for one goroutine at a time.
type Watcher struct {
	paths    []string
	options  Options
	files    map[string]*watchedFile
	order    []string
	current  Set
	reported string // faults of the paths that were told already
}

// watchedFile is a file as it was read last, and as it was seen last.
type watchedFile struct {
	seen stamp // at the previous look
	read stamp // when it was read
	hash [sha256.Size]byte
	set  Set
}

// stamp tells two versions of a file apart without reading them.
type stamp struct {
	size     int64
	modified time.Time
}

// NewWatcher returns a watcher of the paths that Load takes.
func NewWatcher(paths []string, o Options) *Watcher {
	return &Watcher{paths: paths, options: o, files: map[string]*watchedFile{}}
}

// Load reads everything now, for the start: as the function Load does, it returns what could be read and every fault.
func (w *Watcher) Load() (Set, Faults) {
	files, faults := listFiles(w.paths, w.options)
	w.order = files
	for _, file := range files {
		f := &watchedFile{}
		w.files[file] = f
		f.seen, _ = stampOf(file) // reading a file that is gone again is a fault below
		data, fault := readFile(file)
		if fault != nil {
			faults = append(faults, w.options.tolerate(Faults{*fault})...)
			continue
		}
		f.read, f.hash = f.seen, sha256.Sum256(data)
		var fileFaults Faults
		f.set, fileFaults = decodeResources(file, data, w.options)
		faults = append(faults, w.options.tolerate(fileFaults)...)
	}
	set, setFaults := w.all().selected(w.options)
	w.current = set
	return set, append(faults, setFaults...)
}

// Current returns the resources in force.
func (w *Watcher) Current() Set { return w.current }

// Check looks once. A change is taken when two looks in a row saw the same, so that a file which is being written is not
// read by half. Faults are returned once per change of a file, with an unchanged rest in the Diff.
func (w *Watcher) Check() (Diff, Faults) { return w.look(false) }

// Reload takes every change now, also of files that are being written: for an operator's SIGHUP.
func (w *Watcher) Reload() (Diff, Faults) { return w.look(true) }

// Run checks every interval until ctx is done, and calls apply with what changed or is wrong.
func (w *Watcher) Run(ctx context.Context, interval time.Duration, apply func(Diff, Faults)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if diff, faults := w.Check(); !diff.Empty() || len(faults) > 0 {
				apply(diff, faults)
			}
		}
	}
}

func (w *Watcher) look(now bool) (Diff, Faults) {
	quiet := w.options
	quiet.Log = nil // what is no YAML was told at the start
	files, faults := listFiles(w.paths, quiet)
	if len(faults) > 0 { // a folder that is away for a moment takes nothing with it
		if text := faults.Error(); text != w.reported {
			w.reported = text
			return Diff{}, faults
		}
		return Diff{}, nil
	}
	w.reported = ""
	changed := w.removeMissing(files, now)
	for _, file := range files {
		fileChanged, fileFaults := w.lookAt(file, now)
		changed = changed || fileChanged
		faults = append(faults, fileFaults...)
	}
	if !changed {
		return Diff{}, faults
	}
	w.reorder(files)
	next, setFaults := w.all().selected(w.options)
	if len(setFaults) > 0 {
		return Diff{}, append(faults, setFaults...)
	}
	diff := Compare(w.current, next)
	w.current = next
	return diff, faults
}

// lookAt reads a file if it changed and reports whether its resources did.
func (w *Watcher) lookAt(file string, now bool) (changed bool, faults Faults) {
	f := w.files[file]
	isNew := f == nil
	if isNew {
		f = &watchedFile{}
		w.files[file] = f
	}
	seen, ok := stampOf(file)
	if !ok { // gone since the folder was listed; the next look will know
		return false, nil
	}
	settled := seen == f.seen && !isNew
	f.seen = seen
	if !now && !settled {
		return false, nil
	}
	if seen == f.read && !now && time.Since(seen.modified).Abs() > young {
		return false, nil
	}
	return w.read(file, f, seen)
}

// read reads a file whose stamp changed, or may hide a change.
func (w *Watcher) read(file string, f *watchedFile, seen stamp) (changed bool, faults Faults) {
	first := f.read == stamp{}
	data, fault := readFile(file)
	if fault != nil {
		told := seen == f.read
		f.read, f.hash = seen, [sha256.Size]byte{}
		if told {
			return false, nil
		}
		return false, Faults{*fault}
	}
	hash := sha256.Sum256(data)
	same := hash == f.hash && !first
	f.read, f.hash = seen, hash
	if same {
		return false, nil
	}
	set, faults := decodeResources(file, data, w.options)
	if len(faults) > 0 {
		return false, faults
	}
	f.set = set
	return true, nil
}

// removeMissing forgets files that are gone, after two looks, and reports whether there were any.
func (w *Watcher) removeMissing(files []string, now bool) bool {
	present := make(map[string]bool, len(files))
	for _, file := range files {
		present[file] = true
	}
	removed := false
	for file, f := range w.files {
		if present[file] {
			continue
		}
		gone := stamp{size: -1}
		if now || f.seen == gone {
			delete(w.files, file)
			removed = true
			continue
		}
		f.seen = gone
	}
	return removed
}

// reorder takes the order of the files that are there; those that were missed once only come after them.
func (w *Watcher) reorder(files []string) {
	before := w.order
	w.order = files
	for _, file := range before {
		if w.files[file] != nil && !slices.Contains(files, file) {
			w.order = append(w.order, file)
		}
	}
}

// all returns the resources of every file in order.
func (w *Watcher) all() Set {
	var all Set
	for _, file := range w.order {
		if f := w.files[file]; f != nil {
			all.append(f.set)
		}
	}
	return all
}

// stampOf reports the stamp of a file, if it can be had.
func stampOf(file string) (stamp, bool) {
	info, err := os.Stat(file)
	if err != nil {
		return stamp{}, false
	}
	return stamp{size: info.Size(), modified: info.ModTime()}, true
}
