// The worker's side of WorkerPort in port.js; the page takes the Service from here, where there
// are no workers, so that one file has all of it.
import { WispError, packError } from './errors.js'
import { Service } from './service.js'

export { Service, packError }

/** Answers the page. */
function listen() {
  const service = /** @type {Record<string, any>} */ (/** @type {unknown} */ (
    new Service((event, detail) => postMessage({ event, detail: detail && packError(detail) }))
  ))
  /** @type {Map<number, AbortController>} */
  const running = new Map()

  onmessage = async ({ data: { id, method, args, abort, lock } }) => {
    if (lock) { // held as long as this worker lives, so that the page sees it die
      navigator.locks?.request(lock, () => {
        postMessage({ event: 'locked' })
        return new Promise(() => {})
      }).catch(() => {})
      return
    }
    if (abort) return running.get(id)?.abort()
    const controller = new AbortController()
    running.set(id, controller)
    const onProgress = (/** @type {unknown} */ progress) => postMessage({ id, progress })
    try {
      if (!(method in Service.prototype)) throw new WispError('options', `there is no method ${method}`)
      postMessage({ id, result: await service[method](...args, { signal: controller.signal, onProgress }) })
    } catch (error) {
      postMessage({ id, error: packError(error) })
    } finally {
      running.delete(id)
    }
  }
  postMessage({ event: 'ready' })
}

if (!('document' in globalThis)) listen() // and not on the page
