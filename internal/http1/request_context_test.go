package http1

import (
	"context"
	"testing"
	"testing/synctest"
)

// Package context must find in it all that it needs, so that what is derived from it ends with it.
func TestRequestContextEndsWhatIsDerivedFromIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		c := &requestContext{Context: context.WithValue(context.Background(), key{}, "value")}
		derived, cancel := context.WithCancelCause(c)
		defer cancel(nil)
		ran, stopped := false, false
		context.AfterFunc(c, func() { ran = true })
		stop := context.AfterFunc(c, func() { stopped = true })
		left, leave := context.WithCancel(c)
		leave()
		if c.Err() != nil || derived.Err() != nil || !stop() || stop() || left.Err() == nil {
			t.Fatal("it has ended before its time, or what was derived from it has not")
		}
		if n := len(c.afters); n != 2 {
			t.Errorf("%d wait for its end, want 2", n)
		}
		c.cancel()
		c.cancel()
		<-c.Done()
		<-derived.Done()
		synctest.Wait()
		if c.Err() != context.Canceled || context.Cause(derived) != context.Canceled || !ran || stopped || derived.Value(key{}) != "value" {
			t.Errorf("%v, %v, ran %v, stopped %v", c.Err(), context.Cause(derived), ran, stopped)
		}
		late := false
		if context.AfterFunc(c, func() { late = true })() {
			t.Error("what comes after the end can be kept from running")
		}
		synctest.Wait()
		if !late {
			t.Error("what comes after the end was not run")
		}
	})
}
