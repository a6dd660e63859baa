package queue

import (
	"context"
	"strconv"

	"cbproxy/internal/store"
)

// backlog is where one service's messages wait. Its ids have a meaning only to itself.
type backlog interface {
	// read returns up to limit messages that come after the one with the given id, oldest
	// first; "" is before the first.
	read(ctx context.Context, after string, limit, maxBytes int) ([]entry, error)
	// get returns one message, or that there is none.
	get(ctx context.Context, id string) (e entry, found bool, err error)
	// remove removes one that is delivered. It waits for nothing; done is told.
	remove(id string, done func(error))
	// annotate keeps what is known of one's deliveries.
	annotate(ctx context.Context, id string, n note) error
	// bury makes one a dead one. Beyond limit the oldest dead ones go; lost is how many did.
	bury(ctx context.Context, id string, n note, limit int) (lost int, err error)
}

// entry is one message of a backlog.
type entry struct {
	id      string
	payload []byte
	note    note
}

// local is a service's messages in this instance's own store.
type local struct {
	store   *store.Queue
	service string
}

func (l local) read(_ context.Context, after string, limit, maxBytes int) ([]entry, error) {
	records, err := l.store.Read(l.service, parseSeq(after), limit, maxBytes)
	return entries(records), err
}

func (l local) get(_ context.Context, id string) (e entry, found bool, err error) {
	r, dead, found, err := l.store.Get(l.service, parseSeq(id))
	return entryOf(r), found && !dead, err
}

func (l local) remove(id string, done func(error)) { l.store.Remove(l.service, parseSeq(id), done) }

func (l local) annotate(_ context.Context, id string, n note) error {
	return l.store.Note(l.service, parseSeq(id), n.encode())
}

func (l local) bury(_ context.Context, id string, n note, limit int) (lost int, err error) {
	return l.store.Bury(l.service, parseSeq(id), n.encode(), limit)
}

func entries(records []store.Record) []entry {
	all := make([]entry, len(records))
	for i, r := range records {
		all[i] = entryOf(r)
	}
	return all
}

func entryOf(r store.Record) entry {
	return entry{id: formatSeq(r.Seq), payload: r.Payload, note: parseNote(r.Note)}
}

func formatSeq(seq uint64) string { return strconv.FormatUint(seq, 10) }

// parseSeq reads an id of the own store; 0, which no record has, is for anything else.
func parseSeq(id string) uint64 {
	seq, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return 0
	}
	return seq
}
