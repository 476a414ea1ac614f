/**
 * Atomic bit operations on words of guest memory, for both builds.
 *
 * THREADS=1: every access is a wasm atomic, that is sequentially consistent, so each one is also the full barrier that
 * EC-2l-1 and NL-set-1 ask for and no fence is ever needed. THREADS=0: the memory belongs to one thread, plain accesses
 * do the same at about half the cost. TRACE=1, on one thread, reports each access (trace.ts). exchange and add are the
 * host core's alone and are not reported: they touch no guest's words.
 */

import { AND, access, COMPARE_EXCHANGE, OR, READ, TAKE, WRITE } from './trace'

// @ts-ignore: decorator
@inline
export function read<T>(at: usize): T {
  if (THREADS) return atomic.load<T>(at)
  if (TRACE) {
    const value = load<T>(at)
    access(READ, at, sizeof<T>(), value as u64, value as u64)
    return value
  }
  return load<T>(at)
}

// @ts-ignore: decorator
@inline
export function write<T>(at: usize, value: T): void {
  if (THREADS) atomic.store<T>(at, value)
  else if (TRACE) {
    const old = load<T>(at)
    store<T>(at, value)
    access(WRITE, at, sizeof<T>(), old as u64, value as u64)
  } else store<T>(at, value)
}

/** Sets the bits of `mask`; returns the word as it was. */
// @ts-ignore: decorator
@inline
export function fetchOr<T>(at: usize, mask: T): T {
  if (THREADS) return atomic.or<T>(at, mask)
  const old = load<T>(at)
  store<T>(at, (old | mask) as T)
  if (TRACE) access(OR, at, sizeof<T>(), old as u64, ((old | mask) as T) as u64)
  return old
}

/** Keeps only the bits of `mask`; returns the word as it was. */
// @ts-ignore: decorator
@inline
export function fetchAnd<T>(at: usize, mask: T): T {
  if (THREADS) return atomic.and<T>(at, mask)
  const old = load<T>(at)
  store<T>(at, (old & mask) as T)
  if (TRACE) access(AND, at, sizeof<T>(), old as u64, ((old & mask) as T) as u64)
  return old
}

/** Takes the whole word and leaves 0. */
// @ts-ignore: decorator
@inline
export function take<T>(at: usize): T {
  if (THREADS) return atomic.xchg<T>(at, 0 as T)
  const old = load<T>(at)
  store<T>(at, 0 as T)
  if (TRACE) access(TAKE, at, sizeof<T>(), old as u64, 0)
  return old
}

/** All bits below `bit`. */
// @ts-ignore: decorator
@inline
export function below<T>(bit: i32): T {
  return (((1 as T) << (bit as T)) - 1) as T
}

/** Stores `replacement` if the word still is `expected`; returns the word as it was. */
// @ts-ignore: decorator
@inline
export function compareExchange<T>(at: usize, expected: T, replacement: T): T {
  if (THREADS) return atomic.cmpxchg<T>(at, expected, replacement)
  const old = load<T>(at)
  if (old == expected) store<T>(at, replacement)
  if (TRACE) access(COMPARE_EXCHANGE, at, sizeof<T>(), old as u64, (old == expected ? replacement : old) as u64)
  return old
}

/** Puts `value` in place of the word; returns the word as it was. */
// @ts-ignore: decorator
@inline
export function exchange<T>(at: usize, value: T): T {
  if (THREADS) return atomic.xchg<T>(at, value)
  const old = load<T>(at)
  store<T>(at, value)
  return old
}

/** Adds to a counter. */
// @ts-ignore: decorator
@inline
export function add<T>(at: usize, value: T): void {
  if (THREADS) atomic.add<T>(at, value)
  else store<T>(at, (load<T>(at) + value) as T)
}
