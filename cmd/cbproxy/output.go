package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode"
	"unicode/utf16"

	"cbproxy/internal/sanitize"
)

// clean is sanitize.Printable.
func clean(s string) string { return sanitize.Printable(s) }

// short is sanitize.Short.
func short(s string, n int) string { return sanitize.Short(s, n) }

// printJSON prints a response of the API, indented, with unprintable characters escaped.
func printJSON(w io.Writer, content []byte) error {
	var indented, safe bytes.Buffer
	if err := json.Indent(&indented, bytes.TrimSpace(content), "", "  "); err != nil {
		return failure(err)
	}
	for _, r := range indented.String() {
		switch {
		case r < 0x7f || unicode.IsPrint(r):
			safe.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&safe, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&safe, `\u%04x`, r)
		}
	}
	safe.WriteByte('\n')
	_, err := w.Write(safe.Bytes())
	return err
}
