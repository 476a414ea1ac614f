/** /dev/xen/gntalloc: pages of the own domain, granted to another (Linux's drivers/xen/gntalloc.c). */

import { Errno } from '../../errno.js'
import { type Answer, type Device, type DeviceContext, fail, noIoctl } from './device.js'
import { Mappings } from './mappings.js'

/** Numbers of type 'G' (xen/sys/gntalloc.h). */
const IOCTL = { alloc: 5, dealloc: 6, setUnmapNotify: 7 } as const

/** ioctl_gntalloc_alloc_gref: domid:2, flags:2, count:4, index:8 OUT, then a reference:4 OUT of each. */
const ALLOC = { domid: 0, flags: 2, count: 4, index: 8, refs: 16 } as const
/** GNTALLOC_FLAG_WRITABLE. */
const WRITABLE = 1
/** Linux's limit of pages of all users. */
const MOST_PAGES = 1024

/** One open gntalloc. */
export class GntallocDev implements Device {
  readonly #context: DeviceContext
  readonly #mappings: Mappings

  constructor(context: DeviceContext) {
    context.host.mustShare('gntalloc')
    context.domain.mustKernel()
    this.#context = context
    this.#mappings = new Mappings(context)
  }

  ioctl(nr: number, argument: Buffer): Answer {
    switch (nr) {
      case IOCTL.alloc:
        return this.#alloc(argument)
      case IOCTL.dealloc:
        // Linux ends the pages of each index in the range; programs name all that they got at once.
        this.#mappings.end(Number(argument.readBigUInt64LE(0)), Errno.EINVAL)
        return 0
      case IOCTL.setUnmapNotify:
        this.#mappings.setNotify(argument)
        return 0
      default:
        return noIoctl('gntalloc', nr)
    }
  }

  #alloc(argument: Buffer): Answer {
    const { domain } = this.#context
    const { channels, grants } = domain.mustKernel()
    const [domid, flags, count] = [
      argument.readUInt16LE(ALLOC.domid),
      argument.readUInt16LE(ALLOC.flags),
      argument.readUInt32LE(ALLOC.count),
    ]
    if (!count || count > MOST_PAGES) fail('gntalloc', Errno.ENOSPC, `${count} pages`)
    const gfns =
      channels.frames.allocateRun(count) ?? fail('gntalloc', Errno.ENOMEM, `d${domain.domid} has no ${count} frames`)
    const refs = gfns.map((gfn) => {
      domain.page(gfn).fill(0)
      return grants.grant(domid, gfn, { readOnly: !(flags & WRITABLE) })
    })
    const release = () => {
      // A page that the other end still maps stays lent.
      for (const [i, ref] of refs.entries()) this.#context.host.endGrant(domain, ref, gfns[i]!)
    }
    const frames = gfns.map((gfn) => domain.frame(gfn))
    const out = Buffer.alloc(ALLOC.refs + 4 * count)
    argument.copy(out, 0, 0, ALLOC.index)
    out.writeBigUInt64LE(BigInt(this.#mappings.add(frames, release)), ALLOC.index)
    for (const [i, ref] of refs.entries()) out.writeUInt32LE(ref, ALLOC.refs + 4 * i)
    return out
  }

  mmap(offset: number, pages: number, address: bigint): readonly number[] {
    return this.#mappings.map(offset, pages, address)
  }
  munmap(address: bigint): void {
    this.#mappings.unmap(address)
  }
  close(): void {
    this.#mappings.close()
  }
}
