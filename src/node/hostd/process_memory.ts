/** Memory of a process that makes hypercalls, as copy_from_guest and copy_to_guest see it: by /proc/PID/mem. */

import { closeSync, openSync, readSync, writeSync } from 'node:fs'
import { Errno, XenError } from '../../errno.js'

/** The memory of one process, until `close`. */
export class ProcessMemory {
  readonly pid: number
  #fd: number | undefined

  constructor(pid: number) {
    this.pid = pid
  }

  #open(): number {
    try {
      this.#fd ??= openSync(`/proc/${this.pid}/mem`, 'r+')
      return this.#fd
    } catch {
      throw new XenError(
        'hypercall',
        Errno.EFAULT,
        `the memory of process ${this.pid} cannot be opened: it is another user's, or /proc/sys/kernel/yama/ptrace_scope is 2 or 3`,
      )
    }
  }

  /** Bytes at an address. @throws XenError EFAULT */
  read(address: number, length: number): Buffer {
    const bytes = Buffer.alloc(length)
    if (length && this.#copy(() => readSync(this.#open(), bytes, 0, length, address)) !== length) fault(address)
    return bytes
  }

  /** Stores bytes at an address. @throws XenError EFAULT */
  write(address: number, bytes: Uint8Array): void {
    if (bytes.length && this.#copy(() => writeSync(this.#open(), bytes, 0, bytes.length, address)) !== bytes.length)
      fault(address)
  }

  #copy(copy: () => number): number {
    try {
      return copy()
    } catch (error) {
      if (error instanceof XenError) throw error
      // An address where nothing is mapped is EIO here.
      return -1
    }
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = undefined
  }
}

function fault(address: number): never {
  throw new XenError('hypercall', Errno.EFAULT, `0x${address.toString(16)} cannot be copied`)
}
