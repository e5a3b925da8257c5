package edge

import (
	"encoding/binary"
	"fmt"

	"github.com/tetratelabs/wazero"

	"github.com/wisp-project/wisp/internal/layout"
)

// maxTable is the largest number of entries of a kernel's table. Tables are the
// one thing beside its memory that a guest can make as large as it likes, and
// nothing in the engine bounds them.
const maxTable = 4096

// maxBulk is the largest number of bytes that the code of a kernel that is not
// trusted could copy or fill without a loop or a call in between, where it could be
// stopped: a second or two.
const maxBulk = 8 << 30

// checkModule looks at a kernel before it is compiled. A module that is malformed
// is left to the engine to complain of.
func checkModule(kernel []byte, memory uint32, trusted bool) error {
	const header, tables, code = 8, 4, 10
	if len(kernel) < header {
		return nil
	}
	for rest := kernel[header:]; len(rest) > 0; {
		size, n := binary.Uvarint(rest[1:])
		if n <= 0 || size > uint64(len(rest)-1-n) {
			return nil
		}
		content := rest[1+n:][:size]
		switch rest[0] {
		case tables:
			if err := checkTables(content); err != nil {
				return err
			}
		case code:
			if b := uint64(bulk(content)) * uint64(memory); !trusted && b > maxBulk {
				return fmt.Errorf("%w: its kernel is not trusted, and could copy %d bytes at a stretch, in which it cannot be stopped; %d are allowed; "+
					"trust it, or use fewer instructions that copy memory", ErrArtefact, b, uint64(maxBulk))
			}
		}
		rest = rest[1+n+int(size):]
	}
	return nil
}

// checkTables refuses tables that may have more than maxTable entries.
func checkTables(b []byte) error {
	next := func() (v uint64) {
		v, n := binary.Uvarint(b)
		b = b[max(0, min(n, len(b))):]
		return v
	}
	for count := next(); count > 0 && len(b) >= 2; count-- {
		bounded := b[1]&1 != 0
		b = b[2:] // the type of its entries, and the flags of its limits
		least := next()
		most := least
		if bounded {
			most = next()
		}
		if !bounded || max(least, most) > maxTable {
			return fmt.Errorf("%w: its kernel has a table of %d entries or more; it must declare a most of at most %d", ErrArtefact, least, maxTable)
		}
	}
	return nil
}

// bulk counts what could be instructions that copy or fill memory or tables; numbers
// that look like one are counted, too.
func bulk(code []byte) (n int) {
	const prefix, first, last = 0xfc, 8, 17
	for i, b := range code {
		if b != prefix {
			continue
		}
		if op, size := binary.Uvarint(code[i+1:]); size > 0 && op >= first && op <= last {
			n++
		}
	}
	return n
}

// checkKernel refuses modules that want something of the host or lack an export.
func checkKernel(k wazero.CompiledModule) error {
	if f := k.ImportedFunctions(); len(f) > 0 {
		module, name, _ := f[0].Import()
		return fmt.Errorf("%w: its kernel imports %s.%s; a kernel imports nothing", ErrArtefact, module, name)
	}
	memory := k.ExportedMemories()["memory"]
	if len(k.ImportedMemories()) > 0 || memory == nil {
		return fmt.Errorf("%w: its kernel does not export a memory of its own", ErrArtefact)
	}
	if memory.Min() > layout.ImageBase>>16 {
		return fmt.Errorf("%w: its kernel starts with %d pages of memory, the image begins behind %d", ErrArtefact, memory.Min(), layout.ImageBase>>16)
	}
	run, ok := k.ExportedFunctions()["run"]
	if !ok || len(run.ParamTypes()) != 0 || len(run.ResultTypes()) != 1 {
		return fmt.Errorf("%w: its kernel has no function run that returns a status", ErrArtefact)
	}
	return nil
}
