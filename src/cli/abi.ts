/** What `--abi` names: two to five levels, or FIFO queues. One spelling for every command and benchmark. */

import { type Bits, EVTCHN_FIFO_NR_CHANNELS, fullTree, maxDepth } from '../abi/index.js'

/** The values of `--abi`. */
export const ABIS = ['2', '3', '4', '5', 'fifo'] as const
export type Abi = (typeof ABIS)[number]
/** The same as a guest's driver asks for it. */
export type Form = 2 | 3 | 4 | 5 | 'fifo'

export const formOf = (abi: Abi): Form => (abi === 'fifo' ? abi : (Number(abi) as 2 | 3 | 4 | 5))

/** The ABI in words: `3 levels`, `FIFO`, or the name of an own form. */
export const abiName = (abi: string | number): string =>
  abi === 'fifo' ? 'FIFO' : Number.isNaN(Number(abi)) ? String(abi) : `${abi} levels`

/** Does this word width have the ABI? Five levels are for 32-bit guests. */
export const hasAbi = (abi: Abi, bits: Bits): boolean => abi === 'fifo' || Number(abi) <= maxDepth(bits)

/** Channels of an ABI beside port 0, which is never used. */
export const mostChannels = (abi: Abi, bits: Bits): number =>
  (abi === 'fifo' ? EVTCHN_FIFO_NR_CHANNELS : fullTree(bits, Number(abi))) - 1
