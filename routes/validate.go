package routes

import (
	"bytes"
	"net/url"
	"os"
	"strings"

	"cbproxy/internal/files"
	"cbproxy/internal/sanitize"
	"cbproxy/internal/strictyaml"
)

// validate checks what concerns more than one value, or the world outside.
func (b *builder) validate() {
	b.checkListeners()
	b.checkDataDir()
	b.checkAccessLog()
	b.checkTokenFile()
	b.checkRedisURL()
	b.checkPrefixes()
	b.checkRetries()
	b.checkTLS()
	b.checkLoops()
}

func (b *builder) checkListeners() {
	c := b.config
	fine := true
	for path, address := range map[string]string{"listen": c.Listen, "admin.listen": c.Admin.Listen} {
		if want := checkAddress(address); want != "" && !b.faults.Has(path) {
			b.faults.Add(b.at(path), "%s, got %q", want, sanitize.TruncateRunes(address, strictyaml.MaxValueRunes))
			fine = false
		}
	}
	if fine && sameListener(c.Listen, c.Admin.Listen) {
		b.faults.Add(b.at("admin.listen"), "must be another address than listen (%s), got %s", c.Listen, c.Admin.Listen)
	}
}

// checkDataDir makes nothing: a check leaves everything as it is.
func (b *builder) checkDataDir() {
	const path = "data_dir"
	folder := b.config.DataDir
	if folder == "" || b.faults.Has(path) {
		return
	}
	shown := sanitize.TruncateRunes(folder, strictyaml.MaxValueRunes)
	if strings.ContainsFunc(folder, isControl) {
		b.faults.Add(b.at(path), "must have no control character, got %q", shown)
	} else if info, err := os.Stat(folder); err == nil && !info.IsDir() {
		b.faults.Add(b.at(path), "must be a folder, got %q, which is a file", shown)
	}
}

// checkAccessLog opens nothing: a check leaves everything as it is.
func (b *builder) checkAccessLog() {
	const path = "access_log.destination"
	file := b.config.AccessLog.Destination
	if b.faults.Has(path) || file == "stdout" || file == "stderr" {
		return
	}
	shown := sanitize.TruncateRunes(file, strictyaml.MaxValueRunes)
	if file == "" || strings.ContainsFunc(file, isControl) {
		b.faults.Add(b.at(path), "must be stdout, stderr or the path of a file, got %q", shown)
	} else if info, err := os.Stat(file); err == nil && info.IsDir() {
		b.faults.Add(b.at(path), "must be a file, got %q, which is a folder", shown)
	}
}

// maxTokenBytes is far more than any token has.
const maxTokenBytes = 64 << 10

func (b *builder) checkTokenFile() {
	const path = "admin.token_file"
	file := b.config.Admin.TokenFile
	if file == "" || b.faults.Has(path) {
		return
	}
	token, err := ReadToken(file)
	switch {
	case err != nil:
		b.faults.Add(b.at(path), "must be a file that can be read, got %q: %s", sanitize.TruncateRunes(file, strictyaml.MaxValueRunes), err)
	case token == "":
		b.faults.Add(b.at(path), "must be a file with a token in it, got %q, which is empty", sanitize.TruncateRunes(file, strictyaml.MaxValueRunes))
	}
}

// ReadToken returns the token in a file, "" if it holds none. It opens nothing but a regular file.
func ReadToken(file string) (string, error) {
	content, err := files.ReadSmall(file, maxTokenBytes)
	return string(bytes.TrimSpace(content)), err
}

// checkRedisURL checks the URL, from wherever it comes. No fault holds what may be secret in it.
func (b *builder) checkRedisURL() {
	text := b.config.Redis.URL
	at := b.at("redis.url")
	if b.environ[redisURLVariable] != "" {
		at = strictyaml.Place{Path: redisURLVariable}
	}
	if want := b.wantRedisURL(text); want != "" {
		b.faults.Add(at, "%s, got %q", want, sanitize.TruncateRunes(sanitize.RedactURL(text), strictyaml.MaxValueRunes))
	}
}

// wantRedisURL returns what the URL must be instead, "" if it is fine.
func (b *builder) wantRedisURL(text string) string {
	switch {
	case text == "":
		return ""
	case strings.ContainsFunc(text, isControl):
		return "must have no control character"
	case b.RedisURL == nil:
		return ""
	}
	err := b.RedisURL(text)
	switch {
	case err == nil:
		return ""
	case strayAt(text):
		return "must have %40, %2F, %3F and %23 in place of @, /, ? and # in a user name, a password or a parameter"
	}
	return sanitize.Redact(strings.ReplaceAll(err.Error(), text, sanitize.RedactURL(text)))
}

// strayAt tells whether an @ stands behind the host of a URL. A password that has a / or the
// like in it makes one: its end is then taken for a path, and whoever finds fault with the path
// may quote it.
func strayAt(text string) bool {
	u, err := url.Parse(text)
	return err == nil && strings.Contains(u.EscapedPath()+u.RawQuery+u.EscapedFragment(), "@")
}
