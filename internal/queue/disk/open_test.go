package disk_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cbproxy/internal/queue/disk"
)

func TestDamagedSegmentsAreSetAside(t *testing.T) {
	folder := t.TempDir()
	q := openQueue(t, folder)
	add(t, q, "a", "x")
	if _, err := q.DeadLetter("a", add(t, q, "a", "y"), nil, 1); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(folder, "queue", "*.db"))
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		copy(content[2*os.Getpagesize():], strings.Repeat("damage", 10000)) // after the two meta pages
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	q, setAside, err := disk.Open(folder)
	if err != nil || len(setAside) != 2 || len(names) != 2 {
		t.Fatalf("%v, %q", err, setAside)
	}
	defer q.Close()
	add(t, q, "a", "z")
	if got := payloads(t, q.Read, "a"); !slices.Equal(got, []string{"z"}) {
		t.Errorf("%q", got)
	}
}

// The lost records may have copies in Redis under the old origin, so that another instance can take them over.
func TestQueueThatLostASegmentHasANewOrigin(t *testing.T) {
	folder := t.TempDir()
	q := openQueue(t, folder)
	origin := q.ID()
	add(t, q, "a", "x")
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if q = openQueue(t, folder); q.ID() != origin {
		t.Error("the origin changed at a restart")
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(folder, "queue", "0*.db"))
	for _, name := range names {
		if err := os.WriteFile(name, []byte("damage"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	q, setAside, err := disk.Open(folder)
	if err != nil || len(setAside) != 1 {
		t.Fatal(err, setAside)
	}
	renamed := q.ID()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if q = openQueue(t, folder); renamed == origin || q.ID() != renamed {
		t.Errorf("%s, then %s and %s", origin, renamed, q.ID())
	}
}
