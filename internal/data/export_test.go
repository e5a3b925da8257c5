package data

import "context"

// Example is an example for the tests of fetching.
type Example struct {
	Package, Hash, Folder, Terms string
	Files                        map[string]string
}

// Fetch fetches x as FetchML100K does the real one.
func (x Example) Fetch(ctx context.Context, dir string, run Runner) error {
	return example(x).fetch(ctx, dir, run)
}
