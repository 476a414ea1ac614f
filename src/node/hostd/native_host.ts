/**
 * A host of native programs: Xen's own tools, daemons and libraries run as ordinary processes against a hypervisor in this
 * one. dom0's kernel, and the store unless another daemon is started, are the library's.
 *
 *     xl, xenconsoled, vchan … ──sockets──▶ connections ─▶ devices ─▶ Hypervisor
 *             └───────────── pages ───────▶ DIR/machine ◀── WebAssembly.Memory ──┘
 *
 * Nothing is isolated from anything: every process of this user may map the whole machine. This is for tests.
 */

import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { connect, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { DOMID_FIRST_RESERVED, VIRQ } from '../../abi/index.js'
import { integer } from '../../check.js'
import { ManualClock } from '../../clock.js'
import { Dom0Kernel, Kernel, Scheduler, type Task } from '../../dom0/index.js'
import { MTWATCH_NODE } from '../../dom0/xenbus/index.js'
import { Errno, XenError } from '../../errno.js'
import { GuestKernel } from '../../guest/index.js'
import { Hypervisor } from '../../hypervisor/index.js'
import { connectInProcess, XenStored } from '../../xenstore/index.js'
import { NodeLoop } from '../node_loop.js'
import { type SocketServer, serveSocket } from '../xenstored_socket.js'
import { buildNative, type NativeParts } from './build.js'
import { Children } from './children.js'
import { type AnswerSockets, NativeConnection } from './connection.js'
import { HostConsole } from './host_console.js'
import type { Hosting, ToolstackDomain } from './hosting.js'
import { Machine } from './machine.js'
import { NativeDomain } from './native_domain.js'
import { NativeGuest } from './native_guest.js'
import { checkNativeOptions, type NativeHostOptions } from './options.js'
import { type Program, type ProgramOptions, programIn } from './program.js'
import { makeHome, storeHost } from './store.js'

const DOM0_FRAMES = 4096
const DOMAIN_FRAMES = 2048
/** Frames of a domain's grant table: 2,048 entries. */
const GRANT_FRAMES = 4

/** A host. */
export class NativeHost implements Hosting {
  readonly dir: string
  readonly xen: Hypervisor
  readonly machine: Machine
  readonly scheduler: Scheduler
  readonly console = new HostConsole()
  /** Programs that were started on it. */
  readonly children = new Children()
  /** What C parts were built; undefined: none, events and xenbus only. */
  readonly parts: NativeParts | undefined
  /** The library's store, unless another daemon serves. */
  readonly store: XenStored | undefined
  /** dom0's kernel: xenbus and backends, unless it was asked for without. */
  dom0Kernel: Dom0Kernel | undefined
  /** Called with a line for each request, if anybody listens. */
  readonly traced: ((line: string) => void) | undefined
  readonly #options: NativeHostOptions
  readonly #domains = new Map<number, NativeDomain>()
  readonly #guests = new Map<number, NativeGuest>()
  readonly #ending: (() => boolean)[] = []
  readonly #loop = new NodeLoop()
  readonly #answers: AnswerSockets = new Map()
  readonly #unknown = new Map<string, number>()
  #server: Server | undefined
  #socket: SocketServer | undefined
  #lastDomid = 0

  /**
   * Starts a host in a folder.
   * @throws ParameterError; NativeBuildError without a C compiler; Error if another host runs in the folder.
   */
  static async start(given: NativeHostOptions): Promise<NativeHost> {
    const options = checkNativeOptions(given)
    mkdirSync(options.dir, { recursive: true, mode: 0o700 })
    await mustBeFree(options.dir)
    const host = new NativeHost(options)
    try {
      await host.#start()
    } catch (error) {
      await host.close()
      throw error
    }
    return host
  }

  private constructor(options: NativeHostOptions) {
    this.#options = options
    this.dir = options.dir
    this.traced = options.onTrace
    this.parts = options.sharedMemory === false ? undefined : buildNative()
    this.machine = new Machine(options.dir, options.frames ?? 262_144, this.parts?.addon)
    const clock = new ManualClock()
    const onError = (error: unknown, where: string) => this.report(error, where)
    this.scheduler = new Scheduler({
      clock,
      onError,
      // A thread was woken, by an event or by the store: it runs before the event loop waits again.
      onReady: () => this.#loop.kick(),
    })
    // A domain's first event may come before its kernel is adopted, which then looks by itself.
    this.xen = Hypervisor.create({ clock, onError, warn: () => {} })
    const dom0 = this.addDomain(0, { frames: DOM0_FRAMES })
    for (const domid of options.domains ?? []) this.addDomain(domid)
    if ((options.store ?? 'own') === 'own') {
      this.store = new XenStored({ onError, host: storeHost(this), later: (step) => void setImmediate(step) })
      dom0
        .mustKernel()
        .channels.bindVirq(VIRQ.DOM_EXC, { name: 'xenstored', handler: () => this.store?.domainsChanged() })
    }
    if (options.dom0Kernel ?? this.store !== undefined) this.#startDom0Kernel(dom0)
  }

  #startDom0Kernel(dom0: NativeDomain): void {
    const { design } = this.#options
    this.dom0Kernel = new Dom0Kernel({
      xen: this.xen,
      domain: dom0.domain,
      channels: dom0.mustKernel().channels,
      kernel: new Kernel(this.scheduler, 'd0', 1),
      peer: () => dom0.storePeer(),
      onUnmapped: () => this.reap(),
      ...(design && { xenMtwatch: true, design }),
    })
  }

  async #start(): Promise<void> {
    const connected = createServer((socket) => void new NativeConnection(this, socket, this.#answers))
    this.#server = connected
    await new Promise<void>((resolve, reject) => {
      connected.once('error', reject)
      connected.listen(join(this.dir, 'host.sock'), () => resolve())
    })
    if (this.store) this.#socket = await serveSocket(this.store, join(this.dir, 'socket'))
    for (const domain of this.domains) await this.#introduce(domain)
    this.#loop.start(this.scheduler)
    const kernel = this.dom0Kernel
    if (!kernel) return
    let ready = false
    kernel.kernel.process('init', function* (): Task {
      yield* kernel.start()
      ready = true
    })
    // Another store's daemon is started after this host, and its kernel waits for it.
    if (this.store) await this.#loop.until(() => ready)
  }

  /** The own store learns of a domain that has a kernel, and has its home, as `xl create` would see to. */
  async #introduce({ kernel, domid }: NativeDomain): Promise<void> {
    if (!kernel || !this.store) return
    this.store.introduce(domid, kernel.storeGfn, kernel.storePort)
    if (domid) await makeHome(connectInProcess(this.store), domid)
  }

  // --- domains -------------------------------------------------------------------------------------------------------

  /** All domains, by number. */
  get domains(): NativeDomain[] {
    return [...this.#domains.values()].sort((a, b) => a.domid - b.domid)
  }

  /** The domain with this number. */
  domain(domid: number): NativeDomain | undefined {
    return this.#domains.get(domid)
  }

  /** The library's guest in a domain that a toolstack built. */
  guest(domid: number): NativeGuest | undefined {
    return this.#guests.get(domid)
  }

  /** Adds a domain with a kernel of the library's, for programs that run "in" it. @throws ParameterError, XenError */
  addDomain(domid: number, { frames = DOMAIN_FRAMES }: { frames?: number } = {}): NativeDomain {
    integer('addDomain', 'domid', domid, 0, DOMID_FIRST_RESERVED - 1)
    const domain = this.#create(domid, { frames, paused: false })
    const channels = GuestKernel.boot(this.xen.platform(domain.domain), { levels: domid ? 2 : 3, firstFreeGfn: 2 })
    this.xen.adopt(domain.domain, channels)
    domain.useKernel(channels, channels.setupGrants(GRANT_FRAMES))
    // Before `start` is over all domains are introduced together.
    if (this.#socket) void this.#introduce(domain)
    return domain
  }

  /** Shared info and the grant table are the last frames, so that all others are in one piece, as a toolstack wants them. */
  #create(
    domid: number,
    given: { frames: number; paused: boolean; vcpus?: number; maxEvtchnPort?: number; grantFrames?: number },
  ): NativeDomain {
    const { frames, grantFrames = GRANT_FRAMES, ...more } = given
    const first = this.machine.take(frames)
    try {
      const domain = this.xen.createDomain({
        domid,
        frames,
        ...more,
        memory: this.machine.memory,
        base: first * 4096,
        sharedInfoGfn: frames - grantFrames - 1,
        grantTableGfn: frames - grantFrames,
        maxGrantFrames: grantFrames,
      })
      const native = new NativeDomain(domain, this.machine, first, this.nowNs)
      this.#domains.set(domid, native)
      return native
    } catch (error) {
      this.machine.give(first, frames)
      throw error
    }
  }

  /** XEN_DOMCTL_createdomain. @throws XenError */
  createByToolstack({ wanted, vcpus, maxEvtchnPort, maxGrantFrames }: ToolstackDomain): NativeDomain {
    const domid = wanted > 0 && wanted < DOMID_FIRST_RESERVED ? wanted : this.#nextDomid()
    if (this.#domains.has(domid)) throw new XenError('createdomain', Errno.EEXIST, `d${domid} exists`)
    this.#tellRfc(domid, true)
    return this.#create(domid, {
      frames: this.#options.guestFrames ?? 16_384,
      paused: true,
      vcpus: Math.max(1, vcpus),
      maxEvtchnPort,
      grantFrames: Math.min(Math.max(1, maxGrantFrames), 64),
    })
  }

  /**
   * The toolstack's half of the RFC of 2018, which xl lacks: the node that announces a domain is written before anything else
   * of it, and removed last (XW-rfc-3).
   */
  #tellRfc(domid: number, there: boolean): void {
    if (!this.store || this.#options.design !== 'rfc') return
    const client = connectInProcess(this.store)
    const path = `${MTWATCH_NODE}/${domid}`
    const done = there ? client.write(path, '') : client.rm(path)
    done.catch((error) => this.report(error, path)).finally(() => client.close())
  }

  /** Numbers are not used again before all were. */
  #nextDomid(): number {
    do this.#lastDomid = (this.#lastDomid % (DOMID_FIRST_RESERVED - 1)) + 1
    while (this.#domains.has(this.#lastDomid))
    return this.#lastDomid
  }

  /** XEN_DOMCTL_pausedomain. */
  pause(domain: NativeDomain): void {
    this.xen.pauseDomain(domain.domain)
    this.#guests.get(domain.domid)?.guest.pause()
  }

  /** XEN_DOMCTL_unpausedomain. The first one of a domain that a toolstack built boots a guest in it. @throws XenError */
  unpause(domain: NativeDomain): void {
    this.xen.unpauseDomain(domain.domain)
    if (domain.domain.pauseCount) return
    this.#guests.get(domain.domid)?.guest.unpause()
    if (domain.started || domain.kernel) return
    domain.started = true
    this.#boot(domain)
    this.kick()
  }

  #boot(domain: NativeDomain): void {
    try {
      if (this.#options.onBoot?.(domain)) return
      const guest = NativeGuest.boot(this, domain, this.scheduler)
      if (guest) this.#guests.set(domain.domid, guest)
      else this.note(`d${domain.domid} has no start_info: nothing boots in it`)
    } catch (error) {
      this.report(error, `boot of d${domain.domid}`)
    }
  }

  /** XEN_DOMCTL_destroydomain: dead at once; its number and memory are free when the last of its pages is unmapped. */
  destroyByToolstack(domain: NativeDomain): void {
    const { domid } = domain
    this.#guests.get(domid)?.guest.destroy()
    this.#guests.delete(domid)
    this.xen.killDomain(domain.domain)
    this.reap()
  }

  /** Removes dead domains of which nobody has pages mapped. Called when pages were unmapped. */
  reap(): void {
    for (const domain of this.domains) {
      if (domain.domain.dying !== 'dead' || this.xen.grants.inUse(domain.domain)) continue
      this.#domains.delete(domain.domid)
      this.#tellRfc(domain.domid, false)
      this.xen.destroyDomain(domain.domain)
      this.machine.give(domain.first, domain.domain.memory.frames)
    }
    for (let i = this.#ending.length; i-- > 0; ) if (this.#ending[i]!()) this.#ending.splice(i, 1)
  }

  /** Takes a grant back and frees its frame, as soon as nobody uses it. */
  endGrant(domain: NativeDomain, ref: number, gfn: number): void {
    const end = (): boolean => {
      if (this.#domains.get(domain.domid) !== domain) return true
      const { grants, channels } = domain.mustKernel()
      if (!grants.end(ref)) return false
      channels.frames.release([gfn])
      return true
    }
    if (!end()) this.#ending.push(end)
  }

  // --- what devices need ---------------------------------------------------------------------------------------------

  /** System time in ns. */
  get nowNs(): number {
    return this.scheduler.nowNs
  }

  /** How a command is run in a domain. @throws Error without the C parts */
  program(domid: number, argv: readonly string[], options?: ProgramOptions): Program {
    if (!this.parts) throw new Error('programs need the C parts, and this host was started with sharedMemory: false')
    return programIn({ dir: this.dir, parts: this.parts }, domid, argv, options)
  }

  /** Lets threads run after whatever has just happened. */
  kick(): void {
    this.reap()
    this.#loop.kick()
  }

  /** Runs until `done` holds, in real time. */
  until(done: () => boolean): Promise<void> {
    return this.#loop.until(done)
  }

  /** @throws XenError ENODEV if native programs cannot map the machine's pages here. */
  mustShare(device: string): void {
    const { unshared } = this.machine
    if (unshared !== undefined) throw new XenError(device, Errno.ENODEV, `no pages are shared here: ${unshared}`)
  }

  /** Debug keys: 'e' dumps event channels onto the console. */
  debugKeys(keys: string): void {
    for (const key of keys) this.console.print(key === 'e' ? this.xen.dump() : [`debug key '${key}' does nothing here`])
  }

  note(line: string): void {
    this.#options.onNote?.(line)
  }

  /** A fault of the host's own. */
  report(error: unknown, where: string): void {
    const { onError } = this.#options
    if (onError) onError(error, where)
    else
      queueMicrotask(() => {
        throw error
      })
  }

  /** Refuses what no version of this host knows, and counts it. @throws XenError */
  unknown(what: string, errno: number): never {
    this.#unknown.set(what, (this.#unknown.get(what) ?? 0) + 1)
    this.note(`${what} is not known here`)
    throw new XenError(what, errno, 'not known here')
  }

  /** What was asked for and is not known, and how often. */
  get unknownCalls(): ReadonlyMap<string, number> {
    return this.#unknown
  }

  /** Ends: programs that are connected get SIGTERM, and the folder's socket and memory are removed. */
  async close(): Promise<void> {
    await this.children.close()
    this.#loop.stop()
    await this.#socket?.close()
    const server = this.#server
    this.#server = undefined
    if (server) {
      for (const socket of this.#answers.values()) socket.destroy()
      server.close()
      server.unref()
    }
    for (const file of ['machine', 'host.sock']) rmSync(join(this.dir, file), { force: true })
  }
}

/** Refuses a folder in which a host runs; removes what one that died has left. @throws Error */
async function mustBeFree(dir: string): Promise<void> {
  const path = join(dir, 'host.sock')
  if (Buffer.byteLength(path) > 100) throw new Error(`${dir} is too long for the path of a socket: at most 90 bytes`)
  if (!existsSync(path)) return
  const alive = await new Promise<boolean>((resolve) => {
    const probe = connect(path, () => {
      probe.destroy()
      resolve(true)
    })
    probe.on('error', () => resolve(false))
  })
  if (alive) throw new Error(`another host runs in ${dir}`)
  rmSync(path)
}
