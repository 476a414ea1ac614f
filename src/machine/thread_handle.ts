/**
 * What a thread gets when vCPUs are attached to it, and what it is sent later: plain data that structured clone carries to a
 * worker, memories included. Both ends read it from here.
 */

import type { WasmMemory } from './core.js'

/** Says what such an object is, and in which form. */
export const HANDLE = 'evtchn vCPU thread 1'
export const NEWS = 'evtchn memory 1'

/** A memory in which guests live, and where its core is in the tables of functions. */
export interface SharedMemory {
  readonly run: number
  readonly first: number
  /** Numbers are never used twice. */
  readonly number: number
  readonly memory: WasmMemory
}

/** A domain with vCPUs on the thread. */
export interface SharedDomain {
  readonly domid: number
  readonly generation: number
  /** Address of its record. */
  readonly record: number
  readonly type: 'pv' | 'hvm'
  readonly bits: 32 | 64
  readonly vcpus: number
  readonly sharedInfoGfn: number
  readonly memory: WasmMemory
  readonly base: number
  readonly frames: number
  /** It was created with a page walk, so the thread needs one too. */
  readonly tables: boolean
}

/** A vCPU on the thread. */
export interface SharedVcpu {
  readonly domid: number
  readonly vcpuId: number
  /** Address of its record. */
  readonly record: number
}

/** What `Hypervisor.attach` returns: for `VcpuThread.from`, on the thread that runs the vCPUs. Nothing in it is for others. */
export interface VcpuThreadHandle {
  readonly what: typeof HANDLE
  /** 1 … 62. */
  readonly thread: number
  /** No two handles of a host have the same. */
  readonly serial: number
  /** The host's private memory. */
  readonly memory: WasmMemory
  /** Where the mailbox is, and the table of memories that the thread knows. */
  readonly mailbox: number
  readonly known: number
  readonly domains: readonly SharedDomain[]
  readonly vcpus: readonly SharedVcpu[]
  readonly memories: readonly SharedMemory[]
}

/** A memory that came later: for `VcpuThread.accept`. */
export interface MemoryNews {
  readonly what: typeof NEWS
  readonly memory: SharedMemory
}
