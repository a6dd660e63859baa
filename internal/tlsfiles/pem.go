package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"

	"cbproxy/internal/files"
)

// MaxBytes is the largest PEM file that is read. It is several times the size of a system's trust store.
const MaxBytes = 4 << 20

var errNoCertificate = errors.New("no PEM block is a certificate")

// LoadCertPool returns the certificates in a PEM file as a pool of certificate authorities. The error
// does not contain the name of the file.
func LoadCertPool(file string) (*x509.CertPool, error) {
	content, err := files.ReadSmall(file, MaxBytes)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, errNoCertificate
	}
	return pool, nil
}

// KeyError is an error of the key file of a key pair.
type KeyError struct{ Err error }

func (e *KeyError) Error() string { return "key: " + e.Err.Error() }

// Unwrap returns the error without the prefix that names the key.
func (e *KeyError) Unwrap() error { return e.Err }

// LoadKeyPair returns the certificate chain in one PEM file with its private key in another one. An
// error of the key file is a *KeyError, every other error is one of the certificate file. Errors do
// not contain the names of the files.
func LoadKeyPair(certFile, keyFile string) (*tls.Certificate, error) {
	certificate, err := files.ReadSmall(certFile, MaxBytes)
	if err == nil {
		err = checkCertificate(certificate)
	}
	if err != nil {
		return nil, err
	}
	key, err := files.ReadSmall(keyFile, MaxBytes)
	if err != nil {
		return nil, &KeyError{err}
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil { // the key is invalid: the certificate has been checked
		return nil, &KeyError{errors.New(strings.TrimPrefix(err.Error(), "tls: "))}
	}
	return &pair, nil
}

// checkCertificate returns an error if the first certificate in a PEM text cannot be parsed.
func checkCertificate(text []byte) error {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			_, err := x509.ParseCertificate(block.Bytes)
			return err
		}
	}
	return errNoCertificate
}
