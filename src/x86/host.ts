/**
 * A host for machines of v86: a hypervisor, dom0's driver, a store, and for each guest what an HVM domain finds at boot.
 *
 *     V86Host.create ─▶ Hypervisor ─┬─ d0: GuestKernel, XenStored
 *            boot    ─▶ v86 ────────┴─ dN: 32 bits, one vCPU, in the emulator's memory
 *                         frame 0xd0 the store's ring, port 1 · 0xd1 the console's, port 2 · 0xd2 shared_info, until the guest
 *                         places it: the hole of option ROMs, which is RAM in this machine and which kernels leave alone
 */

import { PAGE_SIZE, VIRQ } from '../abi/index.js'
import { Callouts } from '../callout.js'
import { anything, flag, func, options, within } from '../check.js'
import { ringEnd, xenStoreHost } from '../dom0/host/ring_ends.js'
import { ConsoleRing } from '../dom0/io/index.js'
import type { Domain } from '../domain/handles.js'
import { GuestKernel } from '../guest/index.js'
import type { DomainOptions, HypervisorOptions } from '../host/options.js'
import type { HypercallCaller } from '../host/world.js'
import { Hypervisor } from '../hypervisor/index.js'
import { connectInProcess, restoreState, saveState, type XenStoreClient, XenStored } from '../xenstore/index.js'
import type { V86Boot, V86Files } from './emulator.js'
import { V86Guest } from './guest.js'
import { Machine } from './machine.js'
import { restoreParams, saveParams, type V86Snapshot } from './snapshot.js'

const STORE_GFN = 0xd0
const CONSOLE_GFN = 0xd1
const SHARED_INFO_GFN = 0xd2
const CONSOLE_IO = 18
const CONSOLEIO_WRITE = 0
/** Longest text of one console_io that is taken. */
const MOST_TEXT = 4096

/** Options of a host: those of `Hypervisor.create` but for the hooks that the host itself has. */
export type V86HostOptions = Omit<HypervisorOptions, 'onUpcall' | 'onUnblock' | 'onShutdown' | 'hypercall'>

/** Options of a guest. */
export interface V86GuestOptions extends V86Boot {
  readonly files: V86Files
  /** 1 … 0x7fef, free on this host. Default 1. */
  readonly domid?: number
  /** RAM. At least 80 with an initrd, which v86 puts at 64 MiB. Default 256. */
  readonly memoryMiB?: number
  /** False: the guest learns of no upcall vector of its vCPU's and uses a callback. Default true. */
  readonly perVcpuVector?: boolean
  /** More options of the domain, such as `maxEvtchnPort` or `features`. */
  readonly domain?: Partial<
    Omit<DomainOptions, 'domid' | 'memory' | 'base' | 'frames' | 'translate' | 'bits' | 'type' | 'vcpus'>
  >
  /** A byte that the guest wrote on its first serial line. */
  readonly onSerial?: (byte: number) => void
  /** What the guest wrote on its Xen console. */
  readonly onConsole?: (bytes: Uint8Array) => void
  /** What the guest wrote by HYPERVISOR_console_io, as Xen's own console has it. */
  readonly onConsoleIo?: (text: string) => void
  /** The guest shut itself down, with this reason (SHUTDOWN_*). The emulator has been told to stop. */
  readonly onShutdown?: (reason: number) => void
}

/** A host and its guests. */
export class V86Host {
  readonly xen: Hypervisor
  readonly dom0: Domain
  /** dom0's event channels. */
  readonly channels: GuestKernel
  readonly store: XenStored
  /** dom0's connection to the store. */
  readonly xs: XenStoreClient
  readonly #callouts: Callouts
  readonly #guests = new Map<number, V86Guest>()

  private constructor(given: V86HostOptions) {
    this.#callouts = new Callouts(given.onError)
    this.xen = Hypervisor.create({
      ...given,
      onUpcall: ({ domid, vcpuId }, how) => {
        if (domid) this.#guests.get(domid)?.machine.upcall(how)
        else this.channels?.upcall(vcpuId)
      },
      onUnblock: ({ domid }) => this.#guests.get(domid)?.machine.unblock(),
      onShutdown: ({ domid }, reason) => this.#guests.get(domid)?.stopped(reason),
      hypercall: (caller, nr, args) => this.#hypercall(caller, nr, args),
    })
    this.dom0 = this.xen.createDomain({ domid: 0 })
    this.channels = GuestKernel.boot(this.xen.platform(this.dom0))
    const onError = given.onError && { onError: given.onError }
    const rings = xenStoreHost(this.xen, this.channels)
    this.store = new XenStored({
      ...onError,
      // A ring that moved here comes without its frame: it is where every guest has it.
      host: { ...rings, connect: (domid, gfn, port) => rings.connect(domid, gfn || STORE_GFN, port) },
    })
    this.channels.bindVirq(VIRQ.DOM_EXC, { name: 'xenstored', handler: () => this.store.domainsChanged() })
    this.xs = connectInProcess(this.store)
  }

  /** A host with dom0 and a store, and without guests. @throws ParameterError */
  static create(given: V86HostOptions = {}): V86Host {
    return new V86Host(given)
  }

  /** Guests by number. */
  guest(domid: number): V86Guest | undefined {
    return this.#guests.get(domid)
  }

  /**
   * Loads a machine, makes it a domain, and tells the store of it. It runs when the promise is kept.
   * @throws ParameterError for options of the wrong type, and for another emulator than v86 0.5.462; XenError
   */
  async boot(given: V86GuestOptions): Promise<V86Guest> {
    const { domid = 1, memoryMiB = 256, perVcpuVector = true, ...rest } = checkGuest(given)
    const machine = await this.#load(rest, { memoryMiB, perVcpuVector, domid })
    const domain = this.xen.createDomain({
      maxEvtchnPort: Number.POSITIVE_INFINITY,
      ...rest.domain,
      ...machine.placement,
      domid,
      bits: 32,
      type: 'hvm',
      frames: (memoryMiB * 2 ** 20) / PAGE_SIZE,
      sharedInfoGfn: SHARED_INFO_GFN,
    })
    machine.become(this.xen, domain)
    const port = () => domain.eventChannelOp('alloc_unbound', { dom: domid, remote_dom: 0 }).port
    const ports = { store: port(), console: port() }
    this.#parameters(domain, ports)
    await this.#introduce(domid, ports.store)
    return this.#start(domain, machine, ports.console, rest)
  }

  #load(given: V86GuestOptions, settled: { memoryMiB: number; perVcpuVector: boolean; domid: number }) {
    const { files, onSerial } = given
    return Machine.load({ files, boot: given, ...settled }, { onSerial, onError: this.#onError })
  }

  /** The guest runs from here on. */
  #start(domain: Domain, machine: Machine, consolePort: number, events: V86GuestOptions): V86Guest {
    const { domid } = domain
    const { onConsole, onShutdown, onConsoleIo } = events
    const onError = this.#onError
    const peer = ringEnd(this.xen, this.channels, domid, CONSOLE_GFN, consolePort, `console d${domid}`)!
    const console = new ConsoleRing(peer, { ...(onConsole && { onOutput: onConsole }), onError })
    const guest = new V86Guest(domain, machine, console, { onShutdown, onConsoleIo, onError })
    this.#guests.set(domid, guest)
    machine.emulator.run()
    return guest
  }

  readonly #onError = (error: unknown, where: string) => this.#callouts.report(error, where)

  /**
   * A guest as it stands, to be restored on this host or another. It goes on afterwards.
   * @throws XenError as `saveDomain`
   */
  async save({ domain, machine }: V86Guest): Promise<V86Snapshot> {
    const { emulator } = machine
    await emulator.stop()
    const saved = this.xen.saveDomain(domain, { mode: 'transparent', ram: false, freeze: false })
    const store = saveState(this.store, { domid: domain.domid })
    const state = new Uint8Array(await emulator.save_state())
    emulator.run()
    const { memoryMiB, perVcpuVector } = machine.options
    const hvmParams = saveParams(domain)
    return { format: 'evtchn-v86', memoryMiB, perVcpuVector, emulator: state, domain: saved, store, hvmParams }
  }

  /**
   * Starts a guest from a snapshot, whose number must be free here. Its channels to dom0 are connected again, and the store
   * has its watches and its transactions: the guest notices an event too many, and the clock.
   * @throws ParameterError; SavedStateError, RestoreError and StoreStateError for a state that is damaged or refused
   */
  async restore(
    snapshot: V86Snapshot,
    given: Omit<V86GuestOptions, keyof V86Boot | 'memoryMiB' | 'domid'>,
  ): Promise<V86Guest> {
    checkGuest(given)
    const { memoryMiB, perVcpuVector, emulator, domain: saved, store, hvmParams } = snapshot
    const { domid } = saved
    const machine = await this.#load(given, { memoryMiB, perVcpuVector, domid })
    // RAM first: what restoreDomain sets in it must not be overwritten.
    await machine.emulator.restore_state(emulator.slice().buffer)
    const terms = { maxEvtchnPort: Number.POSITIVE_INFINITY, ...given.domain, ...machine.placement, domid }
    const domain = this.xen.restoreDomain(saved, { ...terms, ram: 'keep' })
    machine.become(this.xen, domain)
    restoreParams(this.xen, domain, hvmParams)
    restoreState(this.store, store, { domid })
    const guest = this.#start(domain, machine, Number(domain.hvmParam('CONSOLE_EVTCHN')), given)
    this.xen.startDomain(domain)
    return guest
  }

  /** What an HVM guest asks for at boot. */
  #parameters(domain: Domain, ports: { store: number; console: number }): void {
    this.xen.setHvmParam(domain, 'STORE_PFN', BigInt(STORE_GFN))
    this.xen.setHvmParam(domain, 'STORE_EVTCHN', BigInt(ports.store))
    this.xen.setHvmParam(domain, 'CONSOLE_PFN', BigInt(CONSOLE_GFN))
    this.xen.setHvmParam(domain, 'CONSOLE_EVTCHN', BigInt(ports.console))
  }

  /** The nodes that a toolstack makes, and the guest's ring. */
  async #introduce(domid: number, port: number): Promise<void> {
    const home = `/local/domain/${domid}`
    const make = async (path: string, value: string, perms: readonly string[]) => {
      await this.xs.write(path, value)
      await this.xs.setPermissions(path, perms)
    }
    await make(home, '', ['n0', `r${domid}`])
    await make(`${home}/name`, `guest-${domid}`, ['n0', `r${domid}`])
    await make(`${home}/domid`, `${domid}`, ['n0', `r${domid}`])
    for (const folder of ['control', 'control/shutdown', 'device', 'data'])
      await make(`${home}/${folder}`, '', [`n${domid}`])
    await make(`${home}/control/platform-feature-xs_reset_watches`, '1', ['n0', `r${domid}`])
    await this.xs.introduce(domid, STORE_GFN, port)
  }

  /** What the library does not know and a guest asks for: Xen's own console. */
  #hypercall({ domain, copyIn }: HypercallCaller, nr: number, [cmd, count = 0, gva = 0]: readonly number[]) {
    if (nr !== CONSOLE_IO || cmd !== CONSOLEIO_WRITE) return undefined
    const bytes = copyIn(gva, Math.min(count, MOST_TEXT))
    if (!bytes) return undefined
    this.#guests.get(domain.domid)?.wrote(String.fromCharCode(...bytes))
    return bytes.length
  }

  /** Ends a guest: its machine and its domain. */
  async destroy(guest: V86Guest): Promise<void> {
    this.#guests.delete(guest.domain.domid)
    await guest.machine.emulator.destroy()
    if (guest.domain.dying === 'alive') this.xen.destroyDomain(guest.domain)
  }
}

function checkGuest(given: V86GuestOptions): V86GuestOptions {
  return options<V86GuestOptions>('V86Host.boot', given, {
    files: anything,
    domid: anything,
    memoryMiB: within(16, 2048),
    perVcpuVector: flag,
    domain: anything,
    kernel: anything,
    initrd: anything,
    commandLine: anything,
    onSerial: func,
    onConsole: func,
    onConsoleIo: func,
    onShutdown: func,
  })
}
