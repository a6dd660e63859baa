package proxy_test

import (
	"net/http"
	"testing"
)

// A static answer is only for requests that it can answer. Others get 503, whatever the reason: a client whose DELETE got a 200 would take
// it for done.
func TestStaticFallbackAnswersSomeRequestsOnly(t *testing.T) {
	const (
		dead     = "http://127.0.0.1:1"
		fallback = "\nfallbacks: {svc: {when: [open, connect, status], try: "
	)
	failing := respondWith("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")(t)
	for name, c := range map[string]struct {
		upstream, fallback, method, accept string
		status                             int
		strategy                           string
	}{
		"a method of the default":        {dead, "[static], static: {body: {}}}}", "GET", "", 200, "static"},
		"another method":                 {dead, "[static], static: {body: {}}}}", "DELETE", "", 503, ""},
		"another method, of an error":    {failing, "[static], static: {body: {}}}}", "PUT", "", 503, ""},
		"a method that is configured":    {dead, "[static], static: {body: {}, methods: [DELETE]}}}", "DELETE", "", 200, "static"},
		"the next strategy":              {dead, "[static, template], static: {body: {}}, template: {status: 202, body: {}}}}", "DELETE", "", 202, "template"},
		"a type":                         {dead, "[static], static: {body: {}, content_types: [application/json]}}}", "GET", "application/json", 200, "static"},
		"another type":                   {dead, "[static], static: {body: {}, content_types: [application/json]}}}", "GET", "text/event-stream", 503, ""},
		"another method of the template": {dead, "[template], template: {body: {}, methods: [GET]}}}", "PATCH", "", 503, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, address, _ := start(t, routeConfig(c.upstream)+fallback+c.fallback)
			r, err := http.NewRequest(c.method, "http://"+address+"/svc/x", nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.accept != "" {
				r.Header.Set("Accept", c.accept)
			}
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body := bodyOf(t, res)
			if res.StatusCode != c.status || res.Header.Get("X-Fallback") != c.strategy || (res.Header.Get("Content-Type") == "application/problem+json") != (c.status == 503) {
				t.Errorf("%d %v %s", res.StatusCode, res.Header, body)
			}
		})
	}
}
