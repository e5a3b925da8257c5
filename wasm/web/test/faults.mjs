// Bad input: each a typed error with a sentence to act on, and the page goes on.
import assert from 'node:assert/strict'
import { faults, inBrowsers, load, publicKey, url } from './browsers.mjs'

/** @param {number} status */
const answer = (status) => (_, response) => { response.writeHead(status).end('no'); return true }
/** @param {(body: Buffer) => Buffer} change */
const changed = (change) => (_, response, body) => {
  const bytes = change(Buffer.from(body))
  response.writeHead(200, { 'Content-Length': bytes.length }).end(bytes)
  return true
}
const otherKey = '8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c'

const cases = {
  'a missing file': { fault: answer(404), code: 'network', status: 404, says: /404.*check the address/ },
  'a forbidden file': { fault: answer(403), code: 'network', status: 403, says: /403.*no right/ },
  'a failing server': { fault: answer(500), code: 'network', status: 500, says: /500.*later/ },
  'a server that closes': { fault: (_, r) => { r.destroy(); return true }, code: 'network', says: /cannot be reached/ },
  'half a file': { fault: changed((b) => b.subarray(0, b.length / 2)), code: 'truncated', says: /ends after \d+ bytes.*upload it again/ },
  'half a header': { fault: changed((b) => b.subarray(0, 100)), code: 'truncated', says: /ends after 100 bytes/ },
  'a web page': { fault: changed(() => Buffer.from('<!doctype html>'.padEnd(300))), code: 'format', says: /web page.*check the address/ },
  'another file': { fault: changed(() => Buffer.alloc(300, 7)), code: 'format', says: /not a \.wisp file/ },
  'a file changed as text': { fault: changed((b) => { b[4] = 0x3f; return b }), code: 'format', says: /as text/ },
  'a newer format': { fault: changed((b) => { b[8] = 2; return b }), code: 'version', says: /version 2.*update/ },
  'a damaged table': { fault: changed((b) => { b[300] ^= 1; return b }), code: 'digest', says: /table.*damaged/ },
  'a damaged section': { fault: changed((b) => { b[100_000] ^= 1; return b }), code: 'digest', says: /section .* is damaged/ },
  'a damaged padding': { fault: changed((b) => { b[firstPadding(b)] = 1; return b }), code: 'format', says: /padding/ },
  'a damaged signature': { fault: changed((b) => { b[140] ^= 1; return b }), code: 'signature', says: /changed or the signature forged/ },
  'a wrong key': { options: { publicKey: otherKey }, code: 'unsigned', says: /none of the 1 given/ },
  'a key that is none': { options: { publicKey: 'secret' }, code: 'options', says: /publicKey/ },
  'no key': { options: { publicKey: [] }, code: 'options', says: /publicKey.*allowUnsigned/ },
  'no signature': { name: 'unsigned.wisp', code: 'unsigned', says: /wisp sign/ },
  'a newer kernel contract': { name: 'newer-abi.wisp', code: 'version', says: /ABI.*update/ },
  'other bits in a golden answer': { name: 'wrong-golden.wisp', code: 'golden', says: /exact bits/ },
}

/** Where the first byte between two sections lies. */
function firstPadding(b) {
  for (let i = 0; i < b.readUInt32LE(12); i++) {
    const at = 256 + 96 * i
    const end = Number(b.readBigUInt64LE(at + 16) + b.readBigUInt64LE(at + 24))
    if (end % 64) return end
  }
}

inBrowsers('says what is wrong with an artefact, and works afterwards', async ({ page }) => {
  for (const [what, { name = 'shop.wisp', fault, options, code, status, says }] of Object.entries(cases)) {
    faults.set(`/fixtures/${name}`, fault)
    const { error } = await load(page, name, { retries: 0, cache: false, ...options })
    assert.deepEqual([error?.name, error?.code, error?.status], ['WispError', code, status], `${what}: ${error?.message}`)
    assert.match(error.message, says, what)
  }
  faults.clear()
  for (const name of ['shop.wisp', 'unsigned.wisp', 'other-key.wisp']) {
    const { error, info } = await load(page, name, { allowUnsigned: true })
    assert.deepEqual([error, info?.trusted], [undefined, name === 'shop.wisp'])
  }
})

inBrowsers('refuses every flipped bit of header and table', async ({ page }) => {
  const bad = await page.evaluate(async (publicKey) => {
    const { readTable, headLength, parseKey } = await import('/src/container.js')
    const file = new Uint8Array(await (await fetch('/fixtures/shop.wisp')).arrayBuffer())
    const trust = { keys: [parseKey(publicKey)], allowUnsigned: false }
    const read = async (bytes) => readTable(bytes.slice(0, headLength(bytes.subarray(0, 256))), trust)
    await read(file)
    const accepted = []
    for (let bit = 0; bit < 8 * headLength(file); bit += 7) {
      file[bit >> 3] ^= 1 << (bit & 7)
      await read(file).then(() => accepted.push(bit), (e) => { if (e.name !== 'WispError' && e.name !== 'RangeError') accepted.push(`${bit}: ${e}`) })
      file[bit >> 3] ^= 1 << (bit & 7)
    }
    return accepted
  }, publicKey)
  assert.deepEqual(bad, [])
})

inBrowsers('checks signatures without the browser\'s ed25519', async ({ page }) => {
  await page.evaluate(() => {
    const { importKey } = SubtleCrypto.prototype
    SubtleCrypto.prototype.importKey = function (format, key, algorithm, ...rest) {
      return algorithm === 'Ed25519' ? Promise.reject(new DOMException('no', 'NotSupportedError')) : importKey.call(this, format, key, algorithm, ...rest)
    }
  })
  assert.equal((await load(page, 'shop.wisp', { worker: false })).info?.trusted, true)
  faults.set('/fixtures/shop.wisp', cases['a damaged signature'].fault)
  assert.equal((await load(page, 'shop.wisp', { worker: false, cache: false })).error?.code, 'signature')
})

inBrowsers('works without a Cache, IndexedDB, BroadcastChannel and locks, and says what it does not keep', async ({ page }) => {
  await page.evaluate(() => {
    for (const name of ['caches', 'indexedDB', 'BroadcastChannel']) Object.defineProperty(window, name, { value: undefined })
  })
  const { error, warnings } = await load(page, 'shop.wisp', { worker: false })
  assert.equal(error, undefined)
  assert.deepEqual(warnings.map(({ code }) => code), ['storage', 'storage'])
  assert.match(warnings[1].message, /forgotten when the page closes/)
  const events = await page.evaluate(async () => { await window.r.append({ item: 'i1' }); await window.r.recommend(); return window.r.history() })
  assert.equal(events.length, 1)
})

inBrowsers('works when the storage is full', async ({ page }) => {
  await page.evaluate(() => {
    const full = () => Promise.reject(new DOMException('full', 'QuotaExceededError'))
    Cache.prototype.put = full
    IDBObjectStore.prototype.add = () => { throw new DOMException('full', 'QuotaExceededError') }
  })
  const { error, warnings } = await load(page, 'shop.wisp', { worker: false })
  assert.equal(error, undefined)
  assert.ok(warnings.length >= 1 && warnings.every(({ code, message }) => code === 'storage' && /full/.test(message)))
  const [events, all] = await page.evaluate(async () => { await window.r.append({ item: 'i1' }); await window.r.recommend(); return [await window.r.history(), window.warnings] })
  assert.equal(events.length, 1)
  assert.match(all.at(-1).message, /this event cannot be kept/)
})

inBrowsers('says what a browser lacks', async ({ page }) => {
  const compile = await page.evaluate(() => {
    window.compile = WebAssembly.compile
    WebAssembly.compile = () => Promise.reject(new WebAssembly.CompileError('invalid value type v128'))
  }).then(() => load(page, 'shop.wisp', { worker: false }))
  assert.deepEqual([compile.error?.code, /SIMD/.test(compile.error?.message)], ['unsupported', true])
  await page.evaluate(() => { WebAssembly.compile = window.compile })
  const memory = await page.evaluate(() => {
    window.grow = WebAssembly.Memory.prototype.grow
    WebAssembly.Memory.prototype.grow = () => { throw new RangeError('no') }
  }).then(() => load(page, 'shop.wisp', { worker: false }))
  assert.deepEqual([memory.error?.code, /memory/.test(memory.error?.message)], ['limit', true])
  await page.evaluate(() => { WebAssembly.Memory.prototype.grow = window.grow })
  assert.equal((await load(page, 'shop.wisp', { worker: false })).error, undefined)
})

inBrowsers('names the policy that forbids WebAssembly', async ({ open }) => {
  faults.set('/strict.html', (_, response) => {
    response.writeHead(200, { 'Content-Type': 'text/html', 'Content-Security-Policy': "default-src 'self'; script-src 'self'" }).end('<!doctype html><title>strict</title>')
    return true
  })
  const { error } = await load(await open('/strict.html'), 'shop.wisp', { worker: false })
  assert.deepEqual([error?.code, /wasm-unsafe-eval/.test(error?.message)], ['unsupported', true], error?.message)
})

inBrowsers('says that a page needs https', async ({ open }) => {
  const { error } = await load(await open(`${url.replace('127.0.0.1', 'insecure.test')}/blank.html`), 'shop.wisp')
  assert.deepEqual([error?.code, /https/.test(error?.message)], ['unsupported', true])
}, { only: 'chromium' })

inBrowsers('works on the page where a worker cannot start', async ({ page }) => {
  faults.set('/blank.html', (_, response, body) => {
    response.writeHead(200, { 'Content-Type': 'text/html', 'Content-Security-Policy': "worker-src 'none'" }).end(body)
    return true
  })
  await page.reload()
  const { error, thread } = await load(page, 'shop.wisp')
  assert.deepEqual([error, thread], [undefined, 'page'])
  // Its errors are those that the page knows.
  assert.deepEqual(await page.evaluate(async () => {
    const { WispError } = await import('/dist/index.js')
    const e = await window.r.score({ items: ['none'] }).catch((error) => error)
    return [e instanceof WispError, e.code]
  }), [true, 'request'])
})

inBrowsers('starts another worker when one dies or hangs', async ({ page }) => {
  faults.set('/dist/worker.js', (_, response, body) => {
    const deadly = ';addEventListener("message",({data:{method,args}})=>{if(args?.[0]?.description==="die")close();if(args?.[0]?.description==="throw")setTimeout(()=>{throw new Error("oops")});if(args?.[0]?.description==="hang")for(;;);})'
    response.writeHead(200, { 'Content-Type': 'text/javascript', 'Content-Security-Policy': "default-src 'self' 'wasm-unsafe-eval'" }).end(body + deadly)
    return true
  })
  assert.equal((await load(page, 'shop.wisp', { timeout: 3000 })).thread, 'worker')
  const codes = await page.evaluate(async () => {
    const { r } = window
    await r.append({ item: 'i5', time: 1 })
    const before = JSON.stringify(await r.recommend())
    const codes = {}
    for (const description of ['throw', 'die', 'hang']) {
      codes[description] = new Set()
      for (let description_ = description, tries = 0; tries < 5; tries++) {
        const answer = await r.recommend({ description: description_ }).catch((e) => { codes[description].add(e.code) })
        await new Promise((resolve) => setTimeout(resolve, 300))
        description_ = ''
        if (tries > 0 && answer) {
          codes[description].add(JSON.stringify(answer) === before)
          break
        }
      }
      codes[description] = [...codes[description]]
    }
    return codes
  })
  // The answer may come before the death: then the next request learns of it, or finds another worker.
  for (const [how, seen] of Object.entries(codes)) assert.equal(seen.at(-1), true, `${how}: ${seen}`)
  assert.deepEqual(codes.hang, ['timeout', true])
})
