package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"cbproxy/internal/bench/process"
)

// goBuild runs the go command with args to build the file.
func goBuild(ctx context.Context, file string, args ...string) error {
	out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build %s with go %s: %w\n%s", filepath.Base(file), strings.Join(args, " "), err, out)
	}
	return nil
}

// moduleRoot returns the root folder of this module.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "cbproxy").Output()
	if err != nil {
		return "", fmt.Errorf("find the module cbproxy: %w; run the benchmark inside its folder", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// startBare starts the bare reverse proxy in front of the address target.
func (b *bench) startBare(ctx context.Context, target string) (*process.Process, error) {
	address, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	return process.Start(ctx, b.dir, "bare", address, b.self, "bare", address, "http://"+target)
}

// deadPath is the prefix of a service whose upstream is dead.
const deadPath = "/dead"

// setting configures a cbproxy process of a scenario.
type setting struct {
	name     string
	target   string // the upstream's address
	dataDir  string // "" keeps everything in memory
	recovery string // recovery_timeout; "" for longer than any run
	fallback string // of the service, in YAML; "" for the built-in one
	pinned   bool   // whether it is pinned to the contenders' core
	services int    // additional services that get no requests
	dead     string // address of a dead upstream with the prefix deadPath; "" for none
}

// startCBProxy starts cbproxy with one service.
func (b *bench) startCBProxy(ctx context.Context, s setting) (*process.Process, error) {
	address, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	admin, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	// Separate folders, so that processes share no state and the logs cause no events for the file watcher.
	dir, err := os.MkdirTemp(b.dir, s.name+"-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "config.yaml")
	config := fmt.Sprintf(`listen: %s
data_dir: %q
admin:
  listen: %s
routes:
  rag_service:
    upstream: http://%s
    breaker:
      fail_max: 1
      recovery_timeout: %s
`, address, s.dataDir, admin, s.target, cmp.Or(s.recovery, "1h"))
	if s.dead != "" {
		config += fmt.Sprintf("  dead_service: {prefix: %s, upstream: 'http://%s', fallback: rag_service, breaker: {fail_max: 1, recovery_timeout: 1h}}\n", deadPath, s.dead)
	}
	for i := range s.services {
		config += fmt.Sprintf("  service_%d: {prefix: /service/%d, upstream: 'http://%s'}\n", i, i, s.target)
	}
	if s.fallback != "" {
		config += "fallbacks:\n  rag_service: " + s.fallback + "\n"
	}
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	command := []string{b.cbproxy, "run", "--config", file}
	if s.pinned {
		command = process.OnCores(process.ContenderCore, command...)
	}
	p, err := process.Start(ctx, b.dir, s.name, address, command...)
	if err != nil {
		return nil, err
	}
	p.Admin = admin
	return p, nil
}

// startCaddy starts Caddy in front of the address target, configured like the other proxies: no prefix, no access log,
// no admin API, the same number of idle connections.
func (b *bench) startCaddy(ctx context.Context, target string) (*process.Process, error) {
	address, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	type object = map[string]any
	config, err := json.Marshal(object{
		"admin":   object{"disabled": true, "config": object{"persist": false}},
		"logging": object{"logs": object{"default": object{"level": "ERROR"}}},
		"apps": object{"http": object{"servers": object{"bench": object{
			"listen":          []string{address},
			"automatic_https": object{"disable": true},
			"routes": []object{{"handle": []object{{
				"handler":   "reverse_proxy",
				"upstreams": []object{{"dial": target}},
				"transport": object{
					"protocol":    "http",
					"compression": false,
					"keep_alive":  object{"max_idle_conns_per_host": 8192},
				},
			}}}},
		}}}},
	})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, "caddy.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, err
	}
	return process.Start(ctx, b.dir, "caddy", address, b.caddy, file)
}

// startHAProxy starts HAProxy in front of the address target, with its default number of threads.
func (b *bench) startHAProxy(ctx context.Context, target string) (*process.Process, error) {
	return b.startServer(ctx, "haproxy", func(address, file string) (config string, command []string) {
		return fmt.Sprintf(`defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option http-no-delay
  http-reuse always
frontend bench
  bind %s
  default_backend upstream
backend upstream
  server upstream %s
`, address, target), []string{"haproxy", "-db", "-f", file}
	})
}

// startNginx starts one worker of nginx in front of the address target.
func (b *bench) startNginx(ctx context.Context, target string) (*process.Process, error) {
	return b.startServer(ctx, "nginx", func(address, file string) (config string, command []string) {
		return fmt.Sprintf(`daemon off;
master_process off;
error_log stderr error;
pid nginx.pid;
events { worker_connections 8192; }
http {
  access_log off;
  keepalive_requests 100000000;
  upstream upstream { server %s; keepalive 8192; keepalive_requests 100000000; }
  server {
    listen %s;
    location / { proxy_pass http://upstream; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
`, target, address), []string{"nginx", "-p", b.dir, "-c", file}
	})
}

// startServer starts a proxy of another project with the configuration and the command that configure returns.
func (b *bench) startServer(ctx context.Context, name string, configure func(address, file string) (config string, command []string)) (*process.Process, error) {
	address, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, name+".conf")
	config, command := configure(address, file)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	return process.Start(ctx, b.dir, name, address, command...)
}
