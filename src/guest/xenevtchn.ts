/**
 * Handles as libxenevtchn has them (spec 8.3): user space of a guest, on top of its kernel's driver. A device keeps which
 * handle uses which port; a handle has a ring of ports that fired:
 *
 *     event → the driver masks the port → ring of its handle → pending() → … → unmask()
 *
 * `pending` hands out a port with the channel masked and its pending bit clear; a later signal sets the bit again and
 * is delivered after `unmask` (EC-lib-3). The ring has room for every port of the handle. One that was made smaller and is
 * full loses what comes, and says EFBIG until it is reset (EC-lib-6). Where libxenevtchn blocks a thread, this gives a promise.
 *
 * After a migration in cooperative mode the kernel makes the channels again, maybe under other numbers (NL-mig-2). A handle
 * follows: what is in its ring has the new numbers, and an old number is refused with the new one in the reason.
 */

/// <reference lib="esnext.disposable" preserve="true" />

import { DOMID_FIRST_RESERVED } from '../abi/index.js'
import { options as checkOptions, having, integer, ParameterError, type Table, within } from '../check.js'
import { Errno, XenError } from '../errno.js'
import { GuestKernel } from './index.js'
import type { BindOptions } from './options.js'

const U32_MAX = 2 ** 32 - 1

/** What the library needs of an AbortSignal. */
export interface Abortable {
  readonly aborted: boolean
  readonly reason: unknown
  addEventListener(type: 'abort', listener: () => void, options?: { once?: boolean }): void
  removeEventListener(type: 'abort', listener: () => void): void
}

/** Options of open. */
export interface EvtchnOpenOptions {
  /** Bit 0 is NO_CLOEXEC; any other bit is EINVAL (EC-lib-2). Default 0. */
  flags?: number
  /** Ports that the ring holds at most. Default: as many as the handle has, so that none is ever lost. */
  ringSize?: number
}

const OPEN: Table<EvtchnOpenOptions> = { flags: within(0, U32_MAX), ringSize: within(1, 2 ** 20) }
const WAIT_OPTIONS = { signal: having('addEventListener', 'removeEventListener') }

interface User {
  readonly handle: EvtchnHandle
  port: number
  /** False from the event until `unmask`. */
  enabled: boolean
}

/** The event channel device of one guest, as /dev/xen/evtchn is of one kernel. */
export class EvtchnDevice {
  readonly #kernel: GuestKernel
  readonly #users = new Map<number, User>()

  constructor(kernel: GuestKernel) {
    if (!(kernel instanceof GuestKernel)) throw new ParameterError('EvtchnDevice', 'kernel', kernel, 'a GuestKernel')
    this.#kernel = kernel
  }

  /**
   * A new handle.
   * @throws XenError EINVAL for unknown flags; ParameterError for a ring size out of range.
   */
  open(options: EvtchnOpenOptions = {}): EvtchnHandle {
    const { flags = 0, ringSize = Number.POSITIVE_INFINITY } = checkOptions('xenevtchn_open', options, OPEN)
    if (flags & ~1) throw new XenError('xenevtchn_open', Errno.EINVAL, `flags are ${flags}, only bit 0 is known`)
    return new EvtchnHandle(this.#kernel, this.#users, ringSize)
  }
}

interface Waiter {
  resolve(port: number): void
  reject(error: unknown): void
}

/**
 * One user's ports. Made by `EvtchnDevice.open`. What the handle refuses is a XenError named after the C function; what the
 * hypervisor refuses is the XenError of its operation, with its reason.
 */
export class EvtchnHandle implements Disposable, AsyncIterable<number> {
  readonly #kernel: GuestKernel
  readonly #users: Map<number, User>
  readonly #ringSize: number
  readonly #ring: User[] = []
  /** What became of numbers that a resume has changed. */
  readonly #former = new Map<number, string>()
  readonly #waiters: Waiter[] = []
  #overflow = false
  #closed = false
  #restricted: number | undefined

  /** @internal */
  constructor(kernel: GuestKernel, users: Map<number, User>, ringSize: number) {
    this.#kernel = kernel
    this.#users = users
    this.#ringSize = ringSize
  }

  #fail(op: string, errno: number, found: string): never {
    throw new XenError(`xenevtchn_${op}`, errno, found)
  }

  #open(op: string): void {
    if (this.#closed) this.#fail(op, Errno.EBADF, 'the handle is closed')
  }

  /** The port, if it is this handle's: one user a port. */
  #mine(op: string, port: number): User {
    this.#open(op)
    const user = this.#users.get(integer(`xenevtchn_${op}`, 'port', port, 0, 0xffff_ffff))
    if (user?.handle !== this)
      this.#fail(op, Errno.ENOTCONN, this.#former.get(port) ?? `port ${port} is not bound by this handle`)
    return user
  }

  /** Binds with the driver; from the first event on the port is this handle's. */
  #bind(make: (options: BindOptions) => number): number {
    const user: User = { handle: this, port: 0, enabled: true }
    // A binding fires at once (EC-inter-8), before its number is known here.
    let early = false
    user.port = make({
      handler: () => {
        if (user.port) this.#fired(user)
        else early = true
      },
      onRebound: (port, old) => this.#rebound(user, port, old),
      onLost: (reason, old) => this.#lost(user, reason, old),
    })
    this.#users.set(user.port, user)
    this.#former.delete(user.port)
    if (early) this.#fired(user)
    return user.port
  }

  /** The channel has another number on the new host. One that waits to be unmasked still does. */
  #rebound(user: User, port: number, old: number): void {
    // Another channel of the same resume may have this one's old number already.
    if (this.#users.get(old) === user) this.#users.delete(old)
    user.port = port
    this.#users.set(port, user)
    this.#former.delete(port)
    if (port !== old) this.#former.set(old, `port ${old} is port ${port} since the resume`)
    if (!user.enabled) this.#kernel.mask(port)
  }

  /** The channel does not exist on the new host. Who waits is told, if the handle has no other. */
  #lost(user: User, reason: string, old: number): void {
    if (this.#users.get(old) === user) this.#users.delete(old)
    this.#drop(user)
    const found = `port ${old} was lost in the resume: ${reason}`
    this.#former.set(old, found)
    for (const each of this.#users.values()) if (each.handle === this) return
    for (const waiter of this.#waiters.splice(0))
      waiter.reject(new XenError('xenevtchn_pending', Errno.ENOTCONN, found))
  }

  #drop(user: User): void {
    for (let i = this.#ring.indexOf(user); i >= 0; i = this.#ring.indexOf(user)) this.#ring.splice(i, 1)
  }

  /** The interrupt: mask, then queue. Masked, the port cannot fire again before `unmask`. */
  #fired(user: User): void {
    if (!user.enabled) return
    user.enabled = false
    this.#kernel.mask(user.port)
    const waiter = this.#waiters.shift()
    if (waiter) waiter.resolve(user.port)
    else if (this.#ring.length < this.#ringSize) this.#ring.push(user)
    else this.#overflow = true
  }

  #allowed(op: string, domid: number): void {
    this.#open(op)
    integer(`xenevtchn_${op}`, 'domid', domid, 0, 0xffff)
    if (this.#restricted !== undefined && this.#restricted !== domid)
      this.#fail(op, Errno.EACCES, `the handle is restricted to domain ${this.#restricted}`)
  }

  /** A port that `domid` may bind to (xenevtchn_bind_unbound_port). */
  bindUnboundPort(domid: number): number {
    this.#allowed('bind_unbound_port', domid)
    return this.#bind((options) => this.#kernel.allocUnbound(domid, options))
  }

  /** A port connected to another domain's (xenevtchn_bind_interdomain). Fires once at first (EC-inter-8). */
  bindInterdomain(domid: number, remotePort: number): number {
    this.#allowed('bind_interdomain', domid)
    integer('xenevtchn_bind_interdomain', 'remotePort', remotePort, 0, U32_MAX)
    return this.#bind((options) => this.#kernel.bindInterdomain(domid, remotePort, options))
  }

  /** A port for a VIRQ on vCPU 0 (xenevtchn_bind_virq). EACCES on a restricted handle. */
  bindVirq(virq: number): number {
    this.#open('bind_virq')
    if (this.#restricted !== undefined)
      this.#fail('bind_virq', Errno.EACCES, `the handle is restricted to domain ${this.#restricted}`)
    integer('xenevtchn_bind_virq', 'virq', virq, 0, U32_MAX)
    return this.#bind((options) => this.#kernel.bindVirq(virq, options))
  }

  /** Closes one port (xenevtchn_unbind). What it still has in the ring stays there, as in Linux (EC-lib-7). */
  unbind(port: number): void {
    this.#release(this.#mine('unbind', port))
  }

  /** The kernel first: a port that it cannot close, for its domain stands still, stays this handle's. */
  #release(user: User): void {
    this.#kernel.close(user.port)
    this.#users.delete(user.port)
  }

  /** Signals the other end of a port (xenevtchn_notify). */
  notify(port: number): void {
    this.#mine('notify', port)
    this.#kernel.send(port)
  }

  /** Lets a port fire again (xenevtchn_unmask). A port that is not masked is left alone. */
  unmask(port: number): void {
    const user = this.#mine('unmask', port)
    if (user.enabled) return
    user.enabled = true
    this.#kernel.unmask(port)
  }

  /** The next port that fired, if there is one; the non-blocking `pending`. @throws XenError EFBIG after an overflow. */
  tryPending(): number | undefined {
    this.#open('pending')
    if (this.#overflow) this.#fail('pending', Errno.EFBIG, `the ring of ${this.#ringSize} ports overflowed`)
    return this.#ring.shift()?.port
  }

  /**
   * The next port that fired, masked and with its pending bit clear (xenevtchn_pending). Rejects with EFBIG after an
   * overflow, with EBADF when the handle is closed meanwhile, and with the signal's reason when that aborts.
   */
  pending(options: { signal?: Abortable } = {}): Promise<number> {
    try {
      const { signal } = checkOptions('xenevtchn_pending', options, WAIT_OPTIONS)
      if (signal?.aborted) return Promise.reject(signal.reason)
      const port = this.tryPending()
      return port === undefined ? this.#wait(signal) : Promise.resolve(port)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  #wait(signal: Abortable | undefined): Promise<number> {
    return new Promise((resolve, reject) => {
      const abort = () => {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1)
        reject(signal!.reason)
      }
      const settle =
        <T>(done: (value: T) => void) =>
        (value: T) => {
          signal?.removeEventListener('abort', abort)
          done(value)
        }
      const waiter: Waiter = { resolve: settle(resolve), reject: settle(reject) }
      signal?.addEventListener('abort', abort, { once: true })
      this.#waiters.push(waiter)
    })
  }

  /** Ports as they fire, until the handle is closed or the signal aborts; the user unmasks each. */
  async *ports(options: { signal?: Abortable } = {}): AsyncGenerator<number, void, void> {
    while (!this.#closed && !options.signal?.aborted) {
      let port: number
      try {
        port = await this.pending(options)
      } catch (error) {
        // Closing or aborting is how such a loop ends.
        if (this.#closed || options.signal?.aborted) return
        throw error
      }
      yield port
    }
  }

  [Symbol.asyncIterator](): AsyncGenerator<number, void, void> {
    return this.ports()
  }

  /** Empties the ring and forgets an overflow (IOCTL_EVTCHN_RESET). Ports that were in it stay masked until unmasked. */
  reset(): void {
    this.#open('reset')
    this.#ring.length = 0
    this.#overflow = false
  }

  /** From now on only channels to `domid`, a guest other than domain 0, and no VIRQs (xenevtchn_restrict). Once. */
  restrict(domid: number): void {
    this.#open('restrict')
    if (this.#restricted !== undefined)
      this.#fail('restrict', Errno.EACCES, `the handle is restricted to domain ${this.#restricted}`)
    if (integer('xenevtchn_restrict', 'domid', domid, 0, 0xffff) >= DOMID_FIRST_RESERVED || domid === 0)
      this.#fail('restrict', Errno.EINVAL, `domain ${domid} is not a guest beside domain 0`)
    this.#restricted = domid
  }

  /**
   * Unbinds everything; waiting calls reject with EBADF. Closing twice does nothing.
   * @throws XenError the refusal of the first port that could not be unbound: EAGAIN while the guest is frozen for a
   * migration, ESRCH when it is gone. The others are unbound, and closing again tries the rest.
   */
  close(): void {
    this.#closed = true
    for (const waiter of this.#waiters.splice(0))
      waiter.reject(new XenError('xenevtchn_pending', Errno.EBADF, 'the handle was closed'))
    const failed: unknown[] = []
    for (const user of [...this.#users.values()])
      if (user.handle === this)
        try {
          this.#release(user)
        } catch (error) {
          failed.push(error)
        }
    if (failed.length) throw failed[0]
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
