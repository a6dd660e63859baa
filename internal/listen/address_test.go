package listen_test

import (
	"io/fs"
	"testing"

	"cbproxy/internal/listen"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]listen.Address{
		"127.0.0.1:8080":                {Network: "tcp", Target: "127.0.0.1:8080", Mode: listen.NoMode, GID: -1},
		":0":                            {Network: "tcp", Target: ":0", Mode: listen.NoMode, GID: -1},
		"unix:///run/a%20b":             {Network: "unix", Target: "/run/a%20b", Mode: listen.NoMode, GID: -1},
		"unix:///a?mode=0666":           {Network: "unix", Target: "/a", Mode: 0o666, GID: -1},
		"unix:///a?group=7&mode=600":    {Network: "unix", Target: "/a", Mode: 0o600, GID: 7},
		"unix:///a?mode=0000&group=000": {Network: "unix", Target: "/a", Mode: 0, GID: 0},
	} {
		if got, err := listen.Parse(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:08", "::1:80", "unix://a", "unix:///", "unix:///a\x00", "unix:///a?", "unix:///a?mode",
		"unix:///a?mode=8", "unix:///a?mode=0o660", "unix:///a?mode=01666", "unix:///a?mode=2666", "unix:///a?mode=-66", "unix:///a?mode=0666&mode=0666",
		"unix:///a?user=root", "unix:///a?group=", "unix:///a?group=no%20such%20group", "unix:///a?group=-1", "unix:///a?group=4294967295", "unix:///a?%zz",
	} {
		if got, err := listen.Parse(text); err == nil {
			t.Errorf("%q is accepted: %+v", text, got)
		}
	}
	if a, _ := listen.Parse("unix:///a"); a.Mode&fs.ModePerm != 0 {
		t.Errorf("mode %o by default", a.Mode)
	}
}

func TestConflicts(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "127.0.0.1:81", false},
		{"127.0.0.1:80", "127.0.0.2:80", false},
		{"127.0.0.1:80", ":80", true},
		{"127.0.0.1:80", "0.0.0.0:80", true},
		{"[::1]:80", "0.0.0.0:80", false},
		{"[::1]:80", "[::]:80", true},
		{"localhost:80", "127.0.0.1:80", true},
		{"localhost:80", "0.0.0.0:80", true},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{"unix:///a?mode=0600", "unix:///a", true},
		{"unix:///a", "unix:///b", false},
		{"unix:///a", "127.0.0.1:80", false},
	} {
		a, errA := listen.Parse(c.a)
		b, errB := listen.Parse(c.b)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if a.Conflicts(b) != c.want || b.Conflicts(a) != c.want {
			t.Errorf("%s and %s: %v and %v, want %v", c.a, c.b, a.Conflicts(b), b.Conflicts(a), c.want)
		}
	}
}
