/**
 * What a guest's driver needs of its event channels, whichever form they have: a tree of levels (tree.ts) or FIFO queues
 * (queues.ts).
 */

import type { FrameAllocator } from './frames.js'
import type { GuestHypercalls, GuestPlatform } from './platform.js'

/** One attempt to register and its result. */
export interface Attempt {
  /** Levels, 'fifo', or the name of an own form. */
  readonly levels: number | 'fifo' | (string & {})
  /** Leaf pages of a tree; 0 for FIFO, whose array grows later. */
  readonly nrPages: number
  /** `ok`, an errno's name, or `no memory` if the guest itself lacks frames. */
  readonly answer: string
}

/** What registering works with. */
export interface Registrar {
  readonly platform: GuestPlatform
  readonly calls: GuestHypercalls
  readonly frames: FrameAllocator
  /** vCPUs that take part: vCPU 0, and those that are up. The others follow by `addVcpu`. */
  readonly up: readonly number[]
  /** Guest-physical address of each vCPU's vcpu_info. */
  readonly infoGpas: readonly number[]
}

/**
 * A form of the embedder's own, for `levels` of boot: the guest's half of an own ABI (docs/own-abi.md). `register` lays out
 * frames, makes the hypercalls, and returns the guest's words, or -errno with every frame given back.
 */
export interface OwnForm {
  /** For `attempts`. */
  readonly name: string
  register(by: Registrar): ChannelForm | number
}

/** What came of an unmask in the guest's own words: that was all; run the scan yourself; make the hypercall. */
export type Unmasked = 'done' | 'scan' | 'hypercall'

/** The guest's words in one form, and the scan that goes with it. */
export interface ChannelForm {
  /** Levels of the tree, or 'fifo'. */
  readonly levels: number | 'fifo'
  /** Usable port numbers, 0 included. */
  readonly channels: number
  /** Port numbers that the form has room for: the geometry. */
  readonly maxEvtchns: number
  /** Ports that a scan takes at a time by default. */
  readonly batch: number
  /** A vCPU takes part from now on: what was raised for it before is found by its next scan. @throws XenError */
  addVcpu(vcpu: number): void
  /** One round of a vCPU's scan: up to `max` ports to the absolute address `out`, their pending bits cleared. */
  round(vcpu: number, out: number, max: number): number
  /** Makes room for a port before it is used. @throws XenError if there is none. */
  prepare(port: number): void
  /** Says whether a port is a vCPU's; nothing where the form keeps vCPUs apart by itself. */
  filter(vcpu: number, port: number, mine: boolean): void
  isPending(port: number): boolean
  isMasked(port: number): boolean
  mask(port: number): void
  setPending(port: number): void
  clearPending(port: number): void
  /** Unmasks a port of this vCPU as far as the guest can by itself. */
  unmaskLocally(vcpu: number, port: number): Unmasked
  /**
   * The guest was moved, RAM and all, and knows nothing of it: the form takes up the absolute addresses of the memory that
   * it lives in now, also where it keeps them in guest RAM.
   */
  moveTo(platform: GuestPlatform, calls: GuestHypercalls): void
  /** Gives the frames back to the guest's allocator: the hypervisor must not use them any more. */
  release(): void
}
