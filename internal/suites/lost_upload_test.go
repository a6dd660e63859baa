package suites

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
)

// An upload gets a fallback if the connection to the upstream is lost, however much of its body is missing, and so does the
// next request on the client's connection.
func TestLostUploadGetsFallback(t *testing.T) {
	for name, client := range map[string]*http.Client{
		"keep-alive":         {Transport: &http.Transport{}},
		"without keep-alive": {Transport: &http.Transport{DisableKeepAlives: true}},
	} {
		t.Run(name, func(t *testing.T) {
			network := startNetwork(t, startUpstream(t).Listener.Addr().String())
			p := startProxy(t, fmt.Sprintf(`routes:
  svc: {prefix: /svc, upstream: 'http://%s', timeout: 25, breaker: {fail_max: 0}}
fallbacks:
  svc: {when: [reset], try: [static], static: {status: 203, body: {rests: true}}}
`, network.Listen))
			addToxic(t, network, `{"type": "limit_data", "stream": "upstream", "attributes": {"bytes": 20000}}`)
			const uploads = 300
			for range uploads {
				res, err := client.Post("http://"+p.data+"/svc/known/8000", "text/plain", bytes.NewReader(content(1_000_000)))
				if err != nil {
					t.Error(err)
					continue
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if res.StatusCode != 203 {
					t.Errorf("status %d", res.StatusCode)
				}
			}
			if m := p.settled(); m.failures()["reset"] != uploads {
				t.Errorf("%d uploads were lost: failures %v, requests %v", uploads, m.failures(), m.requests())
			}
		})
	}
}
