package artifact

import (
	"bytes"
	"fmt"

	"github.com/wisp-project/wisp/internal/layout"
)

// SetImage puts a model's image into a: its segments and, in the manifest, the
// ABI, the dimensions and the limits that follow from it. The segments share the
// image's bytes.
func (a *Artifact) SetImage(image *layout.Image) {
	m := &a.Manifest
	m.ABI, m.Model, m.Limits = layout.ABI, modelInfo(image.Shape), manifestLimits(image.Map)
	a.Segments = nil
	for i, part := range image.Split() {
		a.Segments = append(a.Segments, Segment{Name: layout.Segments[i], Data: part})
	}
}

// Image joins the segments, checks every byte of the image, and compares it with
// what the manifest states. The error wraps ErrContent.
func (a *Artifact) Image() (*layout.Image, error) {
	if a.Manifest.ABI != layout.ABI {
		return nil, fmt.Errorf("%w: it has ABI %d, this program reads ABI %d", ErrContent, a.Manifest.ABI, layout.ABI)
	}
	if len(a.Segments) != len(layout.Segments) {
		return nil, fmt.Errorf("%w: it has %d segments, ABI %d has %d", ErrContent, len(a.Segments), layout.ABI, len(layout.Segments))
	}
	parts := make([][]byte, len(a.Segments))
	for i, s := range a.Segments {
		if s.Name != layout.Segments[i] {
			return nil, fmt.Errorf("%w: segment %d is %q, want %q", ErrContent, i, s.Name, layout.Segments[i])
		}
		parts[i] = s.Data
	}
	image, err := layout.Open(bytes.Join(parts, nil))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrContent, err)
	}
	for i, part := range image.Split() {
		if len(part) != len(parts[i]) {
			return nil, fmt.Errorf("%w: segment %q has %d bytes, the image calls for %d", ErrContent, layout.Segments[i], len(parts[i]), len(part))
		}
	}
	if want := modelInfo(image.Shape); a.Manifest.Model != want {
		return nil, fmt.Errorf("%w: the manifest states the dimensions %+v, the image has %+v", ErrContent, a.Manifest.Model, want)
	}
	if want := manifestLimits(image.Map); a.Manifest.Limits != want {
		return nil, fmt.Errorf("%w: the manifest states the limits %+v, the image has %+v", ErrContent, a.Manifest.Limits, want)
	}
	return image, nil
}

func modelInfo(s layout.Shape) ModelInfo {
	return ModelInfo{
		Items: s.Items, Dim: s.Dim, Layers: s.Layers, Heads: s.Heads, FFN: s.FFN, Window: s.Window,
		EventTypes: s.EventTypes, GapBuckets: s.GapBuckets,
	}
}

func manifestLimits(m layout.Map) ManifestLimits {
	return ManifestLimits{MaxHistory: m.MaxHistory, MaxK: m.MaxK, MemoryPages: m.Pages}
}
