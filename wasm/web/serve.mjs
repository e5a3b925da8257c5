// A file server for the demo and the tests: ranges, entity tags, and the strictest policy
// that a page with wisp can have. `node serve.mjs PORT PATH=FOLDER…` serves the demo.
import { createServer } from 'node:http'
import { readFile } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import path from 'node:path'

export const POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; style-src 'self'; " +
  "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.mjs': 'text/javascript', '.css': 'text/css', '.json': 'application/json', '.svg': 'image/svg+xml' }

/**
 * @typedef {import('node:http').IncomingMessage} Request
 * @typedef {import('node:http').ServerResponse} Response
 */

/**
 * Serves folders on a port of the loopback interface.
 * @param {Record<string, string>} folders by the beginning of the path, which ends with a slash
 * @param {{port?: number, host?: string, intercept?: (request: Request, response: Response, body: Buffer | null) => boolean}} [options] intercept answers a
 *   request by itself where it returns true; body is the file that would be served
 */
export async function serve(folders, { port = 0, host = '127.0.0.1', intercept } = {}) {
  const server = createServer(async (request, response) => {
    const name = decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname)
    const prefix = Object.keys(folders).filter((p) => name.startsWith(p)).sort((a, b) => b.length - a.length)[0]
    const rest = prefix && path.normalize(name.slice(prefix.length) || 'index.html')
    const body = rest && !rest.startsWith('..') ? await readFile(path.join(folders[prefix], rest)).catch(() => null) : null
    if (intercept?.(request, response, body)) return
    if (!body) {
      response.writeHead(404, { 'Content-Type': 'text/plain' }).end('not found\n')
      return
    }
    const headers = {
      'Content-Type': TYPES[path.extname(rest)] ?? 'application/octet-stream', 'Accept-Ranges': 'bytes', 'Cache-Control': 'no-cache',
      ETag: `"${createHash('sha256').update(body).digest('hex').slice(0, 16)}"`, 'Content-Security-Policy': POLICY, 'X-Content-Type-Options': 'nosniff',
    }
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')
    if (!range && request.headers['if-none-match'] === headers.ETag) {
      response.writeHead(304, headers).end()
    } else if (!range) {
      response.writeHead(200, { ...headers, 'Content-Length': body.length }).end(body)
    } else {
      const from = Number(range[1]), to = Math.min(range[2] ? Number(range[2]) : Infinity, body.length - 1)
      if (from > to) response.writeHead(416, { ...headers, 'Content-Range': `bytes */${body.length}` }).end()
      else response.writeHead(206, { ...headers, 'Content-Range': `bytes ${from}-${to}/${body.length}`, 'Content-Length': to + 1 - from }).end(body.subarray(from, to + 1))
    }
  })
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, host, () => resolve(undefined)))
  const address = /** @type {import('node:net').AddressInfo} */ (server.address())
  return {
    url: `http://${host}:${address.port}`,
    close: () => new Promise((resolve) => { server.close(resolve); server.closeAllConnections() }),
  }
}

if (process.argv[1] === import.meta.filename) {
  const [port, ...folders] = process.argv.slice(2)
  const { url } = await serve(Object.fromEntries(folders.map((f) => f.split('='))), { port: Number(port) })
  console.log(`wisp: the demo is at ${url}; Ctrl-C ends it`)
}
