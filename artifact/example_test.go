package artifact_test

import (
	"crypto/ed25519"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/wisp-project/wisp/artifact"
)

func Example() {
	dir, err := os.MkdirTemp("", "artifact")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // an example's litter harms nobody
	path := filepath.Join(dir, "shop.wisp")

	a := &artifact.Artifact{
		Manifest: artifact.Manifest{
			Name: "shop", Version: 1, ABI: 1,
			Model:      artifact.ModelInfo{Items: 2, Dim: 8, Layers: 1, Heads: 1, FFN: 16, Window: 8, EventTypes: 1, GapBuckets: 4},
			EventTypes: []artifact.EventType{{Name: "view"}},
			Limits:     artifact.ManifestLimits{MaxHistory: 50, MaxK: 10, MemoryPages: 16},
		},
		Kernel:   []byte("\x00asm\x01\x00\x00\x00"),
		Segments: []artifact.Segment{{Name: "header", Data: []byte("packed weights")}},
		Items:    []artifact.Item{{ID: "kettle", Title: "Kettle"}, {ID: "teapot", Title: "Teapot", Categories: []string{"kitchen"}}},
		Goldens:  []artifact.Golden{{Request: []byte("request"), Answer: []byte("answer")}},
	}
	if err := artifact.WriteFile(path, a, artifact.WriteOptions{}); err != nil {
		log.Fatal(err)
	}

	a, err = artifact.Open(path, artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(a.Manifest.Name, a.Manifest.Version, a.Items[1].Title)
	for _, s := range a.Sections {
		fmt.Println(s.Type, s.Name, s.Codec == artifact.CodecZstd)
	}
	// Output:
	// shop 1 Teapot
	// manifest  true
	// kernel  false
	// segment header false
	// items  true
	// golden  false
}

// A key is made once; its public half goes to those who are to trust it.
func ExampleSignFile() {
	dir, err := os.MkdirTemp("", "artifact")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // an example's litter harms nobody
	path, keyFile := filepath.Join(dir, "shop.wisp"), filepath.Join(dir, "shop.key")
	if err := artifact.WriteFile(path, small(), artifact.WriteOptions{}); err != nil {
		log.Fatal(err)
	}

	if _, err := artifact.CreateKey(keyFile); err != nil {
		log.Fatal(err)
	}
	private, err := artifact.ReadPrivateKey(keyFile)
	if err != nil {
		log.Fatal(err)
	}
	if err := artifact.SignFile(path, private); err != nil {
		log.Fatal(err)
	}

	public, err := artifact.ReadPublicKey(keyFile + ".pub")
	if err != nil {
		log.Fatal(err)
	}
	a, err := artifact.Open(path, artifact.ReadOptions{Keys: []ed25519.PublicKey{public}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(a.Manifest.Name, a.Signature.Trusted, a.Signature.Key == artifact.NewKeyID(public))
	// Output: corner-shop true true
}
