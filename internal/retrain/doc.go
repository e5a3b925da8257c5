// Package retrain is the part of the retraining job that is not training: which
// events are new and whether they can be trusted, what a model learns from so that it
// does not forget, whether it may take the place of the one that serves, and the
// folder in which a job remembers all of that. cmd/wisp puts it together.
//
// The folder of a job:
//
//	lock                     held while a job runs
//	state.json               what the next run begins with; replaced whole when a run has published
//	base/                    the events, catalogue, model and artefact that all began with
//	runs/000001/             one run
//	    manifest.json        what it was given; when it is finished, what came of it
//	    batch.jsonl          the new events, in one form
//	    items.jsonl, users.jsonl
//	    prepared/            all events until then, cleaned and indexed
//	    model/               the candidate in full precision, and its checkpoint
//	    candidate.wisp
//
// A run without an outcome was cut off, and is gone on with.
package retrain
