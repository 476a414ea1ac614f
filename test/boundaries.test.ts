/** Who may import whom: the design's rules, checked on the imports themselves. */

import { readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

function files(folder: string): string[] {
  return readdirSync(join(ROOT, folder)).flatMap((name) => {
    const path = join(folder, name)
    return statSync(join(ROOT, path)).isDirectory() ? files(path) : /\.ts$/.test(name) ? [path] : []
  })
}

/** Imports of a file: paths inside the repository as `src/domain/domain.ts`, packages by name. Types count as well. */
function imports(file: string): string[] {
  const text = readFileSync(join(ROOT, file), 'utf8')
  return [
    ...text.matchAll(/^(?:import|export)\b[^'"`;]*?from '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm),
  ].map((match) => {
    const path = match[1] ?? match[2] ?? match[3]!
    if (!path.startsWith('.')) return path
    return relative(ROOT, resolve(ROOT, dirname(file), path)).replace(/\.js$/, '.ts')
  })
}

const SRC = files('src').filter((file) => !file.endsWith('.d.ts'))
const inLibrary = SRC.filter((file) => !file.startsWith('src/cli/'))

/** The rule of a folder: what its files may import beside each other. */
const FOLDERS: Record<string, { own: string; also: string[] }> = {
  assembly: { own: 'assembly/', also: [] },
  'src/abi': { own: 'src/abi/', also: [] },
  'src/guest': {
    own: 'src/guest/',
    also: ['src/abi/', 'src/machine/core.ts', 'src/machine/memory.ts', 'src/errno.ts'],
  },
  'src/xenstore': { own: 'src/xenstore/', also: [] },
}

describe('boundaries', () => {
  it.each(Object.entries(FOLDERS))('%s imports only what the design allows', (folder, { own, also }) => {
    const all = files(folder)
    expect(all.length).toBeGreaterThan(1)
    for (const file of all)
      for (const path of imports(file))
        expect(
          [own, ...also].some((allowed) => path.startsWith(allowed)),
          `${file} imports ${path}`,
        ).toBe(true)
  })

  it('only core.ts knows WebAssembly instances and modules', () => {
    for (const file of inLibrary) {
      if (file === 'src/machine/core.ts') continue
      const text = readFileSync(join(ROOT, file), 'utf8')
      expect(/WebAssembly\.(Instance|Module|compile|instantiate)/.test(text), file).toBe(false)
    }
  })

  it('the library, but for the command, imports no part of Node and no package but bitset', () => {
    for (const file of inLibrary)
      for (const path of imports(file))
        expect(path.startsWith('src/') || path === 'bitset', `${file} imports ${path}`).toBe(true)
  })

  it('what the library imports is installed with it: bitset is its only dependency', () => {
    const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
    expect(Object.keys(dependencies)).toEqual(['bitset'])
  })

  it('nothing in the library looks at the time or waits for it by itself', () => {
    const forbidden =
      /\b(setTimeout|setInterval|Date\.now|performance\.now|new Date\b|process\.|require\(|document\.|window\.)/
    for (const file of inLibrary) {
      const code = readFileSync(join(ROOT, file), 'utf8').replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')
      expect(forbidden.exec(code)?.[0], file).toBeUndefined()
    }
  })

  it('nothing in the library imports the command', () => {
    for (const file of inLibrary)
      for (const path of imports(file)) expect(path.startsWith('src/cli/'), file).toBe(false)
  })

  it('there is no circle of imports', () => {
    const done = new Set<string>()
    const visit = (file: string, trail: string[]) => {
      expect(trail.includes(file), `${[...trail, file].join(' → ')}`).toBe(false)
      if (done.has(file)) return
      for (const path of imports(file)) if (path.startsWith('src/')) visit(path, [...trail, file])
      done.add(file)
    }
    for (const file of SRC) visit(file, [])
    expect(done.size).toBeGreaterThanOrEqual(SRC.length)
  })
})
