package disk_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Removals of delivered messages share commits, because no caller waits for them, and do not delay an Add.
func TestRemovalsShareCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := openQueue(t, "")
		var seqs []uint64
		for i := range 100 {
			seqs = append(seqs, add(t, q, "a", fmt.Sprint(i)))
		}
		before, removed := q.Commits(), make(chan error, len(seqs))
		for _, seq := range seqs {
			q.Remove("a", seq, func(err error) { removed <- err })
			time.Sleep(time.Millisecond)
		}
		for range seqs {
			if err := <-removed; err != nil {
				t.Fatal(err)
			}
		}
		if n := q.Commits() - before; n > 10 {
			t.Errorf("%d commits for %d removals", n, len(seqs))
		}
		last := add(t, q, "a", "last")
		q.Remove("a", last, func(err error) { removed <- err })
		synctest.Wait()
		begin := time.Now()
		add(t, q, "a", "urgent")
		if err := <-removed; err != nil || time.Since(begin) > 0 {
			t.Errorf("Add waited for %v, %v", time.Since(begin), err)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
