package store

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// FuzzReplies scans arbitrary streams. The result must not depend on the pieces, and a stream that passes must not make the client library
// panic or read past its end.
func FuzzReplies(f *testing.F) {
	redis.SetLogger(discardLogger{}) // the library logs unreadable replies
	for i, r := range replies {
		if len(r) < 1<<10 {
			f.Add([]byte(r), uint8(i), uint8(i))
		}
	}
	for _, streams := range invalidReplies {
		for i, r := range streams {
			if len(r) < 1<<10 {
				f.Add([]byte(r), uint8(i), uint8(i))
			}
		}
	}
	f.Add([]byte("%0\r\n*0\r\n"), uint8(255), uint8(24)) // data after the reply to HELLO is not a message
	f.Add([]byte(">0\r\n*0\r\n"), uint8(255), uint8(24))
	f.Add([]byte("%1\r\n-\r\n*0\r\n"), uint8(255), uint8(24)) // the library ends the reply at an error
	f.Add([]byte("*2\r\n$-1\r\n*0\r\n"), uint8(255), uint8(24))
	f.Fuzz(func(t *testing.T, stream []byte, size, command uint8) {
		whole := scanInPieces(newScanner(), stream, len(stream))
		if pieces := scanInPieces(newScanner(), stream, 1+int(size)); (whole == nil) != (pieces == nil) {
			t.Errorf("%.200q: %v at once, %v in pieces of %d", stream, whole, pieces, 1+int(size))
		}
		read(t, stream, 1+int(size), 2+int(command%2), int(command/2))
	})
}

// read makes the client library read a stream as the reply to one of the commands of this package.
func read(t *testing.T, stream []byte, size, protocol, command int) {
	client := redis.NewClient(&redis.Options{
		Protocol: protocol, MaxRetries: -1, DialerRetries: 1, PoolSize: 1, DisableIdentity: true, MaintNotificationsConfig: noMaintenance(),
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			return &replyConn{Conn: &scripted{reply: bytes.NewReader(stream), size: size}, scanner: *newScanner()}, nil
		},
	})
	defer client.Close()
	ctx := t.Context()
	commands := []func(){
		func() { client.Do(ctx, "x") },
		func() { client.HGetAll(ctx, "x") },
		func() { client.XRevRangeN(ctx, "x", "+", "-", 1) },
		func() { _, _ = client.EvalSha(ctx, "x", nil).Slice() },
		func() { _, _ = client.EvalSha(ctx, "x", nil).Int64Slice() },
		func() { client.HMGet(ctx, "x", "y") },
		func() { client.HScan(ctx, "x", 0, "*", 1) },
		func() { client.XAdd(ctx, &redis.XAddArgs{Stream: "x", Values: []any{"a", "b"}}) },
		func() {
			cluster := redis.NewClusterClient(&redis.ClusterOptions{
				Addrs: []string{"a:1"}, MaxRedirects: -1, DialerRetries: 1, DisableIdentity: true, MaintNotificationsConfig: noMaintenance(),
				Dialer: client.Options().Dialer,
			})
			defer cluster.Close()
			cluster.Get(ctx, "x")
		},
		func() { client.ClusterShards(ctx) },
		func() { client.Command(ctx) },
		func() { client.Info(ctx) },
		func() {
			sentinel := redis.NewFailoverClient(&redis.FailoverOptions{
				MasterName: "m", SentinelAddrs: []string{"a:1"}, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true,
				Dialer: client.Options().Dialer,
			})
			defer sentinel.Close()
			sentinel.Ping(ctx)
		},
		func() {
			sub := client.Subscribe(ctx, "x")
			defer sub.Close()
			for range 3 {
				if _, err := sub.ReceiveTimeout(ctx, time.Second); err != nil {
					break
				}
			}
		},
	}
	commands[command%len(commands)]()
}

type discardLogger struct{}

func (discardLogger) Printf(context.Context, string, ...any) {}
