// The .wisp container, read as artifact/FORMAT.md says: the header and the table
// before anything else, each section only after its digest was found right.
import { WispError } from './errors.js'

export const HEADER_BYTES = 256
export const ENTRY_BYTES = 96
export const MANIFEST = 1
export const KERNEL = 2
export const SEGMENT = 3
export const ITEMS = 4
export const GOLDEN = 5
export const ZSTD = 1

const FORMAT_VERSION = 1
const MAGIC = [0x57, 0x49, 0x53, 0x50, 0x89, 0x0d, 0x0a, 0x0a]
const MAX_SECTIONS = 64
const MAX_FILE = 2 ** 32
const TYPE_NAMES = ['', 'manifest', 'kernel', 'segment', 'items', 'golden']
// The largest raw bytes of all sections of a type together.
const MAX_RAW = [0, 2 ** 20, 2 ** 24, 2 ** 31, 2 ** 29, 2 ** 26]

/**
 * @typedef {object} Section
 * @property {number} type
 * @property {string} name of a segment, otherwise empty
 * @property {string} label what messages call it
 * @property {number} codec
 * @property {number} offset of the stored bytes in the file
 * @property {number} stored bytes in the file
 * @property {number} raw bytes after decompression
 * @property {string} digest SHA-256 of the stored bytes, in hexadecimal
 */

/**
 * @typedef {object} Table
 * @property {Uint8Array} bytes header and table as they are in the file
 * @property {string} digest of header and table, in hexadecimal: it identifies the content
 * @property {number} size bytes of the whole file
 * @property {Section[]} sections in the order of the file
 * @property {string} keyId of the key that the file names; empty where it is not signed
 * @property {boolean} trusted the key is one of those given and the signature is right
 */

/** @param {string} message */
export const formatError = (message) => new WispError('format', `${message}; the file is damaged or not a .wisp file`)

/** @param {Uint8Array} bytes */
const view = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** @param {Uint8Array} bytes */
export const isZero = (bytes) => bytes.every((b) => b === 0)

/** @param {Uint8Array} bytes */
export const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('')

/**
 * @param {Uint8Array} bytes
 * @returns {Promise<Uint8Array>}
 */
export async function sha256(bytes) {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', /** @type {BufferSource} */ (bytes)))
}

/**
 * Checks the first 256 bytes of a file and returns the length of header and table.
 * @param {Uint8Array} header
 */
export function headLength(header) {
  const v = view(header)
  if (!MAGIC.every((b, i) => header[i] === b)) {
    const start = String.fromCharCode(...header.subarray(0, 16)).trimStart()
    if (start.startsWith('<')) throw new WispError('format', 'the server sent a web page and not a .wisp file; check the address')
    if (start.startsWith('WISP')) throw new WispError('format', 'the file was changed by a transfer as text; copy it again as binary')
    throw new WispError('format', 'this is not a .wisp file; check the address')
  }
  if (v.getUint32(8, true) !== FORMAT_VERSION) {
    throw new WispError('version', `the file has version ${v.getUint32(8, true)} of the format, this package reads version ${FORMAT_VERSION}; update @wisp-project/web`)
  }
  const sections = v.getUint32(12, true)
  if (sections > MAX_SECTIONS) throw new WispError('limit', `the file has ${sections} sections, at most ${MAX_SECTIONS} are allowed`)
  if (u64(v, 24) !== HEADER_BYTES || u64(v, 32) !== ENTRY_BYTES * sections) throw formatError('the table of sections is not where it belongs')
  if (!isZero(header.subarray(40, 64)) || !isZero(header.subarray(200, 256))) throw formatError('reserved bytes of the header are not zero')
  return HEADER_BYTES + ENTRY_BYTES * sections
}

/**
 * Reads header and table. The signature is checked before any entry is looked at.
 * @param {Uint8Array} bytes header and table
 * @param {{keys: Uint8Array[], allowUnsigned: boolean}} trust
 * @returns {Promise<Table>}
 */
export async function readTable(bytes, trust) {
  const digest = bytes.subarray(64, 96)
  const covered = new Uint8Array(bytes.length - HEADER_BYTES + 64)
  covered.set(bytes.subarray(0, 64))
  covered.set(bytes.subarray(HEADER_BYTES), 64)
  if (hex(await sha256(covered)) !== hex(digest)) throw new WispError('digest', 'the header or the table of sections is damaged; upload the file again')
  const { keyId, trusted } = await verify(bytes, trust)
  const size = u64(view(bytes), 16)
  if (size > MAX_FILE) throw new WispError('limit', `the file has ${size} bytes, at most ${MAX_FILE} are allowed`)
  const sections = [...entries(bytes)]
  checkLayout(sections, size, bytes.length)
  return { bytes, digest: hex(digest), size, sections, keyId, trusted }
}

/**
 * The sections that a header and table name, of which nothing else is checked.
 * @param {Uint8Array} head
 */
export function* entries(head) {
  for (let at = HEADER_BYTES; at + ENTRY_BYTES <= head.length; at += ENTRY_BYTES) yield readEntry(head.subarray(at, at + ENTRY_BYTES))
}

/**
 * A length or an offset; those beyond 2^53 are beyond every limit as well.
 * @param {DataView} v
 * @param {number} at
 */
function u64(v, at) {
  return v.getUint32(at, true) + v.getUint32(at + 4, true) * 2 ** 32
}

/**
 * @param {Uint8Array} e
 * @returns {Section & {align: number}}
 */
function readEntry(e) {
  const v = view(e)
  if (!isZero(e.subarray(12, 16)) || !isZero(e.subarray(88, 96))) throw formatError('flags or reserved bytes of a table entry are not zero')
  const type = v.getUint32(0, true)
  const end = e.indexOf(0, 40)
  const length = end < 0 || end > 56 ? 16 : end - 40
  if (!isZero(e.subarray(40 + length, 56))) throw formatError('the name of a section goes on after its end')
  const name = String.fromCharCode(...e.subarray(40, 40 + length))
  const offset = u64(v, 16)
  return {
    type, name, offset, codec: v.getUint32(4, true), align: v.getUint32(8, true), stored: u64(v, 24), raw: u64(v, 32),
    label: `${TYPE_NAMES[type] ?? `type ${type}`}${name && ` "${name}"`} at offset ${offset}`, digest: hex(e.subarray(56, 88)),
  }
}

/**
 * @param {(Section & {align: number})[]} sections
 * @param {number} size of the file
 * @param {number} end of the table
 */
function checkLayout(sections, size, end) {
  const total = [0, 0, 0, 0, 0, 0]
  const names = new Set()
  let last = MANIFEST
  for (const s of sections) {
    /** @param {string} what */
    const bad = (what) => formatError(`section ${s.label}: ${what}`)
    if (s.type < MANIFEST || s.type > GOLDEN) throw bad('its type is unknown')
    if (s.type < last || (s.type !== SEGMENT && total[s.type] > 0)) throw bad('it is out of order or there a second time')
    if (s.type === SEGMENT ? !/^[a-z0-9_-]+$/.test(s.name) || names.has(s.name) : s.name) throw bad('its name is not allowed, or there twice')
    if (s.codec > ZSTD) throw bad('its codec is unknown')
    if (s.align < 64 || s.align > 65536 || (s.align & (s.align - 1)) !== 0) throw bad('its alignment is not a power of two from 64 to 65536')
    if (s.offset !== Math.ceil(end / s.align) * s.align) throw bad('it does not lie behind the section before it')
    if (s.raw < 1 || s.stored < 1) throw bad('it is empty')
    if (s.codec === ZSTD ? s.stored >= s.raw : s.stored !== s.raw) throw bad('its lengths do not fit its codec')
    if ((total[s.type] += s.raw) > MAX_RAW[s.type]) {
      throw new WispError('limit', `section ${s.label}: ${total[s.type]} bytes, at most ${MAX_RAW[s.type]} are allowed`)
    }
    names.add(s.name)
    last = s.type
    end = s.offset + s.stored
  }
  const lacking = [MANIFEST, KERNEL, SEGMENT, ITEMS, GOLDEN].find((type) => total[type] === 0)
  if (lacking) throw formatError(`there is no ${TYPE_NAMES[lacking]} section`)
  if (end !== size) throw formatError(`the last section ends at ${end}, the header says that the file does at ${size}`)
}

/**
 * @param {Uint8Array} header
 * @param {{keys: Uint8Array[], allowUnsigned: boolean}} trust
 */
async function verify(header, { keys, allowUnsigned }) {
  const algorithm = view(header).getUint32(96, true)
  if (algorithm === 0) {
    if (!isZero(header.subarray(100, 200))) throw formatError('it declares no signature but the place for one is not zero')
    if (!allowUnsigned) throw new WispError('unsigned', 'the file is not signed; sign it with `wisp sign` and give the publicKey, or set allowUnsigned where its origin alone is trusted')
    return { keyId: '', trusted: false }
  }
  if (algorithm !== 1) throw new WispError('version', `signature algorithm ${algorithm} is unknown to this package; update @wisp-project/web`)
  if (!isZero(header.subarray(100, 104))) throw formatError('reserved bytes of the signature are not zero')
  const keyId = hex(header.subarray(104, 136))
  if (/^0*$/.test(keyId)) throw formatError('it has a signature without the id of a key')
  for (const key of keys) {
    if (hex(await sha256(key)) !== keyId) continue
    const message = new Uint8Array(49)
    message.set(new TextEncoder().encode('wisp artefact v1\0'))
    message.set(header.subarray(64, 96), 17)
    if (!(await ed25519(key, header.subarray(136, 200), message))) {
      throw new WispError('signature', `the signature is not that of key ${keyId.slice(0, 16)}…, which the file names: the file was changed or the signature forged`)
    }
    return { keyId, trusted: true }
  }
  if (!allowUnsigned) {
    throw new WispError('unsigned', `the file is signed with key ${keyId.slice(0, 16)}…, which is none of the ${keys.length} given as publicKey; if you know whose it is, add it`)
  }
  return { keyId, trusted: false }
}

/**
 * @param {Uint8Array} key
 * @param {Uint8Array} signature
 * @param {Uint8Array} message
 * @returns {Promise<boolean>}
 */
async function ed25519(key, signature, message) {
  const [k, s, m] = /** @type {BufferSource[]} */ ([key, signature, message])
  let imported
  try {
    imported = await crypto.subtle.importKey('raw', k, 'Ed25519', false, ['verify'])
  } catch (error) { // older browsers have no Ed25519
    if (/** @type {Error} */ (error).name === 'DataError') return false
    const noble = await import('@noble/ed25519')
    return noble.verifyAsync(signature, message, key, { zip215: false })
  }
  return crypto.subtle.verify('Ed25519', imported, s, m)
}

/**
 * The 32 bytes of an ed25519 key: raw, in base64 or hexadecimal, or the PEM file that
 * `wisp keygen` writes.
 * @param {string | Uint8Array} key
 * @returns {Uint8Array}
 */
export function parseKey(key) {
  let bytes = key
  if (typeof bytes === 'string') {
    const text = bytes.replace(/-----[A-Z ]+-----/g, '').replace(/\s/g, '')
    try {
      bytes = /^[0-9a-f]{64}$/i.test(text)
        ? Uint8Array.from(/** @type {string[]} */ (text.match(/../g)), (b) => parseInt(b, 16))
        : Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0))
    } catch {
      bytes = new Uint8Array()
    }
  }
  // SubjectPublicKeyInfo of RFC 8410 has 12 fixed bytes before the key.
  if (bytes.length === 44 && hex(bytes.subarray(0, 12)) === '302a300506032b6570032100') bytes = bytes.subarray(12)
  if (bytes.length !== 32) {
    throw new WispError('options', 'publicKey is not an ed25519 public key; give the content of the .pub file that `wisp keygen` wrote, or its 32 bytes')
  }
  return bytes
}
