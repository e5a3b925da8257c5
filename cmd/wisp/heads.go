package main

import (
	"errors"
	"path/filepath"
	"slices"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/quantize"
)

// headSources are the files of heads that go into an artefact, and the commands that made
// them.
type headSources struct {
	files, commands []string
}

// add puts into o the rating head of the model in dir, if it has one, and the classes of
// texts in a file, unless it is empty; they must be of the text encoder in o.
func (s *headSources) add(o *quantize.BuildOptions, dir, classes string) error {
	ratings, command, err := loadRatings(dir)
	if err != nil {
		return err
	}
	if o.Ratings = ratings; ratings != nil {
		s.files, s.commands = append(s.files, filepath.Join(dir, ratingFile)), append(s.commands, command)
	}
	if classes == "" {
		return nil
	}
	if o.Text == nil {
		return errors.New("--classes are of a text encoder: give that with --encoder")
	}
	if o.Text.Classes, command, err = loadClasses(classes, o.Text.Tokenizer, o.Text.Encoder); err != nil {
		return err
	}
	s.files, s.commands = append(s.files, classes), append(s.commands, command)
	return nil
}

// note adds the commands that made the heads to p, before the last one, which put them in.
func (s *headSources) note(p *artifact.Provenance) {
	for _, command := range s.commands {
		if command != "" {
			p.Commands = slices.Insert(p.Commands, len(p.Commands)-1, command)
		}
	}
}
