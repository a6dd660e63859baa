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

func redisBoard(t testing.TB, server *redistest.Server) *store.Redis {
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

// boards is a server and its model, to which the same happens. They number decisions each by
// its own clock.
type boards struct {
	t      *testing.T
	random *rand.Rand
	real   *store.Redis
	model  *memoryBoard
	epochs [][2]uint64 // of each decision, in both
}

// same compares two states but for their epochs' values.
func (b *boards) same(what string, real, model store.State) {
	b.t.Helper()
	e := [2]uint64{real.Epoch, model.Epoch}
	for _, known := range b.epochs {
		if known[0] == e[0] != (known[1] == e[1]) {
			b.t.Fatalf("%s: epochs %v, known are %v", what, e, b.epochs)
		}
	}
	b.epochs = append(b.epochs, e)
	real.Epoch, model.Epoch = 0, 0
	if real != model {
		b.t.Fatalf("%s: Redis keeps %+v, the model %+v", what, real, model)
	}
}

// state returns a random one, and two epochs to go with it: those of an earlier decision, or
// later ones than any.
func (b *boards) state() (s store.State, epochs [2]uint64) {
	at := time.Date(2026, 1, 1, 0, 0, b.random.IntN(100), 0, time.UTC)
	s = store.State{
		Service: "svc", State: events.States[b.random.IntN(3)], Timestamp: at, Instance: fmt.Sprint("i", b.random.IntN(4)),
		OpenedAt: at, Until: at.Add(time.Minute), Failures: b.random.IntN(5), Openings: b.random.IntN(3), Cause: events.CauseForced,
	}
	epochs = b.epochs[b.random.IntN(len(b.epochs))]
	if b.random.IntN(8) == 0 {
		newest := b.epochs[0]
		for _, e := range b.epochs {
			newest = [2]uint64{max(newest[0], e[0]), max(newest[1], e[1])}
		}
		epochs = [2]uint64{newest[0] + 1e6, newest[1] + 1e6}
	}
	return s, epochs
}

func (b *boards) merge() {
	s, epochs := b.state()
	inReal, inModel := s, s
	inReal.Epoch, inModel.Epoch = epochs[0], epochs[1]
	real, _, err1 := b.real.Merge(b.t.Context(), inReal)
	model, _, err2 := b.model.Merge(b.t.Context(), inModel)
	if err1 != nil || err2 != nil {
		b.t.Fatal(err1, err2)
	}
	b.same("merge", real, model)
}

func (b *boards) decide() {
	s, epochs := b.state()
	if b.random.IntN(2) == 0 {
		epochs = b.epochs[len(b.epochs)-1] // most likely the last one
	}
	d := store.Decision{State: s, Quorum: b.random.IntN(4), Window: time.Hour, Age: time.Duration(b.random.IntN(70)) * time.Minute}
	inReal, inModel := d, d
	inReal.Follows, inModel.Follows = epochs[0], epochs[1]
	v1, real, now, err1 := b.real.Decide(b.t.Context(), inReal)
	v2, model, _, err2 := b.model.Decide(b.t.Context(), inModel)
	if err1 != nil || err2 != nil {
		b.t.Fatal(err1, err2)
	}
	if v1 != v2 || time.Since(now).Abs() > time.Minute {
		b.t.Fatalf("decide: Redis says %s at %v, the model %s", v1, now, v2)
	}
	b.same("decide "+string(v1), real, model)
}

func (b *boards) lease() {
	token := fmt.Sprint("i", b.random.IntN(3), "/1")
	ctx := b.t.Context()
	switch b.random.IntN(4) {
	case 0, 1:
		real, err1 := b.real.Acquire(ctx, "svc", token, time.Hour)
		model, err2 := b.model.Acquire(ctx, "svc", token, time.Hour)
		if err1 != nil || err2 != nil || real > 0 != (model > 0) || (real-model).Abs() > time.Minute {
			b.t.Fatalf("acquire: Redis says %v, %v, the model %v, %v", real, err1, model, err2)
		}
	case 2:
		kept1, wanted1, err1 := b.real.Renew(ctx, "svc", token, time.Hour)
		kept2, wanted2, err2 := b.model.Renew(ctx, "svc", token, time.Hour)
		if err1 != nil || err2 != nil || kept1 != kept2 || wanted1 != wanted2 {
			b.t.Fatalf("renew: Redis says %v, %v, %v, the model %v, %v, %v", kept1, wanted1, err1, kept2, wanted2, err2)
		}
	default:
		if err := b.real.Release(ctx, "svc", token); err != nil {
			b.t.Fatal(err)
		}
		_ = b.model.Release(ctx, "svc", token)
	}
}

// The simulation's board is a model of the scripts: whatever is asked, they answer the same.
func TestRedisAnswersAsTheSimulatedBoard(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			b := &boards{
				t: t, random: rand.New(rand.NewPCG(seed, 9)), real: redisBoard(t, server), model: newMemoryBoard(),
				epochs: [][2]uint64{{0, 0}},
			}
			for range 300 {
				[]func(){b.merge, b.decide, b.decide, b.lease}[b.random.IntN(4)]()
			}
		})
	}
}

func TestLeaseEndsByItself(t *testing.T) {
	t.Parallel()
	b := redisBoard(t, redistest.Start(t))
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
		t.Errorf("the lease ended after %v", took)
	}
	if kept, _, err := b.Renew(t.Context(), "svc", "a/1", time.Hour); kept || err != nil {
		t.Errorf("a lease that has ended was renewed: %v", err)
	}
}

// Of many that decide at once, one does; of many that find a failure at once, all count.
func TestDecisionsAreMadeOneAtATime(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	const all = 20
	var boards [all]*store.Redis
	for i := range boards {
		boards[i] = redisBoard(t, server)
	}
	kept, _, err := boards[0].Merge(t.Context(), store.State{Service: "svc"})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 20 {
		var deciding sync.WaitGroup
		verdicts := make([]store.Verdict, all)
		for i, b := range boards {
			deciding.Go(func() {
				d := store.Decision{
					State:   store.State{Service: "svc", State: events.States[round%3], Instance: fmt.Sprint("i", i)},
					Follows: kept.Epoch, Quorum: (round % 2) * all, Window: time.Minute,
				}
				verdicts[i], _, _, _ = b.Decide(t.Context(), d)
			})
		}
		deciding.Wait()
		count := map[store.Verdict]int{}
		for _, v := range verdicts {
			count[v]++
		}
		want := map[store.Verdict]int{store.Accepted: 1, store.Outdated: all - 1}
		if round%2 == 1 {
			want = map[store.Verdict]int{store.Accepted: 1, store.Counted: all - 1}
		}
		if fmt.Sprint(count) != fmt.Sprint(want) {
			t.Errorf("round %d: %v, want %v", round, count, want)
		}
		before := kept.Epoch
		if kept, _, err = boards[0].Merge(t.Context(), kept); err != nil || kept.Epoch <= before {
			t.Fatal(kept, err)
		}
	}
}
