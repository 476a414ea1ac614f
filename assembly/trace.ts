/**
 * What the traced build (TRACE=1) tells its host: each access to a guest's word, after it was made. The host may call the
 * core again from there, which is another processor between two accesses. In the other builds nothing of this is left.
 */

/** One access: its kind, the address and width in bytes, and the word before and after. */
// @ts-ignore: decorator
@external("trace", "access")
export declare function access(kind: i32, at: usize, bytes: i32, before: u64, after: u64): void

// The kinds, in the order of ACCESS_KINDS in src/machine/traced.ts.
// @ts-ignore: decorator
@inline
export const READ: i32 = 0
// @ts-ignore: decorator
@inline
export const WRITE: i32 = 1
// @ts-ignore: decorator
@inline
export const OR: i32 = 2
// @ts-ignore: decorator
@inline
export const AND: i32 = 3
// @ts-ignore: decorator
@inline
export const TAKE: i32 = 4
// @ts-ignore: decorator
@inline
export const COMPARE_EXCHANGE: i32 = 5
