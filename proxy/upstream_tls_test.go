package proxy_test

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/certtest"
	"cbproxy/internal/events"
)

// tlsUpstream starts an upstream with a certificate for name that a has signed. It closes each connection after one request and
// describes the connection in its responses.
func tlsUpstream(t testing.TB, a *certtest.Authority, name string, config *tls.Config) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Resumed", map[bool]string{true: "yes", false: "no"}[r.TLS.DidResume])
		w.Header().Set("X-Server-Name", r.TLS.ServerName)
		if len(r.TLS.PeerCertificates) > 0 {
			w.Header().Set("X-Client", r.TLS.PeerCertificates[0].Subject.CommonName)
		}
		_, _ = io.WriteString(w, r.Proto)
	}))
	pair, err := tls.X509KeyPair(a.Sign(t, name))
	if err != nil {
		t.Fatal(err)
	}
	config.Certificates = []tls.Certificate{pair}
	s.TLS = config
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.SetKeepAlivesEnabled(false)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func TestUpstreamCertificateIsVerified(t *testing.T) {
	ours, other := certtest.NewAuthority(t), certtest.NewAuthority(t)
	folder := t.TempDir()
	ca := "ca_file: " + certtest.Write(t, folder, "ca.pem", ours.PEM)
	otherCA := "ca_file: " + certtest.Write(t, folder, "other.PEM", other.PEM)
	for name, c := range map[string]struct {
		certificate string
		versions    [2]uint16 // of TLS that the upstream supports; 0: the default
		keys        string
		valid       bool
	}{
		"right CA":                      {certificate: "127.0.0.1", keys: ca, valid: true},
		"other CA":                      {certificate: "127.0.0.1", keys: otherCA},
		"system CAs":                    {certificate: "127.0.0.1", keys: "{}"},
		"no tls key":                    {certificate: "127.0.0.1"},
		"wrong name":                    {certificate: "rag.internal", keys: ca},
		"server_name":                   {certificate: "rag.internal", keys: ca + ", server_name: rag.internal", valid: true},
		"wrong server_name":             {certificate: "127.0.0.1", keys: ca + ", server_name: rag.internal"},
		"insecure_skip_verify":          {certificate: "rag.internal", keys: "insecure_skip_verify: true", valid: true},
		"TLS 1.2":                       {certificate: "127.0.0.1", versions: [2]uint16{0, tls.VersionTLS12}, keys: ca, valid: true},
		"TLS 1.1":                       {certificate: "127.0.0.1", versions: [2]uint16{tls.VersionTLS10, tls.VersionTLS11}, keys: ca},
		"TLS 1.1, insecure_skip_verify": {certificate: "127.0.0.1", versions: [2]uint16{tls.VersionTLS10, tls.VersionTLS11}, keys: "insecure_skip_verify: true"},
	} {
		t.Run(name, func(t *testing.T) {
			upstream := tlsUpstream(t, ours, c.certificate, &tls.Config{MinVersion: c.versions[0], MaxVersion: c.versions[1]})
			_, address, recorded := start(t, routeConfig(upstream.URL, "tls: {"+strings.Trim(c.keys, "{}")+"}"))
			res, body := get(t, "http://"+address+"/svc")
			o := recorded.next(t)
			if c.valid {
				if res.StatusCode != 200 || body != "HTTP/1.1" || o.Result != events.ResultSuccess {
					t.Errorf("status %d, %s, %+v; want success", res.StatusCode, body, o)
				}
				if _, want, ok := strings.Cut(c.keys, "server_name: "); ok && res.Header.Get("X-Server-Name") != want {
					t.Errorf("server name %q, want %q", res.Header.Get("X-Server-Name"), want)
				}
				return
			}
			if res.StatusCode != 502 || o.Failure == nil || o.Failure.Type != events.ErrorConnect {
				t.Errorf("status %d, %+v; want a failure to connect", res.StatusCode, o)
			}
			if !strings.Contains(o.Failure.Detail, "TLS handshake") {
				t.Errorf("the failure does not mention the handshake: %s", o.Failure.Detail)
			}
			response := body
			for name, values := range res.Header {
				response += "\n" + name + ": " + strings.Join(values, ", ")
			}
			for _, secret := range []string{"127.0.0.1", "x509", "handshake", "authority", "rag.internal"} {
				if strings.Contains(response, secret) {
					t.Errorf("the response contains %q:\n%s", secret, response)
				}
			}
		})
	}
}

func TestHTTP2IsUsedWhenOffered(t *testing.T) {
	ours := certtest.NewAuthority(t)
	ca := certtest.Write(t, t.TempDir(), "ca.pem", ours.PEM)
	for want, protocols := range map[string][]string{"HTTP/2.0": {"h2", "http/1.1"}, "HTTP/1.1": {"http/1.1"}} {
		upstream := tlsUpstream(t, ours, "127.0.0.1", &tls.Config{NextProtos: protocols})
		_, address, recorded := start(t, routeConfig(upstream.URL, "tls: {ca_file: "+ca+"}"))
		if res, got := get(t, "http://"+address+"/svc"); res.StatusCode != 200 || got != want {
			t.Errorf("status %d, %s; want %s", res.StatusCode, got, want)
		}
		recorded.next(t)
	}
}

func TestClientCertificateIsPresented(t *testing.T) {
	ours, other := certtest.NewAuthority(t), certtest.NewAuthority(t)
	folder := t.TempDir()
	ca := certtest.Write(t, folder, "ca.pem", ours.PEM)
	keys := func(a *certtest.Authority, name string) string {
		certificate, key := a.Sign(t, name)
		return ", cert_file: " + certtest.Write(t, folder, name+".crt", certificate) + ", key_file: " + certtest.Write(t, folder, name+".key", key)
	}
	for name, c := range map[string]struct {
		keys   string
		client string // the common name that the upstream receives; "": it rejects the connection
	}{
		"right certificate": {keys(ours, "sidecar"), "sidecar"},
		"other CA":          {keys(other, "stranger"), ""},
		"no certificate":    {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				upstream := tlsUpstream(t, ours, "127.0.0.1", &tls.Config{MaxVersion: version, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool()})
				_, address, recorded := start(t, routeConfig(upstream.URL, "tls: {ca_file: "+ca+c.keys+"}"))
				res, _ := get(t, "http://"+address+"/svc")
				o := recorded.next(t)
				if c.client == "" && (res.StatusCode != 502 || o.Result != events.ResultFailure) {
					t.Errorf("%s: status %d, %+v; want a failure", tls.VersionName(version), res.StatusCode, o)
				}
				if c.client != "" && (res.StatusCode != 200 || res.Header.Get("X-Client") != c.client) {
					t.Errorf("%s: status %d for %q, want %q", tls.VersionName(version), res.StatusCode, res.Header.Get("X-Client"), c.client)
				}
			}
		})
	}
}

// A timeout is no failure of the upstream if the client kept the upstream waiting for the body after the handshake. That holds
// even if the handshake was slow and the upstream is not reading when the timeout ends.
func TestSlowHandshakeBeforeASlowUploadRecordsNoFailure(t *testing.T) {
	ours := certtest.NewAuthority(t)
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 3))
		<-t.Context().Done() // nothing more is read
	}))
	pair, err := tls.X509KeyPair(ours.Sign(t, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan time.Time, 1)
	upstream.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		time.Sleep(1200 * time.Millisecond) // a slow handshake
		ready <- time.Now()
		return nil, nil
	}}
	upstream.StartTLS()
	t.Cleanup(upstream.Close)
	ca := certtest.Write(t, t.TempDir(), "ca.pem", ours.PEM)
	_, address, recorded := start(t, routeConfig(upstream.URL, "timeout: 2", "tls: {ca_file: "+ca+"}"))
	body, write := io.Pipe()
	go func() {
		_, _ = io.WriteString(write, "abc")
		time.Sleep(600*time.Millisecond - time.Since(<-ready)) // a slow client
		_, _ = write.Write(make([]byte, 30<<20))
		_ = write.Close()
	}()
	if res, err := http.Post("http://"+address+"/svc", "text/plain", body); err == nil { // an error is possible because the client was still sending
		if _ = res.Body.Close(); res.StatusCode != http.StatusRequestTimeout {
			t.Errorf("status %d", res.StatusCode)
		}
	}
	if o := recorded.next(t); o.Result != events.ResultCancelled || o.Failure != nil {
		t.Errorf("%+v", o)
	}
}

// When a running upstream starts to prefer HTTP/2, the proxy uses HTTP/2 from then on, and no request fails.
func TestUpstreamSwitchToHTTP2FailsNoRequest(t *testing.T) {
	ours := certtest.NewAuthority(t)
	var http2 atomic.Bool
	pair, err := tls.X509KeyPair(ours.Sign(t, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, r.Proto+string(text))
	}))
	upstream.EnableHTTP2 = true
	upstream.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if http2.Load() {
			return nil, nil
		}
		return &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}, nil
	}}
	upstream.StartTLS()
	defer upstream.Close()
	ca := certtest.Write(t, t.TempDir(), "ca.pem", ours.PEM)
	_, address, recorded := start(t, routeConfig(upstream.URL, "tls: {ca_file: "+ca+"}", "transport: auto", "breaker: {fail_max: 1}"))
	expect := func(want string) {
		t.Helper()
		for _, text := range []string{"", " and a body"} {
			method := http.MethodGet
			if text != "" {
				method = http.MethodPost
			}
			r, _ := http.NewRequest(method, "http://"+address+"/svc", strings.NewReader(text))
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if string(got) != want+text || res.StatusCode != 200 {
				t.Errorf("%d %s, want %s", res.StatusCode, got, want)
			}
			if o := recorded.next(t); o.Result != events.ResultSuccess {
				t.Errorf("%+v", o)
			}
		}
	}
	expect("HTTP/1.1")
	expect("HTTP/1.1")
	http2.Store(true)
	upstream.CloseClientConnections()
	expect("HTTP/2.0")
	expect("HTTP/2.0")
}

func TestUntrustedCertificateIsAConnectFailure(t *testing.T) {
	upstream := httptest.NewTLSServer(http.NotFoundHandler())
	upstream.Config.ErrorLog = nil
	defer upstream.Close()
	_, address, recorded := start(t, routeConfig(upstream.URL))
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 502 {
		t.Errorf("status %d", res.StatusCode)
	}
	if o := recorded.next(t); o.Failure == nil || o.Failure.Type != events.ErrorConnect {
		t.Errorf("%+v", o.Failure)
	}
}
