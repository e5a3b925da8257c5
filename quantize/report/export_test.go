package report

// Described gives tests what the page says of a key.
var Described = described

// Parts of the arithmetic that tests work by hand.
type Option = option

// The options of an instance, for tests.
var (
	EncoderOptions = encoderOptions
	DecoderOptions = decoderOptions
)

// Values of an option.
func (o option) Values() (batch, slots, service, join float64) {
	return o.batch, o.slots, o.service, o.join
}
