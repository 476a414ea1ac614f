/**
 * A guest that the library's authors did not make up the ABI for: the event channel driver in examples/c-guest, compiled
 * by clang against Xen's own public headers, runs as a domain. Every event is accounted for, by handler; and when the
 * same guest goes mad, its neighbours do not notice.
 */

import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Bits, PAGE_SIZE, sharedInfo, VIRQ } from '../src/abi/index.js'
import { inside } from '../src/domain/handles.js'
import { type Domain, Errno, Hypervisor } from '../src/index.js'
import { random } from './random.js'
import { requireTools, seedOr } from './settings.js'
import { exampleFile } from './snippets.js'

const BUILD = fileURLToPath(new URL('../examples/c-guest/build.sh', import.meta.url))
const RUN = exampleFile('c-guest/run')
const LIBRARY = fileURLToPath(new URL('../dist/index.js', import.meta.url))

const runs = (tool: string) => spawnSync(tool, ['--version']).status === 0
const missing = [
  ...['clang', 'wasm-ld'].filter((tool) => !runs(tool)),
  ...['/usr/include/xen/xen.h'].filter((header) => !existsSync(header)),
]
const notRun = missing.length
  ? `NOT RUN for want of ${missing.join(', ')} (packages clang, lld, libxen-dev): neither compiled nor executed: `
  : ''
if (notRun && requireTools) it('has the tools that EVTCHN_REQUIRE_TOOLS demands', () => expect.fail(notRun))

const SHARED_INFO_GFN = 1
const FRAMES = 32
const ECHO = 0
const BURST = 1
const OWN_VCPU_INFO = 1

/** What guest.c and hostile.c export. */
interface GuestExports {
  boot(sharedInfoGfn: number, flags: number): number
  reboot(sharedInfoGfn: number): number
  upcall(): void
  offer(remote: number, kind: number): number
  connect(remote: number, remotePort: number, kind: number): number
  close(port: number): number
  poll(port: number): number
  peer_of(port: number): number
  timer_port(): number
  ipi_port(): number
  handled(port: number): number
  stray(): number
  failures(): number
  scribble(sharedInfoGfn: number, seed: number): void
  babble(seed: number, calls: number): number
}

/** A domain whose kernel is JavaScript: scans as any two-level guest does, 32 bits of a word at a time. */
class Peer {
  readonly received = new Map<number, number>()
  readonly domain: Domain

  constructor(xen: Hypervisor, domid: number, bits: Bits) {
    this.domain = xen.createDomain({ domid, bits, frames: 16, maxEvtchnPort: Infinity })
  }

  upcall(): void {
    const { bits, sharedInfoAt, memory } = inside(this.domain)
    const layout = sharedInfo(bits)
    const words = new Uint32Array(memory.memory.buffer, sharedInfoAt, PAGE_SIZE / 4)
    const halves = bits / 32
    const at = (offset: number, half: number) => offset / 4 + half
    while (words[0]! & 0xff) {
      words[0]! &= ~0xff
      for (let s = 0; s < halves; s++) {
        let selected = words[at(layout.sel, s)]!
        words[at(layout.sel, s)] = 0
        for (; selected; selected &= selected - 1) {
          const word = s * 32 + lowest(selected)
          for (let h = 0; h < halves; h++) {
            const half = word * halves + h
            let due = words[at(layout.pending, half)]! & ~words[at(layout.mask, half)]!
            words[at(layout.pending, half)]! &= ~due
            for (; due; due &= due - 1) this.#count(half * 32 + lowest(due))
          }
        }
      }
    }
  }

  #count(port: number): void {
    this.received.set(port, this.count(port) + 1)
  }
  count(port: number): number {
    return this.received.get(port) ?? 0
  }
  send(port: number): void {
    this.domain.eventChannelOp('send', { port })
  }
  offer(remoteDomid: number): number {
    return this.domain.eventChannelOp('alloc_unbound', { dom: this.domain.domid, remote_dom: remoteDomid }).port
  }
  connect(remoteDomid: number, remotePort: number): number {
    return this.domain.eventChannelOp('bind_interdomain', { remote_dom: remoteDomid, remote_port: remotePort })
      .local_port
  }
}

const lowest = (word: number): number => 31 - Math.clz32(word & -word)

/** A host with the C guest as domain 1, not yet booted, and JavaScript peers as domains 0 (64-bit) and 2 (32-bit). */
function host(module: WebAssembly.Module) {
  const unblocked: number[] = []
  const xen = Hypervisor.create({
    onUpcall: ({ domid }) => (domid === 1 ? guest.upcall() : peers[domid]?.upcall()),
    onUnblock: ({ domid }) => void unblocked.push(domid),
  })
  const peers: Record<number, Peer> = { 0: new Peer(xen, 0, 64), 2: new Peer(xen, 2, 32) }
  const memory = new WebAssembly.Memory({ initial: FRAMES / 16, maximum: FRAMES / 16 })
  const domain = xen.createDomain({ domid: 1, bits: 32, memory, frames: FRAMES, sharedInfoGfn: SHARED_INFO_GFN })
  const hypercall = (op: number, ...args: number[]) => xen.hypercall(domain.vcpu(0), op, args)
  const { exports } = new WebAssembly.Instance(module, { env: { memory, hypercall } })
  const guest = exports as unknown as GuestExports
  return { xen, domain, guest, memory, dom0: peers[0]!, dom2: peers[2]!, unblocked }
}

describe.skipIf(notRun)(`${notRun}the C guest, compiled against Xen’s public headers,`, () => {
  const dir = mkdtempSync(join(tmpdir(), 'evtchn-c-guest-'))
  const wasm = join(dir, 'c-guest.wasm')
  let module: WebAssembly.Module

  beforeAll(() => {
    const { status, stderr } = spawnSync(BUILD, [wasm], { encoding: 'utf8' })
    if (status !== 0) throw new Error(`build.sh failed:\n${stderr}`)
    module = new WebAssembly.Module(readFileSync(wasm))
  })
  afterAll(() => rmSync(dir, { recursive: true }))

  it('imports its memory and one hypercall function, nothing else', () => {
    const { imports } = WebAssembly.Module as unknown as { imports(module: WebAssembly.Module): { name: string }[] }
    const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1)
    expect(imports(module).sort(byName)).toEqual([
      { module: 'env', name: 'hypercall', kind: 'function' },
      { module: 'env', name: 'memory', kind: 'memory' },
    ])
  })

  it('leaves frame 0 empty and frame 1 to shared_info', () => {
    const { guest, memory } = host(module)
    const untouched = new Uint8Array(memory.buffer, 0, SHARED_INFO_GFN * PAGE_SIZE)
    expect(guest.boot(SHARED_INFO_GFN, 0)).toBe(0)
    expect(untouched.every((byte) => byte === 0)).toBe(true)
    const words = new Uint32Array(memory.buffer, SHARED_INFO_GFN * PAGE_SIZE + sharedInfo(32).mask, 32)
    const open = (1 << guest.timer_port()) | (1 << guest.ipi_port())
    expect([...words]).toEqual([~open >>> 0, ...Array(31).fill(0xffff_ffff)])
  })

  it.each([
    ['in shared_info', 0],
    ['registered in its own memory', OWN_VCPU_INFO],
  ])('handles a hundred thousand events, with its vcpu_info %s', (_, flags) => {
    const { xen, domain, guest, dom0 } = host(module)
    expect(guest.boot(SHARED_INFO_GFN, flags)).toBe(0)

    // Every signal is written down by the port it goes to: a new event, or merged with one that waits.
    const edges = new Map<number, number>([[guest.ipi_port(), 1]])
    const merged = new Map<number, number>()
    const signal = (port: number, send: () => void) => {
      const count = domain.isPending(port) ? merged : edges
      count.set(port, (count.get(port) ?? 0) + 1)
      send()
    }

    const channels = Array.from({ length: 200 }, (_, i) => {
      const kind = i % 10 === 3 ? BURST : ECHO
      if (i % 2) {
        const guestPort = guest.offer(0, kind)
        return { kind, guestPort, port: dom0.connect(1, guestPort), conservative: 0 }
      }
      const port = dom0.offer(1)
      const guestPort = guest.connect(0, port, kind)
      edges.set(guestPort, 1) // the binder's one event to be safe (EC-inter-8)
      return { kind, guestPort, port, conservative: 1 }
    })
    for (const { guestPort, port } of channels) expect(guest.peer_of(guestPort)).toBe(port)
    const before = new Map(dom0.received)

    const next = random(seedOr(12345))
    for (let signals = 0; signals < 130_000; signals++) {
      const { kind, guestPort, port } = channels[next(channels.length)]!
      for (let n = kind === BURST ? 3 : 1; n > 0; n--) signal(guestPort, () => dom0.send(port))
      if (signals % 20 === 0) tick()
    }
    tick()
    function tick() {
      signal(guest.timer_port(), () => xen.sendVirq(xen.domain(1)!.vcpu(0), VIRQ.TIMER))
      edges.set(guest.ipi_port(), edges.get(guest.ipi_port())! + 1)
    }

    let total = 0
    for (const [port, expected] of edges) {
      expect({ port, handled: guest.handled(port) }).toEqual({ port, handled: expected })
      total += expected
    }
    expect(total).toBeGreaterThan(100_000)
    // Echo channels never merge and answer every event; burst channels merge while they are masked.
    for (const { kind, guestPort, port, conservative } of channels) {
      const answers = dom0.count(port) - (before.get(port) ?? 0)
      if (kind === ECHO) {
        expect(merged.get(guestPort) ?? 0).toBe(0)
        expect(answers).toBe(edges.get(guestPort)! - conservative)
      } else expect(answers).toBe(0)
    }
    expect([...merged.values()].reduce((sum, n) => sum + n, 0)).toBeGreaterThan(1000)
    expect(guest.stray()).toBe(0)
    expect(guest.failures()).toBe(0)
  })

  it('binds all 1023 ports of a 32-bit domain, each of which delivers, and gets ENOSPC for the next', () => {
    const { guest, dom0 } = host(module)
    expect(guest.boot(SHARED_INFO_GFN, 0)).toBe(0)
    const ports: { guestPort: number; port: number }[] = []
    for (let guestPort = guest.offer(0, ECHO); guestPort > 0; guestPort = guest.offer(0, ECHO))
      ports.push({ guestPort, port: dom0.connect(1, guestPort) })
    expect(ports.length + 2).toBe(1023)
    expect(guest.offer(0, ECHO)).toBe(-Errno.ENOSPC)
    dom0.received.clear()
    for (const { port } of ports) dom0.send(port)
    expect(ports.filter(({ guestPort }) => guest.handled(guestPort) !== 1)).toEqual([])
    expect(ports.filter(({ port }) => dom0.count(port) !== 1)).toEqual([])
  })

  it('polls with a struct of its own compiler’s layout: at once for a pending port, asleep until an event otherwise', () => {
    const { xen, domain, guest, dom0, unblocked } = host(module)
    expect(guest.boot(SHARED_INFO_GFN, 0)).toBe(0)
    const guestPort = guest.offer(0, BURST)
    const port = dom0.connect(1, guestPort)
    dom0.send(port) // handled; masks itself
    dom0.send(port) // pending behind the mask
    expect(guest.poll(guestPort)).toBe(0)
    expect(domain.vcpu(0).blocked).toBe(false)

    xen.sendVirq(xen.domain(1)!.vcpu(0), VIRQ.TIMER) // unmasks: handled, masked again
    expect(guest.handled(guestPort)).toBe(2)
    expect(guest.poll(guestPort)).toBe(0)
    expect(domain.vcpu(0).blocked).toBe(true)
    expect(unblocked).toEqual([])
    dom0.send(port) // masked, but a poll looks at pending alone (EC-poll-12)
    expect(unblocked).toEqual([1])

    expect(guest.poll(1023)).toBe(-Errno.EINVAL)
  })

  it('closes a port, which its peer finds unbound and another may take over', () => {
    const { guest, dom0 } = host(module)
    expect(guest.boot(SHARED_INFO_GFN, 0)).toBe(0)
    const first = guest.offer(0, ECHO)
    const port = dom0.connect(1, first)
    expect(guest.close(first)).toBe(0)
    expect(guest.close(first)).toBe(-Errno.EINVAL)
    dom0.send(port) // dropped silently (EC-send-8)
    const second = guest.connect(0, port, ECHO)
    expect(second).toBe(first)
    expect(guest.handled(second)).toBe(1)
    dom0.send(port)
    expect(guest.handled(second)).toBe(2)
    expect(guest.stray()).toBe(0)
  })

  it('harms nobody but itself when it scribbles over its shared_info and babbles at the hypervisor', () => {
    const { xen, guest, dom0, dom2 } = host(module)
    expect(guest.boot(SHARED_INFO_GFN, 0)).toBe(0)
    const here = dom0.offer(2)
    const there = dom2.connect(0, here)
    const toHostile = dom0.connect(1, guest.offer(0, ECHO))
    let accepted = 0
    dom0.received.clear()
    dom2.received.clear()
    const rounds = 300
    for (let round = 1; round <= rounds; round++) {
      guest.scribble(SHARED_INFO_GFN, round * 0x9e3779b1)
      accepted += guest.babble(round * 0x85ebca6b, 200)
      dom0.send(toHostile) // whatever that end is by now, sending is allowed
      xen.sendVirq(xen.domain(1)!.vcpu(0), VIRQ.TIMER)
      dom0.send(here)
      dom2.send(there)
      expect([dom0.count(here), dom2.count(there)]).toEqual([round, round])
      if (round % 50 === 0) expect([...xen.dump()].length).toBeGreaterThan(10)
    }
    expect(accepted).toBeGreaterThan(1000)
    // Ports that the guest has no end of stayed silent.
    expect([...dom0.received.keys()].filter((port) => port !== here && port !== toHostile)).toEqual([])
    expect([...dom2.received.keys()]).toEqual([there])

    // After a reset the same guest starts anew, and works.
    expect(guest.reboot(SHARED_INFO_GFN)).toBe(0)
    const guestPort = guest.offer(0, ECHO)
    const port = dom0.connect(1, guestPort)
    dom0.received.delete(port)
    for (let i = 0; i < 1000; i++) dom0.send(port)
    expect(guest.handled(guestPort)).toBe(1000)
    expect(dom0.count(port)).toBe(1000)
    expect([guest.stray(), guest.failures()]).toEqual([0, 0])
  })

  it.skipIf(!existsSync(LIBRARY))('runs under examples/c-guest/run.ts, which accounts for every event', () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [RUN, wasm], { encoding: 'utf8' })
    expect(stderr).toBe('')
    expect(stdout).toContain('every event is accounted for')
    expect(status).toBe(0)
  })
})
