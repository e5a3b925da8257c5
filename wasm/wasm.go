// Package wasm holds the guest kernel: one freestanding WebAssembly module that
// runs every artefact of its ABI. ABI.md describes it to hosts in any language;
// guest holds its source.
package wasm

import _ "embed"

// Kernel is the guest kernel. It imports nothing and exports "memory", "run" and
// "wisp_abi". Callers must not change it.
//
//go:embed kernel.wasm
var Kernel []byte
