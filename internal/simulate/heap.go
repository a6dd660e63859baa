package simulate

// heap has its least element first. Unlike container/heap it does not allocate for each element.
type heap[T any] []T

// push adds an element. before orders two of them, always in the same way.
func (h *heap[T]) push(v T, before func(a, b T) bool) {
	*h = append(*h, v)
	all, i := *h, len(*h)-1
	for i > 0 && before(all[i], all[(i-1)/2]) {
		all[i], all[(i-1)/2] = all[(i-1)/2], all[i]
		i = (i - 1) / 2
	}
}

// pop removes the least element. The heap must not be empty.
func (h *heap[T]) pop(before func(a, b T) bool) T {
	all := *h
	least, n := all[0], len(all)-1
	all[0] = all[n]
	var none T
	all[n] = none // for the garbage collector
	*h = all[:n]
	for i := 0; ; {
		child := 2*i + 1
		if child >= n {
			return least
		}
		if child+1 < n && before(all[child+1], all[child]) {
			child++
		}
		if !before(all[child], all[i]) {
			return least
		}
		all[i], all[child] = all[child], all[i]
		i = child
	}
}
