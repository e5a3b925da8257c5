// Recommendations in the browser, from a .wisp artefact: the same file and the same bits
// as on a gateway, and nothing leaves the device.
import { WispError } from './errors.js'
import { openPort } from './port.js'

export { WispError }

/** @typedef {import('./errors.js').ErrorCode} ErrorCode */
/** @typedef {import('./engine.js').Event} Event */
/** @typedef {import('./engine.js').RecommendRequest} RecommendRequest */
/** @typedef {import('./engine.js').SearchRequest} SearchRequest */
/** @typedef {import('./engine.js').SimilarRequest} SimilarRequest */
/** @typedef {import('./engine.js').NewItem} NewItem */
/** @typedef {import('./rules.js').Rules} Rules */
/** @typedef {import('./rules.js').Label} Label */
/** @typedef {import('./engine.js').ScoreRequest} ScoreRequest */
/** @typedef {import('./engine.js').RateRequest} RateRequest */
/** @typedef {import('./engine.js').Rating} Rating */
/** @typedef {import('./engine.js').Ratings} Ratings */
/** @typedef {import('./engine.js').Classification} Classification */
/** @typedef {import('./engine.js').Response} Response */
/** @typedef {import('./engine.js').Recommendation} Recommendation */
/** @typedef {import('./engine.js').Reason} Reason */
/** @typedef {import('./engine.js').Attribute} Attribute */
/** @typedef {import('./engine.js').Score} Score */
/** @typedef {import('./artefact.js').Item} Item */

/**
 * @typedef {object} Progress
 * @property {number} loaded bytes of the artefact that are here, from the network or the device
 * @property {number} total bytes of the artefact
 * @property {number} received bytes that came over the network
 */

/**
 * @typedef {object} LoadOptions
 * @property {string | Uint8Array | (string | Uint8Array)[]} [publicKey] the ed25519 key, or keys, whose artefacts are accepted: the content of the
 *   .pub file of `wisp keygen`, or 32 bytes, raw or in base64 or hexadecimal
 * @property {boolean} [allowUnsigned] accepts artefacts without a signature, or of other keys: whoever controls the server is trusted then
 * @property {(progress: Progress) => void} [onProgress]
 * @property {AbortSignal} [signal] gives up loading
 * @property {string | false} [history] the name of the history that is kept on the device and shared by the site's tabs, `default` if absent; false for none
 * @property {number} [historyLimit] events that are kept, 1000 if absent; the oldest are forgotten
 * @property {() => void} [onHistoryChange] another tab changed the history
 * @property {(warning: WispError) => void} [onWarning] something is not kept on the device; everything works. console.warn if absent
 * @property {boolean} [cache] keeps the artefact on the device; true if absent
 * @property {boolean} [worker] works in a worker; true if absent, and where there are none on the page's thread
 * @property {number} [retries] of a request to the server that failed, 3 if absent
 * @property {number} [timeout] milliseconds for a request to the model, 10000 if absent; 0 for none. In a worker only
 */

/**
 * @typedef {object} Info What was loaded.
 * @property {any} manifest what the artefact says of itself; see artifact/FORMAT.md
 * @property {Item[]} items the catalogue, in the order of the model
 * @property {string} digest SHA-256 that identifies the artefact, in hexadecimal
 * @property {string} keyId of the key that the file names; empty where it is not signed
 * @property {boolean} trusted the signature is right, and the key one of those given
 * @property {number} size bytes of the file
 * @property {number} received bytes that came over the network
 * @property {boolean} offline the server was not reached: this is the artefact of the last visit
 * @property {number} memory bytes of the model in memory, working memory included
 * @property {{part: string, stored: number, raw: number}[]} weights bytes of each part of the file, as stored and in memory
 */

/** Recommends from one artefact. Its methods may be called at once and answer in turn. */
export class Recommender {
  /** @type {import('./port.js').Port} */
  #port
  /** @type {() => Promise<[import('./port.js').Port, Info]>} */
  #open
  /** @type {Promise<unknown> | undefined} */
  #opening
  #closed = false
  #timeout
  // What another worker has to be told when this one dies.
  /** @type {Map<string, NewItem>} */
  #inserted = new Map()
  /** @type {Set<string>} */
  #unavailable = new Set()

  /**
   * Use Recommender.load.
   * @param {import('./port.js').Port} port
   * @param {Info} info
   * @param {() => Promise<[import('./port.js').Port, Info]>} open
   * @param {number} timeout
   */
  constructor(port, info, open, timeout) {
    this.#port = port
    this.#open = open
    this.#timeout = timeout
    /** What was loaded. */
    this.info = info
  }

  /**
   * Loads an artefact, checks all of it, and answers its golden requests; those with texts, and
   * what only these need, come behind the first requests (see complete).
   * @param {string | URL} url
   * @param {LoadOptions} [options]
   * @returns {Promise<Recommender>}
   */
  static async load(url, options = {}) {
    const { publicKey = [], allowUnsigned = false, onProgress, signal, history = 'default', historyLimit = 1000, onHistoryChange, cache = true, worker = true, retries = 3, timeout = 10_000 } = options
    const onWarning = options.onWarning ?? ((/** @type {WispError} */ warning) => console.warn(warning))
    const keys = [publicKey].flat()
    if (keys.length === 0 && !allowUnsigned) throw new WispError('options', 'give the publicKey whose artefacts are accepted, or set allowUnsigned to trust whatever the server sends')
    if (!(historyLimit >= 1 && retries >= 0 && timeout >= 0)) throw new WispError('options', 'historyLimit must be at least 1, retries and timeout must not be negative')
    const address = new URL(url, document.baseURI).href
    const open = async (/** @type {import('./port.js').CallOptions} */ call) => {
      call.signal?.throwIfAborted()
      const port = await openPort(worker, (event, detail) => (event === 'warning' ? onWarning(detail) : onHistoryChange?.()))
      try {
        const info = await port.call('load', [address, { keys, allowUnsigned, cache, retries, history, historyLimit }], call)
        return /** @type {[import('./port.js').Port, Info]} */ ([port, info])
      } catch (error) {
        port.close()
        throw error
      }
    }
    return new Recommender(...await open({ signal, onProgress }), () => open({}), timeout)
  }

  /**
   * Resolves once the artefact is here to the last byte, and kept on the device if it can be. load
   * does not wait for what only texts need; a search or a description does.
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<void>}
   */
  complete(options) {
    return this.#call('complete', [], options)
  }

  /** Where the model runs: in a worker, or on the page's own thread. */
  get thread() {
    return this.#port.thread
  }

  /**
   * Returns the best items for a history: the one that is given, or else that on the device.
   * @param {RecommendRequest} [request]
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Response>}
   */
  recommend(request = {}, options) {
    return this.#call('recommend', [request], options)
  }

  /**
   * Is recommend with reasons for each item: the past events that speak most for it.
   * @param {RecommendRequest} [request]
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Response>}
   */
  explain(request = {}, options) {
    return this.recommend({ ...request, explain: true }, options)
  }

  /**
   * Returns the items whose texts are nearest in meaning to a text.
   * @param {string | SearchRequest} request
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Response>}
   */
  search(request, options) {
    return this.#call('search', [typeof request === 'string' ? { text: request } : request], options)
  }

  /**
   * Returns the items that are most like one; the scores are cosines.
   * @param {string | SimilarRequest} request the id, or more
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Response>}
   */
  similar(request, options) {
    return this.#call('similar', [typeof request === 'string' ? { item: request } : request], options)
  }

  /**
   * Returns what the model thinks of the named items, in their order.
   * @param {ScoreRequest} request
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Score[]>}
   */
  score(request, options) {
    return this.#call('score', [request], options)
  }

  /**
   * Returns the ratings that the user would give to the named items.
   * @param {RateRequest} request
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Ratings>}
   */
  rate(request, options) {
    return this.#call('rate', [request], options)
  }

  /**
   * Returns how likely a text is of each class that the artefact knows, such as positive and
   * negative: its sentiment.
   * @param {string} text
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Classification>}
   */
  classify(text, options) {
    return this.#call('classify', [String(text)], options)
  }

  /**
   * Returns the vector of a text, of length 1 where the encoder says so.
   * @param {string} text
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Float32Array>}
   */
  embed(text, options) {
    return this.#call('embed', [String(text)], options)
  }

  /**
   * Adds an item that the artefact does not have, known by its text alone: from now on it is
   * recommended and found, can be scored, and stand in histories and rules. One that was
   * inserted with the same id is replaced. It is forgotten when the page closes.
   * @param {NewItem} item
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<void>}
   */
  async insert(item, options) {
    await this.#call('insert', [item], options)
    this.#inserted.set(item.id, item)
  }

  /**
   * Takes an inserted item out again.
   * @param {string} id
   * @returns {Promise<void>}
   */
  async remove(id) {
    await this.#call('remove', [id])
    this.#inserted.delete(id)
    this.#unavailable.delete(id)
  }

  /**
   * Says whether items may be recommended and found, as when they sell out and come back.
   * @param {boolean} available
   * @param {string[]} ids
   * @returns {Promise<void>}
   */
  async setAvailable(available, ids) {
    await this.#call('setAvailable', [available, ids])
    for (const id of ids) available ? this.#unavailable.delete(id) : this.#unavailable.add(id)
  }

  /**
   * Adds events to the history on the device, at the present time if they have none.
   * @param {Event | Event[]} events
   * @returns {Promise<string[]>} ids that the catalogue does not have; they are kept all the same
   */
  append(events) {
    const time = Math.floor(Date.now() / 1000)
    return this.#call('append', [[events].flat().map((e) => ({ ...e, time: e.time ?? time }))])
  }

  /**
   * The events on the device.
   * @returns {Promise<Event[]>}
   */
  history() {
    return this.#call('events', [])
  }

  /**
   * The events on the device as a JSON file that can be handed to their owner.
   * @returns {Promise<Blob>}
   */
  async exportHistory() {
    return new Blob([JSON.stringify({ wisp_history: 1, events: await this.history() }, null, 1)], { type: 'application/json' })
  }

  /**
   * Erases the history from the device.
   * @returns {Promise<void>}
   */
  eraseHistory() {
    return this.#call('erase', [])
  }

  /** Ends the worker and lets go of the memory. The history stays on the device. */
  close() {
    this.#closed = true
    this.#port.close()
  }

  /**
   * @param {string} method
   * @param {unknown[]} args
   * @param {{signal?: AbortSignal}} [options]
   */
  async #call(method, args, { signal } = {}) {
    if (this.#port.dead && !this.#closed) {
      await (this.#opening ??= this.#reopen().finally(() => { this.#opening = undefined }))
    }
    if (this.#closed) throw new WispError('closed', 'the recommender is closed; load it again')
    return this.#port.call(method, args, { signal, timeout: this.#timeout })
  }

  async #reopen() {
    const [port, info] = await this.#open()
    for (const item of this.#inserted.values()) await port.call('insert', [item])
    if (this.#unavailable.size > 0) await port.call('setAvailable', [false, [...this.#unavailable]])
    this.#port = port
    this.info = info
    if (this.#closed) port.close()
  }
}
