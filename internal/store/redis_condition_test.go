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

func newCondition(log *bytes.Buffer) *healthRecorder {
	return &healthRecorder{logger: slog.New(slog.NewTextHandler(log, nil)), failures: map[string]failure{}}
}

// An operation that keeps failing is logged once, even if other operations succeed.
func TestConditionIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := newCondition(&log)
		ctx := t.Context()
		c.recordResult("compare the state of a", nil, ctx)
		if got := c.Health(); !got.Up || got.Operations != 1 {
			t.Errorf("%+v", got)
		}
		for range 500 {
			c.recordResult("decide the state of a", errors.New("OOM"), ctx)
			c.recordResult("compare the state of a", nil, ctx)
			c.recordResult("listen", nil, ctx)
			time.Sleep(4 * time.Second)
			if c.Health().Up {
				t.Fatal("the condition is up while an operation fails")
			}
		}
		c.recordResult("decide the state of a", nil, ctx)
		if got := c.Health(); !got.Up || got.LastError != "OOM" || got.Errors != 500 {
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
		c.recordResult("acquire the lease of a", errors.New("no answer"), t.Context())
		time.Sleep(failureTTL + time.Second)
		if !c.Health().Up {
			t.Error("the condition is down after the fault expired")
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		c.recordResult("compare the state of a", errors.New("cancelled"), over)
		if got := c.Health(); !got.Up {
			t.Errorf("a canceled operation counts as a fault: %+v", got)
		}
	})
}
