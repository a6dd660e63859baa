package routes

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
)

// validate checks what concerns more than one value, or the world outside.
func (b *builder) validate() {
	b.checkListeners()
	b.checkTokenFile()
	b.checkPrefixes()
}

func (b *builder) checkListeners() {
	c := b.config
	fine := true
	for path, address := range map[string]string{"listen": c.Listen, "admin.listen": c.Admin.Listen} {
		if want := checkAddress(address); want != "" && !b.faults.has(path) {
			b.faults.add(b.at(path), "%s, got %q", want, shorten(address, longestShown))
			fine = false
		}
	}
	if fine && sameListener(c.Listen, c.Admin.Listen) {
		b.faults.add(b.at("admin.listen"), "must be another address than listen (%s), got %s", c.Listen, c.Admin.Listen)
	}
}

// maxTokenBytes is far more than any token has.
const maxTokenBytes = 64 << 10

func (b *builder) checkTokenFile() {
	const path = "admin.token_file"
	file := b.config.Admin.TokenFile
	if file == "" || b.faults.has(path) {
		return
	}
	token, err := readToken(file)
	switch {
	case err != nil:
		b.faults.add(b.at(path), "must be a file that can be read, got %q: %s", shorten(file, longestShown), err)
	case token == "":
		b.faults.add(b.at(path), "must be a file with a token in it, got %q, which is empty", shorten(file, longestShown))
	}
}

// readToken returns the token in a file. It opens nothing that could make it wait.
func readToken(file string) (string, error) {
	info, err := os.Stat(file)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxTokenBytes) {
		return "", errors.New("not a regular file of at most 64 KiB")
	}
	var content []byte
	if err == nil {
		content, err = os.ReadFile(file)
	}
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return string(bytes.TrimSpace(content)), err
}

// checkPrefixes adds a fault for each prefix that a route further up has too.
func (b *builder) checkPrefixes() {
	section, _ := lookup(b.root, "routes")
	owners := map[string]string{}
	for i := 0; section != nil && i < len(section.Content) && !b.faults.full(); i += 2 {
		name := section.Content[i].Value
		path := b.at("routes").key(section.Content[i]).path + ".prefix"
		r := b.config.Routes[name]
		if r == nil || b.faults.has(path) {
			continue
		}
		for _, prefix := range r.Prefix {
			canonical := canonicalPrefix(prefix)
			if owner, taken := owners[canonical]; taken {
				b.faults.add(b.at(path), "must not be the prefix of another route, got %s, which is that of %s", prefix, owner)
				continue
			}
			owners[canonical] = name
		}
	}
}
