/**
 * Guests without a driver: raw hypercalls with their structs in guest memory, and a picture of everything that a refused
 * call must leave as it was.
 *
 *     one memory   |… d0: control and hardware domain …|… d1 …|… d2 …|… d3, if a test makes it …|
 *     each window  gfn 0 empty · 1 shared_info · 2 arguments · 3 arguments that cannot be written · 4 … 15 free
 */

import { expect } from 'vitest'
import {
  type AllIn,
  type Args,
  type Bits,
  ECS,
  type EvtchnOpName,
  type OpArgs,
  type Out,
  PAGE_SIZE,
  sharedInfo,
  VCPU_INFO_SIZE,
} from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { toRegister } from '../../src/errno.js'
import { typedOperation } from '../../src/hypercalls/evtchn/index.js'
import { worldOf } from '../../src/hypervisor/index.js'
import {
  type DomainOptions,
  errnoName,
  Hypervisor,
  type HypervisorOptions,
  type Register,
  XenError,
} from '../../src/index.js'
import { RawGuest, SHARED_INFO } from '../raw_guest.js'

const FRAMES = 16

export { SHARED_INFO }
export const ARGUMENT = 2 * PAGE_SIZE
/** Can be read and not written: the copy-out fails. */
export const READ_ONLY = 3 * PAGE_SIZE
export const FREE_GFN = 4
/** First address behind the RAM. */
export const END = FRAMES * PAGE_SIZE
/** No memory there, in either width. */
export const NOWHERE = 0xf000_0000

/** One memory for all hosts of a file, cleared for each: engines reserve much for every memory. */
const PAGES = (4 * END) / 65536
const memory = new WebAssembly.Memory({ initial: PAGES, maximum: PAGES })

/** Where a call is made from and where its struct is. */
export interface Where {
  vcpu?: number
  at?: number
}

/** Members to write: those that are left out keep their bytes. */
export type Given<N extends EvtchnOpName> = Readonly<Partial<AllIn<N>>>

/** A domain as its own kernel without a driver has it. */
export class Guest extends RawGuest {
  constructor(xen: Hypervisor, options: Partial<DomainOptions> & { domid: number }) {
    super(xen, { memory, base: (options.domid % 4) * END, frames: FRAMES, ...options })
    this.domain.memory.protect(READ_ONLY / PAGE_SIZE)
  }

  get bits(): Bits {
    return this.domain.bits
  }

  // --- calls ---------------------------------------------------------------------------------------------------------

  /** Writes the struct of an operation at `at`. Members that are not given keep their bytes. */
  write<N extends EvtchnOpName>(name: N, args: Given<N>, at = ARGUMENT): void {
    this.put(name, args as Args, at)
  }

  /** An event channel operation with its struct in guest memory: what the hypercall returns. */
  op<N extends EvtchnOpName>(name: N, args: Given<N>, { vcpu = 0, at = ARGUMENT }: Where = {}): number {
    return this.issue(name, args as Args, vcpu, at)
  }

  /** The same as a name, `ok` or `EINVAL`. After an error everything must be as before it. */
  answer<N extends EvtchnOpName>(name: N, args: Given<N>, where: Where = {}): string {
    this.write(name, args, where.at)
    return unchanged(this.xen, () => this.op(name, args, where))
  }

  /** A hypercall as a name; after an error everything must be as before it. */
  callAnswer(nr: number, registers: readonly Register[], vcpu = 0): string {
    return unchanged(this.xen, () => this.call(nr, registers, vcpu))
  }

  /** An operation that must succeed, and its OUT members. */
  must<N extends EvtchnOpName>(name: N, args: Given<N>, where: Where = {}): Out<N> {
    expect(name + nameOf(this.op(name, args, where))).toBe(`${name}ok`)
    return this.out as Out<N>
  }

  /** An operation by itself, without a hypercall around it: for a domain that can make none any more. */
  inside<N extends EvtchnOpName>(name: N, args: OpArgs<N>): string {
    const caller = { domain: inside(this.domain), vcpu: inside(this.domain.vcpu(0)) }
    return nameOf(toRegister(typedOperation(worldOf(this.xen), caller, name, { ...args })))
  }

  // --- ports ---------------------------------------------------------------------------------------------------------

  /** A port that `remote` may bind to. */
  unbound(remote: number): number {
    return this.must('alloc_unbound', { dom: 0x7ff0, remote_dom: remote }).port
  }
  /** A port connected to a fresh one of `peer`: [ours, theirs]. Ours is not left pending. */
  connect(peer: Guest): [ours: number, theirs: number] {
    const theirs = peer.unbound(this.domain.domid)
    const ours = this.must('bind_interdomain', { remote_dom: peer.domain.domid, remote_port: theirs }).local_port
    this.quiet()
    return [ours, theirs]
  }
  /** A port for events among the vCPUs of this domain. */
  ipi(vcpu = 0): number {
    return this.must('bind_ipi', { vcpu }).port
  }
  /** A port for a VIRQ. */
  virq(virq: number, vcpu = 0): number {
    return this.must('bind_virq', { virq, vcpu }).port
  }
  /** Takes every port that is left, up to the domain's limit. */
  fill(): void {
    while (this.op('bind_ipi', { vcpu: 0 }) === 0);
  }
  state(port: number): number {
    return inside(this.domain).ports.state(port)
  }
  status(port: number): Out<'status'> {
    return this.must('status', { dom: 0x7ff0, port })
  }

  // --- words ---------------------------------------------------------------------------------------------------------

  bit(which: 'pending' | 'mask', port: number): number {
    return this.bitAt([SHARED_INFO + sharedInfo(this.bits)[which], port])
  }
  setBit(which: 'pending' | 'mask', port: number, value: 0 | 1 = 1): void {
    this.setBitAt([SHARED_INFO + sharedInfo(this.bits)[which], port], value)
  }
  /** evtchn_pending_sel of a vCPU in its legacy slot, or in the vcpu_info at `info`. */
  sel(vcpu = 0, info = SHARED_INFO + vcpu * VCPU_INFO_SIZE): bigint {
    const at = info + sharedInfo(this.bits).sel
    return this.bits === 64 ? this.view.getBigUint64(at, true) : BigInt(this.view.getUint32(at, true))
  }
  /** Nothing pending, no selector, no flag: as after a scan of every vCPU. */
  quiet(): void {
    const { pending, sel, words } = sharedInfo(this.bits)
    this.bytes.fill(0, SHARED_INFO + pending, SHARED_INFO + pending + (words * this.bits) / 8)
    for (let vcpu = 0; vcpu < Math.min(32, this.domain.vcpus.length); vcpu++) {
      const info = SHARED_INFO + vcpu * VCPU_INFO_SIZE
      this.bytes[info] = 0
      this.bytes.fill(0, info + sel, info + sel + this.bits / 8)
    }
  }
}

/** A host of three domains of one width. d1 and d2 are ordinary guests with two vCPUs and room for ports 1 to 100. */
export function host(bits: Bits, options: HypervisorOptions = {}, each: Partial<DomainOptions> = {}) {
  new Uint8Array(memory.buffer).fill(0)
  const xen = Hypervisor.create(options)
  const [d0, d1, d2] = [0, 1, 2].map(
    (domid) => new Guest(xen, { domid, bits, vcpus: 2, maxEvtchnPort: 100, nrPirqs: 32, ...each }),
  ) as [Guest, Guest, Guest]
  return { xen, d0, d1, d2 }
}

/** `ok`, or the name of -errno. */
export const nameOf = (rc: number): string => (rc < 0 ? errnoName(rc) : 'ok')

/** `ok`, or the errno's name of what `body` throws. */
export function codeOf(body: () => unknown): string {
  try {
    body()
  } catch (error) {
    if (error instanceof XenError) return error.code
    throw error
  }
  return 'ok'
}

/** Runs a call; if it fails, everything must be as before. */
export function unchanged(xen: Hypervisor, body: () => number): string {
  const before = picture(xen)
  const rc = body()
  if (rc < 0) expect(picture(xen)).toEqual(before)
  return nameOf(rc)
}

/** All that a refused call leaves alone: port tables, vCPUs, the dump, every byte of RAM. Growth is kept (EC-port-18). */
function picture(xen: Hypervisor): unknown {
  const domains = xen.domids().map((domid) => {
    const domain = xen.domain(domid)!
    const { ports, vcpus, pirqs, memory } = inside(domain)
    const taken = Array.from({ length: ports.validEvtchns }, (_, port) => port).filter(
      (port) => ports.state(port) !== ECS.FREE,
    )
    return {
      domid,
      alive: [
        domain.dying,
        domain.pauseCount,
        inside(domain).shutdownCode,
        inside(domain).nextEvtchn,
        inside(domain).levels,
      ],
      counts: [ports.activeEvtchns, ports.xenEvtchns, ports.lowestFree(1)],
      ports: taken.map((port) => [
        port,
        ports.state(port),
        ports.notifyVcpu(port),
        ports.consumer(port),
        ports.remoteDomid(port),
        ports.remotePort(port),
      ]),
      vcpus: vcpus.map((vcpu) => [
        inside(vcpu).info,
        inside(vcpu).infoGfn,
        inside(vcpu).upcallVector,
        vcpu.polling,
        inside(vcpu).pollEvtchn,
        vcpu.blocked,
        vcpu.down,
        inside(vcpu).firstPirqPort,
        Array.from({ length: 24 }, (_, virq) => inside(vcpu).virqPort(virq)),
      ]),
      pirqs: Array.from({ length: pirqs.nrPirqs }, (_, irq) => pirqs.find(irq)?.port ?? 0),
      held: memory.heldFrames,
      callbackVia: inside(domain).callbackVia,
      ram: Buffer.from(memory.view()).toString('latin1'),
    }
  })
  return { domains, dump: [...xen.dump()], timer: xen.nextTimerNs }
}
