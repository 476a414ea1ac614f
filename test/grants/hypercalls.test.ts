/** grant_table_op by guests (spec part 11), and the library's own guest, which hands out references. */

import { describe, expect, it } from 'vitest'
import {
  encode,
  GNTCOPY,
  GNTST,
  GNTTAB_COPY,
  GNTTAB_QUERY_SIZE,
  GNTTAB_SETUP_TABLE,
  GNTTABOP,
  GTF,
  HYPERVISOR,
  PAGE_SIZE,
} from '../../src/abi/index.js'
import { type Domain, Errno, Hypervisor } from '../../src/index.js'

const TABLE = 3
const ARGUMENT = 0x600
const SELF = 0x7ff0

function make(bits: 32 | 64) {
  const xen = Hypervisor.create()
  const d0 = xen.createDomain({ domid: 0, bits })
  const guest = (domid: number) =>
    xen.createDomain({ domid, bits, frames: 32, grantTableGfn: TABLE, maxGrantFrames: 2 })
  const [d1, d2] = [guest(1), guest(2)]
  const op = (by: Domain, cmd: number, count = 1, gva = ARGUMENT) =>
    xen.hypercall(by.vcpu(0), HYPERVISOR.grant_table_op, [cmd, gva, count])
  const grant = (of: Domain, ref: number, flags: number, domid: number, gfn: number) => {
    of.memory.data.setUint32(TABLE * PAGE_SIZE + ref * 8, (domid << 16) | flags, true)
    of.memory.data.setUint32(TABLE * PAGE_SIZE + ref * 8 + 4, gfn, true)
  }
  return { xen, d0, d1, d2, op, grant }
}

describe.each([64, 32] as const)('grant_table_op, %i-bit', (bits) => {
  const setup = GNTTAB_SETUP_TABLE[bits]
  const copyOf = GNTTAB_COPY[bits]
  const statusOf = (domain: Domain, offset: number, index = 0, size = 0) =>
    domain.memory.data.getInt16(ARGUMENT + index * size + offset, true)

  function setupTable(h: ReturnType<typeof make>, by: Domain, dom: number, frames: number) {
    encode(setup, by.memory.data, { dom, nr_frames: frames, frame_list: 0x800 }, ARGUMENT)
    expect(h.op(by, GNTTABOP.setup_table)).toBe(0)
    return statusOf(by, setup.fields.status.offset)
  }

  it('EC-gnt-2: setup_table grows the table, lists its frames, and refuses what is beyond', () => {
    const h = make(bits)
    expect(setupTable(h, h.d1, SELF, 2)).toBe(GNTST.okay)
    const list = h.d1.memory.data
    const words = [0, 1].map((i) =>
      bits === 64 ? Number(list.getBigUint64(0x800 + i * 8, true)) : list.getUint32(0x800 + i * 4, true),
    )
    expect(words).toEqual([TABLE, TABLE + 1])
    expect(setupTable(h, h.d1, SELF, 3)).toBe(GNTST.general_error)
    expect(setupTable(h, h.d0, 1, 1)).toBe(GNTST.okay)
    expect(setupTable(h, h.d2, 1, 1)).toBe(GNTST.permission_denied)
    expect(setupTable(h, h.d0, 9, 1)).toBe(GNTST.bad_domain)
  })

  it('EC-gnt-2: setup_table takes one struct, and a list that can be written', () => {
    const h = make(bits)
    expect(h.op(h.d1, GNTTABOP.setup_table, 2)).toBe(-Errno.EINVAL)
    encode(setup, h.d1.memory.data, { dom: SELF, nr_frames: 1, frame_list: 0xf000_0000 }, ARGUMENT)
    expect(h.op(h.d1, GNTTABOP.setup_table)).toBe(-Errno.EFAULT)
    expect(h.op(h.d1, GNTTABOP.setup_table, 1, 0xf000_0000)).toBe(-Errno.EFAULT)
  })

  it('EC-gnt-2: query_size says how many frames there are, and may be', () => {
    const h = make(bits)
    encode(GNTTAB_QUERY_SIZE, h.d1.memory.data, { dom: SELF }, ARGUMENT)
    expect(h.op(h.d1, GNTTABOP.query_size)).toBe(0)
    const { data } = h.d1.memory
    expect([data.getUint32(ARGUMENT + 4, true), data.getUint32(ARGUMENT + 8, true)]).toEqual([1, 2])
    expect(statusOf(h.d1, 12)).toBe(GNTST.okay)
  })

  it('EC-gnt-1: version 1 is all there is', () => {
    const h = make(bits)
    const set = (version: number) => {
      h.d1.memory.data.setUint32(ARGUMENT, version, true)
      return h.op(h.d1, GNTTABOP.set_version)
    }
    expect([set(1), set(2), set(3)]).toEqual([0, -Errno.ENOSYS, -Errno.EINVAL])
    h.d1.memory.data.setUint16(ARGUMENT, SELF, true)
    expect(h.op(h.d1, GNTTABOP.get_version)).toBe(0)
    expect(h.d1.memory.data.getUint32(ARGUMENT + 4, true)).toBe(1)
    h.d1.memory.data.setUint16(ARGUMENT, 2, true)
    expect(h.op(h.d1, GNTTABOP.get_version)).toBe(-Errno.EPERM)
  })

  it('EC-gnt-6: copies between a grant and an own frame, both ways, and tells each status', () => {
    const h = make(bits)
    h.grant(h.d1, 8, GTF.permit_access, 2, 7)
    h.d1.memory.view().set([1, 2, 3, 4], 7 * PAGE_SIZE + 100)
    const base = {
      source: 8,
      source_domid: 1,
      source_offset: 100,
      dest: 9,
      dest_domid: SELF,
      dest_offset: 4092,
      len: 4,
    }
    const put = (index: number, args: Record<string, number>) =>
      encode(copyOf, h.d2.memory.data, { ...base, ...args }, ARGUMENT + index * copyOf.size)
    put(0, { flags: GNTCOPY.source_gref })
    put(1, { flags: GNTCOPY.source_gref, len: 5 })
    put(2, { flags: 8 })
    put(3, { flags: 0 })
    put(4, { flags: GNTCOPY.source_gref, source: 9 })
    put(5, { flags: GNTCOPY.source_gref, source_domid: 9 })
    put(6, { flags: GNTCOPY.source_gref, dest: 99 })
    put(7, { flags: GNTCOPY.dest_gref, source: 9, source_domid: SELF, dest: 8, dest_domid: 1, dest_offset: 0 })
    expect(h.op(h.d2, GNTTABOP.copy, 8)).toBe(0)
    const at = copyOf.fields.status.offset
    expect([0, 1, 2, 3, 4, 5, 6, 7].map((i) => statusOf(h.d2, at, i, copyOf.size))).toEqual([
      GNTST.okay,
      GNTST.bad_copy_arg,
      GNTST.bad_copy_arg,
      GNTST.permission_denied,
      GNTST.general_error,
      GNTST.bad_domain,
      GNTST.bad_page,
      GNTST.okay,
    ])
    expect([...h.d2.memory.view().subarray(10 * PAGE_SIZE - 4, 10 * PAGE_SIZE)]).toEqual([1, 2, 3, 4])
    expect(h.xen.grants.inUse(h.d1)).toBe(0)
  })

  it('EC-gnt-6: a read-only grant is no destination', () => {
    const h = make(bits)
    h.grant(h.d1, 8, GTF.permit_access | GTF.readonly, 2, 7)
    const args = { source: 9, source_domid: SELF, dest: 8, dest_domid: 1, len: 4, flags: GNTCOPY.dest_gref }
    encode(copyOf, h.d2.memory.data, args, ARGUMENT)
    expect(h.op(h.d2, GNTTABOP.copy)).toBe(0)
    expect(statusOf(h.d2, copyOf.fields.status.offset)).toBe(GNTST.general_error)
  })

  it('a guest maps no page by itself (ENOSYS)', () => {
    const h = make(bits)
    expect(h.op(h.d1, GNTTABOP.map_grant_ref)).toBe(-Errno.ENOSYS)
    expect(h.op(h.d1, 99)).toBe(-Errno.ENOSYS)
  })

  it('EC-gnt-5: the library’s guest lends a page, and takes it back when it is not in use', () => {
    const xen = Hypervisor.create()
    const d0 = xen.createDomain({ domid: 0 })
    const guest = xen.boot({ domid: 1, bits, grantTableGfn: 2, maxGrantFrames: 1, firstFreeGfn: 3 })
    const d1 = xen.domain(1)!
    const grants = guest.setupGrants()
    const [gfn] = guest.frames.allocate(1)!
    const ref = grants.grant(0, gfn!)
    expect(ref).toBe(8)
    const page = xen.grants.map(d0, d1, ref)
    expect([grants.inUse(ref), grants.end(ref), page.gfn]).toEqual([true, false, gfn])
    page.unmap()
    expect([grants.inUse(ref), grants.end(ref)]).toEqual([false, true])
    expect(() => xen.grants.map(d0, d1, ref)).toThrow('permits no access')
    for (let i = 8; i < 512; i++) grants.grant(0, gfn!, { readOnly: true })
    expect(() => grants.grant(0, gfn!)).toThrow(/ENOSPC/)
    expect(() => xen.grants.map(d0, d1, 511)).toThrow('is read-only')
  })

  it('the library’s guest needs a table that is placed, and outside its free frames', () => {
    const xen = Hypervisor.create()
    expect(() => xen.boot({ domid: 1, bits }).setupGrants()).toThrow('frame 0 of the table is placed nowhere')
    const guest = xen.boot({ domid: 2, bits, grantTableGfn: 5, maxGrantFrames: 1 })
    expect(() => guest.setupGrants()).toThrow('firstFreeGfn above the table')
    expect(() => guest.setupGrants(2)).toThrow(/ENOMEM/)
  })
})
