package edge

import (
	"context"

	"github.com/wisp-project/wisp/artifact"
)

// Scribble fills a new memory over image with ones, zeroes all of it but the image,
// and returns what it then holds.
func Scribble(image []byte, from, until, size uint32) ([]byte, error) {
	shared, err := shareImage(image)
	if err != nil {
		return nil, err
	}
	defer shared.close()
	m, err := shared.newMemory(int(size))
	if err != nil {
		return nil, err
	}
	defer m.release()
	for range 2 { // the second time, some pages are there and some are not
		for _, part := range [][]byte{m.bytes[:from], m.bytes[until:]} {
			for i := range part {
				part[i] = 1
			}
		}
		m.zero(0, from)
		m.zero(until, size)
	}
	return append([]byte(nil), m.bytes...), nil
}

// Traces returns the number of bytes that are not zero outside the image in the
// idle sandboxes of r.
func Traces(r *Runtime) int {
	n := 0
	for _, s := range r.idle {
		for i, b := range s.pages.bytes {
			if at := uint32(i); b != 0 && (at < 1<<17 || at >= r.image.Map.Scratch) {
				n++
			}
		}
	}
	return n
}

// Sliced reports whether r trusts its kernel to return after each slice of work.
func Sliced(r *Runtime) bool { return r.sliced }

// Accept remembers the version of a in dir, as the last step of New does.
func Accept(dir string, a *artifact.Artifact) error {
	return versions{dir: dir}.accept(context.Background(), named(&a.Manifest), newRelease(a.Manifest.Version, a.Digest))
}

// Make makes a sandbox and closes it.
func Make(ctx context.Context, r *Runtime) error {
	s, err := newSandbox(ctx, r.wazero, r.kernel, r.image)
	if err != nil {
		return err
	}
	s.close()
	return nil
}

// CacheEntryName is a name that the engine could give its code.
const CacheEntryName = "wazero-v1/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// CacheEntry is an entry of the cache of machine code.
func CacheEntry(key [32]byte, name string, code []byte) []byte { return encodeCode(key, name, code) }

// CacheKey is the key of the code of a kernel.
func CacheKey(kernel []byte, trusted bool) [32]byte { return codeKey(kernel, trusted) }

// CacheName returns what the engine calls the code of an entry.
func CacheName(entry []byte) string {
	n := int(entry[len(codeMagic)+32])
	return string(entry[len(codeMagic)+33:][:n])
}

// StoreCode puts an entry into the cache in dir.
func StoreCode(dir string, key [32]byte, name string, code []byte) error {
	c, err := openCodeCache(dir)
	if err != nil {
		return err
	}
	defer c.root.Close() //nolint:errcheck // only read from
	return c.store(key, name, code)
}

// Schedule is a schedule with a share for each tenant.
type Schedule struct {
	s      *schedule
	shares map[string]*share
}

// NewSchedule makes one.
func NewSchedule(places, queue int) Schedule {
	return Schedule{newSchedule(places, queue), map[string]*share{}}
}

// Share makes a share of another, of all where that is empty.
func (s Schedule) Share(of, name string, places, queue int) {
	parent := s.s.all
	if of != "" {
		parent = s.shares[of]
	}
	s.shares[name] = s.s.share(parent, name, places, queue)
}

// Enter waits for a place.
func (s Schedule) Enter(ctx context.Context, name string, closed <-chan struct{}) error {
	return s.s.enter(ctx, s.shares[name], closed)
}

// Leave gives a place back.
func (s Schedule) Leave(name string) bool { return s.s.leave(s.shares[name]) }

// Counts returns the requests of a share that work and wait, of all where the name
// is empty.
func (s Schedule) Counts(name string) (working, waiting int) {
	if name == "" {
		return s.s.counts(s.s.all)
	}
	return s.s.counts(s.shares[name])
}
