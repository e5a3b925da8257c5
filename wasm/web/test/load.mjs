// Loading, caching, updating, and the answers.
import assert from 'node:assert/strict'
import { asked, faults, inBrowsers, load, publicKey } from './browsers.mjs'

/** Compares what a page's recommender answers with what the gateway did. */
async function compare(page) {
  return page.evaluate(async () => {
    const exchanges = await (await fetch('/fixtures/exchanges.json')).json()
    const float = (answer) => JSON.stringify(answer, (key, v) => (['score', 'drop', 'gain', 'value', 'rating', 'probability'].includes(key) ? Math.fround(v) : v))
    const differ = []
    const { r } = window
    for (const { path, request: q, response } of exchanges) {
      let got, want = null
      if (path === 'insert') await r.insert(q)
      else if (path === 'remove') await r.remove(q)
      else if (path.endsWith('available')) await r.setAvailable(path === 'available', [q])
      else if (path === 'score') {
        got = await r.score(q)
        want = response.map(({ Value, Integer }) => ({ value: Value, integer: Integer }))
      } else if (path === 'classify') {
        got = await r.classify(q.text)
        want = response
      } else {
        const { include_seen: includeSeen, history, ...rest } = q
        got = await r[path]({ ...rest, history: history ?? [], includeSeen })
        want = { items: response.items.map(({ item, title, score, ...more }) => ({ item, score, title, ...more })), unknown: response.unknown, coldStart: response.cold_start, noAttributes: response.no_attributes }
      }
      if (want === null) continue
      got = JSON.parse(JSON.stringify(got))
      const order = (o) => (Array.isArray(o) ? o.map(order) : o && typeof o === 'object' ? Object.fromEntries(Object.keys(o).sort().map((k) => [k, order(o[k])])) : o)
      if (float(order(got)) !== float(order(JSON.parse(JSON.stringify(want))))) differ.push({ path, q, got, want })
    }
    return { count: exchanges.length, differ: differ.slice(0, 1) }
  })
}

for (const worker of [true, false]) {
  inBrowsers(`answers equal the gateway's ${worker ? 'in a worker' : 'on the page'}`, async ({ page }) => {
    const loaded = await load(page, 'shop.wisp', { worker })
    assert.deepEqual([loaded.error, loaded.thread, loaded.version, loaded.items, loaded.info?.trusted, loaded.warnings], [undefined, worker ? 'worker' : 'page', 7, 400, true, []])
    const { count, differ } = await compare(page)
    assert.ok(count > 600)
    assert.deepEqual(differ, [])
  })
}

inBrowsers('comes from the device at the second visit, offline as well, and an update fetches what is new', async ({ page }) => {
  const first = await load(page, 'shop.wisp')
  assert.deepEqual([first.error, first.info?.received], [undefined, first.info?.size])
  assert.deepEqual(asked('shop.wisp'), [''], 'one request for the whole file')
  assert.ok(first.progress.length > 2 && first.progress.every((p, i) => p.loaded <= p.total && (i === 0 || p.loaded >= first.progress[i - 1].loaded)))
  assert.equal(first.progress.at(-1).loaded, first.info.size)

  await page.reload()
  const second = await load(page, 'shop.wisp')
  assert.deepEqual([second.error, second.info?.digest], [undefined, first.info.digest])
  assert.ok(second.info.received < 2048, `${second.info.received} bytes came at the second visit`)
  assert.match(asked('shop.wisp').join(), /^bytes=0-\d+$/)

  faults.set('/fixtures/shop.wisp', (_, response) => { response.destroy(); return true })
  const offline = await load(page, 'shop.wisp', { retries: 0 })
  assert.deepEqual([offline.error, offline.info?.offline, offline.info?.digest], [undefined, true, first.info.digest])
  asked('shop.wisp')

  faults.set('/fixtures/shop.wisp', serveOther('/fixtures/shop-8.wisp'))
  const update = await load(page, 'shop.wisp')
  assert.deepEqual([update.error, update.version, update.title], [undefined, 8, 'A new title'])
  assert.ok(update.info.received < first.info.size / 4, `${update.info.received} of ${first.info.size} bytes came with an update of titles`)
  faults.clear()

  const held = await page.evaluate(async () => (await (await caches.open('wisp-sections-1')).keys()).map(({ url }) => url))
  assert.equal(held.filter((u) => u.includes('/section/')).length, update.info.weights.length, 'sections of the old version were dropped')
})

inBrowsers('recommends before what only texts need is in place, and fetches that again where it was damaged', async ({ page }) => {
  const visit = () => page.evaluate(async (publicKey) => {
    const { Recommender } = await import('/dist/index.js')
    const r = await Recommender.load('/fixtures/shop.wisp', { publicKey })
    const order = []
    await Promise.all([
      r.recommend({ k: 3 }).then(() => order.push('recommend')), r.search('a warm coat').then(() => order.push('search')), r.complete().then(() => order.push('complete')),
    ])
    const found = (await r.search('a warm coat')).items.map(({ item }) => item)
    const { received, size, weights } = r.info
    r.close()
    return { order, found, received, size, weights }
  }, publicKey)
  const first = await visit()
  assert.deepEqual([first.order[0], first.received], ['recommend', first.size])
  // Damage the text encoder on the device.
  await page.evaluate(async () => {
    const cache = await caches.open('wisp-sections-1')
    let largest
    for (const key of await cache.keys()) {
      const response = await cache.match(key)
      const bytes = new Uint8Array(await response.arrayBuffer())
      if (bytes.length > (largest?.bytes.length ?? 0)) largest = { key, bytes, headers: response.headers }
    }
    largest.bytes[100] ^= 1
    await cache.put(largest.key, new Response(largest.bytes, { headers: largest.headers }))
  })
  await page.reload()
  asked('shop.wisp')
  const second = await visit()
  assert.deepEqual([second.found, second.order[0]], [first.found, 'recommend'])
  const ranges = asked('shop.wisp')
  assert.ok(ranges.length === 2 && ranges.every((r) => /^bytes=\d+-\d+$/.test(r)), `${ranges}`)
})

/** Answers with another fixture's bytes, ranges included. */
function serveOther(path) {
  return (request, response) => {
    const headers = request.headers.range ? { Range: request.headers.range } : {}
    fetch(`http://${request.headers.host}${path}`, { headers }).then(async (r) => {
      response.writeHead(r.status, Object.fromEntries(r.headers)).end(Buffer.from(await r.arrayBuffer()))
    })
    return true
  }
}

inBrowsers('goes on where a connection broke', async ({ page }) => {
  let breaks = 2
  faults.set('/fixtures/shop.wisp', (request, response, body) => {
    if (breaks-- <= 0) return false
    const from = Number(/bytes=(\d+)/.exec(request.headers.range ?? '')?.[1] ?? 0)
    response.writeHead(from ? 206 : 200, { 'Content-Length': body.length - from, ...from && { 'Content-Range': `bytes ${from}-${body.length - 1}/${body.length}` } })
    response.write(body.subarray(from, from + 60_000), () => setTimeout(() => response.destroy(), 100))
    return true
  })
  const { error, info } = await load(page, 'shop.wisp')
  assert.equal(error, undefined)
  assert.equal(info.received, info.size, 'nothing was fetched twice')
  const ranges = asked('shop.wisp')
  assert.equal(ranges.length, 3)
  assert.match(ranges[1], /^bytes=[1-9]\d*-\d*$/)
})

inBrowsers('goes on at the next visit with the sections that it has', async ({ page }) => {
  faults.set('/fixtures/shop.wisp', (_, response, body) => {
    response.writeHead(200, { 'Content-Length': body.length })
    response.write(body.subarray(0, 140_000), () => setTimeout(() => response.destroy(), 100))
    return true
  })
  assert.equal((await load(page, 'shop.wisp', { retries: 0 })).error?.code, 'network')
  faults.clear()
  const { error, info } = await load(page, 'shop.wisp')
  assert.equal(error, undefined)
  assert.ok(info.received < info.size / 2, `${info.received} of ${info.size} bytes came at the second visit`)
})

inBrowsers('works with a server without ranges', async ({ page }) => {
  const plain = (_, response, body) => {
    response.writeHead(200).end(body)
    return true
  }
  faults.set('/fixtures/shop.wisp', plain)
  assert.equal((await load(page, 'shop.wisp')).error, undefined)
  assert.equal((await load(page, 'shop.wisp')).error, undefined)
  await page.evaluate(async () => {
    const cache = await caches.open('wisp-sections-1')
    const sections = (await cache.keys()).filter(({ url }) => url.includes('/section/'))
    await cache.delete(sections[3])
    await cache.put(sections[4], new Response('damaged'))
  })
  assert.equal((await load(page, 'shop.wisp')).error, undefined, 'with two sections lost')
})

inBrowsers('gives up when it is told to', async ({ page }) => {
  faults.set('/fixtures/shop.wisp', (_, response, body) => {
    response.writeHead(200, { 'Content-Length': body.length })
    response.write(body.subarray(0, 50_000)) // and no more
    return true
  })
  for (const worker of [true, false]) {
    const result = await page.evaluate(async (publicKey, worker) => {
      const { Recommender } = await import('/dist/index.js')
      const controller = new AbortController()
      setTimeout(() => controller.abort(), 300)
      return Recommender.load('/fixtures/shop.wisp', { publicKey, worker, signal: controller.signal }).then(() => 'loaded', (e) => e.name)
    }, publicKey, worker)
    assert.equal(result, 'AbortError')
  }
})

inBrowsers('takes requests at once, gives one up, and says what is wrong with one', async ({ page }) => {
  await load(page, 'shop.wisp', { history: false })
  const result = await page.evaluate(async () => {
    const { r } = window
    const history = Array.from({ length: 30 }, (_, i) => ({ item: `i${i}`, time: i }))
    const alone = JSON.stringify(await r.explain({ history }))
    const many = await Promise.all(Array.from({ length: 20 }, () => r.explain({ history })))
    const controller = new AbortController()
    const given = r.recommend({ history }, { signal: controller.signal })
    controller.abort()
    const code = (q) => q.then(() => 'none', (e) => (typeof e.code === 'string' ? e.code : e.name))
    return {
      same: many.every((m) => JSON.stringify(m) === alone), aborted: await code(given),
      k: await code(r.recommend({ k: -1 })), type: await code(r.recommend({ history: [{ item: 'i1', type: 'nonsense' }] })), time: await code(r.recommend({ history: [{ item: 'i1', time: -1 }] })),
      item: await code(r.score({ items: ['nonsense'] })), value: await code(r.recommend({ history: [{ item: 'i1', value: Infinity }] })), kept: await code(r.append({ item: 'i1' })),
      last: JSON.stringify(await r.explain({ history })) === alone, vector: (await r.embed('a bad cafe')).length,
      closed: await (r.close(), code(r.recommend())),
    }
  })
  assert.deepEqual(result, { same: true, aborted: 'AbortError', k: 'request', type: 'request', time: 'request', item: 'request', value: 'request', kept: 'request', last: true, vector: 64, closed: 'closed' })
})

inBrowsers('predicts ratings and sorts texts, or says why not', async ({ page }) => {
  await load(page, 'shop.wisp')
  const got = await page.evaluate(async () => {
    const { r } = window
    const code = (promise) => promise.then(() => 'no error', (error) => error.code)
    await r.append([{ item: 'i1', type: 'rating', value: 5, time: 1 }, { item: 'i2', type: 'rating', value: 1, time: 2 }])
    const kept = await r.rate({ items: ['i3', 'i4'] })
    const given = await r.rate({ items: ['i3', 'i4'], history: await r.history() })
    const { classes, best } = await r.classify('a bad cafe \ud800')
    const long = await r.classify('bad '.repeat(1 << 18))
    return {
      same: JSON.stringify(kept) === JSON.stringify(given), inScale: kept.items.every(({ rating }) => rating >= 1 && rating <= 5),
      none: await r.rate({ items: [] }), sum: Math.abs(classes.reduce((n, { probability }) => n + probability, 0) - 1) < 1e-5,
      best: classes.some(({ name }) => name === best), long: JSON.stringify(long) === JSON.stringify(await r.classify('bad '.repeat(1 << 12))),
      codes: [
        await code(r.rate({ items: ['nonsense'] })), await code(r.rate({})), await code(r.rate({ items: [], history: [{ item: 'i1', type: 'rating', value: NaN }] })),
        await code(r.rate({ items: [], history: [{ item: 'i1', type: 'rating', value: 1e39 }] })),
      ],
    }
  })
  assert.deepEqual(got, {
    same: true, inScale: true, none: { items: [] }, sum: true, best: true, long: true, codes: ['request', 'request', 'request', 'request'],
  })
  await load(page, 'bare.wisp')
  const codes = await page.evaluate(() => Promise.all([window.r.rate({ items: ['i1'] }), window.r.classify('a')].map((p) => p.then(() => 'no error', (error) => error.code))))
  assert.deepEqual(codes, ['no-head', 'no-head'])
})
