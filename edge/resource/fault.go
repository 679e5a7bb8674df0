// Package resource reads the YAML that configures edged: its own edged.yaml and Dapr's resources. Every fault of a file
// is reported at once, with file, line, field, value and a hint; nothing that was misspelt is silently ignored.
package resource

import (
	"fmt"
	"strings"
)

// Fault is one thing that is wrong in a file.
type Fault struct {
	File    string
	Line    int    // 1-based; 0 when the fault is about the whole file
	Field   string // path such as topics[1].maxBytes; empty when the fault is about the whole file
	Value   string // what is written there, shortened; "(hidden)" where it may be a secret
	Problem string // what is wrong with it
	Hint    string // what to write instead; may be empty
}

// Error returns `file:line: field: value: problem (hint)`, without the parts that are empty.
func (f Fault) Error() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d", f.Line)
		}
		b.WriteString(": ")
	}
	for _, part := range []string{f.Field, f.Value} {
		if part != "" {
			b.WriteString(part + ": ")
		}
	}
	b.WriteString(f.Problem)
	if f.Hint != "" {
		b.WriteString(" (" + f.Hint + ")")
	}
	return b.String()
}

// Faults are all the faults of one or more files, in the order of files and lines. Empty means that nothing is wrong.
type Faults []Fault

// Error returns one fault per line.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Err returns fs as an error, or nil when there is no fault.
func (fs Faults) Err() error {
	if len(fs) == 0 {
		return nil
	}
	return fs
}

// Problems returns what is wrong without saying where, one per line: the form in which daprd reports it.
func (fs Faults) Problems() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Problem
	}
	return strings.Join(lines, "\n")
}

// sort brings the faults of one file into the order of its lines; those of one line stay as they are. There are few.
func (fs Faults) sort() {
	for i := 1; i < len(fs); i++ {
		for j := i; j > 0 && fs[j].Line < fs[j-1].Line; j-- {
			fs[j], fs[j-1] = fs[j-1], fs[j]
		}
	}
}
