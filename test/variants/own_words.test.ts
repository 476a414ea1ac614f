/** An own ABI whose words are no tree: a byte a port, in one frame of the guest's. docs/own-abi.md builds this one. */

import { describe, expect, it } from 'vitest'
import { HYPERVISOR, PAGE_SIZE, struct, VIRQ } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { Errno, Hypervisor, type OwnAbi, type OwnWords, ParameterError } from '../../src/index.js'

const CMD = 200
const PENDING = 1
const MASKED = 2
const ARGUMENT = 0x3000
const WORDS_GFN = 5

/** Room for 4,096 ports: bit 0 of a port's byte is pending, bit 1 masked. */
class Bytes implements OwnWords {
  readonly maxEvtchns = PAGE_SIZE
  left_ = 0
  readonly #page: () => Uint8Array

  constructor(page: () => Uint8Array) {
    this.#page = page
  }
  setPending(port: number): boolean {
    const page = this.#page()
    const was = page[port]!
    page[port] = was | PENDING
    return (was & (PENDING | MASKED)) === 0
  }
  clearPending(port: number): void {
    this.#page()[port]! &= ~PENDING
  }
  unmask(port: number): boolean {
    const page = this.#page()
    const was = page[port]!
    page[port] = was & ~MASKED
    return (was & MASKED) !== 0 && (was & PENDING) !== 0
  }
  isPending(port: number): boolean {
    return (this.#page()[port]! & PENDING) !== 0
  }
  isMasked(port: number): boolean {
    return (this.#page()[port]! & MASKED) !== 0
  }
  left(): void {
    this.left_++
  }
}

const REGISTER = struct('evtchn_register_bytes', 16, {
  gfn: [0, 8, 'in'],
  nr_channels: [8, 4, 'out'],
  pad: [12, 4, 'in'],
})

function machine(wrap: (words: Bytes) => OwnWords = (words) => words) {
  const made: Bytes[] = []
  const bytes: OwnAbi = {
    name: 'bytes',
    operations: [
      {
        name: 'EVTCHNOP_register_bytes',
        cmd: CMD,
        struct: REGISTER,
        run(guest, args) {
          if (args.pad) return guest.refuse(Errno.EINVAL, 'pad is not 0')
          const { memory } = guest
          if (memory.frame(args.gfn!) < 0) return guest.refuse(Errno.EINVAL, `frame ${args.gfn} is not RAM`)
          const page = () => memory.view().subarray(args.gfn! * PAGE_SIZE, (args.gfn! + 1) * PAGE_SIZE)
          page().fill(MASKED)
          const words = new Bytes(page)
          made.push(words)
          args.nr_channels = PAGE_SIZE
          return guest.install(wrap(words))
        },
      },
    ],
  }
  const errors: string[] = []
  const upcalls: number[] = []
  const xen = Hypervisor.create({
    abis: [bytes],
    onError: (error, where) => void errors.push(`${where}: ${(error as Error).message}`),
    onUpcall: ({ vcpuId }) => void upcalls.push(vcpuId),
  })
  const domain = xen.createDomain({ domid: 1, vcpus: 2, frames: 16 })
  const view = new DataView(domain.memory.memory.buffer, domain.memory.base)
  const register = (gfn = WORDS_GFN, pad = 0) => {
    view.setBigUint64(ARGUMENT, BigInt(gfn), true)
    view.setUint32(ARGUMENT + 12, pad, true)
    return xen.hypercall(domain.vcpu(0), HYPERVISOR.event_channel_op, [CMD, ARGUMENT])
  }
  const byteOf = (port: number) => domain.memory.view()[WORDS_GFN * PAGE_SIZE + port]
  return { xen, domain, register, byteOf, errors, upcalls, made, view }
}

describe('words of an own ABI', () => {
  it('EC-send-7: are what sends, VIRQs and unmasks touch, and nothing of the bitmaps is', () => {
    const { xen, domain, register, byteOf, upcalls, view } = machine()
    expect(register()).toBe(0)
    expect(view.getUint32(ARGUMENT + 8, true)).toBe(PAGE_SIZE)
    const shared = () => domain.memory.view().slice(PAGE_SIZE + 2048, 2 * PAGE_SIZE)
    const before = shared()
    const { port } = domain.eventChannelOp('bind_ipi', { vcpu: 1 })
    domain.eventChannelOp('send', { port })
    expect([byteOf(port), upcalls]).toEqual([PENDING | MASKED, []])
    domain.eventChannelOp('unmask', { port })
    expect([byteOf(port), upcalls]).toEqual([PENDING, [1]])
    const { port: timer } = domain.eventChannelOp('bind_virq', { virq: VIRQ.TIMER, vcpu: 0 })
    domain.eventChannelOp('unmask', { port: timer })
    xen.sendVirq(domain.vcpu(0), VIRQ.TIMER)
    expect([byteOf(timer), upcalls]).toEqual([PENDING, [1, 0]])
    expect(shared()).toEqual(before)
  })

  it('NL-reg-4: get what was pending and masked on two levels', () => {
    const { domain, register, byteOf } = machine()
    const [a, b] = [0, 1].map((vcpu) => domain.eventChannelOp('bind_ipi', { vcpu }).port) as [number, number]
    const { core, sharedInfoAt } = inside(domain)
    // b is unmasked, a is not; both are pending.
    core.bitSet(sharedInfoAt + 2048 + 512, a)
    for (const port of [a, b]) domain.eventChannelOp('send', { port })
    expect(register()).toBe(0)
    expect([byteOf(a), byteOf(b)]).toEqual([PENDING | MASKED, PENDING])
  })

  it('EC-reset-9: are left by a reset, and told so once', () => {
    const { domain, register, made, byteOf } = machine()
    register()
    domain.eventChannelOp('reset', { dom: 0x7ff0 })
    expect(made[0]!.left_).toBe(1)
    const { port } = domain.eventChannelOp('bind_ipi', { vcpu: 0 })
    domain.eventChannelOp('send', { port })
    expect([byteOf(port), domain.isPending(port), inside(domain).levels]).toEqual([MASKED, true, 2])
    expect(register()).toBe(0)
  })

  it('EC-reset-9: are left when the domain dies', () => {
    const { xen, domain, register, made } = machine()
    register()
    xen.destroyDomain(domain)
    expect(made[0]!.left_).toBe(1)
  })

  it('NL-reg-1: are refused beside others, and as an argument that cannot be', () => {
    const { register, domain } = machine()
    expect(register(9999)).toBe(-Errno.EINVAL)
    expect(register(WORDS_GFN, 1)).toBe(-Errno.EINVAL)
    expect(register()).toBe(0)
    expect(register(6)).toBe(-Errno.EBUSY)
    expect(() => domain.eventChannelOp('init_control', { control_gfn: 7, offset: 0, vcpu: 0 })).toThrow(/EBUSY/)
    expect(domain.eventChannelOp('query_nlevel', { dom: 0x7ff0 }).abi).toBe(0x200)
  })

  it('do not unwind the host by what they throw: the event is reported as lost there, and others go on', () => {
    const { domain, register, errors, upcalls } = machine((words) =>
      Object.assign(Object.create(words) as OwnWords, {
        maxEvtchns: words.maxEvtchns,
        setPending(port: number): boolean {
          if (port === 1) throw new Error('no')
          return words.setPending(port)
        },
        unmask: (port: number) => words.unmask(port),
        isPending: (port: number) => words.isPending(port),
        isMasked: (port: number) => words.isMasked(port),
        clearPending: (port: number) => words.clearPending(port),
        left: () => words.left(),
      }),
    )
    register()
    const ports = [0, 0].map((vcpu) => domain.eventChannelOp('bind_ipi', { vcpu }).port)
    for (const port of ports) domain.eventChannelOp('unmask', { port })
    for (const port of ports) expect(domain.eventChannelOp('send', { port })).toEqual({})
    expect(errors).toEqual(["setPending of d1's own ABI: no"])
    expect(new Set(upcalls)).toEqual(new Set([0]))
  })

  it('EOPNOTSUPP: are not carried by a transparent state; a cooperative one starts on two levels', () => {
    const { xen, domain, register } = machine()
    register()
    expect(() => xen.saveDomain(domain, { mode: 'transparent' })).toThrow(/EOPNOTSUPP/)
    const there = Hypervisor.create()
    expect(inside(there.restoreDomain(xen.saveDomain(domain))).levels).toBe(2)
  })
})

describe('an own operation', () => {
  const operation = (cmd: number, run: () => never) => ({ name: 'EVTCHNOP_x', cmd, struct: REGISTER, run })

  it('that throws, or returns nonsense, is EIO for the guest and a report for the embedder', () => {
    const errors: string[] = []
    const xen = Hypervisor.create({
      onError: (error, where) => void errors.push(`${where}: ${(error as Error).message}`),
      abis: [
        {
          name: 'faults',
          operations: [
            operation(128, () => {
              throw new Error('no')
            }),
            operation(129, () => 7 as never),
          ],
        },
      ],
    })
    const domain = xen.createDomain({ domid: 1, frames: 16 })
    const call = (cmd: number) => xen.hypercall(domain.vcpu(0), HYPERVISOR.event_channel_op, [cmd, ARGUMENT])
    expect([call(128), call(129), call(130)]).toEqual([-Errno.EIO, -Errno.EIO, -Errno.ENOSYS])
    expect(errors).toEqual(['EVTCHNOP_x of d1: no'])
  })

  it.each([
    [
      [{ name: 'a', operations: [operation(64, () => 0 as never)] }],
      'abis[0].operations[0].cmd is 64; allowed: an integer from 128',
    ],
    [[{ name: 'a', operations: [{ cmd: 128 }] }], 'abis[0].operations[0].name is undefined'],
    [[{ operations: [] }], 'abis[0].name is undefined'],
    [
      ['a', 'b'].map((name) => ({ name, operations: [operation(128, () => 0 as never)] })),
      'abis: b is 128; allowed: a number that EVTCHNOP_x does not have',
    ],
  ])('that cannot be is refused when the host is created: %#', (abis, message) => {
    expect(() => Hypervisor.create({ abis: abis as never })).toThrow(ParameterError)
    expect(() => Hypervisor.create({ abis: abis as never })).toThrow(message)
  })
})
