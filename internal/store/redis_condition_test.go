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

// An operation that keeps failing is logged once, even if other operations succeed.
func TestConditionIsLoggedOnce(t *testing.T) {
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
				t.Fatal("the condition is up while an operation fails")
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

func TestConditionForgetsOldFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := newCondition(&log)
		c.note("acquire the lease of a", errors.New("no answer"), t.Context())
		time.Sleep(faultLife + time.Second)
		if !c.Condition().Up {
			t.Error("the condition is down after the fault expired")
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		c.note("compare the state of a", errors.New("cancelled"), over)
		if got := c.Condition(); !got.Up {
			t.Errorf("a canceled operation counts as a fault: %+v", got)
		}
	})
}
