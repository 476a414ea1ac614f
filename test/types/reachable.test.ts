/**
 * What hangs on the exported objects: everything that a walk finds from them without calling a method (own properties,
 * getters of their classes, elements, entries) is a public object or plain data. Nothing of the hypervisor's own is there.
 */

import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import * as abi from '../../src/abi/index.js'
import { Host } from '../../src/dom0/index.js'
import * as evtchn from '../../src/index.js'
import * as xenstore from '../../src/xenstore/index.js'

const SRC = fileURLToPath(new URL('../../src/', import.meta.url))
/** Rooms whose classes hold what the hypervisor believes. */
const ROOMS = ['domain', 'host', 'hypercalls', 'migration', 'machine', 'xenstore']
/** What the walk may find. */
const PUBLIC_TYPES = ['Domain', 'Vcpu', 'Migration', 'GuestMemory']

type Class = new (...args: never[]) => object
const isClass = (value: unknown): value is Class =>
  typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value))

/** Classes that no reader can name. */
async function innerClasses(): Promise<Map<unknown, string>> {
  const handles = await import('../../src/domain/handles.js')
  const exported = new Set<unknown>([
    ...Object.values(evtchn),
    ...Object.values(xenstore),
    handles.Domain,
    handles.Vcpu,
  ])
  exported.add((await import('../../src/migration/handle.js')).Migration)
  exported.add((await import('../../src/xenstore/handles.js')).Connection)
  const inner = new Map<unknown, string>()
  for (const room of ROOMS)
    for (const file of readdirSync(SRC + room).filter((name) => name.endsWith('.ts'))) {
      const module = await import(`${SRC}${room}/${file}`)
      for (const [name, value] of Object.entries(module))
        if (isClass(value) && !exported.has(value)) inner.set(value, `${room}/${file}: ${name}`)
    }
  return inner
}

/** Every object that is reachable from `root`, by the path that leads to it. What a getter copies each time is not live. */
function* walk(root: object, path: string): Generator<[string, object, boolean]> {
  const seen = new Set<unknown>()
  const waiting: [string, unknown, boolean][] = [[path, root, true]]
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const [at, value, live] = next
    if (typeof value !== 'object' || value === null || seen.has(value)) continue
    seen.add(value)
    yield [at, value, live]
    if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) continue
    if (value instanceof Map || value instanceof Set)
      for (const each of value.entries()) waiting.push([`${at}[…]`, each, live])
    for (let owner: object | null = value; owner && owner !== Object.prototype; owner = Object.getPrototypeOf(owner))
      for (const name of Reflect.ownKeys(owner)) {
        if (name === '__proto__') continue
        try {
          const found = Reflect.get(value, name)
          waiting.push([`${at}.${String(name)}`, found, found === Reflect.get(value, name)])
        } catch {
          // A getter that refuses gives nothing.
        }
      }
  }
}

let inner: Map<unknown, string>
beforeAll(async () => {
  inner = await innerClasses()
})

/** Paths to the hypervisor's own objects, and to containers that can be changed. */
function leaks(root: object, path: string): string[] {
  const found: string[] = []
  for (const [at, value, live] of walk(root, path)) {
    const own = inner.get(value.constructor)
    if (own) found.push(`${at} is ${own}`)
    else if (!live) continue
    else if (value instanceof Map || value instanceof Set) found.push(`${at} is a ${value.constructor.name}`)
    else if (Array.isArray(value) && !Object.isFrozen(value)) found.push(`${at} is an array that is not frozen`)
  }
  return found
}

describe('nothing of the hypervisor is reachable', () => {
  const xen = evtchn.Hypervisor.create()
  const domain = xen.createDomain({ domid: 1, vcpus: 2 })
  domain.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 1 })
  const guest = xen.createDomain({ domid: 2 })
  const migration = xen.beginMigration(guest, { mode: 'cooperative' })

  it('finds what is to be found', () => {
    expect(inner.size).toBeGreaterThan(20)
    for (const name of PUBLIC_TYPES)
      expect([...inner.values()].filter((text) => text.endsWith(`handles.ts: ${name}`))).toEqual([])
    expect(leaks({ deep: [new Map()] }, 'x')).toEqual(['x.deep is an array that is not frozen', 'x.deep.0 is a Map'])
  })
  it('from a hypervisor', () => expect(leaks(xen, 'xen')).toEqual([]))
  it('from a domain', () => expect(leaks(domain, 'domain')).toEqual([]))
  it('from a vCPU', () => expect(leaks(domain.vcpu(1), 'vcpu')).toEqual([]))
  it('from a memory', () => expect(leaks(domain.memory, 'memory')).toEqual([]))
  it('from a migration, but for its state, which is the caller’s', () => {
    expect(leaks(migration, 'migration').filter((text) => !text.startsWith('migration.state.'))).toEqual([])
    for (const name of Object.getOwnPropertyNames(migration))
      expect(Object.getOwnPropertyDescriptor(migration, name)).toMatchObject({ writable: false })
  })
  it('from a device and its handle', () => {
    const device = new evtchn.EvtchnDevice(xen.boot({ domid: 6 }))
    const handle = device.open()
    handle.bindUnboundPort(6)
    expect([...leaks(device, 'device'), ...leaks(handle, 'handle')]).toEqual([])
  })
  it('from a host of domains, with guests and their devices', () => {
    const host = new Host()
    host.complete('xl', host.toolstack.create({ name: 'g', nics: [{}], disks: [{ dev: 'xvda' }], pvcalls: true }))
    host.pass(1)
    expect(host.guest(1).pvcalls.connected).toBe(true)
    expect(leaks(host, 'host')).toEqual([])
  })
  it('from what a dump yields', () => {
    const items = [...xen.dumpItems()]
    expect(items.length).toBeGreaterThan(2)
    for (const item of items) expect(leaks(item, 'item')).toEqual([])
  })
  it('the tables of the package are frozen', () => {
    const open = Object.entries({ ...evtchn, ...abi }).filter(
      ([, value]) => typeof value === 'object' && !Object.isFrozen(value),
    )
    // A map cannot be frozen: its type is read-only.
    expect(open.map(([name]) => name)).toEqual(['EVTCHNOP_NAMES'])
  })
})
