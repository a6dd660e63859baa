package routes_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"cbproxy/routes"
)

const minimal = "routes: {rag_service: {upstream: http://rag}}\n"

func TestBuiltInServices(t *testing.T) {
	for name, want := range map[string]routes.Route{
		"rag_service":             {Prefix: routes.Prefixes{"/rag"}, Timeout: 30 * time.Second, Priority: 1, Breaker: routes.Breaker{FailMax: 5, RecoveryTimeout: time.Minute}},
		"rule_generation_service": {Prefix: routes.Prefixes{"/rules"}, Timeout: 20 * time.Second, Priority: 2, Breaker: routes.Breaker{FailMax: 3, RecoveryTimeout: time.Minute}},
		"notifier_service":        {Prefix: routes.Prefixes{"/notify"}, Timeout: 15 * time.Second, Priority: 1, Breaker: routes.Breaker{FailMax: 4, RecoveryTimeout: 30 * time.Second}},
		"vms_service":             {Prefix: routes.Prefixes{"/vms"}, Timeout: 25 * time.Second, Priority: 3, Breaker: routes.Breaker{FailMax: 6, RecoveryTimeout: time.Minute}},
		"prediction_service":      {Prefix: routes.Prefixes{"/predict"}, Timeout: 20 * time.Second, Priority: 2, Breaker: routes.Breaker{FailMax: 4, RecoveryTimeout: time.Minute}},
	} {
		r := parse(t, "routes: {"+name+": {upstream: http://x}}").Routes[name]
		got := routes.Route{Prefix: r.Prefix, Timeout: r.Timeout, Priority: r.Priority,
			Breaker: routes.Breaker{FailMax: r.Breaker.FailMax, RecoveryTimeout: r.Breaker.RecoveryTimeout}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

func TestMissingFileIsReadError(t *testing.T) {
	l := loader()
	l.Path = filepath.Join(t.TempDir(), "config.yaml")
	_, err := l.Load()
	if want := "read " + l.Path + ": no such file or directory"; err == nil || err.Error() != want || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestInvalidBuiltinIsError(t *testing.T) {
	l := loader()
	l.Builtin = []byte("rag_service: [")
	if _, err := l.Parse([]byte(minimal)); err == nil || !strings.HasPrefix(err.Error(), "built-in fallbacks: ") {
		t.Errorf("got %v", err)
	}
}

func TestHashFollowsContent(t *testing.T) {
	a, b := parse(t, minimal).Hash, parse(t, minimal+"# more\n").Hash
	if len(a) != 16 || a == b || a != parse(t, minimal).Hash {
		t.Errorf("got %q and %q", a, b)
	}
}

func TestConfigsShareNoData(t *testing.T) {
	l := loader()
	first, err := l.Parse([]byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	first.Fallbacks["rag_service"].Strategies["static"].(*staticOptions).Status = 500
	second, err := l.Parse([]byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	if got := second.Fallbacks["rag_service"].Strategies["static"].(*staticOptions).Status; got != 200 {
		t.Errorf("got status %d of another load", got)
	}
}

func TestOnlyTriedStrategiesHaveOptions(t *testing.T) {
	l := loader()
	l.Strategies["cache"] = func() any { return &struct{ TTL time.Duration }{time.Minute} }
	c, err := l.Parse([]byte(minimal + "fallbacks: {rag_service: {cache: {ttl: 5s}}, other: {try: [cache], static: {body: 1}}}"))
	if err != nil {
		t.Fatal(err)
	}
	if rag, other := c.Fallbacks["rag_service"].Strategies, c.Fallbacks["other"].Strategies; len(rag) != 1 || rag["static"] == nil ||
		len(other) != 1 || other["cache"].(*struct{ TTL time.Duration }).TTL != time.Minute {
		t.Errorf("got %v and %v", rag, other)
	}
}

// position is an option with UnmarshalYAML, whose errors have a position.
type position struct{}

type positionError struct{ line, column int }

func (positionError) Error() string                  { return "must be\nelse" }
func (e positionError) Position() (line, column int) { return e.line, e.column }

func (*position) UnmarshalYAML(n *yaml.Node) error {
	return errors.Join(positionError{n.Content[0].Line, n.Content[0].Column}, errors.New("yaml: plain"))
}

func TestOptionsWithUnmarshalYAML(t *testing.T) {
	l := loader()
	l.Strategies["own"] = func() any {
		return &struct {
			Value position `yaml:"value"`
		}{}
	}
	_, err := l.Parse([]byte(minimal + "fallbacks:\n  x:\n    try: [own]\n    own:\n      value: [a]\n"))
	want := "config.yaml:6:7: fallbacks.x.own.value: plain\nconfig.yaml:6:15: fallbacks.x.own.value: must be; else"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestDataDirIsNotCreated(t *testing.T) {
	t.Chdir(t.TempDir())
	for content, want := range map[string]string{"": "./cbproxy-data", "data_dir: \"\"": "", "data_dir: a/b": "a/b"} {
		if got := parse(t, minimal+content).DataDir; got != want {
			t.Errorf("%q: got %q, want %q", content, got, want)
		}
	}
	if made, err := filepath.Glob("*"); err != nil || len(made) > 0 {
		t.Errorf("got %v, %v, want an empty folder", made, err)
	}
}

func TestRestartKeys(t *testing.T) {
	old, same := parse(t, minimal), parse(t, minimal+"shutdown_timeout: 1s\nlimits: {body_bytes: 1}\nadmin: {protect_reads: true}\nredis: {ttl: 1s, share: {enabled: false, quorum: 2}}")
	if got := same.RestartKeys(old); got != nil {
		t.Errorf("got %v, want none", got)
	}
	other := parse(t, minimal+"listen: :1\nlimits: {header_bytes: 1KiB, read_header_timeout: 1s, idle_timeout: 1s}\nadmin: {listen: \":2\"}\n"+
		"data_dir: x\nredis: {url: redis://x, namespace: x, tls: {server_name: x}}")
	want := []string{"listen", "data_dir", "limits.header_bytes", "limits.read_header_timeout", "limits.idle_timeout", "admin.listen",
		"redis.url", "redis.namespace", "redis.tls"}
	if got := other.RestartKeys(old); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestStatusesHas(t *testing.T) {
	s := parse(t, "routes: {rag_service: {upstream: http://rag, breaker: {failure_statuses: [429, 5xx, 600-602]}}}").Routes["rag_service"].Breaker.FailureStatuses
	for code, want := range map[int]bool{429: true, 428: false, 499: false, 500: true, 599: true, 600: true, 602: true, 603: false, 0: false, -1: false, 99999: false} {
		if s.Has(code) != want {
			t.Errorf("Has(%d): got %t", code, !want)
		}
	}
	if got, want := s.String(), "429, 5xx, 600-602"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestByteOrderMarkAndCRLF(t *testing.T) {
	content := "\uFEFF" + strings.ReplaceAll("# comment\nroutes:\n  rag_service:\n    upstream: http://rag\n", "\n", "\r\n")
	if got := parse(t, content).Routes["rag_service"].Upstream.String(); got != "http://rag" {
		t.Errorf("got upstream %q", got)
	}
}
