package artifact

// Limits bounds what a reader believes. A size declared by a file is compared
// with them before anything is allocated for it. All but MaxSections are in
// bytes; those of sections count what comes out of decompression. A zero field
// means its default.
type Limits struct {
	MaxFile     int64 // whole file; default 4 GiB
	MaxSections int   // default 64
	MaxManifest int64 // default 1 MiB
	MaxKernel   int64 // default 16 MiB
	MaxSegments int64 // all image segments together; default 2 GiB
	MaxItems    int64 // default 512 MiB
	MaxGoldens  int64 // default 64 MiB
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		v   *int64
		def int64
	}{
		{&l.MaxFile, 4 << 30},
		{&l.MaxManifest, 1 << 20},
		{&l.MaxKernel, 16 << 20},
		{&l.MaxSegments, 2 << 30},
		{&l.MaxItems, 512 << 20},
		{&l.MaxGoldens, 64 << 20},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
	}
	if l.MaxSections == 0 {
		l.MaxSections = 64
	}
	return l
}

// raw returns the limit on the raw bytes of all sections of type t together.
func (l Limits) raw(t SectionType) int64 {
	switch t {
	case SectionManifest:
		return l.MaxManifest
	case SectionKernel:
		return l.MaxKernel
	case SectionSegment:
		return l.MaxSegments
	case SectionItems:
		return l.MaxItems
	case SectionGolden:
		return l.MaxGoldens
	default:
		return 0
	}
}
