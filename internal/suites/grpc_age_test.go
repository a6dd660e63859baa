package suites

import (
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

// No call fails when a gRPC server closes its connections after MaxConnectionAge.
func TestMaxConnectionAgeFailsNoCall(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 50 * time.Millisecond, MaxConnectionAgeGrace: 10 * time.Second}))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(l) }()
	defer server.Stop()
	p := startProxy(t, "routes: {svc: {prefix: /grpc.health.v1.Health, strip_prefix: false, upstream: 'h2c://"+l.Addr().String()+"', breaker: {fail_max: 1}}}\n")
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			c, err := grpc.NewClient(p.data, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for range 500 {
				if _, err := grpc_health_v1.NewHealthClient(c).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	if m := p.settled(); m.state() != closed || len(m.failures()) != 0 {
		t.Errorf("the breaker's state is %v, failures: %v", m.state(), m.failures())
	}
}
