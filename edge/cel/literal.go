package cel

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// number returns the value of a number token, with its sign.
func number(t token, negative bool) (any, *Error) {
	text := t.text
	base := 10
	if t.kind == tokUint {
		text = text[:len(text)-1]
	}
	if hex, ok := strings.CutPrefix(text, "0x"); ok && t.kind != tokFloat {
		base, text = 16, hex
	}
	if negative {
		text = "-" + text
	}
	var v any
	var err error
	switch t.kind {
	case tokInt:
		v, err = strconv.ParseInt(text, base, 64)
	case tokUint:
		v, err = strconv.ParseUint(text, base, 64)
	default:
		v, err = strconv.ParseFloat(text, 64)
	}
	if err != nil {
		return nil, refuse(t.pos, "invalid %s literal %s", t.kind, t.text)
	}
	return v, nil
}

// unquote returns the value of a string or bytes token, whose form the lexer has checked.
func unquote(t token) (any, *Error) {
	s := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(t.text)
	if t.kind == tokBytes {
		s = s[1:]
	}
	raw := s[0] == 'r' || s[0] == 'R'
	if raw {
		s = s[1:]
	}
	quotes := 1
	if len(s) >= 6 && s[:3] == strings.Repeat(s[:1], 3) {
		quotes = 3
	}
	s = s[quotes : len(s)-quotes]
	var out []byte
	for len(s) > 0 {
		if s[0] != '\\' || raw {
			out = append(out, s[0])
			s = s[1:]
			continue
		}
		n := escapeLength(s)
		r, encode, ok := unescape(s[:n], t.kind == tokBytes)
		if !ok {
			return nil, refuse(t.pos, "invalid escape %s in %s literal", s[:n], t.kind)
		}
		if encode {
			out = utf8.AppendRune(out, r)
		} else {
			out = append(out, byte(r))
		}
		s = s[n:]
	}
	if t.kind == tokBytes {
		return append([]byte{}, out...), nil
	}
	return string(out), nil
}

// unescape returns what an escape sequence stands for: in a string a code point, in bytes a byte.
func unescape(s string, bytes bool) (r rune, encode, ok bool) {
	switch s[1] {
	case 'x', 'X', 'u', 'U':
		if bytes && (s[1] == 'u' || s[1] == 'U') {
			return 0, false, false
		}
		v, err := strconv.ParseUint(s[2:], 16, 32)
		return rune(v), !bytes, err == nil && (bytes || v <= utf8.MaxRune && utf8.ValidRune(rune(v)))
	case '0', '1', '2', '3':
		v, err := strconv.ParseUint(s[1:], 8, 32)
		return rune(v), !bytes, err == nil
	}
	const names, values = "abfnrtv", "\a\b\f\n\r\t\v"
	if i := strings.IndexByte(names, s[1]); i >= 0 {
		return rune(values[i]), false, true
	}
	return rune(s[1]), false, true
}
