package disk_test

import (
	"bytes"
	"strconv"
	"sync"
	"testing"
)

// BenchmarkQueueAdd measures additions of 1 KiB and the records per commit. A single caller waits for each commit, concurrent ones share them.
func BenchmarkQueueAdd(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(strconv.Itoa(callers), func(b *testing.B) {
			q := openQueue(b, b.TempDir())
			payload := bytes.Repeat([]byte("x"), 1<<10)
			before := q.Commits()
			b.ReportAllocs()
			b.ResetTimer()
			var all sync.WaitGroup
			for c := range callers {
				all.Go(func() {
					for range (b.N + callers - 1 - c) / callers {
						if _, err := q.Add(b.Context(), "a", payload); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(q.Commits()-before)/float64(b.N), "commits/op")
		})
	}
}
