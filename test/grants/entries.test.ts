/** Grant tables of version 1 (spec part 11): entries in a guest's own frames, mapped by the embedder for another domain. */

import { describe, expect, it } from 'vitest'
import { GTF, PAGE_SIZE } from '../../src/abi/index.js'
import { type Domain, Errno, Hypervisor, XenError } from '../../src/index.js'

const TABLE = 3

/** dom0, a guest whose table is at frame 3, and another guest. `entry` writes one as a guest does. */
function make(maxGrantFrames = 2) {
  const xen = Hypervisor.create()
  const d0 = xen.createDomain({ domid: 0 })
  const d1 = xen.createDomain({ domid: 1, frames: 16, grantTableGfn: TABLE, maxGrantFrames })
  const d2 = xen.createDomain({ domid: 2, frames: 16 })
  const at = (ref: number) => TABLE * PAGE_SIZE + ref * 8
  const entry = (ref: number, flags: number, domid: number, gfn: number) => {
    d1.memory.data.setUint16(at(ref), flags, true)
    d1.memory.data.setUint16(at(ref) + 2, domid, true)
    d1.memory.data.setUint32(at(ref) + 4, gfn, true)
  }
  const flags = (ref: number) => d1.memory.data.getUint16(at(ref), true)
  return { xen, d0, d1, d2, entry, flags }
}

/** `status text` of the refusal of a map. */
function refusal(xen: Hypervisor, by: Domain, of: Domain, ref: number, write = true): string {
  try {
    xen.grants.map(by, of, ref, { write })
  } catch (error) {
    if (!(error instanceof XenError)) throw error
    expect(error.errno).toBe(Errno.EINVAL)
    return error.message
  }
  return 'mapped'
}

describe('a grant', () => {
  it('EC-gnt-3: is mapped by the domain it names, and is the very page', () => {
    const { xen, d0, d1, entry } = make()
    entry(8, GTF.permit_access, 0, 7)
    const page = xen.grants.map(d0, d1, 8)
    page.bytes()[5] = 99
    expect([page.gfn, d1.memory.view()[7 * PAGE_SIZE + 5], page.bytes().length]).toEqual([7, 99, PAGE_SIZE])
  })

  it('EC-gnt-3: the checks in their order: reference, type, domain, read-only, frame', () => {
    const { xen, d0, d1, d2, entry } = make()
    expect(refusal(xen, d0, d1, 512)).toMatch(/no entry 512 .*bad_gntref/)
    entry(8, GTF.invalid | GTF.readonly, 5, 999)
    expect(refusal(xen, d0, d1, 8)).toMatch(/permits no access .*general_error/)
    entry(8, GTF.permit_access | GTF.readonly, 2, 999)
    expect(refusal(xen, d0, d1, 8)).toMatch(/is for d2, not d0 .*general_error/)
    expect(refusal(xen, d2, d1, 8)).toMatch(/is read-only .*general_error/)
    expect(refusal(xen, d2, d1, 8, false)).toMatch(/frame 999, which is no RAM .*bad_page/)
  })

  it('EC-gnt-3: a refused map leaves the entry as it was', () => {
    const { xen, d0, d1, entry, flags } = make()
    entry(8, GTF.permit_access, 0, 999)
    expect(refusal(xen, d0, d1, 8)).toMatch(/no RAM/)
    expect(flags(8)).toBe(GTF.permit_access)
  })

  it('EC-gnt-3: reading and writing are set as they are used', () => {
    const { xen, d0, d1, entry, flags } = make()
    entry(8, GTF.permit_access, 0, 7)
    const reader = xen.grants.map(d0, d1, 8, { write: false })
    expect(flags(8)).toBe(GTF.permit_access | GTF.reading)
    const writer = xen.grants.map(d0, d1, 8)
    expect(flags(8)).toBe(GTF.permit_access | GTF.reading | GTF.writing)
    writer.unmap()
    expect(flags(8)).toBe(GTF.permit_access | GTF.reading)
    reader.unmap()
    expect(flags(8)).toBe(GTF.permit_access)
  })

  it('EC-gnt-5: is in use until the last of its mappings ends; ending one twice changes nothing', () => {
    const { xen, d0, d1, entry, flags } = make()
    entry(8, GTF.permit_access, 0, 7)
    const [one, two] = [xen.grants.map(d0, d1, 8), xen.grants.map(d0, d1, 8)]
    one.unmap()
    one.unmap()
    expect([flags(8), xen.grants.inUse(d1), one.mapped, two.mapped]).toEqual([25, 1, false, true])
    two.unmap()
    expect([flags(8), xen.grants.inUse(d1)]).toEqual([GTF.permit_access, 0])
  })

  it('EC-gnt-4: a guest that rewrites the entry of a mapped page changes nothing for its mapper', () => {
    const { xen, d0, d1, d2, entry } = make()
    entry(8, GTF.permit_access, 0, 7)
    const page = xen.grants.map(d0, d1, 8)
    entry(8, GTF.permit_access, 2, 9)
    expect(refusal(xen, d2, d1, 8)).toMatch(/in use by d0/)
    expect(xen.grants.map(d0, d1, 8).gfn).toBe(7)
    expect(page.gfn).toBe(7)
  })

  it('EC-gnt-7: what a domain has mapped ends with it', () => {
    const { xen, d1, d2, entry, flags } = make()
    entry(8, GTF.permit_access, 2, 7)
    const page = xen.grants.map(d2, d1, 8)
    xen.killDomain(d2)
    expect([page.mapped, flags(8), xen.grants.inUse(d1)]).toEqual([false, GTF.permit_access, 0])
  })

  it('EC-gnt-7: a mapping outlives its granter, and its end touches no memory of one that is gone', () => {
    const { xen, d0, d1, entry, flags } = make()
    entry(8, GTF.permit_access, 0, 7)
    const page = xen.grants.map(d0, d1, 8)
    xen.killDomain(d1)
    expect([page.mapped, flags(8) & GTF.reading]).toEqual([true, GTF.reading])
    xen.destroyDomain(d1)
    page.unmap()
    expect(flags(8) & GTF.reading).toBe(GTF.reading)
  })

  it('refuses what is no reference, no option and no domain of this host', () => {
    const { xen, d0, d1 } = make()
    expect(() => xen.grants.map(d0, d1, -1)).toThrow('grants.map: ref is -1')
    expect(() => xen.grants.map(d0, d1, 8, { wrote: true } as object)).toThrow('did you mean write?')
    xen.destroyDomain(d1)
    expect(() => xen.grants.map(d0, d1, 8)).toThrow('ESRCH')
  })
})

describe('the frames of a table', () => {
  it('EC-gnt-8: are moved with their entries, and a first place is empty', () => {
    const { xen, d0, d1, d2, entry } = make()
    entry(8, GTF.permit_access, 0, 7)
    xen.grants.place(d1, 0, 12)
    entry(8, 0, 0, 0)
    expect(xen.grants.map(d0, d1, 8).gfn).toBe(7)
    d2.memory.view().fill(0xff)
    expect(xen.grants.frame(d2, 0)).toBe(undefined)
    xen.grants.place(d2, 0, 5)
    expect(xen.grants.frame(d2, 0)).toBe(5)
    expect(
      d2.memory
        .view()
        .subarray(5 * PAGE_SIZE, 6 * PAGE_SIZE)
        .every((byte) => byte === 0),
    ).toBe(true)
  })

  it('EC-gnt-8: placing grows the table to its limit, and no further', () => {
    const { xen, d1 } = make(2)
    xen.grants.place(d1, 1, 9)
    expect(xen.grants.frame(d1, 1)).toBe(9)
    expect(() => xen.grants.place(d1, 2, 9)).toThrow('d1 may have 2 grant frames, and index is 2')
    expect(() => xen.grants.place(d1, 0, 16)).toThrow('gfn is 16')
  })

  it('EC-gnt-3: an entry in a frame that is placed nowhere permits nothing', () => {
    const { xen, d0, d2 } = make()
    expect(refusal(xen, d0, d2, 0)).toMatch(/placed nowhere .*general_error/)
  })

  it('must be in the RAM of the domain', () => {
    const xen = Hypervisor.create()
    expect(() => xen.createDomain({ domid: 1, frames: 8, grantTableGfn: 8 })).toThrow('grantTableGfn is 8')
    expect(() => xen.createDomain({ domid: 1, maxGrantFrames: 4097 })).toThrow('maxGrantFrames is 4097')
  })
})
