// Package secrettest is the contract suite of secret.Store: what every secret store promises, whatever it is made of.
package secrettest

import (
	"errors"
	"maps"
	"sync"
	"testing"

	"github.com/edged-io/edged/edge/secret"
)

// Options describe the store under test.
type Options struct {
	// Secrets are what the store holds, and nothing else.
	Secrets map[string]map[string]string
	// Others allows the store to hold more than Secrets.
	Others bool
	// EmptyIfMissing is for stores whose missing secrets have an empty value, as Dapr has it for the environment.
	EmptyIfMissing bool
}

// Run checks the store that open returns; each subtest opens its own.
func Run(t *testing.T, open func(t *testing.T) secret.Store, o Options) {
	t.Run("Get", func(t *testing.T) {
		s := open(t)
		for name, want := range o.Secrets {
			got, err := s.Get(t.Context(), name, nil)
			if err != nil || !maps.Equal(got, want) {
				t.Errorf("secret %q: got %q, %v; want %q", name, got, err, want)
			}
		}
	})
	t.Run("GetMissing", func(t *testing.T) {
		s := open(t)
		for _, name := range []string{"", ".", "..", "../etc/passwd", "/etc/passwd", "a/../b", "no such\x00secret", "no-such-secret", "\xff"} {
			got, err := s.Get(t.Context(), name, nil)
			if o.EmptyIfMissing {
				if err != nil || got[name] != "" {
					t.Errorf("secret %q: got %q, %v", name, got, err)
				}
				continue
			}
			if !errors.Is(err, secret.ErrNotFound) || got != nil || err.Error() != "secret "+name+" not found" {
				t.Errorf("secret %q: got %q, %v; want ErrNotFound", name, got, err)
			}
		}
	})
	t.Run("BulkGet", func(t *testing.T) {
		s := open(t)
		got, err := s.BulkGet(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range o.Secrets {
			if !maps.Equal(got[name], want) {
				t.Errorf("secret %q: got %q, want %q", name, got[name], want)
			}
		}
		if !o.Others && len(got) != len(o.Secrets) {
			t.Errorf("got %d secrets, want %d", len(got), len(o.Secrets))
		}
	})
	t.Run("AnswersBelongToTheCaller", func(t *testing.T) {
		s := open(t)
		for name, want := range o.Secrets {
			got, err := s.Get(t.Context(), name, nil)
			if err != nil {
				t.Fatal(err)
			}
			clear(got)
			all, err := s.BulkGet(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			clear(all[name])
			clear(all)
			if again, err := s.Get(t.Context(), name, nil); err != nil || !maps.Equal(again, want) {
				t.Errorf("secret %q changed with an answer: %q, %v", name, again, err)
			}
		}
	})
	t.Run("Concurrent", func(t *testing.T) {
		s := open(t)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for name, want := range o.Secrets {
					if got, err := s.Get(t.Context(), name, nil); err != nil || !maps.Equal(got, want) {
						t.Errorf("secret %q: got %q, %v", name, got, err)
					}
					if _, err := s.BulkGet(t.Context(), nil); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	})
}
