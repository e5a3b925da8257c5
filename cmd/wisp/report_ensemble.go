package main

import (
	"io/fs"
	"os"
	"path/filepath"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/quantize/report"
)

// ensembleSubject is an ensemble as the teacher: networks, and scorers that are
// counted from the data whenever it is loaded and so have no bytes on disk.
func ensembleSubject(dir string, in *reportInput, fingerprint string) (subject, error) {
	s := subject{Model: report.Model{Name: ensembleStage, Kind: report.KindTeacher, Precision: "float32"}}
	e, err := loadEnsemble(dir)
	if err != nil {
		return s, err
	}
	if err := e.fits(in.ds, fingerprint); err != nil {
		return s, err
	}
	if in.split, err = split(in.ds, e.Protocol); err != nil {
		return s, err
	}
	histories := fittingData(in.ds, in.split)
	var counting []counted
	var voting []votingModel
	var weights []float64
	for _, m := range e.Members {
		weights = append(weights, m.Weight)
		if m.Folder == "" {
			c, err := companion(m.Name, histories, len(in.ds.Items))
			if err != nil {
				return s, err
			}
			counting, voting = append(counting, c), append(voting, votingModel{})
			s.MemoryBytes += c.Bytes()
			s.Parameters += c.Bytes() / 4
			continue
		}
		n, t, err := loadModel(filepath.Join(dir, filepath.Base(m.Folder)))
		if err != nil {
			return s, err
		}
		voting = append(voting, votingModel{n, t})
		p, bytes := float32Size(n, t)
		s.Parameters += p
		s.MemoryBytes += bytes
	}
	if s.DiskBytes, err = folderSize(dir); err != nil {
		return s, err
	}
	s.macs = func(c data.Case) quantize.MACs {
		var sum quantize.MACs
		for _, n := range voting {
			if n.model != nil {
				m := quantize.ModelMACs(n.model.Config, len(c.History))
				sum.Linear, sum.Attention, sum.Items = sum.Linear+m.Linear, sum.Attention+m.Attention, sum.Items+m.Items
			}
		}
		for _, x := range counting {
			sum.Items += x.MACs(c.History)
		}
		return sum
	}
	// Each thread has networks of its own, for they take turns.
	s.worker = func() (stage, error) {
		var voters []eval.Scorer
		left := counting
		for _, n := range voting {
			if n.model == nil {
				voters, left = append(voters, left[0]), left[1:]
				continue
			}
			voters = append(voters, hostgpu.NewScorer(teacherStage, n.model).WithDescriptions(n.training.users))
		}
		votes, err := eval.NewEnsemble(ensembleStage, voters, weights)
		return stage{scorer: votes, request: top10(votes, len(in.ds.Items))}, err
	}
	in.notes = append(in.notes, "The teacher is an ensemble. Its counted members are counted anew from the events when it is loaded: they take memory and no file; each value they keep stands among the parameters, and their arithmetic with the catalogue's.")
	return s, nil
}

// votingModel is a member of an ensemble that was trained; the zero value stands
// for one that is counted.
type votingModel struct {
	model    *model.Model
	training training
}

// float32Size returns the parameters of a model, and what it takes in memory with
// its item vectors and the vectors that it is given.
func float32Size(m *model.Model, t training) (parameters, bytes int64) {
	for _, w := range m.Weights {
		parameters += int64(len(w.Data))
	}
	bytes = 4*parameters + 4*int64(len(m.ItemVectors.Data))
	for _, given := range []*model.Tensor{t.items, t.users} {
		if given != nil {
			bytes += 4 * int64(len(given.Data))
		}
	}
	return parameters, bytes
}

// folderSize adds up the files below a folder.
func folderSize(dir string) (total int64, err error) {
	err = fs.WalkDir(os.DirFS(dir), ".", func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}
