package fleet

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/redistest"
	"cbproxy/internal/store"
)

func newRedis(t testing.TB, server *redistest.Server) *store.Redis {
	t.Helper()
	r, err := store.NewRedis(store.RedisConfig{
		URL: server.URL(), Namespace: t.Name() + ":", TTL: func() time.Duration { return time.Minute },
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// comparison sends the same requests to a Redis server and to its model. Each assigns epochs by
// its own clock.
type comparison struct {
	t      *testing.T
	random *rand.Rand
	real   *store.Redis
	model  *memoryCoordinator
	epochs [][2]uint64 // of each decision, in Redis and in the model
}

// requireEqual compares two states. Their epochs must belong to the same decision.
func (c *comparison) requireEqual(what string, real, model store.State) {
	c.t.Helper()
	e := [2]uint64{real.Epoch, model.Epoch}
	for _, known := range c.epochs {
		if known[0] == e[0] != (known[1] == e[1]) {
			c.t.Fatalf("%s: epochs %v, known are %v", what, e, c.epochs)
		}
	}
	c.epochs = append(c.epochs, e)
	real.Epoch, model.Epoch = 0, 0
	if real != model {
		c.t.Fatalf("%s: Redis has %+v, the model %+v", what, real, model)
	}
}

// randomState returns a random state and an epoch for each store: those of an earlier decision,
// or newer ones than any.
func (c *comparison) randomState() (s store.State, epochs [2]uint64) {
	at := time.Date(2026, 1, 1, 0, 0, c.random.IntN(100), 0, time.UTC)
	s = store.State{
		Service: "svc", State: events.States[c.random.IntN(3)], Timestamp: at, Instance: fmt.Sprint("i", c.random.IntN(4)),
		OpenedAt: at, Until: at.Add(time.Minute), Failures: c.random.IntN(5), ConsecutiveOpens: c.random.IntN(3), Cause: events.CauseForced,
	}
	epochs = c.epochs[c.random.IntN(len(c.epochs))]
	if c.random.IntN(8) == 0 {
		newest := c.epochs[0]
		for _, e := range c.epochs {
			newest = [2]uint64{max(newest[0], e[0]), max(newest[1], e[1])}
		}
		epochs = [2]uint64{newest[0] + 1e6, newest[1] + 1e6}
	}
	return s, epochs
}

func (c *comparison) merge() {
	s, epochs := c.randomState()
	inReal, inModel := s, s
	inReal.Epoch, inModel.Epoch = epochs[0], epochs[1]
	real, _, err1 := c.real.Merge(c.t.Context(), inReal)
	model, _, err2 := c.model.Merge(c.t.Context(), inModel)
	if err1 != nil || err2 != nil {
		c.t.Fatal(err1, err2)
	}
	c.requireEqual("merge", real, model)
}

func (c *comparison) decide() {
	s, epochs := c.randomState()
	if c.random.IntN(2) == 0 {
		epochs = c.epochs[len(c.epochs)-1] // most likely the last one
	}
	d := store.Proposal{State: s, Quorum: c.random.IntN(4), Window: time.Hour, Age: time.Duration(c.random.IntN(70)) * time.Minute}
	inReal, inModel := d, d
	inReal.Follows, inModel.Follows = epochs[0], epochs[1]
	v1, real, now, err1 := c.real.Propose(c.t.Context(), inReal)
	v2, model, _, err2 := c.model.Propose(c.t.Context(), inModel)
	if err1 != nil || err2 != nil {
		c.t.Fatal(err1, err2)
	}
	if v1 != v2 || time.Since(now).Abs() > time.Minute {
		c.t.Fatalf("decide: Redis returns %s at %v, the model %s", v1, now, v2)
	}
	c.requireEqual("decide "+string(v1), real, model)
}

func (c *comparison) lease() {
	token := fmt.Sprint("i", c.random.IntN(3), "/1")
	ctx := c.t.Context()
	switch c.random.IntN(4) {
	case 0, 1:
		real, err1 := c.real.Acquire(ctx, "svc", token, time.Hour)
		model, err2 := c.model.Acquire(ctx, "svc", token, time.Hour)
		if err1 != nil || err2 != nil || real > 0 != (model > 0) || (real-model).Abs() > time.Minute {
			c.t.Fatalf("acquire: Redis returns %v, %v, the model %v, %v", real, err1, model, err2)
		}
	case 2:
		kept1, wanted1, err1 := c.real.Renew(ctx, "svc", token, time.Hour)
		kept2, wanted2, err2 := c.model.Renew(ctx, "svc", token, time.Hour)
		if err1 != nil || err2 != nil || kept1 != kept2 || wanted1 != wanted2 {
			c.t.Fatalf("renew: Redis returns %v, %v, %v, the model %v, %v, %v", kept1, wanted1, err1, kept2, wanted2, err2)
		}
	default:
		if err := c.real.Release(ctx, "svc", token); err != nil {
			c.t.Fatal(err)
		}
		_ = c.model.Release(ctx, "svc", token)
	}
}

// The simulation relies on memoryCoordinator responding to every request like the Redis scripts.
func TestRedisMatchesMemoryCoordinator(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := &comparison{
				t: t, random: rand.New(rand.NewPCG(seed, 9)), real: newRedis(t, server), model: newMemoryCoordinator(),
				epochs: [][2]uint64{{0, 0}},
			}
			for range 300 {
				[]func(){c.merge, c.decide, c.decide, c.lease}[c.random.IntN(4)]()
			}
		})
	}
}

func TestLeaseExpires(t *testing.T) {
	t.Parallel()
	b := newRedis(t, redistest.Start(t))
	if busy, err := b.Acquire(t.Context(), "svc", "a/1", 100*time.Millisecond); busy != 0 || err != nil {
		t.Fatal(busy, err)
	}
	begin := time.Now()
	for {
		busy, err := b.Acquire(t.Context(), "svc", "b/1", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if busy == 0 {
			break
		}
		time.Sleep(busy)
	}
	if took := time.Since(begin); took < 90*time.Millisecond {
		t.Errorf("the lease expired after %v", took)
	}
	if kept, _, err := b.Renew(t.Context(), "svc", "a/1", time.Hour); kept || err != nil {
		t.Errorf("an expired lease was renewed: %v", err)
	}
}

// Of many concurrent decisions one is accepted; of many concurrent findings all count.
func TestConcurrentDecisionsAreSerialized(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	const all = 20
	var stores [all]*store.Redis
	for i := range stores {
		stores[i] = newRedis(t, server)
	}
	kept, _, err := stores[0].Merge(t.Context(), store.State{Service: "svc"})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 20 {
		var deciding sync.WaitGroup
		verdicts := make([]store.ProposalResult, all)
		for i, b := range stores {
			deciding.Go(func() {
				d := store.Proposal{
					State:   store.State{Service: "svc", State: events.States[round%3], Instance: fmt.Sprint("i", i)},
					Follows: kept.Epoch, Quorum: (round % 2) * all, Window: time.Minute,
				}
				verdicts[i], _, _, _ = b.Propose(t.Context(), d)
			})
		}
		deciding.Wait()
		count := map[store.ProposalResult]int{}
		for _, v := range verdicts {
			count[v]++
		}
		want := map[store.ProposalResult]int{store.Accepted: 1, store.Outdated: all - 1}
		if round%2 == 1 {
			want = map[store.ProposalResult]int{store.Accepted: 1, store.QuorumNotReached: all - 1}
		}
		if fmt.Sprint(count) != fmt.Sprint(want) {
			t.Errorf("round %d: %v, want %v", round, count, want)
		}
		before := kept.Epoch
		if kept, _, err = stores[0].Merge(t.Context(), kept); err != nil || kept.Epoch <= before {
			t.Fatal(kept, err)
		}
	}
}
