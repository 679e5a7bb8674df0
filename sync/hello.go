package sync

import (
	"context"
	"fmt"
	"time"
)

// hello meets the upstream: it compares both sides' cursors and sets where the lane goes on.
func (l *eventLane) hello(ctx context.Context) (Caps, error) {
	caps, u, err := l.s.up.Hello(ctx, l.lane)
	if err != nil {
		return caps, err
	}
	l.stored, l.common = nil, nil
	last := l.journal.Stat().Last
	v := reconcile(meeting{
		local: l.cp, upstream: u, caps: caps, last: last,
		sum:    func(pos uint64) (uint64, bool) { return l.sumAt(ctx, pos, caps) },
		accept: l.s.accepts,
	})
	if l.duplicates >= duplicatesMax && v.action == proceed {
		if v, err = l.examine(ctx, u, v); err != nil {
			return caps, err
		}
	}
	if v.alarm != "" {
		l.s.report.alarm(l.name(), v.alarm)
	}
	if err := l.follow(ctx, v, u, caps, last); err != nil {
		return caps, err
	}
	if o := l.cp.Overlap; l.cp.Pos < o.UpTo {
		if l.common, err = l.storedAfter(ctx, 0, o.Epoch); err != nil {
			return caps, err
		}
	}
	if !caps.Atomic && l.stored == nil && (l.fence > 0 || l.cp.Tried) { // part of a batch may be stored without the cursor
		if l.stored, err = l.storedAfter(ctx, l.fence, l.cp.Epoch); err != nil {
			return caps, err
		}
	}
	backlog := l.backlog()
	l.note(func(st *LaneStatus) {
		st.Position, st.Epoch, st.Upstream, st.Backlog = l.cp.Pos, l.cp.Epoch, "", backlog
	})
	return caps, nil
}

// follow does what the comparison asks for.
func (l *eventLane) follow(ctx context.Context, v verdict, u Cursor, caps Caps, last uint64) error {
	old := l.cp
	switch v.action {
	case stop:
		l.note(func(st *LaneStatus) { st.State, st.Upstream = LaneStopped, u.Epoch })
		return fmt.Errorf("%w (%s)", errStopped, u.Epoch)
	case newEpoch:
		l.cp.Overlap = overlap{Epoch: u.Epoch, UpTo: u.Pos}
		l.cp.Past = append(l.cp.Past, old.Epoch)
		l.cp.Cursor = Cursor{Epoch: newEpochID(), Pos: v.pos}
		l.cp.Created, l.fence, l.unsaved = caps.Created, u.Rev, true
		return l.save(ctx) // before anything is sent under the new epoch
	case resend:
		l.resent = max(l.resent, old.Pos)
		first := l.journal.Stat().First
		if gone := min(first, old.Pos+1); gone > v.pos+1 {
			l.note(func(st *LaneStatus) { st.Lost += gone - 1 - v.pos })
			l.s.report.alarm(l.name(), fmt.Sprintf("%d to %d can not be sent again: the journal has let them go", v.pos+1, gone-1))
		}
	case proceed:
		if u.Epoch == old.Epoch && u.Pos > old.Pos {
			avoided := u.Pos - old.Pos
			if u.Pos == l.inflight.last {
				avoided = l.inflight.count
			}
			l.note(func(st *LaneStatus) { st.Avoided += avoided })
			l.grace.add(time.Now(), u.Pos, 0)
			l.duplicates, l.incomplete = 0, 0
		}
	}
	epoch := l.cp.Epoch
	if u.Epoch != "" && u.Epoch != epoch && !l.cp.known(u.Epoch) {
		l.cp.Past = append(l.cp.Past, u.Epoch) // taken over
	}
	sum := u.Sum
	if u.Epoch != epoch || u.Pos != v.pos {
		sum = 0
	}
	if u.Epoch == "" && v.pos == old.Pos {
		sum = old.Sum
	}
	l.cp.Cursor = Cursor{Epoch: epoch, Pos: v.pos, Time: u.Time, Sum: sum, Rev: u.Rev}
	l.cp.Created, l.fence = caps.Created, u.Rev
	l.unsaved = l.unsaved || l.cp.Pos != old.Pos || !l.cp.Created.Equal(old.Created)
	l.inflight.last, l.inflight.count = 0, 0
	return nil
}

// accepts reports whether the operator lets this device take over from an epoch that it does not know.
func (s *Sync) accepts(epoch string) bool {
	return s.cfg.UnknownEpoch == "take-over" || s.cfg.AcceptEpoch == epoch
}

// examine finds out why a batch is a duplicate although the cursor is before it: a replica that answered late, an earlier
// attempt without atomic batches, or another incarnation of this device that used the same epoch.
func (l *eventLane) examine(ctx context.Context, u Cursor, v verdict) (verdict, error) {
	stored, err := l.storedAfter(ctx, 0, l.cp.Epoch)
	if err != nil {
		return v, err
	}
	for seq, sum := range stored {
		if seq <= v.pos {
			delete(stored, seq)
			continue
		}
		if ours, ok := l.sumAt(ctx, seq, Caps{MaxMessage: 1 << 30}); ok && ours != sum {
			return verdict{newEpoch, v.pos, fmt.Sprintf(
				"the upstream has another event %d of this device's epoch: it was restored from a backup or cloned; beginning a new epoch", seq)}, nil
		}
	}
	l.stored, l.duplicates = stored, 0
	return v, nil
}

// storedAfter returns the sums of the lane's events of an epoch that the upstream keeps after a revision.
func (l *eventLane) storedAfter(ctx context.Context, rev uint64, epoch string) (map[uint64]uint64, error) {
	out := map[uint64]uint64{}
	err := l.s.up.Stored(ctx, l.lane, rev, func(e string, seq, sum uint64) {
		if e == epoch && seq > l.cp.Pos {
			out[seq] = sum
		}
	})
	return out, err
}

// sumAt is the checksum of the event at a position of the journal, if it is still there.
func (l *eventLane) sumAt(ctx context.Context, pos uint64, caps Caps) (uint64, bool) {
	if pos == 0 || pos > l.journal.Stat().Last {
		return 0, false
	}
	ctx, cancel := context.WithTimeout(ctx, sumReadDeadline)
	defer cancel()
	events, _, err := l.journal.Read(ctx, pos-1, "#", 1)
	if err != nil || len(events) == 0 || events[0].Sequence != pos {
		return 0, false
	}
	value, err := envelope(l.s.deps.Device, events[0])
	if err != nil || len(value)+headerBytes > caps.MaxMessage {
		return 0, false // a gap stands in its place
	}
	return checksum(EventSubject(l.s.deps.Device, events[0].Topic), value), true
}
