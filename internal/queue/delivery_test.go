package queue_test

import (
	"errors"
	"slices"
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

// A message that can never be sent must not block an ordered queue until it expires.
func TestUnsendableMessageIsADeadLetterAtOnce(t *testing.T) {
	u := newUpstream()
	u.setAnswer(func(m *queue.Message, _ int) (queue.Answer, error) {
		if string(m.Body) == "bad" {
			return queue.Answer{}, &queue.Failed{NotCausedByMessage: true, Unsendable: true, Err: errors.New("invalid field")}
		}
		return queue.Answer{Status: 200}, nil
	})
	b := open(t, "", u, slowPolicy())
	b.accept(t, "bad", "good")
	b.waitFor(t, "both are done", empty)
	b.wantCounts(t, 0, 1)
	if dead := b.list(t, queue.StateDead); dead[0].Cause != string(queue.CauseRefused) || dead[0].LastError != "cannot be sent: invalid field" {
		t.Errorf("%+v", dead[0])
	}
	if got := u.bodies(); !slices.Equal(got, []string{"bad", "good"}) {
		t.Errorf("%q", got)
	}
}
