package queue

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

	"cbproxy/internal/e2e/harness"
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
func reload(p *harness.Proxy) {
	p.T.Helper()
	before := p.Metric(`cbproxy_config_reloads_total{result="success"}`)
	p.Signal(syscall.SIGHUP)
	harness.Eventually(p.T, "it has reloaded", func() bool { return p.Metric(`cbproxy_config_reloads_total{result="success"}`) > before })
}

// onDisk reports whether a file of the queue contains text. It also checks file modes.
func onDisk(p *harness.Proxy, text string) (found bool) {
	p.T.Helper()
	files := 0
	err := filepath.WalkDir(filepath.Join(p.DataDir, "queue"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.IsDir() {
			if info.Mode().Perm() != 0o700 {
				p.T.Errorf("%s has the mode %v", path, info.Mode())
			}
			return nil
		}
		if files++; info.Mode().Perm() != 0o600 {
			p.T.Errorf("%s has the mode %v", path, info.Mode())
		}
		content, err := os.ReadFile(path)
		found = found || bytes.Contains(content, []byte(text))
		return err
	})
	if err != nil || files == 0 {
		p.T.Fatalf("%d files, %v", files, err)
	}
	return found
}

func TestQueuedRequestsAreEncrypted(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	keyFile := filepath.Join(t.TempDir(), "keys")
	first, second := newKey(), newKey()
	writeKeys(t, keyFile, first)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfigWithBreaker(u.Upstream, "fail_max: 1, recovery_timeout: 60", "encryption: {key_file: "+keyFile+"}")})
	secret := func(body string) {
		t.Helper()
		if r := p.Post(body, "Authorization", "s3cret-header"); r.Status != 202 {
			t.Fatalf("%+v", r)
		}
	}
	secret("s3cret-one")
	writeKeys(t, keyFile, second, first) // rotate keys while the request is queued
	reload(p)
	secret("s3cret-two")
	p.Signal(syscall.SIGKILL)
	p.Wait()
	if onDisk(p, "s3cret") {
		t.Error("the queue files contain plain text")
	}
	p.Start()
	u.Start()
	t.Cleanup(u.Kill)
	harness.ForceState(t, p, "half-open")
	u.AwaitDelivered("s3cret-one", "s3cret-two")
	p.AwaitEmptyQueue()

	// A request whose key was removed cannot be decrypted, but is not lost.
	harness.ForceState(t, p, "open")
	secret("s3cret-three")
	third := newKey()
	writeKeys(t, keyFile, third)
	reload(p)
	harness.ForceState(t, p, "half-open")
	letter := p.AwaitDeadLetters(1)[0]
	if letter.Cause != "unreadable" {
		t.Errorf("%+v", letter)
	}
	writeKeys(t, keyFile, third, second)
	reload(p)
	if r := p.AdminRequest("POST", "/api/v1/queue/"+letter.ID+"/retry", harness.AdminToken); r.Status != 200 {
		t.Errorf("retry: %+v", r)
	}
	u.AwaitDelivered("s3cret-one", "s3cret-two", "s3cret-three")
}

// TestEncryptionCanBeEnabledWithQueuedRequests checks that requests queued before encryption was enabled
// are delivered afterwards.
func TestEncryptionCanBeEnabledWithQueuedRequests(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfigWithBreaker(u.Upstream, "fail_max: 1, recovery_timeout: 60", "")})
	p.MustQueue("plain")
	if !onDisk(p, "plain") {
		t.Error("without a key the queue files contain no plain text: the check for encryption is ineffective")
	}
	keys := writeKeys(t, filepath.Join(t.TempDir(), "keys"), newKey())
	p.ReplaceConfig(harness.QueueConfigWithBreaker(u.Upstream, "fail_max: 1, recovery_timeout: 60", "encryption: {key_file: "+keys+"}"))
	harness.Eventually(t, "the edit is in force", func() bool { return strings.Contains(p.AdminRequest("GET", "/api/v1/config", "").Body, keys) })
	p.MustQueue("sealed")
	if onDisk(p, "sealed") {
		t.Error("the queue files contain the plain text of an encrypted request")
	}
	u.Start()
	t.Cleanup(u.Kill)
	harness.ForceState(t, p, "half-open")
	u.AwaitDelivered("plain", "sealed")
}

func TestInvalidKeyFileIsRejected(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	keys := writeKeys(t, filepath.Join(t.TempDir(), "keys"), newKey())
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "encryption: {key_file: "+keys+"}")})
	secret := "c2VjcmV0IHNlY3JldA=="
	writeKeys(t, keys, secret)
	p.Signal(syscall.SIGHUP)
	harness.Eventually(t, "it is refused", func() bool { return p.Health().Config.LastError != nil })
	if lastError := *p.Health().Config.LastError; !strings.Contains(lastError, "queue.encryption.key_file") || strings.Contains(lastError, secret) || strings.Contains(p.Log.String(), secret) {
		t.Errorf("last error: %s", lastError)
	}
	p.MustQueue("a") // encrypted with the current key
}
