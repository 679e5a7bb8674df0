package state

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"
)

// DeletePrefix deletes the keys directly under a prefix such as "app||type||id": the prefix, "||", and no further "||"
// (Dapr's DeleteWithPrefix, for an actor's state). It works in batches, each of them atomic, and returns how many
// keys it deleted, also when it fails midway.
func DeletePrefix(ctx context.Context, s Store, prefix string) (deleted int64, err error) {
	scanner, ok := s.(Scanner)
	if !ok {
		return 0, errors.New("delete with prefix: the state store cannot walk its keys")
	}
	if prefix == "" || prefix == separator {
		return 0, errors.New("a prefix is required for deleteWithPrefix request")
	}
	if !strings.HasSuffix(prefix, separator) {
		prefix += separator
	}
	var ops []Op
	flush := func() error {
		if len(ops) == 0 {
			return nil
		}
		err := s.Apply(ctx, ops)
		if err == nil {
			deleted += int64(len(ops))
		}
		ops = ops[:0]
		return err
	}
	var failed error
	err = scanner.Scan(ctx, prefix, "", func(e Entry) bool {
		if strings.Contains(e.Key[len(prefix):], separator) {
			return true
		}
		if ops = append(ops, Op{Kind: Delete, Key: e.Key}); len(ops) >= deleteBatch {
			failed = flush()
		}
		return failed == nil
	})
	return deleted, errors.Join(err, failed, flush())
}

const deleteBatch = 256

// KeysLike returns up to limit keys that match a SQL LIKE pattern (% any text, _ one character, \ takes the next one as
// it is), in byte order, and a token for the next page: empty at the end. limit 0 means all.
func KeysLike(ctx context.Context, s Store, pattern, token string, limit int) (keys []string, next string, err error) {
	scanner, ok := s.(Scanner)
	if !ok {
		return nil, "", errors.New("keys like: the state store cannot walk its keys")
	}
	if pattern == "" {
		return nil, "", errors.New("keys like pattern cannot be empty")
	}
	parts := parseLike(pattern)
	err = scanner.Scan(ctx, parts.prefix(), token, func(e Entry) bool {
		if !parts.match(e.Key) {
			return true
		}
		if limit > 0 && len(keys) == limit {
			next = keys[limit-1]
			return false
		}
		keys = append(keys, e.Key)
		return true
	})
	if err != nil {
		return nil, "", err
	}
	return keys, next, nil
}

// like is a parsed LIKE pattern.
type like []likePart

type likePart struct {
	kind rune // 0: the rune itself, '%' or '_'
	r    rune
}

func parseLike(pattern string) like {
	var p like
	escaped := false
	for _, r := range pattern {
		switch {
		case escaped:
			p, escaped = append(p, likePart{r: r}), false
		case r == '\\':
			escaped = true
		case r == '%' || r == '_':
			p = append(p, likePart{kind: r})
		default:
			p = append(p, likePart{r: r})
		}
	}
	if escaped {
		p = append(p, likePart{r: '\\'})
	}
	return p
}

// prefix is the text that every match begins with.
func (p like) prefix() string {
	var b strings.Builder
	for _, part := range p {
		if part.kind != 0 {
			break
		}
		b.WriteRune(part.r)
	}
	return b.String()
}

// match is the usual wildcard match: on a mismatch, the last % takes one character more. It needs no more than the
// product of both lengths.
func (p like) match(s string) bool {
	at, i := 0, 0
	star, starAt := -1, 0
	for at < len(s) {
		r, n := utf8.DecodeRuneInString(s[at:])
		switch {
		case i < len(p) && p[i].kind == '%':
			star, starAt = i, at
			i++
		case i < len(p) && (p[i].kind == '_' || p[i].kind == 0 && p[i].r == r):
			at += n
			i++
		case star >= 0:
			_, n := utf8.DecodeRuneInString(s[starAt:])
			starAt += n
			at, i = starAt, star+1
		default:
			return false
		}
	}
	for i < len(p) && p[i].kind == '%' {
		i++
	}
	return i == len(p)
}
