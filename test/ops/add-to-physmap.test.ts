/** XENMEM_add_to_physmap: an HVM guest places shared_info and its grant table (spec part 12). */

import { describe, expect, it } from 'vitest'
import { type Bits, DOMID_SELF, PAGE_SIZE, sharedInfo } from '../../src/abi/index.js'
import { Errno, Hypervisor } from '../../src/index.js'
import { RawGuest } from '../raw_guest.js'

const MEMORY_OP = 12
const ADD_TO_PHYSMAP = 7
const ARGUMENT = 0x8000
const NOWHERE = 0x7fff_f000
const SPACE = { shared_info: 0, grant_table: 1, gmfn: 2, gmfn_foreign: 4 } as const

interface Xatp {
  domid?: number
  space?: number
  idx?: number
  gpfn: number
}

/** Writes the struct and makes the call. */
function add(guest: RawGuest, { domid = DOMID_SELF, space = SPACE.shared_info, idx = 0, gpfn }: Xatp): number {
  const { view, domain } = guest
  view.setUint16(ARGUMENT, domid, true)
  view.setUint16(ARGUMENT + 2, 0, true)
  view.setUint32(ARGUMENT + 4, space, true)
  if (domain.bits === 32) {
    view.setUint32(ARGUMENT + 8, idx, true)
    view.setUint32(ARGUMENT + 12, gpfn, true)
  } else {
    view.setBigUint64(ARGUMENT + 8, BigInt(idx), true)
    view.setBigUint64(ARGUMENT + 16, BigInt(gpfn), true)
  }
  return guest.call(MEMORY_OP, [ADD_TO_PHYSMAP, ARGUMENT])
}

const hvm = (xen: Hypervisor, bits: Bits, domid = 1): RawGuest => new RawGuest(xen, { domid, bits, type: 'hvm' })

/** A channel of the guest to itself: the port to send on, and the one that gets it. */
function loopback({ domain }: RawGuest): { far: number; near: number } {
  const { port: near } = domain.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: DOMID_SELF })
  const { local_port: far } = domain.eventChannelOp('bind_interdomain', {
    remote_dom: DOMID_SELF,
    remote_port: near,
  })
  return { far, near }
}

const pendingAt = (guest: RawGuest, gfn: number, port: number) =>
  guest.bitAt([gfn * PAGE_SIZE + sharedInfo(guest.domain.bits).pending, port])

describe.each([32, 64] as const)('add_to_physmap, %i-bit guest', (bits) => {
  it('EC-map-2, EC-map-3: what was raised before the move is in the new frame, and the old one is zeros', () => {
    const guest = hvm(Hypervisor.create(), bits)
    const { far, near } = loopback(guest)
    guest.domain.eventChannelOp('send', { port: far })
    expect(add(guest, { gpfn: 0x10 })).toBe(0)
    expect(guest.domain.sharedInfoGfn).toBe(0x10)
    expect(pendingAt(guest, 0x10, near)).toBe(1)
    expect(guest.domain.isPending(near)).toBe(true)
    expect(guest.bytes.subarray(PAGE_SIZE, 2 * PAGE_SIZE).some((byte) => byte !== 0)).toBe(false)
  })

  it('EC-map-2: what is raised after the move is set in the new frame alone', () => {
    const guest = hvm(Hypervisor.create(), bits)
    const { far, near } = loopback(guest)
    expect(add(guest, { gpfn: 0x20 })).toBe(0)
    expect(pendingAt(guest, 0x20, near)).toBe(0)
    guest.domain.eventChannelOp('send', { port: far })
    expect(pendingAt(guest, 0x20, near)).toBe(1)
    expect(guest.bytes[0x20 * PAGE_SIZE], 'evtchn_upcall_pending').toBe(1)
    expect(guest.bytes[PAGE_SIZE]).toBe(0)
  })

  it('EC-map-2: a vcpu_info that was registered elsewhere stays where it is', () => {
    const guest = hvm(Hypervisor.create(), bits)
    guest.view.setBigUint64(ARGUMENT, 0x30n, true)
    guest.view.setUint32(ARGUMENT + 8, 0, true)
    expect(guest.call(24, [10, 0, ARGUMENT])).toBe(0)
    expect(add(guest, { gpfn: 0x10 })).toBe(0)
    guest.bytes.fill(0, 0x30 * PAGE_SIZE, 0x30 * PAGE_SIZE + 64)
    const { far } = loopback(guest)
    guest.domain.eventChannelOp('send', { port: far })
    expect(guest.bytes[0x30 * PAGE_SIZE]).toBe(1)
    expect(guest.bytes[0x10 * PAGE_SIZE]).toBe(0)
  })

  it('EC-map-2: a second kernel of the domain moves it again', () => {
    const guest = hvm(Hypervisor.create(), bits)
    const { far, near } = loopback(guest)
    for (const gpfn of [0x10, 0x11, 0x10]) expect(add(guest, { gpfn })).toBe(0)
    guest.domain.eventChannelOp('send', { port: far })
    expect(pendingAt(guest, 0x10, near)).toBe(1)
  })

  it.each([
    ['an unknown domain', { domid: 77, gpfn: 9 }, Errno.ESRCH],
    ['another domain', { domid: 2, gpfn: 9 }, Errno.EPERM],
    ['a foreign frame', { space: SPACE.gmfn_foreign, gpfn: 9 }, Errno.ENOSYS],
    ['a frame of its own', { space: SPACE.gmfn, gpfn: 9 }, Errno.EINVAL],
    ['no space', { space: 17, gpfn: 9 }, Errno.EINVAL],
    ['a frame outside RAM', { gpfn: 256 }, Errno.EINVAL],
    ['an index', { idx: 1, gpfn: 9 }, Errno.EINVAL],
    ['a grant frame beyond the limit', { space: SPACE.grant_table, idx: 64, gpfn: 9 }, Errno.EINVAL],
  ] as const)('EC-map-1: %s is refused, and nothing has changed', (_, args, errno) => {
    const xen = Hypervisor.create()
    const guest = hvm(xen, bits)
    hvm(xen, bits, 2)
    const before = guest.bytes.slice(0, ARGUMENT)
    expect(add(guest, args)).toBe(-errno)
    expect(guest.domain.sharedInfoGfn).toBe(1)
    expect(guest.bytes.subarray(0, ARGUMENT)).toEqual(before)
  })

  it('EC-map-1: a struct that cannot be read is EFAULT', () => {
    expect(hvm(Hypervisor.create(), bits).call(MEMORY_OP, [ADD_TO_PHYSMAP, NOWHERE])).toBe(-Errno.EFAULT)
  })

  it('EC-map-1: a PV domain has no frame numbers of its own: EACCES', () => {
    expect(add(new RawGuest(Hypervisor.create(), { domid: 1, bits }), { gpfn: 9 })).toBe(-Errno.EACCES)
  })

  it('EC-map-1: a frame that the hypervisor uses is EBUSY, and shared_info stays', () => {
    const guest = hvm(Hypervisor.create(), bits)
    expect(add(guest, { space: SPACE.grant_table, gpfn: 9 })).toBe(0)
    expect(add(guest, { gpfn: 9 })).toBe(-Errno.EBUSY)
    expect(add(guest, { space: SPACE.grant_table, gpfn: 1 })).toBe(-Errno.EBUSY)
    expect(guest.domain.sharedInfoGfn).toBe(1)
  })

  it('EC-map-4: shared_info stays while a vCPU is on a thread of its own', () => {
    const xen = Hypervisor.create({ threads: 1 })
    const guest = new RawGuest(xen, { domid: 1, bits, type: 'hvm', vcpus: 2, shared: true })
    xen.attach([guest.domain.vcpu(1)])
    expect(add(guest, { gpfn: 0x10 })).toBe(-Errno.EBUSY)
    expect(add(guest, { gpfn: 1 })).toBe(0)
    expect(guest.domain.sharedInfoGfn).toBe(1)
  })

  it('EC-gnt-8: the grant table is where the guest places it', () => {
    const xen = Hypervisor.create()
    const guest = hvm(xen, bits)
    expect(xen.grants.frame(guest.domain, 0)).toBeUndefined()
    expect(add(guest, { space: SPACE.grant_table, gpfn: 0x40 })).toBe(0)
    expect(add(guest, { space: SPACE.grant_table, idx: 1, gpfn: 0x41 })).toBe(0)
    expect([0, 1].map((index) => xen.grants.frame(guest.domain, index))).toEqual([0x40, 0x41])
  })

  it('NL-mig-1: a saved domain has shared_info where its guest placed it', () => {
    const xen = Hypervisor.create()
    const guest = hvm(xen, bits)
    const { near } = loopback(guest)
    expect(add(guest, { gpfn: 0x10 })).toBe(0)
    const state = xen.saveDomain(guest.domain, { mode: 'transparent' })
    const moved = Hypervisor.create().restoreDomain(structuredClone(state))
    expect(moved.sharedInfoGfn).toBe(0x10)
    expect(moved.isPending(near)).toBe(guest.domain.isPending(near))
  })
})
