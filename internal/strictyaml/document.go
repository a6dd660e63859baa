package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// MaxFileBytes is the largest document that Parse accepts.
const MaxFileBytes = 1 << 20

// Parse returns the root mapping of the only document in content. If it returns nil, it has added a
// fault. It bounds the memory that a document of MaxFileBytes can cost.
func Parse(content []byte, faults *Collector) *yaml.Node {
	file := Place{"", 1, 1}
	if len(content) > MaxFileBytes {
		faults.Add(file, "must be at most 1 MiB, got more")
		return nil
	}
	if !checkText(content, faults) || !checkIndicators(content, faults) {
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(content))
	doc, err := decodeNode(dec)
	if errors.Is(err, io.EOF) {
		faults.Add(file, "must be a mapping with at least routes, got an empty file")
		return nil
	}
	if err != nil {
		addSyntaxFault(faults, content, err)
		return nil
	}
	switch second, err := decodeNode(dec); {
	case errors.Is(err, io.EOF):
	case err != nil:
		addSyntaxFault(faults, content, err)
		return nil
	default:
		faults.Add(Place{"", second.Line, second.Column}, "must be one document, got a second one")
		return nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		faults.Add(Place{"", root.Line, root.Column}, "must be a mapping, got %s", Show(root))
		return nil
	}
	return root
}

// decodeNode reads the next document. It returns a panic of the parser as an error.
func decodeNode(dec *yaml.Decoder) (doc *yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("yaml: %v", p)
		}
	}()
	doc = new(yaml.Node)
	if err := dec.Decode(doc); err != nil {
		return nil, err
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, errors.New("yaml: no document")
	}
	return doc, nil
}

// checkText rejects encodings other than UTF-8 and control characters.
func checkText(content []byte, faults *Collector) bool {
	for i := 0; i < len(content); {
		r, size := utf8.DecodeRune(content[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			faults.Add(position(content, i), "must be UTF-8, got byte 0x%02x", content[i])
			return false
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r >= 0x7f && r < 0xa0 && r != 0x85:
			faults.Add(position(content, i), "must be text, got control character %U", r)
			return false
		}
		i += size
	}
	return true
}

// maxIndicators bounds the characters that can begin a YAML node. The parser allocates a few hundred
// bytes for each node, so that a file within the size limit could still cost 300 MB.
const maxIndicators = 200_000

func checkIndicators(content []byte, faults *Collector) bool {
	n := 0
	for i, c := range content {
		if strings.IndexByte("\n,[{:-?&*!", c) < 0 {
			continue
		}
		if n++; n > maxIndicators {
			faults.Add(position(content, i), "must have at most %d YAML indicators, the limit is exceeded here", maxIndicators)
			return false
		}
	}
	return true
}

// position returns the line and column of the byte at offset.
func position(content []byte, offset int) Place {
	before := content[:offset]
	return Place{"", bytes.Count(before, []byte("\n")) + 1, utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1}
}

var (
	lineOfError   = regexp.MustCompile(`^line (\d+): `)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// addSyntaxFault adds an error of the parser. The parser reports a line without a column. It is often
// the line of the enclosing mapping or list, counted from 0, and is missing for the first line.
func addSyntaxFault(faults *Collector, content []byte, err error) {
	message, at := strings.TrimPrefix(err.Error(), "yaml: "), Place{"", 1, 1}
	if m := lineOfError.FindStringSubmatch(message); m != nil {
		message = message[len(m[0]):]
		at.Line, _ = strconv.Atoi(m[1])
		if strings.HasPrefix(message, "did not find expected") {
			at.Line++
		}
	}
	if strings.HasPrefix(message, "did not find expected") && !strings.Contains(message, "<document start>") {
		message += " in the block that begins here"
	}
	if m := unknownAnchor.FindStringSubmatch(message); m != nil {
		at = position(content, max(0, bytes.Index(content, []byte("*"+m[1]))))
	}
	faults.Add(at, "must be YAML: %s", message)
}
