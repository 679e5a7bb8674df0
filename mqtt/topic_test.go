package mqtt_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/edged-io/edged/mqtt"
)

func TestValidateTopic(t *testing.T) {
	for _, ok := range []string{"a", "/", "a/b", "/a", "a/", "a//b", " ", "$SYS/x", "ünï/ço∂é", "🌡/temp", strings.Repeat("x", 65535)} {
		if err := mqtt.ValidateTopic(ok); err != nil {
			t.Errorf("%.20q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "a/+", "#", "a\x00b", "a\tb", "a\u0085b", "a\ufffeb", "a\ufdd0", "a\xffb", "\xed\xa0\x80", strings.Repeat("x", 65536)} {
		if mqtt.ValidateTopic(bad) == nil {
			t.Errorf("%.20q is accepted", bad)
		}
	}
}

func TestValidateFilter(t *testing.T) {
	for _, ok := range []string{"#", "+", "+/+", "a/#", "a/+/b/#", "/", "/#", "$SYS/#", "$share/g/a/#", "a//+"} {
		if err := mqtt.ValidateFilter(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "#/a", "a#", "a+/b", "a/b#", "++", "$share/g", "$share//a", "$share/g+/a", "a\x00", strings.Repeat("/", 65536)} {
		if mqtt.ValidateFilter(bad) == nil {
			t.Errorf("%.20q is accepted", bad)
		}
	}
}

func TestMatch(t *testing.T) {
	cases := []struct {
		filter, topic string
		want          bool
	}{
		{"#", "a/b", true}, {"#", "/", true}, {"a/#", "a", true}, {"a/#", "a/", true}, {"a/#", "ab", false},
		{"+", "a", true}, {"+", "a/b", false}, {"+", "", true}, {"+/+", "/a", true}, {"/+", "/a", true}, {"+", "/a", false},
		{"a/+/c", "a//c", true}, {"a/+", "a", false}, {"a/+/#", "a", false}, {"a/+/#", "a/b", true},
		{"#", "$SYS/x", false}, {"+/x", "$SYS/x", false}, {"$SYS/#", "$SYS/x", true}, {"$SYS/+", "$SYS/x", true},
		{"a", "a/b", false}, {"a/b", "a", false}, {"a/b", "a/b", true}, {"A", "a", false},
	}
	for _, c := range cases {
		if got := mqtt.Match(c.filter, c.topic); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.filter, c.topic, got)
		}
	}
}

func TestOverlap(t *testing.T) {
	cases := []struct {
		a, b string
		want bool
	}{
		{"a/#", "a/b", true}, {"a/#", "a", true}, {"a/+", "+/b", true}, {"a/+/c", "a/b/#", true}, {"#", "x", true},
		{"a/b", "a/c", false}, {"a/+", "a/b/c", false}, {"plant/up/#", "plant/down/#", false},
		{"#", "$SYS/#", false}, {"+/x", "$SYS/x", false}, {"$SYS/#", "$SYS/x", true},
	}
	for _, c := range cases {
		if mqtt.Overlap(c.a, c.b) != c.want || mqtt.Overlap(c.b, c.a) != c.want {
			t.Errorf("Overlap(%q, %q) is not %v", c.a, c.b, c.want)
		}
	}
}

func TestMapping_Map(t *testing.T) {
	long := strings.Repeat("x", 65535)
	cases := []struct {
		m           mqtt.Mapping
		topic, want string // "" for none
	}{
		{mqtt.Mapping{Filter: "sensors/#", Prefix: "plant1/gw17/"}, "sensors/a/b", "plant1/gw17/sensors/a/b"},
		{mqtt.Mapping{Filter: "sensors/#", Strip: "sensors/", Prefix: "p/"}, "sensors/a", "p/a"},
		{mqtt.Mapping{Filter: "sensors/#", Strip: "sensors/"}, "sensors//", "/"},
		{mqtt.Mapping{Filter: "sensors/#", Strip: "sensors/"}, "sensors", ""},
		{mqtt.Mapping{Filter: "sensors/#", Strip: "sensors/"}, "sensors/", ""},
		{mqtt.Mapping{Filter: "#"}, "a//b", "a//b"},
		{mqtt.Mapping{Filter: "$SYS/#", Strip: "$SYS/", Prefix: "broker/"}, "$SYS/uptime", "broker/uptime"},
		{mqtt.Mapping{Filter: "#"}, long, long},
		{mqtt.Mapping{Filter: "#", Prefix: "p/"}, long, ""},
		{mqtt.Mapping{Filter: "#", Prefix: "p/"}, "a+b", ""},
		{mqtt.Mapping{Filter: "#", Prefix: "p/"}, "a\x01", ""},
		{mqtt.Mapping{Filter: "#", Prefix: "größe/"}, "ä", "größe/ä"},
	}
	for _, c := range cases {
		if got, ok := c.m.Map(c.topic); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%+v: Map(%.30q) = %.30q, %v", c.m, c.topic, got, ok)
		}
	}
}

func FuzzMapping_Map(f *testing.F) {
	f.Add("sensors/", "plant/", "sensors/a/b")
	f.Add("", "", "//")
	f.Add("a/", "ü/", "a/\x00")
	f.Fuzz(func(t *testing.T, strip, prefix, topic string) {
		m := mqtt.Mapping{Filter: strip + "#", Strip: strip, Prefix: prefix}
		mapped, ok := m.Map(topic)
		if !ok {
			return
		}
		if err := mqtt.ValidateTopic(mapped); err != nil {
			t.Fatalf("%q became %q: %v", topic, mapped, err)
		}
		back, ok := mqtt.Mapping{Filter: prefix + "#", Strip: prefix, Prefix: strip}.Map(mapped)
		if ok && back != topic {
			t.Fatalf("%q became %q and came back as %q", topic, mapped, back)
		}
		if !ok && mqtt.ValidateTopic(topic) == nil {
			t.Fatalf("%q became %q, which has no way back", topic, mapped)
		}
	})
}

// FuzzMatch compares with a plain reading of the rules.
func FuzzMatch(f *testing.F) {
	f.Add("a/+/#", "a/b")
	f.Add("#", "$SYS/x")
	f.Add("+/+", "/")
	f.Fuzz(func(t *testing.T, filter, topic string) {
		if mqtt.ValidateFilter(filter) != nil || mqtt.ValidateTopic(topic) != nil || strings.HasPrefix(filter, "$share/") {
			return
		}
		want := plainMatch(strings.Split(filter, "/"), strings.Split(topic, "/"))
		if topic[0] == '$' && (filter[0] == '#' || filter[0] == '+') {
			want = false
		}
		if got := mqtt.Match(filter, topic); got != want {
			t.Fatalf("Match(%q, %q) = %v", filter, topic, got)
		}
		if want && !mqtt.Overlap(filter, topic) {
			t.Fatalf("%q matches %q without overlap", filter, topic)
		}
	})
}

func plainMatch(filter, topic []string) bool {
	if slices.Equal(filter, []string{"#"}) {
		return true
	}
	if len(filter) == 0 || len(topic) == 0 {
		return len(filter) == len(topic)
	}
	if filter[0] != "+" && filter[0] != topic[0] {
		return false
	}
	if len(topic) == 1 && slices.Equal(filter[1:], []string{"#"}) {
		return true
	}
	return plainMatch(filter[1:], topic[1:])
}
