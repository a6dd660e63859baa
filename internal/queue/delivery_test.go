package queue_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"cbproxy/internal/events"
	"cbproxy/internal/queue"
)

func TestLongErrorIsTruncatedBetweenCharacters(t *testing.T) {
	text := "x" + strings.Repeat("é", 1<<10) // the limit is inside a character
	u := newUpstream()
	u.setAnswer(func(*queue.Message, int) (queue.Answer, error) {
		return queue.Answer{}, &queue.Failed{Reason: events.ReasonReset, Err: errors.New(text)}
	})
	b := open(t, "", u, slowPolicy())
	b.accept(t, "a")
	s := b.waitFor(t, "the delivery has failed", func(s events.QueueStatus) bool { return s.LastError != "" })
	prefix, truncated := strings.CutSuffix(s.LastError, "…")
	if !utf8.ValidString(s.LastError) || !truncated || len(prefix) > 1<<10 || !strings.HasPrefix(text, prefix) {
		t.Errorf("%d bytes: %q", len(s.LastError), s.LastError)
	}
}
