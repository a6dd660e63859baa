package proxy_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/certtest"
	"cbproxy/internal/events"
)

// tlsUpstream serves with a certificate for name, a connection for each request, and
// answers with what it knows of the connection.
func tlsUpstream(t testing.TB, a *certtest.Authority, name string, config *tls.Config) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Resumed", map[bool]string{true: "yes", false: "no"}[r.TLS.DidResume])
		w.Header().Set("X-Asked-For", r.TLS.ServerName)
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
		versions    [2]uint16 // the upstream speaks; 0 is what it speaks by default
		keys        string
		fine        bool
	}{
		"right authority":              {certificate: "127.0.0.1", keys: ca, fine: true},
		"other authority":              {certificate: "127.0.0.1", keys: otherCA},
		"the system's authorities":     {certificate: "127.0.0.1", keys: "{}"},
		"no tls key at all":            {certificate: "127.0.0.1"},
		"wrong name":                   {certificate: "rag.internal", keys: ca},
		"server_name":                  {certificate: "rag.internal", keys: ca + ", server_name: rag.internal", fine: true},
		"wrong server_name":            {certificate: "127.0.0.1", keys: ca + ", server_name: rag.internal"},
		"insecure_skip_verify":         {certificate: "rag.internal", keys: "insecure_skip_verify: true", fine: true},
		"TLS 1.2":                      {certificate: "127.0.0.1", versions: [2]uint16{0, tls.VersionTLS12}, keys: ca, fine: true},
		"TLS 1.1":                      {certificate: "127.0.0.1", versions: [2]uint16{tls.VersionTLS10, tls.VersionTLS11}, keys: ca},
		"TLS 1.1 that nobody verifies": {certificate: "127.0.0.1", versions: [2]uint16{tls.VersionTLS10, tls.VersionTLS11}, keys: "insecure_skip_verify: true"},
	} {
		t.Run(name, func(t *testing.T) {
			upstream := tlsUpstream(t, ours, c.certificate, &tls.Config{MinVersion: c.versions[0], MaxVersion: c.versions[1]})
			_, address, recorded := start(t, routeConfig(upstream.URL, "tls: {"+strings.Trim(c.keys, "{}")+"}"))
			res, body := get(t, "http://"+address+"/svc")
			o := recorded.next(t)
			if c.fine {
				if res.StatusCode != 200 || body != "HTTP/1.1" || o.Result != events.ResultSuccess {
					t.Errorf("status %d, %s, %+v; want success", res.StatusCode, body, o)
				}
				if _, want, named := strings.Cut(c.keys, "server_name: "); named && res.Header.Get("X-Asked-For") != want {
					t.Errorf("asked for %q, want %q", res.Header.Get("X-Asked-For"), want)
				}
				return
			}
			if res.StatusCode != 502 || o.Failure == nil || o.Failure.Type != events.ErrorConnect {
				t.Errorf("status %d, %+v; want a failure to connect", res.StatusCode, o)
			}
			if !strings.Contains(o.Failure.Detail, "TLS handshake") {
				t.Errorf("the failure tells of no handshake: %s", o.Failure.Detail)
			}
			shown := body
			for name, values := range res.Header {
				shown += "\n" + name + ": " + strings.Join(values, ", ")
			}
			for _, secret := range []string{"127.0.0.1", "x509", "handshake", "authority", "rag.internal"} {
				if strings.Contains(shown, secret) {
					t.Errorf("the client learns of %q:\n%s", secret, shown)
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
		client string // whom the upstream sees; "" if it sends them away
	}{
		"right certificate": {keys(ours, "sidecar"), "sidecar"},
		"other authority's": {keys(other, "stranger"), ""},
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
					t.Errorf("%s: status %d to %q, want %q", tls.VersionName(version), res.StatusCode, res.Header.Get("X-Client"), c.client)
				}
			}
		})
	}
}

// A Kubernetes secret is a folder whose ..data is swapped, so that all its files change at once.
func TestRotatedClientCertificateIsUsedByTheNextConnection(t *testing.T) {
	ours := certtest.NewAuthority(t)
	folder := t.TempDir()
	rotate := func(version string) {
		certificate, key := ours.Sign(t, version)
		if err := os.Mkdir(filepath.Join(folder, version), 0o700); err != nil {
			t.Fatal(err)
		}
		certtest.Write(t, folder, version+"/tls.crt", certificate)
		certtest.Write(t, folder, version+"/tls.key", key)
		replaceSymlink(t, folder, version, "..data")
	}
	rotate("first")
	replaceSymlink(t, folder, "..data/tls.crt", "tls.crt")
	replaceSymlink(t, folder, "..data/tls.key", "tls.key")
	ca := certtest.Write(t, folder, "ca.pem", ours.PEM)
	upstream := tlsUpstream(t, ours, "127.0.0.1", &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool()})
	_, address, recorded := start(t, routeConfig(upstream.URL, "tls: {ca_file: "+ca+", cert_file: "+folder+"/tls.crt, key_file: "+folder+"/tls.key}"))
	for _, version := range []string{"first", "second", "third"} {
		if version != "first" {
			rotate(version)
		}
		for _, resumed := range []string{"no", "yes"} {
			res, _ := get(t, "http://"+address+"/svc")
			recorded.next(t)
			if res.StatusCode != 200 || res.Header.Get("X-Client") != version || res.Header.Get("X-Resumed") != resumed {
				t.Errorf("status %d to %q, session resumed: %s; want %s and %s", res.StatusCode, res.Header.Get("X-Client"), res.Header.Get("X-Resumed"), version, resumed)
			}
		}
	}
}

func TestRotationFailsNoRequest(t *testing.T) {
	ours := certtest.NewAuthority(t)
	folder := t.TempDir()
	ca := certtest.Write(t, folder, "ca.pem", ours.PEM)
	rotate := func() {
		certificate, key := ours.Sign(t, "sidecar")
		certtest.Write(t, folder, "tls.crt", certificate) // until the key is there as well, they don't match
		certtest.Write(t, folder, "tls.key", key)
	}
	rotate()
	upstream := tlsUpstream(t, ours, "127.0.0.1", &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool()})
	_, address, _ := start(t, routeConfig(upstream.URL, "tls: {ca_file: "+ca+", cert_file: "+folder+"/tls.crt, key_file: "+folder+"/tls.key}"))
	var requests sync.WaitGroup
	for range 4 {
		requests.Go(func() {
			for range 50 {
				res, err := http.Get("http://" + address + "/svc")
				if err != nil {
					t.Error(err)
					return
				}
				if _ = res.Body.Close(); res.StatusCode != 200 || res.Header.Get("X-Client") != "sidecar" {
					t.Errorf("status %d to %q", res.StatusCode, res.Header.Get("X-Client"))
				}
			}
		})
	}
	for range 50 {
		rotate()
	}
	requests.Wait()
}

// replaceSymlink makes folder/name a symlink to target, at once.
func replaceSymlink(t testing.TB, folder, target, name string) {
	t.Helper()
	if err := os.Symlink(target, filepath.Join(folder, "next")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(folder, "next"), filepath.Join(folder, name)); err != nil {
		t.Fatal(err)
	}
}

func TestRotatedAuthorityIsUsedByTheNextConnection(t *testing.T) {
	old, next := certtest.NewAuthority(t), certtest.NewAuthority(t)
	folder := t.TempDir()
	ca := certtest.Write(t, folder, "ca.pem", old.PEM)
	upstream := tlsUpstream(t, next, "127.0.0.1", &tls.Config{})
	_, address, recorded := start(t, routeConfig(upstream.URL, "tls: {ca_file: "+ca+"}", "breaker: {fail_max: 0}"))
	for i, step := range []struct {
		content string
		want    int
	}{{string(old.PEM), 502}, {string(old.PEM) + string(next.PEM), 200}, {string(next.PEM), 200}, {string(old.PEM), 502}} {
		certtest.Write(t, folder, "ca.pem", []byte(step.content+strings.Repeat("\n", i))) // never of the size that was there before
		res, _ := get(t, "http://"+address+"/svc")
		if o := recorded.next(t); res.StatusCode != step.want {
			t.Errorf("step %d: status %d, %+v; want %d", i, res.StatusCode, o, step.want)
		}
	}
}

// logBuffer keeps what is logged. Safe for concurrent use.
type logBuffer struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

// take returns what was logged since it was last called.
func (l *logBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.out.Reset()
	return l.out.String()
}

func TestInvalidTLSFilesLeaveThePreviousOnesInUse(t *testing.T) {
	ours := certtest.NewAuthority(t)
	folder := t.TempDir()
	ca := certtest.Write(t, folder, "ca.pem", ours.PEM)
	certificate, key := ours.Sign(t, "first")
	nextCertificate, nextKey := ours.Sign(t, "second")
	certtest.Write(t, folder, "tls.crt", certificate)
	certtest.Write(t, folder, "tls.key", key)
	upstream := tlsUpstream(t, ours, "127.0.0.1", &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool()})
	var logged logBuffer
	p := startProxy(t, routeConfig(upstream.URL, "tls: {ca_file: "+ca+", cert_file: "+folder+"/tls.crt, key_file: "+folder+"/tls.key}"),
		proxyOptions{logger: slog.New(slog.NewTextHandler(&logged, nil))})
	address, recorded := p.address, p.recorded
	expect := func(step, client, line string) {
		t.Helper()
		for range 3 {
			res, _ := get(t, "http://"+address+"/svc")
			if recorded.next(t); res.StatusCode != 200 || res.Header.Get("X-Client") != client {
				t.Errorf("%s: status %d to %q, want %q", step, res.StatusCode, res.Header.Get("X-Client"), client)
			}
		}
		text := logged.take()
		if want := min(1, len(line)); strings.Count(text, "level=") != want || !strings.Contains(text, line) {
			t.Errorf("%s: logged\n%s\nwant %d line with %q", step, text, want, line)
		}
	}
	expect("at first", "first", "")
	certtest.Write(t, folder, "tls.crt", nextCertificate[:len(nextCertificate)/2])
	expect("half a certificate", "first", "load tls.cert_file "+folder+"/tls.crt: no PEM block is a certificate")
	certtest.Write(t, folder, "tls.crt", nextCertificate)
	expect("a new certificate with the old key", "first", "load tls.key_file "+folder+"/tls.key: private key does not match public key")
	if err := os.Remove(filepath.Join(folder, "tls.key")); err != nil {
		t.Fatal(err)
	}
	expect("no key", "first", "load tls.key_file "+folder+"/tls.key: no such file or directory")
	certtest.Write(t, folder, "ca.pem", nil)
	expect("no authority", "first", "load tls.ca_file "+ca+": no PEM block is a certificate")
	certtest.Write(t, folder, "ca.pem", ours.PEM)
	certtest.Write(t, folder, "tls.key", nextKey)
	expect("both", "second", "service=svc")
	if err := os.Chtimes(ca, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	expect("touched", "second", "")
}

func TestChangedTLSOptionsUseANewPool(t *testing.T) {
	ours, other := certtest.NewAuthority(t), certtest.NewAuthority(t)
	folder := t.TempDir()
	upstream := tlsUpstream(t, ours, "127.0.0.1", &tls.Config{})
	upstream.Config.SetKeepAlivesEnabled(true)
	text := func(file string, a *certtest.Authority) string {
		return routeConfig(upstream.URL, "tls: {ca_file: "+certtest.Write(t, folder, file, a.PEM)+"}", "breaker: {fail_max: 0}")
	}
	server, address, recorded := start(t, text("ours.PEM", ours))
	for _, step := range []struct {
		config string
		want   int
	}{{text("ours.PEM", ours), 200}, {text("other.PEM", other), 502}, {text("ours.PEM", ours), 200}} {
		if err := server.Apply(parse(t, step.config)); err != nil {
			t.Fatal(err)
		}
		if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != step.want {
			t.Errorf("status %d, want %d", res.StatusCode, step.want)
		}
		recorded.next(t)
	}
}

// Files may break between the configuration's validation and its use.
func TestConfigurationWithMissingTLSFilesIsNotApplied(t *testing.T) {
	ours := certtest.NewAuthority(t)
	ca := certtest.Write(t, t.TempDir(), "ca.pem", ours.PEM)
	upstream := tlsUpstream(t, ours, "127.0.0.1", &tls.Config{})
	server, address, recorded := start(t, routeConfig(upstream.URL, "tls: {ca_file: "+ca+"}"))
	next := parse(t, routeConfig(upstream.URL, "tls: {ca_file: "+ca+"}", "timeout: 1s"))
	if err := os.Remove(ca); err != nil {
		t.Fatal(err)
	}
	want := "build routes.svc: load tls.ca_file " + ca + ": no such file or directory"
	if err := server.Apply(next); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 200 {
		t.Errorf("status %d under the configuration that stays", res.StatusCode)
	}
	recorded.next(t)
}

// An upstream is not to blame for a body that was still to come long after it was ready for it, even if it was
// ready late and takes nothing at the very moment when the time is up.
func TestSlowHandshakeBeforeASlowUploadRecordsNoFailure(t *testing.T) {
	ours := certtest.NewAuthority(t)
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 3))
		<-t.Context().Done() // and reads no more
	}))
	pair, err := tls.X509KeyPair(ours.Sign(t, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan time.Time, 1)
	upstream.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		time.Sleep(1200 * time.Millisecond) // its slowness is what is tested
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
		time.Sleep(600*time.Millisecond - time.Since(<-ready)) // as is the client's
		_, _ = write.Write(make([]byte, 30<<20))
		_ = write.Close()
	}()
	if res, err := http.Post("http://"+address+"/svc", "text/plain", body); err == nil { // or it was still sending
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
	ask := func(want string) {
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
	ask("HTTP/1.1")
	ask("HTTP/1.1")
	http2.Store(true)
	upstream.CloseClientConnections()
	ask("HTTP/2.0")
	ask("HTTP/2.0")
}
