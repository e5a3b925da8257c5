// The demo page: what a visitor does, by mouse and by keyboard, in light, dark and on a
// phone, held to its policy and to the rules of accessibility.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { faults, fixtures, inBrowsers, publicKey } from './browsers.mjs'

// What the page reads of a report; quantize/report/REPORT.md describes the whole.
const model = (kind, disk_bytes, p50_us) => ({
  kind, disk_bytes, parameters: 1_234_567, request: { macs_total: 4_560_000 }, energy: { joules: 0.002 },
  speed: { latency: { p50_us } }, quality: { ndcg10: { value: 0.1234 } },
})
const serving = (way, cost_per_month, meets) => ({ way, cost_per_month, meets })
const report = {
  models: [model('teacher', 92e6, 1500), model('artefact', 280e3, 250)],
  serving: [serving('llm', 70_000, false), serving('llm', 90_000, false), serving('bert', 800, false), serving('bert', 1168, true), serving('artefact', 584, true)],
  prices: { currency: 'USD', workload: { requests_per_day: 1e7, target_ms: 150 } },
}

/** Opens the demo with a fixture as its artefact. */
async function visit(open, { width, height, scheme }, before = async () => {}) {
  faults.set('/artefact/demo.json', (_, response) => {
    response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify({ artefact: '/fixtures/shop.wisp', publicKey, report: '/artefact/report.json' }))
    return true
  })
  faults.set('/artefact/report.json', (_, response) => {
    response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(report))
    return true
  })
  const page = await open()
  const problems = []
  page.on('console', (m) => { if (['error', 'warn'].includes(m.type())) problems.push(m.text()) })
  page.on('pageerror', (e) => problems.push(String(e)))
  await page.setViewport({ width, height })
  await page.emulateMediaFeatures?.([{ name: 'prefers-color-scheme', value: scheme }]).catch(() => {}) // not in Firefox
  await before(page)
  await page.goto(new URL('/demo/index.html', page.url()).href)
  return { page, problems }
}

const ready = (page) => page.waitForSelector('#recommended .card', { timeout: 60_000 })

/** The violations that axe-core finds. */
async function axe(page) {
  await page.addScriptTag({ url: '/axe/axe.js' })
  const { violations } = await page.evaluate(() => window.axe.run())
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(' | ')}`)
}

for (const [name, view] of Object.entries({
  light: { width: 1360, height: 900, scheme: 'light' }, dark: { width: 1360, height: 900, scheme: 'dark' }, phone: { width: 390, height: 844, scheme: 'light' },
})) {
  inBrowsers(`the demo works and is accessible: ${name}`, async ({ open, browser }) => {
    const { page, problems } = await visit(open, view)
    await ready(page)
    await page.waitForSelector('#report:not([hidden])')
    const panel = await page.$eval('#report', (e) => e.innerText)
    for (const words of ['92 MB', '280 KB', '1.5 ms', '0.25 ms', '0.123', '10M requests a day', '$70,000', '7 B *', '$1,168', '$584']) {
      assert.ok(panel.includes(words), `${words} is missing in ${panel}`)
    }
    await page.type('#query', 'item 7')
    await page.waitForSelector('#found .card')
    const before = await page.$$eval('#recommended .card', (cards) => cards.map((c) => c.dataset.item))
    await page.click('#found .card')
    await page.waitForSelector('#picks .chip')
    await page.waitForFunction((before) => [...document.querySelectorAll('#recommended .card')].map((c) => c.dataset.item).join() !== before.join(), {}, before)
    assert.match(await page.$eval('#for-you-title', (e) => e.textContent), /For you/)
    assert.match(await page.$eval('#live', (e) => e.textContent), /in a worker.*since then 0 requests sent/)
    assert.ok(await page.$$eval('#recommended .why', (all) => all.some((e) => /Because you like/.test(e.textContent))))
    assert.deepEqual(await axe(page), [])
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is wider than the page')
    writeFileSync(path.join(fixtures, `demo-${browser}-${name}.png`), await page.screenshot())
    // The pick is there at the next visit, and gone when it is taken back.
    await page.reload()
    await ready(page)
    await page.click('#picks .chip')
    await page.waitForSelector('#liked[hidden]')
    assert.deepEqual(await axe(page), [])
    assert.deepEqual(problems, [])
  })
}

inBrowsers('the demo works by keyboard alone', async ({ open }) => {
  const { page } = await visit(open, { width: 1360, height: 900, scheme: 'light' })
  await ready(page)
  const focus = () => page.evaluate(() => document.activeElement?.id || document.activeElement?.className)
  await page.keyboard.press('Tab') // the link that skips
  await page.keyboard.press('Tab')
  assert.equal(await focus(), 'query')
  await page.keyboard.press('Tab')
  assert.equal(await focus(), 'card')
  await page.keyboard.press('Enter')
  await page.waitForSelector('#picks .chip')
  await page.waitForFunction(() => document.activeElement?.classList.contains('card'))
})

inBrowsers('the demo says what is wrong, and can be tried again', async ({ open }) => {
  let broken = true
  const { page } = await visit(open, { width: 800, height: 600, scheme: 'light' }, async () => {
    faults.set('/fixtures/shop.wisp', (_, response) => { if (broken) response.writeHead(404).end(); return broken })
  })
  await page.waitForSelector('#failure:not([hidden])')
  assert.match(await page.$eval('#failure-text', (e) => e.textContent), /404.*check the address/)
  assert.deepEqual(await axe(page), [])
  broken = false
  await page.click('#again')
  await ready(page)
})
