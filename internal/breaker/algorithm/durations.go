package algorithm

import "time"

// durations are the durations of the calls in a window: 47 KiB. They are counted from when the window begins to count them, so there
// may be fewer than calls. The slots of the window that are not in use have none.
type durations struct {
	slots [slotCount]histogram // by the index in window.slots
	used  [slotCount]uint32    // the number of durations in slots
	sum   histogram
	calls uint32 // in sum
}

// add counts a duration in a slot.
func (d *durations) add(slot int, took time.Duration) {
	bucket := bucketOf(took)
	d.slots[slot][bucket]++
	d.used[slot]++
	d.sum[bucket]++
	d.calls++
}

// drop removes the durations of a slot.
func (d *durations) drop(slot int) {
	if d.used[slot] == 0 {
		return
	}
	d.sum.sub(&d.slots[slot])
	d.calls -= d.used[slot]
	d.slots[slot], d.used[slot] = histogram{}, 0
}

// move adds the durations of one slot to another one, and removes them from the first.
func (d *durations) move(from, to int) {
	if d.used[from] == 0 {
		return
	}
	d.slots[to].add(&d.slots[from])
	d.used[to] += d.used[from]
	d.slots[from], d.used[from] = histogram{}, 0
}
