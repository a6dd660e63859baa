package refcount

import "testing"

func TestCounterOpensAndClosesOnce(t *testing.T) {
	var c Counter
	opened, closed := 0, 0
	open, closeIt := func() { opened++ }, func() { closed++ }
	c.Acquire(open)
	c.Acquire(open)
	c.Release(closeIt)
	if opened != 1 || closed != 0 {
		t.Errorf("with a user left: opened %d times, closed %d times", opened, closed)
	}
	c.Release(closeIt)
	c.Acquire(open)
	if opened != 2 || closed != 1 {
		t.Errorf("with a new first user: opened %d times, closed %d times", opened, closed)
	}
}
