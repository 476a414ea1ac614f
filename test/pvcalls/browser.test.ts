/** pvcalls in a real page, over the network inside the library: Chromium, headless. Needs Debian's chromium. */

import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { requireTools } from '../settings.js'
import { exampleFile } from '../snippets.js'

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync)
const required = requireTools
const SERVE = exampleFile('browser/serve')
exampleFile('browser/pvcalls.page')
const FLAGS =
  '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'

const title = CHROMIUM || required ? 'in a page' : 'in a page: NOT RUN for want of chromium (package chromium)'

describe(title, () => {
  it.skipIf(!CHROMIUM && !required)('PV-30: both policies move every byte in order, without Node', async () => {
    const server = spawn(process.execPath, [SERVE, '0'], { stdio: ['ignore', 'pipe', 'inherit'] })
    const profile = mkdtempSync(join(tmpdir(), 'evtchn-pvcalls-'))
    try {
      const url = await new Promise<string>((resolve) =>
        server.stdout.once('data', (text) => resolve(String(text).trim())),
      )
      const flags = [...FLAGS.split(' '), `--user-data-dir=${profile}`, '--virtual-time-budget=20000', '--dump-dom']
      const page = execFileSync(CHROMIUM!, [...flags, `${url}examples/browser/pvcalls.html`], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
        timeout: 50_000,
      })
      expect(/<pre id="out">([^<]*)/.exec(page)?.[1]).toBe(
        'bounded: 4 workers, 10 sockets each, 4000000 bytes, in order, 0 left\n' +
          'per-socket: 40 workers, 1 sockets each, 4000000 bytes, in order, 0 left\ndone\n',
      )
    } finally {
      server.kill()
      rmSync(profile, { recursive: true, force: true })
    }
  })
})
