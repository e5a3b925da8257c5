// Loads an artefact: what of it is held on the device from there, the rest from the
// server, nothing used before it was checked.
import { Catalogue } from './catalogue.js'
import * as C from './container.js'
import { WispError } from './errors.js'
import { Download } from './download.js'
import { Kernel } from './kernel.js'
import { parseJSON } from './json.js'
import * as L from './layout.js'
import { decompress, prepare } from './zstd.js'

/**
 * @typedef {object} Item
 * @property {string} id
 * @property {string} [title]
 * @property {string[]} [categories]
 * @property {{name: string, value: string}[]} [attributes]
 */

/**
 * @typedef {object} Artefact
 * @property {C.Table} table
 * @property {any} manifest
 * @property {Kernel} kernel
 * @property {Catalogue} catalogue
 * @property {{request: Uint8Array, answer: Uint8Array}[]} goldens
 * @property {() => Promise<Part[]>} rest what texts need of the image, decompressed, and everything kept on the device; it may be asked for again where it fails
 * @property {number} received bytes that came over the network
 * @property {boolean} offline the server could not be reached
 */

/**
 * @typedef {object} Part Bytes of the image.
 * @property {number} at offset in the image
 * @property {Uint8Array} raw
 */

/**
 * @typedef {object} LoadContext
 * @property {{keys: Uint8Array[], allowUnsigned: boolean}} trust
 * @property {number} retries
 * @property {import('./store.js').Store} store
 * @property {(error: WispError) => void} warn
 * @property {AbortSignal} [signal]
 * @property {(progress: {loaded: number, total: number, received: number}) => void} [onProgress]
 */

/**
 * @param {string} url
 * @param {LoadContext} context
 * @returns {Promise<Artefact>}
 */
export async function loadArtefact(url, context) {
  checkBrowser()
  try {
    return await load(url, context)
  } catch (error) {
    // Header and sections of two versions, from a cache between here and the server.
    if (!(error instanceof WispError) || (error.code !== 'digest' && error.code !== 'truncated')) throw error
    return load(url, context, 'reload')
  }
}

function checkBrowser() {
  if (typeof WebAssembly === 'undefined') throw new WispError('unsupported', 'this browser has no WebAssembly, or a setting forbids it; ask the gateway instead')
  if (!globalThis.crypto?.subtle) throw new WispError('unsupported', 'pages without https cannot check signatures; serve the page over https, or from localhost')
}

/**
 * @param {string} url
 * @param {LoadContext} context
 * @param {RequestCache} [cache]
 * @returns {Promise<Artefact>}
 */
async function load(url, { trust, retries, store, warn, signal, onProgress }, cache) {
  let total = 0, loaded = 0
  const report = () => { if (total) onProgress?.({ loaded: Math.min(total, loaded), total, received: download.received }) }
  const download = new Download(url, { signal, retries, cache, onBytes: report })
  try {
    const whole = await store.get('whole', url)
    const part = whole ? null : await store.get('part', url)
    if (!whole) prepare()
    // Most likely nothing has changed, and what the file had the last time is wanted now.
    const early = new Map([...C.entries(whole ?? new Uint8Array())].filter((section) => !forTexts(section)).map(({ type, digest }) => {
      const bytes = store.get('section', digest)
      if (type === C.KERNEL) bytes.then((kernel) => kernel && compile(kernel), () => {}) // awaited below
      return [digest, bytes]
    }))
    const { table, offline } = await readHead(download, whole, (whole ?? part)?.length, trust)
    total = table.size
    const held = await Promise.all(table.sections.map((section) => (forTexts(section) ? store.has('section', section.digest) : early.get(section.digest) ?? store.get('section', section.digest))))
    const lacking = held.filter((bytes) => !bytes).length
    if (offline && lacking) throw offline
    if (lacking && (!whole || C.hex(whole) !== C.hex(table.bytes))) await store.put('part', url, table.bytes).catch(warn)
    // A section that was on the device and turned out to be damaged.
    const again = async (/** @type {number} */ i) => {
      const once = new Download(url, { retries, cache })
      return readSection(once, table, i, table.sections.map((_, j) => j !== i)).finally(() => once.cancel())
    }
    const build = new Builder(table)
    const kept = new Keeper(store, warn)
    /** @type {{fresh: boolean, part: () => Promise<Part>}[]} */
    const later = []
    try {
      for (const [i, section] of table.sections.entries()) {
        const here = held[i]
        const stored = here ? null : await readSection(download, table, i, held)
        loaded = section.offset + section.stored
        report()
        signal?.throwIfAborted()
        if (forTexts(section)) {
          const at = build.skip(section)
          const raw = async () => (!stored && await store.get('section', section.digest)) || kept.decompressed(stored ?? await again(i), section)
          later.push({ fresh: !here, part: async () => ({ at, raw: await raw() }) })
          continue
        }
        await build.add(section, here instanceof Uint8Array ? here : await kept.decompressed(/** @type {Uint8Array} */ (stored), section))
      }
    } catch (error) { // what is here need not come again
      for (const { fresh, part } of later) if (fresh) await part().catch(() => {})
      await kept.all()
      throw error
    }
    const rest = async () => {
      const parts = []
      for (const { part } of later) {
        parts.push(await part())
        await new Promise((resolve) => setTimeout(resolve)) // to requests that came meanwhile
      }
      if (await kept.all() && (lacking || cache || !whole || C.hex(whole) !== C.hex(table.bytes))) await store.complete(url, table.bytes).catch(warn)
      return parts
    }
    return { table, ...build.finish(), rest, received: download.received, offline: Boolean(offline) }
  } finally {
    download.cancel()
  }
}

/**
 * Whether only texts need a section: recommendations need not wait for the largest of them.
 * @param {{type: number, name: string}} section
 */
function forTexts({ type, name }) {
  return type === C.SEGMENT && L.TEXT_SEGMENTS.includes(name)
}

/** Keeps sections on the device, beside what else there is to do. */
class Keeper {
  /** @type {Promise<boolean>[]} */
  #puts = []
  #warned = false

  /**
   * @param {import('./store.js').Store} store
   * @param {(error: WispError) => void} warn
   */
  constructor(store, warn) {
    this.store = store
    this.warn = warn
  }

  /**
   * Returns the raw bytes of a section, which are kept.
   * @param {Uint8Array} stored
   * @param {C.Section} section
   */
  async decompressed(stored, section) {
    const raw = section.codec === C.ZSTD ? await decompress(stored, section) : stored
    this.#puts.push(this.store.put('section', section.digest, raw).then(() => true, (error) => {
      if (!this.#warned) this.warn(error)
      this.#warned = true
      return false
    }))
    return raw
  }

  /** Whether all that was put is kept. */
  async all() {
    return (await Promise.all(this.#puts)).every(Boolean)
  }
}

/**
 * Reads header and table from the server, or takes those of the last visit where it
 * cannot be reached.
 * @param {Download} download
 * @param {Uint8Array | null} whole header and table of the last visit
 * @param {number | undefined} end their most likely length, where any of the file is held
 * @param {LoadContext['trust']} trust
 */
async function readHead(download, whole, end, trust) {
  let bytes, offline
  try {
    const header = await download.read(0, C.HEADER_BYTES, end)
    const length = C.headLength(header)
    bytes = new Uint8Array(length)
    bytes.set(header)
    bytes.set(await download.read(C.HEADER_BYTES, length - C.HEADER_BYTES, end), C.HEADER_BYTES)
  } catch (error) {
    if (!whole || !(error instanceof WispError) || error.code !== 'network') throw error
    bytes = whole
    offline = error
  }
  return { table: await C.readTable(bytes, trust), offline }
}

/**
 * @param {Download} download
 * @param {C.Table} table
 * @param {number} i
 * @param {(Uint8Array | boolean | null)[]} held
 */
async function readSection(download, { sections, size, bytes }, i, held) {
  const section = sections[i]
  const next = sections.findIndex((_, j) => j > i && held[j])
  const start = i > 0 ? sections[i - 1].offset + sections[i - 1].stored : bytes.length
  const read = await download.read(start, section.offset - start + section.stored, next < 0 ? size : sections[next].offset)
  if (!C.isZero(read.subarray(0, section.offset - start))) throw C.formatError(`the padding before section ${section.label} is not zero`)
  const stored = read.subarray(section.offset - start)
  if (C.hex(await C.sha256(stored)) !== section.digest) {
    throw new WispError('digest', `section ${section.label} is damaged: its bytes are not those that the table names; upload the file again`)
  }
  return stored
}

/** Puts an artefact together from its sections, which come in the order of the file. */
class Builder {
  /** @type {Promise<WebAssembly.Module> | undefined} */
  #module
  /** @type {any} */
  #manifest
  /** @type {Kernel | undefined} */
  #kernel
  /** @type {Item[]} */
  #items = []
  /** @type {{request: Uint8Array, answer: Uint8Array}[]} */
  #goldens = []
  #imageBytes = 0

  /** @param {C.Table} table */
  constructor(table) {
    const names = table.sections.filter(({ type }) => type === C.SEGMENT).map(({ name }) => name)
    if (names.join() !== L.SEGMENTS.filter((name) => names.includes(name)).join()) {
      this.segments = names.join(', ')
    }
  }

  /**
   * @param {C.Section} section
   * @param {Uint8Array} raw
   */
  async add({ type }, raw) {
    switch (type) {
      case C.MANIFEST:
        this.#manifest = readManifest(raw)
        if (this.segments) throw C.formatError(`it has the segments ${this.segments}; those of ABI ${L.WISP_ABI} are ${L.SEGMENTS.join(', ')}, in this order`)
        break
      case C.KERNEL:
        this.#module = compile(raw) // awaited with the first segment
        break
      case C.SEGMENT:
        this.#kernel ??= await Kernel.start(await /** @type {Promise<WebAssembly.Module>} */ (this.#module), this.#manifest.limits.memory_pages)
        if (L.IMAGE_BASE + this.#imageBytes + raw.length > this.#kernel.bytes.length) throw C.formatError('the image does not fit the memory that the manifest states')
        this.#kernel.bytes.set(raw, L.IMAGE_BASE + this.#imageBytes)
        this.#imageBytes += raw.length
        break
      case C.ITEMS:
        this.#items = readItems(raw, this.#manifest.model.items)
        break
      case C.GOLDEN:
        this.#goldens = readGoldens(raw)
    }
  }

  /**
   * Leaves room for a segment that comes later, and returns its place in the image.
   * @param {C.Section} section
   */
  skip({ raw }) {
    const at = this.#imageBytes
    this.#imageBytes += raw
    return at
  }

  finish() {
    const kernel = /** @type {Kernel} */ (this.#kernel).open(this.#imageBytes)
    const { model, limits } = this.#manifest
    if (kernel.items !== model.items || kernel.maxHistory !== limits.max_history || kernel.maxK !== limits.max_k || kernel.textDim !== (model.text?.dim ?? 0) || kernel.attributes.length !== (model.attributes ?? 0) ||
      kernel.classes !== (model.text?.classes ?? 0) || kernel.ratings !== Number(model.ratings ?? false)) {
      throw C.formatError('the manifest states other dimensions than the image has')
    }
    const catalogue = new Catalogue(this.#items)
    if (!catalogue.fits(kernel)) throw C.formatError('the categories and attributes of the items are not those of the image')
    return { kernel, manifest: this.#manifest, catalogue, goldens: this.#goldens }
  }
}

/** What is compiled, or on its way. @type {WeakMap<Uint8Array, Promise<WebAssembly.Module>>} */
const modules = new WeakMap()

/** @param {Uint8Array} kernel */
function compile(kernel) {
  let module = modules.get(kernel)
  if (!module) {
    modules.set(kernel, module = compileAnew(kernel))
    module.catch(() => {}) // whoever awaits it hears of it
  }
  return module
}

/** @param {Uint8Array} bytes */
async function compileAnew(bytes) {
  const source = /** @type {BufferSource} */ (bytes)
  try {
    return await WebAssembly.compile(source)
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    if (/CSP|Content[ -]Security[ -]Policy|unsafe-eval/i.test(message)) {
      throw new WispError('unsupported', "the page's Content-Security-Policy forbids WebAssembly; add 'wasm-unsafe-eval' to its script-src", { cause: error })
    }
    throw new WispError('unsupported', `this browser cannot run the artefact's kernel, which needs WebAssembly with 128-bit SIMD; ask the gateway instead`, { cause: error })
  }
}

/** @param {Uint8Array} raw */
function readManifest(raw) {
  const m = parseJSON(raw, 'manifest')
  const whole = (/** @type {unknown} */ v, /** @type {number} */ most) => Number.isInteger(v) && Number(v) >= 1 && Number(v) <= most
  if (!whole(m?.abi, 2 ** 31 - 1)) throw C.formatError('the manifest states no ABI')
  if (m.abi !== L.WISP_ABI) {
    throw new WispError('version', `the artefact is for ABI ${m.abi} of the kernel, this package is for ABI ${L.WISP_ABI}; ${m.abi > L.WISP_ABI ? 'update @wisp-project/web' : 'make the artefact again'}`)
  }
  if (typeof m.name !== 'string' || !m.name || !whole(m.version, Number.MAX_SAFE_INTEGER)) throw C.formatError('the manifest has no name or no version')
  if (!whole(m.limits?.memory_pages, 65536) || !whole(m.model?.items, 2 ** 26)) throw C.formatError('the manifest states no limits or no items')
  if (!Array.isArray(m.event_types) || m.event_types.length !== m.model.event_types || !m.event_types.every((/** @type {any} */ t) => t?.name && typeof t.name === 'string')) {
    throw C.formatError('the event types of the manifest are not those of its model')
  }
  const classes = m.classes ?? []
  if (!Array.isArray(classes) || classes.length !== (m.model.text?.classes ?? 0) || !classes.every((c) => c && typeof c === 'string')) {
    throw C.formatError('the classes of texts of the manifest are not those of its model')
  }
  return m
}

/**
 * @param {Uint8Array} raw
 * @param {number} count
 */
function readItems(raw, count) {
  const items = parseJSON(raw, 'catalogue')
  if (!Array.isArray(items) || items.length !== count) throw C.formatError(`the catalogue does not have the ${count} items that the manifest states`)
  const ids = new Set()
  for (const [i, item] of items.entries()) {
    const texts = [item?.id, item?.title ?? '', ...item?.categories ?? [], ...(item?.attributes ?? []).flatMap((/** @type {any} */ a) => [a?.name, a?.value])]
    if (!item?.id || texts.some((t) => typeof t !== 'string') || ids.has(item.id)) throw C.formatError(`item ${i} of the catalogue has no id, one that is there twice, or other things than texts`)
    ids.add(item.id)
  }
  return items
}

/** @param {Uint8Array} raw */
function readGoldens(raw) {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength)
  let at = 4
  const part = () => {
    const length = at + 4 <= raw.length ? view.getUint32(at, true) : 0
    if (length === 0 || length > raw.length - at - 4) throw C.formatError(`the golden requests are cut off at byte ${at}`)
    at += 4 + length
    return raw.subarray(at - length, at)
  }
  const goldens = []
  for (let n = raw.length >= 4 ? view.getUint32(0, true) : 0; n > 0; n--) goldens.push({ request: part(), answer: part() })
  if (at !== raw.length || goldens.length === 0) throw C.formatError('the golden requests are not as long as their section')
  return goldens
}
