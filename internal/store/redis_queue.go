package store

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// The scripts of the queues touch several keys, all of one service, which a cluster keeps in one
// place for the braces around the service's name.
var (
	//go:embed lua/queue_take.lua
	queueTakeSource string
	//go:embed lua/queue_push.lua
	queuePushSource string
	//go:embed lua/queue_drop.lua
	queueDropSource string
	//go:embed lua/queue_beat.lua
	queueBeatSource string
	//go:embed lua/queue_claim.lua
	queueClaimSource string
	//go:embed lua/queue_adopt.lua
	queueAdoptSource string

	queuePushScript  = redis.NewScript(queueTakeSource + queuePushSource)
	queueDropScript  = redis.NewScript(queueDropSource)
	queueBeatScript  = redis.NewScript(queueBeatSource)
	queueClaimScript = redis.NewScript(queueTakeSource + queueClaimSource)
	queueAdoptScript = redis.NewScript(queueAdoptSource)
)

// Copies is what an instance has in Redis of the records of its Queue, so that another one can
// take them over: a stream a service with a consumer group in which each instance is the
// consumer of what it keeps, an index an instance of which copy is of which record, and a sign
// of life an instance. Safe for concurrent use.
type Copies struct {
	redis  *Redis
	origin string
}

// Copies returns the copies of the instance with the given lasting name, see Queue.Origin.
func (r *Redis) Copies(origin string) *Copies { return &Copies{r, origin} }

func (c *Copies) key(service string) string {
	return c.redis.config.Namespace + "cbproxy_queue:{" + service + "}"
}

func (c *Copies) indexes(service string) string { return c.key(service) + ":index:" }
func (c *Copies) signs(service string) string   { return c.key(service) + ":alive:" }

func (c *Copies) keys(service string) []string {
	return []string{c.key(service), c.indexes(service) + c.origin}
}

// CopyRecord is a record to be copied.
type CopyRecord struct {
	Seq     uint64
	Payload []byte
}

// Push adds copies of records that have none.
func (c *Copies) Push(ctx context.Context, service string, records []CopyRecord) error {
	args := make([]any, 1, 1+2*len(records))
	args[0] = c.origin
	for i := range records {
		args = append(args, records[i].Seq, records[i].Payload)
	}
	return c.redis.do(ctx, "copy the queue", service, func(ctx context.Context) error {
		return queuePushScript.Run(ctx, c.redis.client, c.keys(service), args...).Err()
	})
}

// Drop removes the copies of records.
func (c *Copies) Drop(ctx context.Context, service string, seqs []uint64) error {
	args := make([]any, len(seqs))
	for i, seq := range seqs {
		args[i] = seq
	}
	return c.redis.do(ctx, "remove copies of the queue", service, func(ctx context.Context) error {
		return queueDropScript.Run(ctx, c.redis.client, c.keys(service), args...).Err()
	})
}

// CopyState is where a record's copy is.
type CopyState int

// The states of copies.
const (
	CopyMissing CopyState = iota // there is none
	CopyKept                     // there is one
	CopyDone                     // another instance has taken the record over
)

// Copy is what Redis knows of a record.
type Copy struct {
	State CopyState
	// Digest is that of the payload that was taken over, "" if none was. Only a record that has
	// it is meant: a store that was restored or copied may have another under the number.
	Digest string
}

func copyOf(value any) Copy {
	text, found := value.(string)
	digest, done := strings.CutPrefix(text, "done ")
	switch {
	case !found:
		return Copy{State: CopyMissing}
	case done:
		return Copy{CopyDone, digest}
	}
	return Copy{State: CopyKept}
}

// Digest tells payloads apart.
func Digest(payload []byte) string {
	sum := sha256.Sum256(payload)
	return hex.EncodeToString(sum[:16])
}

// Look returns the states of records' copies.
func (c *Copies) Look(ctx context.Context, service string, seqs []uint64) (states []CopyState, err error) {
	fields := make([]string, len(seqs))
	for i, seq := range seqs {
		fields[i] = strconv.FormatUint(seq, 10)
	}
	err = c.redis.do(ctx, "compare the queue", service, func(ctx context.Context) error {
		values, err := c.redis.client.HMGet(ctx, c.indexes(service)+c.origin, fields...).Result()
		states = make([]CopyState, len(values))
		for i, value := range values {
			states[i] = copyOf(value).State
		}
		return err
	})
	return states, err
}

// Scan returns some of the records that have copies, with what is known of those, and the cursor
// for more, 0 at the end. It begins with the cursor 0.
func (c *Copies) Scan(ctx context.Context, service string, cursor uint64) (copies map[uint64]Copy, next uint64, err error) {
	err = c.redis.do(ctx, "compare the queue", service, func(ctx context.Context) error {
		var pairs []string
		pairs, next, err = c.redis.client.HScan(ctx, c.indexes(service)+c.origin, cursor, "*", scanCount).Result()
		copies = make(map[uint64]Copy, len(pairs)/2)
		for i := 0; i+1 < len(pairs); i += 2 {
			if seq, err := strconv.ParseUint(pairs[i], 10, 64); err == nil {
				copies[seq] = copyOf(pairs[i+1])
			}
		}
		return err
	})
	return copies, next, err
}

const scanCount = 500

// Beat tells that the instance is alive, which is believed for a time, and that its copies are to
// be kept for another. was is false if it had been taken for dead, or just begins; copies is how
// many records have copies, or were taken over.
func (c *Copies) Beat(ctx context.Context, service string, alive, keep time.Duration) (was bool, copies int, err error) {
	err = c.redis.do(ctx, "tell that the queue is alive", service, func(ctx context.Context) error {
		keys := append([]string{c.signs(service) + c.origin}, c.keys(service)...)
		reply, err := queueBeatScript.Run(ctx, c.redis.client, keys, alive.Milliseconds(), keep.Milliseconds()).Int64Slice()
		if err == nil && len(reply) != 2 {
			err = errReply
		}
		if err == nil {
			was, copies = reply[0] == 1, int(reply[1])
		}
		return err
	})
	return was, copies, err
}

// Leave tells that the instance is about to end: others need not wait to take over.
func (c *Copies) Leave(ctx context.Context, service string) error {
	return c.redis.do(ctx, "tell that the queue ends", service, func(ctx context.Context) error {
		return c.redis.client.Del(ctx, c.signs(service)+c.origin).Err()
	})
}

// Claimed is a copy of a record of an instance that is gone.
type Claimed struct {
	// ID is the copy's own.
	ID string
	// Origin is the instance, and Seq the record's number there.
	Origin  string
	Seq     string
	Payload []byte
}

// Claim returns up to limit copies of instances that are gone, and no more once they are large
// together. Nobody else gets them, unless
// this one dies as well before it has called Adopt.
func (c *Copies) Claim(ctx context.Context, service string, limit int) (claimed []Claimed, err error) {
	err = c.redis.do(ctx, "take over queues", service, func(ctx context.Context) error {
		reply, err := queueClaimScript.Run(ctx, c.redis.client, []string{c.key(service)}, c.origin, c.signs(service), limit, claimBytes).Slice()
		if err != nil {
			return err
		}
		for _, row := range reply {
			fields, _ := row.([]any)
			if len(fields) != 4 {
				return errReply
			}
			claimed = append(claimed, Claimed{fmt.Sprint(fields[0]), fmt.Sprint(fields[1]), fmt.Sprint(fields[2]), []byte(fmt.Sprint(fields[3]))})
		}
		return nil
	})
	return claimed, err
}

// claimBytes is how much is claimed at once, so that it is here in time.
const claimBytes = 1 << 20

// Adopt makes a claimed copy that of this instance's own record seq, which must be kept by now.
// Its origin is told for a time that it is.
func (c *Copies) Adopt(ctx context.Context, service string, seq uint64, from Claimed, keep time.Duration) error {
	return c.redis.do(ctx, "take over queues", service, func(ctx context.Context) error {
		return queueAdoptScript.Run(ctx, c.redis.client, c.keys(service),
			c.origin, seq, from.ID, from.Origin, from.Seq, c.indexes(service), keep.Milliseconds(), Digest(from.Payload)).Err()
	})
}
