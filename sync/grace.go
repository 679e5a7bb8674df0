package sync

import "time"

// graceWindow says up to where a journal may delete. Acknowledged events stay for a while, in case the upstream loses them;
// a bound in bytes keeps that from filling the journal.
type graceWindow struct {
	keep  time.Duration
	bytes int64

	head  uint64 // the journal may delete up to here
	held  int64  // bytes after head
	marks []graceMark
}

type graceMark struct {
	at    time.Time
	pos   uint64
	bytes int64
}

func (g *graceWindow) empty() bool { return len(g.marks) == 0 }

// add notes that everything up to pos was acknowledged at a time. Marks that are close in time become one.
func (g *graceWindow) add(at time.Time, pos uint64, bytes int64) {
	g.held += bytes
	if n := len(g.marks); n > 0 && at.Sub(g.marks[n-1].at) < g.keep/marksPerGrace && g.marks[n-1].bytes < g.bytes/marksPerGrace {
		g.marks[n-1].pos, g.marks[n-1].bytes = pos, g.marks[n-1].bytes+bytes
		return
	}
	g.marks = append(g.marks, graceMark{at, pos, bytes})
}

// advance returns up to where the journal may delete now. passed is a position up to which nothing waits to be sent.
func (g *graceWindow) advance(now time.Time, passed uint64) uint64 {
	n := 0
	for n < len(g.marks) && (now.Sub(g.marks[n].at) >= g.keep || g.held > g.bytes) {
		g.head = max(g.head, g.marks[n].pos)
		g.held -= g.marks[n].bytes
		n++
	}
	g.marks = append(g.marks[:0], g.marks[n:]...)
	if len(g.marks) == 0 {
		g.head = max(g.head, passed) // topics of other lanes, and expired events
	}
	return g.head
}
