// The identity digests: the same answers as a gateway's, byte for byte.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { fixtures, inBrowsers } from './browsers.mjs'

const { digests: want } = JSON.parse(readFileSync(path.join(fixtures, 'identity.json'), 'utf8'))

inBrowsers('answers 300 and 3000 requests of all kinds with the bits of a gateway', async ({ page }) => {
  const digests = await page.evaluate(async () => {
    const { Kernel } = await import('/src/kernel.js')
    const { hex, sha256 } = await import('/src/container.js')
    const { IMAGE_BASE } = await import('/src/layout.js')
    const bytes = async (name) => new Uint8Array(await (await fetch(`/fixtures/${name}`)).arrayBuffer())
    const { shapes, digests: want } = await (await fetch('/fixtures/identity.json')).json()
    const module = await WebAssembly.compile(await bytes('kernel.wasm'))
    const kernels = await Promise.all(shapes.map(async ({ image, pages }) => {
      const kernel = await Kernel.start(module, pages)
      const content = await bytes(image)
      kernel.bytes.set(content, IMAGE_BASE)
      return kernel.open(content.length)
    }))
    const stream = await bytes('identity.stream')
    const view = new DataView(stream.buffer)
    const answers = []
    const digests = {}
    for (let at = 0; at < stream.length;) {
      const [shape, address, length] = [0, 4, 8].map((i) => view.getUint32(at + i, true))
      const content = stream.subarray(at + 12, at + 12 + length)
      at += 12 + length
      const kernel = kernels[shape]
      if (address !== kernel.request) {
        kernel.bytes.set(content, address)
        continue
      }
      answers.push(await kernel.run(content, async () => {}))
      if (want[answers.length]) digests[answers.length] = hex(await sha256(new Uint8Array(await new Blob(answers).arrayBuffer())))
    }
    return digests
  })
  assert.deepEqual(digests, want)
  assert.deepEqual(Object.keys(want), ['300', '3000'])
})
