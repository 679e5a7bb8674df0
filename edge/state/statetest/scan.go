package statetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/state"
)

func scanner(t *testing.T, s state.Store) state.Scanner {
	t.Helper()
	sc, ok := s.(state.Scanner)
	if !ok {
		t.Skip("the store does not walk its keys")
	}
	return sc
}

// keys walks and joins what it sees, at most limit keys.
func keys(t *testing.T, sc state.Scanner, prefix, after string, limit int) string {
	t.Helper()
	var out []string
	must(t, sc.Scan(t.Context(), prefix, after, func(e state.Entry) bool {
		if !e.Found || e.ETag == "" {
			t.Fatalf("entry %+v", e)
		}
		out = append(out, e.Key)
		return len(out) < limit
	}))
	return strings.Join(out, " ")
}

func testScan(t *testing.T, open Open) {
	clock := NewClock(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC))
	s := open(t, clock.Now)
	sc := scanner(t, s)
	if got := keys(t, sc, "", "", 99); got != "" {
		t.Fatal(got)
	}
	for _, k := range []string{"b1", "a", "b2", "c", "b"} {
		Put(t, s, k, "v")
	}
	must(t, s.Apply(t.Context(), []state.Op{{Key: "b3", Value: []byte("v"), TTL: time.Second}}))
	for _, c := range []struct {
		prefix, after string
		limit         int
		want          string
	}{
		{"", "", 99, "a b b1 b2 b3 c"}, {"b", "", 99, "b b1 b2 b3"}, {"b", "b1", 99, "b2 b3"}, {"b", "b11", 99, "b2 b3"},
		{"b", "a", 99, "b b1 b2 b3"}, {"b", "c", 99, ""}, {"x", "", 99, ""}, {"", "", 2, "a b"},
	} {
		if got := keys(t, sc, c.prefix, c.after, c.limit); got != c.want {
			t.Errorf("Scan(%q, %q) = %q, want %q", c.prefix, c.after, got, c.want)
		}
	}
	clock.Add(2 * time.Second)
	if got := keys(t, sc, "b", "", 99); got != "b b1 b2" {
		t.Errorf("an expired key is shown: %q", got)
	}
	t.Run("Many", func(t *testing.T) {
		var ops []state.Op
		for i := range 1000 {
			ops = append(ops, state.Op{Key: fmt.Sprintf("many%04d", i), Value: make([]byte, i)})
		}
		must(t, s.Apply(t.Context(), ops))
		n := 0
		must(t, sc.Scan(t.Context(), "many", "", func(e state.Entry) bool {
			if e.Key != fmt.Sprintf("many%04d", n) || len(e.Value) != n {
				t.Fatalf("entry %d is %s with %d bytes", n, e.Key, len(e.Value))
			}
			n++
			Put(t, s, "during", "a write while walking") // must not deadlock
			return true
		}))
		if n != 1000 {
			t.Fatalf("saw %d", n)
		}
	})
}

func testPrefix(t *testing.T, open Open) {
	s := open(t, nil)
	scanner(t, s)
	for _, k := range []string{"app||t||1||a", "app||t||1||b", "app||t||1||x||y", "app||t||11||a", "app||k"} {
		Put(t, s, k, "v")
	}
	like := func(pattern, token string, limit int) (string, string) {
		got, next, err := state.KeysLike(t.Context(), s, pattern, token, limit)
		must(t, err)
		return strings.Join(got, " "), next
	}
	for pattern, want := range map[string]string{
		"%": "app||k app||t||11||a app||t||1||a app||t||1||b app||t||1||x||y", "app||t||1||_": "app||t||1||a app||t||1||b",
		"%||a": "app||t||11||a app||t||1||a", "app||k": "app||k", `app\||k`: "app||k", "a%1%a": "app||t||11||a app||t||1||a", "b%": "",
	} {
		if got, next := like(pattern, "", 0); got != want || next != "" {
			t.Errorf("KeysLike(%q) = %q, %q", pattern, got, next)
		}
	}
	if got, next := like("app||t%", "", 2); got != "app||t||11||a app||t||1||a" || next != "app||t||1||a" {
		t.Errorf("first page %q, %q", got, next)
	}
	if got, next := like("app||t%", "app||t||1||a", 2); got != "app||t||1||b app||t||1||x||y" || next != "" {
		t.Errorf("second page %q, %q", got, next)
	}
	n, err := state.DeletePrefix(t.Context(), s, "app||t||1")
	must(t, err)
	if left, _ := like("%", "", 0); n != 2 || left != "app||k app||t||11||a app||t||1||x||y" {
		t.Errorf("deleted %d, left %q", n, left)
	}
	if _, err := state.DeletePrefix(t.Context(), s, ""); err == nil {
		t.Error("an empty prefix was accepted")
	}
}

// modelKey is what the model knows of a key.
type modelKey struct {
	value   string
	etag    string
	expires time.Time
}

// testModel makes random operations on the store and on a map, and compares.
func testModel(t *testing.T, open Open) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	m := &model{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), keys: map[string]modelKey{}, seen: map[string]bool{}}
	m.clock = NewClock(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC))
	m.s = open(t, m.clock.Now)
	for range 300 {
		m.step()
	}
}

type model struct {
	t     *testing.T
	s     state.Store
	rnd   *rand.Rand
	clock *Clock
	keys  map[string]modelKey
	seen  map[string]bool // every ETag ever given
}

func (m *model) key() string { return fmt.Sprintf("key%d", m.rnd.IntN(12)) }

func (m *model) op() state.Op {
	op := state.Op{Key: m.key(), Value: fmt.Appendf(nil, "value%d", m.rnd.IntN(1e6))}
	if m.rnd.IntN(4) == 0 {
		op.Kind = state.Delete
	}
	if m.rnd.IntN(4) == 0 {
		op.Concurrency = state.FirstWrite
	}
	switch m.rnd.IntN(6) {
	case 0:
		op.ETag, op.HasETag = m.keys[op.Key].etag, true
	case 1:
		op.ETag, op.HasETag = "123", true
	}
	if m.rnd.IntN(4) == 0 {
		op.TTL = time.Duration(1+m.rnd.IntN(20)) * time.Second
	}
	return op
}

func (m *model) live(key string) (modelKey, bool) {
	k, ok := m.keys[key]
	return k, ok && (k.expires.IsZero() || m.clock.Now().Before(k.expires))
}

// refused is what the contract says of an op's preconditions.
func (m *model) refused(op state.Op) bool {
	k, ok := m.live(op.Key)
	if op.HasETag && op.ETag != "" {
		return !ok || k.etag != op.ETag
	}
	return op.Concurrency == state.FirstWrite && ok
}

func (m *model) apply(op state.Op) {
	delete(m.keys, op.Key)
	if op.Kind == state.Upsert {
		k := modelKey{value: string(op.Value)}
		if op.TTL > 0 {
			k.expires = m.clock.Now().Add(op.TTL)
		}
		m.keys[op.Key] = k
	}
}

func (m *model) step() {
	ops := make([]state.Op, 1+m.rnd.IntN(4))
	for i := range ops {
		ops[i] = m.op()
	}
	m.clock.Add(time.Duration(m.rnd.IntN(3000)) * time.Millisecond)
	if m.rnd.IntN(2) == 0 {
		m.transact(ops)
	} else {
		m.each(ops)
	}
	m.compare(ops)
}

func (m *model) transact(ops []state.Op) {
	err := m.s.Apply(m.t.Context(), ops)
	if slices.ContainsFunc(ops, m.refused) != (err != nil) || err != nil && !errors.Is(err, state.ErrETagMismatch) {
		m.t.Fatalf("Apply(%+v) = %v, model %v", ops, err, m.keys)
	}
	if err == nil {
		for _, op := range ops {
			m.apply(op)
		}
	}
}

func (m *model) each(ops []state.Op) {
	errs := m.s.ApplyEach(m.t.Context(), ops)
	for i, op := range ops {
		// The model does not know the ETag of a key that this very call wrote: any given one but it is refused.
		if m.refused(op) != (errs[i] != nil) {
			m.t.Fatalf("ApplyEach(%+v)[%d] = %v, model %v", ops, i, errs[i], m.keys)
		}
		if errs[i] == nil {
			m.apply(op)
		}
	}
}

// compare reads all keys, checks them against the model, and learns the new ETags.
func (m *model) compare(written []state.Op) {
	all := slices.Sorted(maps.Keys(m.keys))
	for _, op := range written {
		all = append(all, op.Key)
	}
	got, err := m.s.Get(m.t.Context(), all...)
	must(m.t, err)
	for i, e := range got {
		k, ok := m.live(all[i])
		if e.Found != ok || ok && string(e.Value) != k.value {
			m.t.Fatalf("%s holds %+v, model says %+v, live %t", all[i], e, k, ok)
		}
		if !ok {
			continue
		}
		if !k.expires.IsZero() && e.Expires.Sub(k.expires).Abs() > 2*time.Millisecond || k.expires.IsZero() != e.Expires.IsZero() {
			m.t.Fatalf("%s expires %v, model says %v", all[i], e.Expires, k.expires)
		}
		if k.etag == "" {
			if m.seen[e.ETag] {
				m.t.Fatalf("etag %s of %s was used before", e.ETag, all[i])
			}
			m.seen[e.ETag] = true
			k.etag = e.ETag
			m.keys[all[i]] = k
		} else if k.etag != e.ETag {
			m.t.Fatalf("etag of %s went from %s to %s without a write", all[i], k.etag, e.ETag)
		}
	}
}
