/**
 * Serves the page and the built library: node examples/browser/serve.mjs [port], default 8080. The two headers make the
 * page cross-origin isolated, which is what shared memory needs; with --plain they are left out.
 */

import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript' }
const ISOLATION = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' }
const args = process.argv.slice(2)
const port = Number(args.find((arg) => /^\d+$/.test(arg)) ?? 8080)

const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url ?? '/', 'http://localhost')
  const path = pathname === '/' ? '/examples/browser/index.html' : normalize(pathname)
  const type = TYPES[extname(path)]
  try {
    if (!type || !/^\/(dist|examples\/browser|node_modules\/bitset)\//.test(path)) throw new Error('not served')
    const body = await readFile(join(ROOT, path))
    response.writeHead(200, { 'Content-Type': type, ...(args.includes('--plain') ? {} : ISOLATION) }).end(body)
  } catch {
    response.writeHead(404).end('not found\n')
  }
})
server.listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`))
