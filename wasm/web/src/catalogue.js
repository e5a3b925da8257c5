// The items of an artefact and their labels (categories and attributes) by number, and
// what is laid over them on this device: inserted items, and unavailable ones.
import { WispError } from './errors.js'
import * as L from './layout.js'

/** @typedef {import('./artefact.js').Item} Item */
/** @typedef {{name: string, value: string}} Label the name is empty for a category */

/**
 * @typedef {object} Inserted
 * @property {Item} item
 * @property {Int8Array} row
 * @property {number} scale
 * @property {Float32Array} vector of its text
 */

/** @param {Label} label */
const keyOf = ({ name, value }) => `${name}\0${value}`

/**
 * Orders texts by their bytes in UTF-8, which JavaScript's own order is not beyond U+FFFF.
 * @param {string} a
 * @param {string} b
 */
function compareText(a, b) {
  for (let i = 0; i < a.length && i < b.length; i++) {
    const x = a.charCodeAt(i), y = b.charCodeAt(i)
    if (x !== y) return rank(x) - rank(y)
  }
  return a.length - b.length
}

/** @param {number} unit of UTF-16: surrogates go behind all others */
const rank = (unit) => (unit >= 0xe000 ? unit - 0x800 : unit >= 0xd800 ? unit + 0x2000 : unit)

/**
 * The labels of some items, each once, by name and then by value.
 * @param {Item[]} items
 */
function labelsOf(items) {
  /** @type {Map<string, Label>} */
  const labels = new Map()
  for (const { categories, attributes } of items) {
    for (const value of categories ?? []) labels.set(keyOf({ name: '', value }), { name: '', value })
    for (const { name, value } of attributes ?? []) labels.set(keyOf({ name, value }), { name, value })
  }
  return [...labels.values()].sort((a, b) => compareText(a.name, b.name) || compareText(a.value, b.value))
}

export class Catalogue {
  /** Inserted items by place; null for a hole. @type {(Inserted | null)[]} */
  #inserted = []
  /** Holes, the one that is one for longest first. @type {number[]} */
  #free = []
  /** @type {Set<number>} */
  #gone = new Set()
  /** Labels of inserted items that the artefact does not have. @type {Label[]} */
  #later = []

  /** @param {Item[]} items of the artefact */
  constructor(items) {
    this.items = items
    this.labels = labelsOf(items)
    this.index = new Map(items.map(({ id }, i) => [id, i]))
    this.numbers = new Map(this.labels.map((label, i) => [keyOf(label), i]))
  }

  /**
   * The number of an item, undefined for none.
   * @param {string} id
   */
  find(id) {
    return this.index.get(id)
  }

  /**
   * The item of a number.
   * @param {number} n
   * @returns {Item}
   */
  item(n) {
    return this.items[n] ?? /** @type {Inserted} */ (this.#inserted[n - this.items.length]).item
  }

  /**
   * The number of a label, undefined for none.
   * @param {Label} label
   */
  label(label) {
    return this.numbers.get(keyOf(label))
  }

  /**
   * Ranges of the labels of one name, each from and to behind the last.
   * @param {string} name
   */
  named(name) {
    return [[this.labels, 0], [this.#later, this.labels.length]].flatMap(([labels, base]) => {
      const all = /** @type {Label[]} */ (labels)
      const from = all.findIndex((l) => l.name === name)
      return from < 0 ? [] : [[Number(base) + from, Number(base) + all.findLastIndex((l) => l.name === name) + 1]]
    })
  }

  /**
   * Whether an image has the labels of the items.
   * @param {import('./kernel.js').Kernel} kernel
   */
  fits({ header, memory }) {
    if (header[L.H_LABELS] !== this.labels.length) return false
    if (this.labels.length === 0) return true
    const first = new Uint32Array(memory.buffer, L.IMAGE_BASE + header[L.H_LABEL_FIRST], this.items.length + 1)
    const list = new Uint32Array(memory.buffer, L.IMAGE_BASE + header[L.H_LABEL_LIST], header[L.H_LABEL_ENTRIES])
    return this.items.every((item, i) => this.#labelsOf(item).join() === list.subarray(first[i], first[i + 1]).join())
  }

  /**
   * Numbers of an item's labels, rising.
   * @param {Item} item
   */
  #labelsOf(item) {
    return labelsOf([item]).map((l) => Number(this.label(l))).sort((a, b) => a - b)
  }

  /**
   * Adds an item, in the place of one that was inserted with the same id.
   * @param {Inserted} inserted
   * @param {import('./kernel.js').Kernel} kernel
   */
  insert(inserted, { header }) {
    const { item } = inserted
    const base = this.items.length
    const kept = { inserted: [...this.#inserted], free: [...this.#free] }
    let place = (this.index.get(item.id) ?? 0) - base
    if (place < 0) place = this.#inserted.length < header[L.H_MAX_INSERTED] ? this.#inserted.length : this.#free.shift() ?? -1
    if (place < 0) throw new WispError('limit', `${this.#inserted.length} items are inserted, and there is room for no more; remove some, or make the artefact again`)
    this.#inserted[place] = inserted
    const room = header[L.H_MAX_LABELS] - this.labels.length
    if (this.#newLabels().length > room) {
      this.#inserted = kept.inserted
      this.#free = kept.free
      throw new WispError('limit', `inserted items may have ${room} categories and values of attributes that the artefact does not; use those that there are`)
    }
    this.index.set(item.id, base + place)
    this.#number()
  }

  /**
   * Takes an inserted item out again.
   * @param {string} id
   */
  remove(id) {
    const n = this.index.get(id) ?? -1
    if (n < this.items.length) throw new WispError('request', `${JSON.stringify(id)} was not inserted`)
    this.#inserted[n - this.items.length] = null
    this.#free.push(n - this.items.length)
    this.index.delete(id)
    this.#gone.delete(n)
    this.#number()
  }

  /**
   * Says whether items may be recommended and found; none is changed where one is unknown.
   * @param {boolean} available
   * @param {string[]} ids
   */
  setAvailable(available, ids) {
    const numbers = ids.map((id) => {
      const n = this.find(id)
      if (n === undefined) throw new WispError('request', `there is no item ${JSON.stringify(id)}`)
      return n
    })
    for (const n of numbers) available ? this.#gone.delete(n) : this.#gone.add(n)
  }

  #newLabels() {
    const known = new Set(this.labels.map(keyOf))
    return labelsOf(this.#inserted.flatMap((i) => (i ? [i.item] : []))).filter((l) => !known.has(keyOf(l)))
  }

  /** Numbers the labels of inserted items behind those of the artefact. */
  #number() {
    this.#later = this.#newLabels()
    this.numbers = new Map([...this.labels, ...this.#later].map((label, i) => [keyOf(label), i]))
  }

  /**
   * Writes what is laid over the image into a kernel's memory.
   * @param {import('./kernel.js').Kernel} kernel
   */
  lay({ bytes, memory, header, textFlags }) {
    const n = this.#inserted.length, base = this.items.length
    const gone = [...this.#gone, ...this.#free.map((place) => base + place)]
    new Uint32Array(memory.buffer, header[L.H_OVERLAY], 2).set([n, gone.length])
    const bits = bytes.subarray(header[L.H_UNAVAILABLE], header[L.H_UNAVAILABLE] + Math.ceil((base + header[L.H_MAX_INSERTED]) / 32) * 4)
    bits.fill(0)
    for (const i of gone) bits[i >> 3] |= 1 << (i & 7)
    for (let place = 0; place < Math.ceil(n / 4) * 4; place++) {
      const inserted = this.#inserted[place]
      const { row, scale } = inserted ?? { row: new Int8Array(), scale: 0 }
      putRow(bytes, header[L.H_EXTRA_ROWS], header[L.H_ITEM_K], place, row, scale)
      if (textFlags & L.TEXT_ITEM_TEXTS) {
        const text = textRow(inserted?.vector ?? new Float32Array())
        putRow(bytes, header[L.H_EXTRA_TEXTS], header[L.H_TEXT_PAD], place, text.row, text.scale)
      }
      if (place >= n) continue
      const labels = new Uint32Array(memory.buffer, header[L.H_EXTRA_LABELS] + 4 * L.MAX_ITEM_LABELS * place, L.MAX_ITEM_LABELS)
      labels.fill(0xffffffff)
      if (inserted) labels.set(this.#labelsOf(inserted.item))
    }
  }
}

/**
 * Checks what an item must be like; the text is what it is known by.
 * @param {Item & {text?: string}} item
 */
export function checkItem(item) {
  const { id, title = '', categories = [], attributes = [], text } = item
  const all = [...categories, ...attributes.flatMap(({ name, value }) => [name, value])]
  if (typeof id !== 'string' || !id || /[\u0000-\u001f\u007f-\u009f]/.test(id)) throw new WispError('request', `the id ${JSON.stringify(id)} of an item must be a text without control characters`)
  if (typeof title !== 'string' || all.some((t) => typeof t !== 'string' || !t)) throw new WispError('request', `item ${JSON.stringify(id)}: title, categories and attributes must be texts, and only the title may be empty`)
  if (labelsOf([item]).length > L.MAX_ITEM_LABELS) throw new WispError('limit', `item ${JSON.stringify(id)} has more than ${L.MAX_ITEM_LABELS} categories and attributes`)
  return text || [title, ...categories, ...attributes.map(({ value }) => value)].join(' ')
}

/**
 * Writes row i of a table: blocks of four rows, each [k/2][4][2] int8 and then four scales.
 * @param {Uint8Array} bytes
 * @param {number} at
 * @param {number} k
 * @param {number} i
 * @param {Int8Array} row
 * @param {number} scale
 */
function putRow(bytes, at, k, i, row, scale) {
  const block = at + (i >> 2) * (4 * k + 16), r = i & 3
  for (let d = 0; d < k; d++) bytes[block + (d >> 1) * 8 + r * 2 + (d & 1)] = row[d] ?? 0
  new DataView(bytes.buffer).setFloat32(block + 4 * k + 4 * r, scale, true)
}

/**
 * The vector of a text as a search meets it: the row times the scale is the unit vector
 * over QUERY_ONE.
 * @param {Float32Array} vector
 */
function textRow(vector) {
  const row = new Int8Array(vector.length)
  const step = Math.fround(vector.reduce((top, v) => Math.max(top, Math.abs(v)), 0) / L.LEVELS)
  if (step < 1e-30) return { row, scale: 0 }
  let sum = 0
  vector.forEach((v, i) => {
    const exact = Math.fround(v / step)
    let whole = Math.round(exact)
    if (Math.abs(exact % 1) === 0.5 && whole % 2 !== 0) whole-- // half to even
    row[i] = Math.min(Math.max(whole, -L.LEVELS), L.LEVELS)
    sum += row[i] * row[i]
  })
  return { row, scale: sum === 0 ? 0 : Math.fround(1 / (L.QUERY_ONE * Math.sqrt(sum))) }
}
