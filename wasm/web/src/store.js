// Sections that were downloaded and found right, decompressed, by the digest that the table
// names, in the Cache API; and for each address the header and table of the file that was
// last loaded from it whole.
import { entries, hex, sha256 } from './container.js'
import { WispError } from './errors.js'

const NAME = 'wisp-sections-1'
// A digest of what was put, so that damage on the device is seen.
const SUM = 'Wisp-Sum'

export class Store {
  /** @param {Cache | null} cache null where nothing can be kept */
  constructor(cache) {
    this.cache = cache
  }

  /** @param {(error: WispError) => void} warn */
  static async open(warn) {
    try {
      return new Store(await caches.open(NAME))
    } catch (error) { // private windows of some browsers
      warn(new WispError('storage', 'this browser keeps no files for the page: the artefact is downloaded at every visit', { cause: error }))
      return new Store(null)
    }
  }

  /**
   * @param {string} kind section, whole or part
   * @param {string} key
   */
  #url(kind, key) {
    return new URL(`/.wisp/${kind}/${encodeURIComponent(key)}`, location.origin).href
  }

  /**
   * @param {'section' | 'whole' | 'part'} kind
   * @param {string} key
   * @returns {Promise<Uint8Array | null>}
   */
  async get(kind, key) {
    const response = await this.cache?.match(this.#url(kind, key)).catch(() => undefined)
    if (!response) return null
    const bytes = new Uint8Array(await response.arrayBuffer())
    return hex(await sha256(bytes)) === response.headers.get(SUM) ? bytes : null
  }

  /**
   * Whether get may find something: it looks at no bytes.
   * @param {'section' | 'whole' | 'part'} kind
   * @param {string} key
   */
  async has(kind, key) {
    return Boolean(await this.cache?.match(this.#url(kind, key)).catch(() => undefined))
  }

  /**
   * @param {'section' | 'whole' | 'part'} kind
   * @param {string} key
   * @param {Uint8Array} bytes
   */
  async put(kind, key, bytes) {
    if (!this.cache) return
    const headers = { 'Content-Type': 'application/octet-stream', [SUM]: hex(await sha256(bytes)) }
    await this.cache.put(this.#url(kind, key), new Response(/** @type {BodyInit} */ (bytes), { headers })).catch((error) => {
      throw new WispError('storage', 'the artefact cannot be kept on this device (its storage is full?): it works until the page closes and is downloaded again then', { cause: error })
    })
  }

  /**
   * Remembers that all of a file is held, and drops the sections that no file needs any more.
   * @param {string} url
   * @param {Uint8Array} head its header and table
   */
  async complete(url, head) {
    if (!this.cache) return
    await this.put('whole', url, head)
    await this.cache.delete(this.#url('part', url))
    const needed = new Set()
    const sections = []
    for (const { url: key } of await this.cache.keys()) {
      const [kind, name] = new URL(key).pathname.split('/').slice(2)
      if (kind === 'section') sections.push({ key, name })
      else for (const { digest } of entries(await this.get(/** @type {'whole'} */ (kind), decodeURIComponent(name)) ?? new Uint8Array())) needed.add(digest)
    }
    await Promise.all(sections.filter(({ name }) => !needed.has(name)).map(({ key }) => this.cache?.delete(key)))
  }
}
