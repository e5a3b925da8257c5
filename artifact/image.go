package artifact

import (
	"bytes"
	"fmt"
	"slices"

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
		if len(part) > 0 { // a part that the image does not have has no segment
			a.Segments = append(a.Segments, Segment{Name: layout.Segments[i], Data: part})
		}
	}
}

// Image joins the segments, checks every byte of the image, and compares it with
// what the manifest and the items state. The error wraps ErrContent.
func (a *Artifact) Image() (*layout.Image, error) {
	if a.Manifest.ABI != layout.ABI {
		return nil, fmt.Errorf("%w: it has ABI %d, this program reads ABI %d", ErrContent, a.Manifest.ABI, layout.ABI)
	}
	parts, next := make([][]byte, len(layout.Segments)), 0
	for i, name := range layout.Segments {
		if next < len(a.Segments) && a.Segments[next].Name == name {
			parts[i] = a.Segments[next].Data
			next++
		}
	}
	if next < len(a.Segments) {
		return nil, fmt.Errorf("%w: segment %d is %q; the segments of ABI %d are %q, in this order", ErrContent, next, a.Segments[next].Name, layout.ABI, layout.Segments)
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
	if _, want := Labels(a.Items); !slices.EqualFunc(image.Labels(), want, slices.Equal[[]uint32]) {
		return nil, fmt.Errorf("%w: the labels of the image are not the categories and attributes of the items", ErrContent)
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
		EventTypes: s.EventTypes, GapBuckets: s.GapBuckets, Attributes: s.Attributes.Count, Ratings: s.Ratings,
		Text: TextInfo{
			Vocabulary: s.Text.Vocabulary, Tokens: s.Text.Tokens, Dim: s.Text.Dim, Layers: s.Text.Layers, Heads: s.Text.Heads, FFN: s.Text.FFN,
			ItemMap: s.Text.ItemMap, UserMap: s.Text.UserMap, ItemTexts: s.Text.ItemTexts, Classes: s.Text.Classes,
		},
	}
}

func manifestLimits(m layout.Map) ManifestLimits {
	return ManifestLimits{MaxHistory: m.MaxHistory, MaxK: m.MaxK, MemoryPages: m.Pages}
}
