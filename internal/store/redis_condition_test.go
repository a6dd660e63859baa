package store

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func newCondition(log *bytes.Buffer) *condition {
	return &condition{logger: slog.New(slog.NewTextHandler(log, nil)), faults: map[string]fault{}}
}

// Whatever works beside it, something that goes on failing is told once.
func TestConditionIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := newCondition(&log)
		ctx := t.Context()
		c.note("compare the state of a", nil, ctx)
		if got := c.Condition(); !got.Up || got.Operations != 1 {
			t.Errorf("%+v", got)
		}
		for range 500 {
			c.note("decide the state of a", errors.New("OOM"), ctx)
			c.note("compare the state of a", nil, ctx)
			c.note("listen", nil, ctx)
			time.Sleep(4 * time.Second)
			if c.Condition().Up {
				t.Fatal("it is up while something fails")
			}
		}
		c.note("decide the state of a", nil, ctx)
		if got := c.Condition(); !got.Up || got.LastError != "OOM" || got.Errors != 500 {
			t.Errorf("%+v", got)
		}
		if lines := strings.Count(log.String(), "\n"); lines != 3 {
			t.Errorf("%d lines:\n%s", lines, log.String())
		}
	})
}

func TestConditionForgetsWhatIsNotAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := newCondition(&log)
		c.note("acquire the lease of a", errors.New("no answer"), t.Context())
		time.Sleep(faultLife + time.Second)
		if !c.Condition().Up {
			t.Error("it is down although nothing fails any more")
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		c.note("compare the state of a", errors.New("cancelled"), over)
		if got := c.Condition(); !got.Up {
			t.Errorf("what this process ended itself counts: %+v", got)
		}
	})
}
