package store

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/redis/go-redis/v9"
)

// Each script uses one key, so that it runs in a cluster, too.
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

// Proposal is a state that an instance proposes for the fleet.
type Proposal struct {
	// State is the proposed state. Its epoch is ignored: the store assigns the next one.
	State State
	// Follows is the epoch of the preceding decision. The proposal is rejected if another decision was made since.
	Follows uint64
	// Quorum is the number of instances, including this one, that must have detected the failure within Window. This one detected it
	// Age ago. 0 requires no detection.
	Quorum      int
	Window, Age time.Duration
}

// ProposalResult is the outcome of a Proposal.
type ProposalResult string

// The results.
const (
	Accepted         ProposalResult = "accepted" // the proposed state is the fleet's state now
	QuorumNotReached ProposalResult = "counted"  // the detection was counted, but the quorum is not reached yet
	Outdated         ProposalResult = "outdated" // another decision was made since the one that the proposal follows
)

// Merge stores s if it is newer than the stored state. It returns the stored state afterwards and the time by Redis's clock.
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

// Propose makes p the fleet's state if it is accepted. It returns the result, the stored state afterwards and the time by Redis's clock.
func (r *Redis) Propose(ctx context.Context, p Proposal) (result ProposalResult, kept State, now time.Time, err error) {
	service := p.State.Service
	args := append([]any{p.Follows, r.config.TTL().Milliseconds(), r.config.Namespace + eventsChannel, p.State.Instance,
		p.Quorum, p.Window.Milliseconds(), p.Age.Milliseconds()}, proposalFields(p.State)...)
	err = r.do(ctx, "decide the state", service, func(ctx context.Context) error {
		reply, err := decideScript.Run(ctx, r.client, []string{r.key(stateKey, service)}, args...).Slice()
		if err != nil {
			return err
		}
		if len(reply) < 4 {
			return errReply
		}
		word, _ := reply[3].(string)
		result = ProposalResult(word)
		now, kept, err = parseReply(service, reply)
		return err
	})
	return result, kept, now, err
}

// Acquire acquires the lease to probe for a token and a duration, or extends it if the token holds it. If another token holds it, Acquire
// marks the lease as contended, and busy is how long it lasts.
func (r *Redis) Acquire(ctx context.Context, service, token string, d time.Duration) (busy time.Duration, err error) {
	err = r.do(ctx, "acquire the lease", service, func(ctx context.Context) error {
		ms, err := acquireScript.Run(ctx, r.client, []string{r.key(leaseKey, service)}, token, d.Milliseconds()).Int64()
		busy = time.Duration(ms) * time.Millisecond
		return err
	})
	return busy, err
}

// Renew extends the lease by d. held is false if the token no longer holds it. contended is whether another instance waits for it.
func (r *Redis) Renew(ctx context.Context, service, token string, d time.Duration) (held, contended bool, err error) {
	err = r.do(ctx, "renew the lease", service, func(ctx context.Context) error {
		n, err := renewScript.Run(ctx, r.client, []string{r.key(leaseKey, service)}, token, d.Milliseconds()).Int64()
		held, contended = n > 0, n > 1
		return err
	})
	return held, contended, err
}

// Release releases the lease if the token holds it.
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

var errReply = errors.New("the reply of a script is malformed")

// parseReply parses the reply of merge.lua and decide.lua: the time and the stored state, whose epoch is 0 if none is stored.
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

const (
	listenIdleTimeout = 2 * time.Second // without a message, after which a ping is sent
	listenPingTimeout = time.Second     // for its reply
	listenMaxBackoff  = 2 * time.Second // between attempts to connect
	listenStable      = 5 * time.Second // a connection that lasts so long resets the backoff
)

// Listener receives decisions from the events channel. Its methods are called one at a time.
type Listener interface {
	// Connected is called when the subscription starts. Earlier decisions may have been missed.
	Connected()
	// Alive is called for every message and ping reply, at least every few seconds while Redis is reachable.
	Alive()
	// Decided is called with a decision.
	Decided(s State)
}

// Listen passes decisions to l until ctx is done. It reconnects when the connection is lost.
func (r *Redis) Listen(ctx context.Context, l Listener) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 100*time.Millisecond, listenMaxBackoff
	for ctx.Err() == nil {
		begin := time.Now()
		err := r.listen(ctx, l)
		r.recordResult(ctx, "listen", err)
		if time.Since(begin) > listenStable {
			wait.Reset()
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// listen listens on one connection and returns why it ended.
func (r *Redis) listen(ctx context.Context, l Listener) error {
	sub := r.client.Subscribe(ctx, r.config.Namespace+eventsChannel)
	defer sub.Close()
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })() // interrupts ReceiveTimeout
	pinged := false
	for {
		timeout := listenIdleTimeout
		if pinged {
			timeout = listenPingTimeout
		}
		var message any
		err := recovered(func() (err error) {
			message, err = sub.ReceiveTimeout(ctx, timeout)
			return err
		})
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		case pinged || !errors.Is(plainError(err), errNoAnswer):
			return r.explain("listen to decisions", err)
		default:
			if err := sub.Ping(ctx); err != nil {
				return r.explain("listen to decisions", err)
			}
			pinged = true
			continue
		}
		pinged = false
		switch m := message.(type) {
		case *redis.Subscription:
			l.Connected()
		case *redis.Message:
			var fields map[string]string
			if json.Unmarshal([]byte(m.Payload), &fields) != nil {
				break
			}
			if s, found, err := parseFields(fields["service_name"], fields); found && err == nil {
				l.Decided(s)
			}
		}
		r.recordResult(ctx, "listen", nil)
		l.Alive()
	}
}
