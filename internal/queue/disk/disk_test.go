package disk_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"cbproxy/internal/queue/disk"
)

func openQueue(t testing.TB, folder string) *disk.Store {
	t.Helper()
	q, setAside, err := disk.Open(folder)
	if err != nil || len(setAside) > 0 {
		t.Fatal(err, setAside)
	}
	t.Cleanup(func() { _ = q.Close() })
	return q
}

func add(t testing.TB, q *disk.Store, service, payload string) uint64 {
	t.Helper()
	seq, err := q.Add(t.Context(), service, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// payloads returns the payloads and delivery states of all records that read returns.
func payloads(t testing.TB, read func(service string, after uint64, limit, maxBytes int) ([]disk.Record, error), service string) (all []string) {
	t.Helper()
	for after := uint64(0); ; {
		records, err := read(service, after, 7, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			return all
		}
		for _, r := range records {
			if r.Seq <= after {
				t.Fatalf("%d was read after %d", r.Seq, after)
			}
			after = r.Seq
			text := string(r.Payload)
			if r.DeliveryState != nil {
				text += " (" + string(r.DeliveryState) + ")"
			}
			all = append(all, text)
		}
	}
}

func remove(t testing.TB, q *disk.Store, service string, seq uint64) {
	t.Helper()
	done := make(chan error, 1)
	q.Remove(service, seq, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestQueueKeepsOrderNotesAndDeadLetters(t *testing.T) {
	for name, folder := range map[string]string{"file": t.TempDir(), "memory": ""} {
		t.Run(name, func(t *testing.T) {
			q := openQueue(t, folder)
			var seqs []uint64
			for i := range 20 {
				seqs = append(seqs, add(t, q, "a", fmt.Sprint("a", i)))
				add(t, q, "b", fmt.Sprint("b", i))
			}
			remove(t, q, "a", seqs[3])
			remove(t, q, "a", seqs[3]) // removing it again is not an error
			if err := q.SetDeliveryState("a", seqs[0], []byte("tried")); err != nil {
				t.Fatal(err)
			}
			if lost, err := q.DeadLetter("a", seqs[1], []byte("refused"), 10); lost != 0 || err != nil {
				t.Fatal(lost, err)
			}
			check := func(q *disk.Store) {
				t.Helper()
				got := payloads(t, q.Read, "a")
				if len(got) != 18 || got[0] != "a0 (tried)" || got[1] != "a2" || got[2] != "a4" || got[17] != "a19" {
					t.Errorf("waiting: %q", got)
				}
				if got := payloads(t, q.DeadLetters, "a"); !slices.Equal(got, []string{"a1 (refused)"}) {
					t.Errorf("dead: %q", got)
				}
				waiting, dead := q.Counts("a")
				if other, none := q.Counts("b"); waiting != 18 || dead != 1 || other != 20 || none != 0 {
					t.Errorf("counts: %d %d, %d %d", waiting, dead, other, none)
				}
				if !slices.Equal(q.Services(), []string{"a", "b"}) {
					t.Errorf("services: %q", q.Services())
				}
				r, dead1, found, err := q.Get("a", seqs[1])
				if err != nil || !found || !dead1 || string(r.DeliveryState) != "refused" {
					t.Errorf("the dead letter: %+v %v %v %v", r, dead1, found, err)
				}
			}
			check(q)
			if folder == "" {
				return
			}
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			q = openQueue(t, folder)
			check(q)
			renamed, err := q.Requeue(t.Context(), "a", seqs[1], nil)
			if err != nil || renamed <= seqs[19] {
				t.Errorf("requeued as %d, %v", renamed, err)
			}
			if got := payloads(t, q.Read, "a"); got[18] != "a1" {
				t.Errorf("after Requeue: %q", got)
			}
			if err := errors.Join(q.Delete("a", renamed), q.Delete("a", seqs[0])); err != nil {
				t.Fatal(err)
			}
			if waiting, dead := q.Counts("a"); waiting != 17 || dead != 0 {
				t.Errorf("in the end %d are waiting and %d are dead", waiting, dead)
			}
		})
	}
}

func TestQueueRemovesOldestDeadLetters(t *testing.T) {
	q := openQueue(t, t.TempDir())
	for i := range 5 {
		lost, err := q.DeadLetter("a", add(t, q, "a", fmt.Sprint(i)), []byte("x"), 3)
		if err != nil || (lost == 1) != (i >= 3) {
			t.Errorf("after %d: %d lost, %v", i+1, lost, err)
		}
	}
	if got := payloads(t, q.DeadLetters, "a"); !slices.Equal(got, []string{"2 (x)", "3 (x)", "4 (x)"}) {
		t.Errorf("dead: %q", got)
	}
}

// Sequence numbers are not reused after removals and restarts.
func TestSequenceNumbersAreNeverReused(t *testing.T) {
	folder, last := t.TempDir(), uint64(0)
	for range 4 {
		q := openQueue(t, folder)
		seq := add(t, q, "a", "x")
		if seq <= last {
			t.Errorf("%d after %d", seq, last)
		}
		last = seq
		remove(t, q, "a", seq)
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		if err := openQueue(t, folder).Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Segments are deleted when all their records are removed.
func TestQueueDeletesEmptySegments(t *testing.T) {
	folder := t.TempDir()
	q := openQueue(t, folder)
	payload := strings.Repeat("x", 1<<20)
	var seqs []uint64
	for range 100 {
		seqs = append(seqs, add(t, q, "a", payload))
	}
	files := func() int {
		names, _ := filepath.Glob(filepath.Join(folder, "queue", "0*.db"))
		return len(names)
	}
	if n := files(); n < 3 || n > 5 {
		t.Errorf("%d files for 100 MiB", n)
	}
	for i, seq := range seqs {
		remove(t, q, "a", seq)
		if records, err := q.Read("a", 0, 1, 1); err != nil || len(records) == 0 != (i == 99) {
			t.Fatalf("after %d: %d records, %v", i+1, len(records), err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if n := files(); n != 1 {
		t.Errorf("%d files are left", n)
	}
	if info, err := os.Stat(filepath.Join(folder, "queue", "dead.db")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// Concurrent additions share commits, and each caller gets increasing sequence numbers.
func TestConcurrentAddsShareCommits(t *testing.T) {
	q := openQueue(t, t.TempDir())
	before := q.Commits()
	const clients, each = 64, 50
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			last := uint64(0)
			for i := range each {
				seq, err := q.Add(t.Context(), "a", fmt.Appendf(nil, "%d.%d", c, i))
				if err != nil || seq <= last {
					t.Errorf("%d after %d, %v", seq, last, err)
				}
				last = seq
			}
		})
	}
	all.Wait()
	if n, _ := q.Counts("a"); n != clients*each {
		t.Errorf("%d records are waiting", n)
	}
	if commits := q.Commits() - before; commits > clients*each/4 {
		t.Errorf("%d commits for %d records", commits, clients*each)
	}
	if got := payloads(t, q.Read, "a"); len(got) != clients*each {
		t.Errorf("%d records can be read", len(got))
	}
}

// An Add whose context is canceled either fails and adds nothing, or succeeds.
func TestCanceledAddAddsNothing(t *testing.T) {
	q := openQueue(t, t.TempDir())
	canceled, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex
	added := map[uint64]bool{}
	for i := range 200 {
		all.Go(func() {
			ctx := t.Context()
			if i%2 == 0 {
				ctx = canceled
			}
			if i == 101 {
				cancel()
			}
			if seq, err := q.Add(ctx, "a", []byte("x")); err == nil {
				mu.Lock()
				added[seq] = true
				mu.Unlock()
			} else if ctx == t.Context() {
				t.Error(err)
			}
		})
	}
	all.Wait()
	add(t, q, "a", "a commit after all of them") // it completes the cancellations
	add(t, q, "a", "and another")
	records, err := q.Read("a", 0, 1000, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != len(added)+2 {
		t.Errorf("%d were added, %d can be read", len(added)+2, len(records))
	}
	for _, r := range records[:len(records)-2] {
		if !added[r.Seq] {
			t.Errorf("no successful Add returned %d", r.Seq)
		}
	}
	if n, _ := q.Counts("a"); n != len(records) {
		t.Errorf("%d records are counted, %d can be read", n, len(records))
	}
}

// A reader must not receive a record before an older one that is still being added, because it would never read the older one. This could
// happen at the change of segments, because each has its own writer.
func TestReadReturnsRecordsInOrderAcrossSegments(t *testing.T) {
	q := openQueue(t, "") // the same code as with files, but faster
	const adders, each = 8, 6
	payload := strings.Repeat("x", 1<<20)
	var adding sync.WaitGroup
	for range adders {
		adding.Go(func() {
			for range each {
				if _, err := q.Add(t.Context(), "svc", []byte(payload)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	defer adding.Wait()
	for cursor := uint64(0); cursor < adders*each; {
		records, err := q.Read("svc", cursor, 64, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			if r.Seq != cursor+1 {
				t.Fatalf("%d was read after %d", r.Seq, cursor)
			}
			cursor = r.Seq
		}
	}
}

// The callback of every Remove during Close is called. Otherwise its caller would wait forever.
func TestCloseReportsEveryRemoval(t *testing.T) {
	for range 200 {
		q := openQueue(t, "")
		var requested, reported atomic.Int64
		var clients sync.WaitGroup
		begun := make(chan bool, 4)
		for range cap(begun) {
			clients.Go(func() {
				begun <- true
				var ended atomic.Bool
				for !ended.Load() {
					requested.Add(1)
					q.Remove("a", 1, func(err error) { ended.Store(err != nil); reported.Add(1) })
				}
			})
		}
		for range cap(begun) {
			<-begun
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		clients.Wait()
		if requested.Load() != reported.Load() {
			t.Fatalf("%d removals, %d callbacks", requested.Load(), reported.Load())
		}
	}
}
