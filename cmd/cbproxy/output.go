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

// printValue prints a value as JSON, as printJSON does.
func printValue(w io.Writer, v any) error {
	content, err := json.Marshal(v)
	if err != nil {
		return failure(fmt.Errorf("encode the result: %w", err))
	}
	return printJSON(w, content)
}

// printContent prints a response of the API as it is if that was asked for, and otherwise calls text with what it contains.
func printContent[T any](c *client, w io.Writer, content []byte, text func(T) error) error {
	if c.json {
		return printJSON(w, content)
	}
	var v T
	if err := c.decode(content, &v); err != nil {
		return err
	}
	return text(v)
}

// warnNotPersisted prints why a change is not stored, unless that is "" or err is not nil, which it returns.
func warnNotPersisted(w io.Writer, reason string, err error) error {
	if err == nil && reason != "" {
		_, err = fmt.Fprintf(w, "Warning: %s\n", clean(reason))
	}
	return err
}
