/**
 * The guest's driver (src/guest/kernel.ts) under random use: handlers that send, mask, unmask and move ports while they
 * run, small scan buffers, two vCPUs, every depth and width, FIFO; now and then all of it moves to the other window of the
 * memory. What must hold is said in counts: a handler runs after the
 * last event of its port unless the port is masked, never more often than there were events, and never while masked.
 */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Bits, DOMID_SELF, EVTCHNOP, PAGE_SIZE } from '../../src/abi/index.js'
import { GuestKernel, Hypervisor, type WantedLevels, XenError } from '../../src/index.js'
import { givenSeed, runsOr } from '../settings.js'

const FRAMES = 96
/** Beside the guest's first window and the two frames of its peer. */
const OTHER_WINDOW = (FRAMES + 2) * PAGE_SIZE

interface Form {
  bits: Bits
  levels: WantedLevels
  nrPages: number
}
const FORMS: Form[] = [
  { bits: 64, levels: 2, nrPages: 0 },
  { bits: 64, levels: 3, nrPages: 1 },
  { bits: 64, levels: 4, nrPages: 3 },
  { bits: 32, levels: 2, nrPages: 0 },
  { bits: 32, levels: 3, nrPages: 1 },
  { bits: 32, levels: 4, nrPages: 1 },
  { bits: 32, levels: 5, nrPages: 3 },
  { bits: 64, levels: 'fifo', nrPages: 0 },
  { bits: 32, levels: 'fifo', nrPages: 0 },
]

type Action = {
  do: 'open' | 'ipi' | 'send' | 'mask' | 'unmask' | 'move' | 'close' | 'migrate'
  which: number
  vcpu: number
}

interface Channel {
  port: number
  movable: boolean
  remote: number
  events: number
  runs: number
  lastEvent: number
  lastRun: number
  /** What its handler does, one at a run. */
  script: Action[]
}

const RUNS = runsOr(40)

class Driver {
  readonly xen: Hypervisor
  readonly kernel: GuestKernel
  readonly channels: Channel[] = []
  readonly #memory: WebAssembly.Memory
  #time = 0

  constructor(form: Form, memory: WebAssembly.Memory, batch: number) {
    new Uint8Array(memory.buffer).fill(0)
    this.#memory = memory
    let kernel: GuestKernel | undefined
    this.xen = Hypervisor.create({ onUpcall: (vcpu) => void (vcpu.domid === 1 && kernel?.upcall(vcpu.vcpuId)) })
    this.xen.createDomain({ domid: 2, frames: 2, memory, base: FRAMES * PAGE_SIZE })
    const domain = this.xen.createDomain({ domid: 1, bits: form.bits, vcpus: 2, frames: FRAMES, memory })
    const pages = form.nrPages ? { nrPages: form.nrPages } : {}
    kernel = GuestKernel.boot(this.xen.platform(domain), { levels: form.levels, batch, ...pages })
    expect(kernel.attempts).toEqual([{ levels: form.levels, nrPages: form.nrPages, answer: 'ok' }])
    this.kernel = kernel
  }

  open(movable: boolean, vcpu: number, script: Action[]): void {
    const channel: Channel = { port: 0, movable, remote: 0, events: 0, runs: 0, lastEvent: 0, lastRun: 0, script }
    const options = { vcpu, handler: () => this.#handle(channel) }
    if (movable) {
      // The binder gets one event (EC-inter-8).
      this.#happened(channel)
      channel.remote = this.xen.domain(2)!.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 1 }).port
      channel.port = this.kernel.bindInterdomain(2, channel.remote, options)
    } else channel.port = this.kernel.bindIpi(options)
    this.channels.push(channel)
  }

  #happened(channel: Channel): void {
    channel.events++
    channel.lastEvent = ++this.#time
  }

  #handle(channel: Channel): void {
    channel.runs++
    channel.lastRun = ++this.#time
    if (channel.runs > channel.events)
      expect.fail(`port ${channel.port}: ${channel.runs} runs, ${channel.events} events`)
    if (channel.port && this.kernel.isMasked(channel.port)) expect.fail(`port ${channel.port} was handled while masked`)
    const next = channel.script.shift()
    if (next && next.do !== 'open' && next.do !== 'ipi') this.perform(next)
  }

  perform({ do: what, which, vcpu }: Action): void {
    const channel = this.channels[which % Math.max(1, this.channels.length)]
    if (!channel) return
    const { port } = channel
    if (what === 'migrate') this.#migrate()
    else if (what === 'send') {
      this.#happened(channel)
      if (channel.remote) this.xen.domain(2)!.eventChannelOp('send', { port: channel.remote })
      else this.kernel.send(port)
    } else if (what === 'mask') this.kernel.mask(port)
    else if (what === 'unmask') this.kernel.unmask(port)
    else if (what === 'move') {
      if (channel.movable) this.kernel.moveToVcpu(port, vcpu)
      else expect(() => this.kernel.moveToVcpu(port, vcpu)).toThrow(XenError)
    } else if (what === 'close' && this.channels.length > 1) {
      this.channels.splice(this.channels.indexOf(channel), 1)
      this.kernel.close(port)
    }
  }

  /** To the other window, transparently; what was the first is filled with what would be a guest's ruin. */
  #migrate(): void {
    const { xen, kernel } = this
    const replaces = xen.beginMigration(xen.domain(1)!, { mode: 'transparent' })
    const old = xen.domain(1)!.memory
    const base = old.base ? 0 : OTHER_WINDOW
    const state = JSON.parse(JSON.stringify(replaces.state))
    const domain = xen.restoreDomain(state, { replaces, memory: this.#memory, base })
    old.view().fill(0xff)
    kernel.moveTo(xen.platform(domain))
    // Ends that are connected again get an event each to be safe (NL-mig-6).
    for (const channel of this.channels) if (channel.remote) this.#happened(channel)
    xen.startDomain(xen.domain(1)!)
  }

  check(what: string): void {
    for (const { port, lastEvent, lastRun, events, runs } of this.channels)
      if (lastEvent > lastRun && !this.kernel.isMasked(port))
        expect.fail(
          `${what}: port ${port} has had ${events} events and ${runs} runs, and the last event waits for ever`,
        )
  }
}

const action = (names: Action['do'][]): fc.Arbitrary<Action> =>
  fc.record({ do: fc.constantFrom(...names), which: fc.nat(63), vcpu: fc.nat(1) })
const step = fc.record({
  action: action([
    'open',
    'open',
    'ipi',
    'send',
    'send',
    'send',
    'mask',
    'unmask',
    'unmask',
    'move',
    'close',
    'migrate',
  ]),
  script: fc.array(action(['send', 'send', 'mask', 'unmask', 'move', 'close']), { maxLength: 4 }),
})

describe.each(FORMS)('the driver with $bits bits and $levels levels', (form) => {
  const memory = new WebAssembly.Memory({ initial: 13, maximum: 13 })

  it('NL-scan-5, NL-scan-6, NL-vcpu-1, NL-mig-5: loses no event and invents none, whatever its handlers do', () => {
    const batch = fc.constantFrom(1, 2, 3, 1024)
    const property = fc.property(batch, fc.array(step, { minLength: 1, maxLength: 60, size: 'max' }), (size, steps) => {
      const driver = new Driver(form, memory, size)
      for (const { action, script } of steps) {
        if (action.do === 'open' || action.do === 'ipi') driver.open(action.do === 'open', action.vcpu, [...script])
        else driver.perform(action)
        driver.check(JSON.stringify(action))
      }
    })
    fc.assert(property, { numRuns: RUNS, ...(givenSeed === undefined ? {} : { seed: givenSeed }) })
  })
})

describe('a port that cannot be moved', () => {
  it.each([2, 3, 4] as const)(
    'EC-vcpu-4, NL-vcpu-1: stays on its vCPU with %i levels, and loses no event that came meanwhile',
    (levels) => {
      for (const masked of [false, true]) {
        let kernel: GuestKernel | undefined
        let meanwhile = () => {}
        const xen = Hypervisor.create({ onUpcall: (vcpu) => void kernel?.upcall(vcpu.vcpuId) })
        const domain = xen.createDomain({ domid: 1, vcpus: 2, frames: 64 })
        const platform = xen.platform(domain)
        const hypercall: typeof platform.hypercall = (vcpu, op, args) => {
          if (args[0] === EVTCHNOP.bind_vcpu) meanwhile()
          return platform.hypercall(vcpu, op, args)
        }
        kernel = GuestKernel.boot({ ...platform, hypercall }, { levels, ...(levels > 2 ? { nrPages: 1 } : {}) })
        let handled = 0
        const port = kernel.bindIpi({ vcpu: 1, handler: () => void handled++ })
        if (masked) kernel.mask(port)
        meanwhile = () => void domain.vcpu(1).eventChannelOp('send', { port })
        expect(() => kernel.moveToVcpu(port, 0)).toThrow(XenError)
        expect([handled, kernel.isMasked(port)]).toEqual([masked ? 0 : 1, masked])
        meanwhile = () => {}
        expect(() => kernel.moveToVcpu(port, 2)).toThrow(TypeError)
        kernel.unmask(port)
        kernel.send(port)
        expect(handled).toBe(2)
      }
    },
  )
})
