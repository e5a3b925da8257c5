package hub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Progress is told that done of total bytes of a file are there. It is called
// often, always from the goroutine that started the work.
type Progress func(file string, done, total int64)

// Client fetches repositories from a model hub. Only Base is needed. A Client
// does one thing at a time.
type Client struct {
	// Base is the address of the hub. TLS is required unless it is this machine.
	Base string
	// Token is sent as a bearer token to Base, and to no host that it redirects
	// to; empty for none.
	Token string
	// HTTP sends the requests; nil means net/http's defaults. Its CheckRedirect is
	// not used. A Timeout would bound the download of a whole file.
	HTTP *http.Client
	// Rand spreads the pauses between attempts; nil means exact pauses.
	Rand *rand.Rand
	// Sleep waits for d or until ctx ends, when it returns ctx.Err(); nil means to
	// really wait.
	Sleep func(ctx context.Context, d time.Duration) error
	// Attempts is how often in a row a request may fail without getting further;
	// 0 means 6.
	Attempts int
	// Stall is how long nothing may come before a connection counts as cut; 0
	// means one minute.
	Stall time.Duration
	// Limits bound what is written.
	Limits Limits

	prepare func(*folder) // set by tests
}

// Report says what Pull or Unpack left in the folder.
type Report struct {
	Source string // ORG/NAME@REVISION, or the name of the wheel
	Commit string // the commit that the hub states, if it does
	Files  []File
}

// File is a file of a report.
type File struct {
	Name     string // with slashes
	Bytes    int64
	SHA256   string // hexadecimal, as computed here
	Verified Check  // how the contents were checked
	Cached   bool   // it was there already
	Resumed  bool   // more than one connection brought it
}

// file is the item in a report; without a stated checksum it was checked as
// given.
func (it *item) file(without Check, resumed bool) File {
	e := it.entry
	return File{Name: it.name, Bytes: e.Bytes, SHA256: e.SHA256, Verified: e.Stated.check(without), Cached: it.cached, Resumed: resumed}
}

// Pull fetches the encoder in the repository r into the folder dir: the
// configuration, the tokenizer, the pooling and the weights as safetensors.
// Files that are there with the right contents are not fetched again. A nil
// progress is allowed.
//
// When ctx ends, the error wraps ctx.Err(); what was fetched stays, and the
// next Pull goes on from there. Other errors wrap one of this package's or, for
// the disk, the operating system's.
func (c *Client) Pull(ctx context.Context, r Repo, dir string, progress Progress) (_ *Report, err error) {
	base, err := c.base()
	if err != nil {
		return nil, err
	}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	p := &pull{Client: c, base: base, repo: r, progress: progress, budget: budget{limits: c.Limits.withDefaults()}}
	report := &Report{Source: r.String()}
	config, err := p.stat(ctx, configFile)
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("%w: there is no such repository or revision, or it holds no encoder: %s", err, r)
	}
	if err != nil {
		return nil, err
	}
	// From here on everything comes from one commit, whatever happens to the branch.
	if commitID.MatchString(p.commit) {
		p.repo.Revision, report.Commit = p.commit, p.commit
	}
	if p.folder, err = openFolder(dir, r.path()); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.folder.close()) }()
	if c.prepare != nil {
		c.prepare(p.folder)
	}
	files, err := p.plan(ctx, config)
	if err != nil {
		return nil, err
	}
	entries := map[string]entry{}
	for _, it := range files {
		resumed, err := p.fetch(ctx, &it)
		if err != nil {
			return nil, err
		}
		report.Files, entries[it.name] = append(report.Files, it.file(CheckSize, resumed)), it.entry
	}
	return report, p.folder.complete(entries, report.Commit)
}

// base returns the checked address of the hub.
func (c *Client) base() (*url.URL, error) {
	u, err := url.Parse(c.Base)
	if err != nil {
		return nil, fmt.Errorf("%w: address of the hub: %w", ErrOptions, withoutURL(err))
	}
	if err := secure(u); err != nil {
		return nil, fmt.Errorf("%w: address of the hub: %w", ErrOptions, err)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%w: address of the hub: it has a query or a fragment", ErrOptions)
	}
	if strings.ContainsFunc(c.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("%w: the token holds a space or a character that is not ASCII", ErrOptions)
	}
	return u, nil
}
