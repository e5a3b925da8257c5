// The history of a user, as events that the kernel reads.
import { WispError } from './errors.js'
import * as L from './layout.js'

const MAX_GAP = 2 ** 32 - 1

/**
 * @template T
 * @param {T[]} value
 * @param {string} name
 */
export function array(value, name) {
  if (!Array.isArray(value)) throw new WispError('request', `${name} must be an array`)
  return value
}

/** @typedef {{item: number, type: number, time: number, index: number}} Known An event whose item the catalogue has. */

/**
 * @param {Known[]} events
 * @param {number} [from]
 */
export function gaps(events, from = 0) {
  return events.slice(from).map(({ item, type, time }, i) => {
    const before = events[from + i - 1]
    return { item, type, gap: before ? Math.min(time - before.time, MAX_GAP) : 0 }
  })
}

/**
 * The history of a user as the kernel sees it. What the kernel made of the events so far is
 * kept, so that a new event costs one step; the answers are those to the whole history.
 */
export class Session {
  /** @type {Known[]} */
  events = []
  /** @type {string[]} */
  unknown = []
  /** @type {Uint8Array} */
  #state = new Uint8Array() // stands for the first #known events
  #known = 0
  #changes = 0
  #count = 0

  /**
   * @param {import('./engine.js').Engine} engine
   * @param {import('./engine.js').Event[]} [events]
   */
  constructor(engine, events = []) {
    this.engine = engine
    this.append(array(events, 'history'))
  }

  /**
   * Adds events, or none of them where one makes no sense.
   * @param {import('./engine.js').Event[]} events
   */
  append(events) {
    /** @type {Known[]} */
    const known = []
    const unknown = []
    for (const [i, e] of events.entries()) {
      const what = `event ${i} (item ${JSON.stringify(e?.item)})`
      if (typeof e?.item !== 'string') throw new WispError('request', `${what} names no item`)
      const { time = 0, value = 0 } = e
      if (!Number.isSafeInteger(time) || time < 0) throw new WispError('request', `${what} has time ${time}; times are whole Unix seconds, 0 or later`)
      if (!Number.isFinite(Math.fround(value))) throw new WispError('request', `${what} has value ${value}`)
      const type = this.engine.typeOf(e)
      const item = this.engine.catalogue.find(e.item)
      if (item === undefined) unknown.push(e.item)
      else known.push({ item, type, time, index: this.#count + i })
    }
    for (const e of known) {
      let at = this.events.length
      while (at > 0 && this.events[at - 1].time > e.time) at--
      this.events.splice(at, 0, e)
      if (at < this.#known) this.#known = 0
    }
    this.#changes++
    this.#count += events.length
    this.unknown.push(...unknown)
  }

  /** The items of all events. */
  seen() {
    return this.events.map(({ item }) => item)
  }

  /**
   * Answers a request for the history.
   * @param {(request: import('./kernel.js').GuestRequest) => Promise<import('./kernel.js').Answer>} run
   * @param {import('./kernel.js').GuestRequest} request
   */
  async run(run, request) {
    const n = this.events.length, most = this.engine.kernel.maxHistory, changes = this.#changes
    const goOn = this.#known > 0 && n - this.#known < most
    const answer = await run({
      ...request, flags: (request.flags ?? 0) | L.FLAG_STATE,
      state: goOn ? this.#state : undefined, history: gaps(this.events, goOn ? this.#known : Math.max(0, n - most)),
    })
    this.#state = answer.state
    this.#known = changes === this.#changes ? n : 0 // events may have come meanwhile
    return answer
  }
}
