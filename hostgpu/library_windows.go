package hostgpu

import (
	"fmt"

	"golang.org/x/sys/windows"
)

// openLibrary opens a DLL, by its name where the system looks for them.
func openLibrary(name string) (uintptr, error) {
	lib, err := windows.LoadLibrary(name)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return uintptr(lib), nil
}

func closeLibrary(lib uintptr) error { return windows.FreeLibrary(windows.Handle(lib)) }

// librarySymbol returns the address of a function of a DLL.
func librarySymbol(lib uintptr, name string) (uintptr, error) {
	p, err := windows.GetProcAddress(windows.Handle(lib), name)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}
