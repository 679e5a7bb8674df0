package cel_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/edged-io/edged/edge/cel"
)

func TestSeedsAgainstCELGo(t *testing.T) {
	env, event := reference(t), decode(t, seedEvent)
	both := 0
	for _, expr := range seeds {
		t.Run(expr, func(t *testing.T) {
			if compare(t, env, expr, event) {
				both++
			}
		})
	}
	if both < len(seeds)/2 {
		t.Errorf("only %d of %d expressions were evaluated", both, len(seeds))
	}
}

func TestRandomAgainstCELGo(t *testing.T) {
	env := reference(t)
	r := rand.New(rand.NewPCG(1, 2))
	both := 0
	const n = 1000
	for range n {
		if compareGenerated(t, env, r.Uint64(), 20+r.IntN(60)) {
			both++
		}
	}
	if both < n/10 {
		t.Errorf("only %d of %d expressions were evaluated", both, n)
	}
}

// compareGenerated compares one expression made of random choices, for one event.
func compareGenerated(t testing.TB, env *celEnv, seed uint64, size int) bool {
	t.Helper()
	choices := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24), byte(seed >> 32), byte(seed >> 40), byte(seed >> 48), byte(seed >> 56)})
	_, _ = r.Read(choices) // never fails
	return compareChoices(t, env, choices)
}

func compareChoices(t testing.TB, env *celEnv, choices []byte) bool {
	t.Helper()
	g := &generator{choices: choices[:len(choices)/3]}
	event := g.event()
	g = &generator{choices: choices[len(choices)/3:]}
	return compare(t, env, g.expr(), event)
}

// FuzzGenerated compares expressions of the supported part with cel-go, for events of any shape.
func FuzzGenerated(f *testing.F) {
	for i := range 64 {
		f.Add([]byte(strings.Repeat(string(rune('A'+i)), i)))
	}
	env := reference(f)
	f.Fuzz(func(t *testing.T, choices []byte) {
		if len(choices) <= 512 {
			compareChoices(t, env, choices)
		}
	})
}

// FuzzText compares any text: what is accepted, cel-go accepts, with the same value; what cel-go accepts is accepted, or
// refused as not supported.
func FuzzText(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	env := reference(f)
	var event any
	if err := json.Unmarshal([]byte(seedEvent), &event); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		if len(expr) <= 256 {
			compare(t, env, expr, event)
		}
	})
}

func TestCompile_Refused(t *testing.T) {
	for expr, want := range map[string]string{
		`event.type = "x"`:                   `position 12: unexpected character '='`,
		`event.type == "x" &&`:               `position 21: unexpected end of expression`,
		`foo == 1`:                           `position 1: the name foo (only event is known) is not supported in route rules`,
		`event.x.foo()`:                      `position 9: the function foo is not supported in route rules`,
		`"é" + 1`:                            `position 5: no overload of '+' fits (string, int)`,
		`event.?x`:                           `position 7: optional syntax is not supported in route rules`,
		`Foo{a: 1}`:                          `position 1: a message (Foo{...}) is not supported in route rules`,
		`event.x.matches("a(")`:              "position 17: a regular expression that RE2 does not know (error parsing regexp: missing closing ): `a(`) is not supported in route rules",
		`event.x ? 1`:                        `position 12: unexpected end of expression`,
		`event.x.all(1, true)`:               `position 13: the first argument of all() must be a simple name`,
		`1.x`:                                `position 2: type int does not support field selection`,
		"\xff":                               `position 1: text that is not UTF-8 is not supported in route rules`,
		`"a`:                                 `position 1: string without end, or with a bad escape`,
		`99999999999999999999`:               `position 1: invalid int literal 99999999999999999999`,
		`1 && true`:                          `position 1: expected a bool, found int`,
		`timestamp(0).getFullYear() == 1970`: `position 14: the function getFullYear is not supported in route rules`,
	} {
		_, err := cel.Compile(expr)
		if err == nil || !strings.HasSuffix(err.Error(), ", "+want) {
			t.Errorf("%s: got %v, want %s", expr, err, want)
			continue
		}
		if errors.Is(err, cel.ErrUnsupported) != strings.Contains(want, "not supported") {
			t.Errorf("%s: ErrUnsupported is wrong", expr)
		}
	}
}

func TestCompile_Bounds(t *testing.T) {
	n := 100_000
	for name, expr := range map[string]string{
		"Size":       strings.Repeat(" ", n) + "1",
		"Parens":     strings.Repeat("(", n/2),
		"Nested":     strings.Repeat("(", 1000) + "1" + strings.Repeat(")", 1000),
		"Lists":      strings.Repeat("[", 1000) + strings.Repeat("]", 1000),
		"Sums":       "1" + strings.Repeat(" + 1", 1000),
		"Selections": "event" + strings.Repeat(".a", 1000),
		"Ternaries":  strings.Repeat("true ? 1 : ", 1000) + "1",
		"Macros":     strings.Repeat("[1].map(x, ", 300) + "x" + strings.Repeat(")", 300),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := cel.Compile(expr); !errors.Is(err, cel.ErrUnsupported) && name != "Parens" || err == nil {
				t.Errorf("got %.200v", err)
			}
		})
	}
	if _, err := cel.Compile("event.a == 1" + strings.Repeat(" || event.a == 1", 1000)); err != nil {
		t.Error(err)
	}
}

func TestProgram_Match(t *testing.T) {
	event := map[string]any{"type": "x", "n": 3.0, "raw": []byte("ab"), "i": 5, "num": json.Number("7"), "odd": struct{}{}}
	for expr, want := range map[string]any{
		`event.type == "x"`:         true,
		`event.type == "y"`:         false,
		`event.missing == 1`:        "no such key: missing",
		`event.n`:                   "the result of match expression was not a boolean",
		`event.raw == b"ab"`:        true,
		`event.i == 5`:              true,
		`event.num > 6`:             true,
		`event.odd == 1`:            false,
		`event.odd < 1`:             "no overload of '<' fits (unknown, int)",
		`[1].all(x, 1 / 0 == 1)`:    "division by zero",
		`event.type.matches(event)`: "no overload of 'matches' fits (string, map)",
	} {
		p, err := cel.Compile(expr)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Match(event)
		if text, fails := want.(string); fails {
			var e *cel.EvalError
			if !errors.As(err, &e) || e.Message != text || e.Expr != expr || !strings.Contains(err.Error(), expr) {
				t.Errorf("%s: got %v", expr, err)
			}
		} else if err != nil || got != want {
			t.Errorf("%s: got %v %v", expr, got, err)
		}
	}
	if p, err := cel.Compile("has(event.a)"); err != nil || p.String() != "has(event.a)" {
		t.Error(p, err)
	} else if ok, err := p.Match(nil); ok || err != nil {
		t.Error(ok, err)
	}
}

func TestProgram_Match_BoundedWork(t *testing.T) {
	p, err := cel.Compile("event.l.all(a, event.l.all(b, event.l.all(c, true)))")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Match(map[string]any{"l": make([]any, 1000)}); err == nil {
		t.Error("a billion rounds were run")
	}
}

func TestProgram_Match_Concurrent(t *testing.T) {
	p, err := cel.Compile(`event.l.exists(x, x == event.n) && event.l.map(x, x + 1.0).all(x, x > 0.0)`)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			event := map[string]any{"l": []any{1.0, 2.0, float64(i)}, "n": float64(i)}
			for range 1000 {
				if ok, err := p.Match(event); !ok || err != nil {
					t.Error(ok, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkMatch(b *testing.B) {
	event := map[string]any{"type": "com.dapr.event.sent", "data": map[string]any{"amount": 150.0}}
	const expr = `event.type == "com.dapr.event.sent" && event.data.amount > 100`
	b.Run("edged", func(b *testing.B) {
		p, err := cel.Compile(expr)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if ok, err := p.Match(event); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
	b.Run("cel-go", func(b *testing.B) {
		env := reference(b)
		ast, issues := env.Compile(expr)
		if issues.Err() != nil {
			b.Fatal(issues.Err())
		}
		p, err := env.Program(ast)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if out, _, err := p.Eval(map[string]any{"event": event}); err != nil || out.Value() != true {
				b.Fatal(out, err)
			}
		}
	})
}
