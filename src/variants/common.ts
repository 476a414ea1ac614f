/**
 * What the guests' halves of the variants share: frames laid out and filled, arguments in guest memory, and the tree as the
 * driver has it when the host has granted it.
 */

import { type Args, encode, HYPERVISOR, maxEvtchns, PAGE_SIZE, type Struct } from '../abi/index.js'
import { Errno } from '../errno.js'
import {
  type ChannelForm,
  type OwnForm,
  type Registrar,
  type TreeFrames,
  treeForm,
  usableChannels,
} from '../guest/index.js'
import type { OwnAbi } from '../host/own_abi.js'

/** A variant: the host's half, for `abis` of `Hypervisor.create`, and the guest's, for `levels` of boot. */
export interface Variant {
  readonly abi: OwnAbi
  readonly form: OwnForm
}

/** Fills frames of the guest's with a byte. */
export function fill({ platform }: Registrar, gfns: readonly number[], byte: number): void {
  const view = platform.memory.view()
  for (const gfn of gfns) view.fill(byte, gfn * PAGE_SIZE, (gfn + 1) * PAGE_SIZE)
}

/** Writes u64s, or u32s, at a guest-physical address. Returns the address behind them, a multiple of 8. */
export function write(by: Registrar, at: number, numbers: readonly number[], size: 4 | 8): number {
  const view = by.calls.view(at, numbers.length * size)
  numbers.forEach((number, i) => {
    if (size === 8) view.setBigUint64(i * 8, BigInt(number), true)
    else view.setUint32(i * 4, number, true)
  })
  return (at + numbers.length * size + 7) & ~7
}

/** Makes an own operation. Returns 0, or -errno. */
export function call(by: Registrar, cmd: number, layout: Struct, args: Args): number {
  const bytes = new Uint8Array(layout.size)
  encode(layout, new DataView(bytes.buffer), args)
  return by.calls.raw(0, HYPERVISOR.event_channel_op, bytes, (gpa) => [cmd, gpa])
}

/**
 * Registers by `body`, which gets the address of scratch frames for its arrays. After a refusal every frame is the
 * allocator's again.
 */
export function registered(
  by: Registrar,
  levels: number,
  frames: TreeFrames,
  scratchFrames: number,
  body: (scratchGpa: number) => number,
): ChannelForm | number {
  const scratch = by.frames.allocateRun(scratchFrames)
  const rc = scratch ? body(scratch[0]! * PAGE_SIZE) : -Errno.ENOMEM
  if (scratch) by.frames.release(scratch)
  if (rc < 0) {
    by.frames.release(frames.all)
    return rc
  }
  const room = maxEvtchns(by.platform.bits, levels, frames.pending.length)
  return treeForm(by, { levels, channels: usableChannels(by, room), frames })
}
