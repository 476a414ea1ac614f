/** The library in a real page: Chromium, headless, with and without cross-origin isolation. Needs Debian's chromium. */

import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { requireTools } from './settings.js'
import { exampleFile } from './snippets.js'

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) =>
  existsSync(path),
)
const required = requireTools
const SERVE = exampleFile('browser/serve')
for (const page of ['index', 'threads', 'threads-host', 'threads-guest']) exampleFile(`browser/${page}.page`)
const FLAGS =
  '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'

/** The text of a page after its scripts are done. */
async function visit(file: string, ...args: string[]): Promise<string> {
  const server = spawn(process.execPath, [SERVE, '0', ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const profile = mkdtempSync(join(tmpdir(), 'evtchn-'))
  try {
    const url = await new Promise<string>((resolve) =>
      server.stdout.once('data', (text) => resolve(String(text).trim())),
    )
    const flags = [
      ...FLAGS.split(' '),
      `--user-data-dir=${profile}`,
      '--virtual-time-budget=20000',
      '--dump-dom',
      url + file,
    ]
    const page = execFileSync(CHROMIUM!, flags, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 50_000,
    })
    return /<pre id="out">([^<]*)/.exec(page)?.[1] ?? page
  } finally {
    server.kill()
    rmSync(profile, { recursive: true, force: true })
  }
}

const title = CHROMIUM || required ? 'in a page' : 'in a page: NOT RUN for want of chromium (package chromium)'

describe(title, () => {
  it.skipIf(!CHROMIUM && !required)(
    'runs on plain and on shared memory when the page is cross-origin isolated',
    async () => {
      expect(await visit('')).toBe(
        'plain memory: 262144 channels, 1000 events, 9 lines of dump\nshared memory: 262144 channels, 1000 events, 9 lines of dump\ndone\n',
      )
    },
  )

  it.skipIf(!CHROMIUM && !required)('runs on plain memory, without SharedArrayBuffer, when it is not', async () => {
    expect(await visit('', '--plain')).toBe('plain memory: 262144 channels, 1000 events, 9 lines of dump\ndone\n')
  })

  it.skipIf(!CHROMIUM && !required)('runs two guests and the hypervisor on workers when it is isolated', async () => {
    expect(await visit('examples/browser/threads.html')).toBe('1000 round trips between two workers of a page\ndone\n')
  })

  it.skipIf(!CHROMIUM && !required)('says what threads lack when it is not', async () => {
    expect(await visit('examples/browser/threads.html', '--plain')).toBe(
      'this page is not cross-origin isolated, so it has no shared memory, and vCPUs cannot have threads\n' +
        'serve it with Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp\ndone\n',
    )
  })
})
