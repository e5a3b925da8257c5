// The user's events, kept on the device in IndexedDB and nowhere else. Tabs share them.
import { WispError } from './errors.js'

/** @typedef {import('./engine.js').Event} Event */

const STORE = 'events'

export class History {
  /** @type {IDBDatabase | null} */
  #db = null
  /** @type {BroadcastChannel | null} */
  #tabs = null
  /** @type {Promise<unknown>} */
  #settled = Promise.resolve()
  /** The events that are held, in the order in which they were added. @type {Event[]} */
  events = []

  /**
   * @param {{limit: number, warn: (error: WispError) => void, changed: () => void}} options
   */
  constructor({ limit, warn, changed }) {
    this.limit = limit
    this.warn = warn
    this.changed = changed
  }

  /**
   * Opens the history of a name. Where the browser keeps none, it lives until the page
   * closes, and warn says so.
   * @param {string} name
   * @param {{limit: number, warn: (error: WispError) => void, changed: () => void}} options
   */
  static async open(name, options) {
    const history = new History(options)
    try {
      const request = indexedDB.open(`wisp-history-${name}`, 1)
      request.onupgradeneeded = () => request.result.createObjectStore(STORE, { autoIncrement: true })
      history.#db = await done(request)
      await history.#reload()
    } catch (error) {
      history.#db = null
      options.warn(new WispError('storage', 'this browser keeps no history for the page (a private window?): it is forgotten when the page closes', { cause: error }))
    }
    if (typeof BroadcastChannel !== 'undefined') {
      history.#tabs = new BroadcastChannel(`wisp-history-${name}`)
      history.#tabs.onmessage = () => {
        history.#settled = history.#settled.then(() => history.#reload()).then(options.changed, () => {})
      }
    }
    return history
  }

  /** Resolves once what other tabs did is in events. */
  async settled() {
    await this.#settled
  }

  async #reload() {
    if (this.#db) this.events = await done(this.#db.transaction(STORE).objectStore(STORE).getAll())
  }

  /**
   * Adds events, and forgets the oldest of more than limit.
   * @param {Event[]} events
   */
  async append(events) {
    this.events = [...this.events, ...events].slice(-this.limit)
    await this.#write((store) => {
      for (const e of events) store.add(e)
      const count = store.count()
      count.onsuccess = () => {
        let over = count.result - this.limit
        if (over <= 0) return
        const oldest = store.openKeyCursor()
        oldest.onsuccess = () => {
          const cursor = oldest.result
          if (!cursor || over-- <= 0) return
          store.delete(cursor.primaryKey)
          cursor.continue()
        }
      }
    }, 'this event cannot be kept on the device (its storage is full?): it is forgotten when the page closes')
  }

  /** Forgets all events, on the device as well. */
  async erase() {
    this.events = []
    await this.#write((store) => store.clear(), 'the history could not be erased from the device; erase the data of this site in the browser')
  }

  /**
   * @param {(store: IDBObjectStore) => void} change
   * @param {string} failure
   */
  async #write(change, failure) {
    if (!this.#db) return
    try {
      const transaction = this.#db.transaction(STORE, 'readwrite')
      change(transaction.objectStore(STORE))
      await new Promise((resolve, reject) => {
        transaction.oncomplete = resolve
        transaction.onabort = transaction.onerror = () => reject(transaction.error)
      })
      this.#tabs?.postMessage(null)
    } catch (error) {
      this.warn(new WispError('storage', failure, { cause: error }))
    }
  }

  close() {
    this.#tabs?.close()
    this.#db?.close()
  }
}

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })
}
