// An instance of an artefact's kernel, and the bytes of its requests and answers, as
// wasm/ABI.md says.
import { formatError } from './container.js'
import { WispError } from './errors.js'
import * as L from './layout.js'

const PAGE = 65536
// Work between two looks at what else there is to do, in milliseconds.
const TURN = 8

/**
 * @typedef {object} GuestRequest
 * @property {number} kind
 * @property {number} [flags]
 * @property {number} [k]
 * @property {{item: number, type: number, gap: number}[]} [history]
 * @property {number[]} [list]
 * @property {Uint8Array} [text] UTF-8
 * @property {Uint8Array} [state]
 * @property {{op: number, args: number[]}[]} [rules] floats as their bits
 * @property {number} [reasons] events, and attributes where flags ask for them, for each hit
 */

/**
 * @typedef {object} Answer
 * @property {number} status
 * @property {{item: number, acc: number, score: number}[]} hits
 * @property {Float32Array} vector
 * @property {Int8Array} row
 * @property {number} scale of the row
 * @property {Uint8Array} state
 */

export class Kernel {
  /**
   * @param {WebAssembly.Module} module
   * @param {WebAssembly.Instance} instance
   */
  constructor(module, instance) {
    this.module = module
    this.memory = /** @type {WebAssembly.Memory} */ (instance.exports.memory)
    this.step = /** @type {() => number} */ (instance.exports.run)
    this.bytes = new Uint8Array(this.memory.buffer)
    // Words of the image's header, and the address behind the image; see open.
    this.header = new Uint32Array()
    /** @type {string[]} names of what items are made of */
    this.attributes = []
    this.imageEnd = this.request = this.answer = this.items = 0
    this.maxHistory = this.maxK = this.maxList = this.maxExplained = this.maxText = this.textDim = this.textFlags = this.classes = this.ratings = 0
  }

  /**
   * @param {WebAssembly.Module} module
   * @param {number} pages of memory, of 64 KiB
   */
  static async start(module, pages) {
    const [wanted] = WebAssembly.Module.imports(module)
    if (wanted) throw formatError(`the kernel imports ${wanted.module}.${wanted.name}, and a kernel imports nothing`)
    const instance = await WebAssembly.instantiate(module)
    const { memory, run } = instance.exports
    if (!(memory instanceof WebAssembly.Memory) || typeof run !== 'function') throw formatError('the kernel does not export its memory and run')
    if (memory.buffer.byteLength > L.IMAGE_BASE) throw formatError('the kernel starts with more memory than lies before the image')
    try {
      memory.grow(pages - memory.buffer.byteLength / PAGE)
    } catch (error) {
      throw new WispError('limit', `this device does not give the ${pages * PAGE} bytes of memory that the artefact needs; offer a smaller one`, { cause: error })
    }
    return new Kernel(module, instance)
  }

  /** Another instance with the same image. */
  async clone() {
    const twin = await Kernel.start(this.module, this.bytes.length / PAGE)
    const end = this.imageEnd
    twin.bytes.set(this.bytes.subarray(L.IMAGE_BASE, end), L.IMAGE_BASE)
    return twin.open(end - L.IMAGE_BASE)
  }

  /**
   * Reads the image's header, once the image is in memory.
   * @param {number} length bytes of the image
   */
  open(length) {
    this.header = new Uint32Array(this.memory.buffer, L.IMAGE_BASE, 256)
    const word = (/** @type {number} */ i) => this.header[i]
    if (word(L.H_MAGIC) !== L.MAGIC || word(L.H_ABI) !== L.WISP_ABI) throw formatError('the image has another mark or version than the manifest says')
    this.imageEnd = L.IMAGE_BASE + length
    this.request = word(L.H_REQUEST)
    this.answer = word(L.H_ANSWER)
    this.items = word(L.H_ITEMS)
    this.maxHistory = word(L.H_MAX_HISTORY)
    this.maxK = word(L.H_MAX_K)
    this.maxList = word(L.H_MAX_LIST)
    this.maxExplained = word(L.H_MAX_EXPLAINED)
    this.maxText = word(L.H_MAX_TEXT)
    this.textDim = word(L.H_TEXT_DIM)
    this.textFlags = word(L.H_TEXT_FLAGS)
    this.classes = word(L.H_TEXT_CLASSES)
    this.ratings = word(L.H_RATINGS)
    const names = L.IMAGE_BASE + word(L.H_ATTRIBUTE_NAMES)
    this.attributes = new TextDecoder().decode(this.bytes.slice(names, names + word(L.H_ATTRIBUTE_NAME_BYTES))).split('\n').slice(0, -1)
    if (word(L.H_IMAGE_END) !== length || word(L.H_END) !== this.bytes.length || this.request < this.imageEnd || this.answer < this.request || this.answer > this.bytes.length - 4 * L.ANSWER_WORDS) {
      throw formatError('the image is not as long as its header says')
    }
    return this
  }

  /**
   * Returns the bytes of the answer to a request. While it works, pause is called every few
   * milliseconds; the request is given up when it rejects.
   * @param {Uint8Array} request
   * @param {() => Promise<void>} pause
   */
  async run(request, pause) {
    if (request.length > this.answer - this.request) throw new WispError('request', `a request of ${request.length} bytes does not fit`)
    this.bytes.set(request, this.request)
    try {
      for (let turn = performance.now(); this.step() === L.STATUS_MORE;) {
        if (performance.now() - turn < TURN) continue
        await pause()
        turn = performance.now()
      }
      const length = answerLength(new DataView(this.memory.buffer, this.answer))
      if (length > this.bytes.length - this.answer) throw new RangeError('its answer lies outside its memory') // also when the memory grew
      return this.bytes.slice(this.answer, this.answer + length)
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError || error instanceof RangeError || error instanceof TypeError)) throw error
      throw new WispError('kernel', `the artefact's kernel failed (${error.message}); it is started again for the next request`, { cause: error })
    }
  }
}

/** @param {number} n */
const words = (n) => (n + 3) & ~3

/**
 * @param {GuestRequest} request
 * @returns {Uint8Array}
 */
export function encodeRequest({ kind, flags = 0, k = 0, history = [], list = [], text = new Uint8Array(), state = new Uint8Array(), rules = [], reasons = 0 }) {
  const ruleWords = rules.flatMap(({ op, args }) => [op, args.length, ...args])
  const head = [0, kind, flags, k, history.length, list.length, text.length, state.length, ruleWords.length, reasons]
  const numbers = head.length + L.EVENT_WORDS * history.length + list.length
  const bytes = new Uint8Array(4 * (numbers + ruleWords.length) + words(text.length) + words(state.length))
  const view = new DataView(bytes.buffer)
  let at = 0
  const put = (/** @type {number} */ n) => { view.setUint32(at, n, true); at += 4 }
  head.forEach(put)
  for (const { item, type, gap } of history) { put(item); put(type); put(gap) }
  list.forEach(put)
  bytes.set(text, at)
  at += words(text.length)
  bytes.set(state, at)
  at += words(state.length)
  ruleWords.forEach(put)
  return bytes
}

/**
 * Whether an encoded request is about a text.
 * @param {Uint8Array} request
 */
export function hasText(request) {
  const v = new DataView(request.buffer, request.byteOffset)
  return v.getUint32(24, true) > 0 || [L.KIND_SEARCH, L.KIND_EMBED, L.KIND_CLASSIFY].includes(v.getUint32(4, true))
}

/** @param {DataView} v of an answer */
function answerLength(v) {
  const [hits, vector, row, state] = [4, 8, 12, 16].map((at) => v.getUint32(at, true))
  return 4 * (L.ANSWER_WORDS + L.HIT_WORDS * hits + vector) + (row && 4 + words(row)) + state
}

/**
 * @param {Uint8Array} b what run returned
 * @returns {Answer}
 */
export function decodeAnswer(b) {
  const v = new DataView(b.buffer, b.byteOffset, b.byteLength)
  const [status, count, values, row, state] = [0, 4, 8, 12, 16].map((at) => v.getUint32(at, true))
  let at = 4 * L.ANSWER_WORDS
  const hits = Array.from({ length: count }, (_, i) => {
    const h = at + 4 * L.HIT_WORDS * i
    return { item: v.getUint32(h, true), acc: v.getInt32(h + 4, true), score: v.getFloat32(h + 8, true) }
  })
  at += 4 * L.HIT_WORDS * count
  const vector = Float32Array.from({ length: values }, (_, i) => v.getFloat32(at + 4 * i, true))
  at += 4 * values
  const scale = row ? v.getFloat32(at, true) : 0
  if (row) at += 4
  return { status, hits, vector, scale, row: new Int8Array(b.slice(at, at + row).buffer), state: b.subarray(b.length - state) }
}
