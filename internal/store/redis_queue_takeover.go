package store

import (
	"context"
	"strconv"
	"time"
)

// Claimed is a copy of a record of a failed instance.
type Claimed struct {
	// ID is the ID of the copy.
	ID string
	// StoreID is the ID of the store that has the record, and Seq the record's sequence number there.
	StoreID string
	Seq     string
	Payload []byte
	// Digest is the digest of the payload.
	Digest string
}

// claimBytes is the size of the payloads after which Claim claims no more, so that the reply arrives within the timeout. With the other
// parts of the reply they have less than claimReplyBytes.
const (
	claimBytes      = 960 << 10
	claimReplyBytes = 1 << 20
)

// Claim returns up to limit copies of failed instances. It returns fewer if they exceed claimBytes together, and omits those that are larger
// than a reply may be. No other instance gets them while this one sends heartbeats, unless it calls Release.
func (c *Copies) Claim(ctx context.Context, service string, limit int) (claimed []Claimed, err error) {
	err = c.redis.do(ctx, "take over queues", service, func(ctx context.Context) error {
		reply, err := queueClaimScript.Run(ctx, c.redis.client, []string{c.key(service)},
			c.storeID, c.heartbeats(service), c.indexes(service), limit, claimBytes, c.redis.config.replyLimit()-claimReplyBytes).Slice()
		if err != nil {
			return err
		}
		for _, row := range reply {
			texts, ok := parseTexts(row)
			if !ok || len(texts) != 4 {
				return errReply
			}
			payload := []byte(texts[3])
			claimed = append(claimed, Claimed{texts[0], texts[1], texts[2], payload, Digest(payload)})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// parseTexts returns the elements of a reply that are all strings.
func parseTexts(reply any) (texts []string, ok bool) {
	values, ok := reply.([]any)
	for _, value := range values {
		text, isText := value.(string)
		texts, ok = append(texts, text), ok && isText
	}
	return texts, ok
}

// Release makes the copies that this instance has claimed and not taken over available to other instances.
func (c *Copies) Release(ctx context.Context, service string) error {
	return c.redis.do(ctx, "release copies of queues", service, func(ctx context.Context) error {
		return queueReleaseScript.Run(ctx, c.redis.client, []string{c.key(service)}, c.storeID).Err()
	})
}

// CompleteTakeover replaces a claimed copy by one of this instance's record seq, which must be stored already. The index of the previous
// store shows for the duration keep that it was taken over. repeated is whether a previous call for the same copy has failed. has is false,
// and the record must be removed, if another instance has the record, because this one was considered dead after Claim.
func (c *Copies) CompleteTakeover(ctx context.Context, service string, seq uint64, from *Claimed, keep time.Duration, repeated bool) (has bool, err error) {
	err = c.redis.do(ctx, "take over queues", service, func(ctx context.Context) error {
		n, err := queueCompleteTakeoverScript.Run(ctx, c.redis.client, c.keys(service),
			c.storeID, seq, from.ID, from.StoreID, from.Seq, c.indexes(service), keep.Milliseconds(), from.Digest, flag(repeated)).Int64()
		if err == nil && n != 0 && n != 1 {
			err = errReply
		}
		has = n != 0
		return err
	})
	return has, err
}

// Reclaim makes this instance the consumer of the copies of its records again, if other instances have claimed them and not completed the
// takeover. It returns the copies that other instances have taken over. States does not show copies any more that do not exist.
func (c *Copies) Reclaim(ctx context.Context, service string, seqs []uint64) (takenOver map[uint64]Copy, err error) {
	args := append(make([]any, 0, 1+len(seqs)), c.storeID)
	for _, seq := range seqs {
		args = append(args, seq)
	}
	err = c.redis.do(ctx, "compare the queue", service, func(ctx context.Context) error {
		reply, err := queueReclaimScript.Run(ctx, c.redis.client, c.keys(service), args...).StringSlice()
		if err != nil {
			return err
		}
		takenOver, err = parseCopies(reply)
		return err
	})
	return takenOver, err
}

// parseCopies parses numbers of records, each followed by its value in the index. It ignores what is not a number.
func parseCopies(pairs []string) (map[uint64]Copy, error) {
	if len(pairs)%2 != 0 {
		return nil, errReply
	}
	copies := make(map[uint64]Copy, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		if seq, err := strconv.ParseUint(pairs[i], 10, 64); err == nil {
			copies[seq] = parseCopy(pairs[i+1])
		}
	}
	return copies, nil
}
