package artifact

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"github.com/wisp-project/wisp/internal/atomicfile"
)

// algorithmEd25519 is the signature algorithm of this version; 0 means unsigned.
const algorithmEd25519 = 1

// domain opens the signed message, so that no signature made for something else
// is one of an artefact.
const domain = "wisp artefact v1\x00"

// Signature says who signed a file. The zero value means nobody.
type Signature struct {
	// Key is the id of the key that the file names.
	Key KeyID
	// Trusted says that the key is one of ReadOptions.Keys and the signature is
	// right. Without it Key is only what the file claims.
	Trusted bool
}

// message returns the bytes that the signature of a file with that header is
// over.
func message(header []byte) []byte {
	return append([]byte(domain), header[offDigest:offAlgorithm]...)
}

// sign fills the signature place of header.
func sign(header []byte, key ed25519.PrivateKey) error {
	if len(key) != ed25519.PrivateKeySize {
		return fmt.Errorf("%w: a private key of %d bytes, ed25519 has %d", ErrKey, len(key), ed25519.PrivateKeySize)
	}
	place := header[offAlgorithm:offReserved2]
	clear(place)
	binary.LittleEndian.PutUint32(place, algorithmEd25519)
	id := NewKeyID(key.Public().(ed25519.PublicKey))
	copy(header[offKeyID:], id[:])
	copy(header[offSignature:], ed25519.Sign(key, message(header)))
	return nil
}

// verify checks the signature place of a header whose digest is right, and that
// opts accept who signed it.
func verify(header []byte, opts ReadOptions) (Signature, error) {
	var s Signature
	switch a := binary.LittleEndian.Uint32(header[offAlgorithm:]); {
	case a == 0 && !isZero(header[offReserved1:offReserved2]):
		return s, fmt.Errorf("%w: the file declares no signature algorithm but the signature place is not zero", ErrFormat)
	case a == 0 && !opts.AllowUnsigned:
		return s, fmt.Errorf("%w: have it signed with wisp sign, or set ReadOptions.AllowUnsigned to read it nevertheless", ErrUnsigned)
	case a == 0:
		return s, nil
	case a != algorithmEd25519:
		return s, fmt.Errorf("%w: signature algorithm %d is unsupported by this version, which knows %d (ed25519)", ErrSignature, a, algorithmEd25519)
	case !isZero(header[offReserved1:offKeyID]):
		return s, fmt.Errorf("%w: reserved bytes of the signature place are not zero", ErrFormat)
	}
	copy(s.Key[:], header[offKeyID:])
	if s.Key == (KeyID{}) {
		return s, fmt.Errorf("%w: a signature without the id of a key", ErrFormat)
	}
	for i, key := range opts.Keys {
		if len(key) != ed25519.PublicKeySize {
			return s, fmt.Errorf("%w: trusted key %d has %d bytes, ed25519 has %d", ErrKey, i, len(key), ed25519.PublicKeySize)
		}
		if NewKeyID(key) != s.Key {
			continue
		}
		if !ed25519.Verify(key, message(header), header[offSignature:offReserved2]) {
			return s, fmt.Errorf("%w: it is not that of key %v, which the file names: the file was changed or the signature forged, fetch it again", ErrSignature, s.Key)
		}
		s.Trusted = true
		return s, nil
	}
	if !opts.AllowUnsigned {
		return s, fmt.Errorf("%w: key %v, which is none of the %d trusted ones; if you know whose it is, trust it", ErrUntrusted, s.Key, len(opts.Keys))
	}
	return s, nil
}

// SignFile signs the file at path with key, in the place of any signature that
// it had: nothing else of it changes. All of the file is read and checked first,
// as nobody should vouch for what no reader would take. The file is replaced
// whole or not at all.
func SignFile(path string, key ed25519.PrivateKey) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("artifact: sign: %w", err)
		}
	}()
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read from
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file; name one", path)
	}
	return atomicfile.Replace(path, info.Mode().Perm(), func(f *os.File) error {
		// What is checked is the copy, which nobody else can change any more.
		size, err := io.Copy(f, in)
		if err != nil {
			return err
		}
		if _, err := Read(f, size, ReadOptions{AllowUnsigned: true}); err != nil {
			return err
		}
		header := make([]byte, headerSize)
		if err := readAt(f, header, 0); err != nil {
			return err
		}
		if err := sign(header, key); err != nil {
			return err
		}
		_, err = f.WriteAt(header[offAlgorithm:offReserved2], offAlgorithm)
		return err
	})
}
