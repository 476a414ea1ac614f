/**
 * Replays a recorded trace (FORMAT.md) against the library and compares every line with what Xen's own code did.
 *
 * A hypercall is made as a guest makes it: struct in guest memory, registers, -errno. What a guest does to its own
 * words is done to the domain's bytes; what the environment does goes through `Hypervisor`. After each operation all
 * that the trace tells of it is compared; a `state` line is built anew from the library's port tables and from the
 * bytes of shared_info, of event words and of control blocks.
 *
 *     gfn   0 … 158  RAM that a trace may name        160  shared_info, not mappable by the guest
 *           159      RAM that is never writable       161  arguments that can be read but not written: fault "out"
 *                                                     162  arguments
 */

import { inside } from '../../src/domain/handles.js'
import { worldOf } from '../../src/hypervisor.js'
import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { reset, resetCont } from '../../src/hypercalls/evtchn/close.js'
import { type Args, type Bits, CONTROL_BLOCK, DOMID_SELF, decode, ECS, EVTCHN_FIFO_PRIORITY_DEFAULT, EVTCHN_STRUCTS, EVTCHNOP, EVTCHNSTAT, type EvtchnOpName, encode, HYPERVISOR, PAGE_SIZE, SCHEDOP, type Struct, sharedInfo, UPCALL_MASK, UPCALL_PENDING, VCPU_INFO_SIZE } from '../../src/abi/index.js'
import { type Domain, Hypervisor, type Vcpu, XenError } from '../../src/index.js'
import { toRegister } from '../../src/errno.js'

const UNWRITABLE_GFN = 159
const SHARED_INFO_GFN = 160
const READ_ONLY_GFN = 161
const ARGUMENT_GFN = 162
const FRAMES = 163
const NR_PIRQS = 64

/** Fault "in" and "range": no such memory, in either width. */
const NOWHERE = 0xf000_0000
/** Fault "copy": a second address of the argument frame, which is there when it is checked and gone when it is read. */
const VANISHING = 0x4000_0000

/** Byte offset of the ports in the argument frame, behind struct sched_poll. */
const POLL_PORTS = 64

/** First line of a trace. */
interface Header {
  name: string
  abi: '2l' | 'fifo' | 'mixed'
  domains: { domid: number; vcpus: number; bits: Bits; maxPort: number; control?: boolean }[]
}

/** An operation as recorded. */
interface Operation {
  dom: number
  vcpu: number
  op: string
  args: Readonly<Record<string, unknown>>
}

/** What an operation did, in the words of the trace: absent members are absent there too. */
interface Result {
  rc: number
  out?: unknown
  upcalls?: number[][]
  unblocked?: number[][]
  notified?: number[][]
}

/** Reads a trace: its lines as values; the header is line 1. */
export function readTrace(file: string): { header: Header; lines: Record<string, unknown>[] } {
  const text = readFileSync(new URL(file, import.meta.url), 'utf8')
  const lines = text.trimEnd().split('\n')
  const parsed = lines.map((line) => JSON.parse(line) as Record<string, unknown>)
  return { header: parsed[0] as unknown as Header, lines: parsed }
}

/**
 * Replays the lines of a trace before line `end` (1-based; default all of them). Answers how many lines were compared.
 * @throws Error naming file, line and operation, what the trace has and what the library did.
 */
export function replay(file: string, end = Number.POSITIVE_INFINITY): number {
  const { header, lines } = readTrace(file)
  const machine = new Machine(header)
  let compared = 0
  let last = 'the beginning'
  for (const [index, line] of lines.entries()) {
    if (index === 0) continue
    if (index + 1 >= end) break
    const where = `${file}:${index + 1}`
    if (line.op !== undefined) {
      const { i: _, dom, vcpu, op, args, ...expected } = line as unknown as Operation & { i: number }
      last = `d${dom}v${vcpu} ${op} ${JSON.stringify(args)}`
      const got = attempt(where, last, () => machine.operate({ dom, vcpu, op, args }))
      compare(where, last, expected, got)
    } else if (line.state) compareState(where, `state after ${last}`, line.state as object[], machine.state())
    else if (line.dump !== undefined) compareDump(where, `dump after ${last}`, line.dump as string, machine.dump())
    else throw new Error(`${where}: a line of unknown kind: ${JSON.stringify(line)}`)
    compared++
  }
  return compared
}

/** What the library throws where it should not is a mismatch too, and says where. */
function attempt<T>(where: string, what: string, body: () => T): T {
  try {
    return body()
  } catch (cause) {
    throw new Error(`${where}: ${what}: ${cause}`, { cause })
  }
}

function compare(where: string, what: string, expected: unknown, got: unknown): void {
  if (isDeepStrictEqual(expected, got)) return
  throw new Error(`${where}: ${what}\n  expected ${JSON.stringify(expected)}\n  got      ${JSON.stringify(got)}`)
}

/** Domain by domain and member by member, so that a mismatch shows what differs and not all ports of all domains. */
function compareState(where: string, what: string, expected: object[], got: object[]): void {
  const domids = (state: object[]) => state.map((domain) => (domain as { domid: number }).domid)
  compare(where, `${what}: domains`, domids(expected), domids(got))
  for (const [i, domain] of expected.entries()) {
    const mine = new Map(Object.entries(got[i]!))
    const theirs = new Map(Object.entries(domain))
    for (const name of new Set([...theirs.keys(), ...mine.keys()]))
      compare(where, `${what}: ${name} of d${theirs.get('domid')}`, theirs.get(name), mine.get(name))
  }
}

/** Line by line, for the same reason. */
function compareDump(where: string, what: string, expected: string, got: string): void {
  const theirs = expected.split('\n')
  const mine = got.split('\n')
  for (let i = 0; i < Math.max(theirs.length, mine.length); i++)
    compare(where, `${what}: line ${i + 1}`, theirs[i], mine[i])
}

/** A host as the traces have it, with everything that it does noted down. */
class Machine {
  readonly xen: Hypervisor
  readonly clock = { ns: 0, nowNs: () => this.clock.ns, wallclockNs: () => 0n }
  /** Checks for preemption that still answer no; -1 = all of them. */
  preemptAfter = -1
  /** What the last poll of each vCPU gave as its time-out in ns; 0 = for ever. */
  readonly timeouts = new Map<Vcpu, number>()
  /** Look-ups in the vanishing frame that still succeed. */
  lookUps = 0
  #upcalls: number[][] = []
  #unblocked: number[][] = []
  #notified: number[][] = []

  constructor(header: Header) {
    this.xen = Hypervisor.create({
      clock: this.clock,
      // As in Xen, where these command numbers do not exist.
      nlevel: false,
      preempt: () => this.preemptAfter >= 0 && this.preemptAfter-- === 0,
      onUnblock: (vcpu) => void this.#unblocked.push([vcpu.domid, vcpu.vcpuId]),
      trace: { upcall: (vcpu) => void this.#upcalls.push([vcpu.domid, vcpu.vcpuId]) },
    })
    // Recorded was the event channel code alone. What raises VIRQ_DOM_EXC when a domain dies (EC-die-1) is in Xen's
    // domain.c and was not part of it: domain_kill tears channels down, and nobody is told.
    worldOf(this.xen).virqs.domainChanged = () => {}
    for (const { control, ...domain } of header.domains) this.createDomain({ ...domain, privileged: control ?? false })
  }

  createDomain(given: { domid: number; vcpus: number; bits: Bits; maxPort: number; privileged: boolean }): void {
    const { maxPort, ...options } = given
    const domain = this.xen.createDomain({
      ...options,
      maxEvtchnPort: maxPort,
      frames: FRAMES,
      sharedInfoGfn: SHARED_INFO_GFN,
      nrPirqs: NR_PIRQS,
      translate: (_vcpu, gva) => (gva < VANISHING || gva >= NOWHERE ? gva : this.lookUps-- > 0 ? gva - VANISHING : -1),
    })
    for (const gfn of [UNWRITABLE_GFN, SHARED_INFO_GFN, READ_ONLY_GFN]) domain.memory.protect(gfn)
  }

  /** The one function in Xen that every Xen-attached port calls. */
  readonly notify = (vcpu: Vcpu, port: number): void => void this.#notified.push([vcpu.domid, vcpu.vcpuId, port])

  vcpu(domid: number, vcpuId: number): Vcpu {
    return this.xen.domain(domid)!.vcpu(vcpuId)
  }

  /** Performs an operation and tells what came of it. */
  operate(operation: Operation): Result {
    this.#upcalls = []
    this.#unblocked = []
    this.#notified = []
    const result: Result = perform(this, operation)
    if (this.#upcalls.length) result.upcalls = this.#upcalls
    if (this.#unblocked.length) result.unblocked = this.#unblocked
    if (this.#notified.length) result.notified = this.#notified
    return result
  }

  state(): object[] {
    return this.xen.domids().map((domid) => domainState(this.xen.domain(domid)!))
  }

  dump(): string {
    return [...this.xen.dump(), ''].join('\n')
  }
}

// --- operations ------------------------------------------------------------------------------------------------------

function perform(machine: Machine, operation: Operation): Result {
  const { dom, vcpu: vcpuId, op, args } = operation
  const environment = ENVIRONMENT[op]
  if (environment) return errnoOf(() => environment(machine, args as Numbers, dom))
  const vcpu = machine.vcpu(dom, vcpuId)
  if (op in EVTCHNOP) return eventChannelOp(machine, vcpu, op as EvtchnOpName, args)
  const hypercall = HYPERCALLS[op]
  if (hypercall) return hypercall(machine, vcpu, args)
  const guest = GUEST[op]
  const domain = machine.xen.domain(dom)!
  const fifo = FIFO_GUEST[op]
  if (fifo && (inside(domain).fifo || op === 'fill_page')) return done(fifo(new FifoWords(domain), vcpuId, args))
  if (guest) return done(guest(new SharedInfo(domain), vcpuId, args))
  throw new Error('no such operation')
}

type Numbers = Readonly<Record<string, number>>

const done = (out: unknown): Result => (out === undefined ? { rc: 0 } : { rc: 0, out })

/** What a method of Hypervisor answers, or the errno that it throws. */
function errnoOf(method: () => unknown): Result {
  try {
    return done(method())
  } catch (error) {
    if (error instanceof XenError) return { rc: -error.errno }
    throw error
  }
}

/** The bytes of a frame, as the guest that owns it sees them. */
function frameOf(domain: Domain, gfn: number): DataView {
  const { buffer, byteOffset } = domain.memory.view()
  return new DataView(buffer, byteOffset + gfn * PAGE_SIZE, PAGE_SIZE)
}

/** HYPERVISOR_event_channel_op with its struct in guest memory; bytes that are not IN hold garbage before the call. */
function eventChannelOp(machine: Machine, vcpu: Vcpu, op: EvtchnOpName, given: Operation['args']): Result {
  const { fault, ...args } = given
  if ((op === 'reset' || op === 'reset_cont') && machine.preemptAfter >= 0)
    return {
      rc: toRegister((op === 'reset' ? reset : resetCont)(worldOf(machine.xen), { domain: inside(machine.xen.domain(vcpu.domid)!), vcpu: inside(vcpu) }, args as { dom: number })),
    }
  const gfn = fault === 'out' ? READ_ONLY_GFN : ARGUMENT_GFN
  const struct: Struct = EVTCHN_STRUCTS[op]
  const view = frameOf(machine.xen.domain(vcpu.domid)!, gfn)
  for (let i = 0; i < struct.size; i++) view.setUint8(i, 0xa5)
  encode(struct, view, args as Args)
  // A frame number with all its 64 bits, which no number holds.
  for (const [name, value] of Object.entries(args))
    if (typeof value === 'string') view.setBigUint64(struct.fields[name]!.offset, BigInt(value), true)
  const gva = fault === 'in' ? NOWHERE : gfn * PAGE_SIZE
  const rc = machine.xen.hypercall(vcpu, HYPERVISOR.event_channel_op, [EVTCHNOP[op], gva])
  const names = rc === 0 ? outNames(op, view) : []
  if (!names.length) return { rc }
  const after = decode(struct, view, 'out')
  return { rc, out: Object.fromEntries(names.map((name) => [name, after[name]])) }
}

/** The OUT members of a struct; of the union in evtchn_status, those that belong to the status. */
function outNames(op: EvtchnOpName, view: DataView): string[] {
  const names = Object.entries(EVTCHN_STRUCTS[op].fields).flatMap(([name, { dir }]) => (dir === 'out' ? [name] : []))
  if (op !== 'status') return names
  return ['status', 'vcpu', ...(STATUS_UNION[decode(EVTCHN_STRUCTS.status, view, 'out').status] ?? [])]
}

const STATUS_UNION: Readonly<Record<number, string[]>> = {
  [EVTCHNSTAT.unbound]: ['unbound_dom'],
  [EVTCHNSTAT.interdomain]: ['interdomain_dom', 'interdomain_port'],
  [EVTCHNSTAT.pirq]: ['pirq'],
  [EVTCHNSTAT.virq]: ['virq'],
}

type Hypercall = (machine: Machine, vcpu: Vcpu, args: Operation['args']) => Result

/** Hypercalls that are no EVTCHNOP of their own, and the shorthands for many of one kind. */
const HYPERCALLS: Readonly<Record<string, Hypercall>> = {
  // The argument of a command that does not exist is not touched (EC-op-1): nowhere is good enough.
  evtchn_op: ({ xen }, vcpu, { cmd }) => ({
    rc: xen.hypercall(vcpu, HYPERVISOR.event_channel_op, [cmd as number, NOWHERE]),
  }),
  fill_unbound(machine, vcpu, { count, remote_dom }) {
    const out = { done: 0, last_port: 0 }
    while (out.done < (count as number)) {
      const { rc, out: made } = eventChannelOp(machine, vcpu, 'alloc_unbound', { dom: DOMID_SELF, remote_dom })
      if (rc) return { rc, out }
      out.done++
      out.last_port = (made as { port: number }).port
    }
    return { rc: 0, out }
  },
  close_range(machine, vcpu, { first, last }) {
    let closed = 0
    for (let port = first as number; port <= (last as number); port++)
      if (eventChannelOp(machine, vcpu, 'close', { port }).rc === 0) closed++
    return { rc: 0, out: { closed } }
  },
  poll,
}

/** SCHEDOP_poll; struct and ports are in the argument frame. */
function poll(machine: Machine, vcpu: Vcpu, args: Operation['args']): Result {
  const domain = machine.xen.domain(vcpu.domid)!
  const { fault } = args
  const ports = args.ports as number[]
  const view = frameOf(domain, ARGUMENT_GFN)
  const at = ARGUMENT_GFN * PAGE_SIZE
  const list = fault === 'range' ? NOWHERE : at + POLL_PORTS + (fault === 'copy' ? VANISHING : 0)
  const nrPorts = (args.nr_ports as number | undefined) ?? ports.length
  const timeoutNs = BigInt(args.timeout as number)
  machine.timeouts.set(vcpu, args.timeout as number)
  if (domain.bits === 64) {
    view.setBigUint64(0, BigInt(list), true)
    view.setUint32(8, nrPorts, true)
    view.setBigUint64(16, timeoutNs, true)
  } else {
    view.setUint32(0, list, true)
    view.setUint32(4, nrPorts, true)
    view.setBigUint64(8, timeoutNs, true)
  }
  for (const [i, port] of ports.entries()) view.setUint32(POLL_PORTS + 4 * i, port, true)
  machine.lookUps = 1
  const gva = fault === 'in' ? NOWHERE : at
  const rc = machine.xen.hypercall(vcpu, HYPERVISOR.sched_op, [SCHEDOP.poll, gva])
  return { rc, out: { blocked: vcpu.polling } }
}

/** Answers `out`; undefined = none. */
type Environment = (machine: Machine, args: Numbers, current: number) => unknown

/** What happens to domains from outside: the controller, the host's interrupts, Xen's own users of ports. */
const ENVIRONMENT: Readonly<Record<string, Environment>> = {
  send_virq: ({ xen }, { domid, vcpu, virq }) => xen.sendVirq(xen.domain(domid!)!.vcpu(vcpu!), virq!),
  send_domain_virq: ({ xen }, { domid, virq }) => xen.sendDomainVirq(xen.domain(domid!)!, virq!),
  send_global_virq: ({ xen }, { virq }) => xen.sendGlobalVirq(virq!),
  send_pirq: ({ xen }, { domid, pirq }) => xen.sendPirq(xen.domain(domid!)!, pirq!),
  set_global_virq_handler: ({ xen }, { domid, virq }) => xen.setGlobalVirqHandler(xen.domain(domid!)!, virq!),
  virq_enabled: ({ xen }, { domid, vcpu, virq }) => ({
    enabled: worldOf(xen).virqs.enabled(inside(xen.domain(domid!)!), vcpu!, virq!),
  }),
  domain_pause: ({ xen }, { domid }) => xen.pauseDomain(xen.domain(domid!)!),
  domain_unpause: ({ xen }, { domid }) => xen.unpauseDomain(xen.domain(domid!)!),
  domain_kill: ({ xen }, { domid }) => xen.killDomain(xen.domain(domid!)!),
  domain_destroy: ({ xen }, { domid }) => xen.destroyDomain(xen.domain(domid!)!),
  domain_create: (machine, args) =>
    machine.createDomain({
      domid: args.domid!,
      vcpus: args.vcpus!,
      bits: args.bits as Bits,
      maxPort: args.maxPort!,
      privileged: false,
    }),
  set_target: ({ xen }, { domid, target }) => xen.setTarget(xen.domain(domid!)!, xen.domain(target!)!),
  set_preempt(machine, { after }) {
    machine.preemptAfter = after!
  },
  /** The recorder also fired the timer of a poll that waits for ever, which has none: a wake-up without a cause. */
  poll_timeout({ xen, clock, timeouts }, { domid, vcpu: vcpuId }) {
    const vcpu = xen.domain(domid!)!.vcpu(vcpuId!)
    clock.ns = timeouts.get(vcpu) ?? 0
    if (clock.ns) xen.runTimers()
    else inside(xen.domain(domid!)!).unblock(inside(vcpu))
    clock.ns = 0
  },
  xen_alloc_unbound: ({ xen, notify }, { domid, vcpu, remote_dom }, current) => ({
    port: xen.allocXenPort(xen.domain(domid!)!, { vcpuId: vcpu!, remoteDomid: remote_dom!, notify, caller: xen.domain(current)! }),
  }),
  xen_notify: ({ xen }, { domid, port }) => xen.notifyViaXenPort(xen.domain(domid!)!, port!),
  xen_free: ({ xen }, { domid, port }) => xen.freeXenPort(xen.domain(domid!)!, port!),
}

// --- the guest's own words -------------------------------------------------------------------------------------------

/** shared_info as its guest reads and writes it. Little-endian, so bit p is bit p & 7 of byte p >> 3 in both widths. */
class SharedInfo {
  readonly bits: Bits
  readonly layout: ReturnType<typeof sharedInfo>
  readonly #view: DataView

  constructor(domain: Domain) {
    this.bits = domain.bits
    this.layout = sharedInfo(domain.bits)
    this.#view = frameOf(domain, SHARED_INFO_GFN)
  }

  byte(vcpuId: number, offset: number): number {
    return this.#view.getUint8(vcpuId * VCPU_INFO_SIZE + offset)
  }
  setByte(vcpuId: number, offset: number, value: number): void {
    this.#view.setUint8(vcpuId * VCPU_INFO_SIZE + offset, value)
  }

  bit(bitmap: number, port: number): boolean {
    return ((this.#view.getUint8(bitmap + (port >> 3)) >> (port & 7)) & 1) === 1
  }
  setBit(bitmap: number, port: number, value: boolean): void {
    const at = bitmap + (port >> 3)
    const bit = 1 << (port & 7)
    const old = this.#view.getUint8(at)
    this.#view.setUint8(at, value ? old | bit : old & ~bit)
  }
  /** Ports below `end` whose bit is set. */
  ports(bitmap: number, end: number): number[] {
    const found: number[] = []
    for (let port = 0; port < end; port++) if (this.bit(bitmap, port)) found.push(port)
    return found
  }

  /** The word of the guest's width at a byte offset. */
  word(at: number): bigint {
    return this.bits === 64 ? this.#view.getBigUint64(at, true) : BigInt(this.#view.getUint32(at, true))
  }
  setWord(at: number, value: bigint): void {
    if (this.bits === 64) this.#view.setBigUint64(at, value, true)
    else this.#view.setUint32(at, Number(value), true)
  }
  /** Byte offset of a vCPU's evtchn_pending_sel. */
  sel(vcpuId: number): number {
    return vcpuId * VCPU_INFO_SIZE + this.layout.sel
  }
}

/** Answers `out`; undefined = none. */
type Guest = (info: SharedInfo, vcpuId: number, args: Operation['args']) => unknown

/** What a vCPU does to its own memory; nothing here enters the hypervisor. */
const GUEST: Readonly<Record<string, Guest>> = {
  guest_mask: (info, _, { port }) => info.setBit(info.layout.mask, port as number, true),
  guest_unmask: (info, _, { port }) => info.setBit(info.layout.mask, port as number, false),
  guest_clear_pending: (info, _, { port }) => info.setBit(info.layout.pending, port as number, false),
  guest_scan: (info, vcpuId) => ({ ports: scan(info, vcpuId) }),
  set_guest_word(info, _, args) {
    const index = args.index as number
    const value = BigInt(args.value as number | string)
    switch (args.where) {
      case 'pending':
      case 'mask':
        return info.setWord(info.layout[args.where] + (index * info.bits) / 8, value)
      case 'sel':
        return info.setWord(info.sel(index), value)
      case 'upcall_pending':
        return info.setByte(index, UPCALL_PENDING, Number(value))
      case 'upcall_mask':
        return info.setByte(index, UPCALL_MASK, Number(value))
      default:
        throw new Error('no such word')
    }
  },
}

/** A plain two-level scan (EC-guest-3): flag, selector, then words and ports in ascending order. */
function scan(info: SharedInfo, vcpuId: number): number[] {
  const { pending, mask } = info.layout
  info.setByte(vcpuId, UPCALL_PENDING, 0)
  const selected = info.word(info.sel(vcpuId))
  info.setWord(info.sel(vcpuId), 0n)
  const ports: number[] = []
  for (let word = 0; word < info.bits; word++) {
    if (!((selected >> BigInt(word)) & 1n)) continue
    for (let port = word * info.bits; port < (word + 1) * info.bits; port++) {
      if (!info.bit(pending, port) || info.bit(mask, port)) continue
      info.setBit(pending, port, false)
      ports.push(port)
    }
  }
  return ports
}

/** Event words and control blocks as their guest reads and writes them; it registered them and knows where they are. */
class FifoWords {
  readonly domain: Domain

  constructor(domain: Domain) {
    this.domain = domain
  }

  /** The word of a port; null = the array has no page for it. */
  #word(port: number): DataView | null {
    const gfn = inside(this.domain).fifo?.pageGfns[port >> 10]
    if (gfn === undefined) return null
    const page = frameOf(this.domain, gfn)
    return new DataView(page.buffer, page.byteOffset + (port & 1023) * 4, 4)
  }
  has(port: number): boolean {
    return this.#word(port) !== null
  }
  word(port: number): number {
    return this.#word(port)?.getUint32(0, true) ?? 0
  }
  setWord(port: number, value: number): void {
    this.#word(port)?.setUint32(0, value >>> 0, true)
  }

  /** A vCPU's control block; null = none. */
  block(vcpuId: number): DataView | null {
    const block = inside(this.domain).fifo?.controlBlock(vcpuId)
    if (!block) return null
    const page = frameOf(this.domain, block.gfn)
    return new DataView(page.buffer, page.byteOffset + block.offset, CONTROL_BLOCK.size)
  }
  takeReady(block: DataView): number {
    const ready = block.getUint32(0, true)
    block.setUint32(0, 0, true)
    return ready & 0xffff
  }
}

const PENDING = 0x8000_0000
const MASKED = 0x4000_0000
const LINKED = 0x2000_0000
const LINK = 0x1_ffff

/** The same actions on the FIFO ABI. */
const FIFO_GUEST: Readonly<Record<string, (words: FifoWords, vcpuId: number, args: Operation['args']) => unknown>> = {
  guest_mask: (words, _, { port }) => words.setWord(port as number, words.word(port as number) | MASKED),
  guest_unmask: (words, _, { port }) => words.setWord(port as number, words.word(port as number) & ~MASKED),
  guest_clear_pending: (words, _, { port }) => words.setWord(port as number, words.word(port as number) & ~PENDING),
  guest_scan(words, vcpuId) {
    new SharedInfo(words.domain).setByte(vcpuId, UPCALL_PENDING, 0)
    return { ports: fifoScan(words, vcpuId) }
  },
  set_guest_word(words, vcpuId, args) {
    const value = Number(args.value as number | string)
    switch (args.where) {
      case 'fifo_word':
        return words.setWord(args.index as number, value)
      case 'fifo_ready':
        return words.block(args.index as number)?.setUint32(0, value, true)
      default:
        return GUEST.set_guest_word!(new SharedInfo(words.domain), vcpuId, args)
    }
  },
  fill_page({ domain }, _, { gfn, value }) {
    const page = frameOf(domain, gfn as number)
    for (let at = 0; at < PAGE_SIZE; at += 4) page.setUint32(at, Number(value as number | string), true)
  },
}

/** Consumes the queues of a vCPU as FORMAT.md has it. */
function fifoScan(words: FifoWords, vcpuId: number): number[] {
  const block = words.block(vcpuId)
  const ports: number[] = []
  if (!block) return ports
  const head = Array<number>(16).fill(0)
  let ready = words.takeReady(block)
  while (ready) {
    const q = 31 - Math.clz32(ready & -ready)
    const port = head[q] || block.getUint32(CONTROL_BLOCK.heads + 4 * q, true)
    if (!port || !words.has(port)) {
      head[q] = 0
      ready &= ~(1 << q)
      continue
    }
    const word = words.word(port)
    const link = word & LINK
    words.setWord(port, word & ~(LINKED | LINK))
    if (!link) ready &= ~(1 << q)
    if (word & PENDING && !(word & MASKED)) {
      words.setWord(port, words.word(port) & ~PENDING)
      ports.push(port)
    }
    head[q] = link
    ready |= words.takeReady(block)
  }
  return ports
}

// --- state -----------------------------------------------------------------------------------------------------------

const DYING = { alive: 0, dying: 1, dead: 2 } as const

/** One entry of a state line. Members that are 0 or empty by default are absent, as in the trace. */
function domainState(domain: Domain): object {
  const info = new SharedInfo(domain)
  const { ports, vcpus } = inside(domain)
  const polling = vcpus.filter((vcpu) => vcpu.polling).map((vcpu) => [vcpu.vcpuId, inside(vcpu).pollEvtchn])
  return {
    domid: domain.domid,
    abi: inside(domain).fifo ? 'fifo' : inside(domain).levels === 2 ? '2l' : `${inside(domain).levels} levels`,
    ...(domain.dying !== 'alive' && { dying: DYING[domain.dying] }),
    valid: ports.validEvtchns,
    active: ports.activeEvtchns,
    ...(ports.xenEvtchns && { xen: ports.xenEvtchns }),
    ...(inside(domain).nextEvtchn && { resetNext: inside(domain).nextEvtchn }),
    ...(domain.pauseCount && { paused: domain.pauseCount }),
    pending: info.ports(info.layout.pending, domain.bits ** 2),
    masked: info.ports(info.layout.mask, Math.min(ports.validEvtchns, domain.bits ** 2)),
    sel: vcpus.map(({ vcpuId }) => info.word(info.sel(vcpuId)).toString(16)),
    upcall: vcpus.map(({ vcpuId }) => info.byte(vcpuId, UPCALL_PENDING)),
    ...(polling.length && { polling }),
    ports: portStates(domain),
    ...fifoState(domain),
  }
}

/** What the hypervisor keeps private is compared as well: saved events and tails. */
function fifoState(domain: Domain): object {
  const { fifo, ports, vcpus } = inside(domain)
  const valid = Array.from({ length: ports.validEvtchns }, (_, port) => port)
  const saved = valid.filter((port) => ports.savedPending(port))
  const words = new FifoWords(domain)
  const queues = (of: (q: number) => number) =>
    Object.fromEntries(Array.from({ length: 16 }, (_, q) => [q, of(q)]).filter(([, port]) => port))
  return {
    ...(saved.length && { saved }),
    ...(fifo && {
      pages: fifo.nrPages,
      words: Object.fromEntries(
        valid.filter((port) => words.word(port)).map((port) => [port, words.word(port).toString(16)]),
      ),
      cb: vcpus.map(({ vcpuId }) => {
        const block = words.block(vcpuId)
        return (
          block && {
            ready: block.getUint32(0, true).toString(16),
            heads: queues((q) => block.getUint32(CONTROL_BLOCK.heads + 4 * q, true)),
            tails: queues((q) => fifo.tail(vcpuId, q)),
          }
        )
      }),
    }),
  }
}

function portStates(domain: Domain): object {
  const { ports, fifo } = inside(domain)
  const states: Record<string, object> = {}
  for (let port = 1; port < ports.validEvtchns; port++) {
    const s = ports.state(port)
    if (s === ECS.FREE) continue
    states[port] = {
      s,
      v: ports.notifyVcpu(port),
      ...((s === ECS.UNBOUND || s === ECS.INTERDOMAIN) && { d: ports.remoteDomid(port) }),
      ...(s === ECS.INTERDOMAIN && { p: ports.remotePort(port) }),
      ...((s === ECS.PIRQ || s === ECS.VIRQ) && { i: ports.irq(port) }),
      // Nothing is ever queued for a Xen-attached port, and no trace tells a priority of one.
      ...(ports.consumer(port)
        ? { x: 1 }
        : fifo && ports.priority(port) !== EVTCHN_FIFO_PRIORITY_DEFAULT && { q: ports.priority(port) }),
    }
  }
  return states
}
