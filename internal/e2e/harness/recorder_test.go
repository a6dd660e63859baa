package harness

import (
	"os"
	"path/filepath"
	"testing"
)

// TestOpenRecordRemovesIncompleteLine checks that a record is readable although a process was killed while it wrote a line.
func TestOpenRecordRemovesIncompleteLine(t *testing.T) {
	for _, test := range []struct{ name, before, after string }{
		{"no line", "", "next\n"},
		{"complete line", "first\n", "first\nnext\n"},
		{"part of the only line", "fir", "next\n"},
		{"part of the last line", "first\nsec", "first\nnext\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "record")
			if err := os.WriteFile(file, []byte(test.before), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := OpenRecord(file)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := out.WriteString("next\n"); err != nil {
				t.Fatal(err)
			}
			if err := out.Close(); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != test.after {
				t.Errorf("got %q, want %q", got, test.after)
			}
		})
	}
}
