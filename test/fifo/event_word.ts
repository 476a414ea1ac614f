/** The bits of a FIFO event word. */

export const PENDING = 1 << 31
export const MASKED = 1 << 30
export const LINKED = 1 << 29
export const BUSY = 1 << 28
export const LINK = 0x1_ffff
