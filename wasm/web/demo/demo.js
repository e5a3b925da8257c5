import { Recommender } from '/dist/index.js'

const $ = (id) => document.getElementById(id)
const number = new Intl.NumberFormat('en', { maximumFractionDigits: 2 })
const bytes = (n) => (n < 1000 ? `${n} B` : n < 999_500 ? `${number.format(Math.round(n / 1000))} KB` : `${number.format(n / 1e6)} MB`)
/** @type {Recommender} */
let wisp
let catalogue = new Map()
let liked = []
let searching = new AbortController()

async function open() {
  $('failure').hidden = true
  $('loading').hidden = false
  const start = performance.now()
  try {
    const { artefact, publicKey, report } = await (await fetch('/artefact/demo.json')).json()
    if (report) fetch(report).then((r) => r.json()).then(compare).catch(() => {}) // the page does without
    wisp = await Recommender.load(artefact, { publicKey, historyLimit: 200, onHistoryChange: update, onProgress: ({ loaded, total }) => { $('progress').value = loaded / total } })
  } catch (error) {
    $('loading').hidden = true
    $('failure').hidden = false
    $('failure-text').textContent = error.message
    return
  }
  const { info } = wisp
  catalogue = new Map(info.items.map((item) => [item.id, item]))
  const { model } = info.manifest
  $('query').placeholder = model.text?.item_texts ? 'a quiet film about outer space' : 'a title or a genre'
  weigh(info, performance.now() - start)
  $('loading').hidden = true
  $('shop').hidden = false
  await update()
}

/** Shows the history and what follows from it. */
async function update() {
  const events = await wisp.history()
  liked = [...new Map(events.map((e) => [e.item, e])).keys()].filter((id) => catalogue.has(id)).reverse()
  const start = performance.now()
  const { items } = await wisp.explain({ k: 20, reasons: 2 })
  const took = performance.now() - start
  $('liked').hidden = liked.length === 0
  $('for-you-title').textContent = liked.length === 0 ? 'Pick a few that you like' : 'For you'
  fill($('picks'), liked.map((id) => [button('chip', titleOf(id), `Take back ${titleOf(id)}`, () => take(id))]))
  fill($('recommended'), items.map((r) => card(r.item, liked.length > 0 && because(r))))
  for (const pressed of document.querySelectorAll('#found .card')) pressed.setAttribute('aria-pressed', String(liked.includes(pressed.dataset.item)))
  live(`${items.length} films chosen from ${number.format(catalogue.size)} in ${number.format(took)} ms`)
}

function because({ reasons = [] }) {
  if (reasons.length === 0) return 'Many like it.'
  const why = document.createElement('span')
  const bold = ({ item }) => Object.assign(document.createElement('b'), { textContent: titleOf(item) })
  why.append('Because you like ', ...reasons.flatMap((r, i) => [i > 0 ? ' and ' : '', bold(r)]))
  return why
}

/** Adds a film to the history, or takes it out again. */
async function take(id) {
  if (liked.includes(id)) {
    const rest = (await wisp.history()).filter(({ item }) => item !== id)
    await wisp.eraseHistory()
    if (rest.length > 0) await wisp.append(rest)
  } else {
    await wisp.append({ item: id, ...howToLike() })
  }
  await update()
}

/** The event that stands for liking a film: the best rating, or what else the model knows. */
function howToLike() {
  const types = wisp.info.manifest.event_types
  const best = types.filter(({ name }) => name === 'rating').map(({ at_least }) => at_least)
  if (best.length > 1) return { type: 'rating', value: Math.ceil(Math.max(...best)) }
  return { type: types.some(({ name }) => name === 'favourite') ? 'favourite' : types[0].name }
}

async function search(text) {
  searching.abort() // the one before, which nobody waits for any more
  const { signal } = searching = new AbortController()
  if (!text.trim()) {
    $('nothing').hidden = true
    return fill($('found'), [])
  }
  const start = performance.now()
  const words = text.toLowerCase().split(/\s+/)
  const literal = wisp.info.items.filter(({ id, title, categories = [] }) => {
    const all = `${title ?? id} ${categories.join(' ')}`.toLowerCase()
    return words.every((w) => all.includes(w))
  }).slice(0, 12).map(({ id }) => id)
  let near = []
  if (wisp.info.manifest.model.text?.item_texts) {
    try {
      near = (await wisp.search({ text, k: 18 }, { signal })).items.map(({ item }) => item)
    } catch (error) {
      if (signal.aborted) return
      throw error
    }
  }
  const found = [...new Set([...literal, ...near])].slice(0, 18)
  fill($('found'), found.map((id) => card(id)))
  $('nothing').hidden = found.length > 0
  live(`${found.length} films found in ${number.format(performance.now() - start)} ms`)
}

/** A film that can be liked. */
function card(id, why) {
  const { categories = [] } = catalogue.get(id)
  const title = titleOf(id)
  const node = button('card', '', '', () => take(id))
  node.dataset.item = id
  node.setAttribute('aria-pressed', String(liked.includes(id)))
  const poster = element('span', 'poster')
  poster.dataset.initial = title[0]
  poster.style.setProperty('--hue', hash(categories[0] ?? title) % 360)
  poster.style.setProperty('--glow', hash(categories.at(-1) ?? title) % 360)
  poster.style.setProperty('--at', `${hash(title) % 100}% ${hash(`${title}!`) % 50}%`)
  const heart = element('span', 'heart', '♥')
  heart.setAttribute('aria-hidden', 'true')
  poster.append(heart, element('span', 'hidden', 'Like '), element('span', 'title', title), element('span', 'genres', categories.slice(0, 3).join(' · ')))
  node.append(poster)
  if (!why) return [node]
  const line = element('p', 'why')
  line.append(why)
  return [node, line]
}

const titleOf = (id) => (catalogue.get(id)?.title ?? id).replace(/^(.*), (The|A|An|La|Le|Les|Il|Das|Der|Die|El|L')( \(.*\))?$/, (_, rest, article, more = '') => `${article}${article.endsWith("'") ? '' : ' '}${rest}${more}`)

/** A number from which posters get colours and shapes, the same at every visit. */
function hash(text) {
  let h = 2166136261
  for (const c of text) h = Math.imul(h ^ c.codePointAt(0), 16777619) >>> 0
  return h >>> 8
}

function element(name, className, text = '') {
  return Object.assign(document.createElement(name), { className, textContent: text })
}

function button(className, text, label, action) {
  const node = Object.assign(element('button', className, text), { type: 'button', onclick: action })
  if (label) node.setAttribute('aria-label', label)
  return node
}

/** Fills a list; what had the focus keeps it where it is still there. */
function fill(list, entries) {
  const key = (node) => node.dataset.item ?? node.textContent
  const focused = list.contains(document.activeElement) ? key(document.activeElement) : null
  list.replaceChildren(...entries.map((nodes) => {
    const li = document.createElement('li')
    li.append(...nodes)
    return li
  }))
  if (focused === null) return
  const buttons = entries.map(([node]) => node)
  const again = buttons.find((node) => key(node) === focused) ?? buttons[0] ?? $('for-you')
  again.focus({ preventScroll: true })
}

/** What the page did last, and what it sent since it was loaded. */
function live(what) {
  const requests = performance.getEntriesByType('resource').filter(({ startTime }) => startTime > loadedAt).length
  $('live').textContent = `${what}, ${wisp.thread === 'worker' ? 'in a worker' : 'on the page'}. ${bytes(wisp.info.received)} fetched; since then ${requests} requests sent.`
}
let loadedAt = Infinity

function weigh(info, took) {
  loadedAt = performance.now()
  const { manifest } = info
  const script = performance.getEntriesByType('resource').filter(({ name }) => name.includes('/dist/')).reduce((n, { encodedBodySize }) => n + encodedBodySize, 0)
  describe($('totals'), [
    ['the file', bytes(info.size)], ['fetched now', bytes(info.received)], ['in memory', bytes(info.memory)], ['scripts of the page', script ? bytes(script) : 'from the cache'],
    ['ready after', `${Math.round(took)} ms`], ['films', number.format(info.items.length)],
  ])
  const most = Math.max(...info.weights.map(({ stored }) => stored))
  $('parts').replaceChildren(...info.weights.map(({ part, stored }) => {
    const row = document.createElement('tr')
    row.style.setProperty('--share', `${100 * stored / most}%`)
    const name = element('th', '', parts[part] ?? part)
    name.scope = 'row'
    row.append(name, element('td', '', bytes(stored)))
    return row
  }))
  const metrics = manifest.metrics ?? []
  describe($('quality'), metrics.length > 0 ? metrics.map(({ name, value, low, high }) => [name.replaceAll('.', ' ').replace('ndcg10', 'NDCG@10'), low < high ? `${value.toFixed(3)} (${low.toFixed(3)}–${high.toFixed(3)})` : value.toFixed(3)]) : [['measured', 'not yet']])
  $('origin').textContent = `${manifest.name}, version ${manifest.version}. ${info.trusted ? `Signed with key ${info.keyId.slice(0, 8)}…` : 'Not signed by a trusted key.'} Every bit of its golden answers was right on this device.`
}

/** Shows what wisp report measured of the model and of the file. */
function compare({ models, serving, prices }) {
  const teacher = models.find(({ kind }) => kind === 'teacher')
  const own = models.find(({ kind }) => kind === 'artefact')
  if (!teacher || !own) return
  const rows = [
    ['bytes', (m) => bytes(m.disk_bytes)], ['parameters', (m) => compact.format(m.parameters)],
    ['multiplications a request', (m) => compact.format(m.request.macs_total)],
    ['energy a request', (m) => `${number.format(1000 * m.energy.joules)} mJ`],
    ['time a request', (m) => `${number.format(m.speed.latency.p50_us / 1000)} ms`],
    ['NDCG@10', (m) => m.quality.ndcg10.value.toFixed(3)],
  ]
  $('compared').replaceChildren(...rows.map(([name, value]) => {
    const row = document.createElement('tr')
    const head = element('th', '', name)
    head.scope = 'row'
    row.append(head, ...[teacher, own].map((m) => element('td', '', value(m))))
    return row
  }))
  const money = new Intl.NumberFormat('en', { style: 'currency', currency: prices.currency, maximumFractionDigits: 0 })
  const ways = { llm: 'a language model of 7 B', bert: 'BERT-base', teacher: 'full precision', artefact: 'this file, at the edge', browser: 'this file, here' }
  let late = false
  describe($('cost'), Object.entries(ways).flatMap(([way, name]) => {
    const all = serving.filter((s) => s.way === way)
    const best = (all.some(({ meets }) => meets) ? all.filter(({ meets }) => meets) : all).sort((a, b) => a.cost_per_month - b.cost_per_month)[0]
    if (!best) return []
    late ||= !best.meets
    return [[best.meets ? name : `${name} *`, money.format(best.cost_per_month)]]
  }))
  const { requests_per_day: day, target_ms: target } = prices.workload
  $('cost-title').textContent = `A month of ${compact.format(day)} requests a day`
  $('cost-note').textContent = `By example prices; the cheapest machines that answer within ${target} ms.${late ? ' * None does; the cheapest that keep up.' : ''}`
  $('report').hidden = false
}
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 })

const parts = { header: 'map of the model', tokenizer: 'tokenizer', text: 'language model', user: 'user tower', items: 'vectors of films', texts: 'vectors of their texts', labels: 'genres', bounds: 'bounds of scores', attributes: 'what films are made of' }

function describe(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([name, value]) => [element('dt', '', name), element('dd', '', value)]))
}

$('again').onclick = open
$('query').oninput = ({ target }) => search(target.value)
$('search').onsubmit = (event) => { event.preventDefault(); search($('query').value) }
$('erase').onclick = async () => { await wisp.eraseHistory(); await update(); $('query').focus() }
$('export').onclick = async () => {
  const address = URL.createObjectURL(await wisp.exportHistory())
  Object.assign(document.createElement('a'), { href: address, download: 'what-i-like.json' }).click()
  setTimeout(() => URL.revokeObjectURL(address), 1000)
}
await open()
