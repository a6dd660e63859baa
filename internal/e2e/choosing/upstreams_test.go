package choosing

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// upstream is a model of an upstream.
type upstream interface {
	http.Handler
	// setFaulty switches the model's fault on or off. A model server has none: its fault is the load.
	setFaulty(bool)
	// wastedAnswers returns how many answers it has worked on for clients that had given up.
	wastedAnswers() int
}

// fault is a switch that the models have in common.
type fault struct{ on atomic.Bool }

func (f *fault) setFaulty(on bool)  { f.on.Store(on) }
func (f *fault) wastedAnswers() int { return 0 }

// replicas models three replicas behind a load balancer that sends requests to each in turn. While it is faulty one of them hangs,
// with its port open, and the load balancer does not notice: every third request gets no response.
type replicas struct {
	fault
	requests atomic.Int64
}

// ServeHTTP implements http.Handler.
func (u *replicas) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	if u.requests.Add(1)%3 == 0 && u.on.Load() {
		<-r.Context().Done()
	}
}

// rateLimited models an API that limits the rate of each client by a token bucket. A request without a token is answered with 429 and
// a Retry-After of one second, the shortest that the field can express.
type rateLimited struct {
	fault
	bucket *rate.Limiter
}

// ServeHTTP implements http.Handler.
func (u *rateLimited) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if !u.bucket.Allow() {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	}
}

// partlyBroken models a service that answers some requests only: while it is faulty, four of ten, at random, need something that is
// broken, and are answered with 500 at once. The randomness has a seed: the same requests fail in each run.
type partlyBroken struct {
	fault
	mu     sync.Mutex
	random *rand.Rand // guarded by mu
}

// ServeHTTP implements http.Handler.
func (u *partlyBroken) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.on.Load() && u.random.Float64() < 0.4 {
		w.WriteHeader(http.StatusInternalServerError)
	}
}
