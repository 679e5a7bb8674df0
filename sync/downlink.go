package sync

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/edged-io/edged/edge/state"
)

const (
	downBatch   = 200
	staleLooks  = 8              // at a replica that has not caught up yet
	horizonSlop = 24 * time.Hour // before tombstones are gone
)

// downlink brings the keys that the cloud owns to the device. Its cursor is written in the same transaction as the values
// that it stands for.
type downlink struct {
	s     *Sync
	store Store
	at    string
	cur   downCursor
	echo  bool // the device's own keys come back on the same subject: headers only
	since int  // revisions that passed since the cursor was written
}

// downCursor is the last revision that was applied.
type downCursor struct {
	Rev     uint64    `json:"rev"`
	Created time.Time `json:"created"` // the stream's incarnation
	Time    time.Time `json:"time"`    // the upstream's, of that revision
}

func newDownlink(s *Sync, name string, store Store) *downlink {
	d := &downlink{s: s, store: store, at: name}
	for _, r := range s.cfg.State {
		d.echo = d.echo || r.Owner == OwnerDevice
	}
	return d
}

func (d *downlink) name() string { return "down." + token(d.at) }

func (d *downlink) note(fn func(*LaneStatus)) { d.s.report.update(d.name(), fn) }

func (d *downlink) metaKey() string { return "sync/down/" + d.s.cfg.Bucket }

func (d *downlink) open(ctx context.Context) error {
	data, err := d.store.Meta(ctx, d.metaKey())
	if err != nil {
		return fmt.Errorf("read downlink cursor: %w", err)
	}
	if data == nil {
		return nil
	}
	if err := json.Unmarshal(data, &d.cur); err != nil {
		d.cur = downCursor{} // a snapshot puts it right
	}
	return nil
}

func (d *downlink) close(ctx context.Context) error {
	if d.since == 0 {
		return nil
	}
	return d.apply(ctx, nil)
}

func (d *downlink) session(ctx context.Context) error {
	caps, _, err := d.s.up.Hello(ctx, Lane{Kind: State, Name: stateLaneName + "." + token(d.at)})
	if err != nil {
		return err
	}
	if d.outOfRange(caps) {
		if err := d.snapshot(ctx, caps); err != nil {
			return err
		}
	}
	d.note(func(st *LaneStatus) { st.State, st.LastError = LaneActive, "" })
	var batch []state.Change
	return d.s.up.Pull(ctx, Pull{From: d.cur.Rev, Headers: d.echo, Live: true}, func(r Remote, more bool) error {
		if c, ok, err := d.fetch(ctx, r); err != nil {
			return err
		} else if ok {
			batch = append(batch, c)
		}
		if r.Rev > 0 {
			d.cur.Rev, d.cur.Time = r.Rev, r.Time
			d.since++
		}
		if len(batch) >= downBatch || !more && len(batch) > 0 || d.since >= 4*downBatch {
			if err := d.apply(ctx, batch); err != nil {
				return err
			}
			batch = nil
		}
		d.note(func(st *LaneStatus) { st.Position = d.cur.Rev })
		return nil
	})
}

// outOfRange reports whether the cursor says nothing about the stream: it is new here, or the stream is another one, or was
// rolled back, or deletions may have been forgotten meanwhile.
func (d *downlink) outOfRange(caps Caps) bool {
	switch {
	case d.cur.Rev == 0 || !d.cur.Created.Equal(caps.Created) || d.cur.Rev > caps.Last:
		return true
	case d.cur.Time.IsZero():
		return false
	}
	return d.s.deps.Clock().Sub(d.cur.Time) > tombstoneLife-horizonSlop && caps.Last > d.cur.Rev
}

// fetch makes the change that a revision stands for; ok is false if it does not concern the device.
func (d *downlink) fetch(ctx context.Context, r Remote) (c state.Change, ok bool, err error) {
	who, synced := owner(d.s.cfg.State, r.Key)
	if r.Key == "" || !synced || who != OwnerCloud {
		return c, false, nil
	}
	if d.echo && !r.Deleted { // only headers came
		if r, err = d.current(ctx, r); err != nil {
			return c, false, err
		}
	}
	return localChange(r, d.s.deps.Clock()), true, nil
}

// current reads a key at the revision or a newer one. A replica may be behind for a moment.
func (d *downlink) current(ctx context.Context, r Remote) (Remote, error) {
	for look := 1; ; look++ {
		now, err := d.s.up.Get(ctx, r.Key)
		if err != nil {
			return r, err
		}
		if now.Rev >= r.Rev || look == staleLooks {
			if now.Rev == 0 { // deleted for good meanwhile
				now.Rev, now.Deleted = r.Rev, true
			}
			return now, nil
		}
		if !pause(ctx, Backoff{Min: 5 * time.Millisecond, Max: 200 * time.Millisecond}.delay(look)) {
			return r, context.Cause(ctx)
		}
	}
}

// localChange is a revision as the store takes it.
func localChange(r Remote, now time.Time) state.Change {
	c := state.Change{
		Key: r.Key, Deleted: r.Deleted, Value: r.Value, ContentType: r.ContentType, Modified: r.Time, Origin: r.Origin,
	}
	if c.Origin == "" {
		c.Origin = "cloud"
	}
	if c.Deleted {
		c.Value = nil
	}
	if r.TTL > 0 { // counted from now if the clocks do not agree
		left := r.TTL
		if age := now.Sub(r.Time); age > 0 && age < r.TTL {
			left -= age
		}
		c.Expires = now.Add(left)
	}
	return c
}

// apply writes changes and the cursor in one transaction. A key with a local write is left to the state lane.
func (d *downlink) apply(ctx context.Context, changes []state.Change) error {
	data, err := json.Marshal(d.cur)
	if err != nil {
		return err
	}
	skipped, err := d.store.Merge(ctx, changes, map[string][]byte{d.metaKey(): data})
	if err != nil {
		return fmt.Errorf("apply %d keys of the cloud to %s: %w", len(changes), d.at, err)
	}
	d.since = 0
	d.note(func(st *LaneStatus) {
		st.State, st.LastError, st.LastDone = LaneActive, "", d.s.deps.Clock()
		st.Batches++
		st.Changes += uint64(len(changes) - len(skipped))
	})
	return nil
}

// snapshot replaces all keys of the cloud with what the upstream has now.
func (d *downlink) snapshot(ctx context.Context, caps Caps) error {
	seen := map[string]bool{}
	next := downCursor{Rev: caps.Last, Created: caps.Created}
	var batch []state.Change
	err := d.s.up.Pull(ctx, Pull{Snapshot: true, Headers: d.echo}, func(r Remote, more bool) error {
		c, ok, err := d.fetch(ctx, r)
		if err != nil {
			return err
		}
		if ok {
			seen[r.Key] = !c.Deleted
			batch = append(batch, c)
		}
		if r.Rev > next.Rev {
			next.Rev = r.Rev
		}
		if len(batch) >= downBatch || !more && len(batch) > 0 {
			d.cur = downCursor{} // until it is complete, it has to begin again
			if err := d.apply(ctx, batch); err != nil {
				return err
			}
			batch = nil
		}
		return nil
	})
	if err != nil {
		return err
	}
	var gone []state.Change
	err = d.store.Scan(ctx, "", "", func(e state.Entry) bool {
		if who, synced := owner(d.s.cfg.State, e.Key); synced && who == OwnerCloud && !seen[e.Key] {
			gone = append(gone, state.Change{Key: e.Key, Deleted: true, Origin: "cloud"})
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("scan keys of %s: %w", d.at, err)
	}
	next.Time = d.s.deps.Clock()
	d.cur = next
	return d.apply(ctx, gone)
}
