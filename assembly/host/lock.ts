/**
 * The locks of the private memory, as futexes. The build without threads has none of them.
 *
 * The delivery lock (docs/spec/threads.md) shuts senders out while the hypervisor's thread changes what they read. Each
 * thread has a mark on a line of its own; the hypervisor's thread has W. It is Xen's percpu_rwlock.
 *
 *     enter    mark := 1, then W?   set: mark := 0, notify mark, sleep while W is set, again
 *     leave    mark := 0, then W?   set: notify mark
 *     exclude  W := 1, then wait for each mark to be 0          (src/machine/delivery_lock.ts)
 *     admit    W := 0, notify all who sleep on it
 *
 * Each side stores before it looks, so one of the two sees the other. Both notifies are needed: the writer may already
 * sleep on a mark when it is taken back (test/models/lock.pml: BACK_OFF_SILENTLY, LEAVE_LOOKS_FIRST).
 *
 * What sleeps is a function of its own, called through the table, so that it is not inlined: the baseline compiler of V8 11.3
 * (Node 20) loses locals that are used after a memory.atomic.wait32 in a loop. A send then went to port 0, one in a hundred
 * thousand; test/threads/ found it.
 *
 * Queue locks are mutexes: 0 free, else the number of the thread that holds it, 256 added when others wait for it. The
 * hypervisor's own thread is number 63. A thread that is terminated holds its locks still; the number says which to break.
 */

import { compareExchange, exchange, read, write } from '../bitops'
import { DELIVERY_LOCK, HYPERVISOR, THREAD_SHIFT, WAIT_ON } from './layout'

const WAITED_FOR: u32 = 256

const FOR_EVER: i64 = -1
/** How long the hypervisor's thread waits for a queue lock. */
const PATIENCE_NS: i64 = 1_000_000_000
/** Result of a wait. */
const TIMED_OUT: i32 = 2

/** Sleeps while a word has a value; 0 woken, 1 it has another, 2 timed out. In slot WAIT_ON of each table. */
export function waitOn(at: usize, value: i32, timeoutNs: i64): i32 {
  return THREADS ? atomic.wait<i32>(at, value, timeoutNs) : 1
}

/** Enters the delivery lock; `thread` is the address of the thread's line, whose first word is its mark. */
export function enter(thread: usize): void {
  if (!THREADS) return
  for (;;) {
    write<u32>(thread, 1)
    if (read<u32>(DELIVERY_LOCK) == 0) return
    write<u32>(thread, 0)
    atomic.notify(thread, 1)
    call_indirect<i32>(WAIT_ON, DELIVERY_LOCK, 1, FOR_EVER)
  }
}

/** Leaves the delivery lock. */
export function leave(thread: usize): void {
  if (!THREADS) return
  write<u32>(thread, 0)
  if (read<u32>(DELIVERY_LOCK)) atomic.notify(thread, 1)
}

/** Takes a queue lock for a thread. */
export function lock(at: usize, thread: usize): void {
  if (!THREADS) return
  const me = (thread >>> THREAD_SHIFT) as u32
  if (compareExchange<u32>(at, 0, me) == 0) return
  for (;;) {
    const held = read<u32>(at)
    if (held == 0) {
      // Whoever else sleeps here is not forgotten: this thread cannot know, so it says that somebody does.
      if (compareExchange<u32>(at, 0, me | WAITED_FOR) == 0) return
      continue
    }
    const waited = held | WAITED_FOR
    if (held == waited || compareExchange<u32>(at, held, waited) == held)
      // A thread that is terminated never lets go. The hypervisor's own thread gives up then, for it must stay there to
      // clean up after the other; this traps.
      if (call_indirect<i32>(WAIT_ON, at, waited as i32, thread == HYPERVISOR ? PATIENCE_NS : FOR_EVER) == TIMED_OUT)
        unreachable()
  }
}

/** Releases a queue lock. */
export function unlock(at: usize): void {
  if (!THREADS) return
  if (exchange<u32>(at, 0) & WAITED_FOR) atomic.notify(at, 1)
}
