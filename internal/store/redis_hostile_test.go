package store_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/certtest"
	"cbproxy/internal/events"
	"cbproxy/internal/redistest"
	"cbproxy/internal/store"
)

// hostileReplies would exhaust the memory or the stack of the process, or make the client library panic.
var hostileReplies = []string{
	"*1000000000\r\n", "~1000000000\r\n", ">1000000000\r\n", "%500000000\r\n", "|500000000\r\n", "$1000000000\r\n", "=1000000000\r\n", "!1000000000\r\n",
	"*9223372036854775806\r\n", "$9223372036854775806\r\n", "%4611686018427387904\r\n", "*1\r\n*1000000000\r\n", "*2\r\n+a\r\n$1000000000\r\n",
	strings.Repeat("*100000\r\n", 100), strings.Repeat("*1\r\n", 100_000), strings.Repeat("%1\r\n+a\r\n", 100_000), strings.Repeat("|0\r\n", 100_000),
	"+" + strings.Repeat("a", 1<<20) + "\r\n", "(" + strings.Repeat("9", 1<<20) + "\r\n", "*0\r\n", "*1\r\n:1\r\n", "*2\r\n+message\r\n:1\r\n", "%1\r\n*0\r\n+a\r\n",
}

// hostileURLs starts servers that reply to each command with the result of answer: single, in a cluster and behind a Sentinel. It returns
// their URLs and the TLS configuration for them.
func hostileURLs(t *testing.T, answer func(command []string) string) (map[string]string, *tls.Config) {
	t.Helper()
	authority := certtest.NewAuthority(t)
	pair, err := tls.X509KeyPair(authority.Sign(t, "redis", "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	plain := redistest.StartScripted(t, nil, answer).Address()
	secured := redistest.StartScripted(t, &tls.Config{Certificates: []tls.Certificate{pair}}, answer).Address()
	var node *redistest.Scripted
	node = redistest.StartScripted(t, nil, func(command []string) string {
		if strings.EqualFold(command[0], "cluster") {
			host, port, _ := net.SplitHostPort(node.Address())
			return fmt.Sprintf("*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n+%s\r\n:%s\r\n+id\r\n", host, port)
		}
		return answer(command)
	})
	sentinel := redistest.StartScripted(t, nil, func(command []string) string {
		if strings.EqualFold(strings.Join(command[:min(2, len(command))], " "), "sentinel get-master-addr-by-name") {
			host, port, _ := net.SplitHostPort(plain)
			return fmt.Sprintf("*2\r\n+%s\r\n+%s\r\n", host, port)
		}
		return answer(command)
	}).Address()
	return map[string]string{
		"alone": "redis://" + plain, "RESP3": "redis://" + plain + "?protocol=3", "TLS": "rediss://" + secured,
		"cluster": "redis+cluster://" + node.Address(), "hostile cluster": "redis+cluster://" + plain,
		"behind a Sentinel": "redis://" + sentinel + "?master_name=main", "hostile Sentinel": "redis://" + plain + "?master_name=main",
	}, &tls.Config{RootCAs: authority.Pool(), MinVersion: tls.VersionTLS12}
}

// operations returns all operations of a store that use Redis.
func operations(r *store.Redis) map[string]func(ctx context.Context) error {
	c := r.Copies("a/1")
	return map[string]func(ctx context.Context) error{
		"load":      func(ctx context.Context) error { _, _, err := r.Load(ctx, "svc"); return err },
		"append":    func(ctx context.Context) error { return r.Append(ctx, events.HistoryEntry{}) },
		"history":   func(ctx context.Context) error { _, err := r.History(ctx, "svc", 10); return err },
		"merge":     func(ctx context.Context) error { _, _, err := r.Merge(ctx, store.State{Service: "svc"}); return err },
		"decide":    func(ctx context.Context) error { _, _, _, err := r.Propose(ctx, store.Proposal{}); return err },
		"acquire":   func(ctx context.Context) error { _, err := r.Acquire(ctx, "svc", "t", time.Second); return err },
		"states":    func(ctx context.Context) error { _, err := c.States(ctx, "svc", []uint64{1}); return err },
		"scan":      func(ctx context.Context) error { _, _, err := c.Scan(ctx, "svc", 0); return err },
		"heartbeat": func(ctx context.Context) error { _, _, err := c.Heartbeat(ctx, "svc", testTTL, testTTL); return err },
		"reclaim":   func(ctx context.Context) error { _, err := c.Reclaim(ctx, "svc", []uint64{1}); return err },
		"complete":  func(ctx context.Context) error { return complete(ctx, c) },
		"release":   func(ctx context.Context) error { return c.Release(ctx, "svc") },
		"claim":     func(ctx context.Context) error { _, err := c.Claim(ctx, "svc", 10); return err },
		"leave":     func(ctx context.Context) error { return c.RemoveHeartbeat(ctx, "svc") },
	}
}

// No reply makes the process allocate the declared size, recurse without a limit, or panic.
func TestHostileRedisCannotExhaustMemory(t *testing.T) {
	for _, reply := range hostileReplies {
		urls, security := hostileURLs(t, func([]string) string { return reply })
		for name, url := range urls {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r := newRedis(t, url, func(c *store.RedisConfig) { c.TLS = security })
			for _, run := range operations(r) {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				_ = run(ctx)
				cancel()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			r.Listen(ctx, discardListener{})
			cancel()
			_ = r.Close()
			runtime.ReadMemStats(&after)
			if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 100 {
				t.Errorf("%s, %.40q: %d MiB", name, reply, took)
			}
		}
	}
}

type discardListener struct{}

func (discardListener) Connected()          {}
func (discardListener) Alive()              {}
func (discardListener) Decided(store.State) {}

// A reply of the right type with too few or other elements is an error, and no zero values.
func TestIncompleteRepliesOfQueuesAreErrors(t *testing.T) {
	for name, test := range map[string]struct {
		reply string
		run   func(context.Context, *store.Copies) error
	}{
		"no state":        {"*0\r\n", states},
		"too few states":  {"*1\r\n$3\r\n1-1\r\n", states},
		"too many states": {"*3\r\n$-1\r\n$-1\r\n$-1\r\n", states},
		"a number alone":  {"*2\r\n$1\r\n0\r\n*1\r\n$1\r\n1\r\n", func(ctx context.Context, c *store.Copies) error { _, _, err := c.Scan(ctx, "svc", 0); return err }},
		"no count": {"*1\r\n:1\r\n", func(ctx context.Context, c *store.Copies) error {
			_, _, err := c.Heartbeat(ctx, "svc", testTTL, testTTL)
			return err
		}},
		"no payload":      {"*1\r\n*3\r\n$1\r\na\r\n$1\r\na\r\n$1\r\n1\r\n", claim},
		"payload is null": {"*1\r\n*4\r\n$1\r\na\r\n$1\r\na\r\n$1\r\n1\r\n$-1\r\n", claim},
		"claimed number":  {"*1\r\n:1\r\n", claim},
		"a copy alone": {"*1\r\n$1\r\n1\r\n", func(ctx context.Context, c *store.Copies) error {
			_, err := c.Reclaim(ctx, "svc", []uint64{1})
			return err
		}},
		"an unknown outcome":   {":7\r\n", complete},
		"an outcome of a list": {"*0\r\n", complete},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRedis(t, "redis://"+redistest.StartScripted(t, nil, func(command []string) string {
				if strings.EqualFold(command[0], "hello") {
					return "-ERR unknown command\r\n"
				}
				return test.reply
			}).Address())
			t.Cleanup(func() { _ = r.Close() })
			if err := test.run(t.Context(), r.Copies("a")); err == nil {
				t.Errorf("no error")
			}
		})
	}
}

func states(ctx context.Context, c *store.Copies) error {
	_, err := c.States(ctx, "svc", []uint64{1, 2})
	return err
}

func claim(ctx context.Context, c *store.Copies) error {
	_, err := c.Claim(ctx, "svc", 10)
	return err
}

func complete(ctx context.Context, c *store.Copies) error {
	_, err := c.CompleteTakeover(ctx, "svc", 1, &store.Claimed{ID: "1-1", StoreID: "b", Seq: "1"}, testTTL, false)
	return err
}
