package resource

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFileBytes bounds what is read of one file: configuration is small, and a wrong path may name anything.
const maxFileBytes = 4 << 20

// document is one YAML document of a file. Lines of its nodes count from the start of the document: add offset.
type document struct {
	root   *yaml.Node // nil when there is nothing but comments, or when err is set
	offset int        // lines of the file before the document
	fault  *Fault     // why it could not be parsed
}

// parseFile splits a file into its documents and parses each by itself, so that a syntax error in one leaves the others
// readable. Documents without content are left out.
func parseFile(file string, data []byte) []document {
	if len(data) > maxFileBytes {
		return []document{{fault: &Fault{
			File: file, Problem: fmt.Sprintf("is larger than %v", Bytes(maxFileBytes)),
			Hint: "is this a configuration file?",
		}}}
	}
	var docs []document
	for _, piece := range splitDocuments(data) {
		docs = append(docs, parsePiece(file, piece)...)
	}
	return docs
}

// piece is the text between two document separators.
type piece struct {
	text   []byte
	offset int
}

// splitDocuments cuts at lines that begin a document: `---`, alone or followed by a blank, or a line of dashes only,
// which daprd takes for a separator too. A document's text on the separator's own line is kept.
func splitDocuments(data []byte) []piece {
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	pieces := []piece{{}}
	line := 0
	for rest := data; len(rest) > 0; line++ {
		text := rest
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			text = rest[:i+1]
		}
		rest = rest[len(text):]
		current := &pieces[len(pieces)-1]
		if own, ok := separator(text); ok {
			pieces = append(pieces, piece{offset: line, text: own})
			continue
		}
		current.text = append(current.text, text...)
	}
	return pieces
}

// separator tells whether a line separates documents and returns what of it belongs to the next one, with the dashes
// blanked so that lines and columns stay.
func separator(line []byte) (own []byte, ok bool) {
	if !bytes.HasPrefix(line, []byte("---")) {
		return nil, false
	}
	after := line[3:]
	if len(bytes.Trim(after, "-\r\n")) == 0 {
		return []byte("\n"), true
	}
	if after[0] != ' ' && after[0] != '\t' {
		return nil, false
	}
	return append([]byte("   "), after...), true
}

// parsePiece parses a piece, which may hold further documents after an end marker (`...`).
func parsePiece(file string, p piece) []document {
	if onlyDirectives(p.text) {
		return nil
	}
	var docs []document
	in := &lineReader{rest: p.text}
	dec := yaml.NewDecoder(in)
	for {
		root, err := decodeNode(dec)
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			f := syntaxFault(file, err, in.lines, p.offset)
			return append(docs, document{offset: p.offset, fault: &f})
		}
		if root.Kind == yaml.DocumentNode {
			if len(root.Content) == 0 {
				continue
			}
			root = root.Content[0]
		}
		if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
			continue
		}
		docs = append(docs, document{root: root, offset: p.offset})
	}
}

// onlyDirectives reports whether a piece holds no content: blank lines, comments and %YAML or %TAG directives. The
// parser would call a directive without a document an error, and after splitting the document is in the next piece.
func onlyDirectives(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && line[0] != '%' {
			return false
		}
	}
	return true
}

// decodeNode reads the next document. The parser panics on some malformed input; such a panic is that input's error.
func decodeNode(dec *yaml.Decoder) (root *yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("yaml: %v", p)
		}
	}()
	root = new(yaml.Node)
	err = dec.Decode(root)
	return root, err
}

// lineReader hands out one line per Read, so that the number of lines handed out when the parser stops tells where: the
// line in the parser's own message is often that of the enclosing block.
type lineReader struct {
	rest  []byte
	lines int
	open  bool // the last line handed out did not fit and continues
}

func (r *lineReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	if !r.open {
		r.lines++
	}
	n := len(r.rest)
	if i := bytes.IndexByte(r.rest, '\n'); i >= 0 {
		n = i + 1
	}
	n = copy(p, r.rest[:n])
	r.open = r.rest[n-1] != '\n'
	r.rest = r.rest[n:]
	return n, nil
}

// syntaxHints explain the parser's messages to people who do not know its vocabulary.
var syntaxHints = [...]struct{ message, hint string }{
	{"cannot start any token", "YAML is indented with spaces, not tabs; a value that begins with @, ` or % needs quotes"},
	{"mapping values are not allowed", "is the indentation right, and is a value with a colon in quotes?"},
	{"did not find expected key", "is the indentation the same as on the lines around it?"},
	{"could not find expected ':'", "each line is `name: value`; is a colon missing?"},
	{"did not find expected '-'", "is the indentation of the list the same on every line?"},
	{"unexpected end of stream", "a quote or bracket is opened and never closed"},
	{"did not find expected ',' or ']'", "a bracket is opened and never closed"},
	{"did not find expected ',' or '}'", "a brace is opened and never closed"},
	{"unknown anchor", "an alias (*name) needs an anchor (&name) before it"},
}

// syntaxFault turns a parser error into a fault. read is how many lines the parser had asked for.
func syntaxFault(file string, err error, read, offset int) Fault {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := read
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		number, message, _ := strings.Cut(rest, ": ")
		n, convErr := strconv.Atoi(number)
		if convErr == nil {
			text = message
			if strings.Contains(message, "end of stream") || strings.Contains(message, "anchor") {
				line = n // where the thing began that does not end, not the end of the file
			}
		}
	}
	f := Fault{File: file, Line: offset + max(line, 1), Problem: "is not valid YAML: " + text}
	for _, h := range syntaxHints {
		if strings.Contains(text, h.message) {
			f.Hint = h.hint
			break
		}
	}
	return f
}
