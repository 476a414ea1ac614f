/**
 * Options of the core: a misspelt name, a wrong value or two options that contradict each other end in a message that
 * names the call, the option, what was given and what is allowed. Nothing has changed then.
 */
import { afterEach, describe, expect, it } from 'vitest'
import { EvtchnDevice, GuestKernel, GuestMemory, Hypervisor, ParameterError, XenError } from '../src/index.js'

function machine() {
  const xen = Hypervisor.create()
  const domain = xen.createDomain({ domid: 1 })
  const kernel = GuestKernel.boot(xen.platform(domain))
  return { xen, domain, handle: () => new EvtchnDevice(kernel).open() }
}
type Machine = ReturnType<typeof machine>

/** A call with one misspelt option; the call as messages name it; the option; the one that was meant. */
const MISSPELT: [given: string, call: string, meant: string, run: (m: Machine, bad: object) => unknown][] = [
  ['onUpCall', 'Hypervisor.create', 'onUpcall', (_, bad) => Hypervisor.create(bad)],
  ['maxLevel', 'Hypervisor.create', 'maxLevels', (_, bad) => Hypervisor.create(bad)],
  ['upcal', 'Hypervisor.create', 'trace.upcall', (_, bad) => Hypervisor.create({ trace: bad })],
  ['vcpu', 'createDomain', 'vcpus', ({ xen }, bad) => xen.createDomain({ domid: 2, ...bad })],
  ['maxEvtchn', 'createDomain', 'maxEvtchnPort', ({ xen }, bad) => xen.createDomain({ domid: 2, ...bad })],
  ['replace', 'restoreDomain', 'replaces', ({ xen, domain }, bad) => xen.restoreDomain(xen.saveDomain(domain), bad)],
  ['freez', 'saveDomain', 'freeze', ({ xen, domain }, bad) => xen.saveDomain(domain, bad)],
  ['mod', 'beginMigration', 'mode', ({ xen, domain }, bad) => xen.beginMigration(domain, bad)],
  ['raise', 'startDomain', 'raised', ({ xen, domain }, bad) => xen.startDomain(domain, bad)],
  ['domId', 'dump', 'domid', ({ xen }, bad) => [...xen.dump(bad)]],
  ['slots', 'dump', 'slotsPerHold', ({ xen }, bad) => [...xen.dump(bad)]],
  [
    'notfy',
    'allocXenPort',
    'notify',
    ({ xen, domain }, bad) => xen.allocXenPort(domain, { remoteDomid: 0, notify() {}, ...bad }),
  ],
  [
    'ringsize',
    'xenevtchn_open',
    'ringSize',
    ({ xen, domain }, bad) => {
      new EvtchnDevice(GuestKernel.boot(xen.platform(domain))).open(bad)
    },
  ],
  ['frame', 'GuestMemory', 'frames', (_, bad) => new GuestMemory({ frames: 1, ...bad })],
]

describe('a misspelt option', () => {
  it.each(MISSPELT)('%s of %s: %s is told', (name, call, meant, run) => {
    const m = machine()
    const before = [...m.xen.dump()]
    let said = ''
    try {
      run(m, { [name]: 7 })
    } catch (error) {
      expect(error).toBeInstanceOf(ParameterError)
      said = (error as Error).message
    }
    expect(said).toContain(`${call}: `)
    expect(said).toContain(`${name} (7) is not an option; did you mean ${meant}?`)
    expect(said).toContain('allowed: ')
    expect([...m.xen.dump()]).toEqual(before)
    expect(m.xen.domids()).toEqual([1])
  })

  it('pending rejects what it does not know', async () => {
    await expect(
      machine()
        .handle()
        .pending({ signals: 1 } as object),
    ).rejects.toThrow('did you mean signal?')
    await expect(
      machine()
        .handle()
        .pending({ signal: 1 } as object),
    ).rejects.toThrow('signal is 1')
  })
})

describe('options that contradict each other', () => {
  const { xen } = machine()
  const plain = new WebAssembly.Memory({ initial: 16 })
  const shared = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true })

  it('shared: true beside a memory that is not shared says so', () => {
    expect(() => xen.createDomain({ domid: 2, memory: plain, shared: true })).toThrow(
      'createDomain: shared is true; allowed: false or nothing, for the given memory is not shared',
    )
  })

  it('shared: false beside a shared memory says so', () => {
    expect(() => xen.createDomain({ domid: 2, memory: shared, shared: false })).toThrow('the given memory is shared')
  })

  it('a shared memory needs no option', () => {
    expect(xen.createDomain({ domid: 2, memory: shared, shared: true }).memory.memory).toBe(shared)
    expect(xen.createDomain({ domid: 3, memory: plain }).memory.memory).toBe(plain)
  })
})

describe('a platform without', () => {
  const scope = globalThis as { crossOriginIsolated?: boolean }
  const { Memory } = WebAssembly
  afterEach(() => {
    delete scope.crossOriginIsolated
    WebAssembly.Memory = Memory
  })

  it('cross-origin isolation: shared: true says which headers are missing', () => {
    scope.crossOriginIsolated = false
    expect(() => Hypervisor.create().createDomain({ domid: 1, shared: true })).toThrow(
      /^createDomain: shared is true; allowed: false: .*Cross-Origin-Embedder-Policy: require-corp/,
    )
  })

  it('memory left: ENOMEM that names the call and the frames', () => {
    const xen = Hypervisor.create()
    WebAssembly.Memory = class {
      constructor() {
        throw new RangeError('could not allocate memory')
      }
    } as never
    const refusal = (run: () => unknown) => {
      try {
        run()
      } catch (error) {
        return error instanceof XenError ? `${error.code} ${error.message}` : error
      }
    }
    expect(refusal(() => xen.createDomain({ domid: 1, frames: 99 }))).toMatch(
      /^ENOMEM createDomain: .* 99 frames.*could not allocate memory/,
    )
    expect(refusal(() => new GuestMemory({ frames: 99 }))).toMatch(/^ENOMEM GuestMemory: /)
    expect(refusal(() => Hypervisor.create())).toMatch(/^ENOMEM Hypervisor.create: .*could not allocate memory/)
  })
})
