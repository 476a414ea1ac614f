/** Who may import whom, above the event channels: each part through the public face of the one below it. */

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** What a folder may import beside itself. */
const ALLOWED: Record<string, readonly string[]> = {
  xenstore: [],
  kernel: ['src/clock.ts'],
  xenbus: ['src/dom0/kernel/index.ts', 'src/xenstore/index.ts'],
  backends: ['src/dom0/kernel/index.ts', 'src/dom0/xenbus/index.ts'],
  frontends: ['src/dom0/kernel/index.ts', 'src/dom0/xenbus/index.ts', 'src/dom0/backends/index.ts'],
  toolstack: ['src/dom0/kernel/index.ts', 'src/dom0/xenbus/index.ts', 'src/xenstore/index.ts'],
}

describe('boundaries of dom0', () => {
  it.each(Object.entries(ALLOWED))(
    'src/%s imports only its neighbours, and those by their index',
    (folder, allowed) => {
      const all = readdirSync(join(ROOT, 'src', folder), { recursive: true, encoding: 'utf8' })
      const names = all.filter((name) => name.endsWith('.ts'))
      expect(names.length).toBeGreaterThan(3)
      for (const name of names) {
        const file = join('src', folder, name)
        const text = readFileSync(join(ROOT, file), 'utf8')
        for (const [, path] of text.matchAll(/^(?:import|export)\b[^'"`;]*?from '([^']+)'/gm)) {
          const target = relative(ROOT, resolve(ROOT, dirname(file), path!)).replace(/\.js$/, '.ts')
          expect(target.startsWith(`src/${folder}/`) || allowed.includes(target), `${file} imports ${target}`).toBe(
            true,
          )
        }
      }
    },
  )
})
