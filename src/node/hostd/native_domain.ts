/**
 * A domain of a native host: its window of the machine, the library's kernel in it if there is one, and what native programs
 * that run "in" it share: one evtchn device, one grant table, one user of the store's ring.
 */

import { GNTTAB_RESERVED, PAGE_SIZE } from '../../abi/index.js'
import type { Domain } from '../../domain/handles.js'
import { Errno, XenError } from '../../errno.js'
import type { GuestGrants, GuestKernel } from '../../guest/index.js'
import { EvtchnDevice } from '../../guest/xenevtchn.js'
import type { RingPeer } from '../../xenstore/index.js'
import type { Machine } from './machine.js'
import type { XenbusUsers } from './xenbus_users.js'

/** The library's kernel in a domain: what user space stands on. */
export interface DomainKernel {
  readonly channels: GuestKernel
  readonly grants: GuestGrants
  readonly device: EvtchnDevice
  /** Its ring to the store: frame and port. */
  readonly storeGfn: number
  readonly storePort: number
  onStore: () => void
}

/** One domain. */
export class NativeDomain {
  readonly domain: Domain
  /** First frame of its window in the machine. */
  readonly first: number
  /** The kernel that runs in it: from `bootKernel`. */
  kernel: DomainKernel | undefined
  /** Users of /dev/xen/xenbus, once there is one. */
  users: XenbusUsers | undefined
  /** Made by a toolstack: frames are handed out from here on as it populates them. */
  nextGfn = 1
  /** Frames that the toolstack lets it have; undefined: all of its window. */
  maxFrames: number | undefined
  /** The toolstack has unpaused it once. */
  started = false
  /** 16 bytes that the toolstack names it by. */
  handle: Uint8Array = new Uint8Array(16)
  readonly createdNs: number
  readonly #machine: Machine
  #bounceGfn: number | undefined

  /** @internal */
  constructor(domain: Domain, machine: Machine, first: number, createdNs: number) {
    this.domain = domain
    this.first = first
    this.#machine = machine
    this.createdNs = createdNs
  }

  get domid(): number {
    return this.domain.domid
  }

  /** Frames that it has. */
  get pages(): number {
    return this.kernel ? this.domain.memory.frames : this.nextGfn - 1
  }

  /** Frame of the machine that holds one of its frames. @throws XenError EINVAL */
  frame(gfn: number): number {
    if (!(gfn >= 0 && gfn < this.domain.memory.frames))
      throw new XenError(
        'frame',
        Errno.EINVAL,
        `d${this.domid} has frames 0 to ${this.domain.memory.frames - 1}, not ${gfn}`,
      )
    return this.first + gfn
  }

  /** The toolstack populates frames up to here: then come shared_info and the grant table. */
  get populateEnd(): number {
    return this.domain.sharedInfoGfn
  }

  /** The frame for arguments of hypercalls that its programs make. @throws XenError ENODEV, ENOMEM */
  bounceGfn(): number {
    this.#bounceGfn ??= this.mustKernel().channels.frames.allocate(1)?.[0]
    if (this.#bounceGfn === undefined) throw new XenError('hypercall', Errno.ENOMEM, `d${this.domid} has no free frame`)
    return this.#bounceGfn
  }

  /** A page of its RAM. */
  page(gfn: number): Uint8Array {
    const at = this.frame(gfn) * PAGE_SIZE
    return this.#machine.bytes.subarray(at, at + PAGE_SIZE)
  }

  /** Gives the domain a kernel of the library's, with a ring to the store that dom0's daemon may map (reference 1). */
  useKernel(channels: GuestKernel, grants: GuestGrants): DomainKernel {
    const [storeGfn] = channels.frames.allocate(1)!
    const kernel: DomainKernel = {
      channels,
      grants,
      device: new EvtchnDevice(channels),
      storeGfn: storeGfn!,
      storePort: channels.allocUnbound(0, { name: 'xenstore', handler: () => kernel.onStore() }),
      onStore: () => {},
    }
    grants.grantReserved(GNTTAB_RESERVED.xenstore, 0, storeGfn!)
    this.kernel = kernel
    return kernel
  }

  /** Its kernel. @throws XenError ENODEV: nothing runs in it that native programs could stand on. */
  mustKernel(): DomainKernel {
    if (!this.kernel)
      throw new XenError(
        'open',
        Errno.ENODEV,
        `d${this.domid} has no kernel of the host's: add it by --dom ${this.domid}`,
      )
    return this.kernel
  }

  /** Its end of the ring to the store. */
  storePeer(): RingPeer {
    const kernel = this.mustKernel()
    return {
      page: () => this.page(kernel.storeGfn),
      channel: {
        notify: () => kernel.channels.send(kernel.storePort),
        onEvent: (callback) => {
          kernel.onStore = callback
        },
      },
      close: () => {},
    }
  }
}
