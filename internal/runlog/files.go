package runlog

import (
	"fmt"
	"os"
)

func removeAll(paths ...string) error {
	for _, path := range paths {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("runlog: open: %w", err)
		}
	}
	return nil
}
