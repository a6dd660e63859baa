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
	someTTL     = time.Minute
)

// copying is an instance's copies of the service svc.
type copying struct {
	*store.Copies
	t      *testing.T
	origin string
	signs  redis.UniversalClient
}

func copiesOf(t *testing.T, url, origin string, c redis.UniversalClient) *copying {
	t.Helper()
	r := newRedis(t, url)
	t.Cleanup(func() { _ = r.Close() })
	i := &copying{r.Copies(origin), t, origin, c}
	i.beat()
	return i
}

func (c *copying) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *copying) beat() (was bool, copies int) {
	c.t.Helper()
	was, copies, err := c.Heartbeat(c.t.Context(), "svc", someTTL, someTTL)
	c.must(err)
	return was, copies
}

func (c *copying) push(payloads ...string) {
	c.t.Helper()
	var records []store.CopyRecord
	for i, p := range payloads {
		records = append(records, store.CopyRecord{Seq: uint64(i + 1), Payload: []byte(p)})
	}
	c.must(c.Push(c.t.Context(), "svc", records))
}

func (c *copying) die() {
	c.t.Helper()
	c.must(c.Leave(c.t.Context(), "svc"))
}

// claim returns what the instance gets, as origin/seq=payload.
func (c *copying) claim() (claimed []store.Claimed, all string) {
	c.t.Helper()
	claimed, err := c.Claim(c.t.Context(), "svc", 100)
	c.must(err)
	var texts []string
	for _, one := range claimed {
		texts = append(texts, fmt.Sprintf("%s/%s=%s", one.Origin, one.Seq, one.Payload))
	}
	return claimed, strings.Join(texts, " ")
}

func (c *copying) wantClaim(want string) []store.Claimed {
	c.t.Helper()
	claimed, got := c.claim()
	if got != want {
		c.t.Fatalf("%s claims %q, want %q", c.origin, got, want)
	}
	return claimed
}

func (c *copying) wantStream(n int64) {
	c.t.Helper()
	if got := c.signs.XLen(c.t.Context(), queueStream).Val(); got != n {
		c.t.Errorf("there are %d copies, want %d", got, n)
	}
}

// eachRedis runs a test alone and in a cluster.
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

func TestCopiesGoFromTheDeadToTheLiving(t *testing.T) {
	eachRedis(t, func(t *testing.T, url string, client redis.UniversalClient) {
		a, b, c := copiesOf(t, url, "A", client), copiesOf(t, url, "B", client), copiesOf(t, url, "C", client)
		a.push("one", "two", "three")
		a.push("one", "two", "three")
		if was, n := a.beat(); !was || n != 3 {
			t.Errorf("after two pushes: alive %v, %d copies", was, n)
		}
		b.wantClaim("")
		a.must(a.Drop(t.Context(), "svc", []uint64{2, 77}))
		a.wantStream(2)
		a.die()
		b.wantClaim("A/1=one A/3=three")
		c.wantClaim("")
		b.wantClaim("A/1=one A/3=three") // it has not adopted them
		b.die()
		claimed := c.wantClaim("A/1=one A/3=three")
		c.must(c.Adopt(t.Context(), "svc", 11, claimed[0], someTTL))
		c.wantClaim("A/3=three")
		states, err := a.States(t.Context(), "svc", []uint64{1, 2, 3})
		a.must(err)
		if states[0] != store.CopyDone || states[1] != store.CopyMissing || states[2] != store.CopyKept {
			t.Errorf("states %v", states)
		}
		scanned, _, err := a.Scan(t.Context(), "svc", 0)
		a.must(err)
		if len(scanned) != 2 || scanned[1] != (store.Copy{State: store.CopyDone, Digest: store.Digest([]byte("one"))}) {
			t.Errorf("scanned %v", scanned)
		}
		a.must(a.Drop(t.Context(), "svc", []uint64{1}))
		c.wantStream(2) // what is done is C's
		c.must(c.Drop(t.Context(), "svc", []uint64{11}))
		c.wantStream(1)
	})
}

func TestCopiesAreByteForByte(t *testing.T) {
	server := startRedis(t)
	a, b := copiesOf(t, server.URL(), "A", server.Client()), copiesOf(t, server.URL(), "B", server.Client())
	payload := []byte("\x00\xff\xfe\r\n$5\r\n\x80")
	for i := range 256 {
		payload = append(payload, byte(i))
	}
	a.push(string(payload), "")
	a.die()
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

func TestCopiesOutliveForeignEntries(t *testing.T) {
	server := startRedis(t)
	client := server.Client()
	junk := func() {
		for _, values := range [][]any{{"what", "ever"}, {"a", "b", "c", "d", "e", "f"}, {"origin", "A", "seq", "1"}} {
			client.XAdd(t.Context(), &redis.XAddArgs{Stream: queueStream, Values: values})
		}
	}
	junk()
	a, b := copiesOf(t, server.URL(), "A", client), copiesOf(t, server.URL(), "B", client)
	a.push("one")
	a.wantStream(1)
	junk()
	client.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "cbproxy", Consumer: "A", Streams: []string{queueStream, ">"}})
	a.die()
	b.wantClaim("A/1=one")
	b.wantStream(1)
}

// Whoever finds that the group is gone must not become the keeper of what others have.
func TestCopiesOutliveTheirGroup(t *testing.T) {
	server := startRedis(t)
	client := server.Client()
	a, b, c := copiesOf(t, server.URL(), "A", client), copiesOf(t, server.URL(), "B", client), copiesOf(t, server.URL(), "C", client)
	a.push("one")
	client.XGroupDestroy(t.Context(), queueStream, "cbproxy")
	b.push("other")
	c.wantClaim("")
	a.die()
	c.wantClaim("A/1=one")
	client.XGroupDestroy(t.Context(), queueStream, "cbproxy")
	c.wantClaim("") // it makes the group anew
	c.wantClaim("A/1=one")
}

func TestCopiesOutliveDeletedEntriesAndTheWrongType(t *testing.T) {
	server := startRedis(t)
	client := server.Client()
	a, b := copiesOf(t, server.URL(), "A", client), copiesOf(t, server.URL(), "B", client)
	a.push("one", "two")
	first := client.XRange(t.Context(), queueStream, "-", "+").Val()[0].ID
	client.XDel(t.Context(), queueStream, first)
	a.die()
	b.wantClaim("A/2=two")
	client.Set(t.Context(), queueStream, "what", 0)
	b.wantClaim("")
	if err := b.Push(t.Context(), "svc", []store.CopyRecord{{Seq: 9, Payload: []byte("x")}}); err == nil {
		t.Error("a copy fits into a string")
	}
}

// Large copies are claimed few at a time, or they would not be here in time.
func TestCopiesAreClaimedInPortions(t *testing.T) {
	server := startRedis(t)
	a, b := copiesOf(t, server.URL(), "A", server.Client()), copiesOf(t, server.URL(), "B", server.Client())
	large := strings.Repeat("x", 600<<10)
	for seq := range uint64(5) {
		a.must(a.Push(t.Context(), "svc", []store.CopyRecord{{Seq: seq + 1, Payload: []byte(large)}}))
	}
	a.die()
	claimed, _ := b.claim()
	if len(claimed) != 2 {
		t.Errorf("%d are claimed at once", len(claimed))
	}
}
