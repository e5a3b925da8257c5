package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
)

// defaultModel is the name of a model that was given none.
const defaultModel = "default"

// named is a model of the command line.
type named struct{ name, origin string }

// models are those that the gateway is to serve, the first of them where a request
// names none.
type models struct {
	log  *slog.Logger
	host *edge.Host
	list []named
}

// parseModel reads NAME=ORIGIN.
func parseModel(s string) (named, error) {
	name, origin, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return named{}, fmt.Errorf("%q is not of the form NAME=FILE or NAME=ADDRESS", s)
	}
	return named{name, origin}, nil
}

// find returns the model of a name, the first where it is empty.
func (m *models) find(name string) (*edge.Model, error) {
	if name == "" {
		name = m.list[0].name
	}
	return m.host.Model(name)
}

// update brings every model up to date. It returns what went wrong, and whether
// any model is being served.
func (m *models) update(ctx context.Context) (serves bool, err error) {
	for _, n := range m.list {
		_, failed := m.updateOne(ctx, n)
		err = errors.Join(err, failed)
		_, missing := m.host.Model(n.name)
		serves = serves || missing == nil
		if ctx.Err() != nil {
			break
		}
	}
	return serves, err
}

// updateOne opens a model that is not served yet, and looks for a higher version of
// one that is.
func (m *models) updateOne(ctx context.Context, n named) (changed bool, err error) {
	begin := time.Now()
	model, err := m.host.Model(n.name)
	if err == nil {
		changed, err = model.Update(ctx)
	} else if model, err = m.host.Open(ctx, n.name, n.origin); err == nil {
		changed, err = true, model.Stats().Failure
	}
	if err != nil && ctx.Err() == nil {
		m.log.Error("update", "model", n.name, "origin", n.origin, "error", advice(err))
	}
	if changed {
		m.announce("serving", model, n.origin, begin)
	}
	return changed, err
}

// follow looks for new versions at each signal, and every so often unless poll is 0,
// until ctx ends.
func (m *models) follow(ctx context.Context, hangup <-chan os.Signal, poll time.Duration) {
	var tick <-chan time.Time
	if poll > 0 {
		t := time.NewTicker(poll)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-hangup:
		case <-tick:
		case <-ctx.Done():
			return
		}
		_, _ = m.update(ctx) // what goes wrong is in the log
	}
}

// rollback goes back to the version before the present one.
func (m *models) rollback(ctx context.Context, name string) error {
	model, err := m.find(name)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := model.Rollback(ctx); err != nil {
		m.log.Error("rollback", "model", name, "error", err)
		return err
	}
	m.announce("rolled back", model, "", begin)
	return nil
}

// announce writes into the log what a model serves now.
func (m *models) announce(what string, model *edge.Model, origin string, begin time.Time) {
	_ = model.Use(func(r *edge.Runtime) error { // a gateway that is stopping has nothing to announce
		cached, missed := r.Cached()
		attributes := []any{
			"model", model.Name(), "artefact", origin, "name", r.Manifest().Name, "tenant", r.Manifest().Tenant, "version", r.Manifest().Version,
			"digest", fmt.Sprintf("%x", r.Digest()), "signer", signer(r.Signature()), "items", len(r.Items()), "cached", cached, "took", time.Since(begin),
		}
		if missed != nil {
			attributes = append(attributes, "cache", missed.Error())
		}
		m.log.Info(what, attributes...)
		return nil
	})
}

// advice says what helps against an error on this command line.
func advice(err error) error {
	switch {
	case errors.Is(err, artifact.ErrUnsigned):
		return fmt.Errorf("%w; on this command line that is --allow-unsigned", err)
	case errors.Is(err, artifact.ErrUntrusted):
		return fmt.Errorf("%w; on this command line that is --trust FILE.pub", err)
	case errors.Is(err, edge.ErrRollback), errors.Is(err, edge.ErrState):
		return fmt.Errorf("%w; on this command line --force-version does that", err)
	case errors.Is(err, edge.ErrLimit):
		return fmt.Errorf("%w; on this command line that is --max-memory, --sandboxes, or the tenant's limits in --tenants", err)
	}
	return err
}
