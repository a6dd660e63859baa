package cache

import (
	"bytes"
	"cbproxy/fallbacks"
	"strings"
	"testing"
	"time"
)

func TestParseCacheControl(t *testing.T) {
	none := cacheControl{maxAge: -1, sharedMaxAge: -1}
	for line, want := range map[string]cacheControl{
		"":                                     none,
		" ,\t, ":                               none,
		"public, immutable":                    none,
		"no-store":                             {noStore: true, maxAge: -1, sharedMaxAge: -1},
		`x="no-store, private",y`:              none,
		`x="a\", no-store"`:                    none,
		`x="a\\", no-store`:                    {noStore: true, maxAge: -1, sharedMaxAge: -1},
		`PRIVATE="a,b" , Max-Age=1`:            {mustNotReuse: true, maxAge: time.Second, sharedMaxAge: -1},
		"no-store=whatever":                    {noStore: true, maxAge: -1, sharedMaxAge: -1},
		"no-storely, xno-store, x=no-store":    none,
		"s-maxage=7,max-age=99999999999999":    {maxAge: maxDelta * time.Second, sharedMaxAge: 7 * time.Second},
		"max-age=5, max-age=3, max-age=4":      {maxAge: 3 * time.Second, sharedMaxAge: -1},
		"max-age = 5":                          {maxAge: 5 * time.Second, sharedMaxAge: -1},
		"max-age":                              {maxAge: 0, sharedMaxAge: -1},
		"max-age=" + strings.Repeat("9", 4000): {maxAge: maxDelta * time.Second, sharedMaxAge: -1},
	} {
		if got, ok := parseCacheControl([]string{line}); !ok || got != want {
			t.Errorf("%q: got %+v, %t, want %+v", line, got, ok, want)
		}
	}
	for _, line := range []string{"=", "a=", "a=,b", "a b", `a="`, `a="\`, `a="b"c`, `"a"`, "a;b", "a=b;c", "a=b=c", "\x00", "a\n"} {
		if got, ok := parseCacheControl([]string{line}); ok {
			t.Errorf("%q: got %+v, want it refused", line, got)
		}
	}
}

func FuzzParseCacheControl(f *testing.F) {
	for _, seed := range []string{"no-store", `private="a, b", max-age=1`, `a="\"`, "a=b;c", ", ,", "max-age=99999999999999999999", "\x00=\"\xff\""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		c, ok := parseCacheControl([]string{line})
		if !ok {
			return
		}
		for _, age := range []time.Duration{c.maxAge, c.sharedMaxAge} {
			if age < -1 || age > maxDelta*time.Second {
				t.Errorf("%q: an age of %v", line, age)
			}
		}
		// A well-formed field means the same on one line or two, and hides no directive after it.
		two, ok := parseCacheControl([]string{line, "no-store, private"})
		if one, okToo := parseCacheControl([]string{line + ",no-store, private"}); !ok || !okToo || one != two || !one.noStore || !one.mustNotReuse {
			t.Errorf("%q: %+v on one line, %+v on two", line, one, two)
		}
		// A directive between commas is found.
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.Trim(part, " \t"), "no-store") && !strings.Contains(line, `"`) && !c.noStore {
				t.Errorf("%q: no-store is not found", line)
			}
		}
	})
}

func FuzzDifferentRequestsHaveDifferentKeys(f *testing.F) {
	f.Add("/a", "b", "x", "body", "/", "ab", "x", "body")
	f.Add("/a", "", "q\x00", "", "/a", "\x00", "q", "")
	f.Add("/", "", "", "\x00\x01", "/", "", "", "\x00\x01\x00")
	f.Add("/", "", "", strings.Repeat("x", maxKeyBody+1), "/", "", "", strings.Repeat("x", maxKeyBody))
	f.Fuzz(func(t *testing.T, path1, query1, cookie1, body1, path2, query2, cookie2, body2 string) {
		key := func(path, query, cookie, body string) []byte {
			r := &fallbacks.Request{Path: path, Query: query, Header: map[string][]string{"Cookie": {cookie}}, Body: []byte(body)}
			return appendPrimaryKey(nil, r, keyFields(nil))
		}
		one, two := key(path1, query1, cookie1, body1), key(path2, query2, cookie2, body2)
		same := path1 == path2 && query1 == query2 && cookie1 == cookie2 && body1 == body2
		// No key may be a prefix of another: the fields of a Vary are appended to it.
		if bytes.HasPrefix(one, two) != same || bytes.HasPrefix(two, one) != same {
			t.Errorf("%q and %q: keys and requests must be equal together, and no key a prefix of another", []string{path1, query1, cookie1, body1}, []string{path2, query2, cookie2, body2})
		}
	})
}
