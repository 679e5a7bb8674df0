package pubsub_test

import (
	"strings"
	"testing"

	"github.com/edged-io/edged/edge/pubsub"
)

func TestMatchTopic(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a", "a/b", false}, {"a/b", "a", false},
		{"#", "a", true}, {"#", "a/b/c", true}, {"#", "", true}, {"#", "$SYS/x", true},
		{"a/#", "a", true}, {"a/#", "a/b", true}, {"a/#", "a/b/c", true}, {"a/#", "ab", false}, {"a/#", "b/a", false},
		{"+", "a", true}, {"+", "a/b", false}, {"+/b", "a/b", true}, {"+/b", "a/c", false}, {"+/b", "b", false},
		{"a/+", "a/", true}, {"a/+", "a", false}, {"a/+/c", "a/b/c", true}, {"a/+/c", "a/b/d", false},
		{"+/+/#", "a/b", true}, {"+/+/#", "a", false}, {"a//b", "a//b", true}, {"a/+/b", "a//b", true},
		{"a+", "a+", true}, {"a+", "ab", false}, {"a#", "a#", true}, {"sensors/#", "sensors/temp/1", true},
	} {
		if got := pubsub.MatchTopic(c.filter, c.topic); got != c.want {
			t.Errorf("MatchTopic(%q, %q) = %v, want %v", c.filter, c.topic, got, c.want)
		}
	}
}

func TestFiltersOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a", "#", true}, {"a/#", "a", true}, {"a/#", "b/#", false},
		{"a/+", "+/b", true}, {"a/+", "a/b/c", false}, {"a/+/c", "a/b/#", true}, {"+/x", "a/+", true},
		{"+", "a/#", true}, {"+/+", "a", false}, {"alarms/#", "sensors/+", false}, {"a/b/#", "a", false},
	} {
		if got := pubsub.FiltersOverlap(c.a, c.b); got != c.want {
			t.Errorf("FiltersOverlap(%q, %q) = %v, want %v", c.a, c.b, got, c.want)
		}
		if got := pubsub.FiltersOverlap(c.b, c.a); got != c.want {
			t.Errorf("FiltersOverlap(%q, %q) = %v, want %v", c.b, c.a, got, c.want)
		}
	}
}

func TestIsWildcard(t *testing.T) {
	for filter, want := range map[string]bool{"a": false, "a/b": false, "a/+": true, "+/a": true, "#": true, "a/#": true, "a+": false, "#/a": false} {
		if got := pubsub.IsWildcard(filter); got != want {
			t.Errorf("IsWildcard(%q) = %v, want %v", filter, got, want)
		}
	}
}

// FuzzMatchTopic checks that overlap agrees with matching: a topic without wildcards is a filter that only it matches.
func FuzzMatchTopic(f *testing.F) {
	f.Add("a/+/c", "a/b/c")
	f.Add("#", "")
	f.Add("a/#", "a")
	f.Fuzz(func(t *testing.T, filter, topic string) {
		if pubsub.IsWildcard(topic) || strings.Contains(filter, "#/") {
			t.Skip()
		}
		if m, o := pubsub.MatchTopic(filter, topic), pubsub.FiltersOverlap(filter, topic); m != o {
			t.Fatalf("MatchTopic(%q, %q) = %v, FiltersOverlap = %v", filter, topic, m, o)
		}
	})
}
