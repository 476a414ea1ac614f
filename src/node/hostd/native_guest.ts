/**
 * The guest that boots in a domain which a toolstack built, unless the embedder brings another: the library's kernel with its
 * network and disk frontends, a console that greets, and an answer to `xl shutdown` and `xl reboot`.
 */

import { HYPERVISOR, PAGE_SIZE, SCHEDOP, SHUTDOWN } from '../../abi/index.js'
import { Guest, type Scheduler, type Task, XenbusWatch } from '../../dom0/index.js'
import { GuestConsole } from './guest_console.js'
import type { Hosting } from './hosting.js'
import type { NativeDomain } from './native_domain.js'
import { findStartInfo } from './start_info.js'

/** Reasons that `control/shutdown` may name, and how the guest then ends. */
const REASONS: Readonly<Record<string, number>> = {
  poweroff: SHUTDOWN.poweroff,
  halt: SHUTDOWN.poweroff,
  reboot: SHUTDOWN.reboot,
}

/** A guest that runs. */
export class NativeGuest {
  readonly guest: Guest
  readonly console: GuestConsole | undefined
  readonly #host: Hosting
  readonly #domain: NativeDomain
  readonly #argumentGfn: number

  /** Boots it. Throws what the kernel's boot throws; undefined: the toolstack left no start_info. */
  static boot(host: Hosting, domain: NativeDomain, scheduler: Scheduler): NativeGuest | undefined {
    const info = findStartInfo(domain)
    return info && new NativeGuest(host, domain, scheduler, info)
  }

  private constructor(
    host: Hosting,
    domain: NativeDomain,
    scheduler: Scheduler,
    info: NonNullable<ReturnType<typeof findStartInfo>>,
  ) {
    this.#host = host
    this.#domain = domain
    const { memory } = domain.domain
    this.guest = new Guest(host.xen, scheduler, domain.domain, {
      memoryMiB: Math.ceil(memory.frames / 256),
      storePort: info.storePort,
      storeGfn: info.storeGfn,
      levels: 2,
      firstFreeGfn: domain.nextGfn,
      grantFrames: 1,
    })
    this.guest.unpause()
    const channels = this.guest.channels!
    host.xen.adopt(domain.domain, channels)
    this.#argumentGfn = channels.frames.allocate(1)![0]!
    this.console = info.consolePort
      ? new GuestConsole(domain.page(info.consoleGfn), info.consolePort, channels)
      : undefined
    if (this.console) this.console.onInput = (text) => this.console?.write(text)
    this.guest.kernel.process('init', () => this.#init())
  }

  *#init(): Task {
    const { xenbus } = this.guest
    const name = yield* xenbus.readIfExists('name')
    this.console?.write(`${name ?? 'guest'}: the library's kernel runs in domain ${this.#domain.domid}\r\n`)
    const guest = this
    const watch = new XenbusWatch({
      node: 'control/shutdown',
      callback: function* () {
        const reason = yield* xenbus.readIfExists('control/shutdown')
        if (!reason) return
        guest.console?.write(`control/shutdown: ${reason}\r\n`)
        yield* xenbus.write('control/shutdown', '')
        if (REASONS[reason] !== undefined) guest.shutdown(REASONS[reason]!)
      },
    })
    yield* xenbus.register(watch)
  }

  /** SCHEDOP_shutdown by the guest itself. */
  shutdown(reason: number): void {
    const gpa = this.#argumentGfn * PAGE_SIZE
    this.#domain.domain.memory.data.setUint32(gpa, reason, true)
    this.#host.xen.hypercall(this.#domain.domain.vcpu(0), HYPERVISOR.sched_op, [SCHEDOP.shutdown, gpa])
  }
}
