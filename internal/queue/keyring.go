package queue

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
)

// Keyring encrypts messages with AES-256-GCM and its first key, and decrypts them with the key they were encrypted with. Safe for
// concurrent use.
type Keyring struct {
	first keyID
	keys  map[keyID]cipher.AEAD
}

// keyID identifies a key without revealing anything about it.
type keyID [8]byte

const (
	keyBytes     = 32
	sealOverhead = len(keyID{}) + 12 + 16 // with the nonce and the tag
	maxKeyFile   = 64 << 10
)

// ReadKeyring reads a file with one key per line, 32 bytes in base64. It ignores empty lines and those that begin with #. A key is
// replaced by inserting a new one before it. The old one can be removed when no message is encrypted with it any more.
func ReadKeyring(path string) (*Keyring, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a named pipe can block forever
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(content) > maxKeyFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxKeyFile)
	}
	k := &Keyring{keys: map[keyID]cipher.AEAD{}}
	number := 0
	for line := range bytes.Lines(content) {
		number++
		text := bytes.TrimSpace(line)
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(string(text))
		if err != nil || len(key) != keyBytes {
			return nil, fmt.Errorf("%s:%d: must be 32 bytes in base64, such as the output of `head -c 32 /dev/urandom | base64`", path, number)
		}
		if err := k.add(key); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, number, err)
		}
	}
	if len(k.keys) == 0 {
		return nil, fmt.Errorf("%s: has no key", path)
	}
	return k, nil
}

func (k *Keyring) add(key []byte) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(append([]byte("cbproxy key id:"), key...))
	id := keyID(sum[:len(keyID{})])
	if len(k.keys) == 0 {
		k.first = id
	}
	k.keys[id] = aead
	return nil
}

// seal encrypts plain and appends the result to header, which it authenticates, too.
func (k *Keyring) seal(header, plain []byte) []byte {
	sealed := append(header, k.first[:]...)
	return k.keys[k.first].Seal(sealed, nil, plain, header) // #nosec G407 -- this AEAD generates its nonce itself
}

var (
	errNoKey          = errors.New("the message is encrypted with an unknown key")
	errAuthentication = errors.New("decrypt a message: authentication failed, it is damaged or modified")
)

// open decrypts sealed, which was appended to header. A nil Keyring has no key.
func (k *Keyring) open(header, sealed []byte) ([]byte, error) {
	if len(sealed) < len(keyID{}) {
		return nil, errMalformed
	}
	if k == nil {
		return nil, errNoKey
	}
	aead := k.keys[keyID(sealed[:len(keyID{})])]
	if aead == nil {
		return nil, errNoKey
	}
	plain, err := aead.Open(nil, nil, sealed[len(keyID{}):], header)
	if err != nil {
		return nil, errAuthentication
	}
	return plain, nil
}
