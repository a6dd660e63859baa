package queue_test

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cbproxy/internal/events"
	"cbproxy/internal/queue"
)

func newKey(n byte) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string('a'+rune(n)), 32)))
}

func keyFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func keyring(t testing.TB, keys ...string) *queue.Keyring {
	t.Helper()
	k, err := queue.ReadKeyring(keyFile(t, strings.Join(keys, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestReadKeyring(t *testing.T) {
	a, b := newKey(1), newKey(2)
	for name, text := range map[string]string{
		"one":                     a,
		"a last newline":          a + "\n",
		"several":                 a + "\n" + b + "\n",
		"comments and empty ones": "# the new one\n\n  \t\n" + a + "\n#" + b + "\n # and\n" + b + "\n\n",
		"Windows":                 "# new\r\n" + a + "\r\n" + b + "\r\n",
		"surrounding blanks":      "  " + a + "\t \n",
		"twice":                   a + "\n" + a + "\n",
	} {
		if _, err := queue.ReadKeyring(keyFile(t, text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadKeyringRejectsInvalidFiles(t *testing.T) {
	good, secret := newKey(1), "c2VjcmV0c2VjcmV0"
	for name, c := range map[string]struct{ text, at string }{
		"empty":           {"", ": has no key"},
		"only comments":   {"# x\n\n", ": has no key"},
		"too short":       {"# x\n" + good + "\n" + secret + "\n", ":3: "},
		"too long":        {good + good[:4] + "\n", ":1: "},
		"no base64":       {good + "\n\n" + secret + "!?\n", ":3: "},
		"url base64":      {strings.Repeat("-_", 21) + "-=\n", ":1: "},
		"hex":             {strings.Repeat("5f", 32) + "\n", ":1: "},
		"two on one line": {good + " " + good, ":1: "},
		"too large":       {strings.Repeat("#\n", 40_000), ": larger than"},
	} {
		path := keyFile(t, c.text)
		k, err := queue.ReadKeyring(path)
		if k != nil || err == nil || !strings.HasPrefix(err.Error(), path+c.at) {
			t.Errorf("%s: %v, want %s%s", name, err, path, c.at)
			continue
		}
		for _, key := range []string{good, good[:20], secret, strings.Repeat("5f", 8)} {
			if strings.Contains(err.Error(), key) {
				t.Errorf("%s: the error contains a key: %v", name, err)
			}
		}
	}
	if _, err := queue.ReadKeyring(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestKeyRotation(t *testing.T) {
	folder := t.TempDir()
	stalled := newUpstream()
	stalled.setAnswer(failToConnect)
	with := func(keys ...string) queue.Policy {
		p := slowPolicy()
		if keys != nil {
			p.Keys = keyring(t, keys...)
		}
		return p
	}
	for i, keys := range [][]string{nil, {newKey(1)}, {newKey(2), newKey(1)}, {newKey(3)}} {
		b := open(t, folder, stalled, with(keys...))
		b.accept(t, string(rune('a'+i)))
		b.stop()
	}
	u := newUpstream()
	p := quickPolicy()
	p.Keys = keyring(t, newKey(3), newKey(2)) // the first key was removed too early
	b := open(t, folder, u, p)
	b.waitFor(t, "the first is delayed", func(s events.QueueStatus) bool { return s.NextAttempt != nil })
	b.recover()
	b.waitFor(t, "each is delivered or dead", empty)
	dead := b.list(t, queue.StateDead)
	if len(dead) != 1 || dead[0].Cause != "unreadable" || !strings.Contains(dead[0].LastError, "encrypted with an unknown key") || dead[0].Path != "" {
		t.Errorf("dead: %+v", dead)
	}
	equal(t, u.bodies(), []string{"a", "c", "d"})

	p.Keys = keyring(t, newKey(1))
	b.Configure("svc", p)
	if _, err := b.Retry(t.Context(), dead[0].ID); err != nil {
		t.Fatal(err)
	}
	b.waitFor(t, "it is delivered with its key configured again", empty)
	equal(t, u.bodies(), []string{"a", "c", "d", "b"})
	p.Keys = nil
	b.Configure("svc", p)
	b.accept(t, "plain")
	b.waitFor(t, "it is delivered", empty)
	b.wantCounts(t, 0, 0)
}

// An encrypted payload reveals no content, and every change of it is detected.
func TestEncryptedMessages(t *testing.T) {
	keys := keyring(t, newKey(1), newKey(2))
	m := message("the secret body")
	m.Header.Set("X-Secret", "the secret field")
	payload, err := queue.Encode(m, keys)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := queue.Encode(m, keys); string(again) == string(payload) {
		t.Error("two encryptions of a message are equal")
	}
	for _, plain := range []string{"secret", "POST", "/svc", "X-Secret"} {
		if strings.Contains(string(payload), plain) {
			t.Errorf("the payload contains %q", plain)
		}
	}
	if out, err := queue.Decode(payload, keyring(t, newKey(2), newKey(1))); err != nil || string(out.Body) != "the secret body" {
		t.Errorf("%+v, %v", out, err)
	}
	for i := range payload {
		for bit := range 8 {
			forged := append([]byte(nil), payload...)
			forged[i] ^= 1 << bit
			if m, err := queue.Decode(forged, keys); err == nil {
				t.Errorf("byte %d, bit %d: %+v", i, bit, m)
			}
		}
	}
	for cut := range payload {
		if _, err := queue.Decode(payload[:cut], keys); err == nil {
			t.Errorf("truncated after %d bytes: no error", cut)
		}
	}
	for name, other := range map[string]*queue.Keyring{"no key": nil, "another key": keyring(t, newKey(3))} {
		if _, err := queue.Decode(payload, other); err == nil || !strings.Contains(err.Error(), "encrypted with an unknown key") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := queue.Decode(append(payload, 0), keys); err == nil {
		t.Error("extended: no error")
	}
}
