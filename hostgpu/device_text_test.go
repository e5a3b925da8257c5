package hostgpu_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
)

// Text encoders trained on a GPU learn what they learn on the host, whatever of them is
// trained and on which losses; what crosses in a step are indices and scalars.
func TestTextTrainerOnDevice(t *testing.T) {
	for name, change := range map[string]func(*hostgpu.TextTrainOptions){
		"contrastive": func(o *hostgpu.TextTrainOptions) { o.Smoothing = 0.1 },
		"masked":      func(o *hostgpu.TextTrainOptions) { o.Losses.MaskedLM = 1 },
		"both":        func(o *hostgpu.TextTrainOptions) { o.Losses = hostgpu.TextLosses{Contrastive: 1, MaskedLM: 0.3} },
		"frozen": func(o *hostgpu.TextTrainOptions) {
			o.FrozenLayers, o.Losses = 1, hostgpu.TextLosses{Contrastive: 1, MaskedLM: 0.3}
		},
		"adapters": func(o *hostgpu.TextTrainOptions) { o.AdapterRank = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			var want []float64
			eachDevice(t, func(t *testing.T, d *hostgpu.Device) {
				m := tinyTextModel(t, 3)
				o := hostgpu.TextTrainOptions{Pairs: 4, Temperature: 0.2, Seed: 3, Special: special, Device: d}
				change(&o)
				tr := newTextTrainer(t, m, o)
				r := rand.New(rand.NewPCG(4, 0))
				sent, received := 0, 0
				for step := range 6 {
					// Lengths that make rows of one length, and of two.
					queries, items := randomTexts(r, m.Config, 4, 9), randomTexts(r, m.Config, 4, 4+step%2*5)
					loss, err := tr.Step(queries, items, 1e-3)
					if err != nil {
						t.Fatal(err)
					}
					if d == nil {
						want = append(want, loss)
					} else if math.Abs(loss-want[step]) > 1e-3*want[step] {
						t.Errorf("step %d: loss %v, on the host %v", step, loss, want[step])
					}
					nowSent, nowReceived := tr.Traffic()
					// Two losses have indices of at most 8 texts of 16 tokens.
					most := 4 * 2 * (16*8*16 + 4*(m.Config.Vocabulary+m.Config.Positions+m.Config.Types))
					if step > 1 && (nowSent-sent > most || nowReceived-received > 8+8*len(tr.Weights())) {
						t.Errorf("step %d: %d bytes to the GPU and %d from it", step, nowSent-sent, nowReceived-received)
					}
					sent, received = nowSent, nowReceived
				}
				was := m.Weights["text.layer.1.ffn.up.weight"].Data[0]
				if err := tr.Pull(); err != nil {
					t.Fatal(err)
				}
				if d != nil && m.Weights["text.layer.1.ffn.up.weight"].Data[0] == was {
					t.Error("the weights did not come back")
				}
			})
		})
	}
}
