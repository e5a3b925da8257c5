// Answers requests from one artefact, as package edge does on a gateway: ids become
// indices, times become gaps, the kernel does the rest.
import { checkItem } from './catalogue.js'
import { WispError } from './errors.js'
import { decodeAnswer, encodeRequest, hasText } from './kernel.js'
import * as L from './layout.js'
import { encodeRules } from './rules.js'
import { array, gaps } from './session.js'

/**
 * @typedef {object} Event One past event of a user.
 * @property {string} item id
 * @property {string} [type] a name of the artefact's vocabulary; `click` if absent
 * @property {number} [value] the rating, in the data set's own scale
 * @property {number} [time] Unix time in seconds
 */

/**
 * @typedef {object} RecommendRequest
 * @property {Event[]} [history] the user's events; those kept on the device if absent
 * @property {string} [description] what the user is like, in words; counts beside the history
 * @property {number} [k] items wanted; 10 if absent
 * @property {string[]} [exclude] ids to leave out; unknown ones are ignored
 * @property {boolean} [includeSeen] keeps the items of the history in
 * @property {boolean} [explain] adds to each item the past events that speak most for it
 * @property {number} [reasons] events for each item; 3 if absent
 * @property {import('./rules.js').Rules} [rules] what may be recommended, and in which order
 */

/**
 * @typedef {object} SimilarRequest
 * @property {string} item id
 * @property {number} [k] items wanted; 10 if absent
 * @property {string[]} [exclude] ids to leave out; unknown ones are ignored
 * @property {import('./rules.js').Rules} [rules] what may be found, and in which order
 */

/**
 * @typedef {object} SearchRequest
 * @property {string} text what is searched for
 * @property {number} [k] items wanted; 10 if absent
 * @property {string[]} [exclude] ids to leave out; unknown ones are ignored
 * @property {import('./rules.js').Rules} [rules] what may be found, and in which order
 */

/**
 * @typedef {object} NewItem An item that the artefact does not have.
 * @property {string} id
 * @property {string} [title]
 * @property {string[]} [categories]
 * @property {{name: string, value: string}[]} [attributes]
 * @property {string} [text] what it is known by; title, categories and values of attributes if absent
 */

/**
 * @typedef {object} ScoreRequest
 * @property {string[]} items ids
 * @property {Event[]} [history] the user's events; those kept on the device if absent
 * @property {string} [description] what the user is like, in words
 */

/**
 * @typedef {object} RateRequest
 * @property {string[]} items ids
 * @property {Event[]} [history] the user's events, whose ratings say how high the user rates; those kept on the device if absent
 * @property {string} [description] what the user is like, in words
 */

/**
 * @typedef {object} Rating
 * @property {string} item id
 * @property {string} [title]
 * @property {number} rating that the user is expected to give, in the data set's own scale
 */

/**
 * @typedef {object} Ratings
 * @property {Rating[]} items in the order of the request
 * @property {string[]} [unknown] ids of the history that the catalogue does not have
 * @property {boolean} [coldStart] no event of the history was known
 */

/**
 * @typedef {object} Classification How likely a text is of each class.
 * @property {string} best the most probable class
 * @property {{name: string, probability: number}[]} classes all of them, in the order of the artefact
 */

/**
 * @typedef {object} Reason A past event whose removal lowers an item's score.
 * @property {number} event index into the history
 * @property {string} item id
 * @property {string} [title]
 * @property {number} drop by how much the score falls without the event
 */

/**
 * @typedef {object} Recommendation
 * @property {string} item id
 * @property {string} [title]
 * @property {number} score
 * @property {Reason[]} [reasons] the past events that speak most for the item, by falling drop
 * @property {Attribute[]} [attributes] what of the item itself speaks most for it, by falling gain
 */

/**
 * @typedef {object} Attribute A part of an item's vector that raises its score.
 * @property {string} [name] for example `category Comedy` or `word dog`
 * @property {boolean} [own] no attribute, but what only this item is
 * @property {number} gain by how much the score would be lower without it
 */

/**
 * @typedef {object} Response
 * @property {Recommendation[]} items by falling score, ties in the order of the catalogue
 * @property {string[]} [unknown] ids of the history that the catalogue does not have
 * @property {boolean} [coldStart] no event of the history was known
 * @property {boolean} [noAttributes] they were asked for, of an artefact that does not know them
 */

/**
 * @typedef {object} Score
 * @property {number} value comparable between items
 * @property {number} integer the exact product of user vector and item row, before the item's scale
 */

const encoder = new TextEncoder()
const DEFAULT_K = 10

/** A turn of the event loop, in which messages are taken. */
const breath = () => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel()
  port1.onmessage = () => { port1.close(); resolve(undefined) }
  port2.postMessage(null)
})

export class Engine {
  /** @type {Promise<unknown>} */
  #last = Promise.resolve()
  #broken = false
  /** @type {Promise<void> | undefined} */
  #texts
  #knowsTexts = false // what they need is in the image

  /** @param {Pick<import('./artefact.js').Artefact, 'kernel' | 'manifest' | 'catalogue' | 'goldens' | 'rest'>} artefact */
  constructor({ kernel, manifest, catalogue, goldens, rest }) {
    this.kernel = kernel
    this.manifest = manifest
    this.catalogue = catalogue
    this.goldens = goldens
    this.rest = rest
  }

  /**
   * Answers the golden requests, those with a text or the others, and compares every bit.
   * @param {boolean} texts
   */
  async checkGoldens(texts) {
    for (const [i, { request, answer }] of this.goldens.entries()) {
      if (hasText(request) !== texts) continue
      const got = await this.kernel.run(request, async () => {})
      if (got.length !== answer.length || got.some((b, j) => b !== answer[j])) {
        throw new WispError('golden', `golden request ${i} of ${this.goldens.length} is not answered with the exact bits: this device or its browser is not to be trusted with the artefact; ask the gateway instead`)
      }
    }
  }

  /**
   * Puts what texts need into the image; requests with a text wait for it. Where that fails it
   * is tried again the next time.
   * @returns {Promise<void>}
   */
  texts() {
    return this.#texts ??= this.rest().then((parts) => this.#exclusive(undefined, async () => {
      for (const { at, raw } of parts) this.kernel.bytes.set(raw, L.IMAGE_BASE + at)
      this.#knowsTexts = true
      this.rest = async () => []
      await this.checkGoldens(true)
    })).catch((error) => {
      this.#texts = undefined
      throw error
    })
  }

  /**
   * Does what #exclusive does, once the kernel can read texts, if there is one.
   * @template T
   * @param {boolean} text
   * @param {AbortSignal | undefined} signal
   * @param {(run: (request: import('./kernel.js').GuestRequest) => Promise<import('./kernel.js').Answer>) => Promise<T>} work
   * @returns {Promise<T>}
   */
  async #reading(text, signal, work) {
    if (text) await this.texts()
    return this.#exclusive(signal, work)
  }

  /**
   * Runs work on the kernel once everything before is done.
   * @template T
   * @param {AbortSignal | undefined} signal
   * @param {(run: (request: import('./kernel.js').GuestRequest) => Promise<import('./kernel.js').Answer>) => Promise<T>} work
   * @returns {Promise<T>}
   */
  #exclusive(signal, work) {
    const pause = async () => {
      await breath()
      signal?.throwIfAborted()
    }
    const result = this.#last.then(async () => {
      signal?.throwIfAborted()
      if (this.#broken) {
        this.kernel = await this.kernel.clone()
        await this.checkGoldens(false)
        if (this.#knowsTexts) await this.checkGoldens(true)
        this.catalogue.lay(this.kernel)
        this.#broken = false
      }
      return work(async (request) => {
        try {
          const answer = decodeAnswer(await this.kernel.run(encodeRequest(request), pause))
          if (answer.status !== L.STATUS_OK) throw new WispError('kernel', `the artefact's kernel refuses a valid request with status ${answer.status}`)
          return answer
        } catch (error) {
          this.#broken ||= error instanceof WispError && error.code === 'kernel'
          throw error
        }
      })
    })
    this.#last = result.catch(() => {})
    return result
  }

  /**
   * @param {RecommendRequest} q
   * @param {import('./session.js').Session} session
   * @param {AbortSignal} [signal]
   * @returns {Promise<Response>}
   */
  recommend(q, session, signal) {
    const k = this.#hits(q.k)
    const text = this.#description(q.description)
    const reasons = q.reasons || 3
    if (!Number.isInteger(reasons) || reasons < 1 || reasons > L.MAX_REASONS) throw new WispError('request', `reasons is ${reasons}, must lie between 1 and ${L.MAX_REASONS}`)
    return this.#reading(text.length > 0, signal, async (run) => {
      const list = this.#leaveOut(q.includeSeen ? [] : session.seen(), q.exclude)
      const { hits } = await session.run(run, { kind: L.KIND_RECOMMEND, k, list, text, rules: this.#rules(q, k) })
      /** @type {Response} */
      const response = { items: this.#recommendations(hits) }
      if (session.unknown.length > 0) response.unknown = [...session.unknown]
      if (session.events.length === 0) response.coldStart = true
      if (q.explain) {
        if (this.kernel.attributes.length === 0) response.noAttributes = true
        await this.#explain(run, session.events, text, reasons, hits, response.items)
      }
      return response
    })
  }

  /**
   * @param {ScoreRequest} q
   * @param {import('./session.js').Session} session
   * @param {AbortSignal} [signal]
   * @returns {Promise<Score[]>}
   */
  score(q, session, signal) {
    const text = this.#description(q.description)
    const list = this.#list(q.items)
    return this.#reading(text.length > 0, signal, async (run) => {
      const scores = []
      for (let at = 0; at < list.length; at += this.kernel.maxList) {
        const { hits } = await session.run(run, { kind: L.KIND_SCORE, list: list.slice(at, at + this.kernel.maxList), text })
        scores.push(...hits.map(({ score, acc }) => ({ value: score, integer: acc })))
      }
      return scores
    })
  }

  /**
   * @param {RateRequest} q
   * @param {import('./session.js').Session} session
   * @param {AbortSignal} [signal]
   * @returns {Promise<Ratings>}
   */
  rate(q, session, signal) {
    if (!this.kernel.ratings) throw new WispError('no-head', 'the artefact predicts no ratings; fit them with `wisp fit-ratings` and make it again')
    const text = this.#description(q.description)
    const list = this.#list(q.items)
    return this.#reading(text.length > 0, signal, async (run) => {
      /** @type {Ratings} */
      const ratings = { items: [] }
      const { events, unknown } = session
      const history = gaps(events, Math.max(0, events.length - this.kernel.maxHistory))
      for (let at = 0; at < list.length; at += this.kernel.maxList) {
        const { hits } = await run({ kind: L.KIND_RATE, history, list: list.slice(at, at + this.kernel.maxList), text })
        ratings.items.push(...this.#recommendations(hits).map(({ score, ...item }) => ({ ...item, rating: score })))
      }
      if (unknown.length > 0) ratings.unknown = [...unknown]
      if (events.length === 0) ratings.coldStart = true
      return ratings
    })
  }

  /**
   * @param {string} text
   * @param {AbortSignal} [signal]
   * @returns {Promise<Classification>}
   */
  classify(text, signal) {
    if (!this.kernel.classes) throw new WispError('no-head', 'the artefact knows no classes of texts; make it with `wisp compress --classes`')
    const bytes = this.#cut(text)
    return this.#reading(true, signal, async (run) => {
      const { hits } = await run({ kind: L.KIND_CLASSIFY, text: bytes })
      const classes = hits.map(({ score }, i) => ({ name: this.manifest.classes[i], probability: score }))
      return { best: classes.reduce((best, c) => (c.probability > best.probability ? c : best)).name, classes }
    })
  }

  /**
   * @param {SearchRequest} q
   * @param {AbortSignal} [signal]
   * @returns {Promise<Response>}
   */
  search(q, signal) {
    const k = this.#hits(q.k)
    if (!(this.kernel.textFlags & L.TEXT_ITEM_TEXTS)) throw new WispError('no-text', 'the artefact does not hold the texts of its items, so that they cannot be searched; make one with `wisp compress --encoder`')
    if (typeof q.text !== 'string') throw new WispError('request', 'a search needs a text')
    const text = this.#cut(q.text)
    return this.#reading(true, signal, async (run) => {
      const { hits } = await run({ kind: L.KIND_SEARCH, k, list: this.#leaveOut([], q.exclude), text, rules: this.#rules(q, k) })
      return { items: this.#recommendations(hits) }
    })
  }

  /**
   * @param {SimilarRequest} q
   * @param {AbortSignal} [signal]
   * @returns {Promise<Response>}
   */
  similar(q, signal) {
    const k = this.#hits(q.k)
    return this.#exclusive(signal, async (run) => {
      const item = this.catalogue.find(q.item)
      if (item === undefined) throw new WispError('request', `item ${JSON.stringify(q.item)} is not in the catalogue`)
      const { hits } = await run({ kind: L.KIND_SIMILAR, k, history: [{ item, type: 0, gap: 0 }], list: this.#leaveOut([], q.exclude), rules: this.#rules(q, k) })
      return { items: this.#recommendations(hits) }
    })
  }

  /**
   * Adds an item that is known by its text alone; one that was inserted with the same id is
   * replaced.
   * @param {NewItem} item
   * @param {AbortSignal} [signal]
   */
  insert({ text: given, ...item }, signal) {
    const text = checkItem({ ...item, text: given })
    if (!(this.kernel.textFlags & L.TEXT_ITEM_MAP)) throw new WispError('no-text', 'the artefact does not lead from texts to items, so that none can be inserted; make one with `wisp compress --encoder`')
    const bytes = this.#cut(text)
    return this.#reading(true, signal, async (run) => {
      if ((this.catalogue.find(item.id) ?? Infinity) < this.catalogue.items.length) throw new WispError('request', `item ${JSON.stringify(item.id)} is in the catalogue already`)
      const { row, scale, vector } = await run({ kind: L.KIND_EMBED, flags: L.FLAG_ITEM_ROW, text: bytes })
      this.catalogue.insert({ item, row, scale, vector }, this.kernel)
      this.catalogue.lay(this.kernel)
    })
  }

  /**
   * Changes what is laid over the catalogue.
   * @param {(catalogue: import('./catalogue.js').Catalogue) => void} change
   */
  lay(change) {
    return this.#exclusive(undefined, async () => {
      change(this.catalogue)
      this.catalogue.lay(this.kernel)
    })
  }

  /**
   * Returns the vector of a text.
   * @param {string} text
   * @param {AbortSignal} [signal]
   * @returns {Promise<Float32Array>}
   */
  embed(text, signal) {
    if (!this.kernel.textDim) throw new WispError('no-text', 'the artefact has no text encoder; make one with `wisp compress --encoder`')
    const bytes = this.#cut(text)
    return this.#reading(true, signal, async (run) => (await run({ kind: L.KIND_EMBED, text: bytes })).vector)
  }

  /** @param {string[]} ids */
  #list(ids) {
    return array(ids, 'items').map((id) => {
      const item = this.catalogue.find(id)
      if (item === undefined) throw new WispError('request', `item ${JSON.stringify(id)} is not in the catalogue`)
      return item
    })
  }

  /** @param {number | undefined} k */
  #hits(k) {
    if (k !== undefined && (!Number.isInteger(k) || k < 0)) throw new WispError('request', `k is ${k}, must be a whole number from 1 to ${this.kernel.maxK}`)
    return Math.min(k || DEFAULT_K, this.kernel.maxK)
  }

  /**
   * @param {{rules?: import('./rules.js').Rules, k?: number}} q
   * @param {number} k
   */
  #rules({ rules, k: asked }, k) {
    return rules ? encodeRules(rules, this.catalogue, this.kernel, k, asked || DEFAULT_K) : []
  }

  /** @param {string | undefined} description */
  #description(description) {
    if (!description) return new Uint8Array()
    if (!(this.kernel.textFlags & L.TEXT_USER_MAP)) throw new WispError('no-text', 'the artefact does not know descriptions of users; ask without one')
    return this.#cut(description)
  }

  /** @param {string} text */
  #cut(text) {
    let end = this.kernel.maxText
    const bytes = encoder.encode(text)
    if (bytes.length <= end) return bytes
    while ((bytes[end] & 0xc0) === 0x80) end-- // before the first character that does not fit
    return bytes.subarray(0, end)
  }

  /**
   * @param {number[]} list
   * @param {string[] | undefined} exclude
   */
  #leaveOut(list, exclude = []) {
    for (const id of array(exclude, 'exclude')) {
      const item = this.catalogue.find(id)
      if (item !== undefined) list.push(item)
    }
    const unique = [...new Set(list)]
    if (unique.length > this.kernel.maxList) throw new WispError('request', `${unique.length} items are to be left out, at most ${this.kernel.maxList} are possible; shorten history or exclude`)
    return unique
  }

  /** @param {import('./kernel.js').Answer['hits']} hits */
  #recommendations(hits) {
    return hits.map(({ item, score }) => {
      const { id, title } = this.catalogue.item(item)
      /** @type {Recommendation} */
      const r = { item: id, score }
      if (title) r.title = title
      return r
    })
  }

  /**
   * Adds to items the events whose removal lowers their scores most, and what of the items
   * themselves raises them.
   * @param {(request: import('./kernel.js').GuestRequest) => Promise<import('./kernel.js').Answer>} run
   * @param {import('./session.js').Known[]} events
   * @param {Uint8Array} text
   * @param {number} reasons for each item
   * @param {import('./kernel.js').Answer['hits']} hits
   * @param {Recommendation[]} items
   */
  async #explain(run, events, text, reasons, hits, items) {
    // Without one of the last events the score depends on one more before them.
    const last = gaps(events).slice(-this.kernel.maxHistory - 1)
    const first = events.length - last.length
    const flags = this.kernel.attributes.length > 0 ? L.FLAG_ATTRIBUTES : 0
    for (let at = 0; at < hits.length; at += this.kernel.maxExplained) {
      const list = hits.slice(at, at + this.kernel.maxExplained).map(({ item }) => item)
      const answer = await run({ kind: L.KIND_SCORE, history: last, list, text, reasons, flags })
      const part = (/** @type {number} */ i) => answer.hits.slice(list.length + i * reasons, list.length + (i + 1) * reasons).filter(({ item }) => item !== L.NO_REASON)
      list.forEach((_, j) => {
        const because = part(j).map(({ item, score }) => {
          const { index, item: n } = events[first + item]
          const { id, title } = this.catalogue.item(n)
          return { event: index, item: id, ...title && { title }, drop: score }
        })
        if (because.length > 0) items[at + j].reasons = because
        if (flags === 0) return
        const made = part(list.length + j).map(({ item, score }) => item === L.OWN_PART ? { own: true, gain: score } : { name: this.kernel.attributes[item], gain: score })
        if (made.length > 0) items[at + j].attributes = made
      })
    }
  }

  /**
   * The entry of the vocabulary that an event belongs to: the last one of its name whose
   * bound does not exceed the value, or the first of its name.
   * @param {Event} event
   */
  typeOf({ type = 'click', value = 0 }) {
    let found = -1
    for (const [i, t] of this.manifest.event_types.entries()) {
      if (t.name === (type || 'click') && (found < 0 || Math.fround(t.at_least ?? 0) <= Math.fround(value))) found = i
    }
    if (found >= 0) return found
    const names = [...new Set(this.manifest.event_types.map((/** @type {{name: string}} */ t) => t.name))]
    throw new WispError('request', `event type ${JSON.stringify(type)} is unknown; the model knows ${names.join(', ')}`)
  }
}
