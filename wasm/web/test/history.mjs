// The history on the device: kept, shared by tabs, bounded, handed out, erased, and sent
// nowhere.
import assert from 'node:assert/strict'
import { inBrowsers, load, log } from './browsers.mjs'

inBrowsers('keeps a history, shares it between tabs, hands it out and erases it', async ({ page, open }) => {
  await load(page, 'shop.wisp', { historyLimit: 30 })
  const first = await page.evaluate(async () => {
    const { r } = window
    const cold = await r.recommend()
    const unknown = await r.append([{ item: 'i7', time: 100 }, { item: 'nonsense' }, { item: 'i9', type: 'rating', value: 5, time: 200 }])
    const before = await r.recommend({ k: 5 })
    await r.append({ item: 'i11', time: 150 }) // late: it is put in its place
    const events = await r.history()
    const given = await r.explain({ history: events, k: 5 })
    return { cold: cold.coldStart, unknown, changed: before.items[0].score !== given.items[0].score, same: JSON.stringify(await r.explain({ k: 5 })) === JSON.stringify(given), times: events.map(({ time }) => time > 1.7e9 ? 'now' : time) }
  })
  assert.deepEqual(first, { cold: true, unknown: ['nonsense'], changed: true, same: true, times: [100, 'now', 200, 150] })

  const other = await open()
  await load(other, 'shop.wisp', { historyLimit: 30 })
  const shared = await other.evaluate(async () => { await window.r.append({ item: 'i13' }); return (await window.r.history()).length })
  assert.equal(shared, 5)
  await page.waitForFunction(async () => (await window.r.history()).length === 5, { polling: 100, timeout: 20_000 })
  const both = await Promise.all([page, other].map((p) => p.evaluate(async () => JSON.stringify(await window.r.recommend()))))
  assert.equal(both[0], both[1])
  // Both tabs write at once, beyond the limit.
  await Promise.all([page, other].map((p, i) => p.evaluate(async (i) => {
    for (let j = 0; j < 20; j++) await window.r.append({ item: `i${20 * i + j}`, time: 1000 + j })
  }, i)))
  await page.reload()
  await load(page, 'shop.wisp', { historyLimit: 30 })
  const events = await page.evaluate(() => window.r.history())
  assert.equal(events.length, 30)
  assert.equal(new Set(events.slice(-10).map(({ item }) => item)).size, 10)

  const exported = await page.evaluate(async () => JSON.parse(await (await window.r.exportHistory()).text()))
  assert.deepEqual(exported, { wisp_history: 1, events })
  await page.evaluate(() => window.r.eraseHistory())
  await page.reload()
  await load(page, 'shop.wisp')
  assert.deepEqual(await page.evaluate(async () => [await window.r.history(), (await window.r.recommend()).coldStart]), [[], true])
  // Other names are other histories.
  await page.evaluate(() => window.r.append({ item: 'i1' }))
  await load(page, 'shop.wisp', { history: 'guest' })
  assert.deepEqual(await page.evaluate(() => window.r.history()), [])
})

inBrowsers('a step at a time gives what the whole history gives, past several windows', async ({ page }) => {
  await load(page, 'shop.wisp')
  const differ = await page.evaluate(async () => {
    const { r } = window
    const history = []
    const differ = []
    for (let i = 0; i < 60; i++) {
      const event = { item: `i${(i * 37) % 400}`, type: i % 3 ? 'click' : 'rating', value: i % 3 ? 0 : i % 6, time: 1000 * i + (i % 7 ? 0 : -1500) + 5000 }
      history.push(event)
      await r.append(event)
      const [kept, given] = [await r.recommend({ k: 20 }), await r.recommend({ k: 20, history })]
      if (JSON.stringify(kept) !== JSON.stringify(given)) differ.push(i)
    }
    return differ
  })
  assert.deepEqual(differ, [])
})

inBrowsers('sends nothing once it is loaded', async ({ page }) => {
  const sent = []
  await load(page, 'shop.wisp')
  log.length = 0
  page.on('request', (request) => { if (!request.url().startsWith('data:')) sent.push(request.url()) })
  await page.setOfflineMode?.(true).catch(() => {}) // Firefox does not take it; the log below holds there, too
  const answers = await page.evaluate(async () => {
    const { r } = window
    await r.append([{ item: 'i1' }, { item: 'i2' }])
    return [(await r.recommend()).items.length, (await r.explain()).items.length, (await r.search('a bad cafe')).items.length, (await r.score({ items: ['i1'] })).length, (await r.history()).length]
  })
  assert.deepEqual(answers, [10, 10, 10, 1, 2])
  await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 500)))
  assert.deepEqual([sent, log], [[], []])
})
