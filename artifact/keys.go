package artifact

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// KeyID names a key: the SHA-256 of the 32 bytes of its public half.
type KeyID [sha256.Size]byte

// NewKeyID returns the id of a key.
func NewKeyID(key ed25519.PublicKey) KeyID { return sha256.Sum256(key) }

// String returns id in hexadecimal.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// The PEM types of key files, those of RFC 7468.
const (
	pemPrivate = "PRIVATE KEY" // PKCS #8, RFC 5958
	pemPublic  = "PUBLIC KEY"  // SubjectPublicKeyInfo, RFC 5280
)

// maxKeyFile bounds what is read of a key file.
const maxKeyFile = 64 << 10

// CreateKey makes a key from the system's randomness and writes its private half
// to path, readable by its owner alone, and its public half to path + ".pub".
// Neither may exist.
func CreateKey(path string) (KeyID, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return KeyID{}, fmt.Errorf("artifact: create key: %w", err)
	}
	b, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return KeyID{}, fmt.Errorf("artifact: create key: %w", err)
	}
	p, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return KeyID{}, fmt.Errorf("artifact: create key: %w", err)
	}
	if err := createFile(path, 0o600, pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: b})); err != nil {
		return KeyID{}, fmt.Errorf("artifact: create key: %w", err)
	}
	if err := createFile(path+".pub", 0o644, pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: p})); err != nil {
		return KeyID{}, fmt.Errorf("artifact: create key: %w", errors.Join(err, os.Remove(path)))
	}
	return NewKeyID(public), nil
}

// createFile writes a file that must not exist yet.
func createFile(path string, mode os.FileMode, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// ReadPrivateKey reads the private half of a key from a PKCS #8 file in PEM form,
// as CreateKey and openssl genpkey write it. Errors that are not the file
// system's wrap ErrKey.
func ReadPrivateKey(path string) (ed25519.PrivateKey, error) {
	return readKey(path, ParsePrivateKey)
}

// ReadPublicKey reads the public half of a key from a SubjectPublicKeyInfo file
// in PEM form, as CreateKey and openssl pkey -pubout write it. Errors that are
// not the file system's wrap ErrKey.
func ReadPublicKey(path string) (ed25519.PublicKey, error) {
	return readKey(path, ParsePublicKey)
}

func readKey[K any](path string, parse func([]byte) (K, error)) (key K, err error) {
	f, err := os.Open(path)
	if err != nil {
		return key, fmt.Errorf("artifact: %w; wisp keygen makes a key", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return key, fmt.Errorf("artifact: %w", err)
	}
	if len(b) > maxKeyFile {
		return key, fmt.Errorf("%w: %s has more than %d bytes, it is no key file", ErrKey, path, maxKeyFile)
	}
	if key, err = parse(b); err != nil {
		return key, fmt.Errorf("%w (in %s)", err, path)
	}
	return key, nil
}

// ParsePrivateKey reads what a file of ReadPrivateKey holds.
func ParsePrivateKey(b []byte) (ed25519.PrivateKey, error) {
	der, err := decodePEM(b, pemPrivate)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, wrongKind(key)
	}
	return private, nil
}

// ParsePublicKey reads what a file of ReadPublicKey holds.
func ParsePublicKey(b []byte) (ed25519.PublicKey, error) {
	der, err := decodePEM(b, pemPublic)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	public, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, wrongKind(key)
	}
	return public, nil
}

// decodePEM returns the content of the only block in b, of type want.
func decodePEM(b []byte, want string) ([]byte, error) {
	block, rest := pem.Decode(b)
	switch {
	case block == nil:
		return nil, fmt.Errorf("%w: it is not a key in PEM form; make one with wisp keygen", ErrKey)
	case block.Type == pemPrivate && want == pemPublic:
		return nil, fmt.Errorf("%w: it is a private key where the public one is wanted; name the file that ends in .pub, and keep this one secret", ErrKey)
	case block.Type == pemPublic && want == pemPrivate:
		return nil, fmt.Errorf("%w: it is a public key where the private one is wanted; name the file without .pub", ErrKey)
	case block.Type == "ENCRYPTED PRIVATE KEY":
		return nil, fmt.Errorf("%w: it is encrypted; decrypt it with openssl pkcs8", ErrKey)
	case block.Type != want:
		return nil, fmt.Errorf("%w: it holds a %q, want a %q; make a key with wisp keygen", ErrKey, block.Type, want)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, fmt.Errorf("%w: something follows the key; one file holds one key", ErrKey)
	}
	return block.Bytes, nil
}

// wrongKind is the error for a key of another algorithm.
func wrongKind(key any) error {
	kind := fmt.Sprintf("%T", key)
	switch key.(type) {
	case *rsa.PublicKey, *rsa.PrivateKey:
		kind = "RSA"
	case *ecdsa.PublicKey, *ecdsa.PrivateKey:
		kind = "ECDSA"
	}
	return fmt.Errorf("%w: it is of the kind %s, want ed25519; make one with wisp keygen", ErrKey, kind)
}
