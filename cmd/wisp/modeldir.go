package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// Files of a trained model's folder.
const (
	modelFile      = "model.safetensors"
	checkpointFile = "checkpoint.safetensors"
	runFolder      = "run"               // curves and event files of the training
	refitFile      = "refit.safetensors" // checkpoint of the second training of --refit
	// featuresFiles are the given vectors of items and users, named after their
	// contents, so that a model file never meets those of another model.
	featuresFiles = "features-*.safetensors"
)

// Names of the given vectors in their file.
const (
	featuresTensor     = "item.features"     // (N, F)
	descriptionsTensor = "user.descriptions" // (U, F_u)
)

// trainingKey is the metadata entry of the model file that says how it came about.
const trainingKey = "wisp.training"

// training says what a model was trained on and how.
type training struct {
	Data     string               `json:"data"`     // name of the data set
	Manifest string               `json:"manifest"` // digest of its manifest's files
	Protocol string               `json:"protocol"` // of the split
	Options  hostgpu.TrainOptions `json:"options"`
	Vectors  givenVectors         `json:"vectors"`
	// EncoderDigest identifies the text encoder that made the items' vectors; it
	// is empty where there is none.
	EncoderDigest string  `json:"encoder_digest,omitempty"`
	Refit         bool    `json:"refit"` // trained again with the validation events
	BestNDCG      float64 `json:"best_ndcg"`
	BestEpoch     int     `json:"best_epoch"`
	// FeaturesFile holds the given vectors; it is empty where there are none.
	FeaturesFile string `json:"features_file,omitempty"`
	BLAS         string `json:"blas"`
	Device       string `json:"device,omitempty"` // the GPU, where it was one
	// Distilled says of whom it learnt, where it is a student.
	Distilled *distilledFrom `json:"distilled,omitempty"`
	// Pruned says what it is what is left of.
	Pruned  *prunedFrom `json:"pruned,omitempty"`
	Wisp    string      `json:"wisp,omitempty"`    // version of the program
	Command string      `json:"command,omitempty"` // the command line, where it was one

	items, users *model.Tensor // given vectors of those of the data, from FeaturesFile
}

// makeModelDir makes a folder for a model, unless it is there and empty or holds
// a model or an unfinished training.
func makeModelDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("%w; name another folder", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%w; name another folder", err)
	}
	entries = slices.DeleteFunc(entries, isRunFolder)
	ours := func(e fs.DirEntry) bool { return e.Name() == modelFile || e.Name() == checkpointFile }
	if len(entries) > 0 && !slices.ContainsFunc(entries, ours) {
		return fmt.Errorf("%s holds something else than a model (%s); name another folder", dir, entries[0].Name())
	}
	return nil
}

// isRunFolder says that an entry is the record of a training: it may be all that
// there is of one that failed before its first checkpoint.
func isRunFolder(e fs.DirEntry) bool { return e.Name() == runFolder && e.IsDir() }

// saveModel writes a trained model into its folder, the weights last: until then
// the model that was there before is whole.
func saveModel(dir string, m *model.Model, given hostgpu.Vectors, t training) error {
	if tensors := named(given); len(tensors) > 0 {
		var err error
		if t.FeaturesFile, err = featuresName(tensors); err != nil {
			return err
		}
		if err := model.SaveTensors(filepath.Join(dir, t.FeaturesFile), tensors, nil); err != nil {
			return err
		}
	}
	b, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	if err := model.Save(filepath.Join(dir, modelFile), m.Config, m.Weights, map[string]string{trainingKey: string(b)}); err != nil {
		return err
	}
	// What earlier models needed is of no use any more.
	old, err := filepath.Glob(filepath.Join(dir, featuresFiles))
	if err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, ratingFile)); err == nil {
		old = append(old, filepath.Join(dir, ratingFile))
	}
	for _, path := range old {
		if filepath.Base(path) != t.FeaturesFile {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("save model: %w", err)
			}
		}
	}
	return nil
}

// named returns the given vectors that there are, by their names in the file.
func named(given hostgpu.Vectors) map[string]*model.Tensor {
	tensors := map[string]*model.Tensor{featuresTensor: given.Items, descriptionsTensor: given.Users}
	maps.DeleteFunc(tensors, func(_ string, x *model.Tensor) bool { return x == nil })
	return tensors
}

// featuresName is the name of the file of given vectors.
func featuresName(tensors map[string]*model.Tensor) (string, error) {
	h := sha256.New()
	if err := model.WriteTensors(h, tensors, nil); err != nil {
		return "", err
	}
	return strings.Replace(featuresFiles, "*", hex.EncodeToString(h.Sum(nil)[:8]), 1), nil
}

// loadVectors reads the given vectors of a model with configuration c from the
// file of that name.
func loadVectors(dir, name string, c model.Config) (hostgpu.Vectors, error) {
	var given hostgpu.Vectors
	if c.Features == 0 && c.Descriptions == 0 {
		return given, nil
	}
	path := filepath.Join(dir, filepath.Base(name))
	tensors, _, err := model.LoadTensors(path)
	if err != nil {
		return given, fmt.Errorf("%w; train the model again", err)
	}
	for _, part := range []struct {
		name  string
		width int
		to    **model.Tensor
	}{{featuresTensor, c.Features, &given.Items}, {descriptionsTensor, c.Descriptions, &given.Users}} {
		if *part.to = tensors[part.name]; part.width > 0 && *part.to == nil {
			return given, fmt.Errorf("%s has no tensor %q; train the model again", path, part.name)
		}
	}
	got, err := featuresName(tensors)
	if err == nil && got != name {
		err = fmt.Errorf("%s is damaged: its contents call for the name %s; train the model again", path, got)
	}
	return given, err
}

// loadModel reads what saveModel wrote.
func loadModel(dir string) (*model.Model, training, error) {
	var t training
	c, w, meta, err := model.Load(filepath.Join(dir, modelFile))
	if errors.Is(err, fs.ErrNotExist) {
		if _, e := os.Stat(filepath.Join(dir, checkpointFile)); e == nil {
			return nil, t, fmt.Errorf("%s holds an unfinished training: finish it with wisp train --resume", dir)
		}
		return nil, t, fmt.Errorf("%s holds no model: make one with wisp train (%w)", dir, err)
	}
	if err != nil {
		return nil, t, fmt.Errorf("%w; train the model again", err)
	}
	if err := json.Unmarshal([]byte(meta[trainingKey]), &t); err != nil {
		return nil, t, fmt.Errorf("%s: the metadata does not say how it was trained: %w; train the model again", filepath.Join(dir, modelFile), err)
	}
	given, err := loadVectors(dir, t.FeaturesFile, c)
	if err != nil {
		return nil, t, err
	}
	t.items, t.users = given.Items, given.Users
	m, err := model.New(c, w, given.Items)
	if err != nil {
		return nil, t, fmt.Errorf("%s: %w; train the model again", dir, err)
	}
	return m, t, nil
}

// fits checks that a model was trained on ds.
func (t training) fits(m *model.Model, ds *data.Dataset, fingerprint string) error {
	if t.Manifest != fingerprint || m.Config.Items != len(ds.Items) {
		return fmt.Errorf("the model was trained on %q with %d items, not on this preparation of %q with %d; train again or give the data it was trained on",
			t.Data, m.Config.Items, ds.Name, len(ds.Items))
	}
	return nil
}

// loadData reads a prepared data set and the digest that identifies it.
func loadData(dir string) (*data.Dataset, string, error) {
	fingerprint, err := dataFingerprint(dir)
	if err != nil {
		return nil, "", err
	}
	ds, err := data.Load(dir)
	return ds, fingerprint, err
}

// dataFingerprint returns the digest that identifies a prepared data set.
func dataFingerprint(dir string) (fingerprint string, err error) {
	m, err := data.ReadManifest(dir)
	if err != nil {
		return "", err
	}
	for _, f := range m.Files {
		fingerprint += f.SHA256[:16]
	}
	return fingerprint, nil
}

// Splits of a data set for training and evaluation.
const (
	leaveOneOut = "leave-one-out"
	byTime      = "time"
	// minEvents is how many events a user needs to be asked about.
	minEvents = 5
	// Shares of all events, in order of time, from which on events are held back.
	validFrom, testFrom = 0.8, 0.9
)

func split(ds *data.Dataset, protocol string) (*data.Split, error) {
	if err := checkProtocol(ds, protocol); err != nil {
		return nil, err
	}
	if protocol == byTime {
		return data.ByTime(ds, ds.Quantile(validFrom), ds.Quantile(testFrom)), nil
	}
	return data.LeaveOneOut(ds, minEvents), nil
}

// storedSplit is the same split of events on disk; with refit, what is trained on once
// validation has chosen.
func storedSplit(ds *data.Dataset, s *data.Stored, protocol string, refit bool) (*data.StoredSplit, error) {
	if err := checkProtocol(ds, protocol); err != nil {
		return nil, err
	}
	if protocol == leaveOneOut {
		return s.LeaveOneOut(minEvents, refit), nil
	}
	from, err := s.Quantile(validFrom)
	if err != nil {
		return nil, err
	}
	to, err := s.Quantile(testFrom)
	if err != nil {
		return nil, err
	}
	return s.ByTime(from, to, refit)
}

func checkProtocol(ds *data.Dataset, protocol string) error {
	switch {
	case protocol != leaveOneOut && protocol != byTime:
		return fmt.Errorf("split %q is unknown; choose %s or %s", protocol, leaveOneOut, byTime)
	case protocol == byTime && ds.OrderOnly:
		return fmt.Errorf("%s has the order of events but no times to split by; choose %s", ds.Name, leaveOneOut)
	}
	return nil
}

// calibration returns training histories for the ranges of activations, and the
// given vectors of their users' descriptions, none where users is nil.
func calibration(s *data.Split, users *model.Tensor) (histories [][]model.Event, descriptions [][]float32) {
	const most = 512
	step := max(1, len(s.Train)/most)
	for u := 0; u < len(s.Train); u += step {
		if len(s.Train[u]) == 0 {
			continue
		}
		histories = append(histories, hostgpu.Events(s.Train[u]))
		if users != nil {
			descriptions = append(descriptions, users.Row(u))
		}
	}
	return histories, descriptions
}
