package resource

import (
	"slices"
	"strings"
)

// maxListed is how many names a hint lists when none is near.
const maxListed = 16

// suggest returns a hint that names the known word nearest to what was written, or lists all if they are few.
func suggest(written string, known []string) string {
	best, distance := "", 3
	if len(written) < 5 {
		distance = 2
	}
	low := strings.ToLower(written)
	for _, k := range known {
		if d := editDistance(low, strings.ToLower(k), distance); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	if len(known) == 0 || len(known) > maxListed {
		return ""
	}
	sorted := slices.Sorted(slices.Values(known))
	return "known: " + strings.Join(sorted, ", ")
}

// editDistance is how many insertions, deletions, substitutions and swaps of neighbours turn a into b; at least limit
// when it is limit or more.
func editDistance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit || len(a) > 64 {
		return limit
	}
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}

// secretWords mark fields whose value a message must not repeat.
var secretWords = [...]string{"password", "passwd", "secret", "token", "apikey", "privatekey", "accesskey", "credential"}

// secretField reports whether the last name of a path sounds like a secret.
func secretField(path string) bool {
	name := strings.ToLower(path[strings.LastIndexByte(path, '.')+1:])
	return slices.ContainsFunc(secretWords[:], func(w string) bool { return strings.Contains(name, w) })
}
