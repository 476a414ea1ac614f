/** Options of a host of native programs, and their check. */

import { MAX_FRAMES } from '../../abi/index.js'
import { among, anything, flag, func, options, type Table, text, within } from '../../check.js'
import type { Design, DesignMaker } from '../../dom0/index.js'
import { checkDesign } from '../../dom0/xenbus/index.js'
import type { NativeDomain } from './native_domain.js'

/** Options of `NativeHost.start`. */
export interface NativeHostOptions {
  /** Folder of its socket and of the machine's memory; made if it is not there. Use a tmpfs: /dev/shm, /run. */
  readonly dir: string
  /** 'own': the library's store, on DIR/socket and on every ring. 'none': a daemon of Xen's is started as a program. Default 'own'. */
  readonly store?: 'own' | 'none'
  /** Domains beside dom0 that have a kernel of the host's, for programs that run "in" them. Default none. */
  readonly domains?: readonly number[]
  /** The machine's RAM in 4 KiB frames. The file is sparse. Default 262144 (1 GiB). */
  readonly frames?: number
  /** RAM of a domain that a toolstack builds, whatever it asks for, up to which it may ask. Default 16384 (64 MiB). */
  readonly guestFrames?: number
  /** dom0's kernel with xenbus and backends. False: none. Default true with the own store. */
  readonly dom0Kernel?: boolean
  /** The kernel parameter `xen_mtwatch` and its design, or the maker of an own one. Default: one xenwatch thread. */
  readonly design?: Design | DesignMaker
  /**
   * A toolstack has built a domain and unpauses it: put a guest in. Return true if you did; else the library's own boots,
   * from start_info.
   */
  readonly onBoot?: (domain: NativeDomain) => boolean
  /** Gets a line for each request of a program, and its result. Default: none. */
  readonly onTrace?: (line: string) => void
  /** Gets what is worth knowing: a hypercall that is not known, a write to a port that is not there. Default: none. */
  readonly onNote?: (line: string) => void
  /** Gets a fault of the host's own, which changes nothing for others. Default: it is thrown again outside of any call. */
  readonly onError?: (error: unknown, where: string) => void
  /** False: no C compiler is used, and native programs share no pages: events and xenbus only. Default true. */
  readonly sharedMemory?: boolean
}

const TABLE: Table<NativeHostOptions> = {
  dir: text,
  store: among('own', 'none'),
  domains: anything,
  frames: within(4096, MAX_FRAMES),
  guestFrames: within(64, MAX_FRAMES),
  dom0Kernel: flag,
  design: checkDesign,
  onBoot: func,
  onTrace: func,
  onNote: func,
  onError: func,
  sharedMemory: flag,
}

/** Options as given. @throws ParameterError */
export const checkNativeOptions = (given: NativeHostOptions): NativeHostOptions =>
  options('NativeHost.start', given, TABLE)
