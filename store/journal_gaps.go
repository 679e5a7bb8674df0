package store

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

// Reasons of gaps, as pubsub.Gap lists them.
const (
	reasonAge     = "age"
	reasonBytes   = "bytes"
	reasonEvents  = "events"
	reasonCorrupt = "corrupt"
	reasonExpired = "expired"
)

const (
	maxGaps      = 1000
	maxGapTopics = 16
	// gapSpan is how long losses of one lane and reason are put into one record, so that a lane that drops all the time
	// neither floods the ledger nor writes to flash for each event.
	gapSpan = 10 * time.Minute
)

// gapLedger holds the newest gap records of a journal. A record is on disk before the events it names are gone from
// it. It is safe for concurrent use.
type gapLedger struct {
	log *slog.Logger

	mu      sync.Mutex
	gaps    []numberedGap // oldest first
	next    uint64
	changed map[uint64]bool // to be saved
	removed []uint64        // to be deleted
}

type numberedGap struct {
	number uint64
	pubsub.Gap
}

// load takes over what was saved.
func (l *gapLedger) load(meta map[string][]byte) {
	for k, v := range meta {
		hex, ok := strings.CutPrefix(k, metaGap)
		if !ok {
			continue
		}
		number, err := strconv.ParseUint(hex, 16, 64)
		if g, ok := decodeGap(v); ok && err == nil {
			l.gaps = append(l.gaps, numberedGap{number, g})
			l.next = max(l.next, number+1)
		}
	}
	slices.SortFunc(l.gaps, func(a, b numberedGap) int { return cmp.Compare(a.number, b.number) })
	l.bound()
}

// add records a loss, in the last record of the same lane and reason if that is young. A range of damage that is known
// already is not counted again: it returns false.
func (l *gapLedger) add(g pubsub.Gap) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.gaps) - 1; i >= 0; i-- {
		old := &l.gaps[i]
		if old.Lane != g.Lane || old.Reason != g.Reason {
			continue
		}
		if g.Reason == reasonCorrupt {
			if old.From <= g.From && g.To <= old.To {
				return false
			}
			continue
		}
		if age := g.Time.Sub(old.Time); age < 0 || age > gapSpan {
			break
		}
		old.From, old.To = min(old.From, g.From), max(old.To, g.To)
		old.Events += g.Events
		old.Topics = mergeTopics(old.Topics, g.Topics)
		l.mark(old.number)
		return true
	}
	l.gaps = append(l.gaps, numberedGap{l.next, g})
	l.mark(l.next)
	l.next++
	l.bound()
	l.log.Warn("events were removed before every consumer had them", "lane", g.Lane, "reason", g.Reason,
		"from", g.From, "to", g.To, "events", g.Events, "topics", g.Topics)
	return true
}

func (l *gapLedger) mark(number uint64) {
	if l.changed == nil {
		l.changed = map[uint64]bool{}
	}
	l.changed[number] = true
}

// bound forgets the oldest records beyond maxGaps.
func (l *gapLedger) bound() {
	for len(l.gaps) > maxGaps {
		delete(l.changed, l.gaps[0].number)
		l.removed = append(l.removed, l.gaps[0].number)
		l.gaps = slices.Delete(l.gaps, 0, 1)
	}
}

func mergeTopics(a, b []string) []string {
	a = slices.Clip(a) // readers hold the old slice
	for _, t := range b {
		if len(a) < maxGapTopics && !slices.Contains(a, t) {
			a = append(a, t)
		}
	}
	return a
}

// newest returns at most limit records, oldest first.
func (l *gapLedger) newest(limit int) []pubsub.Gap {
	l.mu.Lock()
	defer l.mu.Unlock()
	gaps := make([]pubsub.Gap, 0, min(max(limit, 0), len(l.gaps)))
	for _, g := range l.gaps[len(l.gaps)-cap(gaps):] {
		g.Topics = slices.Clone(g.Topics)
		gaps = append(gaps, g.Gap)
	}
	return gaps
}

// collect moves what is to be saved into puts and deletes; undo takes it back when saving failed.
func (l *gapLedger) collect(puts map[string][]byte, deletes []string) (_ []string, undo func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed, removed := l.changed, l.removed
	l.changed, l.removed = nil, nil
	for i := range l.gaps {
		if changed[l.gaps[i].number] {
			puts[gapKey(l.gaps[i].number)] = encodeGap(&l.gaps[i].Gap)
		}
	}
	for _, number := range removed {
		deletes = append(deletes, gapKey(number))
	}
	return deletes, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for number := range maps.Keys(changed) {
			l.mark(number)
		}
		l.removed = append(l.removed, removed...)
	}
}

// gapString names a range for a log line or an error.
func gapString(from, to uint64) string {
	if from == to {
		return fmt.Sprintf("event %d", from)
	}
	return fmt.Sprintf("events %d to %d", from, to)
}
