package mqtt

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/edged-io/edged/edge/pubsub"
)

const maxTopic = 65535 // bytes (MQTT 3.1.1 section 4.7.3)

var (
	errTopicEmpty    = errors.New("is empty")
	errTopicLong     = errors.New("is longer than 65535 bytes")
	errTopicText     = errors.New("is not clean UTF-8 text: control characters and non-characters are refused by brokers")
	errTopicWildcard = errors.New("contains a wildcard (+ or #)")
	errFilterHash    = errors.New("has # elsewhere than as its last level")
	errFilterPlus    = errors.New("has + or # beside other characters in a level")
	errFilterShare   = errors.New("is not $share/<group>/<filter>")
)

// ValidateTopic reports why a broker would not take a message on the topic: empty, too long, wildcards, or text that
// brokers close the connection for (MQTT 3.1.1 sections 1.5.3 and 4.7).
func ValidateTopic(topic string) error {
	if strings.ContainsAny(topic, "+#") {
		return errTopicWildcard
	}
	return validText(topic)
}

// ValidateFilter reports what is wrong with a topic filter. Shared subscriptions ($share/group/filter) are accepted.
func ValidateFilter(filter string) error {
	if err := validText(filter); err != nil {
		return err
	}
	if strings.HasPrefix(filter, "$share/") {
		_, inner, ok := splitShare(filter)
		if !ok {
			return errFilterShare
		}
		filter = inner
	}
	for level, rest, more := "", filter, true; more; {
		level, rest, more = strings.Cut(rest, "/")
		switch {
		case level == "#" && more:
			return errFilterHash
		case len(level) > 1 && strings.ContainsAny(level, "+#"):
			return errFilterPlus
		}
	}
	return nil
}

func validText(s string) error {
	switch {
	case s == "":
		return errTopicEmpty
	case len(s) > maxTopic:
		return errTopicLong
	case !utf8.ValidString(s):
		return errTopicText
	}
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef {
			return errTopicText
		}
	}
	return nil
}

// splitShare takes a shared subscription apart.
func splitShare(filter string) (group, inner string, ok bool) {
	rest, ok := strings.CutPrefix(filter, "$share/")
	if !ok {
		return "", "", false
	}
	group, inner, ok = strings.Cut(rest, "/")
	return group, inner, ok && group != "" && inner != "" && !strings.ContainsAny(group, "+#")
}

// Match reports whether the topic matches the filter (MQTT 3.1.1 section 4.7): # matches its parent too, and a wildcard
// in the first level does not match topics that begin with $.
func Match(filter, topic string) bool {
	return reaches(filter, topic) && pubsub.MatchTopic(filter, topic)
}

// Overlap reports whether a broker knows a topic that matches both filters.
func Overlap(a, b string) bool {
	return reaches(a, b) && reaches(b, a) && pubsub.FiltersOverlap(a, b)
}

// Covers reports whether every topic that matches b matches a too. Shared subscriptions cover nothing and are not covered.
func Covers(a, b string) bool {
	if strings.HasPrefix(a, "$share/") || strings.HasPrefix(b, "$share/") || !reaches(a, b) {
		return false
	}
	for {
		x, xRest, xMore := strings.Cut(a, "/")
		y, yRest, yMore := strings.Cut(b, "/")
		switch {
		case x == "#":
			return true
		case y == "#" || x != "+" && x != y:
			return false
		case !yMore:
			return !xMore || xRest == "#"
		case !xMore:
			return false
		}
		a, b = xRest, yRest
	}
}

// reaches reports whether the filter's first level may match the other's, as far as $ is concerned.
func reaches(filter, other string) bool {
	return !strings.HasPrefix(other, "$") || !strings.HasPrefix(filter, "#") && !strings.HasPrefix(filter, "+")
}

// Mapping renames the topics that match Filter: they lose Strip at their beginning and gain Prefix. Strip and Prefix
// are whole levels, so they are empty or end with a slash.
type Mapping struct {
	Filter, Strip, Prefix string
}

// Map returns the new name of a topic that matches Filter, or false if there is none: only the stripped levels were
// there (a/# matches a), or brokers would not take the result.
func (m Mapping) Map(topic string) (string, bool) {
	rest, ok := strings.CutPrefix(topic, m.Strip)
	if !ok || rest == "" {
		return "", false
	}
	mapped := m.Prefix + rest
	return mapped, ValidateTopic(mapped) == nil
}

// image returns a filter for all the names that Map gives.
func (m Mapping) image() string {
	return m.Prefix + strings.TrimPrefix(m.Filter, m.Strip)
}

// validate reports what is wrong, as field and problem.
func (m Mapping) validate(report func(field, value, problem, hint string), filterField string) {
	if err := ValidateFilter(m.Filter); err != nil {
		report(filterField, m.Filter, err.Error(), "an MQTT topic filter such as sensors/#")
		return
	}
	if m.Strip != "" && (!strings.HasSuffix(m.Strip, "/") || !strings.HasPrefix(m.Filter, m.Strip) || m.Strip == m.Filter || strings.ContainsAny(m.Strip, "+#")) {
		report("strip", m.Strip, "is not a whole number of levels that "+filterField+" begins with", "end it with / and repeat it in "+filterField)
	}
	if m.Prefix == "" {
		return
	}
	if !strings.HasSuffix(m.Prefix, "/") {
		report("prefix", m.Prefix, "does not end with /", "write "+m.Prefix+"/")
	}
	if err := ValidateTopic(m.Prefix); err != nil {
		report("prefix", m.Prefix, err.Error(), "")
	}
}
