package outcomes

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"time"

	"cbproxy/internal/events"
)

// merge calls yield for each call in the given rings, by the name of their service, that was asked for from since to until, oldest
// first, until it returns an error. Calls in a block may overlap those in others, so a block is read once the calls before it have been
// passed on: there are only as many blocks in memory as overlap.
func merge(ctx context.Context, rings map[string]*ring, since, until time.Time, yield func(service string, c events.Call) error) error {
	first, last := ticks(since), ticks(until)
	names := map[*ring]string{}
	var waiting []blockRef // those that are not read yet, by their first call
	for name, r := range rings {
		names[r] = name
		waiting = append(waiting, r.blocks(first, last)...)
	}
	slices.SortFunc(waiting, func(a, b blockRef) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(names[a.ring], names[b.ring]), cmp.Compare(a.number, b.number))
	})
	var open cursors
	for len(waiting) > 0 || len(open) > 0 {
		for len(waiting) > 0 && (len(open) == 0 || waiting[0].first <= open[0].at()) {
			b, err := waiting[0].ring.read(waiting[0].number)
			if err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if c := newCursor(b, names[waiting[0].ring], first, last); c != nil {
				heap.Push(&open, c)
			}
			waiting = waiting[1:]
		}
		if len(open) == 0 {
			continue
		}
		c := open[0]
		if err := yield(c.service, decode(c.record())); err != nil {
			return err
		}
		if c.order = c.order[1:]; len(c.order) > 0 {
			heap.Fix(&open, 0)
		} else {
			heap.Pop(&open)
		}
	}
	return nil
}

// cursor is a place in a block whose calls are passed on by their time.
type cursor struct {
	service string
	block   *block
	order   []uint8 // the records that follow, the next one first
}

// newCursor returns a cursor for the calls of a block in a span of time; nil if b is nil or has none.
func newCursor(b *block, service string, first, last int64) *cursor {
	if b == nil {
		return nil
	}
	c := &cursor{service: service, block: b}
	for i := range b.count {
		if at := ticksOf(b.record(i)); at >= first && at <= last {
			c.order = append(c.order, uint8(i)) // #nosec G115 -- a block has fewer than 256 records
		}
	}
	if len(c.order) == 0 {
		return nil
	}
	slices.SortStableFunc(c.order, func(i, j uint8) int {
		return cmp.Compare(ticksOf(b.record(int(i))), ticksOf(b.record(int(j))))
	})
	return c
}

// record returns the record of the next call.
func (c *cursor) record() []byte { return c.block.record(int(c.order[0])) }

// at returns the time of the next call, in ticks since 1970.
func (c *cursor) at() int64 { return ticksOf(c.record()) }

// cursors are a heap of cursors by the time of their next calls. Calls of the same time are in the order of their services and blocks.
type cursors []*cursor

func (c cursors) Len() int { return len(c) }
func (c cursors) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(c[i].at(), c[j].at()), cmp.Compare(c[i].service, c[j].service),
		cmp.Compare(c[i].block.number(), c[j].block.number())) < 0
}
func (c cursors) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *cursors) Push(x any)   { *c = append(*c, x.(*cursor)) }
func (c *cursors) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}
