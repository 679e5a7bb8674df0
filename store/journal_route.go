package store

import (
	"hash/crc32"
	"strings"

	"github.com/edged-io/edged/edge/pubsub"
)

// route returns the lane of a topic: that of the first contract that matches.
func (j *eventLog) route(topic string) *lane {
	for _, l := range j.lanes[:j.routes] {
		if pubsub.MatchTopic(l.contract.Match, topic) {
			return l
		}
	}
	return j.lanes[j.routes-1] // the contract of "#" matches every topic
}

// Lanes implements pubsub.Journal. A lane that an earlier contract keeps all of the filter's topics from is left out,
// unless it holds events from a time when the contracts were others.
func (j *eventLog) Lanes(filter string) []pubsub.Lane {
	var lanes []pubsub.Lane
	covered := false
	for i, l := range j.lanes {
		match := l.contract.Match
		if pubsub.FiltersOverlap(filter, match) && (!covered || l.mixed || i >= j.routes) {
			lanes = append(lanes, l)
		}
		covered = covered || covers(match, filter)
	}
	return lanes
}

// covers reports whether every topic that filter matches is matched by wide.
func covers(wide, filter string) bool {
	if wide == filter || wide == "#" {
		return true
	}
	if filter == "#" {
		return false
	}
	base, open := strings.CutSuffix(filter, "/#")
	if open && wide != "#" && !strings.HasSuffix(wide, "/#") {
		return false
	}
	return pubsub.MatchTopic(wide, base) // a "+" of base is matched by "+" and "#" only
}

// routesSum tells sets of contracts apart. It is not 0, which says that a lane has events of several.
func routesSum(contracts []pubsub.Contract) uint32 {
	matches := make([]string, len(contracts))
	for i, c := range contracts {
		matches[i] = c.Match
	}
	return max(crc32.Checksum([]byte(strings.Join(matches, "\x00")), castagnoli), 1)
}

// mix notes whether the lane holds events that today's contracts would have put elsewhere.
func (l *lane) mix(before, now uint32) {
	l.mixed = before != now && l.head <= l.newest
	if l.routesSum = now; l.mixed {
		l.routesSum = 0
	}
	l.facts = l.facts || l.routesSum != before
}
