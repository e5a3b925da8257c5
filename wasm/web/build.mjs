// Makes dist, what the package ships: two entries (the page's and the worker's), what they
// share, and the libraries for browsers that lack something, each loaded when it is needed.
import { execFileSync } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { rolldown } from 'rolldown'

process.chdir(import.meta.dirname)
rmSync('dist', { recursive: true, force: true })
const bundle = await rolldown({ input: { index: 'src/index.js', worker: 'src/worker.js' } })
await bundle.write({ dir: 'dist', entryFileNames: '[name].js', chunkFileNames: '[name].js', minify: true })
const libraries = ['fzstd', '@noble/ed25519']
writeFileSync('dist/LICENCES.txt', libraries.map((name) => `${name}\n\n${readFileSync(`node_modules/${name}/LICENSE`, 'utf8')}`).join('\n'))
execFileSync('node_modules/.bin/tsc', ['-p', '.', '--noEmit', 'false', '--outDir', 'dist/types'], { stdio: 'inherit' })
