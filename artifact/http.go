package artifact

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"time"
)

// HTTPOrigin fetches an artefact from a web server: a .wisp file by ranges, or, of
// a server that knows none, in one piece, out of which the sections are taken; or
// a .head and the files of its sections. It follows no redirects: whoever moves an
// artefact says so to those who fetch it. What comes is believed for its digests
// and signature, not for the connection, so that http will do where nobody minds
// who else learns what is fetched.
type HTTPOrigin struct {
	URL string
	// Client does the requests; nil means one of its own with the usual proxies.
	// Its CheckRedirect is not used.
	Client *http.Client
	// Idle bounds the wait for the next bytes. 0 means 30 seconds.
	Idle time.Duration

	client *http.Client
	size   int64          // of the .wisp file, once known; 0 before
	whole  *http.Response // the answer of a server without ranges
	stop   func()         // ends that answer
	at     int64          // where it is
}

// firstBytes is what is asked for at first: the table of as many sections as are
// usual, and often the manifest.
const firstBytes = 8 << 10

func (h *HTTPOrigin) String() string { return h.URL }

// Close ends what is being received.
func (h *HTTPOrigin) Close() error {
	if h.whole != nil {
		h.stop()
		h.whole = nil
	}
	if h.client != nil {
		h.client.CloseIdleConnections()
	}
	return nil
}

// Head returns the first bytes.
func (h *HTTPOrigin) Head(ctx context.Context) (io.ReadCloser, int64, error) {
	if h.spread() {
		r, err := h.file(ctx, h.URL, 0, -1)
		return r, -1, err
	}
	r, err := h.bytes(ctx, 0, firstBytes)
	if err != nil {
		return nil, 0, err
	}
	return r, h.size, nil
}

// Section returns the bytes of a section.
func (h *HTTPOrigin) Section(ctx context.Context, s SectionInfo, from int64) (io.ReadCloser, error) {
	if h.spread() {
		u, err := url.Parse(h.URL)
		if err != nil {
			return nil, err
		}
		u.Path, u.RawPath = path.Join(path.Dir(u.Path), sectionsDir, hex.EncodeToString(s.Digest[:])), ""
		return h.file(ctx, u.String(), from, s.Stored)
	}
	return h.bytes(ctx, s.Offset+from, s.Stored-from)
}

// spread reports whether the address is that of a head without sections.
func (h *HTTPOrigin) spread() bool {
	u, err := url.Parse(h.URL)
	return err == nil && spread(u.Path)
}

// bytes returns length bytes of the .wisp file from offset on, or as many as it has.
func (h *HTTPOrigin) bytes(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	if h.whole != nil && offset >= h.at {
		return h.fromWhole(offset)
	}
	response, stop, err := h.get(ctx, h.URL, fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	if err != nil {
		return nil, err
	}
	switch response.StatusCode {
	case http.StatusPartialContent:
		var from, to, total int64
		_, err := fmt.Sscanf(response.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &total)
		switch {
		case err != nil || from != offset || to < from || to >= offset+length || to >= total:
			err = fmt.Errorf("%w: asked for bytes %d to %d, the server says it sends %q", ErrOrigin, offset, offset+length-1, response.Header.Get("Content-Range"))
		case h.size != 0 && total != h.size:
			err = fmt.Errorf("%w: it had %d bytes and now has %d: it was replaced meanwhile, fetch again", ErrOrigin, h.size, total)
		case response.ContentLength >= 0 && response.ContentLength != to-from+1:
			err = fmt.Errorf("%w: %d bytes announced for a range of %d", ErrOrigin, response.ContentLength, to-from+1)
		}
		if err != nil {
			stop()
			return nil, err
		}
		h.size = total
		return &body{Reader: io.LimitReader(response.Body, to-from+1), stop: stop}, nil
	case http.StatusOK:
		if h.size != 0 && response.ContentLength != h.size {
			stop()
			return nil, fmt.Errorf("%w: it had %d bytes and now has %d: it was replaced meanwhile, fetch again", ErrOrigin, h.size, response.ContentLength)
		}
		_ = h.Close()                   // an answer that is too far on
		h.size = response.ContentLength // -1 where the server does not say
		h.whole, h.stop, h.at = response, stop, 0
		return h.fromWhole(offset)
	default:
		stop()
		return nil, h.refused(response)
	}
}

// fromWhole goes on to offset in the answer of a server without ranges.
func (h *HTTPOrigin) fromWhole(offset int64) (io.ReadCloser, error) {
	n, err := io.CopyN(io.Discard, h.whole.Body, offset-h.at)
	h.at += n
	if err != nil {
		h.stop()
		h.whole = nil
		return nil, fmt.Errorf("%w: the answer ended after %d bytes, %d were wanted: %w", ErrOrigin, h.at, offset, err)
	}
	return io.NopCloser(&counting{h}), nil
}

// counting reads on in the answer of a server without ranges.
type counting struct{ h *HTTPOrigin }

func (c *counting) Read(b []byte) (int, error) {
	if c.h.whole == nil {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.h.whole.Body.Read(b)
	c.h.at += int64(n)
	if err != nil {
		c.h.stop() // the next section needs a new answer
		c.h.whole = nil
	}
	return n, err
}

// file returns a file of its own from an offset on. Its length is known, or -1.
func (h *HTTPOrigin) file(ctx context.Context, address string, offset, length int64) (io.ReadCloser, error) {
	ranges := ""
	if offset > 0 {
		ranges = fmt.Sprintf("bytes=%d-", offset)
	}
	response, stop, err := h.get(ctx, address, ranges)
	if err != nil {
		return nil, err
	}
	var from, to, total int64
	switch response.StatusCode {
	case http.StatusPartialContent:
		if _, err := fmt.Sscanf(response.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &total); err != nil || from != offset || offset == 0 || to != total-1 {
			stop()
			return nil, fmt.Errorf("%w: asked for what lies behind byte %d, the server says it sends %q", ErrOrigin, offset, response.Header.Get("Content-Range"))
		}
	case http.StatusOK:
		if total = response.ContentLength; total < 0 {
			total = length
		}
	default:
		stop()
		return nil, h.refused(response)
	}
	if length >= 0 && total != length {
		stop()
		return nil, fmt.Errorf("%w: %s has %d bytes, the table declares %d", ErrOrigin, address, total, length)
	}
	if _, err := io.CopyN(io.Discard, response.Body, offset-from); err != nil {
		stop()
		return nil, fmt.Errorf("%w: %w", errCutOff, err)
	}
	return &body{Reader: response.Body, stop: stop}, nil
}

func (h *HTTPOrigin) refused(response *http.Response) error {
	if response.StatusCode >= 300 && response.StatusCode < 400 {
		return fmt.Errorf("%w: it redirects to %q (%s), and redirects are not followed; give the address where the artefact is",
			ErrOrigin, response.Header.Get("Location"), response.Status)
	}
	return fmt.Errorf("%w: the server says %s", ErrOrigin, response.Status)
}

// get sends a request. Until stop is called, the answer goes on as long as bytes
// come.
func (h *HTTPOrigin) get(ctx context.Context, address, ranges string) (_ *http.Response, stop func(), err error) {
	if h.client == nil {
		h.client = &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
		if h.Client != nil {
			own := *h.Client
			h.client = &own
		}
		h.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	ctx, cancel := context.WithCancelCause(ctx)
	idle := h.Idle
	if idle == 0 {
		idle = 30 * time.Second
	}
	timer := time.AfterFunc(idle, func() { cancel(fmt.Errorf("%w: nothing came for %v", ErrOrigin, idle)) })
	stop = func() {
		timer.Stop()
		cancel(nil)
	}
	fail := func(err error) (*http.Response, func(), error) {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		stop()
		return nil, nil, err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", ErrOrigin, err))
	}
	q.Header.Set("Accept-Encoding", "identity") // offsets and lengths are those of the file
	if ranges != "" {
		q.Header.Set("Range", ranges)
	}
	response, err := h.client.Do(q)
	timer.Stop()
	if err != nil {
		return fail(fmt.Errorf("%w: %w", ErrOrigin, err))
	}
	if e := response.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		_ = response.Body.Close() // nothing of it is wanted
		return fail(fmt.Errorf("%w: the server sends it encoded (%s), which was not asked for", ErrOrigin, e))
	}
	inner := response.Body
	response.Body = &timed{ReadCloser: inner, ctx: ctx, timer: timer, idle: idle}
	ended := stop
	stop = func() {
		ended()
		_ = inner.Close() // the rest of it is not wanted
	}
	return response, stop, nil
}

// timed gives a reader's next bytes a time limit of their own.
type timed struct {
	io.ReadCloser
	ctx   context.Context
	timer *time.Timer
	idle  time.Duration
}

func (t *timed) Read(b []byte) (int, error) {
	t.timer.Reset(t.idle)
	n, err := t.ReadCloser.Read(b)
	t.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		if cause := context.Cause(t.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

// body is an answer of which a part is read.
type body struct {
	io.Reader
	stop func()
}

func (b *body) Close() error {
	b.stop()
	return nil
}
