// A file on a server, read in parts: as one stream where it is read in order, by
// ranges where parts are left out or a connection broke.
import { WispError } from './errors.js'

// Bytes that are rather read and thrown away than left out by another request.
const SKIP = 64 * 1024

export class Download {
  /** @type {ReadableStreamDefaultReader<Uint8Array> | null} */
  #reader = null
  #at = 0 // where in the file the next byte of the reader lies
  /** @type {Uint8Array} */
  #rest = new Uint8Array() // what was received and not yet read
  #end = Infinity // where the reader's range ends
  #total = Infinity // bytes of the file, where the server says so
  #received = 0

  /**
   * @param {string} url
   * @param {{signal?: AbortSignal, retries: number, onBytes?: (received: number) => void, cache?: RequestCache}} options
   */
  constructor(url, { signal, retries, onBytes, cache }) {
    this.url = url
    this.signal = signal
    this.retries = retries
    this.onBytes = onBytes
    this.cache = cache
  }

  /** Bytes that came over the network. */
  get received() {
    return this.#received
  }

  /**
   * Returns length bytes from offset on. A request that is needed for them asks for
   * what lies before end.
   * @param {number} offset
   * @param {number} length
   * @param {number} [end]
   */
  async read(offset, length, end = Infinity) {
    const out = new Uint8Array(length)
    let filled = 0
    for (let failures = 0; filled < length;) {
      try {
        const part = await this.#next(offset + filled, end)
        const used = part.subarray(0, length - filled)
        out.set(used, filled)
        filled += used.length
        this.#at += used.length
        this.#rest = part.subarray(used.length)
        failures = 0
      } catch (error) {
        this.cancel()
        this.signal?.throwIfAborted()
        if (!(error instanceof WispError) || !retryable(error) || failures === this.retries) throw error
        await pause(200 * 2 ** failures++, this.signal)
      }
    }
    return out
  }

  /** Ends the request that runs, if any. */
  cancel() {
    this.#reader?.cancel().catch(() => {})
    this.#reader = null
    this.#rest = new Uint8Array()
  }

  /**
   * Returns some bytes from offset on, without taking them.
   * @param {number} offset
   * @param {number} end
   */
  async #next(offset, end) {
    if (offset >= this.#total) throw truncated(this.url, this.#total)
    if (!this.#reader || offset < this.#at || offset >= this.#end || offset - this.#at > SKIP) await this.#open(offset, end)
    for (;;) {
      const skip = Math.min(offset - this.#at, this.#rest.length)
      this.#at += skip
      this.#rest = this.#rest.subarray(skip)
      if (this.#rest.length > 0) return this.#rest
      const { done, value } = await /** @type {ReadableStreamDefaultReader<Uint8Array>} */ (this.#reader).read().catch((error) => {
        throw new WispError('network', `the connection broke after ${this.#at} bytes of ${this.url}`, { cause: error })
      })
      if (done) throw truncated(this.url, this.#at)
      this.#rest = value
      this.#received += value.length
      this.onBytes?.(this.#received)
    }
  }

  /**
   * @param {number} offset
   * @param {number} end
   */
  async #open(offset, end) {
    this.cancel()
    const headers = offset > 0 || end < Infinity ? { Range: `bytes=${offset}-${end < Infinity ? end - 1 : ''}` } : undefined
    const response = await fetch(this.url, { headers, signal: this.signal, cache: this.cache }).catch((error) => {
      this.signal?.throwIfAborted()
      throw new WispError('network', `${this.url} cannot be reached: the device is offline, the server down, or it does not allow this origin (CORS)`, { cause: error })
    })
    this.#check(response)
    const range = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get('Content-Range') ?? '')
    this.#at = 0
    this.#end = Infinity
    let total = Infinity
    if (response.status === 206) {
      this.#at = range ? Number(range[1]) : offset // the header is not shown to other origins unless the server exposes it
      this.#end = range ? Number(range[2]) + 1 : end
      if (range && range[3] !== '*') total = Number(range[3])
    } else if (!response.headers.get('Content-Encoding') && response.headers.get('Content-Length')) {
      total = Number(response.headers.get('Content-Length'))
    }
    if (this.#at > offset) throw new WispError('network', `${this.url}: bytes from ${offset} on were asked for, the server sent those from ${this.#at}`)
    if (this.#total < Infinity && total < Infinity && total !== this.#total) throw new WispError('truncated', `${this.url} changed while it was read; load it again`)
    if (total < Infinity) this.#total = total
    this.#reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader()
  }

  /** @param {Response} response */
  #check({ ok, status, statusText }) {
    if (ok) return
    if (status === 416) throw truncated(this.url, this.#at)
    const advice = status === 404 ? 'check the address' : status === 401 || status === 403 ? 'the page has no right to it' : 'try again later'
    throw new WispError('network', `the server answers ${`${status} ${statusText}`.trim()} for ${this.url}; ${advice}`, { status })
  }
}

/**
 * @param {string} url
 * @param {number} at
 */
function truncated(url, at) {
  return new WispError('truncated', `${url} ends after ${at} bytes, before it is complete; upload it again`)
}

/** @param {WispError} error */
function retryable({ code, status }) {
  return code === 'network' ? status === undefined || status >= 500 || status === 408 || status === 429 : code === 'truncated'
}

/**
 * @param {number} ms
 * @param {AbortSignal} [signal]
 */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms, undefined)
    signal?.addEventListener('abort', () => { clearTimeout(timer); reject(signal.reason) }, { once: true })
  })
}
