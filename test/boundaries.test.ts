/**
 * Who may import whom: one table for all rooms, checked on the imports themselves. A room imports only rooms below it;
 * types count as well. A room that is listed with an index is entered by that index only.
 */

import { readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** What stands under every room: error numbers, checks of arguments, calls of user's functions, the clock's interface, the queue, turns of the event loop. */
const FOUNDATION = ['errno.ts', 'check.ts', 'callout.ts', 'clock.ts', 'queue.ts', 'turns.ts']
/** What other clients of the store are built from. */
const STORE_CLIENT = ['xenstore/index.ts', 'xenstore/parts.ts']
const DOM0_KERNEL = ['dom0/kernel/index.ts']
const XENBUS = [...DOM0_KERNEL, 'dom0/xenbus/index.ts']

/** Each room of src/ and what it may import beside itself: a room, or one file of it. */
const ROOMS: Record<string, readonly string[]> = {
  'errno.ts': [],
  'check.ts': [],
  'callout.ts': [],
  'clock.ts': ['check.ts', 'callout.ts'],
  'queue.ts': [],
  'turns.ts': [],
  abi: [],
  machine: [...FOUNDATION, 'abi', 'generated'],
  domain: [...FOUNDATION, 'abi', 'machine'],
  trace: [...FOUNDATION, 'abi'],
  host: [...FOUNDATION, 'abi', 'machine', 'trace/index.ts', 'domain'],
  hypercalls: [...FOUNDATION, 'abi', 'machine', 'trace/index.ts', 'domain', 'host'],
  migration: [...FOUNDATION, 'abi', 'machine', 'domain', 'host', 'hypercalls'],
  dump: [...FOUNDATION, 'abi', 'domain', 'host'],
  guest: [...FOUNDATION, 'abi', 'machine'],
  variants: [...FOUNDATION, 'abi', 'guest/index.ts', 'host'],
  // Sees the hypervisor through the private memory and a mailbox.
  vcpu: [...FOUNDATION, 'abi', 'machine'],
  hypervisor: [
    ...FOUNDATION,
    'abi',
    'machine',
    'trace/index.ts',
    'domain',
    'host',
    'hypercalls',
    'migration',
    'dump',
    'guest/index.ts',
  ],
  'index.ts': [
    ...FOUNDATION,
    'abi',
    'machine',
    'trace/index.ts',
    'domain',
    'host',
    'hypercalls',
    'migration',
    'dump',
    'guest',
    'hypervisor/index.ts',
  ],
  xenstore: [...FOUNDATION, 'trace/index.ts'],
  'dom0/kernel': [...FOUNDATION, 'trace/index.ts'],
  'dom0/io': FOUNDATION,
  'dom0/xenbus': [...FOUNDATION, ...DOM0_KERNEL, ...STORE_CLIENT],
  'dom0/backends': [...FOUNDATION, ...XENBUS, 'dom0/io'],
  'dom0/frontends': [...FOUNDATION, ...XENBUS, 'dom0/io/index.ts'],
  'dom0/toolstack': [...FOUNDATION, ...XENBUS, ...STORE_CLIENT],
  'dom0/host': [
    ...FOUNDATION,
    ...XENBUS,
    'abi',
    'machine',
    'domain',
    'guest/index.ts',
    'hypervisor/index.ts',
    'xenstore/index.ts',
    'dom0/backends/index.ts',
    'dom0/frontends/index.ts',
    'dom0/toolstack/index.ts',
  ],
  'dom0/story': [
    'check.ts',
    'clock.ts',
    ...XENBUS,
    'dom0/toolstack/index.ts',
    'dom0/host/host.ts',
    'dom0/host/options.ts',
  ],
  dom0: [
    ...['dom0/io', ...XENBUS, 'dom0/backends', 'dom0/frontends'],
    ...['dom0/toolstack', 'dom0/host', 'dom0/story/index.ts'],
  ],
  // An emulator's host: an embedder with dom0's driver and a store.
  x86: [
    ...FOUNDATION,
    'abi',
    'machine/core.ts',
    'machine/foreign.ts',
    'domain/handles.ts',
    'domain/upcall.ts',
    'guest/index.ts',
    'host/options.ts',
    'host/world.ts',
    'migration/format.ts',
    'hypervisor/index.ts',
    'xenstore/index.ts',
    'dom0/io/index.ts',
    'dom0/host/ring_ends.ts',
  ],
  scenarios: [...FOUNDATION, 'dom0'],
  // node/hostd brings native programs to the hypervisor: it is an embedder, and speaks the ABI.
  node: [
    ...FOUNDATION,
    'abi',
    'domain/handles.ts',
    'guest/index.ts',
    'guest/xenevtchn.ts',
    'dom0',
    'xenstore/index.ts',
    'hypervisor/index.ts',
  ],
  // Commands use what a user of the package has, and the scenarios.
  cli: [
    ...FOUNDATION,
    'abi',
    'index.ts',
    'machine/core.ts',
    'trace/index.ts',
    'xenstore/index.ts',
    ...XENBUS,
    'dom0/index.ts',
    'dom0/backends/pvcalls/index.ts',
    'scenarios',
    'node',
  ],
}

/** Room of a file in src/: its folder, a room of dom0, or the file itself where it lies at the top. */
function roomOf(file: string): string {
  const parts = file.split('/').slice(1)
  if (parts.length === 1) return parts[0]!
  return parts[0] === 'dom0' && parts.length > 2 ? `dom0/${parts[1]}` : parts[0]!
}

function files(folder: string): string[] {
  return readdirSync(join(ROOT, folder)).flatMap((name) => {
    const path = join(folder, name)
    if (statSync(join(ROOT, path)).isDirectory()) return files(path)
    return /\.ts$/.test(name) && !name.endsWith('.d.ts') ? [path] : []
  })
}

/** Imports of a file: paths inside the repository as `src/domain/domain.ts`, packages by name. */
function imports(file: string): string[] {
  const text = readFileSync(join(ROOT, file), 'utf8')
  const found = text.matchAll(/^(?:import|export)\b[^'"`;]*?from '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm)
  return [...found].map((match) => {
    const path = match[1] ?? match[2] ?? match[3]!
    if (!path.startsWith('.')) return path
    return relative(ROOT, resolve(ROOT, dirname(file), path)).replace(/\.js$/, '.ts')
  })
}

const SRC = files('src').filter((file) => roomOf(file) !== 'generated')
/** What runs without Node: everything but the command and the room that is for Node. */
const PORTABLE = SRC.filter((file) => !['cli', 'node'].includes(roomOf(file)))

/** Does the rule of `room` let it import `path`? */
function allowed(room: string, path: string): boolean {
  const target = path.slice('src/'.length)
  return ROOMS[room]!.some((may) => may === target || target.startsWith(`${may}/`))
}

describe('boundaries', () => {
  it('every room of src/ is in the table, and every row of the table is a room', () => {
    expect([...new Set(SRC.map(roomOf))].sort()).toEqual(Object.keys(ROOMS).sort())
  })

  it.each(Object.keys(ROOMS))('%s imports only what the table allows', (room) => {
    for (const file of SRC.filter((each) => roomOf(each) === room))
      for (const path of imports(file))
        if (path.startsWith('src/') && roomOf(path) !== room)
          expect(allowed(room, path), `${file} imports ${path}`).toBe(true)
  })

  it('the table has no circle: each room stands above all that it imports', () => {
    const done = new Set<string>()
    const visit = (room: string, trail: readonly string[]) => {
      expect(trail.includes(room), [...trail, room].join(' → ')).toBe(false)
      if (done.has(room)) return
      for (const file of SRC.filter((each) => roomOf(each) === room))
        for (const path of imports(file))
          if (path.startsWith('src/') && roomOf(path) !== room && roomOf(path) !== 'generated')
            visit(roomOf(path), [...trail, room])
      done.add(room)
    }
    for (const room of Object.keys(ROOMS)) visit(room, [])
    expect(done.size).toBe(Object.keys(ROOMS).length)
  })

  it('there is no circle of files', () => {
    const done = new Set<string>()
    const visit = (file: string, trail: readonly string[]) => {
      expect(trail.includes(file), `${[...trail, file].join(' → ')}`).toBe(false)
      if (done.has(file)) return
      for (const path of imports(file)) if (path.startsWith('src/')) visit(path, [...trail, file])
      done.add(file)
    }
    for (const file of SRC) visit(file, [])
    expect(done.size).toBeGreaterThanOrEqual(SRC.length)
  })

  it('assembly/ imports nothing but itself', () => {
    const all = files('assembly')
    expect(all.length).toBeGreaterThan(1)
    for (const file of all)
      for (const path of imports(file)) expect(path.startsWith('assembly/'), `${file} imports ${path}`).toBe(true)
  })

  it('only machine/ knows WebAssembly instances and modules', () => {
    for (const file of PORTABLE) {
      if (roomOf(file) === 'machine') continue
      const text = readFileSync(join(ROOT, file), 'utf8')
      expect(/WebAssembly\.(Instance|Module|compile|instantiate)/.test(text), file).toBe(false)
    }
  })

  it('outside node/ and cli/, src/ imports no part of Node and no package but bitset', () => {
    for (const file of PORTABLE)
      for (const path of imports(file))
        expect(path.startsWith('src/') || path === 'bitset', `${file} imports ${path}`).toBe(true)
  })

  it('what the library imports is installed with it: bitset is its only dependency', () => {
    const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
    expect(Object.keys(dependencies)).toEqual(['bitset'])
  })

  it('outside node/ and cli/, nothing reads the time or waits by itself', () => {
    const forbidden =
      /\b(setTimeout|setInterval|Date\.now|performance\.now|new Date\b|process\.|require\(|document\.|window\.)/
    for (const file of PORTABLE) {
      const code = readFileSync(join(ROOT, file), 'utf8').replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')
      expect(forbidden.exec(code)?.[0], file).toBeUndefined()
    }
  })
})
