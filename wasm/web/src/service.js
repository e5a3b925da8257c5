// What a recommender does, on whichever thread: in a worker behind worker.js, or on the
// page's own.
import { loadArtefact } from './artefact.js'
import { parseKey } from './container.js'
import { Engine } from './engine.js'
import { WispError } from './errors.js'
import { History } from './history.js'
import { Session } from './session.js'
import { Store } from './store.js'

/**
 * @typedef {object} Options What of the options of Recommender.load goes to the service.
 * @property {(string | Uint8Array)[]} keys
 * @property {boolean} allowUnsigned
 * @property {boolean} cache
 * @property {number} retries
 * @property {string | false} history
 * @property {number} historyLimit
 */

// The time that what was asked for at once has for itself, in milliseconds.
const FIRST = 50

/**
 * @typedef {object} Call
 * @property {AbortSignal} [signal]
 * @property {(progress: {loaded: number, total: number, received: number}) => void} [onProgress]
 */

export class Service {
  /** @type {Engine | undefined} */
  #engine
  /** @type {History | undefined} */
  #history
  /** @type {Session | undefined} the history on the device */
  #own

  /** @param {(event: 'warning' | 'change', detail?: WispError) => void} notify */
  constructor(notify) {
    this.notify = notify
  }

  /**
   * @param {string} url
   * @param {Options} options
   * @param {Call} call
   */
  async load(url, { keys, allowUnsigned, cache, retries, history, historyLimit }, { signal, onProgress } = {}) {
    const warn = (/** @type {WispError} */ error) => this.notify('warning', error)
    const trust = { keys: keys.map(parseKey), allowUnsigned }
    const store = cache ? await Store.open(warn) : new Store(null)
    const { table, manifest, kernel, catalogue, goldens, rest, received, offline } = await loadArtefact(url, { trust, retries, store, warn, signal, onProgress })
    const engine = new Engine({ kernel, manifest, catalogue, goldens, rest })
    await engine.checkGoldens(false)
    signal?.throwIfAborted()
    this.#engine = engine
    setTimeout(() => engine.texts().catch(warn), FIRST)
    if (history !== false) {
      this.#history = await History.open(history, { limit: historyLimit, warn, changed: () => { this.#own = undefined; this.notify('change') } })
    }
    return { manifest, items: catalogue.items, digest: table.digest, keyId: table.keyId, trusted: table.trusted, size: table.size, received, offline, memory: kernel.bytes.length, weights: weights(table) }
  }

  /**
   * @param {import('./engine.js').RecommendRequest} q
   * @param {Call} call
   */
  async recommend(q, { signal } = {}) {
    return this.#ready().recommend(q, await this.#session(q.history), signal)
  }

  /**
   * @param {import('./engine.js').ScoreRequest} q
   * @param {Call} call
   */
  async score(q, { signal } = {}) {
    return this.#ready().score(q, await this.#session(q.history), signal)
  }

  /**
   * @param {import('./engine.js').RateRequest} q
   * @param {Call} call
   */
  async rate(q, { signal } = {}) {
    return this.#ready().rate(q, await this.#session(q.history), signal)
  }

  /**
   * @param {string} text
   * @param {Call} call
   */
  async classify(text, { signal } = {}) {
    return this.#ready().classify(text, signal)
  }

  /**
   * @param {import('./engine.js').SearchRequest} q
   * @param {Call} call
   */
  async search(q, { signal } = {}) {
    return this.#ready().search(q, signal)
  }

  /**
   * @param {import('./engine.js').SimilarRequest} q
   * @param {Call} call
   */
  async similar(q, { signal } = {}) {
    return this.#ready().similar(q, signal)
  }

  /**
   * @param {import('./engine.js').NewItem} item
   * @param {Call} call
   */
  async insert(item, { signal } = {}) {
    await this.#ready().insert(item, signal)
    this.#own = undefined // its events may name the item
  }

  /** @param {string} id */
  async remove(id) {
    await this.#ready().lay((catalogue) => catalogue.remove(id))
    this.#own = undefined
  }

  /**
   * @param {boolean} available
   * @param {string[]} ids
   */
  async setAvailable(available, ids) {
    await this.#ready().lay((catalogue) => catalogue.setAvailable(available, ids))
  }

  /**
   * @param {string} text
   * @param {Call} call
   */
  async embed(text, { signal } = {}) {
    return this.#ready().embed(text, signal)
  }

  /** @param {import('./engine.js').Event[]} events */
  async append(events) {
    const history = this.#kept()
    const engine = this.#ready()
    const { unknown } = new Session(engine, events) // refuses what makes no sense
    await history.settled()
    const over = history.events.length + events.length > history.limit
    const own = this.#own
    await history.append(events)
    // The oldest events are forgotten: the session begins anew without them.
    if (over) this.#own = undefined
    else own?.append(events)
    return unknown
  }

  async events() {
    await this.#kept().settled()
    return this.#kept().events
  }

  async erase() {
    await this.#kept().erase()
    this.#own = undefined
  }

  async complete() {
    await this.#ready().texts()
  }

  close() {
    this.#history?.close()
    this.#engine = this.#history = this.#own = undefined
  }

  #ready() {
    if (!this.#engine) throw new WispError('closed', 'the recommender is closed; load it again')
    return this.#engine
  }

  #kept() {
    if (!this.#history) throw new WispError('request', 'no history is kept on the device: load with the option history, or give one in each request')
    return this.#history
  }

  /** @param {import('./engine.js').Event[] | undefined} events */
  async #session(events) {
    const engine = this.#ready()
    if (events || !this.#history) return new Session(engine, events ?? [])
    await this.#history.settled()
    return this.#own ??= new Session(engine, this.#history.events)
  }
}

/**
 * What each part of the file weighs, stored and in memory.
 * @param {import('./container.js').Table} table
 */
function weights({ sections }) {
  const names = ['', 'manifest', 'kernel', '', 'catalogue', 'golden requests']
  return sections.map(({ type, name, stored, raw }) => ({ part: names[type] || name, stored, raw }))
}
