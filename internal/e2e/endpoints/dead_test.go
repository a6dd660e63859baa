package endpoints

import (
	"testing"
)

// While two of three endpoints are dead, clients with retries see hardly a failure, although the dead endpoints are tried
// several times.
func TestTwoOfThreeEndpointsDie(t *testing.T) {
	t.Parallel()
	servers, list := startServers(t, 3)
	p := start(t, list, "retry: {attempts: 1}, balance: {eject: {time: 1s}}")
	tr := newTraffic(p, "GET")
	tr.send(200)
	servers[0].kill()
	servers[2].kill()
	tr.send(200) // a second
	from := tr.sent
	tr.send(1600)
	if failed := tr.failedFrom(from); failed.n > 1 {
		t.Errorf("after the first second of 1600 calls have failed: %+v", failed)
	}
	if failed := tr.failedFrom(0); failed.n > 10 {
		t.Errorf("have failed in all: %+v", failed)
	}
	s := statusOf(p)
	if s.State != "closed" || s.states() != "ejected in ejected" || s.ejections() < 4 {
		t.Errorf("%+v", s)
	}
}

// Without retries, the calls that fail are those that find out: five at each dead endpoint, and then each trial.
func TestTwoOfThreeEndpointsDieWithoutRetries(t *testing.T) {
	t.Parallel()
	servers, list := startServers(t, 3)
	p := start(t, list, "balance: {eject: {time: 1s}}")
	tr := newTraffic(p, "POST")
	tr.send(200)
	servers[0].kill()
	servers[2].kill()
	awaitStates(p, "ejected in ejected", func() { tr.send(20) })
	tr.calls.Wait()
	from, before := tr.sent, statusOf(p).ejections()
	tr.send(1200)
	failed := tr.failedFrom(from)
	if trials := statusOf(p).ejections() - before; failed.n != trials || trials < 2 {
		t.Errorf("%d trials, failed calls: %+v", trials, failed)
	}
	servers[0].start()
	awaitStates(p, "in in ejected", func() { tr.send(20) })
	if s := statusOf(p); s.State != "closed" {
		t.Errorf("%+v", s)
	}
}
