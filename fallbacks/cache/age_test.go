package cache_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCacheAgeAndFreshness(t *testing.T) {
	for name, test := range map[string]struct {
		header      http.Header
		after       time.Duration
		age, status string // "" for no answer
	}{
		"nothing said":            {header(), 1999 * time.Millisecond, "1", "cbproxy; hit"},
		"at the end of ttl":       {header(), 10 * time.Minute, "600", "cbproxy; hit"},
		"after ttl":               {header("Cache-Control", "max-age=9999"), 10*time.Minute + 1, "", ""},
		"fresh":                   {header("Cache-Control", "max-age=60"), 20 * time.Second, "20", "cbproxy; hit; ttl=40"},
		"stale":                   {header("Cache-Control", "max-age=60"), 72 * time.Second, "72", "cbproxy; hit; ttl=-12"},
		"an age of its own":       {header("Cache-Control", `MAX-AGE="60"`, "Age", "50"), 15 * time.Second, "65", "cbproxy; hit; ttl=-5"},
		"an age that is none":     {header("Age", "-5"), time.Second, "1", "cbproxy; hit"},
		"two ages":                {header("Age", "7, 9"), time.Second, "8", "cbproxy; hit"},
		"an endless age":          {header("Age", strings.Repeat("9", 30)), 0, "2147483648", "cbproxy; hit"},
		"max-age that is none":    {header("Cache-Control", "max-age=soon"), 2 * time.Second, "2", "cbproxy; hit; ttl=-2"},
		"max-age twice":           {header("Cache-Control", "max-age=60, max-age=30"), 0, "0", "cbproxy; hit; ttl=30"},
		"Expires":                 {header("Date", "Mon, 02 Jan 2006 15:04:05 GMT", "Expires", "Mon, 02 Jan 2006 15:05:05 GMT"), 20 * time.Second, "20", "cbproxy; hit; ttl=40"},
		"Expires without Date":    {header("Expires", "Sat, 01 Jan 2000 00:01:00 GMT"), 20 * time.Second, "20", "cbproxy; hit; ttl=40"},
		"Expires that is none":    {header("Expires", "0"), 2 * time.Second, "2", "cbproxy; hit; ttl=-2"},
		"max-age before Expires":  {header("Cache-Control", "max-age=5", "Expires", "0"), 0, "0", "cbproxy; hit; ttl=5"},
		"s-maxage before max-age": {header("Cache-Control", "max-age=5, s-maxage=60"), 59 * time.Second, "59", "cbproxy; hit; ttl=1"},
		"s-maxage is never stale": {header("Cache-Control", "s-maxage=60"), 60 * time.Second, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // begins on 1 January 2000
				c, r := startChain(t, nil, nil), request("GET", "/", "", "Cache-Control", "no-cache")
				record(c, r, 200, test.header, "x")
				time.Sleep(test.after)
				a, err := ask(t, c, r)
				if test.age == "" {
					if err == nil {
						t.Errorf("answered %v", a.Header)
					}
					return
				}
				if err != nil || a.Header.Get("Age") != test.age || a.Header.Get("Cache-Status") != test.status {
					t.Errorf("got %+v, %v", a, err)
				}
			})
		})
	}
}

// The age of a response when it is received is at least the time since its Date, as a cache may send no Age, and includes the time
// for which it was under way.
func TestCacheCorrectsTheAge(t *testing.T) {
	const hourAgo = "Fri, 31 Dec 1999 23:00:00 GMT"
	for name, test := range map[string]struct {
		header http.Header
		delay  time.Duration // from the request to the response
		after  time.Duration // the start of the second in which the response is received
		age    string        // "" for no answer
	}{
		"Date":                   {header("Date", hourAgo), 0, 0, "3600"},
		"Date and a smaller Age": {header("Date", hourAgo, "Age", "5"), 0, 0, "3600"},
		"Date and a greater Age": {header("Date", hourAgo, "Age", "4000"), 0, 0, "4000"},
		"Date in the future":     {header("Date", "Sat, 01 Jan 2000 01:00:00 GMT"), 0, 0, "0"},
		"Date of this second":    {header("Date", "Sat, 01 Jan 2000 00:00:00 GMT"), 0, 900 * time.Millisecond, "0"},
		"Date that is none":      {header("Date", "yesterday"), 0, 0, "0"},
		"Date of the first year": {header("Date", "Mon, 01 Jan 0001 00:00:00 GMT"), 0, 0, "2147483648"},
		"delay":                  {header(), 7 * time.Second, 0, "7"},
		"delay and Age":          {header("Age", "5"), 7 * time.Second, 0, "12"},
		"delay, Age and Date":    {header("Age", "5", "Date", hourAgo), 7 * time.Second, 0, "3607"},
		"stale by its Date":      {header("Date", hourAgo, "Cache-Control", "s-maxage=3600"), 0, 0, ""},
		"fresh by its Date":      {header("Date", hourAgo, "Cache-Control", "s-maxage=3601"), 0, 0, "3600"},
		"stale by its delay":     {header("Cache-Control", "s-maxage=7"), 7 * time.Second, 0, ""},
		"stale by its Expires":   {header("Date", hourAgo, "Expires", "Fri, 31 Dec 1999 23:00:05 GMT"), 0, 0, "3600"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // begins on 1 January 2000
				c, r := startChain(t, nil, nil), request("GET", "/", "")
				r.Req.Sent = time.Now()
				time.Sleep(test.delay + test.after)
				r.Req.Sent = r.Req.Sent.Add(test.after)
				record(c, r, 200, test.header, "x")
				a, err := ask(t, c, r)
				switch {
				case test.age == "" && err == nil:
					t.Errorf("answered %v", a.Header)
				case test.age != "" && (err != nil || a.Header.Get("Age") != test.age):
					t.Errorf("got %+v, %v", a, err)
				}
			})
		})
	}
}

// The Date of an answer is that of the response, or else when it was received: with the current time it would not agree with Age.
func TestCacheKeepsTheDate(t *testing.T) {
	const received, other = "Sat, 01 Jan 2000 00:00:00 GMT", "Fri, 31 Dec 1999 23:59:00 GMT"
	for name, test := range map[string]struct {
		header http.Header
		date   string
	}{
		"Date":    {header("Date", other), other},
		"none":    {header(), received},
		"invalid": {header("Date", "yesterday"), received},
		"two":     {header("Date", other, "Date", future), received},
		"RFC 850": {header("Date", "Friday, 31-Dec-99 23:59:00 GMT"), "Friday, 31-Dec-99 23:59:00 GMT"},
	} {
		synctest.Test(t, func(t *testing.T) { // begins on 1 January 2000
			c, r := startChain(t, nil, nil), request("GET", "/", "")
			record(c, r, 200, test.header, "x")
			time.Sleep(time.Minute)
			if a, err := ask(t, c, r); err != nil || fmt.Sprint(a.Header["Date"]) != fmt.Sprint([]string{test.date}) {
				t.Errorf("%s: got %+v, %v, want %s", name, a, err, test.date)
			}
		})
	}
}
