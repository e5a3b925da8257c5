// Runs a kernel over an image and a file of what to write into its memory, each with
// its address and its length before it. What is written to the place of requests is
// one, and its answer goes to standard output.
import { readFileSync, writeSync } from 'node:fs'

const [kernel, image, requests, base, pages, request, answer] = process.argv.slice(2)
const { instance } = await WebAssembly.instantiate(readFileSync(kernel))
const { memory, run } = instance.exports
memory.grow(Number(pages) - memory.buffer.byteLength / 65536)
const bytes = new Uint8Array(memory.buffer)
bytes.set(readFileSync(image), Number(base))
const view = new DataView(memory.buffer)
const all = readFileSync(requests)
for (let at = 0; at < all.length;) {
  const [to, length] = [all.readUInt32LE(at), all.readUInt32LE(at + 4)]
  bytes.set(all.subarray(at + 8, at + 8 + length), to)
  at += 8 + length
  if (to !== Number(request)) continue
  while (run() === 1) {}
  const [hits, vector, row, state] = [4, 8, 12, 16].map((at) => view.getUint32(Number(answer) + at, true))
  const end = Number(answer) + 20 + 12 * hits + 4 * vector + (row && 4 + (row + 3 & ~3)) + state
  for (let from = Number(answer); from < end;) from += writeSync(1, bytes, from, end - from)
}
