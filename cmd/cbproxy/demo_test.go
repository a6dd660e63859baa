package main

import (
	"testing"

	"cbproxy/internal/demo"
)

func TestDemoAcceptsIPv4AndIPv6Addresses(t *testing.T) {
	t.Parallel()
	for _, o := range []demoOptions{{listen: "127.0.0.1:8080", admin: "localhost:9901"}, {listen: "[::1]:8080", admin: "[::1]:9901"}} {
		upstreams := []*demo.Upstream{{Service: "svc", Prefix: "/svc", Address: "127.0.0.1:1"}}
		_, _, c, err := o.load(t.TempDir(), upstreams)
		if err != nil || c.Admin.Token == "" || c.Listen != o.listen || c.Admin.Listen != o.admin {
			t.Errorf("%s: %v", o.listen, err)
		}
	}
}
