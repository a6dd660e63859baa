package queue

import (
	"strconv"
	"strings"

	"cbproxy/internal/queue/disk"
)

// entry is a stored message with what is known of its deliveries.
type entry struct {
	seq     uint64
	payload []byte
	note    note
	trial   bool // it is sent before others that come before it, see passing.go
}

func entryOf(r disk.Record) entry {
	return entry{seq: r.Seq, payload: r.Payload, note: parseNote(r.Note)}
}

// formatID returns the ID of a message: its service, and its number in the store.
func formatID(service string, seq uint64) string {
	return service + "." + strconv.FormatUint(seq, 10)
}

// parseID reads an ID; the number is 0, which no message has, where there is none.
func parseID(id string) (service string, seq uint64) {
	service, number, _ := strings.Cut(id, ".")
	seq, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return service, 0
	}
	return service, seq
}
