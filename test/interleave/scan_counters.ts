/** Where a scan of the model is: program counters, one a memory operation, and their names in schedules. */

/** 0 is idle: the tree asks for it by that value. */
export const IDLE = 0
export const FLAG = 1
export const TAKE = 2
export const ZERO = 3
export const PENDING = 4
export const MASK = 5
export const FILTER = 6
export const SERVE = 7
export const CLEAR = 8
export const STORE = 9
export const BACK = 10
export const BACK_STORE = 11
export const AGAIN = 12

export const LABELS: readonly string[] = [
  'upcall',
  'flag := 0',
  'take',
  'zero',
  'load pending',
  'load mask',
  'load filter',
  'serve',
  'clear pending',
  'store pending',
  'give back',
  'store what goes back',
  'load flag',
]
