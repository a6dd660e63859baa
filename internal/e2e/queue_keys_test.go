package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// writeKeys writes keys to a key file and returns its name.
func writeKeys(t *testing.T, file string, keys ...string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte("# keys\n"+strings.Join(keys, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func newKey() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return base64.StdEncoding.EncodeToString(key)
}

// reload makes the proxy reload its files.
func reload(p *proxyProcess) {
	p.t.Helper()
	before := p.metric(`cbproxy_config_reloads_total{result="success"}`)
	p.signal(syscall.SIGHUP)
	eventually(p.t, "it has reloaded", func() bool { return p.metric(`cbproxy_config_reloads_total{result="success"}`) > before })
}

// onDisk reports whether a file of the queue contains text. It also checks file modes.
func onDisk(p *proxyProcess, text string) (found bool) {
	p.t.Helper()
	files := 0
	err := filepath.WalkDir(filepath.Join(p.folder, "queue"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.IsDir() {
			if info.Mode().Perm() != 0o700 {
				p.t.Errorf("%s has the mode %v", path, info.Mode())
			}
			return nil
		}
		if files++; info.Mode().Perm() != 0o600 {
			p.t.Errorf("%s has the mode %v", path, info.Mode())
		}
		content, err := os.ReadFile(path)
		found = found || bytes.Contains(content, []byte(text))
		return err
	})
	if err != nil || files == 0 {
		p.t.Fatalf("%d files, %v", files, err)
	}
	return found
}

func TestQueuedRequestsAreEncrypted(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	keyFile := filepath.Join(t.TempDir(), "keys")
	first, second := newKey(), newKey()
	writeKeys(t, keyFile, first)
	p := startProxy(t, options{config: queueRouteWith(u.upstreamProcess, "fail_max: 1, recovery_timeout: 60", "encryption: {key_file: "+keyFile+"}")})
	secret := func(body string) {
		t.Helper()
		if r := p.post(body, "Authorization", "s3cret-header"); r.status != 202 {
			t.Fatalf("%+v", r)
		}
	}
	secret("s3cret-one")
	writeKeys(t, keyFile, second, first) // rotate keys while the request is queued
	reload(p)
	secret("s3cret-two")
	p.signal(syscall.SIGKILL)
	p.wait()
	if onDisk(p, "s3cret") {
		t.Error("the queue files contain plain text")
	}
	p.start()
	u.start()
	t.Cleanup(u.kill)
	forceTo(t, p, "half-open")
	u.awaitTaken("s3cret-one", "s3cret-two")
	p.drained()

	// A request whose key was removed cannot be decrypted, but is not lost.
	forceTo(t, p, "open")
	secret("s3cret-three")
	third := newKey()
	writeKeys(t, keyFile, third)
	reload(p)
	forceTo(t, p, "half-open")
	letter := p.dead(1)[0]
	if letter.Cause != "unreadable" {
		t.Errorf("%+v", letter)
	}
	writeKeys(t, keyFile, third, second)
	reload(p)
	if r := p.operate("POST", "/api/v1/queue/"+letter.ID+"/retry", adminToken); r.status != 200 {
		t.Errorf("retry: %+v", r)
	}
	u.awaitTaken("s3cret-one", "s3cret-two", "s3cret-three")
}

// TestEncryptionCanBeEnabledWithQueuedRequests checks that requests queued before encryption was enabled
// are delivered afterwards.
func TestEncryptionCanBeEnabledWithQueuedRequests(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	p := startProxy(t, options{config: queueRouteWith(u.upstreamProcess, "fail_max: 1, recovery_timeout: 60", "")})
	p.mustQueue("plain")
	if !onDisk(p, "plain") {
		t.Error("without a key the queue files contain no plain text: the check for encryption is ineffective")
	}
	keys := writeKeys(t, filepath.Join(t.TempDir(), "keys"), newKey())
	p.replace(queueRouteWith(u.upstreamProcess, "fail_max: 1, recovery_timeout: 60", "encryption: {key_file: "+keys+"}"))
	eventually(t, "the edit is in force", func() bool { return strings.Contains(p.operate("GET", "/api/v1/config", "").body, keys) })
	p.mustQueue("sealed")
	if onDisk(p, "sealed") {
		t.Error("the queue files contain the plain text of an encrypted request")
	}
	u.start()
	t.Cleanup(u.kill)
	forceTo(t, p, "half-open")
	u.awaitTaken("plain", "sealed")
}

func TestInvalidKeyFileIsRejected(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	keys := writeKeys(t, filepath.Join(t.TempDir(), "keys"), newKey())
	p := startProxy(t, options{config: queueRoute(u.upstreamProcess, "encryption: {key_file: "+keys+"}")})
	secret := "c2VjcmV0IHNlY3JldA=="
	writeKeys(t, keys, secret)
	p.signal(syscall.SIGHUP)
	eventually(t, "it is refused", func() bool { return p.health().Config.LastError != nil })
	if lastError := *p.health().Config.LastError; !strings.Contains(lastError, "queue.encryption.key_file") || strings.Contains(lastError, secret) || strings.Contains(p.log.String(), secret) {
		t.Errorf("last error: %s", lastError)
	}
	p.mustQueue("a") // encrypted with the current key
}
