package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// furtherBy is how many new bytes make a cut connection count as progress. It
// bounds the number of attempts for a hub that cuts every one of them.
const furtherBy = 1 << 20

// pull is one Pull.
type pull struct {
	*Client
	base     *url.URL
	repo     Repo
	commit   string // as the hub states it
	folder   *folder
	progress Progress
	budget   budget
}

// plan returns the files to fetch. Nothing is written before the folder was
// found to be free for all of them, but for the index of sharded weights, which
// names the shards.
func (p *pull) plan(ctx context.Context, config meta) ([]item, error) {
	first, err := p.item(config)
	if err != nil {
		return nil, err
	}
	files, has := []item{first}, map[string]bool{}
	// add looks a file up and says whether there is one.
	add := func(name string) (bool, error) {
		m, err := p.stat(ctx, name)
		if errors.Is(err, ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		it, err := p.item(m)
		files, has[name] = append(files, it), true
		return true, err
	}
	for _, name := range smallFiles[1:] {
		if _, err := add(name); err != nil {
			return nil, err
		}
	}
	if !has[tokenFile] && !has[vocabFile] {
		return nil, fmt.Errorf("%w: %s has neither %s nor %s", ErrNotFound, p.repo, tokenFile, vocabFile)
	}
	if whole, err := add(weightsFile); whole || err != nil {
		return files, err
	}
	sharded, err := add(indexFile)
	if err != nil {
		return nil, err
	}
	if !sharded {
		return nil, fmt.Errorf("%w: %s has neither %s nor %s; weights in other formats are not read", ErrNotFound, p.repo, weightsFile, indexFile)
	}
	if _, err := p.fetch(ctx, &files[len(files)-1]); err != nil {
		return nil, err
	}
	index, err := p.folder.root.ReadFile(indexFile)
	if err != nil {
		return nil, fmt.Errorf("hub: read %s: %w", p.folder.path(indexFile), err)
	}
	names, err := shards(index)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		there, err := add(name)
		if err != nil {
			return nil, err
		}
		if !there {
			return nil, fmt.Errorf("%w: %s, which %s names", ErrNotFound, name, indexFile)
		}
	}
	return files, nil
}

// item is what is to be done about a file.
func (p *pull) item(m meta) (item, error) {
	if err := p.budget.add(m); err != nil {
		return item{}, err
	}
	return p.folder.look(m)
}

// stat asks the hub about a file.
func (p *pull) stat(ctx context.Context, name string) (m meta, err error) {
	err = p.retry(ctx, name, func() (bool, error) {
		m, err = p.head(ctx, name)
		return false, err
	})
	return m, err
}

func (p *pull) head(ctx context.Context, name string) (meta, error) {
	a, err := p.do(ctx, http.MethodHead, p.repo.url(p.base, name), http.Header{})
	if err != nil {
		return meta{}, err
	}
	defer a.Body.Close() //nolint:errcheck // it has no contents
	m := meta{name: name, size: -1, sum: etagChecksum(a.linked.Get(linkedETag))}
	// At a redirect the hub has described a file that lies elsewhere.
	if !a.redirects() {
		if err := a.check(name); err != nil {
			return meta{}, err
		}
		m.size, m.validator = a.ContentLength, a.validator()
		if m.sum == "" && a.own {
			m.sum = etagChecksum(a.Header.Get("ETag"))
		}
	}
	if s := a.linked.Get(linkedSize); s != "" {
		if m.size, err = strconv.ParseInt(s, 10, 64); err != nil {
			m.size = -1
		}
	}
	if m.size < 0 {
		return meta{}, fmt.Errorf("%w: %s: the hub states no size", ErrResponse, name)
	}
	if c := a.linked.Get(repoCommit); c != "" {
		p.commit = c
	}
	return m, nil
}

// fetch brings a file into the folder, unless it is there.
func (p *pull) fetch(ctx context.Context, it *item) (resumed bool, err error) {
	if it.cached {
		return false, nil
	}
	it.entry, resumed, err = p.download(ctx, it.meta)
	if errors.Is(err, ErrChecksum) {
		// Either the file changed since it was looked up, or the pieces of several
		// connections do not fit together: both deserve a second try from zero.
		again, statErr := p.stat(ctx, it.name)
		if statErr != nil {
			return resumed, statErr
		}
		if !resumed && again == it.meta {
			return resumed, err
		}
		if err := (&budget{limits: p.budget.limits}).add(again); err != nil {
			return resumed, err
		}
		it.entry, resumed, err = p.download(ctx, again)
	}
	return resumed, err
}

// download fetches the missing bytes of a file, over as many connections as it
// takes, and says whether more than one brought them.
func (p *pull) download(ctx context.Context, m meta) (_ entry, resumed bool, err error) {
	part, err := p.folder.openPart(m)
	if err != nil {
		return entry{}, false, err
	}
	best := part.have
	err = p.retry(ctx, m.name, func() (bool, error) {
		err := p.receive(ctx, part)
		further := part.have >= best+furtherBy
		if further {
			best = part.have
		}
		return further, err
	})
	resumed = part.resumed
	switch {
	case errors.Is(err, ErrChecksum):
		return entry{}, resumed, errors.Join(err, part.discard())
	case err != nil:
		return entry{}, resumed, errors.Join(err, part.file.Close()) // what is there is kept
	}
	e, err := part.finish()
	return e, resumed, err
}

// receive asks for the missing bytes over one connection. A hub that sends the
// whole file instead, because it changed or because it knows no ranges, makes
// the part begin anew.
func (p *pull) receive(ctx context.Context, part *part) error {
	m := part.meta
	p.report(part)
	if part.have == m.size {
		return nil
	}
	header := http.Header{}
	if part.have > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", part.have))
		if m.validator != "" {
			header.Set("If-Range", m.validator)
		}
	}
	a, err := p.do(ctx, http.MethodGet, p.repo.url(p.base, m.name), header)
	if err != nil {
		return err
	}
	defer a.Body.Close() //nolint:errcheck // only read from
	if a.StatusCode == http.StatusRequestedRangeNotSatisfiable && part.have > 0 {
		return errors.Join(transient("the hub does not have the bytes from %d on", part.have), part.restart(""))
	}
	if err := a.check(m.name); err != nil {
		return err
	}
	if a.StatusCode == http.StatusPartialContent {
		want := fmt.Sprintf("bytes %d-%d/%d", part.have, m.size-1, m.size)
		if got := a.Header.Get("Content-Range"); got != want {
			return errors.Join(transient("the hub sends %q in place of %q", got, want), part.restart(""))
		}
		part.resumed = part.have > 0
		return p.copy(part, a.Body)
	}
	if a.ContentLength >= 0 && a.ContentLength != m.size {
		return fmt.Errorf("%w: %s: the hub states %d bytes and sends %d", ErrChecksum, m.name, m.size, a.ContentLength)
	}
	if err := part.restart(a.validator()); err != nil {
		return err
	}
	return p.copy(part, a.Body)
}

// copy appends a body to the part.
func (p *pull) copy(part *part, body io.Reader) error {
	m := part.meta
	buf := make([]byte, 128<<10)
	for {
		n, err := body.Read(buf)
		if int64(n) > m.size-part.have {
			return fmt.Errorf("%w: %s: the hub states %d bytes and sends more", ErrChecksum, m.name, m.size)
		}
		if _, err := part.Write(buf[:n]); err != nil {
			return fmt.Errorf("%w; make room and run the same command again to go on", err)
		}
		p.report(part)
		switch {
		case err == io.EOF && part.have == m.size:
			return nil
		case err != nil:
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return transient("after %d of %d bytes: %w", part.have, m.size, err)
		}
	}
}

func (p *pull) report(part *part) {
	if p.progress != nil {
		p.progress(part.meta.name, part.have, part.meta.size)
	}
}
