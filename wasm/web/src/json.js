// JSON as FORMAT.md allows it: JSON.parse takes more.
import { formatError } from './container.js'

/**
 * @param {Uint8Array} bytes
 * @param {string} what the bytes are, for messages
 */
export function parseJSON(bytes, what) {
  let text, value
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    value = JSON.parse(text)
  } catch (error) {
    throw formatError(`the ${what} is not JSON in UTF-8 (${error instanceof Error ? error.message : error})`)
  }
  let keys = 0 // one string after the other, so that none begins inside another
  for (const [, key, colon] of text.matchAll(/"((?:[^"\\]|\\.)*)"(\s*:)?/gs)) {
    if (!colon) continue
    if (!/^[a-z0-9_]*$/.test(key)) throw formatError(`the ${what} has the key "${key}", which is not of a-z, 0-9 and _`)
    keys++
  }
  if (keys !== countKeys(value)) throw formatError(`the ${what} has a key twice in an object`)
  return value
}

/**
 * @param {unknown} value
 * @returns {number}
 */
function countKeys(value) {
  if (typeof value !== 'object' || value === null) return 0
  const values = Object.values(value)
  return values.reduce((n, v) => n + countKeys(v), Array.isArray(value) ? 0 : values.length)
}
