/**
 * What went wrong, by kind. `message` says what to do about it.
 *
 * - `options`: an option that has no meaning
 * - `network`: the server cannot be reached, or answers with an error; `status` is its code
 * - `truncated`: the file ends before it is complete
 * - `format`: the bytes are not a .wisp file, or one that breaks a rule of the format
 * - `version`: a file of a newer format, or for a newer kernel contract, than this package reads
 * - `limit`: larger than the limits allow, or than this device has memory for
 * - `digest`: bytes that are not those the file's table names
 * - `signature`: a signature that is not right for the key
 * - `unsigned`: a file without a signature, or of a key that is not trusted
 * - `golden`: this machine does not answer the artefact's golden requests with the exact bits
 * - `unsupported`: the browser lacks something, or the page's policy forbids it
 * - `storage`: something cannot be kept on the device; everything works until the page closes
 * - `request`: a request that cannot be answered as it stands
 * - `no-text`: a text for an artefact that does not read it
 * - `no-head`: ratings or classes of texts of an artefact that was made without them
 * - `kernel`: the artefact's kernel failed; the next request gets a new one
 * - `timeout`: a request took longer than allowed
 * - `worker`: the worker died; the next request starts another
 * - `closed`: the recommender was closed
 *
 * @typedef {'options' | 'network' | 'truncated' | 'format' | 'version' | 'limit' | 'digest' | 'signature' | 'unsigned' | 'golden' | 'unsupported' | 'storage' | 'request' | 'no-text' | 'no-head' | 'kernel' | 'timeout' | 'worker' | 'closed'} ErrorCode
 */

/** Every error of this package but an aborted signal's reason. */
export class WispError extends Error {
  /**
   * @param {ErrorCode} code
   * @param {string} message
   * @param {{cause?: unknown, status?: number}} [options]
   */
  constructor(code, message, { cause, status } = {}) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'WispError'
    /** What kind of error it is. */
    this.code = code
    /** The server's answer, for `network`. */
    this.status = status
  }
}

/**
 * What of an error goes through postMessage: it keeps neither class nor code.
 * @param {unknown} error
 */
export function packError(error) {
  return error instanceof WispError
    ? { code: error.code, message: error.message, status: error.status, cause: error.cause === undefined ? undefined : String(error.cause) }
    : { name: error instanceof Error ? error.name : 'Error', message: error instanceof Error ? error.message : String(error) }
}

/**
 * @param {any} packed what packError returned
 * @returns {Error}
 */
export function unpackError(packed) {
  if (packed.code) return new WispError(packed.code, packed.message, packed)
  return packed.name === 'AbortError' ? new DOMException(packed.message, 'AbortError') : Object.assign(new Error(packed.message), { name: packed.name })
}
