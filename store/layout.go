package store

import "encoding/binary"

// Every file, bucket and key layout of the data folder is in this file.
//
//	lock                      held by flock; text: pid, program, start time
//	state.db                  bbolt
//	state.db.corrupt-<UTC>    a damaged state.db that was set aside
//
// Buckets of state.db (all at the top level, because each level of nesting is one more page written per commit):
//
//	meta                      format, epoch, clock, first-revision
//	s/<component>             state key -> record (state_record.go); the bucket's sequence is the component's revision
//	x/<component>             expiry(8, big endian, ms of the ttl clock) state-key -> empty
//	d/<component>             revision(8, big endian) -> dirty mark: flags(1) state-key; a record is dirty if there is a
//	                          mark under its revision, so that removing the mark does not rewrite the record
//	y/<component>             "m" sync-meta-key -> value; "tracked" -> empty
//
// The event log of the same folder describes its own files and buckets (names beginning with "j/").
const (
	databaseFile  = "state.db"
	lockFile      = "lock"
	corruptSuffix = ".corrupt-"

	formatVersion = 1
)

// Keys of the meta bucket.
const (
	metaBucket   = "meta"
	metaFormat   = "format"        // decimal
	metaEpoch    = "epoch"         // 32 hex digits
	metaRevision = "base-revision" // 8 bytes: revisions of new components begin here
	metaAnchor   = "clock"         // ttl clock ms(8) wall clock ms(8)
)

// Prefixes of a component's buckets.
const (
	valuesPrefix = "s/"
	expiryPrefix = "x/"
	dirtyPrefix  = "d/"
	syncPrefix   = "y/"

	metaPrefix = "m"
	// trackedKey in a y/ bucket says that the component is tracked: until Track names the keys, every write is marked.
	trackedKey = "tracked"
)

// maxKeySize bounds state keys: bbolt's limit, less what the expiry index puts before them.
const maxKeySize = 32768 - 8

// expiryKey is the expiry index key of a state key.
func expiryKey(at int64, key string) []byte {
	b := make([]byte, 8, 8+len(key))
	binary.BigEndian.PutUint64(b, uint64(at))
	return append(b, key...)
}

// splitExpiryKey undoes expiryKey; ok is false for a key that is too short.
func splitExpiryKey(b []byte) (at int64, key []byte, ok bool) {
	if len(b) < 8 {
		return 0, nil, false
	}
	return int64(binary.BigEndian.Uint64(b)), b[8:], true
}

// revisionKey is a revision as a key that sorts by number.
func revisionKey(rev uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 0, 8), rev)
}

// splitRevisionKey undoes revisionKey; 0 for a key of another length.
func splitRevisionKey(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// markValue is a dirty mark's value.
func markValue(m mark, key string) []byte {
	b := make([]byte, 1, 1+len(key))
	b[0] = byte(m)
	return append(b, key...)
}

// markOf is the kind of a dirty mark.
func markOf(v []byte) mark {
	if len(v) == 0 {
		return unmarked
	}
	return mark(v[0])
}
