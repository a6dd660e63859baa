package queue

import (
	"container/heap"
	"time"
)

// resting is a message that may not be tried before a time.
type resting struct {
	seq   uint64
	until time.Time
}

// restingHeap is a heap of them, the first to be tried first.
type restingHeap []resting

func (h restingHeap) Len() int           { return len(h) }
func (h restingHeap) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h restingHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *restingHeap) Push(x any) { *h = append(*h, x.(resting)) }

// Pop implements heap.Interface.
func (h *restingHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// hurry lets a message be tried now, if it rests.
func (h *restingHeap) hurry(seq uint64) {
	for i := range *h {
		if (*h)[i].seq == seq {
			(*h)[i].until = time.Time{}
			heap.Fix(h, i)
			return
		}
	}
}
