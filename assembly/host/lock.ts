/**
 * Queue locks: futex mutexes in the private memory. 0 free, 1 held, 2 held and waited for. On one thread nobody else can
 * hold one, and the build without threads has no locks.
 */

import { compareExchange, exchange } from '../bitops'

export function lock(at: usize): void {
  if (!THREADS) return
  if (compareExchange<u32>(at, 0, 1) == 0) return
  while (exchange<u32>(at, 2) != 0) atomic.wait<i32>(at, 2, -1)
}

export function unlock(at: usize): void {
  if (!THREADS) return
  if (exchange<u32>(at, 0) == 2) atomic.notify(at, 1)
}
