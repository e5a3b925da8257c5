package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

const maxRedirects = 10

// Headers in which a hub describes a file that lies elsewhere.
const (
	linkedETag = "X-Linked-Etag"
	linkedSize = "X-Linked-Size"
	repoCommit = "X-Repo-Commit"
)

var errStalled = errors.New("nothing came for too long")

// answer is a response together with what the hub itself said on the way to it.
type answer struct {
	*http.Response
	linked http.Header // linkedETag, linkedSize and repoCommit
	own    bool        // the hub itself answered, not a host that it redirected to
}

// do sends a request and follows redirects. The token goes to the hub only,
// and no longer once a redirect has led to another host. A HEAD ends at the
// redirect to another host if the hub has said everything by then. The body
// of the answer must be closed.
func (c *Client) do(ctx context.Context, method string, u *url.URL, header http.Header) (*answer, error) {
	client := http.Client{}
	if c.HTTP != nil {
		client = *c.HTTP
	}
	// net/http would pass the token on to other ports and to subdomains.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	a := &answer{linked: http.Header{}, own: true}
	hub := u
	for range maxRedirects + 1 {
		req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrResponse, withoutURL(err))
		}
		req.Header = header.Clone()
		req.Header.Set("User-Agent", "wisp")
		// Sizes, ranges and checksums are those of the plain bytes.
		req.Header.Set("Accept-Encoding", "identity")
		if c.Token != "" && a.own {
			req.Header.Set("Authorization", "Bearer "+c.Token)
		}
		if a.Response, err = c.send(&client, req); err != nil {
			return nil, err
		}
		if a.own {
			for _, k := range []string{linkedETag, linkedSize, repoCommit} {
				if v := a.Header.Get(k); v != "" && a.linked.Get(k) == "" {
					a.linked.Set(k, v)
				}
			}
		}
		if !a.redirects() {
			return a, nil
		}
		next, err := a.Location()
		if err == nil {
			err = secure(next)
		}
		if err == nil && u.Scheme == "https" && next.Scheme != "https" {
			err = errors.New("it leads away from TLS")
		}
		own := err == nil && a.own && sameOrigin(hub, next)
		if err == nil && method == http.MethodHead && !own && a.linked.Get(linkedETag) != "" && a.linked.Get(linkedSize) != "" {
			return a, nil
		}
		_ = a.Body.Close() // a redirect's text is of no use
		if err != nil {
			return nil, fmt.Errorf("%w: redirect from %s: %w", ErrResponse, u.Host, withoutURL(err))
		}
		a.own, u = own, next
	}
	return nil, fmt.Errorf("%w: %s: more than %d redirects", ErrResponse, hub.Host, maxRedirects)
}

func (a *answer) redirects() bool {
	switch a.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// send sends one request. It and every read of the body end when nothing comes
// for c.Stall.
func (c *Client) send(client *http.Client, req *http.Request) (*http.Response, error) {
	stall := c.Stall
	if stall <= 0 {
		stall = time.Minute
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	b := &watchedBody{ctx: ctx, cancel: cancel, stall: stall}
	b.timer = time.AfterFunc(stall, func() { cancel(errStalled) })
	resp, err := client.Do(req.WithContext(ctx))
	if err != nil {
		b.release()
		var certificate *tls.CertificateVerificationError
		if errors.As(err, &certificate) {
			return nil, fmt.Errorf("%w: %s: %w", ErrResponse, req.URL.Host, withoutURL(err))
		}
		return nil, transient("%s: %w", req.URL.Host, b.explain(err))
	}
	b.ReadCloser, resp.Body = resp.Body, b
	return resp, nil
}

// watchedBody is a body whose reads do not wait for ever.
type watchedBody struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
}

// Read reads from the body.
func (b *watchedBody) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil { // the transport may still have bytes to give
		return 0, b.explain(err)
	}
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.timer.Reset(b.stall)
	}
	if err != nil && err != io.EOF { //nolint:errorlint // readers return io.EOF itself
		err = b.explain(err)
	}
	return n, err
}

// Close closes the body and ends the watch.
func (b *watchedBody) Close() error {
	b.release()
	return b.ReadCloser.Close()
}

func (b *watchedBody) release() {
	b.timer.Stop()
	b.cancel(nil)
}

func (b *watchedBody) explain(err error) error {
	if errors.Is(context.Cause(b.ctx), errStalled) {
		return errStalled
	}
	return withoutURL(err)
}

// withoutURL removes the address from an error of net/http: addresses that
// files are redirected to are signed, and as good as a key.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// check returns an error for an answer that is not (a part of) the file.
func (a *answer) check(file string) error {
	switch code := a.StatusCode; {
	case code == http.StatusOK || code == http.StatusPartialContent:
		kind, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
		if err == nil && kind == "text/html" {
			return fmt.Errorf("%w: %s: %w", ErrResponse, file, errWebPage)
		}
		if e := a.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
			return fmt.Errorf("%w: %s comes in the encoding %q, which was not asked for", ErrResponse, file, e)
		}
		return nil
	case code == http.StatusNotFound || code == http.StatusGone:
		return fmt.Errorf("%w: %s (status %d)", ErrNotFound, file, code)
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return fmt.Errorf("%w: %s (status %d): there is no such repository, or it needs a token that may read it", ErrDenied, file, code)
	case code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || code >= 500:
		return &transientError{err: fmt.Errorf("%s answers with status %d", a.Request.URL.Host, code), after: retryAfter(a.Header)}
	default:
		return fmt.Errorf("%w: %s: status %d", ErrResponse, file, code)
	}
}

// validator is what identifies the bytes of an answer in If-Range, empty if
// nothing does.
func (a *answer) validator() string {
	if etag := a.Header.Get("ETag"); etag != "" && !strings.HasPrefix(etag, "W/") {
		return etag
	}
	return a.Header.Get("Last-Modified")
}

// secure reports an address that a request must not go to: TLS is required
// unless the host is this machine.
func secure(u *url.URL) error {
	switch {
	case u.Host == "":
		return errors.New("the address has no host")
	case u.User != nil:
		return errors.New("the address holds a user name")
	case u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	default:
		return fmt.Errorf("%s://%s is not protected by TLS; use https", u.Scheme, u.Host)
	}
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host)
}
