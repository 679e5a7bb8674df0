package pubsub

import "strings"

// MatchTopic reports whether topic matches filter as MQTT 3.1.1 section 4.7 says: levels are separated by "/", "+" is any
// one level, and "#" at the end is any number of levels, none included. Topics that begin with "$" are not special: a
// device has no broker-internal topics. It does not allocate.
func MatchTopic(filter, topic string) bool {
	if filter == topic || filter == "#" {
		return true
	}
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		t, trest, tmore := strings.Cut(topic, "/")
		switch {
		case f == "#" && !fmore:
			return true
		case f != "+" && f != t:
			return false
		case !fmore && !tmore:
			return true
		case !tmore: // "a/#" matches "a"
			return frest == "#"
		case !fmore:
			return false
		}
		filter, topic = frest, trest
	}
}

// FiltersOverlap reports whether there is a topic that matches both filters.
func FiltersOverlap(a, b string) bool {
	for {
		x, xrest, xmore := strings.Cut(a, "/")
		y, yrest, ymore := strings.Cut(b, "/")
		switch {
		case x == "#" && !xmore, y == "#" && !ymore:
			return true
		case x != "+" && y != "+" && x != y:
			return false
		case !xmore && !ymore:
			return true
		case !xmore:
			return yrest == "#"
		case !ymore:
			return xrest == "#"
		}
		a, b = xrest, yrest
	}
}

// IsWildcard reports whether filter can match more than the topic of the same name.
func IsWildcard(filter string) bool {
	for {
		level, rest, more := strings.Cut(filter, "/")
		if level == "+" || (level == "#" && !more) {
			return true
		}
		if !more {
			return false
		}
		filter = rest
	}
}
