// Package artifact reads and writes the .wisp file: one container that holds a
// compressed model, the WebAssembly kernel that runs it, the catalogue, and
// golden requests with the exact bytes of their answers.
//
// FORMAT.md describes the bytes for implementers in other languages. Every byte
// of a file is covered by a digest, must have one value, or belongs to the
// signature, so that every flipped bit, every truncation and every trailing byte
// is an error. No section is looked at before the signature of the table was found
// to be that of a trusted key, nothing is decompressed before its digest has
// matched, and no declared size is believed before it has been compared with
// [Limits].
//
// [WriteFile] and [Open] are the usual way in and out, [CreateKey], [SignFile]
// and ReadOptions.Keys the way to know who wrote a file. A [Store] holds artefacts
// in parts, and fetches of new ones only what has changed.
package artifact
