package main

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
)

// otherTenants names, in the file, those that are not listed there.
const otherTenants = "*"

// tenantLimits is an entry of the file of --tenants.
type tenantLimits struct {
	Sandboxes int      `json:"sandboxes"`
	Queue     int      `json:"queue"`
	Memory    int64    `json:"memory"`
	Timeout   string   `json:"timeout"`
	MaxAnswer int      `json:"max_answer"`
	Keys      []string `json:"keys"` // files, beside this one where their paths are relative
}

// readTenants reads limits of tenants from a JSON file: an object of objects.
func readTenants(path string, o *edge.HostOptions) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read from
	var all map[string]tenantLimits
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	if err := d.Decode(&all); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	o.Tenants = map[string]edge.TenantLimits{}
	for name, t := range all {
		limits := edge.TenantLimits{Sandboxes: t.Sandboxes, Queue: t.Queue, Memory: t.Memory, MaxAnswer: t.MaxAnswer}
		if t.Timeout != "" {
			if limits.Timeout, err = time.ParseDuration(t.Timeout); err != nil {
				return fmt.Errorf("%s: tenant %q: %w", path, name, err)
			}
		}
		for _, file := range t.Keys {
			if !filepath.IsAbs(file) {
				file = filepath.Join(filepath.Dir(path), file)
			}
			key, err := artifact.ReadPublicKey(file)
			if err != nil {
				return fmt.Errorf("%s: tenant %q: %w", path, name, err)
			}
			limits.Keys = append(limits.Keys, key)
		}
		if name == otherTenants {
			o.Others = limits
			continue
		}
		o.Tenants[name] = limits
	}
	// A tenant's keys are trusted for that tenant; the host has to know them, too.
	have := map[string]bool{}
	for _, k := range append(append([]ed25519.PublicKey(nil), o.Trust.Keys...), o.Trust.KernelKeys...) {
		have[string(k)] = true
	}
	for _, t := range append([]edge.TenantLimits{o.Others}, values(o.Tenants)...) {
		for _, k := range t.Keys {
			if !have[string(k)] {
				return fmt.Errorf("%s: key %v of a tenant is not among those of --trust; a tenant's keys narrow down whom the gateway trusts", path, artifact.NewKeyID(k))
			}
		}
	}
	return o.Validate()
}

func values(m map[string]edge.TenantLimits) []edge.TenantLimits {
	var all []edge.TenantLimits
	for _, v := range m {
		all = append(all, v)
	}
	return all
}
