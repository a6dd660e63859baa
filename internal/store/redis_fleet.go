package store

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Each script touches one key, so that a cluster can run it wherever that is.
var (
	//go:embed lua/merge.lua
	mergeSource string
	//go:embed lua/decide.lua
	decideSource string
	//go:embed lua/acquire.lua
	acquireSource string
	//go:embed lua/renew.lua
	renewSource string
	//go:embed lua/release.lua
	releaseSource string

	mergeScript   = redis.NewScript(mergeSource)
	decideScript  = redis.NewScript(decideSource)
	acquireScript = redis.NewScript(acquireSource)
	renewScript   = redis.NewScript(renewSource)
	releaseScript = redis.NewScript(releaseSource)
)

// Decision is a state that an instance wants to be the fleet's.
type Decision struct {
	// State is what is decided. Its epoch is not used: the store gives the next one.
	State State
	// Follows is the epoch of the decision that this one follows. It is refused if that is not
	// the last one any more.
	Follows uint64
	// Quorum is how many instances must have found the failure within Window, the deciding one
	// included, which found it Age ago; 0 wants no finding.
	Quorum      int
	Window, Age time.Duration
}

// Verdict is what became of a Decision.
type Verdict string

// The verdicts on a decision.
const (
	Accepted Verdict = "accepted" // it is the fleet's state now
	Counted  Verdict = "counted"  // the finding counts, but is not enough by itself
	Outdated Verdict = "outdated" // another decision came first
)

// Merge stores s if it is newer than what is kept, and returns what is kept then, and the time
// by Redis's clock.
func (r *Redis) Merge(ctx context.Context, s State) (kept State, now time.Time, err error) {
	err = r.do(ctx, "compare the state", s.Service, func(ctx context.Context) error {
		now, kept, err = r.merge(ctx, s, false)
		return err
	})
	return kept, now, err
}

func (r *Redis) merge(ctx context.Context, s State, replace bool) (now time.Time, kept State, err error) {
	args := append([]any{s.Epoch, r.config.TTL().Milliseconds(), r.config.Namespace + eventsChannel, flag(replace)}, fieldsOf(s)...)
	reply, err := mergeScript.Run(ctx, r.client, []string{r.key(stateKey, s.Service)}, args...).Slice()
	if err != nil {
		return time.Time{}, State{}, err
	}
	return parseReply(s.Service, reply)
}

// Decide makes a decision the fleet's if it may be, and returns what is kept then, and the time
// by Redis's clock.
func (r *Redis) Decide(ctx context.Context, d Decision) (verdict Verdict, kept State, now time.Time, err error) {
	service := d.State.Service
	args := append([]any{d.Follows, r.config.TTL().Milliseconds(), r.config.Namespace + eventsChannel, d.State.Instance,
		d.Quorum, d.Window.Milliseconds(), d.Age.Milliseconds()}, decisionOf(d.State)...)
	err = r.do(ctx, "decide the state", service, func(ctx context.Context) error {
		reply, err := decideScript.Run(ctx, r.client, []string{r.key(stateKey, service)}, args...).Slice()
		if err != nil {
			return err
		}
		if len(reply) < 4 {
			return errReply
		}
		word, _ := reply[3].(string)
		verdict = Verdict(word)
		now, kept, err = parseReply(service, reply)
		return err
	})
	return verdict, kept, now, err
}

// Acquire takes the lease to probe for a token, for a time, or keeps it if it is the token's. If
// it is another's, that one is told that the lease is wanted, and busy is how long it lasts.
func (r *Redis) Acquire(ctx context.Context, service, token string, d time.Duration) (busy time.Duration, err error) {
	err = r.do(ctx, "acquire the lease", service, func(ctx context.Context) error {
		ms, err := acquireScript.Run(ctx, r.client, []string{r.key(leaseKey, service)}, token, d.Milliseconds()).Int64()
		busy = time.Duration(ms) * time.Millisecond
		return err
	})
	return busy, err
}

// Renew keeps the lease for another d. kept is false if it is the token's no more; wanted tells
// that another instance waits for it.
func (r *Redis) Renew(ctx context.Context, service, token string, d time.Duration) (kept, wanted bool, err error) {
	err = r.do(ctx, "renew the lease", service, func(ctx context.Context) error {
		n, err := renewScript.Run(ctx, r.client, []string{r.key(leaseKey, service)}, token, d.Milliseconds()).Int64()
		kept, wanted = n > 0, n > 1
		return err
	})
	return kept, wanted, err
}

// Release gives the lease up, if it is still the token's.
func (r *Redis) Release(ctx context.Context, service, token string) error {
	return r.do(ctx, "release the lease", service, func(ctx context.Context) error {
		return releaseScript.Run(ctx, r.client, []string{r.key(leaseKey, service)}, token).Err()
	})
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

var errReply = errors.New("the reply of a script makes no sense")

// parseReply reads what merge.lua and decide.lua tell: the time, and the state that is kept,
// which has epoch 0 where there is none.
func parseReply(service string, reply []any) (now time.Time, kept State, err error) {
	if len(reply) < 3 {
		return time.Time{}, State{}, errReply
	}
	seconds, err1 := strconv.ParseInt(fmt.Sprint(reply[0]), 10, 64)
	micros, err2 := strconv.ParseInt(fmt.Sprint(reply[1]), 10, 64)
	pairs, ok := reply[2].([]any)
	if err1 != nil || err2 != nil || !ok {
		return time.Time{}, State{}, errReply
	}
	fields := make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		fields[fmt.Sprint(pairs[i])] = fmt.Sprint(pairs[i+1])
	}
	kept, found, err := parseFields(service, fields)
	if !found {
		kept = State{Service: service}
	}
	return time.Unix(seconds, micros*1000), kept, err
}
