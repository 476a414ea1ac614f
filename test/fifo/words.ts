/** A guest on FIFO and its event words, as tests read and write them. */

import { PAGE_SIZE } from '../../src/abi/index.js'
import type { DomainOptions, Vcpu } from '../../src/index.js'
import { FREE_GFN, type Guest, host } from '../ops/raw.js'
import { LINK, LINKED, PENDING } from './event_word.js'

export const BLOCKS = FREE_GFN
/** Frames of the event array, as many as a test asks for. */
export const ARRAY = FREE_GFN + 1
export const blockAt = (vcpu: number) => BLOCKS * PAGE_SIZE + vcpu * 128

/** d1 on FIFO, with control blocks for these vCPUs and this many pages of the array. */
export function fifo({
  blocks = [0, 1],
  pages = 1,
  ...each
}: Partial<DomainOptions> & { blocks?: number[]; pages?: number }) {
  const upcalls: string[] = []
  const upcall = ({ domid, vcpuId }: Vcpu) => void (domid === 1 && upcalls.push(`v${vcpuId}`))
  const all = host(64, { trace: { upcall } }, { maxEvtchnPort: 3000, ...each })
  const { d1 } = all
  for (const vcpu of blocks) d1.must('init_control', { control_gfn: BLOCKS, offset: vcpu * 128, vcpu })
  for (let page = 0; page < pages; page++) d1.must('expand_array', { array_gfn: ARRAY + page })
  return { ...all, upcalls }
}
export const at = (port: number) => ARRAY * PAGE_SIZE + port * 4
export const word = (guest: Guest, port: number) => guest.view.getUint32(at(port), true) | 0
export const setWord = (guest: Guest, port: number, value: number) => guest.view.setUint32(at(port), value >>> 0, true)
export const link = (guest: Guest, port: number) => word(guest, port) & LINK
export const has = (guest: Guest, port: number, bit: number) => (word(guest, port) & bit) !== 0
export const ready = (guest: Guest, vcpu = 0) => guest.view.getUint32(blockAt(vcpu), true)
export const setReady = (guest: Guest, value: number, vcpu = 0) => guest.view.setUint32(blockAt(vcpu), value, true)
export const head = (guest: Guest, vcpu = 0, priority = 7) =>
  guest.view.getUint32(blockAt(vcpu) + 8 + 4 * priority, true)
export const send = (guest: Guest, port: number) => guest.must('send', { port })
/** The guest takes an event off its queue; the handler's acknowledgement clears PENDING. */
export const consume = (guest: Guest, port: number, handled = true) =>
  setWord(guest, port, word(guest, port) & ~(LINKED | LINK | (handled ? PENDING : 0)))
