// What npm would publish: its size, that it installs and builds in a fresh Vite project in
// TypeScript, and that it runs in a plain page.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { serve } from '../serve.mjs'
import { fixtures, inBrowsers, publicKey, root } from './browsers.mjs'

const BUDGET = 60_000
const work = mkdtempSync(path.join(tmpdir(), 'wisp-package-'))
const servers = []
after(async () => {
  await Promise.all(servers.map((s) => s.close()))
  rmSync(work, { recursive: true, force: true })
})
const run = (directory, program, ...args) => execFileSync(program, args, { cwd: directory, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

/** Bytes over the wire of the kernel and of all JavaScript, fallbacks included. */
export function runtimeSize() {
  const scripts = readdirSync(path.join(root, 'dist')).filter((name) => name.endsWith('.js')).map((name) => path.join(root, 'dist', name))
  return [path.join(fixtures, 'kernel.wasm'), ...scripts].reduce((n, file) => n + gzipSync(readFileSync(file), { level: 9 }).length, 0)
}

test(`the runtime weighs at most ${BUDGET} bytes, compressed`, () => {
  const size = runtimeSize()
  console.log(`# size.browser-runtime.gzip-bytes ${size}`)
  assert.ok(size <= BUDGET, `kernel and JavaScript come to ${size} bytes`)
})

// Packed once, and unpacked as an installation does: the package depends on nothing.
const tarball = path.join(work, run(root, 'npm', 'pack', '--ignore-scripts', '--silent', '--pack-destination', work).trim())
const project = path.join(work, 'shop')
mkdirSync(path.join(project, 'src'), { recursive: true })
writeFileSync(path.join(project, 'package.json'), JSON.stringify({ name: 'shop', private: true, type: 'module' }))
run(project, 'npm', 'install', '--offline', '--no-audit', '--no-fund', '--silent', tarball)
const installed = path.join(project, 'node_modules/@wisp-project/web')
mkdirSync(path.join(project, 'public'))
cpSync(path.join(fixtures, 'shop.wisp'), path.join(project, 'public/shop.wisp'))
writeFileSync(path.join(project, 'src/main.ts'), `
import { Recommender, WispError, type ErrorCode, type Event, type Response } from '@wisp-project/web'
const history: Event[] = [{ item: 'i1', time: 1 }, { item: 'i2', type: 'rating', value: 5, time: 2 }]
const key: string = ${JSON.stringify(publicKey)}
try {
  const shop = await Recommender.load('/shop.wisp', { publicKey: key, onProgress: ({ loaded, total }) => console.debug(loaded / total) })
  const answer: Response = await shop.explain({ history, k: 3, rules: { forbid: [{ value: 'c001' }], diversity: { lambda: 0.5 } } })
  document.title = [shop.thread, ...answer.items.map(({ item, score }) => item + ' ' + score.toFixed(3))].join(', ')
} catch (error) {
  const code: ErrorCode | '' = error instanceof WispError ? error.code : ''
  document.title = 'failed: ' + code + ' ' + error
}
`)
writeFileSync(path.join(project, 'index.html'), '<!doctype html><html lang="en"><title></title><script type="module" src="/src/main.ts"></script></html>')
writeFileSync(path.join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions: { strict: true, noEmit: true, target: 'ES2022', module: 'ES2022', moduleResolution: 'Bundler', lib: ['ES2022', 'DOM'], types: [], skipLibCheck: false }, include: ['src'] }))

/** The titles that a page sets at an address, one for each browser. */
function answers(name, address, then) {
  inBrowsers(name, async ({ open }) => {
    const page = await open(await address())
    await page.waitForFunction(() => document.title !== '', { timeout: 60_000, polling: 100 })
    then(await page.title())
  })
}

test('its types are those that it says', () => {
  try {
    run(project, path.join(root, 'node_modules/.bin/tsc'), '-p', project)
  } catch (/** @type {any} */ error) {
    assert.fail(error.stdout)
  }
  assert.throws(() => {
    writeFileSync(path.join(project, 'src/wrong.ts'), "import { Recommender } from '@wisp-project/web'\nconst r = await Recommender.load('/', { publickey: 'x' })\nr.recommend({ history: [{ id: 3 }] })\n")
    try {
      run(project, path.join(root, 'node_modules/.bin/tsc'), '-p', project)
    } finally {
      rmSync(path.join(project, 'src/wrong.ts'))
    }
  }, (/** @type {any} */ error) => (error.stdout.match(/error TS/g) ?? []).length === 2)
})

test('it is the licence, the readme and dist, without a path of this machine', () => {
  const files = readdirSync(installed).sort()
  assert.deepEqual(files, ['README.md', 'dist', 'package.json'])
  assert.deepEqual(JSON.parse(readFileSync(path.join(installed, 'package.json'), 'utf8')).dependencies, undefined)
  for (const name of readdirSync(path.join(installed, 'dist'))) if (name.endsWith('.js')) assert.ok(!readFileSync(path.join(installed, 'dist', name), 'utf8').includes(root), name)
})

let built
answers('it runs in a fresh Vite project, built', async () => {
  built ??= (async () => {
    const { build } = await import('vite')
    await build({ root: project, logLevel: 'error', build: { target: 'es2022' } })
    servers.push(await serve({ '/': path.join(project, 'dist') }))
    return `${servers.at(-1).url}/index.html`
  })()
  return built
}, (got) => assert.match(got, /^worker, i\d+ /, got))

let developed
answers('it runs in a fresh Vite project, in its development server', async () => {
  developed ??= (async () => {
    const { createServer } = await import('vite')
    const server = await createServer({ root: project, logLevel: 'error', server: { host: '127.0.0.1', port: 0 } })
    await server.listen()
    servers.push(server)
    return /** @type {string} */ (server.resolvedUrls?.local[0])
  })()
  return developed
}, (got) => assert.match(got, /^(worker|page), i\d+ /, got))

let plain
answers('it runs in a page with one script, without a build', async () => {
  plain ??= (async () => {
    writeFileSync(path.join(project, 'plain.html'), '<!doctype html><html lang="en"><title></title><script type="module" src="/plain.js"></script></html>')
    writeFileSync(path.join(project, 'plain.js'), `import { Recommender } from '/node_modules/@wisp-project/web/dist/index.js'
const shop = await Recommender.load('/public/shop.wisp', { publicKey: ${JSON.stringify(publicKey)} })
document.title = [shop.thread, ...(await shop.recommend({ k: 3 })).items.map(({ item, score }) => item + ' ' + score.toFixed(3))].join(', ')`)
    servers.push(await serve({ '/': project }))
    return `${servers.at(-1).url}/plain.html`
  })()
  return plain
}, (got) => assert.match(got, /^worker, i\d+ /, got))
