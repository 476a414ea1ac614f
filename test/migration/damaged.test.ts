/** Damaged and hostile states: refused with a message that names the field, and the target is exactly as it was. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { inside } from '../../src/domain/handles.js'
import { Errno, RestoreError, SAVE_VERSION, SavedStateError, type SavedTransparent } from '../../src/index.js'
import { expectSame, hostText, throughJson } from './facts.js'
import { machine } from './machines.js'

/** A state with something in every part. */
function soundState(levels: 3 | 'fifo'): SavedTransparent {
  const { host, domain } = machine({ channels: 4, vcpus: 2, levels })
  inside(domain).pirqs.permitted.add(3)
  domain.eventChannelOp('bind_pirq', { pirq: 3 })
  domain.eventChannelOp('bind_virq', { virq: 0, vcpu: 1 })
  domain.eventChannelOp('bind_ipi', { vcpu: 1 })
  domain.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 7 })
  inside(domain).startPoll(inside(domain.vcpu(1)), 2)
  return throughJson(host.xen.saveDomain(host.xen.domain(1)!, { mode: 'transparent' }))
}

const SOUND = soundState(3)
const FIFO = soundState('fifo')
const OPTIONS = { pirqs: [3] }

/** A target with something on it. */
const target = machine({ channels: 2 })
const BEFORE = hostText(target.host.xen)
const room = { ...OPTIONS, domid: 5 }

function refusal(state: unknown, options = room): Error & { field?: string } {
  let thrown: unknown
  try {
    target.host.xen.restoreDomain(state, options)
  } catch (error) {
    thrown = error
  }
  expect(thrown, 'refused').toBeInstanceOf(Error)
  expectSame(target.host.xen, BEFORE, 'the target is as it was')
  return thrown as Error
}

// biome-ignore lint/suspicious/noExplicitAny: these edits are what no type would allow
type Loose = any
const edited = (edit: (state: Loose) => void, sound = SOUND): unknown => {
  const copy = structuredClone(sound)
  edit(copy)
  return copy
}

/** Every path to a value in the state, but into the lists of frames and RAM, of which one element each is enough. */
function* paths(value: unknown, path: (string | number)[] = []): Generator<(string | number)[]> {
  if (path.length) yield path
  if (typeof value !== 'object' || value === null) return
  const keys = Array.isArray(value) ? [...value.keys()].slice(0, 2) : Object.keys(value)
  for (const key of keys) yield* paths((value as Record<string | number, unknown>)[key], [...path, key])
}

function at(state: unknown, path: readonly (string | number)[]): Loose {
  return path.reduce((value: Loose, key) => value[key], state)
}

function put(state: unknown, path: readonly (string | number)[], value: unknown): void {
  at(state, path.slice(0, -1))[path.at(-1)!] = value
}

const EMPTY: ReadonlySet<string | number> = new Set(['readOnly', 'xenPorts', 'ram', 'rows', 'pages'])
const NONSENSE: unknown[] = [undefined, Number.NaN, 0.5, -1.5, '', 'x', {}, [], 2 ** 53, 10n, () => 0, Symbol('s')]

describe('a damaged state', () => {
  it('NL-mig-4: the sound one is taken', () => {
    const restored = target.host.xen.restoreDomain(SOUND, room)
    expect(inside(restored).ports.activeEvtchns).toBe(8)
    target.host.xen.destroyDomain(target.host.xen.domain(5)!)
    expectSame(target.host.xen, BEFORE, 'the target is as it was')
  })

  it.each([
    ['no object', () => null, 'state'],
    ['text', () => 'evtchn-domain', 'state'],
    ['a list', () => [SOUND], 'state'],
    ['nothing', () => ({}), 'format'],
    ['another format', () => edited((s) => (s.format = 'xl')), 'format'],
    ['a version from the future', () => edited((s) => (s.version = SAVE_VERSION + 1)), 'version'],
    ['an unknown mode', () => edited((s) => (s.mode = 'live')), 'mode'],
    ['an unknown member', () => edited((s) => (s.privileged = true)), 'privileged'],
    ['no vCPUs', () => edited((s) => (s.vcpus = 0)), 'vcpus'],
    ['more vCPUs than told', () => edited((s) => (s.vcpus = 3)), 'vcpuState'],
    ['a fraction of a frame', () => edited((s) => (s.frames = 128.5)), 'frames'],
    ['shared_info outside RAM', () => edited((s) => (s.sharedInfoGfn = 128)), 'sharedInfoGfn'],
    ['a vcpu_info outside RAM', () => edited((s) => (s.vcpuState[1].infoGfn = 128)), 'vcpuState[1].infoGfn'],
    ['a vcpu_info across a page', () => edited((s) => (s.vcpuState[1].infoOffset = 4064)), 'vcpuState[1].infoOffset'],
    ['a crooked vcpu_info', () => edited((s) => (s.vcpuState[1].infoOffset = 2)), 'vcpuState[1].infoOffset'],
    ['a poll that does not block', () => edited((s) => (s.vcpuState[1].blocked = false)), 'vcpuState[1].poll'],
    [
      'a leaf frame outside RAM',
      () => edited((s) => (s.abi.registration.pendingGfns[2] = 128)),
      'abi.registration.pendingGfns[2]',
    ],
    ['a leaf frame too few', () => edited((s) => s.abi.registration.maskGfns.pop()), 'abi.registration.maskGfns'],
    [
      'a selector frame outside RAM',
      () => edited((s) => (s.abi.selectors[0].areas[0].gfns[0] = 2 ** 40)),
      'abi.selectors[0].areas[0].gfns[0]',
    ],
    [
      'a selector beyond its page',
      () => edited((s) => (s.abi.selectors[0].areas[0].offset = 4088)),
      'abi.selectors[0].areas[0]',
    ],
    [
      'selectors of another size',
      () =>
        edited((s) => (s.abi.selectors[1] = { levels: 3, nrPages: 1, bits: 64, areas: [{ gfns: [4], offset: 0 }] })),
      'abi.selectors[1]',
    ],
    ['an ABI of the future', () => edited((s) => (s.abi.name = 'fifo2')), 'abi.name'],
    ['a port twice', () => edited((s) => s.ports.ipi.rows.push([...s.ports.ipi.rows[0]])), 'ports.ipi[1].port'],
    [
      'a port in two states',
      () => edited((s) => s.ports.ipi.rows.push([s.ports.virq.rows[0][0], 0])),
      'ports.ipi[1].port',
    ],
    ['port 0', () => edited((s) => (s.ports.ipi.rows[0][0] = 0)), 'ports.ipi[0].port'],
    ['a vCPU that does not exist', () => edited((s) => (s.ports.ipi.rows[0][1] = 2)), 'ports.ipi[0].vcpu'],
    [
      'two ports with one other end',
      () => edited((s) => (s.ports.interdomain.rows[1][3] = s.ports.interdomain.rows[0][3])),
      'ports.interdomain[1].remotePort',
    ],
    ['a short row', () => edited((s) => s.ports.interdomain.rows[2].pop()), 'ports.interdomain[2]'],
    ['a column too few', () => edited((s) => s.ports.unbound.columns.pop()), 'ports.unbound.columns'],
    ['a state of ports that does not exist', () => edited((s) => (s.ports.xen = [])), 'ports.xen'],
    ['objects fewer than ports', () => edited((s) => (s.validEvtchns = 0)), 'validEvtchns'],
    ['half a bucket of objects', () => edited((s) => (s.validEvtchns = 100)), 'validEvtchns'],
    ['a PIRQ that does not exist', () => edited((s) => (s.nrPirqs = 2)), 'pirqs[0].pirq'],
    ['a PIRQ without its record', () => edited((s) => (s.pirqs.rows = [])), 'pirqs'],
    ['a record of another port', () => edited((s) => (s.pirqs.rows[0][1] = 1)), 'pirqs[0].port'],
    ['an EOI map outside RAM', () => edited((s) => (s.eoiMap = { gfn: 128, autoUnmask: false })), 'eoiMap.gfn'],
    ['a callback of 65 bits', () => edited((s) => (s.callbackVia = String(2n ** 64n))), 'callbackVia'],
    [
      'RAM that is no base64',
      () => edited((s) => (s.ram[0].base64 = `${s.ram[0].base64.slice(4)}#!?=`)),
      'ram[0].base64',
    ],
    ['RAM of half a frame', () => edited((s) => (s.ram[0].base64 = s.ram[0].base64.slice(0, 2048))), 'ram[0].base64'],
    ['RAM that overlaps', () => edited((s) => (s.ram[1].gfn = s.ram[0].gfn)), 'ram[1].gfn'],
    ['RAM beyond the end', () => edited((s) => (s.ram.at(-1).base64 = 'A'.repeat(5464 * 128))), 'ram['],
  ])('NL-mig-4: %s is refused by name', (_, make, field) => {
    const error = refusal(make())
    expect(error).toBeInstanceOf(SavedStateError)
    expect(error.field).toContain(field)
    expect(error.message).toContain(`saved domain: ${field}`)
    expect(error.message.length).toBeLessThan(400)
  })

  describe.each([
    ['levels', SOUND],
    ['FIFO', FIFO],
  ])('of a guest on %s', (_, sound) => {
    it('NL-mig-4: any member that is missing is named', () => {
      for (const path of paths(sound)) {
        const key = path.at(-1)!
        if (typeof key === 'number') continue
        const error = refusal(edited((state) => delete at(state, path.slice(0, -1))[key], sound))
        expect(error, path.join('.')).toBeInstanceOf(SavedStateError)
        expect(error.field, path.join('.')).toContain(String(key))
      }
    })

    it('NL-mig-4: any value that is nonsense is refused by a field on its path', () => {
      for (const path of paths(sound))
        for (const nonsense of NONSENSE) {
          if (nonsense === undefined && typeof path.at(-1) === 'number') continue
          const original = at(sound, path)
          // An empty list is a sound one.
          if (Array.isArray(original) && Array.isArray(nonsense) && EMPTY.has(path.at(-1)!)) continue
          const state = edited((copy) => put(copy, path, nonsense), sound)
          const error = refusal(state)
          expect(error instanceof SavedStateError || error instanceof RestoreError, `${path.join('.')}: ${error}`).toBe(
            true,
          )
          expect(error.field, `${path.join('.')} = ${String(nonsense)}`).toContain(String(path[0]))
          expect(error.message.length).toBeLessThan(400)
        }
    })

    it('NL-mig-4: numbers of a sound state, changed at random, are refused or restored without harm', () => {
      const numbers = [...paths(sound)].filter((path) => typeof at(sound, path) === 'number' && path[0] !== 'frames')
      fc.assert(
        fc.property(
          fc.constantFrom(...numbers),
          fc.oneof(fc.nat(200), fc.integer(), fc.constantFrom(2 ** 31 - 1, 2 ** 31, 2 ** 32, 0x7ff0)),
          (path, value) => {
            const state = edited((copy) => put(copy, path, value), sound)
            try {
              target.host.xen.restoreDomain(state, { ...room, maxEvtchnPort: 1 << 18 })
            } catch (error) {
              if (!(error instanceof SavedStateError) && !(error instanceof RestoreError)) throw error
            }
            if (target.host.xen.domain(5)) {
              target.host.xen.startDomain(target.host.xen.domain(5)!)
              target.host.xen.sendVirq(target.host.xen.domain(5)!.vcpu(1), 0)
              for (const _ of target.host.xen.dump({ domid: 5 }));
              target.host.xen.destroyDomain(target.host.xen.domain(5)!)
            }
          },
        ),
        { numRuns: 150 },
      )
      // Whatever it was, the others keep what they had; only a peer that was waiting could have been bound.
      expectSame(target.host.xen, BEFORE, 'the target is as it was')
    })
  })

  it('NL-mig-4: a text that was cut off anywhere is refused or no JSON', () => {
    const text = JSON.stringify(SOUND)
    fc.assert(
      fc.property(fc.nat(text.length - 1), (end) => {
        let state: unknown
        try {
          state = JSON.parse(text.slice(0, end))
        } catch {
          return
        }
        refusal(state)
      }),
      { numRuns: 30 },
    )
  })

  it('NL-mig-4: anything at all is refused, and nothing but an error of ours comes of it', () => {
    fc.assert(
      fc.property(fc.anything({ withBigInt: true, withDate: true, withMap: true, withTypedArray: true }), (state) => {
        expect(refusal(state)).toBeInstanceOf(SavedStateError)
      }),
      { numRuns: 40 },
    )
  })

  it('NL-mig-4: megabytes of garbage in a field are refused by a short message', () => {
    const long = 'x'.repeat(8 << 20)
    const huge = Array(1 << 20).fill(1e9)
    for (const [field, edit] of [
      ['format', (s: Loose) => (s.format = long)],
      [long.slice(0, 40), (s: Loose) => (s[long] = 1)],
      ['ports.interdomain', (s: Loose) => (s.ports.interdomain.rows = huge)],
      ['readOnly', (s: Loose) => (s.readOnly = huge)],
      ['vcpuState', (s: Loose) => (s.vcpuState = huge)],
      ['ram', (s: Loose) => (s.ram = huge)],
      ['ram[0].base64', (s: Loose) => (s.ram[0].base64 = long)],
      ['abi.selectors', (s: Loose) => (s.abi.selectors = huge)],
      ['callbackVia', (s: Loose) => (s.callbackVia = '9'.repeat(1 << 20))],
    ] as const) {
      const error = refusal(edited(edit))
      expect(error).toBeInstanceOf(SavedStateError)
      expect(error.field).toContain(field)
      expect(error.message.length).toBeLessThan(400)
    }
  })

  it('a port beyond the new host’s limit is ENOSPC, and ports that only existed are not', () => {
    const error = refusal(SOUND, { ...room, maxEvtchnPort: 5 } as typeof room)
    expect(error).toMatchObject({ errno: Errno.ENOSPC })
    const restored = target.host.xen.restoreDomain(SOUND, { ...room, maxEvtchnPort: 8 })
    expect(inside(restored).ports.validEvtchns).toBe(64)
    target.host.xen.destroyDomain(target.host.xen.domain(5)!)
  })
})
