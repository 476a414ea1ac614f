/**
 * The library beside the reference: performs a command on both and compares what the guest can see. Operations are raw,
 * with structs in guest memory; masks and scans are the guest's own (src/guest/tree.ts) on the same bytes.
 *
 *     memory   |… B: a peer, 2 levels …|… A: the domain under test …|
 *
 * After each command: the answer and OUT members; every pending and mask bit of A; no upcall but where one was due, told
 * by `trace` if and only if the flag rose; and, of each port that is pending, unmasked and bound to a vCPU with active
 * selectors, every selector bit up to level 1, and the flag: nothing is left without an upcall.
 */

import type BitSet from 'bitset'
import { expect } from 'vitest'
import { type Bits, DOMID_SELF, EVTCHNSTAT, PAGE_SIZE, sharedInfo, VIRQ } from '../../src/abi/index.js'
import { Tree } from '../../src/guest/tree.js'
import { FrameAllocator, GuestHypercalls, Hypervisor } from '../../src/index.js'
import { channelsOf, type Plan, plan } from '../nlevel/geometry.js'
import { FIRST_FREE, TreeGuest } from '../nlevel/guest.js'
import { Reference } from './reference.js'

const VCPUS = 3
const PEER_FRAMES = 4
/** Frames that the guest's driver may use for descriptors and filters: each tree starts with all of them. */
const DRIVER_FRAMES = 40
const SCAN_BUFFER_GFN = FIRST_FREE
const DRIVER = FIRST_FREE + 1
const TREE = DRIVER + DRIVER_FRAMES
const FRAMES = TREE + 24

export interface Form {
  bits: Bits
  levels: number
  nrPages: number
}

/** A memory for a peer and the domain under test; one for all runs of a form, for engines reserve much for each. */
export const newMemory = (shared: boolean): WebAssembly.Memory => {
  const pages = Math.ceil(((PEER_FRAMES + FRAMES) * PAGE_SIZE) / 65536)
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared })
}

export type Command = { do: keyof Commands; a: number; b: number }
type Commands = Pick<
  Machine,
  | 'ipi'
  | 'timer'
  | 'unbound'
  | 'connect'
  | 'peerJoins'
  | 'peerCloses'
  | 'peerSends'
  | 'raiseTimer'
  | 'send'
  | 'sendMany'
  | 'close'
  | 'move'
  | 'status'
  | 'mask'
  | 'unmask'
  | 'unmaskLocally'
  | 'scan'
  | 'selectors'
  | 'register'
  | 'spread'
  | 'reset'
  | 'query'
>

export class Machine {
  readonly form: Form
  readonly a: TreeGuest
  readonly b: TreeGuest
  readonly model: Reference
  readonly #plan: Plan
  #tree: Tree
  readonly #told = new Set<number>()
  /** Port of A by port of B. */
  readonly #peers = new Map<number, number>()
  #spread = false

  constructor(form: Form, memory: WebAssembly.Memory) {
    this.form = form
    const all = new Uint8Array(memory.buffer)
    all.fill(0)
    const xen = Hypervisor.create({
      trace: { upcall: (vcpu) => void (vcpu.domid === 1 && this.#told.add(vcpu.vcpuId)) },
    })
    this.b = new TreeGuest(xen, { domid: 2, memory, base: 0, frames: PEER_FRAMES, maxEvtchnPort: Infinity })
    const base = PEER_FRAMES * PAGE_SIZE
    const { bits } = form
    this.a = new TreeGuest(xen, { domid: 1, bits, vcpus: VCPUS, memory, base, frames: FRAMES, maxEvtchnPort: Infinity })
    this.model = new Reference(bits, VCPUS)
    this.#plan = plan(bits, form.levels, form.nrPages, VCPUS, TREE)
    if (this.#plan.end > FRAMES) throw new Error(`the tree needs ${this.#plan.end} frames`)
    this.#tree = this.#newTree()
  }

  #newTree(): Tree {
    const { xen, domain, infoGpa, tree } = this.a
    const platform = xen.platform(domain)
    const calls = new GuestHypercalls(platform, DRIVER)
    const up = Array.from({ length: VCPUS }, (_, vcpu) => vcpu)
    const by = { platform, calls, up, frames: new FrameAllocator(DRIVER, TREE), infoGpas: infoGpa }
    const frames = tree && { ...tree, all: [] }
    return new Tree(by, { levels: this.model.levels, channels: this.model.channels, frames })
  }

  /** Performs a command, then compares all that can be seen. */
  run(command: Command): void {
    this.#told.clear()
    this.model.raised.clear()
    this.model.activated.clear()
    const before = Array.from({ length: VCPUS }, (_, v) => this.a.flag(v))
    const own = this[command.do](command.a, command.b)
    const what = JSON.stringify(command)
    for (let v = 0; v < VCPUS; v++) {
      // What a vCPU's own scan or unmask did to its flag is its own business (NL-scan-2, NL-scan-5): nobody is told.
      if (own === v) continue
      const rose = !before[v] && this.a.flag(v) !== 0
      const told = this.#told.has(v)
      if ((rose || told) && !this.model.raised.has(v)) expect.fail(`${what}: an upcall of v${v} for nothing`)
      if ((rose || this.model.activated.has(v)) && !told) expect.fail(`${what}: v${v} is not told of its events`)
    }
    this.#compare(what)
  }

  #compare(what: string): void {
    const { model, a } = this
    const shared = a.domain.sharedInfoGfn * PAGE_SIZE
    const { pending, mask } = sharedInfo(this.form.bits)
    const pages = (gfns: readonly number[]) => gfns.map((gfn) => gfn * PAGE_SIZE)
    const size = Math.min(this.model.channels, 32768) / 8
    this.#compareBits(`${what}: pending`, a.tree ? pages(a.tree.pending) : [shared + pending], size, 0, model.pending)
    this.#compareBits(`${what}: unmasked`, a.tree ? pages(a.tree.mask) : [shared + mask], size, -1, model.unmasked)
    for (const { port, vcpu } of model.reachable()) {
      const path = a.path(vcpu, port)
      if (path.includes(0) || !a.flag(vcpu))
        expect.fail(`${what}: port ${port} is due on v${vcpu}; its selector bits are ${path}, the flag ${a.flag(vcpu)}`)
    }
    for (const [v, { active }] of model.vcpus.entries())
      if (!active) expect(a.path(v, 0).at(-1), `${what}: NL-sel-4, level 1 of v${v}`).toBe(0)
  }

  #compareBits(what: string, pages: readonly number[], size: number, invert: number, expected: BitSet): void {
    const got: number[] = []
    for (const [i, gpa] of pages.entries()) {
      const words = new Int32Array(this.a.domain.memory.memory.buffer, this.a.domain.memory.base + gpa, size / 4)
      for (let w = 0; w < words.length; w++)
        for (let word = words[w]! ^ invert; word; word &= word - 1)
          got.push(i * 32768 + w * 32 + 31 - Math.clz32(word & -word))
    }
    const wanted = expected.toArray()
    if (got.length !== wanted.length || got.some((port, i) => port !== wanted[i])) expect(got, what).toEqual(wanted)
  }

  /** A port that command `a` is about: mostly an open one, now and then any other. */
  #port(a: number, kind?: string): number {
    if (!kind && a % 16 === 15)
      return [0, 1, 63, 64, this.model.valid - 1, this.model.valid, this.model.channels, 0xffff_ffff][a % 8]!
    const open = [...this.model.ports].filter(([, port]) => !kind || port.kind === kind).map(([port]) => port)
    return open.length ? open[a % open.length]! : 1
  }

  /** What both answer; a port that was opened belongs to its vCPU's filter from then on. */
  #opened(rc: number, out: string, expected: number): void {
    expect(rc < 0 ? rc : this.a.out[out]).toBe(expected)
    const port = this.model.ports.get(expected)
    if (port) this.#tree.filter(port.vcpu, expected, true)
  }

  ipi(a: number): void {
    const vcpu = a % (VCPUS + 1)
    this.#opened(this.a.op('bind_ipi', { vcpu }), 'port', this.model.bindIpi(vcpu))
  }
  timer(a: number): void {
    const vcpu = a % (VCPUS + 1)
    this.#opened(this.a.op('bind_virq', { virq: VIRQ.TIMER, vcpu }), 'port', this.model.bindTimer(vcpu))
  }
  unbound(): void {
    this.#opened(this.a.op('alloc_unbound', { dom: DOMID_SELF, remote_dom: 2 }), 'port', this.model.open('unbound', 0))
  }
  /** B offers a port and A binds to it. */
  connect(): void {
    if (this.b.op('alloc_unbound', { dom: DOMID_SELF, remote_dom: 1 }) < 0) return
    const remote = this.b.out.port!
    const expected = this.model.bindInterdomain(remote)
    // The filter before the event, or a scan would pass it over.
    if (expected > 0) this.#tree.filter(0, expected, true)
    this.#opened(this.a.op('bind_interdomain', { remote_dom: 2, remote_port: remote }), 'local_port', expected)
    if (expected > 0) this.#peers.set(remote, expected)
    else this.b.must(this.b.op('close', { port: remote }))
  }
  /** B binds to an unbound port of A. */
  peerJoins(a: number): void {
    const port = this.#port(a, 'unbound')
    const rc = this.b.op('bind_interdomain', { remote_dom: 1, remote_port: port })
    expect(rc).toBe(this.model.ports.get(port)?.kind === 'unbound' ? 0 : -22)
    if (rc) return
    this.#peers.set(this.b.out.local_port!, port)
    this.model.joined(port, this.b.out.local_port!)
  }
  #remote(a: number): number {
    const remotes = [...this.#peers.keys()]
    return remotes[a % Math.max(1, remotes.length)] ?? 0
  }
  peerCloses(a: number): void {
    const remote = this.#remote(a)
    if (!remote) return
    expect(this.b.op('close', { port: remote })).toBe(0)
    const port = this.#peers.get(remote)!
    this.#peers.delete(remote)
    if (port) this.model.joined(port, 0)
  }
  peerSends(a: number): void {
    const remote = this.#remote(a)
    if (!remote) return
    expect(this.b.op('send', { port: remote })).toBe(0)
    const port = this.#peers.get(remote)!
    if (port) this.model.raise(port)
  }
  raiseTimer(a: number): void {
    const vcpu = a % VCPUS
    this.a.xen.sendVirq(this.a.xen.domain(1)!.vcpu(vcpu), VIRQ.TIMER)
    const { timer } = this.model.vcpus[vcpu]!
    if (timer) this.model.raise(timer)
  }
  send(a: number): void {
    const port = this.#port(a)
    const kind = this.model.ports.get(port)?.kind
    if (kind === 'interdomain') this.b.setBitAt(this.b.leaf('pending', this.model.ports.get(port)!.remote), 0)
    expect(this.a.op('send', { port })).toBe(this.model.send(port))
    if (kind === 'interdomain') expect(this.b.pending(this.model.ports.get(port)!.remote)).toBe(1)
  }
  /** A burst, so that buffers fill. */
  sendMany(a: number, b: number): void {
    for (let i = 0; i < 3 + (b % 200); i++) this.send(((a + i) * 16) / 16)
  }
  close(a: number): void {
    const port = this.#port(a)
    const found = this.model.ports.get(port)
    expect(this.a.op('close', { port })).toBe(this.model.close(port))
    if (!found) return
    this.#tree.filter(found.vcpu, port, false)
    // The peer's end is unbound now, and its sends go nowhere.
    if (found.kind === 'interdomain') this.#peers.set(found.remote, 0)
  }
  /** Filter first, then the call; at two levels masked, for nothing is raised anew there (NL-vcpu-1). */
  move(a: number, b: number): void {
    const port = this.#port(a)
    const vcpu = b % (VCPUS + 1)
    const from = this.model.ports.get(port)?.vcpu
    const two = this.model.levels === 2
    const unmasked = this.model.unmasked.get(port) && port < this.model.channels
    if (two && unmasked) this.#setMask(port)
    const expected = this.model.bindVcpu(port, vcpu)
    if (expected === 0) {
      this.#tree.filter(from!, port, false)
      this.#tree.filter(vcpu, port, true)
    }
    expect(this.a.op('bind_vcpu', { port, vcpu })).toBe(expected)
    if (two && unmasked) expect(this.a.op('unmask', { port })).toBe(this.model.unmask(port))
  }
  status(a: number): void {
    const port = this.#port(a)
    const rc = this.a.op('status', { dom: DOMID_SELF, port })
    expect(rc).toBe(port < this.model.valid ? 0 : -22)
    const found = this.model.ports.get(port)
    if (rc === 0)
      expect([this.a.out.status, this.a.out.vcpu]).toEqual([found ? EVTCHNSTAT[found.kind] : 0, found?.vcpu ?? 0])
  }
  #setMask(port: number): void {
    this.#tree.mask(port)
    this.model.unmasked.set(port, 0)
  }
  mask(a: number): void {
    const port = this.#port(a)
    if (port < this.model.channels) this.#setMask(port)
  }
  unmask(a: number): void {
    const port = this.#port(a)
    expect(this.a.op('unmask', { port })).toBe(this.model.unmask(port))
  }
  /** NL-scan-5: by the vCPU that the port is bound to. */
  unmaskLocally(a: number): number | undefined {
    const port = this.#port(a)
    const vcpu = this.model.ports.get(port)?.vcpu
    if (vcpu === undefined || !this.model.vcpus[vcpu]!.active) return
    this.#tree.unmaskLocally(vcpu, port)
    this.model.unmask(port)
    return vcpu
  }
  /** One round with a buffer of any size. */
  scan(a: number, b: number): number | undefined {
    const vcpu = a % VCPUS
    if (!this.model.vcpus[vcpu]!.active) return
    const { bits } = this.form
    const max = [1, 2, 3, 5, bits - 1, bits, bits + 1, 1024][b % 8]!
    const { memory } = this.a.domain
    const out = memory.base + SCAN_BUFFER_GFN * PAGE_SIZE
    const count = this.#round(vcpu, out, max)
    const expected = this.model.scan(vcpu, max)
    expect([...new Uint32Array(memory.memory.buffer, out, count)], `v${vcpu} scans up to ${max}`).toEqual(expected)
    if (count < max) {
      expect(this.a.flag(vcpu), 'the flag after a whole round').toBe(0)
      const at = this.a.level1(vcpu)
      expect([...this.a.bytes.subarray(at, at + bits / 8)].some(Boolean), 'level 1 after a whole round').toBe(false)
    }
    return vcpu
  }
  #round(vcpu: number, out: number, max: number): number {
    return this.#tree.scan(this.#tree.descriptor(vcpu), out, max)
  }
  selectors(a: number): void {
    if (this.form.levels === 2) return
    const vcpu = a % (VCPUS + 1)
    if (this.model.levels === 2) this.a.clean(this.#plan)
    expect(this.a.setSelectors(this.#plan, vcpu)).toBe(this.model.setSelectors(vcpu))
  }
  /** The commit, after recording the selectors of some vCPUs, or of none. */
  register(a: number, b: number): void {
    const { bits, levels, nrPages } = this.form
    if (levels === 2) return
    const caller = b % VCPUS
    if (this.model.levels === 2) for (let v = 0; v < VCPUS; v++) if ((a >> v) & 1) this.selectors(v)
    const expected = this.model.register(caller, levels, channelsOf(bits, levels, nrPages))
    expect(this.a.commit(this.#plan, {}, caller)).toBe(expected)
    if (expected) return
    expect(this.a.out.nr_channels).toBe(this.model.channels)
    this.#newDriver()
  }
  /** Descriptors and filters for the form in force. */
  #newDriver(): void {
    this.#tree = this.#newTree()
    for (const [port, { vcpu }] of this.model.ports) this.#tree.filter(vcpu, port, true)
  }
  /** Opens very many ports and closes them again but for some on boundaries of words, levels and pages. */
  spread(a: number): void {
    const { bits } = this.form
    const sizes = [70, bits + 2, bits * bits + 100, 32767, 33000]
    const last = Math.min(sizes[a % sizes.length]!, this.model.channels - 1)
    if (this.#spread || this.model.ports.size > 200) return
    this.#spread = true
    const near = [0, 1, bits, bits * bits, bits ** 3, 32768, last].flatMap((port) => [port - 1, port, port + 1])
    const opened: number[] = []
    for (;;) {
      const vcpu = opened.length % VCPUS
      const port = this.model.bindIpi(vcpu)
      const rc = this.a.op('bind_ipi', { vcpu })
      if (rc < 0 || this.a.out.port !== port) expect(rc < 0 ? rc : this.a.out.port).toBe(port)
      if (port < 0) break
      opened.push(port)
      if (port >= last) break
    }
    for (const port of opened) {
      if (near.includes(port)) {
        this.#tree.filter(this.model.ports.get(port)!.vcpu, port, true)
        continue
      }
      const rc = this.a.op('close', { port })
      if (rc || this.model.close(port)) expect(rc).toBe(0)
    }
  }
  reset(a: number): void {
    if (a % 4) return
    for (const [remote, port] of this.#peers) if (port) this.#peers.set(remote, 0)
    expect(this.a.op('reset', { dom: DOMID_SELF })).toBe(this.model.reset())
    this.a.tree = null
    this.#newDriver()
  }
  query(): void {
    expect(this.a.op('query_nlevel', { dom: DOMID_SELF })).toBe(0)
    const deepest = this.form.bits === 64 ? 4 : 5
    expect(this.a.out).toEqual({ max_levels: deepest, max_pages: 512, abi: this.model.levels })
  }
}
