package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cbproxy/internal/store"
)

// wantIndex checks the states of the records 1, 2, … of an instance.
func (c *instance) wantIndex(want ...store.CopyState) {
	c.t.Helper()
	seqs := make([]uint64, len(want))
	for i := range seqs {
		seqs[i] = uint64(i + 1)
	}
	states, err := c.States(c.t.Context(), "svc", seqs)
	c.must(err)
	if fmt.Sprint(states) != fmt.Sprint(want) {
		c.t.Errorf("the copies of %s have the states %v, want %v", c.origin, states, want)
	}
}

// reclaim reclaims the copies of the records 1 and 2 and returns the records that are taken over.
func (c *instance) reclaim() map[uint64]store.Copy {
	c.t.Helper()
	takenOver, err := c.Reclaim(c.t.Context(), "svc", []uint64{1, 2})
	c.must(err)
	return takenOver
}

// A copy that was taken over twice is taken over from its last owner.
func TestTakeoverTellsPreviousOwner(t *testing.T) {
	eachRedis(t, func(t *testing.T, url string, client redis.UniversalClient) {
		a, b, c := startInstance(t, url, "A", client), startInstance(t, url, "B", client), startInstance(t, url, "C", client)
		a.push("one")
		a.leave()
		b.complete(7, &b.wantClaim("A/1=one")[0], false, true)
		a.wantIndex(store.CopyTakenOver)
		b.leave()
		c.complete(1, &c.wantClaim("B/7=one")[0], false, true)
		c.wantStream(1)
		if states, _ := b.States(t.Context(), "svc", []uint64{7}); len(states) != 1 || states[0] != store.CopyTakenOver {
			t.Errorf("the copy of B is not marked as taken over: %v", states)
		}
		c.wantIndex(store.CopyPresent)
		c.leave()
		a.heartbeat()
		a.complete(2, &a.wantClaim("C/1=one")[0], false, true)
		c.wantIndex(store.CopyTakenOver)
		a.wantIndex(store.CopyTakenOver, store.CopyPresent)
	})
}

// completeAsOlderVersion does what older versions did to complete a takeover: the entry stays the one that the first owner added.
func (c *instance) completeAsOlderVersion(seq uint64, from *store.Claimed) {
	c.t.Helper()
	ctx, index := c.t.Context(), queueStream+":index:"
	c.must(c.client.XClaimJustID(ctx, &redis.XClaimArgs{Stream: queueStream, Group: "cbproxy", Consumer: c.origin, Messages: []string{from.ID}}).Err())
	c.must(c.client.HSet(ctx, index+c.origin, seq, from.ID).Err())
	c.must(c.client.HSet(ctx, index+from.StoreID, from.Seq, "done "+from.Digest).Err())
}

// Instances of older versions run at the same time during an upgrade.
func TestCopyOfOlderVersionIsTakenOverFromLastOwner(t *testing.T) {
	eachRedis(t, func(t *testing.T, url string, client redis.UniversalClient) {
		a, b, c := startInstance(t, url, "A", client), startInstance(t, url, "B", client), startInstance(t, url, "C", client)
		a.push("one", "two")
		a.leave()
		claimed := b.wantClaim("A/1=one A/2=two")
		b.completeAsOlderVersion(8, &claimed[0])
		b.completeAsOlderVersion(7, &claimed[1])
		b.leave()
		claimed = c.wantClaim("B/8=one B/7=two")
		c.leave() // without taking over
		a.heartbeat()
		a.wantClaim("B/8=one B/7=two")
		a.complete(3, &claimed[0], false, true)
		a.wantIndex(store.CopyTakenOver, store.CopyTakenOver, store.CopyPresent)
		states, _ := b.States(t.Context(), "svc", []uint64{7, 8})
		if states[0] != store.CopyPresent || states[1] != store.CopyTakenOver {
			t.Errorf("the copies of B: %v", states)
		}
	})
}

// Each record is in the store of one instance in the end, whatever happens between Claim and CompleteTakeover.
func TestCompletedTakeoverHasOneOwner(t *testing.T) {
	for name, test := range map[string]struct {
		before   func(a, b, c *instance, claimed []store.Claimed) // what happens after B has claimed the record of A, and stored it as its 1
		repeated bool
		has      bool // whether B has the record then
	}{
		"nothing happens":    {func(*instance, *instance, *instance, []store.Claimed) {}, false, true},
		"the reply was lost": {func(_, b, _ *instance, claimed []store.Claimed) { b.complete(1, &claimed[0], false, true) }, true, true},
		"the reply was lost and the copy delivered": {func(_, b, _ *instance, claimed []store.Claimed) {
			b.complete(1, &claimed[0], false, true)
			b.must(b.Drop(b.t.Context(), "svc", []uint64{1}))
		}, true, true},
		"the owner returned": {func(a, _, _ *instance, _ []store.Claimed) {
			a.heartbeat()
			if takenOver := a.reclaim(); len(takenOver) != 0 {
				a.t.Errorf("reclaimed too late: %v", takenOver)
			}
		}, false, false},
		"the owner returned too late": {func(a, b, _ *instance, claimed []store.Claimed) {
			b.complete(1, &claimed[0], false, true)
			a.heartbeat()
			if takenOver := a.reclaim(); takenOver[1].Digest != claimed[0].Digest || len(takenOver) != 1 {
				a.t.Errorf("taken over: %v", takenOver)
			}
		}, false, true},
		"another instance claimed it": {func(_, b, c *instance, _ []store.Claimed) {
			b.leave()
			c.wantClaim("A/1=one")
		}, false, true},
		"another instance took it over": {func(_, b, c *instance, _ []store.Claimed) {
			b.leave()
			c.complete(4, &c.wantClaim("A/1=one")[0], false, true)
		}, false, false},
		"another instance of an older version took it over": {func(_, b, c *instance, _ []store.Claimed) {
			b.leave()
			c.completeAsOlderVersion(4, &c.wantClaim("A/1=one")[0])
		}, false, false},
		"the data was lost": {func(_, b, _ *instance, _ []store.Claimed) { b.client.Del(b.t.Context(), queueStream) }, false, true},
		"the group was lost": {func(_, b, _ *instance, _ []store.Claimed) {
			b.client.XGroupDestroy(b.t.Context(), queueStream, "cbproxy")
		}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			server := startRedis(t)
			client := server.Client()
			a, b, c := startInstance(t, server.URL(), "A", client), startInstance(t, server.URL(), "B", client), startInstance(t, server.URL(), "C", client)
			a.push("one")
			a.leave()
			claimed := b.wantClaim("A/1=one")
			test.before(a, b, c, claimed)
			b.heartbeat()
			b.complete(1, &claimed[0], test.repeated, test.has)
			if left := client.XLen(t.Context(), queueStream).Val(); left > 1 {
				t.Errorf("%d copies", left)
			}
		})
	}
}

// A claimed copy goes back to an owner that has returned, also if its owner has an older version and does not reclaim it.
func TestClaimedCopyGoesBackToOwner(t *testing.T) {
	server := startRedis(t)
	a, b, c := startInstance(t, server.URL(), "A", server.Client()), startInstance(t, server.URL(), "B", server.Client()), startInstance(t, server.URL(), "C", server.Client())
	a.push("one", "two")
	a.leave()
	claimed := b.wantClaim("A/1=one A/2=two")
	b.complete(1, &claimed[0], false, true)
	a.heartbeat()
	b.wantClaim("")
	a.leave()
	c.wantClaim("A/2=two")
}

// Reclaim removes copies from the index that do not exist and are not pending, so that they are added again.
func TestMissingCopiesAreNoticed(t *testing.T) {
	server := startRedis(t)
	a := startInstance(t, server.URL(), "A", server.Client())
	a.push("one", "two")
	client := server.Client()
	id := client.XRange(t.Context(), queueStream, "-", "+").Val()[0].ID
	client.XAck(t.Context(), queueStream, "cbproxy", id)
	client.XDel(t.Context(), queueStream, id)
	client.HSet(t.Context(), queueStream+":index:A", 2, "what")
	a.reclaim()
	a.wantIndex(store.CopyMissing, store.CopyMissing)
}

// An instance that cannot store what it has claimed releases it. Other instances then take it over, and the owner learns of it.
func TestReleasedCopiesAreClaimedByOthers(t *testing.T) {
	eachRedis(t, func(t *testing.T, url string, client redis.UniversalClient) {
		a, b, c := startInstance(t, url, "A", client), startInstance(t, url, "B", client), startInstance(t, url, "C", client)
		b.must(b.Release(t.Context(), "svc")) // there is nothing yet
		a.push("one", "two", "three")
		a.leave()
		claimed := b.wantClaim("A/1=one A/2=two A/3=three")
		b.complete(1, &claimed[0], false, true)
		c.wantClaim("")
		b.must(b.Release(t.Context(), "svc"))
		c.complete(1, &c.wantClaim("A/2=two A/3=three")[0], false, true)
		a.wantIndex(store.CopyTakenOver, store.CopyTakenOver, store.CopyPresent)
		c.must(c.Release(t.Context(), "svc"))
		b.wantClaim("A/3=three")
	})
}

// An instance leaves copies that it cannot read to others.
func TestTooLargeCopiesAreLeftToOthers(t *testing.T) {
	server := startRedis(t)
	large := strings.Repeat("x", 9<<20)
	newInstance := func(origin string, largest int64) *instance {
		r := newRedis(t, server.URL(), func(c *store.RedisConfig) { c.LargestBody = func() int64 { return largest } })
		t.Cleanup(func() { _ = r.Close() })
		i := &instance{r.Copies(origin), t, origin, server.Client()}
		i.heartbeat()
		return i
	}
	a, b, c := newInstance("A", 10<<20), newInstance("B", 0), newInstance("C", 10<<20)
	records := []store.CopyRecord{{Seq: 1, Payload: []byte("one")}, {Seq: 2, Payload: []byte(large)}, {Seq: 3, Payload: []byte("three")}}
	retry(t, func() error { return a.Push(t.Context(), "svc", records) })
	a.leave()
	b.wantClaim("A/1=one A/3=three")
	var claimed []store.Claimed
	retry(t, func() (err error) { claimed, err = c.Claim(t.Context(), "svc", 100); return err })
	if len(claimed) != 1 || claimed[0].Seq != "2" {
		t.Errorf("%d copies are claimed", len(claimed))
	}
}

// retry repeats an operation with a large copy, which may exceed its time limit on a busy machine.
func retry(t *testing.T, operation func() error) {
	t.Helper()
	err := operation()
	for deadline := time.Now().Add(time.Minute); err != nil && time.Now().Before(deadline); err = operation() {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// If the takeover's completion fails, the record gets a second copy before it is repeated. Only one copy may be left, because a copy that
// no index knows would be delivered by another instance later.
func TestRepeatedTakeoverLeavesOneCopy(t *testing.T) {
	eachRedis(t, func(t *testing.T, url string, client redis.UniversalClient) {
		a, b, c := startInstance(t, url, "A", client), startInstance(t, url, "B", client), startInstance(t, url, "C", client)
		a.push("one")
		a.leave()
		claimed := b.wantClaim("A/1=one")
		b.push("one") // it is record 1 of B, too
		b.wantStream(2)
		b.complete(1, &claimed[0], false, true)
		b.wantStream(1)
		b.complete(1, &claimed[0], true, true)
		b.wantStream(1)
		b.must(b.Drop(t.Context(), "svc", []uint64{1}))
		b.wantStream(0)
		b.leave()
		c.wantClaim("")
	})
}
