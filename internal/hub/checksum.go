package hub

import (
	"crypto/sha1" //nolint:gosec // git's object names are SHA-1
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"regexp"
	"strings"
)

// Check says how the contents of a file were checked.
type Check string

// The checks, strongest first.
const (
	CheckSHA256 Check = "sha256"   // against a SHA-256 that the hub or the wheel states
	CheckGit    Check = "git-sha1" // against git's blob SHA-1 that the hub states
	CheckCRC    Check = "crc32"    // against the CRC-32 of the zip format
	CheckSize   Check = "size"     // the length only: the hub states no checksum
)

// checksum is a stated checksum, such as "sha256:9f86…"; empty if none is.
type checksum string

var hexDigits = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// etagChecksum is the checksum that an entity tag of a hub is: 64 digits are a
// SHA-256, 40 are git's; anything else says nothing about the contents.
func etagChecksum(etag string) checksum {
	digits := strings.ToLower(strings.Trim(strings.TrimPrefix(etag, "W/"), `"`))
	switch {
	case !hexDigits.MatchString(digits):
		return ""
	case len(digits) == 2*sha256.Size:
		return checksum(string(CheckSHA256) + ":" + digits)
	default:
		return checksum(string(CheckGit) + ":" + digits)
	}
}

// check is the kind of s, or without if there is none.
func (s checksum) check(without Check) Check {
	kind, _, ok := strings.Cut(string(s), ":")
	if !ok {
		return without
	}
	return Check(kind)
}

// hash returns what computes a checksum of the kind of s for size bytes.
func (s checksum) hash(size int64) hash.Hash {
	if s.check("") != CheckGit {
		return sha256.New()
	}
	h := sha1.New() //nolint:gosec // see above
	fmt.Fprintf(h, "blob %d\x00", size)
	return h
}

// compare returns an error if h, made by hash, saw other contents than s states.
func (s checksum) compare(name string, h hash.Hash) error {
	kind, want, ok := strings.Cut(string(s), ":")
	if got := hex.EncodeToString(h.Sum(nil)); ok && got != want {
		return fmt.Errorf("%w: %s has %s %s, not %s", ErrChecksum, name, kind, got, want)
	}
	return nil
}
