package store_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cbproxy/internal/redistest"
	"cbproxy/internal/store"
)

const (
	queueStream = "test:cbproxy_queue:{svc}"
	testTTL     = time.Minute
)

// instance accesses the copies of the service svc as one proxy instance.
type instance struct {
	*store.Copies
	t      *testing.T
	origin string
	client redis.UniversalClient
}

func startInstance(t *testing.T, url, origin string, c redis.UniversalClient) *instance {
	t.Helper()
	r := newRedis(t, url)
	t.Cleanup(func() { _ = r.Close() })
	i := &instance{r.Copies(origin), t, origin, c}
	i.heartbeat()
	return i
}

func (c *instance) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *instance) heartbeat() (was bool, copies int) {
	c.t.Helper()
	was, copies, err := c.Heartbeat(c.t.Context(), "svc", testTTL, testTTL)
	c.must(err)
	return was, copies
}

func (c *instance) push(payloads ...string) {
	c.t.Helper()
	var records []store.CopyRecord
	for i, p := range payloads {
		records = append(records, store.CopyRecord{Seq: uint64(i + 1), Payload: []byte(p)})
	}
	c.must(c.Push(c.t.Context(), "svc", records))
}

func (c *instance) leave() {
	c.t.Helper()
	c.must(c.RemoveHeartbeat(c.t.Context(), "svc"))
}

// claim claims copies. all lists them as origin/seq=payload.
func (c *instance) claim() (claimed []store.Claimed, all string) {
	c.t.Helper()
	claimed, err := c.Claim(c.t.Context(), "svc", 100)
	c.must(err)
	var texts []string
	for _, one := range claimed {
		texts = append(texts, fmt.Sprintf("%s/%s=%s", one.StoreID, one.Seq, one.Payload))
	}
	return claimed, strings.Join(texts, " ")
}

func (c *instance) wantClaim(want string) []store.Claimed {
	c.t.Helper()
	claimed, got := c.claim()
	if got != want {
		c.t.Fatalf("%s claims %q, want %q", c.origin, got, want)
	}
	return claimed
}

// complete completes a takeover. has is whether this instance has the record then.
func (c *instance) complete(seq uint64, from *store.Claimed, repeated, has bool) {
	c.t.Helper()
	got, err := c.CompleteTakeover(c.t.Context(), "svc", seq, from, testTTL, repeated)
	c.must(err)
	if got != has {
		c.t.Errorf("%s has taken over %s/%s: %v, want %v", c.origin, from.StoreID, from.Seq, got, has)
	}
}

func (c *instance) wantStream(n int64) {
	c.t.Helper()
	if got := c.client.XLen(c.t.Context(), queueStream).Val(); got != n {
		c.t.Errorf("there are %d copies, want %d", got, n)
	}
}

// eachRedis runs a test with a single server and with a cluster.
func eachRedis(t *testing.T, test func(t *testing.T, url string, c redis.UniversalClient)) {
	redistest.Need(t)
	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		s := redistest.Start(t)
		test(t, s.URL(), s.Client())
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		c := redistest.StartCluster(t, 3)
		test(t, "redis+cluster://"+c.Addresses()[0], c.Client())
	})
}

func TestCopiesAreClaimedFromFailedInstance(t *testing.T) {
	eachRedis(t, func(t *testing.T, url string, client redis.UniversalClient) {
		a, b, c := startInstance(t, url, "A", client), startInstance(t, url, "B", client), startInstance(t, url, "C", client)
		a.push("one", "two", "three")
		a.push("one", "two", "three")
		if was, n := a.heartbeat(); !was || n != 3 {
			t.Errorf("after two pushes: alive %v, %d copies", was, n)
		}
		b.wantClaim("")
		a.must(a.Drop(t.Context(), "svc", []uint64{2, 77}))
		a.wantStream(2)
		a.leave()
		b.wantClaim("A/1=one A/3=three")
		c.wantClaim("")
		b.wantClaim("A/1=one A/3=three") // b has not adopted them, so it gets them again
		b.leave()
		claimed := c.wantClaim("A/1=one A/3=three")
		c.complete(11, &claimed[0], false, true)
		c.wantClaim("A/3=three")
		states, err := a.States(t.Context(), "svc", []uint64{1, 2, 3})
		a.must(err)
		if states[0] != store.CopyTakenOver || states[1] != store.CopyMissing || states[2] != store.CopyPresent {
			t.Errorf("states %v", states)
		}
		scanned, _, err := a.Scan(t.Context(), "svc", 0)
		a.must(err)
		if len(scanned) != 2 || scanned[1] != (store.Copy{State: store.CopyTakenOver, Digest: store.Digest([]byte("one"))}) {
			t.Errorf("scanned %v", scanned)
		}
		a.must(a.Drop(t.Context(), "svc", []uint64{1}))
		c.wantStream(2) // the adopted copy belongs to C
		c.must(c.Drop(t.Context(), "svc", []uint64{11}))
		c.wantStream(1)
	})
}

func TestCopiesAreBinarySafe(t *testing.T) {
	server := startRedis(t)
	a, b := startInstance(t, server.URL(), "A", server.Client()), startInstance(t, server.URL(), "B", server.Client())
	payload := []byte("\x00\xff\xfe\r\n$5\r\n\x80")
	for i := range 256 {
		payload = append(payload, byte(i))
	}
	a.push(string(payload), "")
	a.leave()
	claimed, _ := b.claim()
	if len(claimed) != 2 || !bytes.Equal(claimed[0].Payload, payload) || len(claimed[1].Payload) != 0 {
		t.Errorf("claimed %q", claimed)
	}
}

func startRedis(t *testing.T) *redistest.Server {
	t.Helper()
	redistest.Need(t)
	t.Parallel()
	return redistest.Start(t)
}

func TestCopiesTolerateForeignEntries(t *testing.T) {
	server := startRedis(t)
	client := server.Client()
	junk := func() {
		for _, values := range [][]any{{"what", "ever"}, {"a", "b", "c", "d", "e", "f"}, {"origin", "A", "seq", "1"}} {
			client.XAdd(t.Context(), &redis.XAddArgs{Stream: queueStream, Values: values})
		}
	}
	junk()
	a, b := startInstance(t, server.URL(), "A", client), startInstance(t, server.URL(), "B", client)
	a.push("one")
	a.wantStream(1)
	junk()
	client.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "cbproxy", Consumer: "A", Streams: []string{queueStream, ">"}})
	a.leave()
	b.wantClaim("A/1=one")
	b.wantStream(1)
}

// An instance that finds the consumer group missing must not claim the copies of live instances.
func TestCopiesTolerateLossOfConsumerGroup(t *testing.T) {
	server := startRedis(t)
	client := server.Client()
	a, b, c := startInstance(t, server.URL(), "A", client), startInstance(t, server.URL(), "B", client), startInstance(t, server.URL(), "C", client)
	a.push("one")
	client.XGroupDestroy(t.Context(), queueStream, "cbproxy")
	b.push("other")
	c.wantClaim("")
	a.leave()
	c.wantClaim("A/1=one")
	client.XGroupDestroy(t.Context(), queueStream, "cbproxy")
	c.wantClaim("") // this call creates the group again
	c.wantClaim("A/1=one")
}

func TestCopiesTolerateDeletedEntriesAndWrongType(t *testing.T) {
	server := startRedis(t)
	client := server.Client()
	a, b := startInstance(t, server.URL(), "A", client), startInstance(t, server.URL(), "B", client)
	a.push("one", "two")
	first := client.XRange(t.Context(), queueStream, "-", "+").Val()[0].ID
	client.XDel(t.Context(), queueStream, first)
	a.leave()
	b.wantClaim("A/2=two")
	client.Set(t.Context(), queueStream, "what", 0)
	b.wantClaim("")
	if err := b.Push(t.Context(), "svc", []store.CopyRecord{{Seq: 9, Payload: []byte("x")}}); err == nil {
		t.Error("Push to a key of type string succeeded")
	}
}

// A claim returns few large copies, because more would not arrive before the timeout.
func TestLargeCopiesAreClaimedInBatches(t *testing.T) {
	server := startRedis(t)
	a, b := startInstance(t, server.URL(), "A", server.Client()), startInstance(t, server.URL(), "B", server.Client())
	large := strings.Repeat("x", 600<<10)
	for seq := range uint64(5) {
		a.must(a.Push(t.Context(), "svc", []store.CopyRecord{{Seq: seq + 1, Payload: []byte(large)}}))
	}
	a.leave()
	claimed, _ := b.claim()
	if len(claimed) != 2 {
		t.Errorf("%d copies are claimed at once", len(claimed))
	}
}
