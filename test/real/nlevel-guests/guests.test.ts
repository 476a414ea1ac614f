/**
 * Guests that are not JavaScript, on the N-level ABI: guests/nlevel, compiled by clang for both word widths and by rustc.
 * Each registers two, three and four levels in its own memory by hypercall, scans its own words, masks, closes, meets hosts
 * that refuse, and makes its channels again after a migration.
 */

import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { inside } from '../../../src/domain/handles.js'
import { type Domain, Errno, Hypervisor, type HypervisorOptions } from '../../../src/index.js'
import { random } from '../../random.js'
import { requireTools, seedOr } from '../../settings.js'

const folder = fileURLToPath(new URL('../../../guests/nlevel', import.meta.url))
const output = (tool: string, ...args: string[]) => spawnSync(tool, args, { encoding: 'utf8' })
const runs = (tool: string) => output(tool, '--version').status === 0

const SHARED_INFO = 1
/** The module's own data ends before this frame, and 512 frames are its memory. */
const TREE = 256
const FRAMES = 512

interface NlevelGuest {
  boot(sharedInfoGfn: number, levels: number, nrPages: number, gfn: number): number
  suspend(): number
  resume(sharedInfoGfn: number, levels: number, nrPages: number, gfn: number): number
  query(): number
  upcall(): void
  offer(remote: number): number
  bind_ipi(): number
  send(port: number): number
  mask(port: number): void
  unmask(port: number): number
  close(port: number): number
  levels(): number
  pending(port: number): number
  handled(port: number): number
  stray(): number
  lost(): number
}

/** A compiler, its guest, and what is missing for it. */
interface Language {
  name: string
  bits: 32 | 64
  build: readonly string[]
  missing: readonly string[]
}

const rustLibrary = (rustc: string) =>
  existsSync(join(output(rustc, '--print', 'sysroot').stdout?.trim() ?? '', 'lib/rustlib/wasm32-unknown-unknown'))
const clang = ['clang', 'wasm-ld'].filter((tool) => !runs(tool))
const rust = [
  ...(['rustc', '/usr/bin/rustc'].some((rustc) => runs(rustc) && rustLibrary(rustc)) ? [] : ['rustc for wasm32']),
  ...(runs('wasm-ld') ? [] : ['wasm-ld']),
]
const LANGUAGES: Language[] = [
  { name: 'C, 64-bit words', bits: 64, build: ['build.sh', '64'], missing: clang },
  { name: 'C, 32-bit words', bits: 32, build: ['build.sh', '32'], missing: clang },
  { name: 'Rust, 64-bit words', bits: 64, build: ['build-rust.sh'], missing: rust },
]

const dir = mkdtempSync(join(tmpdir(), 'evtchn-nlevel-guests-'))
afterAll(() => rmSync(dir, { recursive: true }))

/** The guest as domain 1 beside a dom0 that only sends; upcalls enter it. */
class Host {
  readonly xen: Hypervisor
  guest!: NlevelGuest
  domain!: Domain

  constructor(options: HypervisorOptions = {}) {
    this.xen = Hypervisor.create({ ...options, onUpcall: ({ domid }) => void (domid === 1 && this.guest?.upcall()) })
    this.xen.createDomain({ domid: 0 })
  }

  start(module: WebAssembly.Module, bits: 32 | 64, maxEvtchnPort = Number.POSITIVE_INFINITY): this {
    const memory = this.#load(module)
    this.domain = this.xen.createDomain({
      domid: 1,
      bits,
      memory,
      frames: FRAMES,
      sharedInfoGfn: SHARED_INFO,
      maxEvtchnPort,
    })
    return this
  }

  /** The program in a memory of its own. */
  #load(module: WebAssembly.Module): WebAssembly.Memory {
    const memory = new WebAssembly.Memory({ initial: FRAMES / 16, maximum: FRAMES / 16 })
    const hypercall = (op: number, ...args: number[]) => this.xen.hypercall(this.domain.vcpu(0), op, args)
    const { exports } = new WebAssembly.Instance(module, { env: { memory, hypercall } })
    this.guest = exports as unknown as NlevelGuest
    return memory
  }

  /** The same guest from another host: loading writes the program's data, and the restore writes the guest's RAM over it. */
  receive(module: WebAssembly.Module, { xen, domain }: Host): this {
    const memory = this.#load(module)
    const state = xen.saveDomain(domain)
    this.domain = this.xen.restoreDomain(state, {
      memory,
      sharedInfoGfn: SHARED_INFO,
      maxEvtchnPort: Number.POSITIVE_INFINITY,
    })
    return this
  }

  /** dom0's end of a port that the guest offers. The guest gets one event for the connection (EC-inter-8). */
  connect(port: number): number {
    return this.xen.domain(0)!.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: port }).local_port
  }
  send(end: number): void {
    this.xen.domain(0)!.eventChannelOp('send', { port: end })
  }
}

describe.each(LANGUAGES)('the guest in $name', ({ name, bits, build, missing }) => {
  const NOT_RUN = missing.length ? `NOT RUN for want of ${missing.join(', ')}: ` : ''
  if (NOT_RUN && requireTools) it('has the tools that EVTCHN_REQUIRE_TOOLS demands', () => expect.fail(NOT_RUN))
  let module: WebAssembly.Module

  beforeAll(() => {
    if (NOT_RUN) return
    const file = join(dir, `${name.replace(/\W+/g, '-')}.wasm`)
    const { status, stderr } = output(join(folder, build[0]!), ...build.slice(1), file)
    if (status !== 0) throw new Error(`${build.join(' ')} failed:\n${stderr}`)
    expect(stderr).toBe('')
    module = new WebAssembly.Module(readFileSync(file))
  })

  /** What levels of this width hold with so many leaf pages. */
  const channels = (levels: number, pages: number) =>
    levels === 2 ? bits ** 2 : Math.min(bits ** levels, pages * 32_768)

  it.skipIf(NOT_RUN).each([
    [2, 0],
    [3, 1],
    [4, 1],
    [4, 2],
  ])('NL-reg-4, NL-scan-1: registers %i levels with %i leaf pages, and handles each event once', (levels, pages) => {
    const host = new Host().start(module, bits)
    const { guest, domain } = host
    expect(guest.boot(SHARED_INFO, levels, pages, TREE)).toBe(channels(levels, pages))
    expect([guest.levels(), inside(domain).levels]).toEqual([levels, levels])
    const ports = Array.from({ length: 900 }, () => guest.offer(0))
    expect(ports).toEqual(ports.map((_, i) => i + 1))
    const ends = ports.map((port) => host.connect(port))
    const below = random(seedOr(1))
    const sent = ports.map(() => 0)
    for (let i = 0; i < 5000; i++) {
      const which = below(ports.length)
      host.send(ends[which]!)
      sent[which]!++
    }
    expect(ports.map((port) => guest.handled(port))).toEqual(sent)
    expect(guest.stray()).toBe(0)
  })

  if (bits === 64)
    it.skipIf(NOT_RUN)('runs under guests/nlevel/try.mjs, as the README says', () => {
      const file = join(dir, `${name.replace(/\W+/g, '-')}.wasm`)
      const { stdout, stderr } = output(process.execPath, join(folder, 'try.mjs'), file)
      expect(stderr).toBe('')
      expect(stdout).toBe('port 1 of 32,768: 3 sends, 2 events, none lost\n')
    })

  it.skipIf(NOT_RUN)('NL-tree-2: rings the last port of the tree', () => {
    const levels = 3
    const host = new Host().start(module, bits)
    const { guest, xen, domain } = host
    const nrChannels = guest.boot(SHARED_INFO, levels, 1, TREE)
    // Ports below it are the toolstack's here, so that the guest's own is the last one.
    for (let port = 1; port < nrChannels - 1; port++)
      xen.domain(0)!.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 0 })
    const last = guest.bind_ipi()
    expect(last).toBe(nrChannels - 1)
    expect(guest.send(last)).toBe(0)
    expect([guest.handled(last), guest.stray()]).toEqual([1, 0])
    expect(guest.bind_ipi()).toBe(-Errno.ENOSPC)
    expect(domain.isPending(last)).toBe(false)
  })

  it.skipIf(NOT_RUN).each([2, 3, 4])('NL-unmask-1: on %i levels holds an event behind its mask, once', (levels) => {
    const host = new Host().start(module, bits)
    const { guest } = host
    guest.boot(SHARED_INFO, levels, 1, TREE)
    const port = guest.bind_ipi()
    guest.mask(port)
    for (let i = 0; i < 3; i++) guest.send(port)
    expect([guest.handled(port), guest.pending(port)]).toEqual([0, 1])
    expect(guest.unmask(port)).toBe(0)
    expect([guest.handled(port), guest.pending(port)]).toEqual([1, 0])
    expect(guest.close(port)).toBe(0)
    expect(guest.close(port)).toBe(-Errno.EINVAL)
  })

  it.skipIf(NOT_RUN)('NL-reg-4: takes what was pending on two levels with it', () => {
    const host = new Host().start(module, bits)
    const { guest } = host
    guest.boot(SHARED_INFO, 2, 0, TREE)
    const end = host.connect(guest.offer(0))
    guest.mask(1)
    host.send(end)
    const handled = guest.handled(1)
    expect(guest.boot(SHARED_INFO, 3, 1, TREE)).toBe(channels(3, 1))
    expect(guest.unmask(1)).toBe(0)
    expect(guest.handled(1)).toBe(handled + 1)
  })

  it.skipIf(NOT_RUN).each<[string, HypervisorOptions, number]>([
    ['an older host', { nlevel: false }, -Errno.ENOSYS],
    ['a host of three levels', { maxLevels: 3 }, -Errno.ENOSPC],
    ['a host of one leaf page', { maxLeafPages: 1 }, -Errno.ENOSPC],
  ])('NL-reg-2: is refused by %s, and stays on two levels, which work', (_, options, errno) => {
    const host = new Host(options).start(module, bits)
    const { guest, domain } = host
    expect(guest.boot(SHARED_INFO, 4, 2, TREE)).toBe(errno)
    expect([guest.levels(), inside(domain).levels]).toEqual([2, 2])
    const port = guest.bind_ipi()
    guest.send(port)
    expect(guest.handled(port)).toBe(1)
  })

  it.skipIf(NOT_RUN)('NL-query-2: asks what it would get, and gets it', () => {
    const { guest } = new Host({ maxLevels: 3, maxLeafPages: 1 }).start(module, bits, 4999)
    expect(guest.query()).toBe(5000)
    expect(guest.boot(SHARED_INFO, 3, 1, TREE)).toBe(5000)
    expect(new Host({ nlevel: false }).start(module, bits).guest.query()).toBe(-Errno.ENOSYS)
  })

  it.skipIf(NOT_RUN).each<[string, HypervisorOptions, number]>([
    ['the same levels', {}, 3],
    ['two levels', { nlevel: false }, 2],
  ])('NL-mig-1, NL-mig-2: moves to a host of %s, and makes its channels again', (_, options, levels) => {
    const host = new Host().start(module, bits)
    host.guest.boot(SHARED_INFO, 3, 1, TREE)
    const wanted = bits ** 2 + 100
    for (let i = 1; i <= wanted; i++) expect(host.guest.offer(0)).toBe(i)
    expect(host.guest.suspend()).toBe(0)
    const other = new Host(options).receive(module, host)
    const { guest } = other
    const got = guest.resume(SHARED_INFO, 3, 1, TREE)
    expect(got).toBe(levels === 3 ? channels(3, 1) : -Errno.ENOSYS)
    expect(guest.levels()).toBe(levels)
    expect(guest.lost()).toBe(levels === 3 ? 0 : wanted - (bits ** 2 - 1))
    const end = other.connect(1)
    const before = guest.handled(1)
    other.send(end)
    expect(guest.handled(1)).toBe(before + 1)
  })
})
