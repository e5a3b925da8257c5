// The way from a Recommender to its Service: through a worker, or straight to it.
import { WispError, unpackError } from './errors.js'

/**
 * @typedef {object} CallOptions
 * @property {AbortSignal} [signal]
 * @property {(progress: any) => void} [onProgress]
 * @property {number} [timeout] milliseconds; 0 for none
 */

/**
 * @typedef {object} Port
 * @property {'worker' | 'page'} thread where the service runs
 * @property {boolean} dead nothing is answered any more
 * @property {(method: string, args: unknown[], options?: CallOptions) => Promise<any>} call
 * @property {() => void} close
 */

/** @typedef {(event: 'warning' | 'change', detail?: any) => void} Notify */

/**
 * Opens a worker, or the page's own thread where there are none.
 * @param {boolean} worker
 * @param {Notify} notify
 * @returns {Promise<Port>}
 */
export async function openPort(worker, notify) {
  if (worker && typeof Worker !== 'undefined') {
    try {
      return await WorkerPort.open(notify)
    } catch { // a policy forbids it, or the browser has no module workers
    }
  }
  const { Service, packError } = await import('./worker.js')
  // Its errors are of a class of its own file.
  const own = (/** @type {unknown} */ error) => unpackError(packError(error))
  return new PagePort(new Service((event, detail) => notify(event, detail && own(detail))), own)
}

/** @implements {Port} */
class PagePort {
  /** @type {'page'} */
  thread = 'page'
  dead = false

  /**
   * @param {import('./service.js').Service} service
   * @param {(error: unknown) => Error} own
   */
  constructor(service, own) {
    this.own = own
    this.service = /** @type {Record<string, any>} */ (/** @type {unknown} */ (service))
  }

  /**
   * @param {string} method
   * @param {unknown[]} args
   * @param {CallOptions} [options]
   */
  async call(method, args, { signal, onProgress } = {}) {
    try {
      return await this.service[method](...args, { signal, onProgress })
    } catch (error) {
      throw signal?.aborted ? signal.reason : this.own(error)
    }
  }

  close() {
    this.service.close()
  }
}

/** @implements {Port} */
class WorkerPort {
  /** @type {'worker'} */
  thread = 'worker'
  dead = false
  /** @type {Map<number, {resolve: (value: any) => void, reject: (error: unknown) => void, onProgress?: (progress: any) => void}>} */
  #calls = new Map()
  #next = 1

  /**
   * @param {Worker} worker that has answered
   * @param {Notify} notify
   */
  constructor(worker, notify) {
    this.worker = worker
    worker.onmessage = ({ data: { id, event, detail, progress, result, error } }) => {
      if (event === 'locked') return this.#watch()
      if (event) return notify(event, detail && unpackError(detail))
      const call = this.#calls.get(id)
      if (progress) return call?.onProgress?.(progress)
      this.#calls.delete(id)
      if (error) call?.reject(unpackError(error))
      else call?.resolve(result)
    }
    worker.onerror = (event) => {
      event.preventDefault()
      this.#die(new WispError('worker', `the worker died (${event.message || 'out of memory?'}); the next request starts another`))
    }
    this.lock = `wisp-worker-${Math.random()}`
    worker.postMessage({ lock: this.lock })
  }

  /** @param {Notify} notify */
  static async open(notify) {
    const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' })
    await new Promise((resolve, reject) => {
      worker.onmessage = resolve
      worker.onerror = reject
    }).catch((error) => {
      worker.terminate()
      throw error
    })
    return new WorkerPort(worker, notify)
  }

  /** Waits for the lock that the worker holds while it lives. */
  #watch() {
    navigator.locks.request(this.lock, () => this.#die(new WispError('worker', 'the worker died; the next request starts another'))).catch(() => {})
  }

  /** @param {WispError} error */
  #die(error) {
    if (this.dead) return
    this.dead = true
    this.worker.terminate()
    for (const { reject } of this.#calls.values()) reject(error)
    this.#calls.clear()
  }

  /**
   * @param {string} method
   * @param {unknown[]} args
   * @param {CallOptions} [options]
   */
  async call(method, args, { signal, onProgress, timeout = 0 } = {}) {
    signal?.throwIfAborted()
    const id = this.#next++
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer
    const abort = () => {
      this.worker.postMessage({ id, abort: true })
      this.#calls.get(id)?.reject(signal?.reason)
      this.#calls.delete(id)
    }
    try {
      return await new Promise((resolve, reject) => {
        this.#calls.set(id, { resolve, reject, onProgress })
        this.worker.postMessage({ id, method, args })
        signal?.addEventListener('abort', abort, { once: true })
        if (timeout) {
          timer = setTimeout(() => {
            reject(new WispError('timeout', `no answer within ${timeout} ms; the worker was ended, the next request starts another`))
            this.#die(new WispError('worker', 'the worker was ended because another request took too long; ask again'))
          }, timeout)
        }
      })
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
    }
  }

  close() {
    this.#die(new WispError('closed', 'the recommender was closed'))
  }
}
