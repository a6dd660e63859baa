package routes

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
)

// maxPEMBytes is room for several times the authorities that a system trusts.
const maxPEMBytes = 4 << 20

// LoadAuthorities returns the certificates in a PEM file as those to verify others by. The
// error doesn't name the file.
func LoadAuthorities(file string) (*x509.CertPool, error) {
	content, err := readSmall(file, maxPEMBytes)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, errors.New("no PEM block is a certificate")
	}
	return pool, nil
}

// KeyFileError is what is wrong with the key of a certificate.
type KeyFileError struct{ Err error }

func (e *KeyFileError) Error() string { return "key: " + e.Err.Error() }

// Unwrap returns the error without a word about which file it is of.
func (e *KeyFileError) Unwrap() error { return e.Err }

// LoadKeyPair returns the certificate in a PEM file, with what leads to its authority, and
// its key in another one. An error of the key is a *KeyFileError, any other is of the
// certificate; neither names its file.
func LoadKeyPair(certFile, keyFile string) (*tls.Certificate, error) {
	certificate, err := readSmall(certFile, maxPEMBytes)
	if err == nil {
		err = checkCertificate(certificate)
	}
	if err != nil {
		return nil, err
	}
	key, err := readSmall(keyFile, maxPEMBytes)
	if err != nil {
		return nil, &KeyFileError{err}
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil { // of the key: the certificate was fine
		return nil, &KeyFileError{errors.New(strings.TrimPrefix(err.Error(), "tls: "))}
	}
	return &pair, nil
}

// checkCertificate tells whether the first certificate in a PEM text can be read.
func checkCertificate(text []byte) error {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			_, err := x509.ParseCertificate(block.Bytes)
			return err
		}
	}
	return errors.New("no PEM block is a certificate")
}
