//go:build !windows

package hostgpu

import "github.com/ebitengine/purego"

// openLibrary opens a shared library, by its name where the system looks for them.
func openLibrary(name string) (uintptr, error) {
	return purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL)
}

func closeLibrary(lib uintptr) error { return purego.Dlclose(lib) }

// librarySymbol returns the address of a function of a library.
func librarySymbol(lib uintptr, name string) (uintptr, error) { return purego.Dlsym(lib, name) }
