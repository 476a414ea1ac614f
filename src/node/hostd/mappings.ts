/**
 * What /dev/xen/gntdev and gntalloc have in common: numbers in the device's address space that stand for pages, mapped later
 * by mmap; and "tell the other end when they are unmapped" (SET_UNMAP_NOTIFY), which is how a vchan learns of a death.
 *
 *     index (bytes)  0 ─── one mapping ─── 0x2000 ─── another ─── …
 */

import { PAGE_SIZE } from '../../abi/index.js'
import { Errno } from '../../errno.js'
import { type DeviceContext, fail } from './device.js'

/** Bits of SET_UNMAP_NOTIFY's action. */
const NOTIFY = { clearByte: 1, sendEvent: 2 } as const

/** Pages that stand under one index. */
export interface Mapping {
  /** Frames of the machine. */
  readonly frames: readonly number[]
  /** Lets go of what is behind them. */
  readonly release: () => void
  /** Where the program has mapped them; undefined: not, or not any more. */
  address: bigint | undefined
  /** To be released as soon as they are not mapped. */
  ended: boolean
  notify: { frame: number; offset: number; action: number; port: number } | undefined
}

/** The mappings of one open device. */
export class Mappings {
  readonly #byIndex = new Map<number, Mapping>()
  readonly #context: DeviceContext
  #next = 0

  constructor(context: DeviceContext) {
    this.#context = context
  }

  /** Pages under a new index, which is returned. */
  add(frames: readonly number[], release: () => void): number {
    const index = this.#next
    this.#next += frames.length * PAGE_SIZE
    this.#byIndex.set(index, { frames, release, address: undefined, ended: false, notify: undefined })
    return index
  }

  /** What stands under an index. @throws XenError */
  at(index: number, errno: number = Errno.EINVAL): Mapping {
    return this.#byIndex.get(index) ?? fail('mapping', errno, `no pages stand under index ${index}`)
  }

  /** Index and pages of the mapping at an address. @throws XenError EINVAL */
  atAddress(address: bigint): [number, Mapping] {
    for (const [index, mapping] of this.#byIndex) if (mapping.address === address) return [index, mapping]
    return fail('mapping', Errno.EINVAL, `nothing is mapped at 0x${address.toString(16)}`)
  }

  /** mmap: the first `pages` pages under an index. @throws XenError EINVAL */
  map(index: number, pages: number, address: bigint): readonly number[] {
    const mapping = this.at(index)
    if (pages > mapping.frames.length)
      fail('mmap', Errno.EINVAL, `${mapping.frames.length} pages stand under index ${index}, not ${pages}`)
    mapping.address = address
    return mapping.frames.slice(0, pages)
  }

  /** munmap: what was to end with it ends. */
  unmap(address: bigint): void {
    for (const [index, mapping] of this.#byIndex)
      if (mapping.address === address) {
        mapping.address = undefined
        if (mapping.ended) this.#release(index, mapping)
        else if (mapping.notify) this.#tell(mapping)
      }
  }

  /** The program needs the index no more: its pages end now, or when they are unmapped. @throws XenError */
  end(index: number, errno: number = Errno.EINVAL): void {
    const mapping = this.at(index, errno)
    mapping.ended = true
    if (mapping.address === undefined) this.#release(index, mapping)
  }

  /** SET_UNMAP_NOTIFY: {index:8, action:4, port:4}. @throws XenError ENOENT */
  setNotify(argument: Buffer): void {
    const index = Number(argument.readBigUInt64LE(0))
    for (const [base, mapping] of this.#byIndex)
      if (index >= base && index < base + mapping.frames.length * PAGE_SIZE) {
        const frame = mapping.frames[Math.floor((index - base) / PAGE_SIZE)]!
        const [action, port] = [argument.readUInt32LE(8), argument.readUInt32LE(12)]
        mapping.notify = action ? { frame, offset: index % PAGE_SIZE, action, port } : undefined
        return
      }
    fail('SET_UNMAP_NOTIFY', Errno.ENOENT, `no page stands under index ${index}`)
  }

  #tell(mapping: Mapping): void {
    const { notify } = mapping
    mapping.notify = undefined
    if (!notify) return
    const { host, domain } = this.#context
    if (notify.action & NOTIFY.clearByte) host.machine.bytes[notify.frame * PAGE_SIZE + notify.offset] = 0
    if (!(notify.action & NOTIFY.sendEvent)) return
    try {
      domain.kernel?.channels.send(notify.port)
    } catch (error) {
      host.note(`unmap notification of d${domain.domid}: ${(error as Error).message}`)
    }
  }

  #release(index: number, mapping: Mapping): void {
    this.#byIndex.delete(index)
    this.#tell(mapping)
    mapping.release()
  }

  /** The device is closed. */
  close(): void {
    for (const [index, mapping] of [...this.#byIndex]) this.#release(index, mapping)
  }
}
