package http1

import (
	"context"
	"testing"
	"testing/synctest"
)

// Contexts that package context derives from a requestContext end with it.
func TestRequestContextEndsDerivedContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		c := &requestContext{Context: context.WithValue(context.Background(), key{}, "value")}
		derived, cancel := context.WithCancelCause(c)
		defer cancel(nil)
		ran, stoppedRan := false, false
		context.AfterFunc(c, func() { ran = true })
		stop := context.AfterFunc(c, func() { stoppedRan = true })
		early, cancelEarly := context.WithCancel(c)
		cancelEarly()
		if c.Err() != nil || derived.Err() != nil || !stop() || stop() || early.Err() == nil {
			t.Fatal("the context has ended too early, or Stop does not work")
		}
		if n := len(c.afters); n != 2 {
			t.Errorf("%d functions are registered, want 2", n)
		}
		c.cancel()
		c.cancel()
		<-c.Done()
		<-derived.Done()
		synctest.Wait()
		if c.Err() != context.Canceled || context.Cause(derived) != context.Canceled || !ran || stoppedRan || derived.Value(key{}) != "value" {
			t.Errorf("%v, %v, ran %v, stopped function ran %v", c.Err(), context.Cause(derived), ran, stoppedRan)
		}
		late := false
		if context.AfterFunc(c, func() { late = true })() {
			t.Error("a function that is registered after the end can be stopped")
		}
		synctest.Wait()
		if !late {
			t.Error("a function that is registered after the end was not run")
		}
	})
}
