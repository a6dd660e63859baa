package grpc

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestParsePushback(t *testing.T) {
	for name, c := range map[string]struct {
		values []string
		want   Pushback
	}{
		"not given":      {nil, Pushback{}},
		"zero":           {[]string{"0"}, Pushback{Given: true, Retry: true}},
		"milliseconds":   {[]string{"1500"}, Pushback{Given: true, Retry: true, Wait: 1500 * time.Millisecond}},
		"the largest":    {[]string{"2147483647"}, Pushback{Given: true, Retry: true, Wait: 2147483647 * time.Millisecond}},
		"too large":      {[]string{"2147483648"}, Pushback{Given: true}},
		"far too large":  {[]string{strings.Repeat("9", 1000)}, Pushback{Given: true}},
		"negative":       {[]string{"-1"}, Pushback{Given: true}},
		"empty":          {[]string{""}, Pushback{Given: true}},
		"no number":      {[]string{"abc"}, Pushback{Given: true}},
		"fraction":       {[]string{"1.5"}, Pushback{Given: true}},
		"with a unit":    {[]string{"50ms"}, Pushback{Given: true}},
		"with a space":   {[]string{" 50"}, Pushback{Given: true}},
		"hexadecimal":    {[]string{"0x10"}, Pushback{Given: true}},
		"several values": {[]string{"1", "1"}, Pushback{Given: true}},
		"a list in one":  {[]string{"1, 1"}, Pushback{Given: true}},
		"an underscore":  {[]string{"1_000"}, Pushback{Given: true}},
	} {
		h := http.Header{}
		if c.values != nil {
			h["Grpc-Retry-Pushback-Ms"] = c.values
		}
		if got := ParsePushback(h); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func FuzzParsePushback(f *testing.F) {
	for _, s := range []string{"", "0", "-1", "50", "2147483648", "1e3", "+5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := ParsePushback(http.Header{"Grpc-Retry-Pushback-Ms": {s}})
		if !p.Given || p.Wait < 0 || !p.Retry && p.Wait != 0 || p.Wait%time.Millisecond != 0 {
			t.Errorf("%q: %+v", s, p)
		}
		if p.Retry && strings.Trim(s, "+-0123456789") != "" {
			t.Errorf("%q is no number: %+v", s, p)
		}
	})
}
