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
import { worldOf } from '../../src/hypervisor/index.js'
import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { reset, resetCont } from '../../src/hypercalls/evtchn/close.js'
import { type Args, type Bits, DOMID_SELF, decode, EVTCHN_STRUCTS, EVTCHNOP, EVTCHNSTAT, type EvtchnOpName, encode, HYPERVISOR, PAGE_SIZE, SCHEDOP, type Struct } from '../../src/abi/index.js'
import { type Domain, Hypervisor, type Vcpu, XenError } from '../../src/index.js'
import { toRegister } from '../../src/errno.js'
import { FIFO_GUEST, FifoWords } from './fifo-guest.js'
import { frameOf, GUEST, SHARED_INFO_GFN, SharedInfo } from './guest.js'
import { domainState } from './state.js'

const UNWRITABLE_GFN = 159
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
export function replay(file: string, end = Number.POSITIVE_INFINITY, through?: Through): number {
  const { header, lines } = readTrace(file)
  const machine = new Machine(header, through)
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
      // A vCPU with a thread of its own looks for its upcalls there, and wakes by itself.
      if (through) for (const name of ['upcalls', 'unblocked']) delete (expected as Record<string, unknown>)[name]
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

/** Another way for hypercalls to the hypervisor: each on a thread of its vCPU's own (test/threads/relay.ts). */
interface Way {
  attach(domain: Domain): void
  hypercall(vcpu: Vcpu, nr: number, args: readonly number[]): number
  lookUps: number
}

/** Makes it for a host; `walk` is where the page walk of the traces has its vanishing frame. */
type Through = (xen: Hypervisor, walk: { vanishing: number; nowhere: number }) => Way

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
  readonly #way: Way | undefined
  #upcalls: number[][] = []
  #unblocked: number[][] = []
  #notified: number[][] = []

  constructor(header: Header, through?: Through) {
    this.xen = Hypervisor.create({
      threads: through ? 62 : 0,
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
    this.#way = through?.(this.xen, { vanishing: VANISHING, nowhere: NOWHERE })
    for (const { control, ...domain } of header.domains) this.createDomain({ ...domain, privileged: control ?? false })
  }

  createDomain(given: { domid: number; vcpus: number; bits: Bits; maxPort: number; privileged: boolean }): void {
    const { maxPort, ...options } = given
    const domain = this.xen.createDomain({
      ...options,
      shared: this.#way !== undefined,
      maxEvtchnPort: maxPort,
      frames: FRAMES,
      sharedInfoGfn: SHARED_INFO_GFN,
      nrPirqs: NR_PIRQS,
      translate: (_vcpu, gva) => (gva < VANISHING || gva >= NOWHERE ? gva : this.lookUps-- > 0 ? gva - VANISHING : -1),
    })
    for (const gfn of [UNWRITABLE_GFN, SHARED_INFO_GFN, READ_ONLY_GFN]) domain.memory.protect(gfn)
    this.#way?.attach(domain)
  }

  /** A hypercall as the guest makes it. */
  hypercall(vcpu: Vcpu, nr: number, args: readonly number[]): number {
    return this.#way ? this.#way.hypercall(vcpu, nr, args) : this.xen.hypercall(vcpu, nr, args)
  }

  /** That many look-ups in the vanishing frame succeed. */
  vanishAfter(lookUps: number): void {
    this.lookUps = lookUps
    if (this.#way) this.#way.lookUps = lookUps
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
    if (this.#upcalls.length && !this.#way) result.upcalls = this.#upcalls
    if (this.#unblocked.length && !this.#way) result.unblocked = this.#unblocked
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
  const rc = machine.hypercall(vcpu, HYPERVISOR.event_channel_op, [EVTCHNOP[op], gva])
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
  evtchn_op: (machine, vcpu, { cmd }) => ({
    rc: machine.hypercall(vcpu, HYPERVISOR.event_channel_op, [cmd as number, NOWHERE]),
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
  machine.vanishAfter(1)
  const gva = fault === 'in' ? NOWHERE : at
  const rc = machine.hypercall(vcpu, HYPERVISOR.sched_op, [SCHEDOP.poll, gva])
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
