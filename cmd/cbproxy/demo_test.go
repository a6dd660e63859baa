package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDemoTakesAddressesOfBothKinds(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "token"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, o := range []demoOptions{{listen: "127.0.0.1:8080", admin: "localhost:9901"}, {listen: "[::1]:8080", admin: "[::1]:9901"}} {
		c, err := newLoader(filepath.Join(folder, "config.yaml")).Parse([]byte(o.config(folder, nil) + "  svc: {prefix: /svc, upstream: http://127.0.0.1:1}\n"))
		if err != nil || c.Listen != o.listen || c.Admin.Listen != o.admin {
			t.Errorf("%s: %v", o.listen, err)
		}
	}
}
