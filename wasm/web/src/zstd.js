// One zstd frame (RFC 8878), as FORMAT.md allows it.
import { formatError } from './container.js'

const MAX_BLOCK = 128 * 1024
const MAX_WINDOW = 8 * 1024 * 1024

/** Fetches what decompressing needs, where the browser cannot, while other things are on their way. */
export function prepare() {
  if (!canDecompress()) import('fzstd').catch(() => {}) // decompress reports it
}

function canDecompress() {
  try {
    return Boolean(new DecompressionStream(/** @type {any} */ ('zstd')))
  } catch {
    return false
  }
}

/**
 * Returns the raw bytes of a section. The browser decompresses where it can.
 * @param {Uint8Array} stored
 * @param {import('./container.js').Section} section
 * @returns {Promise<Uint8Array>}
 */
export async function decompress(stored, section) {
  const what = checkFrame(stored, section.raw)
  if (what) throw formatError(`section ${section.label}: ${what}`)
  try {
    const raw = canDecompress() ? await native(stored) : (await import('fzstd')).decompress(stored, new Uint8Array(section.raw))
    if (raw.length === section.raw) return raw
  } catch { // reported below
  }
  throw formatError(`section ${section.label}: it does not decompress to ${section.raw} bytes`)
}

/** @param {Uint8Array} stored */
async function native(stored) {
  const source = /** @type {ReadableStream<BufferSource>} */ (new Blob([/** @type {BufferSource} */ (stored)]).stream())
  return new Uint8Array(await new Response(source.pipeThrough(new DecompressionStream(/** @type {any} */ ('zstd')))).arrayBuffer())
}

/**
 * Walks over the headers of a frame, so that one that cannot give what the table
 * declares costs no memory.
 * @param {Uint8Array} b
 * @param {number} raw bytes that it has to give
 * @returns {string} what is wrong, empty for nothing
 */
function checkFrame(b, raw) {
  const v = new DataView(b.buffer, b.byteOffset, b.byteLength)
  if (b.length < 9 || v.getUint32(0, true) !== 0xfd2fb528) return 'it is no zstd frame'
  const descriptor = b[4]
  const single = (descriptor & 0x20) !== 0
  if (descriptor & 0x08) return 'a reserved bit of the frame is set'
  if (descriptor & 0x03) return 'its frame needs a dictionary'
  let at = 5
  if (!single) {
    const exponent = 10 + (b[5] >> 3)
    if (2 ** exponent * (1 + (b[5] & 7) / 8) > MAX_WINDOW) return 'its frame needs a window of more than 8 MiB'
    at++
  }
  const sizes = [single ? 1 : 0, 2, 4, 8]
  const bytes = sizes[descriptor >> 6]
  if (bytes > b.length - at) return 'its frame is cut off'
  if (bytes > 0) {
    let size = 0
    for (let i = bytes - 1; i >= 0; i--) size = size * 256 + b[at + i]
    if (bytes === 2) size += 256
    if (size !== raw) return `its frame declares ${size} bytes, the table ${raw}`
  }
  at += bytes
  let most = 0
  for (let last = false; !last;) {
    if (b.length - at < 3) return 'its frame is cut off'
    const head = b[at] | b[at + 1] << 8 | b[at + 2] << 16
    const size = head >> 3, type = head >> 1 & 3
    last = (head & 1) !== 0
    if (size > MAX_BLOCK) return 'a block is larger than 128 KiB'
    if (type === 3) return 'a block is of a reserved type'
    most += type === 2 ? MAX_BLOCK : size
    at += 3 + (type === 1 ? 1 : size)
    if (at > b.length) return 'its frame is cut off'
  }
  if (b.length - at !== (descriptor & 0x04 ? 4 : 0)) return 'something follows its frame'
  return most < raw ? `its frame holds at most ${most} bytes, the table declares ${raw}` : ''
}
