package sync

import (
	"context"
	"fmt"
	"strings"

	"github.com/edged-io/edged/edge/state"
)

const dirtyLook = 1 << 16 // marks looked at when a restored backup is suspected

// explain finds out why the upstream is ahead of the checkpoint: a crash before the checkpoint was written, or a device that
// was restored from a backup or cloned. Only the latter has keys that differ without being marked.
func (l *stateLane) explain(ctx context.Context, u Cursor, caps Caps) error {
	dirty, err := l.store.Dirty(ctx, dirtyLook)
	if err != nil {
		return fmt.Errorf("read changed keys of %s: %w", l.at, err)
	}
	marked := make(map[string]bool, len(dirty))
	for _, d := range dirty {
		if d.Sequence == u.Pos { // the batch that was under way when the process ended
			l.cp.Cursor = u
			return nil
		}
		marked[d.Key] = true
	}
	differ := 0
	err = l.compare(ctx, caps, true, func(c []Change) error {
		for _, c := range c {
			if !marked[c.Name] {
				differ++
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if differ == 0 {
		l.cp.Cursor = u
		return saveCheckpoint(ctx, l.store, l.lane, l.cp)
	}
	l.cp.Past = append(l.cp.Past, l.cp.Epoch)
	l.cp.Cursor = Cursor{Epoch: newEpochID(), Pos: l.cp.Pos, Rev: u.Rev}
	return l.demand(ctx, resyncFull, fmt.Sprintf(
		"%d keys differ from what this device's epoch has sent: it was restored from a backup or cloned; beginning a new epoch with this device's values", differ))
}

// The kinds of comparison: put sends what differs, full also deletes upstream what is not here.
const (
	resyncPut  = "put"
	resyncFull = "full"
)

// demand notes, durably, that all keys must be compared.
func (l *stateLane) demand(ctx context.Context, kind, alarm string) error {
	if alarm != "" {
		l.s.report.alarm(l.name(), alarm)
	}
	if l.cp.Resync != resyncFull {
		l.cp.Resync = kind
	}
	return saveCheckpoint(ctx, l.store, l.lane, l.cp)
}

// resync brings the device's keys upstream into line with the store. Keys are deleted upstream only in a full one, which
// goes on until a comparison finds no difference: a replica that is behind may have answered.
func (l *stateLane) resync(ctx context.Context, caps Caps) error {
	for full := l.cp.Resync == resyncFull; ; {
		var sent uint64
		err := l.compare(ctx, caps, full, func(changes []Change) error {
			n, err := l.sendAll(ctx, changes)
			sent += n
			return err
		})
		l.note(func(st *LaneStatus) { st.Resent += sent })
		if err != nil {
			return err
		}
		if sent == 0 || !full {
			break
		}
	}
	l.cp.Resync = ""
	return saveCheckpoint(ctx, l.store, l.lane, l.cp)
}

// sendAll commits changes in as many batches as it takes, and says how many are stored.
func (l *stateLane) sendAll(ctx context.Context, changes []Change) (sent uint64, err error) {
	for len(changes) > 0 {
		n, size := 0, 0
		for budget := l.s.turns.bytes(); n < len(changes) && n < l.max; n++ {
			add := len(changes[n].Value) + len(changes[n].Name) + headerBytes
			if n > 0 && size+add > budget {
				break
			}
			size += add
		}
		if err := l.commit(ctx, l.cp.Pos, changes[:n], size); err != nil {
			return sent, err
		}
		sent += uint64(n)
		changes = changes[n:]
	}
	return sent, nil
}

// compare calls fn with what must be sent so that the device's keys upstream are as they are here.
func (l *stateLane) compare(ctx context.Context, caps Caps, deletes bool, fn func([]Change) error) error {
	remote := map[string]uint64{}
	err := l.s.up.Pull(ctx, Pull{Snapshot: true, Headers: true}, func(r Remote, _ bool) error {
		if who, synced := owner(l.s.cfg.State, r.Key); r.Key != "" && synced && who == OwnerDevice && !r.Deleted {
			remote[r.Key] = r.Sum
		}
		return nil
	})
	if err != nil {
		return err
	}
	for after := ""; ; {
		changes, last, err := l.scan(ctx, after, remote, caps)
		if err != nil {
			return err
		}
		if len(changes) > 0 {
			if err := fn(changes); err != nil {
				return err
			}
		}
		if last == "" {
			break
		}
		after = last
	}
	if !deletes {
		return nil
	}
	var gone []Change
	for key := range remote {
		gone = append(gone, Change{Kind: Delete, Seq: l.cp.Pos, Name: key})
	}
	return fn(gone)
}

// scan reads on from a key until there is a batch of differences, or the store's end. It takes what it meets out of remote.
func (l *stateLane) scan(ctx context.Context, after string, remote map[string]uint64, caps Caps) (changes []Change, last string, err error) {
	size := 0
	err = l.store.Scan(ctx, "", after, func(e state.Entry) bool {
		last = e.Key
		who, synced := owner(l.s.cfg.State, e.Key)
		if !synced || who != OwnerDevice {
			return true
		}
		sum, there := remote[e.Key]
		delete(remote, e.Key)
		if there && sum == checksum(e.Key, e.Value) {
			return true
		}
		c := l.change(state.Change{
			Sequence: l.cp.Pos, Key: strings.Clone(e.Key), Value: append([]byte(nil), e.Value...), ContentType: e.ContentType, Expires: e.Expires,
		})
		if reason := l.unfit(c, caps); reason != "" {
			l.s.report.dropped(l.name(), reason, 0, e.Key[:min(len(e.Key), 200)])
			return true
		}
		changes = append(changes, c)
		size += len(c.Value)
		more := len(changes) < l.max && size < int(l.s.cfg.Batch.MaxBytes)
		return more
	})
	if err != nil {
		return nil, "", fmt.Errorf("scan keys of %s: %w", l.at, err)
	}
	if len(changes) < l.max && size < int(l.s.cfg.Batch.MaxBytes) {
		last = "" // the end
	}
	return changes, last, nil
}
