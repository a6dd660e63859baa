package disk_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/queue/disk"
	"cbproxy/internal/testenv"
)

// A crash between renaming a damaged file and changing the store's ID would leave a store that looks intact, and whose next
// reconciliation would remove the copies of the lost records from Redis.
func TestStoreIDChangesBeforeADamagedFileIsRenamed(t *testing.T) {
	folder := t.TempDir()
	q := openQueue(t, folder)
	id := q.ID()
	add(t, q, "a", "x")
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(folder, "queue", "0*.db"))
	if len(names) != 1 {
		t.Fatalf("%q", names)
	}
	if err := os.WriteFile(names[0], []byte("damage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(names[0], names[0], "", syscall.MS_BIND, ""); err != nil { // a mount point cannot be renamed
		testenv.SkipUnlessCI(t, "mount a file", err)
	}
	q, setAside, err := disk.Open(folder)
	if unmountErr := syscall.Unmount(names[0], 0); unmountErr != nil {
		t.Fatal(unmountErr)
	}
	if err == nil {
		_ = q.Close()
		t.Fatalf("opened a store whose damaged file cannot be renamed: %q", setAside)
	}
	if err := os.Remove(names[0]); err != nil { // as if it had been renamed before the process was killed
		t.Fatal(err)
	}
	if q = openQueue(t, folder); q.ID() == id {
		t.Error("the store has the same ID without the damaged file")
	}
}

// A file that was not completed is neither a segment nor a sign of damage.
func TestUnfinishedFilesAreRemoved(t *testing.T) {
	folder := t.TempDir()
	q := openQueue(t, folder)
	id := q.ID()
	add(t, q, "a", "x")
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"0000000000000002.db.new", "dead.db.new"} {
		if err := os.WriteFile(filepath.Join(folder, "queue", name), []byte("partial"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	q = openQueue(t, folder)
	if names, _ := filepath.Glob(filepath.Join(folder, "queue", "*.new")); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
	if got := payloads(t, q.Read, "a"); !slices.Equal(got, []string{"x"}) || q.ID() != id {
		t.Errorf("%q, ID %s, want %s", got, q.ID(), id)
	}
}

// Records that do not fit must not count for the size of a segment: each would bring the store closer to creating another file.
func TestFullDiskCreatesNoFiles(t *testing.T) {
	folder := testenv.MountDisk(t, "16m")
	q := openQueue(t, folder)
	id := q.ID()
	add(t, q, "a", "first")
	before := folderNames(t, filepath.Join(folder, "queue"))
	free := testenv.FillDisk(t, folder)
	large := []byte(strings.Repeat("x", 8<<20))
	for range 20 { // 160 MB, enough for five segments
		if _, err := q.Add(t.Context(), "a", large); err == nil {
			t.Fatal("a record was added to a full disk")
		}
	}
	if after := folderNames(t, filepath.Join(folder, "queue")); !slices.Equal(after, before) {
		t.Errorf("files: %q, before: %q", after, before)
	}
	free()
	add(t, q, "a", "last")
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = openQueue(t, folder)
	if got := payloads(t, q.Read, "a"); !slices.Equal(got, []string{"first", "last"}) || q.ID() != id {
		t.Errorf("%q, ID %s, want %s", got, q.ID(), id)
	}
}

func folderNames(t *testing.T, folder string) (names []string) {
	t.Helper()
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}

// A full disk must neither prevent the start nor make healthy files look damaged.
func TestStoreOpensOnAFullDisk(t *testing.T) {
	folder := testenv.MountDisk(t, "16m")
	q := openQueue(t, folder)
	id := q.ID()
	add(t, q, "a", "waiting")
	if _, err := q.DeadLetter("a", add(t, q, "a", "dead"), nil, 1); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	testenv.FillDisk(t, folder)
	q = openQueue(t, folder)
	if got := payloads(t, q.Read, "a"); !slices.Equal(got, []string{"waiting"}) || q.ID() != id {
		t.Errorf("%q, ID %s, want %s", got, q.ID(), id)
	}
	if got := payloads(t, q.DeadLetters, "a"); !slices.Equal(got, []string{"dead"}) {
		t.Errorf("dead: %q", got)
	}
}

// A start that fails after it has opened an empty segment must not lose the next sequence number, which is in that segment.
func TestFailedStartReusesNoSequenceNumbers(t *testing.T) {
	folder := t.TempDir()
	q := openQueue(t, folder)
	last := add(t, q, "a", "x")
	if err := q.Delete("a", last); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	obstacle := filepath.Join(folder, "queue", "00000000000000ff.db")
	if err := os.Mkdir(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	if q, _, err := disk.Open(folder); err == nil {
		_ = q.Close()
		t.Fatal("opened a store with a directory in place of a segment")
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	q = openQueue(t, folder)
	if seq := add(t, q, "a", "y"); seq <= last {
		t.Errorf("number %d after %d", seq, last)
	}
}

// A record that was accepted early may die late. It is not the one to be removed when there are too many dead records.
func TestNewestDeadRecordIsKept(t *testing.T) {
	q := openQueue(t, t.TempDir())
	first, second, third := add(t, q, "a", "1"), add(t, q, "a", "2"), add(t, q, "a", "3")
	for i, seq := range []uint64{second, third, first} {
		lost, err := q.DeadLetter("a", seq, nil, 2)
		if want := max(i-1, 0); err != nil || lost != want {
			t.Errorf("%d: %d lost, want %d, %v", seq, lost, want, err)
		}
	}
	if got := payloads(t, q.DeadLetters, "a"); !slices.Equal(got, []string{"1", "3"}) {
		t.Errorf("%q", got)
	}
}
