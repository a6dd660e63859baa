package store

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Each script uses several keys of one service. The braces around the service's name in the keys put them into the same slot of a
// cluster.
var (
	//go:embed lua/queue_common.lua
	queueCommonSource string
	//go:embed lua/queue_push.lua
	queuePushSource string
	//go:embed lua/queue_drop.lua
	queueDropSource string
	//go:embed lua/queue_heartbeat.lua
	queueHeartbeatSource string
	//go:embed lua/queue_claim.lua
	queueClaimSource string
	//go:embed lua/queue_complete_takeover.lua
	queueCompleteTakeoverSource string
	//go:embed lua/queue_reclaim.lua
	queueReclaimSource string
	//go:embed lua/queue_release.lua
	queueReleaseSource string

	queuePushScript             = redis.NewScript(queueCommonSource + queuePushSource)
	queueDropScript             = redis.NewScript(queueDropSource)
	queueHeartbeatScript        = redis.NewScript(queueHeartbeatSource)
	queueClaimScript            = redis.NewScript(queueCommonSource + queueClaimSource)
	queueCompleteTakeoverScript = redis.NewScript(queueCommonSource + queueCompleteTakeoverSource)
	queueReclaimScript          = redis.NewScript(queueCommonSource + queueReclaimSource)
	queueReleaseScript          = redis.NewScript(queueCommonSource + queueReleaseSource)
)

// Copies holds copies of the records of one instance's queue in Redis, so that another instance can take them over. For each service
// there is a stream with a consumer group, in which each instance is the consumer of its copies, and for each instance an index from
// records to copies and a heartbeat key. Safe for concurrent use.
type Copies struct {
	redis   *Redis
	storeID string
}

// Copies returns the copies of the records of one queue store, which a persistent ID identifies, see disk.Store.ID.
func (r *Redis) Copies(storeID string) *Copies { return &Copies{r, storeID} }

func (c *Copies) key(service string) string {
	return c.redis.config.Namespace + "cbproxy_queue:{" + service + "}"
}

func (c *Copies) indexes(service string) string    { return c.key(service) + ":index:" }
func (c *Copies) heartbeats(service string) string { return c.key(service) + ":alive:" }

func (c *Copies) keys(service string) []string {
	return []string{c.key(service), c.indexes(service) + c.storeID}
}

// CopyRecord is a record to be copied.
type CopyRecord struct {
	Seq     uint64
	Payload []byte
}

// Push adds copies of records that have none.
func (c *Copies) Push(ctx context.Context, service string, records []CopyRecord) error {
	args := make([]any, 1, 1+2*len(records))
	args[0] = c.storeID
	for i := range records {
		args = append(args, records[i].Seq, records[i].Payload)
	}
	return c.redis.do(ctx, "copy the queue", service, func(ctx context.Context) error {
		return queuePushScript.Run(ctx, c.redis.client, c.keys(service), args...).Err()
	})
}

// Drop removes the copies of records from Redis.
func (c *Copies) Drop(ctx context.Context, service string, seqs []uint64) error {
	args := make([]any, len(seqs))
	for i, seq := range seqs {
		args[i] = seq
	}
	return c.redis.do(ctx, "remove copies of the queue", service, func(ctx context.Context) error {
		return queueDropScript.Run(ctx, c.redis.client, c.keys(service), args...).Err()
	})
}

// CopyState is the state of a record's copy.
type CopyState int

// The states of copies.
const (
	CopyMissing   CopyState = iota // there is no copy
	CopyPresent                    // there is a copy of the record
	CopyTakenOver                  // another instance has taken the record over
)

// Copy describes the copy of a record.
type Copy struct {
	State CopyState
	// Digest is the digest of the payload that was taken over, "" if none was. A store that was restored or copied may have another
	// record with the same number.
	Digest string
}

// parseCopy parses the value of a record in the index.
func parseCopy(value any) Copy {
	text, found := value.(string)
	digest, takenOver := strings.CutPrefix(text, "done ")
	switch {
	case !found:
		return Copy{State: CopyMissing}
	case takenOver:
		return Copy{CopyTakenOver, digest}
	}
	return Copy{State: CopyPresent}
}

// Digest returns a hash that identifies a payload.
func Digest(payload []byte) string {
	sum := sha256.Sum256(payload)
	return hex.EncodeToString(sum[:16])
}

// States returns the states of the copies of records.
func (c *Copies) States(ctx context.Context, service string, seqs []uint64) (states []CopyState, err error) {
	fields := make([]string, len(seqs))
	for i, seq := range seqs {
		fields[i] = strconv.FormatUint(seq, 10)
	}
	err = c.redis.do(ctx, "compare the queue", service, func(ctx context.Context) error {
		values, err := c.redis.client.HMGet(ctx, c.indexes(service)+c.storeID, fields...).Result()
		if err == nil && len(values) != len(seqs) {
			err = errReply
		}
		if err != nil {
			return err
		}
		states = make([]CopyState, len(values))
		for i, value := range values {
			states[i] = parseCopy(value).State
		}
		return nil
	})
	return states, err
}

// Scan returns some of the copies by sequence number, and the cursor for the next call, which is 0 at the end. The first call has the
// cursor 0.
func (c *Copies) Scan(ctx context.Context, service string, cursor uint64) (copies map[uint64]Copy, next uint64, err error) {
	err = c.redis.do(ctx, "compare the queue", service, func(ctx context.Context) error {
		var pairs []string
		pairs, next, err = c.redis.client.HScan(ctx, c.indexes(service)+c.storeID, cursor, "*", scanCount).Result()
		if err == nil {
			copies, err = parseCopies(pairs)
		}
		return err
	})
	return copies, next, err
}

const scanCount = 500

// Heartbeat marks the instance as alive for a duration, and its copies as to be kept for another. wasAlive is false if the previous
// heartbeat had expired or there was none. copies is the number of records that have copies or were taken over.
func (c *Copies) Heartbeat(ctx context.Context, service string, alive, keep time.Duration) (wasAlive bool, copies int, err error) {
	err = c.redis.do(ctx, "send the heartbeat of the queue", service, func(ctx context.Context) error {
		keys := append([]string{c.heartbeats(service) + c.storeID}, c.keys(service)...)
		reply, err := queueHeartbeatScript.Run(ctx, c.redis.client, keys, alive.Milliseconds(), keep.Milliseconds()).Int64Slice()
		if err == nil && len(reply) != 2 {
			err = errReply
		}
		if err == nil {
			wasAlive, copies = reply[0] == 1, int(reply[1])
		}
		return err
	})
	return wasAlive, copies, err
}

// RemoveHeartbeat removes the heartbeat, so that other instances take over the records without delay.
func (c *Copies) RemoveHeartbeat(ctx context.Context, service string) error {
	return c.redis.do(ctx, "remove the heartbeat of the queue", service, func(ctx context.Context) error {
		return c.redis.client.Del(ctx, c.heartbeats(service)+c.storeID).Err()
	})
}
