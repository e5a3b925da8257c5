// Rules of a ranking, from ids and names to the kernel's numbers.
import { WispError } from './errors.js'
import * as L from './layout.js'

/** @typedef {import('./catalogue.js').Catalogue} Catalogue */

/**
 * @typedef {object} Label A category of items, or an attribute with its value.
 * @property {string} [attribute] its name; absent for a category
 * @property {string} value
 */

/**
 * @typedef {object} Rules What a ranking may hold, and in which order. Ids, categories and attributes that the catalogue does not have match nothing.
 * @property {string[]} [only] ids: nothing else may appear
 * @property {Label[][]} [require] sets of labels: an item must have at least one of each set
 * @property {Label[]} [forbid] labels that no item may have
 * @property {{items?: string[], labels?: Label[], factor?: number, add?: number}[]} [boosts] raise or lower the scores of items, or of those with one of some
 *   labels: times the factor where they are not negative, over it where they are, so that above 1 raises any; then add is added
 * @property {{attribute?: string, value?: string, most: number}[]} [caps] at most this many items of a label, or of each value of an attribute (without
 *   one: of each category)
 * @property {{item: string, place: number}[]} [pins] items at places, counted from 0
 * @property {{lambda: number, pool?: number}} [diversity] maximal marginal relevance: 1 by score alone, 0 as different as can be; from the pool best items,
 *   5 times k if absent
 */

const scratch = new DataView(new ArrayBuffer(4))
/** @param {number} value */
function bits(value) {
  scratch.setFloat32(0, value, true)
  return scratch.getUint32(0, true)
}

/** @param {(number | undefined)[]} numbers */
const set = (numbers) => [...new Set(numbers)].filter((n) => n !== undefined).sort((a, b) => a - b)

/** @param {string} message */
const bad = (message) => new WispError('request', `rules: ${message}`)

/**
 * @param {Rules} rules
 * @param {Catalogue} catalogue
 * @param {import('./kernel.js').Kernel} kernel
 * @param {number} k hits that come at most
 * @param {number} asked hits that were asked for
 * @returns {{op: number, args: number[]}[]}
 */
export function encodeRules({ only, require = [], forbid = [], boosts = [], caps = [], pins = [], diversity }, catalogue, kernel, k, asked) {
  const items = (/** @type {string[]} */ ids) => set(ids.map((id) => catalogue.find(id)))
  const number = (/** @type {Label} */ { attribute = '', value }) => catalogue.label({ name: attribute, value })
  const labels = (/** @type {Label[]} */ all) => set(all.map(number))
  const rules = []
  if (only) rules.push({ op: L.RULE_ONLY, args: items(only) })
  for (const any of require) rules.push({ op: L.RULE_ANY_OF, args: labels(any) })
  if (forbid.length > 0) rules.push({ op: L.RULE_NONE_OF, args: labels(forbid) })
  for (const [i, { items: ids = [], labels: names = [], factor = 1, add = 0 }] of boosts.entries()) {
    const f = Math.fround(factor || 1), a = Math.fround(add)
    if (!(f >= 1 / L.BOOST_MAX && f <= L.BOOST_MAX && Math.abs(a) <= L.BOOST_MAX)) throw bad(`boost ${i} has the factor ${factor} and adds ${add}; want 2^-20 to 2^20, and -2^20 to 2^20`)
    if (ids.length > 0 && names.length > 0) throw bad(`boost ${i} is for items and for labels; make two of it`)
    rules.push(ids.length > 0 ? { op: L.RULE_BOOST_ITEMS, args: [bits(f), bits(a), ...items(ids)] } : { op: L.RULE_BOOST_LABELS, args: [bits(f), bits(a), ...labels(names)] })
  }
  for (const [i, { attribute = '', value, most }] of caps.entries()) {
    if (!(Number.isInteger(most) && most >= 0)) throw bad(`cap ${i} allows ${most} items; want 0 or more`)
    const one = value ? number({ attribute, value }) : undefined
    const ranges = !value ? catalogue.named(attribute) : one === undefined ? [] : [[one, one + 1]]
    for (const range of ranges) rules.push({ op: L.RULE_CAP, args: [Math.min(most, 2 ** 31 - 1), ...range] })
  }
  rules.push(...pinned(pins, catalogue, k, asked))
  if (diversity) {
    const { lambda, pool = 0 } = diversity
    if (!(lambda >= 0 && lambda <= 1)) throw bad(`diversity has lambda ${lambda}; want 0 to 1`)
    if (!Number.isInteger(pool) || pool < 0 || (pool > 0 && pool < asked)) throw bad(`diversity has a pool of ${pool} for ${asked} items; want at least as many`)
    rules.push({ op: L.RULE_DIVERSITY, args: [bits(lambda), Math.max(Math.min(pool || 5 * k, kernel.maxK), k)] })
  }
  const words = rules.reduce((n, { args }) => n + 2 + args.length, 0)
  const most = kernel.header[L.H_MAX_RULE_WORDS]
  if (rules.length > L.MAX_RULES || words > most) {
    throw bad(`they come to ${rules.length} rules with ${words - 2 * rules.length} items and labels; at most ${L.MAX_RULES} and ${most - 2 * L.MAX_RULES} are possible`)
  }
  return rules
}

/**
 * Where the catalogue has no more than k items, places behind them are the last ones.
 * @param {{item: string, place: number}[]} pins
 * @param {Catalogue} catalogue
 * @param {number} k
 * @param {number} asked
 */
function pinned(pins, catalogue, k, asked) {
  const sorted = pins.toSorted((a, b) => a.place - b.place)
  for (const [i, { item, place }] of sorted.entries()) {
    if (!Number.isInteger(place) || place < 0 || place >= asked) throw bad(`item ${JSON.stringify(item)} is pinned at place ${place}; places go from 0 to ${asked - 1}`)
    if (i > 0 && place === sorted[i - 1].place) throw bad(`items ${JSON.stringify(sorted[i - 1].item)} and ${JSON.stringify(item)} are pinned at place ${place}`)
    if (sorted.findIndex((p) => p.item === item) !== i) throw bad(`item ${JSON.stringify(item)} is pinned twice`)
  }
  const rules = []
  let free = k // places before those taken
  for (const { item, place } of sorted.reverse()) {
    const n = catalogue.find(item)
    if (n === undefined || free === 0) continue
    free = Math.min(place, free - 1)
    rules.push({ op: L.RULE_PIN, args: [free, n] })
  }
  return rules
}
