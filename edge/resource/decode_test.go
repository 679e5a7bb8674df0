package resource_test

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/resource"
)

type topic struct {
	Match    string
	MaxBytes resource.Bytes
	MaxAge   time.Duration
	WhenFull string `enum:"reject,drop-oldest"`
}

func (t *topic) SetDefaults() { t.WhenFull = "reject" }

func (t topic) Validate(report func(field, value, problem, hint string)) {
	if t.Match == "" {
		report("match", "", "is missing", "a topic filter such as alarms/#")
	}
}

type listen struct {
	HTTP netip.AddrPort `yaml:"http"`
}

type common struct {
	Name string
}

type config struct {
	common   `yaml:",inline"`
	Device   string
	Data     string
	Count    int8
	Limit    uint16
	Ratio    float64
	On       bool
	Password string
	Tags     []string
	Topics   []topic
	Labels   map[string]string
	Pointers map[string]*topic
	Listen   *listen
	Free     any
	Skipped  string `yaml:"-"`
}

func (c config) Validate(report func(field, value, problem, hint string)) {
	for i, t := range c.Tags {
		if t == "bad" {
			report(fmt.Sprintf("tags[%d]", i), "bad", "is bad", "")
		}
	}
	if c.Data == "" {
		report("data", "", "is missing", "a folder")
	}
}

func decode(t *testing.T, text string) (config, resource.Faults) {
	t.Helper()
	c := config{Data: "/default", Labels: map[string]string{"kept": "yes"}}
	return c, resource.DecodeStrict("edged.yaml", []byte(text), &c)
}

func TestDecodeStrict(t *testing.T) {
	t.Run("OK", func(t *testing.T) {
		c := config{Data: "/default", Labels: map[string]string{"kept": "yes"}}
		faults := resource.DecodeStrict("edged.yaml", []byte(`
device: 17
name: n
count: -3
limit: 0x10
ratio: 1e3
on: true
tags: [a, "b", 3]
topics:
  - {match: "alarms/#", maxBytes: 64MiB, maxAge: 720h}
  - match: "#"
    maxBytes: 4096
    whenFull: drop-oldest
labels: {a: b}
pointers: {p: {match: x}}
listen: {http: "127.0.0.1:3500"}
free: {a: [1, 2.5, true, null, text]}
`), &c)
		if len(faults) != 0 {
			t.Fatal(faults)
		}
		want := config{
			common: common{Name: "n"}, Device: "17", Data: "/default", Count: -3, Limit: 16, Ratio: 1000, On: true,
			Tags: []string{"a", "b", "3"},
			Topics: []topic{
				{Match: "alarms/#", MaxBytes: 64 << 20, MaxAge: 720 * time.Hour, WhenFull: "reject"},
				{Match: "#", MaxBytes: 4096, WhenFull: "drop-oldest"},
			},
			Labels:   map[string]string{"kept": "yes", "a": "b"},
			Pointers: map[string]*topic{"p": {Match: "x", WhenFull: "reject"}},
			Listen:   &listen{HTTP: netip.MustParseAddrPort("127.0.0.1:3500")},
			Free:     map[string]any{"a": []any{int64(1), 2.5, true, nil, "text"}},
		}
		if !reflect.DeepEqual(c, want) {
			t.Errorf("got  %+v\nwant %+v", c, want)
		}
	})

	t.Run("EmptyKeepsDefaults", func(t *testing.T) {
		for _, text := range []string{"", "# only a comment\n", "---\n# c\n", "\uFEFF", "%YAML 1.2\n---\n", "data:\n"} {
			if c, faults := decode(t, text); len(faults) != 0 || c.Data != "/default" {
				t.Errorf("%q: %v, data %q", text, faults, c.Data)
			}
		}
	})

	t.Run("MergeKeysAndAliases", func(t *testing.T) {
		c := config{Data: "d"}
		faults := resource.DecodeStrict("f", []byte(`
free: &base {match: base, maxAge: 1h}
topics:
  - <<: *base
    match: own
  - <<: [*base, {maxBytes: 5}]
`), &c)
		if len(faults) != 0 {
			t.Fatal(faults)
		}
		want := []topic{
			{Match: "own", MaxAge: time.Hour, WhenFull: "reject"},
			{Match: "base", MaxAge: time.Hour, MaxBytes: 5, WhenFull: "reject"},
		}
		if !reflect.DeepEqual(c.Topics, want) {
			t.Errorf("got %+v", c.Topics)
		}
	})
}

func TestDecodeStrict_EveryFaultAtOnce(t *testing.T) {
	_, faults := decode(t, `devise: a
data: {x: 1}
count: 300
limit: -1
ratio: .inf
on: yes
password: [hunter2]
token: hunter2
tags: one
topics:
  - {match: "a", maxBytes: 5XB, maxAge: 30}
  - {maxAge: -5s, whenFull: dropoldest}
labels: {a: 1, a: 2}
listen: {http: nowhere}
device: a
`)
	want := []string{
		`edged.yaml:1: devise: "a": is not a known field (did you mean device?)`,
		`edged.yaml:2: data: is a group of fields where text is needed (if it begins with { or contains a colon and a blank, put it in quotes)`,
		`edged.yaml:3: count: "300": is out of range (from -128 to 127)`,
		`edged.yaml:4: limit: "-1": is out of range (from 0 to 65535)`,
		`edged.yaml:5: ratio: ".inf": is not a finite number`,
		`edged.yaml:6: on: "yes": is not a yes or no (write true or false, without quotes)`,
		`edged.yaml:7: password: is a list where text is needed`,
		`edged.yaml:8: token: (hidden): is not a known field (did you mean on?)`,
		`edged.yaml:9: tags: "one": is text where a list is needed (write [one])`,
		`edged.yaml:11: topics[0].maxBytes: "5XB": is not a size (write a number and a unit, such as 64MiB or 4MB)`,
		`edged.yaml:11: topics[0].maxAge: "30": is a duration without a unit (write a number and a unit: 500ms, 30s, 15m, 720h)`,
		`edged.yaml:12: topics[1].maxAge: "-5s": is negative (write a number and a unit: 500ms, 30s, 15m, 720h)`,
		`edged.yaml:12: topics[1].whenFull: "dropoldest": is not one of the choices (did you mean drop-oldest?)`,
		`edged.yaml:12: topics[1].match: is missing (a topic filter such as alarms/#)`,
		`edged.yaml:13: labels.a: is written twice (it is on line 13 already)`,
	}
	got := strings.Split(faults.Error(), "\n")
	for i, w := range want {
		if i >= len(got) || got[i] != w && w != want[7] {
			t.Errorf("fault %d:\n got %s\nwant %s", i, strings.Join(got[min(i, len(got)):min(i+1, len(got))], ""), w)
		}
	}
	if len(got) != len(want)+1 || !strings.Contains(got[len(got)-1], "edged.yaml:14: listen.http") {
		t.Errorf("got %d faults:\n%v", len(got), faults)
	}
	if strings.Contains(faults.Error(), "hunter2") {
		t.Error("a fault repeats a secret")
	}
}

func TestDecodeStrict_Syntax(t *testing.T) {
	for _, c := range []struct {
		name, text string
		line       int
	}{
		{"ColonInValue", "device: a\ndata: b: c\ncount: 1\n", 2},
		{"Tab", "device: a\ntopics:\n\t- x\n", 3},
		{"MissingColon", "device: a\ndata\ncount: 1\n", 3},
		{"OpenQuote", "device: a\ndata: \"never closed\ncount: 1\n", 2},
		{"OpenBracket", "device: a\ntags: [a, b\ncount: 1\n", 3},
		{"Alias", "device: a\ndata: *nobody\n", 2},
		{"Indentation", "topics:\n  - match: a\n   maxBytes: 1\n", 3},
		{"Control", "device: \"\x00\"\n", 1},
		{"InvalidUTF8", "device: a\ndata: \xff\xfe\n", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, faults := decode(t, c.text)
			if len(faults) != 1 || !strings.Contains(faults[0].Problem, "is not valid YAML") {
				t.Fatalf("got %v", faults)
			}
			if faults[0].Line != c.line {
				t.Errorf("line %d, want %d: %v", faults[0].Line, c.line, faults)
			}
		})
	}
}

func TestDecodeStrict_Bounds(t *testing.T) {
	t.Run("SecondDocument", func(t *testing.T) {
		if _, faults := decode(t, "device: a\n---\ndevice: b\n"); len(faults) != 1 || faults[0].Line != 3 {
			t.Errorf("got %v", faults)
		}
		if _, faults := decode(t, "device: a\n...\ndevice: b\n"); len(faults) != 1 || faults[0].Line != 3 {
			t.Errorf("got %v", faults)
		}
	})
	t.Run("Bomb", func(t *testing.T) {
		var b strings.Builder
		b.WriteString("free:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
		for i := 1; i < 12; i++ {
			fmt.Fprintf(&b, "  a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
		}
		if _, faults := decode(t, b.String()); len(faults) != 1 || faults[0].Problem != "expands to too much" {
			t.Errorf("got %v", faults)
		}
	})
	t.Run("MergeBomb", func(t *testing.T) {
		text := "free: &a {" + strings.Repeat("k: v, ", 1000) + "}\nlabels: {<<: [" + strings.Repeat("*a, ", 100_000) + "]}\n"
		start := time.Now()
		_, faults := decode(t, text)
		if last := faults[len(faults)-1]; time.Since(start) > 3*time.Second || last.Problem == "" {
			t.Errorf("took %v, %d faults", time.Since(start), len(faults))
		}
	})
	t.Run("Cycle", func(t *testing.T) {
		for _, text := range []string{"free: &a [*a]\n", "labels: &a {<<: *a}\n", "free: &a {b: {<<: [*a]}}\n"} {
			if _, faults := decode(t, text); len(faults) != 1 || faults[0].Problem != "refers to itself" {
				t.Errorf("%q: got %v", text, faults)
			}
		}
	})
	t.Run("Deep", func(t *testing.T) {
		if _, faults := decode(t, "free: "+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)); len(faults) != 1 || faults[0].Problem != "is nested too deeply" {
			t.Errorf("got %v", faults)
		}
	})
	t.Run("Large", func(t *testing.T) {
		if _, faults := decode(t, "data: "+strings.Repeat("a", 5<<20)); len(faults) != 1 || faults[0].Line != 0 {
			t.Errorf("got %v", faults)
		}
	})
	t.Run("ManyFaults", func(t *testing.T) {
		if _, faults := decode(t, strings.Repeat("zzzzz: 1\nyyyyy: 1\n", 500)); len(faults) > 110 {
			t.Errorf("got %d faults", len(faults))
		}
	})
	t.Run("NoPointer", func(t *testing.T) {
		if faults := resource.DecodeStrict("f", []byte("a: b"), config{}); len(faults) != 1 {
			t.Errorf("got %v", faults)
		}
	})
}

func TestFaults_Err(t *testing.T) {
	if err := (resource.Faults{}).Err(); err != nil {
		t.Error(err)
	}
	var faults resource.Faults
	if err := (resource.Faults{{File: "f", Problem: "is bad"}}).Err(); !errors.As(err, &faults) || err.Error() != "f: is bad" {
		t.Error(err)
	}
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]resource.Bytes{
		"0": 0, "17": 17, "17B": 17, "64MiB": 64 << 20, "64Mi": 64 << 20, "4MB": 4e6, "4M": 4e6, "2k": 2000, "2 KiB": 2048,
		"1.5GiB": 3 << 29, "1TiB": 1 << 40, "9223372036854775807": 1<<63 - 1,
	} {
		if got, err := resource.ParseBytes(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.2.3", "4m", "1e9", "4 miles", "9223372036854775808", "9000000TiB", ".", "inf", "0x10"} {
		if got, err := resource.ParseBytes(text); err == nil {
			t.Errorf("%q: got %d", text, got)
		}
	}
	for _, b := range []resource.Bytes{0, 1, 1023, 1024, 1536, 64 << 20, 4e6, 1<<63 - 1} {
		if back, err := resource.ParseBytes(b.String()); err != nil || back != b {
			t.Errorf("%d -> %s -> %d, %v", b, b, back, err)
		}
	}
}

func FuzzDecodeStrict(f *testing.F) {
	for _, seed := range []string{
		"device: a\n", "topics:\n - {match: a, maxBytes: 1MiB}\n", "free: &a [*a]\n", "labels: {<<: {a: b}}\n", "? [a]\n: b\n",
		"a: !!binary x\n", "%YAML 1.1\n---\na: b\n...\n", "- a\n", "free: !!float x\n", "listen: *x\n", "on: !!bool 1\n", "count: !!int a",
		"\xff\xfe", "---\n---\n", "a: |\n  x\n ---\n", "<<: {device: a}\n", "free: {<<: [{a: b}, {a: c}]}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var c config
		faults := resource.DecodeStrict("f", data, &c)
		lines := 1
		for _, lineBreak := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} { // as YAML has them
			lines += strings.Count(string(data), lineBreak)
		}
		for _, fault := range faults {
			if fault.Line > lines+1 || fault.Problem == "" {
				t.Errorf("fault beyond the file: %+v", fault)
			}
		}
	})
}

func FuzzParseBytes(f *testing.F) {
	f.Add("64MiB")
	f.Add("1.5GB")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := resource.ParseBytes(text)
		if err != nil {
			return
		}
		if back, err := resource.ParseBytes(b.String()); b < 0 || err != nil || back != b {
			t.Errorf("%q -> %d -> %q -> %d, %v", text, b, b.String(), back, err)
		}
	})
}
