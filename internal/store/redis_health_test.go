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

func newRecorder(log *bytes.Buffer) *healthRecorder {
	return &healthRecorder{logger: slog.New(slog.NewTextHandler(log, nil)), failures: map[string]failure{}}
}

// An operation that keeps failing is logged once, even if other operations succeed.
func TestHealthChangeIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		h := newRecorder(&log)
		ctx := t.Context()
		h.recordResult(ctx, "compare the state of a", nil)
		if got := h.Health(); !got.Up || got.Operations != 1 {
			t.Errorf("%+v", got)
		}
		for range 500 {
			h.recordResult(ctx, "decide the state of a", errors.New("OOM"))
			h.recordResult(ctx, "compare the state of a", nil)
			h.recordResult(ctx, "listen", nil)
			time.Sleep(4 * time.Second)
			if h.Health().Up {
				t.Fatal("Redis is up while an operation fails")
			}
		}
		h.recordResult(ctx, "decide the state of a", nil)
		if got := h.Health(); !got.Up || got.LastError != "OOM" || got.Errors != 500 {
			t.Errorf("%+v", got)
		}
		if lines := strings.Count(log.String(), "\n"); lines != 3 {
			t.Errorf("%d lines:\n%s", lines, log.String())
		}
	})
}

func TestOldFailuresExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		h := newRecorder(&log)
		h.recordResult(t.Context(), "acquire the lease of a", errors.New("no answer"))
		time.Sleep(failureTTL + time.Second)
		if !h.Health().Up {
			t.Error("Redis is down after the failure expired")
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		h.recordResult(over, "compare the state of a", errors.New("cancelled"))
		if got := h.Health(); !got.Up {
			t.Errorf("a canceled operation counts as a failure: %+v", got)
		}
	})
}
