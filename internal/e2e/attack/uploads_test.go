package attack

import (
	"io"
	"net/http"
	"sync"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// A hundred clients that send bodies without a pause and without an end, all too slowly:
// whatever the proxy is doing at the moment when their time is up, the clients are to
// blame. Their time is more than a busy machine needs to connect all of them to the upstream.
func TestManySlowUploadsDoNotOpenBreaker(t *testing.T) {
	t.Parallel()
	u := startWitness(t)
	p := harness.StartProxy(t, harness.Options{Config: oneMistake(u.URL(), ", timeout: 3")})
	var clients sync.WaitGroup
	for range 100 {
		clients.Go(func() {
			c, r := p.Dial()
			defer c.Close()
			_, _ = io.WriteString(c, "POST /svc HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
			go dribble(c, "", "x")
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if answer := harness.ReadResponse(t, res, nil); answer.Status != 408 {
				t.Errorf("%+v", answer)
			}
		})
	}
	clients.Wait()
	checkUnharmed(p)
}
