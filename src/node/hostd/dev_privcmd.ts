/** /dev/xen/privcmd: hypercalls, and pages of any domain for dom0's programs (Linux's drivers/xen/privcmd.c). */

import { Errno, XenError } from '../../errno.js'
import { type Answer, type Device, type DeviceContext, fail, noIoctl } from './device.js'
import { hypercall } from './hypercalls.js'
import { ProcessMemory } from './process_memory.js'

/** Numbers of type 'P' (xen/sys/privcmd.h). */
const IOCTL = { hypercall: 0, mmapBatch: 3, mmapBatchV2: 4 } as const
/** privcmd_hypercall: number and five arguments. */
const WORDS = 6

/** One open privcmd. */
export class PrivcmdDev implements Device {
  readonly #context: DeviceContext
  #memory: ProcessMemory | undefined

  constructor(context: DeviceContext) {
    this.#context = context
  }

  ioctl(nr: number, argument: Buffer, pid: number): Answer {
    if (nr === IOCTL.mmapBatch || nr === IOCTL.mmapBatchV2) return this.#frames(argument)
    if (nr !== IOCTL.hypercall) return noIoctl('privcmd', nr)
    if (argument.length < WORDS * 8) fail('privcmd', Errno.EINVAL, 'struct privcmd_hypercall is short')
    const [op = 0, ...args] = Array.from({ length: WORDS }, (_, i) => Number(argument.readBigUInt64LE(i * 8)))
    // After a fork the same fd serves another process.
    if (this.#memory?.pid !== pid) {
      this.#memory?.close()
      this.#memory = new ProcessMemory(pid)
    }
    const { host, domain } = this.#context
    return hypercall({ host, domain, memory: this.#memory }, op, args)
  }

  /** The shim's half of MMAPBATCH: domid:8, then frame numbers; a frame of the machine or -errno for each. */
  #frames(argument: Buffer): Answer {
    const { host, domain } = this.#context
    host.mustShare('privcmd')
    if (!domain.domain.privileged) fail('privcmd', Errno.EPERM, `d${domain.domid} maps no foreign pages`)
    const of = host.domain(argument.readUInt16LE(0))
    const out = Buffer.alloc((argument.length - 8) / 2)
    for (let i = 0; i * 4 < out.length; i++)
      out.writeInt32LE(frameOf(of, Number(argument.readBigUInt64LE(8 + i * 8))), i * 4)
    return out
  }

  close(): void {
    this.#memory?.close()
  }
}

function frameOf(of: { frame(gfn: number): number } | undefined, gfn: number): number {
  try {
    return of ? of.frame(gfn) : -Errno.EINVAL
  } catch (error) {
    if (error instanceof XenError) return -error.errno
    throw error
  }
}
