package main

// Run is run: what the command does, short of signals and the exit status.
var Run = run

// MaxBody is the largest body of a request in bytes.
const MaxBody = maxBody
