package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/tinylib/msgp/msgp"
)

// stateRecord is what a key of a state bucket holds. On disk it is
//
//	version(1) crc32c(4, big endian, of key and body) body
//
// and the body is, in msgp: flags, revision, modified, expires, content type, origin, value.
type stateRecord struct {
	flags       uint8
	revision    uint64
	modified    int64 // wall clock, ms since 1970
	expires     int64 // ttl clock, ms; 0: never
	contentType string
	origin      string
	value       []byte
}

// Record flags.
const (
	stateDeleted = 1 << iota // a tombstone: the key is gone, and its dirty mark says that upstream does not know yet
)

const (
	stateVersion = 1
	stateHeader  = 5
)

// live reports whether the key exists at the given time of the ttl clock.
func (r *stateRecord) live(now int64) bool {
	return r.flags&stateDeleted == 0 && (r.expires == 0 || now < r.expires)
}

// append encodes r, as the record of key, to b.
func (r *stateRecord) append(b []byte, key string) []byte {
	start := len(b)
	b = append(b, stateVersion, 0, 0, 0, 0)
	b = msgp.AppendUint8(b, r.flags)
	b = msgp.AppendUint64(b, r.revision)
	b = msgp.AppendInt64(b, r.modified)
	b = msgp.AppendInt64(b, r.expires)
	b = msgp.AppendString(b, r.contentType)
	b = msgp.AppendString(b, r.origin)
	b = msgp.AppendBytes(b, r.value)
	sum := stateChecksum(key, b[start+stateHeader:])
	binary.BigEndian.PutUint32(b[start+1:], sum)
	return b
}

func stateChecksum(key string, body []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, []byte(key)), castagnoli, body)
}

// decodeState reads the record of key. Its value shares memory with b. An error is a damageError.
func decodeState(b []byte, key string) (r stateRecord, err error) {
	if len(b) < stateHeader || b[0] != stateVersion {
		return r, &damageError{fmt.Sprintf("record of key %q has no known version", key)}
	}
	body := b[stateHeader:]
	if binary.BigEndian.Uint32(b[1:]) != stateChecksum(key, body) {
		return r, &damageError{fmt.Sprintf("record of key %q has a wrong checksum", key)}
	}
	if err := r.decode(body); err != nil {
		return stateRecord{}, &damageError{fmt.Sprintf("record of key %q: %v", key, err)}
	}
	return r, nil
}

func (r *stateRecord) decode(b []byte) (err error) {
	if r.flags, b, err = msgp.ReadUint8Bytes(b); err != nil {
		return err
	}
	if r.revision, b, err = msgp.ReadUint64Bytes(b); err != nil {
		return err
	}
	if r.modified, b, err = msgp.ReadInt64Bytes(b); err != nil {
		return err
	}
	if r.expires, b, err = msgp.ReadInt64Bytes(b); err != nil {
		return err
	}
	if r.contentType, b, err = msgp.ReadStringBytes(b); err != nil {
		return err
	}
	if r.origin, b, err = msgp.ReadStringBytes(b); err != nil {
		return err
	}
	if r.value, b, err = msgp.ReadBytesZC(b); err != nil {
		return err
	}
	if len(b) != 0 {
		return fmt.Errorf("%d bytes too many", len(b))
	}
	return nil
}
