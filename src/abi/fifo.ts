/** Numbers and layouts of the FIFO ABI (event-channels.md part 4; xen/include/public/event_channel.h). */

/** Ports that the FIFO ABI can express. */
export const EVTCHN_FIFO_NR_CHANNELS = 2 ** 17
/** Bits of LINK: what init_control returns. */
export const EVTCHN_FIFO_LINK_BITS = 17
/** Number of priorities; 0 is the highest. */
export const EVTCHN_FIFO_MAX_QUEUES = 16
/** Priority of a port at birth. */
export const EVTCHN_FIFO_PRIORITY_DEFAULT = 7

/** Bit numbers in an event word. */
export const EVTCHN_FIFO_PENDING = 31
export const EVTCHN_FIFO_MASKED = 30
export const EVTCHN_FIFO_LINKED = 29
export const EVTCHN_FIFO_BUSY = 28

/** Event words in a page of the event array, and the most pages it can have. */
export const EVTCHN_FIFO_WORDS_PER_PAGE = 1024
export const EVTCHN_FIFO_MAX_PAGES = EVTCHN_FIFO_NR_CHANNELS / EVTCHN_FIFO_WORDS_PER_PAGE

/** struct evtchn_fifo_control_block: ready at 0, head[16] from 8. */
export const CONTROL_BLOCK = Object.freeze({ size: 72, ready: 0, heads: 8 } as const)
