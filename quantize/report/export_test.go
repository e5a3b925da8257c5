package report

// Parts of the arithmetic that tests work by hand.
var (
	Described      = described
	WaitBound      = waitBound
	EncoderOptions = encoderOptions
	DecoderOptions = decoderOptions
)

// Option is a way to run something on a machine.
type Option = option

// NewOption returns an option.
func NewOption(batch, slots, service, join float64) Option {
	return option{batch: batch, slots: slots, service: service, join: join}
}

// Values of an option.
func (o option) Values() (batch, slots, service, join float64) {
	return o.batch, o.slots, o.service, o.join
}

// Sized is what an option takes.
type Sized struct {
	Batch, Machines, Load, Latency float64
	Meets                          bool
}

// Size is size.
func Size(w Workload, in Instance, o Option) Sized {
	return sized(size(w, in, o, w.RequestsPerDay))
}

// Cheapest is cheapest.
func Cheapest(w Workload, in Instance, options []Option) Sized {
	return sized(cheapest(w, in, options, w.RequestsPerDay))
}

func sized(f fleet) Sized { return Sized{f.batch, f.machines, f.load, f.latency, f.meets} }
