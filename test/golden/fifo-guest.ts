/** What a recorded guest on the FIFO ABI does to its event words and control blocks. */

import { CONTROL_BLOCK, PAGE_SIZE, UPCALL_PENDING } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import type { Domain } from '../../src/index.js'
import { frameOf, GUEST, SharedInfo } from './guest.js'

/** Event words and control blocks as their guest reads and writes them; it registered them and knows where they are. */
export class FifoWords {
  readonly domain: Domain

  constructor(domain: Domain) {
    this.domain = domain
  }

  /** The word of a port; null = the array has no page for it. */
  #word(port: number): DataView | null {
    const gfn = inside(this.domain).fifo?.pageGfns[port >> 10]
    if (gfn === undefined) return null
    const page = frameOf(this.domain, gfn)
    return new DataView(page.buffer, page.byteOffset + (port & 1023) * 4, 4)
  }
  has(port: number): boolean {
    return this.#word(port) !== null
  }
  word(port: number): number {
    return this.#word(port)?.getUint32(0, true) ?? 0
  }
  setWord(port: number, value: number): void {
    this.#word(port)?.setUint32(0, value >>> 0, true)
  }

  /** A vCPU's control block; null = none. */
  block(vcpuId: number): DataView | null {
    const block = inside(this.domain).fifo?.controlBlock(vcpuId)
    if (!block) return null
    const page = frameOf(this.domain, block.gfn)
    return new DataView(page.buffer, page.byteOffset + block.offset, CONTROL_BLOCK.size)
  }
  takeReady(block: DataView): number {
    const ready = block.getUint32(0, true)
    block.setUint32(0, 0, true)
    return ready & 0xffff
  }
}

const PENDING = 0x8000_0000
const MASKED = 0x4000_0000
const LINKED = 0x2000_0000
const LINK = 0x1_ffff

/** The same actions on the FIFO ABI. */
export const FIFO_GUEST: Readonly<Record<string, (words: FifoWords, vcpuId: number, args: Readonly<Record<string, unknown>>) => unknown>> = {
  guest_mask: (words, _, { port }) => words.setWord(port as number, words.word(port as number) | MASKED),
  guest_unmask: (words, _, { port }) => words.setWord(port as number, words.word(port as number) & ~MASKED),
  guest_clear_pending: (words, _, { port }) => words.setWord(port as number, words.word(port as number) & ~PENDING),
  guest_scan(words, vcpuId) {
    new SharedInfo(words.domain).setByte(vcpuId, UPCALL_PENDING, 0)
    return { ports: fifoScan(words, vcpuId) }
  },
  set_guest_word(words, vcpuId, args) {
    const value = Number(args.value as number | string)
    switch (args.where) {
      case 'fifo_word':
        return words.setWord(args.index as number, value)
      case 'fifo_ready':
        return words.block(args.index as number)?.setUint32(0, value, true)
      default:
        return GUEST.set_guest_word!(new SharedInfo(words.domain), vcpuId, args)
    }
  },
  fill_page({ domain }, _, { gfn, value }) {
    const page = frameOf(domain, gfn as number)
    for (let at = 0; at < PAGE_SIZE; at += 4) page.setUint32(at, Number(value as number | string), true)
  },
}

/** Consumes the queues of a vCPU as FORMAT.md has it. */
function fifoScan(words: FifoWords, vcpuId: number): number[] {
  const block = words.block(vcpuId)
  const ports: number[] = []
  if (!block) return ports
  const head = Array<number>(16).fill(0)
  let ready = words.takeReady(block)
  while (ready) {
    const q = 31 - Math.clz32(ready & -ready)
    const port = head[q] || block.getUint32(CONTROL_BLOCK.heads + 4 * q, true)
    if (!port || !words.has(port)) {
      head[q] = 0
      ready &= ~(1 << q)
      continue
    }
    const word = words.word(port)
    const link = word & LINK
    words.setWord(port, word & ~(LINKED | LINK))
    if (!link) ready &= ~(1 << q)
    if (word & PENDING && !(word & MASKED)) {
      words.setWord(port, words.word(port) & ~PENDING)
      ports.push(port)
    }
    head[q] = link
    ready |= words.takeReady(block)
  }
  return ports
}
