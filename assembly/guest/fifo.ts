/**
 * The FIFO ABI as far as it touches guest words: both sides of an event word and of a control block.
 *
 *     event word     31 PENDING · 30 MASKED · 29 LINKED (on a queue) · 28 BUSY (LINK is being written) · 16:0 LINK
 *     event array    1,024 words a page, index = port; pages in any order, so every word comes with its address
 *     control block  0 ready, a bit per priority · 8 head[16]; one per vCPU
 *
 * A queue is a list through LINK from head to tail. Its tail is the hypervisor's own (src/domain/fifo.ts) and so is everything
 * else that decides *where* an event goes; here is what happens to the words, in Xen's order, one access a line:
 *
 *     fifoRaise → PENDING, MASKED?, LINKED         then, with the queue chosen:
 *     fifoSetLink (behind the tail) or fifoSetHead then, with the tail moved:
 *     fifoReady → READY, upcall flag
 *
 * The guest may write any of these words at any moment. No function loops on what it reads there, but for those that
 * the guest calls itself. Rules: event-channels.md part 4, EC-fifo-7…19 and 25…27.
 *
 * No decorators and no 64-bit values here: the tests also run this very source as TypeScript, with a guest that acts
 * between any two accesses.
 */

import { compareExchange, fetchAnd, fetchOr, read, take, write } from '../bitops'

const PENDING: u32 = 1 << 31
const MASKED: u32 = 1 << 30
const LINKED: u32 = 1 << 29
const BUSY: u32 = 1 << 28
const LINK: u32 = (1 << 17) - 1

/** Offset of head[] in a control block. */
const HEADS: usize = 8
/** Attempts to write LINK under BUSY (EC-fifo-18): the guest can spoil each, and must not hold the hypervisor up. */
const LINK_ATTEMPTS: i32 = 4

/**
 * Sets PENDING, and LINKED unless the event is masked (EC-fifo-7, EC-fifo-8). Bit 0 of the result: PENDING was clear;
 * bit 1: the event is newly linked and the caller puts it on a queue.
 */
export function fifoRaise(word: usize): i32 {
  const fresh: i32 = fetchOr<u32>(word, PENDING) & PENDING ? 0 : 1
  if (read<u32>(word) & MASKED) return fresh
  return fetchOr<u32>(word, LINKED) & LINKED ? fresh : fresh | 2
}

/**
 * Links `port` behind the event whose word is `tail` (EC-fifo-17…19). 0: the tail is on no queue any more, `port` becomes
 * a head; 1: linked; 2: the guest spoiled every attempt and has lost its own events, nothing more is to be done.
 *
 * The first attempt is plain. If the guest changed the word meanwhile, BUSY asks it to leave the word alone: it may still
 * clear PENDING or LINKED, which are finitely many changes for a guest that follows the rules.
 */
export function fifoSetLink(tail: usize, port: u32): i32 {
  let word = read<u32>(tail)
  if (!(word & LINKED)) return 0
  let found = compareExchange<u32>(tail, word, (word & ~(BUSY | LINK)) | port)
  if (found == word) return 1
  fetchOr<u32>(tail, BUSY)
  word = read<u32>(tail)
  for (let attempt: i32 = 0; attempt < LINK_ATTEMPTS; attempt++) {
    if (!(word & LINKED)) {
      fetchAnd<u32>(tail, ~BUSY)
      return 0
    }
    found = compareExchange<u32>(tail, word, (word & ~(BUSY | LINK)) | port)
    if (found == word) return 1
    word = found
  }
  fetchAnd<u32>(tail, ~BUSY)
  return 2
}

/** Makes `port` the head of a queue (EC-fifo-12). */
export function fifoSetHead(block: usize, priority: u32, port: u32): void {
  write<u32>(block + HEADS + (priority << 2), port)
}

/** Marks a queue ready, then the upcall flag; 1: the caller notifies the vCPU (EC-fifo-15). After the head, never before. */
export function fifoReady(block: usize, priority: u32, upcallPending: usize): i32 {
  const bit: u32 = 1 << priority
  if (fetchOr<u32>(block, bit) & bit) return 0
  return fetchOr<u8>(upcallPending, 1) & 1 ? 0 : 1
}

/** An event word, for those who only look. */
export function fifoWord(word: usize): u32 {
  return read<u32>(word)
}

// --- the guest's side ------------------------------------------------------------------------------------------------

/**
 * Clears MASKED while BUSY is clear (EC-fifo-25, EC-fifo-27). 0: done, not pending; 1: done and pending, which only the
 * unmask hypercall can put on a queue; 2: BUSY stays up, and the mask is still set.
 */
export function fifoUnmask(word: usize): i32 {
  for (let attempt: i32 = 0; attempt < 1000; attempt++) {
    const old = read<u32>(word)
    if (old & BUSY) continue
    if (compareExchange<u32>(word, old, old & ~MASKED) == old) return old & PENDING ? 1 : 0
  }
  return 2
}

// The guest's descriptor of a scan, one per vCPU, in its own memory; addresses are absolute:
//   0 upcall    address of evtchn_upcall_pending        12 channels  ports that the array has room for
//   4 block     address of the control block            16 ready     queues known to be ready
//   8 pages     u32[] of addresses of the array's pages  20 head[16]  next event of each queue, 0 = ask the block
const UPCALL: usize = 0
const BLOCK: usize = 4
const PAGES: usize = 8
const CHANNELS: usize = 12
const READY: usize = 16
const HEAD: usize = 20

/**
 * Consumes events, highest priority first, and looks at `ready` again after each (EC-fifo-26). Writes at most `max` ports
 * to `out` with PENDING cleared and returns how many; the upcall flag is 1 again if queues are left. `max` < 1 does nothing.
 */
export function fifoScan(descriptor: usize, out: usize, max: i32): i32 {
  if (max < 1) return 0
  const upcall: usize = load<u32>(descriptor + UPCALL)
  const block: usize = load<u32>(descriptor + BLOCK)
  const pages: usize = load<u32>(descriptor + PAGES)
  const channels = load<u32>(descriptor + CHANNELS)
  // Flag first, then ready (EC-guest-3): a sender that comes between raises the flag again.
  write<u8>(upcall, 0)
  let ready: u32 = (load<u32>(descriptor + READY) | take<u32>(block)) & 0xffff
  let served: i32 = 0
  while (ready) {
    const queue = ctz(ready)
    const cached: usize = descriptor + HEAD + (queue << 2)
    let port = load<u32>(cached)
    if (!port) port = read<u32>(block + HEADS + (queue << 2))
    if (!port || port >= channels) {
      store<u32>(cached, 0)
      ready &= ~(1 << queue)
    } else {
      const word: usize = load<u32>(pages + ((port >>> 10) << 2)) + ((port & 1023) << 2)
      // Off the queue in one step: a sender finds the event either linked, or free to be linked again.
      let old = read<u32>(word)
      for (;;) {
        const found = compareExchange<u32>(word, old, old & ~(LINKED | LINK))
        if (found == old) break
        old = found
      }
      store<u32>(cached, old & LINK)
      if (!(old & LINK)) ready &= ~(1 << queue)
      if ((old & (PENDING | MASKED)) == PENDING) {
        fetchAnd<u32>(word, ~PENDING)
        store<u32>(out + (served << 2), port)
        served++
      }
    }
    if (served == max) break
    ready |= take<u32>(block) & 0xffff
  }
  store<u32>(descriptor + READY, ready)
  if (ready) fetchOr<u8>(upcall, 1)
  return served
}
