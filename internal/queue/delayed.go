package queue

import (
	"container/heap"
	"time"
)

// delayedMessage is a message that may not be sent before a time.
type delayedMessage struct {
	seq   uint64
	until time.Time
}

// delayHeap implements heap.Interface. The message that is due first comes first.
type delayHeap []delayedMessage

func (h delayHeap) Len() int           { return len(h) }
func (h delayHeap) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h delayHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *delayHeap) Push(x any) { *h = append(*h, x.(delayedMessage)) }

// Pop implements heap.Interface.
func (h *delayHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// makeDue makes a message due at once, if the heap contains it.
func (h *delayHeap) makeDue(seq uint64) {
	for i := range *h {
		if (*h)[i].seq == seq {
			(*h)[i].until = time.Time{}
			heap.Fix(h, i)
			return
		}
	}
}
