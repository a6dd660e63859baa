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

// writeKeys writes a key file and returns its name.
func writeKeys(t *testing.T, file string, keys ...string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte("# keys\n"+strings.Join(keys, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// newKey returns a random key, encoded for a key file.
func newKey() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return base64.StdEncoding.EncodeToString(key)
}

// reload makes the proxy reload its configuration and key files, and waits until it has.
func reload(p *harness.Proxy) {
	p.T.Helper()
	before := p.Metric(`cbproxy_config_reloads_total{result="success"}`)
	p.Signal(syscall.SIGHUP)
	harness.Eventually(p.T, "the configuration is reloaded", func() bool { return p.Metric(`cbproxy_config_reloads_total{result="success"}`) > before })
}

// queueFilesContain reports whether a file of the queue contains text. It also checks the file modes.
func queueFilesContain(p *harness.Proxy, text string) (found bool) {
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
		p.T.Fatalf("read the queue files: %d files, %v", files, err)
	}
	return found
}

// TestQueuedRequestsAreEncrypted checks that queue files contain no plain text of requests, and that requests are delivered
// after a key rotation and after a removed key is restored.
func TestQueuedRequestsAreEncrypted(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	keyFile := filepath.Join(t.TempDir(), "keys")
	first, second := newKey(), newKey()
	writeKeys(t, keyFile, first)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfigWithBreaker(u.Upstream, "fail_max: 1, recovery_timeout: 60", "encryption: {key_file: "+keyFile+"}")})
	queueSecret := func(body string) {
		t.Helper()
		if r := p.Post(body, "Authorization", "s3cret-header"); r.Status != 202 {
			t.Fatalf("%+v", r)
		}
	}
	queueSecret("s3cret-one")
	writeKeys(t, keyFile, second, first) // rotate keys while the request is queued
	reload(p)
	queueSecret("s3cret-two")
	p.Signal(syscall.SIGKILL)
	p.Wait()
	if queueFilesContain(p, "s3cret") {
		t.Error("the queue files contain plain text")
	}
	p.Start()
	u.Start()
	t.Cleanup(u.Kill)
	harness.ForceState(t, p, "half-open")
	u.AwaitDelivered("s3cret-one", "s3cret-two")
	p.AwaitEmptyQueue()

	// A request whose key has been removed can't be decrypted, but it is not lost.
	harness.ForceState(t, p, "open")
	queueSecret("s3cret-three")
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
	if !queueFilesContain(p, "plain") {
		t.Error("without a key the queue files contain no plain text: this test cannot detect missing encryption")
	}
	keys := writeKeys(t, filepath.Join(t.TempDir(), "keys"), newKey())
	p.ReplaceConfig(harness.QueueConfigWithBreaker(u.Upstream, "fail_max: 1, recovery_timeout: 60", "encryption: {key_file: "+keys+"}"))
	harness.Eventually(t, "the key file is configured", func() bool { return strings.Contains(p.AdminRequest("GET", "/api/v1/config", "").Body, keys) })
	p.MustQueue("sealed")
	if queueFilesContain(p, "sealed") {
		t.Error("the queue files contain the plain text of an encrypted request")
	}
	u.Start()
	t.Cleanup(u.Kill)
	harness.ForceState(t, p, "half-open")
	u.AwaitDelivered("plain", "sealed")
}

// TestInvalidKeyFileIsRejected checks that the current keys stay in use, and that the error does not contain the file's
// content.
func TestInvalidKeyFileIsRejected(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	keys := writeKeys(t, filepath.Join(t.TempDir(), "keys"), newKey())
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "encryption: {key_file: "+keys+"}")})
	secret := "c2VjcmV0IHNlY3JldA=="
	writeKeys(t, keys, secret)
	p.Signal(syscall.SIGHUP)
	harness.Eventually(t, "the key file is rejected", func() bool { return p.Health().Config.LastError != nil })
	if lastError := *p.Health().Config.LastError; !strings.Contains(lastError, "queue.encryption.key_file") || strings.Contains(lastError, secret) || strings.Contains(p.Log.String(), secret) {
		t.Errorf("last error: %s", lastError)
	}
	p.MustQueue("a") // the proxy still has a valid key
}
