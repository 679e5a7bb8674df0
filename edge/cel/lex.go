package cel

import (
	"strings"
	"unicode/utf8"
)

// kind is the kind of a token. Punctuation and the words true, false, null and in are their own kind.
type tokenKind string

const (
	tokEOF    tokenKind = "end of expression"
	tokIdent  tokenKind = "identifier"
	tokInt    tokenKind = "int"
	tokUint   tokenKind = "uint"
	tokFloat  tokenKind = "double"
	tokString tokenKind = "string"
	tokBytes  tokenKind = "bytes"
)

type token struct {
	kind tokenKind
	pos  int
	text string // as written
}

// lex splits an expression as the CEL grammar does: the longest token that fits.
func lex(s string) ([]token, *Error) {
	var tokens []token
	for i := 0; ; {
		i = skipBlank(s, i)
		if i == len(s) {
			return append(tokens, token{kind: tokEOF, pos: i}), nil
		}
		t, err := nextToken(s, i)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
		i += len(t.text)
	}
}

// skipBlank passes over white space and comments.
func skipBlank(s string, i int) int {
	for i < len(s) {
		switch {
		case strings.IndexByte(" \t\r\n\f", s[i]) >= 0:
			i++
		case strings.HasPrefix(s[i:], "//"):
			if n := strings.IndexByte(s[i:], '\n'); n >= 0 {
				i += n
			} else {
				i = len(s)
			}
		default:
			return i
		}
	}
	return i
}

func nextToken(s string, i int) (token, *Error) {
	if n, bytes := stringLength(s[i:]); n > 0 {
		kind := tokString
		if bytes {
			kind = tokBytes
		}
		return token{kind, i, s[i : i+n]}, nil
	}
	switch c := s[i]; {
	case isLetter(c):
		n := i
		for n < len(s) && (isLetter(s[n]) || isDigit(s[n])) {
			n++
		}
		t := token{tokIdent, i, s[i:n]}
		switch t.text {
		case "true", "false", "null", "in":
			t.kind = tokenKind(t.text)
		}
		return t, nil
	case isDigit(c), c == '.' && i+1 < len(s) && isDigit(s[i+1]):
		kind, n := numberLength(s[i:])
		return token{kind, i, s[i : i+n]}, nil
	case c == '`':
		return token{}, unsupported(i, "an escaped name")
	case c == '"', c == '\'':
		return token{}, refuse(i, "string without end, or with a bad escape")
	}
	for _, op := range []string{"==", "!=", "<=", ">=", "&&", "||"} {
		if strings.HasPrefix(s[i:], op) {
			return token{tokenKind(op), i, op}, nil
		}
	}
	if strings.IndexByte("<>[]{}().,-!?:+*/%", s[i]) >= 0 {
		return token{tokenKind(s[i : i+1]), i, s[i : i+1]}, nil
	}
	r, _ := utf8.DecodeRuneInString(s[i:])
	return token{}, refuse(i, "unexpected character %q", r)
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }

func isHex(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func digits(s string, i int) int {
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return i
}

// numberLength returns what number s begins with.
func numberLength(s string) (tokenKind, int) {
	n, kind := digits(s, 0), tokInt
	if strings.HasPrefix(s, "0x") && len(s) > 2 && isHex(s[2]) {
		for n = 2; n < len(s) && isHex(s[n]); n++ {
		}
	} else {
		if n+1 < len(s) && s[n] == '.' && isDigit(s[n+1]) {
			n, kind = digits(s, n+1), tokFloat
		}
		if e := n + 1; n < len(s) && (s[n] == 'e' || s[n] == 'E') {
			if e < len(s) && (s[e] == '+' || s[e] == '-') {
				e++
			}
			if end := digits(s, e); end > e {
				return tokFloat, end
			}
		}
	}
	if kind == tokInt && n < len(s) && (s[n] == 'u' || s[n] == 'U') {
		return tokUint, n + 1
	}
	return kind, n
}

// stringLength returns the length of the string or bytes literal that s begins with, prefixes and quotes included, or 0.
func stringLength(s string) (n int, bytes bool) {
	if n < len(s) && (s[n] == 'b' || s[n] == 'B') {
		bytes = true
		n++
	}
	raw := n < len(s) && (s[n] == 'r' || s[n] == 'R')
	if raw {
		n++
	}
	if n == len(s) || s[n] != '"' && s[n] != '\'' {
		return 0, false
	}
	if triple := strings.Repeat(s[n:n+1], 3); strings.HasPrefix(s[n:], triple) {
		if end := quotedLength(s[n+3:], triple, raw, true); end > 0 {
			return n + 3 + end, bytes
		}
	}
	if end := quotedLength(s[n+1:], s[n:n+1], raw, false); end > 0 {
		return n + 1 + end, bytes
	}
	return 0, false
}

// quotedLength returns the length of what is up to and with the closing quote, or 0.
func quotedLength(s, quote string, raw, lines bool) int {
	for i := 0; i < len(s); {
		switch {
		case strings.HasPrefix(s[i:], quote):
			return i + len(quote)
		case !lines && (s[i] == '\n' || s[i] == '\r'):
			return 0
		case s[i] == '\\' && !raw:
			n := escapeLength(s[i:])
			if n == 0 {
				return 0
			}
			i += n
		default:
			i++
		}
	}
	return 0
}

// escapeLength returns the length of the escape sequence that s begins with, or 0.
func escapeLength(s string) int {
	if len(s) < 2 {
		return 0
	}
	var n int
	switch s[1] {
	case 'a', 'b', 'f', 'n', 'r', 't', 'v', '"', '\'', '\\', '?', '`':
		return 2
	case 'x', 'X':
		n = 4
	case 'u':
		n = 6
	case 'U':
		n = 10
	case '0', '1', '2', '3':
		if len(s) >= 4 && '0' <= s[2] && s[2] <= '7' && '0' <= s[3] && s[3] <= '7' {
			return 4
		}
		return 0
	default:
		return 0
	}
	if len(s) < n {
		return 0
	}
	for _, c := range []byte(s[2:n]) {
		if !isHex(c) {
			return 0
		}
	}
	return n
}
