/**
 * Serves the page and the built library: `npm run build:examples`, then `node build/examples/browser/serve.js [port]`,
 * default 8080. Two headers make the page cross-origin isolated, which shared memory needs; --plain leaves them out.
 */

import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { extname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'

// This file runs as build/examples/browser/serve.js.
const ROOT = fileURLToPath(new URL('../../..', import.meta.url))
const TYPES: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript' }
const ISOLATION = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' }
/** Where the packages are. A page has an import map for that; its workers have none, so the addresses go into the modules. */
const PACKAGES: Record<string, string> = {
  evtchn: '/dist/index.js',
  'evtchn/vcpu': '/dist/vcpu/index.js',
  bitset: '/node_modules/bitset/dist/bitset.mjs',
}
const resolved = (path: string, text: string): string =>
  extname(path) === '.html'
    ? text
    : text.replace(/\bfrom (['"])([\w/]+)\1/g, (found, _, name: string) => {
        const at = PACKAGES[name]
        return at ? `from '${at}'` : found
      })
const args = process.argv.slice(2)
const port = Number(args.find((arg) => /^\d+$/.test(arg)) ?? 8080)

const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url ?? '/', 'http://localhost')
  const path = pathname === '/' ? '/examples/browser/index.html' : normalize(pathname)
  const type = TYPES[extname(path)]
  try {
    if (!type || !/^\/(dist|examples\/browser|build\/examples\/browser|node_modules\/bitset)\//.test(path))
      throw new Error('not served')
    const body = resolved(path, await readFile(join(ROOT, path), 'utf8'))
    response.writeHead(200, { 'Content-Type': type, ...(args.includes('--plain') ? {} : ISOLATION) }).end(body)
  } catch {
    response.writeHead(404).end('not found\n')
  }
})
server.listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`))
