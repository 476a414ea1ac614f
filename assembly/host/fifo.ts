/**
 * Raising a port on the FIFO ABI (spec part 4; xen/common/event_fifo.c): what Xen keeps private, and where an event goes.
 * What happens to the guest's words is assembly/guest/fifo.ts.
 *
 * A queue is a vCPU and a priority. Its tail may be stale: the guest has consumed the event since, which shows in the
 * tail's word, that is no longer LINKED. Whatever the guest writes into its words, a raise touches the word of the port,
 * the word of one tail, one head and one ready word, a bounded number of times each.
 *
 * A raise holds the queue that the port was last on and the one that it goes to (EC-lock-5), the lower address first. The
 * priority may change while it waits for them, so it looks again, three times at most (EC-fifo-4, -5).
 */

import { add, read, write } from '../bitops'
import {
  BIT_CLEAR,
  BIT_SET,
  BIT_TEST,
  BLOCK,
  DROPPED,
  FIFO,
  FIFO_RAISE,
  FIFO_READY,
  FIFO_SET_HEAD,
  FIFO_SET_LINK,
  FOUGHT,
  FUNCTIONS,
  INFO,
  LASTQ,
  LOCKS,
  NONE,
  NOTIFY,
  NR_PAGES,
  PAGES,
  PRIORITY,
  QUEUES,
  QUEUES_SHIFT,
  SAVED,
  TAILS,
} from './layout'
import { kickOf } from './levels'
import { lock, unlock } from './lock'
import { polled } from './poll'
import { linkedBy, vcpuOf } from './ports'

/** Tries to lock the queues of an event (EC-fifo-4). */
const LOCK_TRIES: i32 = 3

/** Result of fifoRaise. */
const NEWLY_PENDING: i32 = 1
const NEWLY_LINKED: i32 = 2
/** fifoSetLink's. */
const NEW_HEAD: i32 = 0
const LINKED_BEHIND: i32 = 1
const FOUGHT_OVER: i32 = 2

/** Bits of an event word. */
const PENDING: u32 = 31
const MASKED: u32 = 30

/** Absolute address of a port's event word; NONE: its page does not exist. The count grows beside senders, page first. */
function wordAt(fifo: usize, port: u32): u32 {
  const page = port >>> 10
  if (page >= read<u32>(fifo + NR_PAGES)) return NONE
  return load<u32>(fifo + (page << 2), PAGES) + ((port & 1023) << 2)
}

/** The vCPU's part of the queues. */
function queuesOf(fifo: usize, vcpu: u32): usize {
  return (load<u32>(fifo, QUEUES) as usize) + (vcpu << QUEUES_SHIFT)
}

/** Where the tail of a queue is; its lock lies LOCKS - TAILS behind. A queue is named as in lastq (EC-port-1). */
function tailOf(fifo: usize, queue: u32): usize {
  return queuesOf(fifo, queue >>> 16) + TAILS + ((queue & 0xff) << 2)
}

function lockBoth(a: usize, b: usize, thread: usize): void {
  const first = min(a, b)
  lock(first + (LOCKS - TAILS), thread)
  if (a != b) lock(max(a, b) + (LOCKS - TAILS), thread)
}

function unlockBoth(a: usize, b: usize): void {
  unlock(a + (LOCKS - TAILS))
  if (a != b) unlock(b + (LOCKS - TAILS))
}

/** EC-fifo-3…16. Xen: evtchn_fifo_set_pending. `thread` is the line of the thread that raises. */
export function queueRaise(dom: usize, port: u32, at: usize, thread: usize): i32 {
  const fifo: usize = load<u32>(dom, FIFO)
  let word = wordAt(fifo, port)
  if (word == NONE) {
    // Remembered until the page comes (EC-bug-4). Nobody is notified: there is no word to look at. Then a second look:
    // who adds the page publishes it first and looks for marks after it, so one of the two raises the event.
    write<u32>(at + SAVED, 1)
    word = wordAt(fifo, port)
    if (word == NONE) return 0
  }
  const vcpu = load<u32>(at, NOTIFY)
  for (let tries: i32 = 0; tries < LOCK_TRIES; tries++) {
    const queue = (vcpu << 16) | load<u32>(at, PRIORITY)
    const old = load<u32>(at, LASTQ)
    const from = tailOf(fifo, old)
    const to = tailOf(fifo, queue)
    lockBoth(from, to, thread)
    if (queue == ((vcpu << 16) | load<u32>(at, PRIORITY)) && old == load<u32>(at, LASTQ))
      return raiseLocked(dom, fifo, port, at, word, queue, from, to, thread)
    unlockBoth(from, to)
  }
  add<u32>(fifo + DROPPED, 1)
  return 0
}

/** With both queues locked; unlocks them. */
function raiseLocked(
  dom: usize,
  fifo: usize,
  port: u32,
  at: usize,
  word: u32,
  queue: u32,
  from: usize,
  to: usize,
  thread: usize,
): i32 {
  const block = load<u32>(queuesOf(fifo, queue >>> 16), BLOCK)
  if (block == NONE) {
    // Before PENDING is touched: a bit that stays up without an event would swallow all later ones (EC-bug-12).
    unlockBoth(from, to)
    add<u32>(fifo + DROPPED, 1)
    return 0
  }
  const functions = load<u32>(dom, FUNCTIONS)
  const found = call_indirect<i32>(functions + FIFO_RAISE, word)
  let linked = LINKED_BEHIND
  if (found & NEWLY_LINKED) {
    // The port was the last of its old queue and is on none now, so that queue is empty: a tail left there would be
    // followed once the port is linked elsewhere (EC-bug-5).
    if (load<u32>(from) == port) store<u32>(from, 0)
    if (from != to) store<u32>(at, queue, LASTQ)
    linked = link(functions, fifo, port, block, queue, to)
    linkedBy(thread)
    store<u32>(to, port)
  }
  unlockBoth(from, to)
  // READY for a new head only (EC-bug-3).
  const kick = linked == NEW_HEAD ? makeReady(dom, functions, block, queue) : 0
  // Last: a poller that is woken before the event is linked may look for it and not find it (EC-bug-8).
  return found & NEWLY_PENDING ? kick | polled(dom) : kick
}

/** Puts a newly linked event at the end of its queue (EC-fifo-9…13); returns what fifoSetLink does. */
function link(functions: u32, fifo: usize, port: u32, block: u32, queue: u32, to: usize): i32 {
  const tail = load<u32>(to)
  const linked = tail ? call_indirect<i32>(functions + FIFO_SET_LINK, wordAt(fifo, tail), port) : NEW_HEAD
  if (linked == NEW_HEAD) call_indirect<void>(functions + FIFO_SET_HEAD, block, queue & 0xff, port)
  else if (linked == FOUGHT_OVER) add<u32>(fifo + FOUGHT, 1)
  return linked
}

/** EC-fifo-15. On the dummy there is no flag, and the guest looks at READY when it has one (EC-vi-15). */
function makeReady(dom: usize, functions: u32, block: u32, queue: u32): i32 {
  const priority = queue & 0xff
  const info = load<u32>(vcpuOf(dom, queue >>> 16), INFO)
  if (info == NONE) {
    call_indirect<i32>(functions + BIT_SET, block, priority)
    return 0
  }
  return call_indirect<i32>(functions + FIFO_READY, block, priority, info) ? kickOf(dom, queue >>> 16) : 0
}

/** EC-fifo-21: mask first, then pending. Pollers are not woken, for PENDING was set before. */
export function queueUnmask(dom: usize, port: u32, at: usize, thread: usize): i32 {
  const word = wordAt(load<u32>(dom, FIFO), port)
  if (word == NONE) return 0
  const functions = load<u32>(dom, FUNCTIONS)
  call_indirect<i32>(functions + BIT_CLEAR, word, MASKED)
  return call_indirect<i32>(functions + BIT_TEST, word, PENDING) ? queueRaise(dom, port, at, thread) : 0
}

/** PENDING only; a queued event stays where it is and is skipped by the guest (EC-fifo-20). */
export function queueClear(dom: usize, port: u32): void {
  const word = wordAt(load<u32>(dom, FIFO), port)
  if (word != NONE) call_indirect<i32>(load<u32>(dom, FUNCTIONS) + BIT_CLEAR, word, PENDING)
}

/** Bit 0: pending; bit 1: masked. A port without a page is masked. */
export function queueBits(dom: usize, port: u32): i32 {
  const word = wordAt(load<u32>(dom, FIFO), port)
  if (word == NONE) return 2
  const test = load<u32>(dom, FUNCTIONS) + BIT_TEST
  const pending = call_indirect<i32>(test, word, PENDING)
  return pending | (call_indirect<i32>(test, word, MASKED) << 1)
}
