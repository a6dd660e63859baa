package routes

import (
	"bytes"
	"net/url"
	"os"
	"strings"

	"cbproxy/internal/files"
	"cbproxy/internal/sanitize"
	"cbproxy/internal/strictyaml"
	"cbproxy/internal/textform"

	"gopkg.in/yaml.v3"
)

// validate checks conditions between several values, and files.
func (b *builder) validate() {
	b.checkListeners()
	b.checkDataDir()
	b.checkAccessLog()
	b.checkTokenFile()
	b.checkRedisURL()
	b.checkPrefixes()
	b.eachRoute(func(_, path string, n *yaml.Node, r *Route) { b.checkRoute(path, n, r) })
	b.checkTLS()
	b.checkLoops()
}

// checkDataDir checks data_dir without creating it.
func (b *builder) checkDataDir() {
	const path = "data_dir"
	folder := b.config.DataDir
	if folder == "" || b.faults.Has(path) {
		return
	}
	shown := sanitize.TruncateRunes(folder, strictyaml.MaxValueRunes)
	if strings.ContainsFunc(folder, textform.IsControl) {
		b.faults.Add(b.at(path), "must have no control character, got %q", shown)
	} else if info, err := os.Stat(folder); err == nil && !info.IsDir() {
		b.faults.Add(b.at(path), "must be a folder, got the file %q", shown)
	}
}

// checkAccessLog checks access_log.destination without opening the file.
func (b *builder) checkAccessLog() {
	const path = "access_log.destination"
	file := b.config.AccessLog.Destination
	if b.faults.Has(path) || file == "stdout" || file == "stderr" {
		return
	}
	shown := sanitize.TruncateRunes(file, strictyaml.MaxValueRunes)
	if file == "" || strings.ContainsFunc(file, textform.IsControl) {
		b.faults.Add(b.at(path), "must be stdout, stderr or the path of a file, got %q", shown)
	} else if info, err := os.Stat(file); err == nil && info.IsDir() {
		b.faults.Add(b.at(path), "must be a file, got the folder %q", shown)
	}
}

// maxTokenBytes bounds the size of a token file.
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
		b.faults.Add(b.at(path), "must be a readable file, got %q: %s", sanitize.TruncateRunes(file, strictyaml.MaxValueRunes), err)
	case token == "":
		b.faults.Add(b.at(path), "must be a file with a token, got the empty file %q", sanitize.TruncateRunes(file, strictyaml.MaxValueRunes))
	}
}

// ReadToken returns the token in a file, "" if the file is empty. It returns an error if the file is not
// a regular file.
func ReadToken(file string) (string, error) {
	content, err := files.ReadSmall(file, maxTokenBytes)
	return string(bytes.TrimSpace(content)), err
}

// checkRedisURL checks the URL from the file or the environment. Its faults contain no credentials.
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

// wantRedisURL returns what the URL must be, "" if it is valid.
func (b *builder) wantRedisURL(text string) string {
	switch {
	case text == "":
		return ""
	case strings.ContainsFunc(text, textform.IsControl):
		return "must have no control character"
	case b.RedisURL == nil:
		return ""
	}
	err := b.RedisURL(text)
	switch {
	case err == nil:
		return ""
	case hasUnencodedAt(text):
		return "must have %40, %2F, %3F and %23 in place of @, /, ? and # in a user name, a password or a parameter"
	}
	return sanitize.Redact(strings.ReplaceAll(err.Error(), text, sanitize.RedactURL(text)))
}

// hasUnencodedAt reports whether a URL has an @ after its host. This happens if the password contains an
// unencoded slash: the rest of the password is then parsed as a path, which an error may quote.
func hasUnencodedAt(text string) bool {
	u, err := url.Parse(text)
	return err == nil && strings.Contains(u.EscapedPath()+u.RawQuery+u.EscapedFragment(), "@")
}
