/** Limits of a restored domain come from the caller, the source or the defaults of a new domain, and never from the state. */

import { describe, expect, it } from 'vitest'
import { inside } from '../../src/domain/handles.js'
import {
  type Domain,
  Errno,
  type RestoreOptions,
  type SavedDomain,
  type SavedLevels,
  type SavedTransparent,
} from '../../src/index.js'
import { Host, machine } from './machines.js'
import { refused, transparent } from './refusing.js'

const limits = (domain: Domain) => {
  const { maxEvtchnPort, pirqs, vcpus, memory, privileged, nlevelLimits, ports } = inside(domain)
  const { nlevelAllowed, maxLevels, maxLeafPages } = nlevelLimits
  return {
    maxEvtchnPort,
    nrPirqs: pirqs.nrPirqs,
    vcpus: vcpus.length,
    frames: memory.frames,
    portObjects: ports.validEvtchns,
    privileged: Number(privileged),
    nlevelAllowed: Number(nlevelAllowed),
    maxLevels,
    maxLeafPages,
  }
}

/** A guest on a host, with limits of its own. */
const guest = () => {
  const host = new Host()
  host.dom0()
  const domain = host.xen.createDomain({
    domid: 1,
    frames: 64,
    vcpus: 2,
    maxEvtchnPort: 10,
    nrPirqs: 16,
    nlevelAllowed: false,
  })
  domain.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 0 })
  return { host, domain }
}

const BIG = { maxEvtchnPort: 2 ** 31 - 1, nrPirqs: 32_768 }

/** Every member that is a number, by path. */
function* numbers(value: unknown, path: (string | number)[] = []): Generator<(string | number)[]> {
  if (typeof value === 'number') yield path
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return
  for (const [key, each] of Object.entries(value)) yield* numbers(each, [...path, key])
}

const set = (state: SavedDomain, path: readonly (string | number)[], value: number): SavedDomain => {
  const copy = structuredClone(state)
  // biome-ignore lint/suspicious/noExplicitAny: a path leads anywhere
  const parent = path.slice(0, -1).reduce((at: any, key) => at[key], copy)
  parent[path.at(-1)!] = value
  return copy
}

describe('limits of a restored domain', () => {
  it('NL-mig-9: those of the source, whatever the state says', () => {
    const { host, domain } = guest()
    const before = limits(domain)
    const replaces = transparent(host)
    const again = host.xen.restoreDomain({ ...replaces.state, ...BIG }, { replaces })
    expect(limits(again)).toEqual(before)
  })

  it('NL-mig-9: on another host those of a new domain, whatever the state says', () => {
    const { host } = guest()
    const { state } = transparent(host)
    const { xen } = new Host()
    const fresh = limits(xen.createDomain({ domid: 2, frames: 64, vcpus: 2 }))
    expect(limits(xen.restoreDomain({ ...state, ...BIG }))).toEqual({ ...fresh, portObjects: 64 })
  })

  it('NL-mig-9: a lower limit of the state stays', () => {
    const { host } = guest()
    const { state } = transparent(host)
    expect(limits(new Host().xen.restoreDomain(state))).toMatchObject({ maxEvtchnPort: 10, nrPirqs: 16 })
  })

  it('NL-mig-9: the caller grants more', () => {
    const { host } = guest()
    const { state } = transparent(host)
    const more = { maxEvtchnPort: 5000, nrPirqs: 300 }
    expect(limits(new Host().xen.restoreDomain(state, more))).toMatchObject(more)
  })

  it.each([
    ['frames', 65_537, {}, Errno.ENOMEM],
    ['frames', 2 ** 20, {}, Errno.ENOMEM],
    ['frames', 65, { maxFrames: 64 }, Errno.ENOMEM],
    ['vcpus', 129, {}, Errno.ENOSPC],
    ['vcpus', 8192, {}, Errno.ENOSPC],
    ['vcpus', 3, { maxVcpus: 2 }, Errno.ENOSPC],
  ] satisfies [string, number, RestoreOptions, number][])(
    'NL-mig-9: a state of few bytes with %s of %i is refused before anything of that size is made (%j)',
    (field, value, options, errno) => {
      const { host, domain } = guest()
      const state = host.xen.saveDomain(domain)
      expect(refused(new Host(), { ...state, [field]: value }, options)).toMatchObject({ field, errno })
    },
  )

  it('NL-mig-9: a source of its own size is replaced by no larger one', () => {
    const { host } = guest()
    const replaces = transparent(host)
    expect(refused(host, { ...replaces.state, frames: 65 }, { replaces })).toMatchObject({ field: 'frames' })
    const third = <T>(each: T[]): T[] => [...each, each[0]!]
    const { vcpuState, abi } = replaces.state as SavedTransparent & { abi: SavedLevels }
    const bigger = { vcpus: 3, vcpuState: third(vcpuState), abi: { ...abi, selectors: third(abi.selectors) } }
    expect(refused(host, { ...replaces.state, ...bigger }, { replaces })).toMatchObject({ field: 'vcpus' })
  })

  it('NL-mig-9: port objects are at most those that the ABI can name', () => {
    const { host } = guest()
    const { state } = transparent(host)
    const there = new Host().xen.restoreDomain({ ...state, validEvtchns: 2 ** 31 }, { maxEvtchnPort: Infinity })
    expect(limits(there).portObjects).toBe(4096)
  })

  it('NL-mig-9: a PIRQ beyond the limit here is refused by name', () => {
    const { host, domain } = guest()
    inside(domain).pirqs.permitted.add(9)
    domain.eventChannelOp('bind_pirq', { pirq: 9 })
    const { state } = transparent(host)
    const error = refused(new Host(), state, { nrPirqs: 9, pirqs: [9] })
    expect(error).toMatchObject({ field: 'pirqs[0].pirq', errno: Errno.ENOSPC })
  })

  it.each([2, 3, 'fifo'] as const)('NL-mig-9: no number of a state (%s), edited, gives its domain more', (levels) => {
    const each = machine({ levels, channels: 3, frames: 128, maxEvtchnPort: 200 })
    const { host } = each
    let domain = each.domain
    // Port objects beyond the open ones are no right; the port limit bounds them.
    const before = { ...limits(domain), portObjects: 256 }
    const state = host.xen.saveDomain(domain, { mode: 'transparent', freeze: false })
    for (const path of numbers(state))
      for (const value of [0, 1, 129, 1023, 32_767, 65_536, 2 ** 20, 2 ** 31 - 1, 2 ** 31, 2 ** 40]) {
        const replaces = host.xen.beginMigration(domain, { mode: 'transparent' })
        try {
          domain = host.xen.restoreDomain(set(state, path, value), { replaces })
        } catch {
          replaces.abort()
          continue
        }
        host.xen.startDomain(domain)
        for (const [name, had] of Object.entries(before))
          expect(
            limits(domain)[name as keyof typeof before],
            `${path.join('.')} = ${value}: ${name}`,
          ).toBeLessThanOrEqual(had)
        // The next one starts from a sound domain.
        const back = host.xen.beginMigration(domain, { mode: 'transparent' })
        domain = host.xen.restoreDomain(state, { replaces: back })
        host.xen.startDomain(domain)
      }
  })
})
