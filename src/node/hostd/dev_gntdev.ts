/** /dev/xen/gntdev: pages that other domains have granted (Linux's drivers/xen/gntdev.c). */

import { Errno } from '../../errno.js'
import type { GrantMapping } from '../../hypervisor/index.js'
import { type Answer, type Device, type DeviceContext, fail, noIoctl } from './device.js'
import { Mappings } from './mappings.js'

/** Numbers of type 'G' (xen/sys/gntdev.h). */
const IOCTL = { map: 0, unmap: 1, offsetForVaddr: 2, setMaxGrants: 3, setUnmapNotify: 7, copy: 8 } as const

/** ioctl_gntdev_map_grant_ref: count:4, pad:4, index:8 OUT, then {domid:4, ref:4} of each. */
const MAP = { count: 0, index: 8, refs: 16, ref: 8 } as const
const MOST_GRANTS = 1000

/** One open gntdev. */
export class GntdevDev implements Device {
  readonly #context: DeviceContext
  readonly #mappings: Mappings

  constructor(context: DeviceContext) {
    context.host.mustShare('gntdev')
    this.#context = context
    this.#mappings = new Mappings(context)
  }

  ioctl(nr: number, argument: Buffer): Answer {
    switch (nr) {
      case IOCTL.map:
        return this.#map(argument)
      case IOCTL.unmap:
        this.#mappings.end(Number(argument.readBigUInt64LE(0)))
        return 0
      case IOCTL.offsetForVaddr: {
        const [index, { frames }] = this.#mappings.atAddress(argument.readBigUInt64LE(0))
        argument.writeBigUInt64LE(BigInt(index), 8)
        argument.writeUInt32LE(frames.length, 16)
        return argument
      }
      case IOCTL.setMaxGrants:
        return 0
      case IOCTL.setUnmapNotify:
        this.#mappings.setNotify(argument)
        return 0
      case IOCTL.copy:
        return fail('gntdev', Errno.ENOSYS, 'IOCTL_GNTDEV_GRANT_COPY is not supported')
      default:
        return noIoctl('gntdev', nr)
    }
  }

  /** All of the references, or none. */
  #map(argument: Buffer): Answer {
    const count = argument.readUInt32LE(MAP.count)
    if (!count || count > MOST_GRANTS || argument.length < MAP.refs + count * MAP.ref)
      fail('gntdev', Errno.EINVAL, `${count} grants to map`)
    const { xen } = this.#context.host
    const grants: GrantMapping[] = []
    const release = () => {
      for (const grant of grants) grant.unmap()
    }
    try {
      const frames = Array.from({ length: count }, (_, i) => {
        const at = MAP.refs + i * MAP.ref
        const [domid, ref] = [argument.readUInt32LE(at), argument.readUInt32LE(at + 4)]
        const of = this.#context.host.domain(domid) ?? fail('gntdev', Errno.EINVAL, `there is no domain ${domid}`)
        const grant = xen.grants.map(this.#context.domain.domain, of.domain, ref, { write: true })
        grants.push(grant)
        return of.first + grant.gfn
      })
      argument.writeBigUInt64LE(BigInt(this.#mappings.add(frames, release)), MAP.index)
    } catch (error) {
      release()
      throw error
    }
    return argument.subarray(0, MAP.refs)
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
