package manifests

import (
	"bytes"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"
)

const composeFile = "../../deploy/compose.yaml"

// loadCompose loads the project with Compose's loader. Unknown keys and undefined names are errors.
func loadCompose(t *testing.T, profiles ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{composeFile}, cli.WithProfiles(profiles), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// composeService returns a service of the project.
func composeService(t *testing.T, p *types.Project, name string) types.ServiceConfig {
	t.Helper()
	s, err := p.GetService(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// composeConfig is the part of the mounted configuration that the tests use.
type composeConfig struct {
	Listen          string
	ShutdownTimeout string `json:"shutdown_timeout"`
	DataDir         string `json:"data_dir"`
	Admin           struct {
		Listen    string
		TokenFile string `json:"token_file"`
	}
	Routes map[string]struct{ Upstream string }
}

// composeConfigOf returns the mounted configuration, its text and its folder.
func composeConfigOf(t *testing.T, cbproxy types.ServiceConfig) (c composeConfig, text, folder string) {
	t.Helper()
	i := slices.IndexFunc(cbproxy.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == "/etc/cbproxy" })
	if i < 0 {
		t.Fatalf("nothing is mounted at /etc/cbproxy: %+v", cbproxy.Volumes)
	}
	v := cbproxy.Volumes[i]
	if info, err := os.Stat(v.Source); err != nil || !info.IsDir() || v.Type != types.VolumeTypeBind || !v.ReadOnly || bool(v.Bind.CreateHostPath) {
		t.Errorf("the configuration is mounted by %+v, %v", v, err)
	}
	content, err := os.ReadFile(filepath.Join(v.Source, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(content, &c); err != nil {
		t.Fatal(err)
	}
	return c, string(content), v.Source
}

// startMounted checks the mounted configuration with `cbproxy check` and runs the real binary with it, with other
// addresses, data folder and token file. It returns the address of the data plane.
func startMounted(t *testing.T, c composeConfig, text string) string {
	t.Helper()
	folder := t.TempDir()
	binary, file, token := filepath.Join(folder, "cbproxy"), filepath.Join(folder, "config.yaml"), filepath.Join(folder, "token")
	build := exec.CommandContext(t.Context(), "go", "build", "-pgo=off", "-o", binary, "./cmd/cbproxy")
	build.Dir = "../.." // the main module
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	write := func(path, content string) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(token, "secret")
	text = strings.ReplaceAll(text, c.Admin.TokenFile, token)
	write(file, text)
	if out, err := exec.CommandContext(t.Context(), binary, "check", "--config", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data := freeAddress(t)
	text = strings.NewReplacer(c.Listen, data, c.Admin.Listen, freeAddress(t), c.DataDir, folder).Replace(text)
	write(file, regexp.MustCompile(`upstream: .*`).ReplaceAllString(text, "upstream: http://127.0.0.1:1"))
	run := exec.Command(binary, "run", "--config", file)
	var log bytes.Buffer
	run.Stderr = &log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = run.Process.Kill()
		_ = run.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if connection, err := net.Dial("tcp", data); err == nil {
			_ = connection.Close()
			return data
		}
	}
	t.Fatal("cbproxy does not listen")
	return ""
}

// freeAddress returns a loopback address at which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Containers run without privileges.
func TestComposeContainersAreUnprivileged(t *testing.T) {
	p := loadCompose(t, "redis")
	checked := 0
	for name, s := range p.Services {
		if name == "orchestrator" { // not part of cbproxy
			continue
		}
		checked++
		user, _, _ := strings.Cut(s.User, ":")
		if user == "" || user == "0" || user == "root" || !s.ReadOnly || s.Privileged || len(s.CapAdd) > 0 ||
			!slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) || s.MemLimit == 0 {
			t.Errorf("%s has too many privileges: %+v", name, s)
		}
	}
	if checked != 2 {
		t.Errorf("%d services were checked", checked)
	}
	// The image's user, which owns a new volume at this path.
	dockerfile, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	s := composeService(t, p, "cbproxy")
	for _, line := range []string{"USER " + s.User, "COPY --from=build --chown=" + s.User + " /out/data /var/lib/cbproxy", `ENTRYPOINT ["/cbproxy"]`} {
		if !strings.Contains(string(dockerfile), line+"\n") {
			t.Errorf("the Dockerfile has no line %s", line)
		}
	}
	if !slices.Equal(s.HealthCheck.Test, []string{"CMD", "/cbproxy", "healthcheck"}) || time.Duration(*s.HealthCheck.StartPeriod) < 10*time.Second {
		t.Errorf("health is checked by %+v", s.HealthCheck)
	}
	var limit int64
	if text, ok := strings.CutSuffix(*s.Environment["GOMEMLIMIT"], "MiB"); !ok || yaml.Unmarshal([]byte(text), &limit) != nil || limit<<20 >= int64(s.MemLimit) || limit<<20 < int64(s.MemLimit)*9/10 {
		t.Errorf("GOMEMLIMIT %s, mem_limit %d", *s.Environment["GOMEMLIMIT"], s.MemLimit)
	}
}

// The admin port is published to this machine only, the data plane not at all. Each container has a network namespace of
// its own, because containers in that of another one lose their network when that one restarts. All are in one network.
func TestComposePortsAreRestricted(t *testing.T) {
	p := loadCompose(t, "redis")
	c, _, _ := composeConfigOf(t, composeService(t, p, "cbproxy"))
	_, adminPort, err := net.SplitHostPort(c.Admin.Listen)
	if err != nil {
		t.Fatal(err)
	}
	dataHost, dataPort, err := net.SplitHostPort(c.Listen)
	if err != nil || dataHost != "0.0.0.0" {
		t.Errorf("the data plane at %s is not reachable from the orchestrator, %v", c.Listen, err)
	}
	published := false
	for name, s := range p.Services {
		if _, ok := s.Networks["default"]; !ok || s.NetworkMode != "" || len(s.Networks) != 1 {
			t.Errorf("%s has network mode %q and networks %v", name, s.NetworkMode, s.Networks)
		}
		for _, port := range s.Ports {
			switch target := strconv.Itoa(int(port.Target)); {
			case name != "cbproxy" && name != "orchestrator":
				t.Errorf("%s publishes %+v", name, port)
			case target == adminPort:
				published = true
				if port.HostIP != "127.0.0.1" {
					t.Errorf("the admin API is published at %q", port.HostIP)
				}
			case target == dataPort:
				t.Errorf("the data plane is published: %+v", port)
			}
		}
	}
	if !published || !strings.HasPrefix(c.Admin.Listen, "0.0.0.0:") {
		t.Errorf("the admin API at %s is not reachable from this machine", c.Admin.Listen)
	}
}

// The orchestrator starts after cbproxy is ready, stops before it, and each of its URLs leads to a different service.
func TestComposeOrchestratorUsesProxy(t *testing.T) {
	p := loadCompose(t)
	orchestrator, proxy := composeService(t, p, "orchestrator"), composeService(t, p, "cbproxy")
	if d := orchestrator.DependsOn["cbproxy"]; d.Condition != types.ServiceConditionHealthy || !d.Required {
		t.Errorf("the orchestrator depends on cbproxy by %+v", d)
	}
	c, text, _ := composeConfigOf(t, proxy)
	drain, err := time.ParseDuration(c.ShutdownTimeout)
	if err != nil || proxy.StopGracePeriod == nil || time.Duration(*proxy.StopGracePeriod) < drain+10*time.Second {
		t.Errorf("stop_grace_period %v is not longer than shutdown_timeout %s, %v", proxy.StopGracePeriod, c.ShutdownTimeout, err)
	}
	_, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		t.Fatal(err)
	}
	data := startMounted(t, c, text)
	served := map[string]bool{}
	for name, value := range orchestrator.Environment {
		if !strings.HasSuffix(name, "_URL") {
			continue
		}
		u, err := url.Parse(*value)
		if err != nil || u.Host != "cbproxy:"+port {
			t.Errorf("%s is %s, %v", name, *value, err)
			continue
		}
		res, err := http.Get("http://" + data + u.Path + "/x")
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		service := res.Header.Get("X-Circuit-Breaker-Service")
		if want := strings.ToLower(strings.TrimSuffix(name, "_URL")); service != want {
			t.Errorf("%s leads to %q, want %s", name, service, want)
		}
		served[service] = true
	}
	if len(served) != 5 || len(served) != len(c.Routes) {
		t.Errorf("URLs for %v, routes %v", served, c.Routes)
	}
}

// The token is in a secret file, which is not in a mounted folder, the repository or the image.
func TestComposeTokenIsSecret(t *testing.T) {
	p := loadCompose(t)
	proxy := composeService(t, p, "cbproxy")
	c, _, folder := composeConfigOf(t, proxy)
	if len(proxy.Secrets) != 1 {
		t.Fatalf("secrets %+v", proxy.Secrets)
	}
	s := proxy.Secrets[0]
	at := s.Target
	if at == "" {
		at = "/run/secrets/" + s.Source
	}
	file := p.Secrets[s.Source].File
	if c.Admin.TokenFile != at || file == "" || filepath.Dir(file) == folder {
		t.Errorf("token_file %s, the secret %s is at %s", c.Admin.TokenFile, file, at)
	}
	for name, value := range proxy.Environment {
		if strings.Contains(name, "TOKEN") {
			t.Errorf("%s=%v", name, value)
		}
	}
	for list, line := range map[string]string{".gitignore": "*" + filepath.Ext(file), ".dockerignore": "**/*" + filepath.Ext(file)} {
		ignored, err := os.ReadFile("../../" + list)
		if err != nil || !slices.Contains(strings.Split(string(ignored), "\n"), line) {
			t.Errorf("%s has no %s: %v", list, line, err)
		}
	}
	if !slices.ContainsFunc(proxy.Volumes, func(v types.ServiceVolumeConfig) bool {
		return v.Type == types.VolumeTypeVolume && v.Target == c.DataDir && p.Volumes[v.Source].Name != ""
	}) {
		t.Errorf("there is no volume at %s: %+v", c.DataDir, proxy.Volumes)
	}
}

// Redis is an optional profile, with the host name that the documentation of REDIS_URL uses.
func TestComposeRedisIsOptional(t *testing.T) {
	if _, err := loadCompose(t).GetService("redis"); err == nil {
		t.Error("Redis is enabled by default")
	}
	p := loadCompose(t, "redis")
	composeService(t, p, "redis")
	if _, waits := composeService(t, p, "cbproxy").DependsOn["redis"]; waits {
		t.Error("cbproxy waits for Redis")
	}
	if v, ok := composeService(t, p, "cbproxy").Environment["REDIS_URL"]; !ok || v == nil || *v != os.Getenv("REDIS_URL") {
		t.Errorf("REDIS_URL %v", v)
	}
}
