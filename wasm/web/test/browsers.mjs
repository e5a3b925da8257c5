// The browsers and the server that all tests share.
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { after, test } from 'node:test'
import puppeteer from 'puppeteer-core'
import { serve } from '../serve.mjs'

export const root = path.dirname(import.meta.dirname)
export const fixtures = process.env.WISP_WEB_FIXTURES ?? ''
assert.ok(existsSync(path.join(fixtures, 'shop.wisp')), 'WISP_WEB_FIXTURES names no folder of fixtures: run make test-web')
export const publicKey = readFileSync(path.join(fixtures, 'shop.key.pub'), 'utf8')

const programs = [
  { name: 'chromium', browser: /** @type {const} */ ('chrome'), paths: ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'] },
  { name: 'firefox', browser: /** @type {const} */ ('firefox'), paths: ['/usr/bin/firefox-esr', '/usr/bin/firefox'] },
]

/** What an address is answered with instead of its file; tests set and clear it. */
export const faults = new Map()
/** The requests that the server got, as `METHOD /path range`. */
export const log = []
const server = await serve(
  { '/': path.join(root, 'test/pages'), '/dist/': path.join(root, 'dist'), '/src/': path.join(root, 'src'), '/fixtures/': fixtures, '/demo/': path.join(root, 'demo'), '/axe/': path.join(root, 'node_modules/axe-core') },
  {
    intercept: (request, response, body) => {
      log.push(`${request.method} ${request.url} ${request.headers.range ?? ''}`.trim())
      const fault = faults.get(request.url)
      return Boolean(fault?.(request, response, body))
    },
  },
)
export const { url } = server

const running = new Map()
async function launch({ name, browser, paths }) {
  const executablePath = paths.find(existsSync)
  if (!executablePath) return null
  if (!running.has(name)) {
    running.set(name, await puppeteer.launch({
      browser, executablePath, headless: true, timeout: 120_000, protocolTimeout: 300_000,
      args: browser === 'chrome' ? ['--no-sandbox', '--disable-dev-shm-usage', '--host-resolver-rules=MAP insecure.test 127.0.0.1'] : [],
    }))
  }
  return running.get(name)
}

after(async () => {
  await Promise.all([...running.values()].map((b) => b.close()))
  await server.close()
})

/**
 * Runs a test in each browser, on a page of its own with nothing stored.
 * @param {string} name
 * @param {(context: {page: import('puppeteer-core').Page, open: (path?: string) => Promise<import('puppeteer-core').Page>, browser: string}) => Promise<void>} body
 * @param {{only?: string}} [options]
 */
export function inBrowsers(name, body, { only } = {}) {
  for (const program of programs) {
    if (only && only !== program.name) continue
    test(`${program.name}: ${name}`, { timeout: 240_000 }, async (t) => {
      const browser = await launch(program)
      if (!browser) return t.skip(`${program.name} is not installed`)
      const context = await browser.createBrowserContext()
      const open = async (/** @type {string} */ address = '/blank.html') => {
        const page = await context.newPage()
        await page.goto(address.startsWith('http') ? address : url + address)
        return page
      }
      log.length = 0
      faults.clear()
      try {
        await body({ page: await open(), open, browser: program.name })
      } finally {
        await context.close()
      }
    })
  }
}

/**
 * Loads an artefact in a page and leaves the recommender in `window.r`. Returns what went
 * wrong, or what was loaded, to the last byte.
 * @param {import('puppeteer-core').Page} page
 * @param {string} name of a fixture
 * @param {object} [options] of Recommender.load
 * @returns {Promise<any>}
 */
export function load(page, name, options = {}) {
  return page.evaluate(async (name, options) => {
    const { Recommender } = await import('/dist/index.js')
    const warnings = window.warnings = []
    const progress = window.progress = []
    try {
      window.r = await Recommender.load(`/fixtures/${name}`, { onWarning: (w) => warnings.push({ code: w.code, message: w.message }), onProgress: (p) => progress.push(p), ...options })
      await window.r.complete()
    } catch (error) {
      return { error: { name: error.name, code: error.code, message: error.message, status: error.status }, warnings }
    }
    const { manifest, items, ...info } = window.r.info
    return { info, version: manifest.version, items: items.length, title: items[0].title, thread: window.r.thread, warnings, progress }
  }, name, { publicKey, ...options })
}

/** What the server was asked for of a file since the last call. */
export function asked(name) {
  const found = log.filter((line) => line.includes(`/fixtures/${name}`))
  log.length = 0
  return found.map((line) => line.replace(`GET /fixtures/${name}`, '').trim())
}
