// Makes dist, what the package ships: a file for the page and one for the worker, each in one
// piece, so that neither waits for another; and the libraries for browsers that lack something,
// each loaded when it is needed.
import { execFileSync } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { rolldown } from 'rolldown'

process.chdir(import.meta.dirname)
rmSync('dist', { recursive: true, force: true })
const worker = { name: 'worker', resolveId: (/** @type {string} */ id) => (id === './worker.js' ? { id, external: true } : null) }
for (const [name, plugins] of Object.entries({ worker: [], index: [worker] })) {
  const bundle = await rolldown({ input: { [name]: `src/${name}.js` }, plugins })
  await bundle.write({ dir: 'dist', entryFileNames: '[name].js', chunkFileNames: '[name].js', minify: true })
}
const libraries = ['fzstd', '@noble/ed25519']
writeFileSync('dist/LICENCES.txt', libraries.map((name) => `${name}\n\n${readFileSync(`node_modules/${name}/LICENSE`, 'utf8')}`).join('\n'))
execFileSync('node_modules/.bin/tsc', ['-p', '.', '--noEmit', 'false', '--outDir', 'dist/types'], { stdio: 'inherit' })
