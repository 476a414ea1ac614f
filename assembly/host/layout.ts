/**
 * Where the host's private records are. src/machine/host_layout.ts says the same for TypeScript; a test compares the two.
 *
 *     0       W of the delivery lock, on a line of its own; then a line for each of 62 threads, 1 to 62
 *     4032    line 63: the bell of the hypervisor's thread
 *     4096    domains: u32[32,768], the address of each domain's record by domid, 0 = no such domain
 *     135168  heap: records and tables, each a power of two of bytes and aligned to a line
 *
 *     domain record ──▶ directory: u32[], address of each bucket ──▶ bucket: 64 ports of 32 bytes
 *               ├─────▶ vCPUs, 512 bytes each ──▶ last: u32[], pages of selector level n-1
 *               ├─────▶ leaf: (pending page, mask page)[]             levels
 *               └─────▶ FIFO record: pages, queues ──▶ 256 bytes a vCPU   FIFO
 *
 * Addresses of guest words are absolute in that guest's memory and never used here: they are passed to the guest's own
 * core. What several threads write without the delivery lock has a line of its own.
 */

/** W of the delivery lock: 1 while the hypervisor's thread changes what senders read, or waits for them to leave. */
// @ts-ignore: decorator
@inline
export const DELIVERY_LOCK: usize = 0
/** Counts what the hypervisor's thread is to look at: forwarded calls, vCPUs of its own that were kicked. A futex. */
// @ts-ignore: decorator
@inline
export const BELL: usize = 4032
/** 1: there are vCPUs whose KICKED or WOKEN is set. */
// @ts-ignore: decorator
@inline
export const RUNG: usize = 4036

// --- thread, a line of 64 bytes -----------------------------------------------------------------------------------------

// @ts-ignore: decorator
@inline
export const THREAD_SHIFT: u32 = 6
/** 1: the thread is inside the delivery lock. A futex. */
// @ts-ignore: decorator
@inline
export const MARK: usize = 0
/** u32[KNOWN_MEMORIES]: the number of the memory whose core this thread has in a run of slots. */
// @ts-ignore: decorator
@inline
export const KNOWN: usize = 4
/** Address of the mailbox; TypeScript alone uses it. */
// @ts-ignore: decorator
@inline
export const MAILBOX: usize = 8
/** What it raises, for whoever cleans up after a thread that is terminated: domain's record, port, and how far it is. */
// @ts-ignore: decorator
@inline
export const RAISING: usize = 12
// @ts-ignore: decorator
@inline
export const RAISING_PORT: usize = 16
/** 1 = begun; 2 = linked on its FIFO queue. */
// @ts-ignore: decorator
@inline
export const STAGE: usize = 20
// @ts-ignore: decorator
@inline
export const KNOWN_MEMORIES: u32 = 1024
/** Line of the hypervisor's own thread. It needs no mark: it is the only one that changes what senders read. */
// @ts-ignore: decorator
@inline
export const HYPERVISOR: usize = 4032

/** Addresses of domain records by domid. */
// @ts-ignore: decorator
@inline
export const DOMAINS: usize = 4096

// --- domain record, 256 bytes ----------------------------------------------------------------------------------------

/** 0: its hypercalls run here. Bits: 1 dying or dead, 2 frozen, 4 a policy is asked about sends. */
// @ts-ignore: decorator
@inline
export const STATUS: usize = 0
/** Counts the domains that had this number. */
// @ts-ignore: decorator
@inline
export const GENERATION: usize = 4
// @ts-ignore: decorator
@inline
export const DOMID: usize = 8
/** Levels of the tree, 2 to 5; 16 = FIFO; 0 = an ABI that this core does not know. */
// @ts-ignore: decorator
@inline
export const ABI: usize = 12
/** log2 of the bits in a word: 5 or 6. */
// @ts-ignore: decorator
@inline
export const WORD_SHIFT: usize = 16
/** Ports that the ABI can express. */
// @ts-ignore: decorator
@inline
export const MAX_EVTCHNS: usize = 20
/** Port objects that exist (EC-port-6). */
// @ts-ignore: decorator
@inline
export const VALID: usize = 24
// @ts-ignore: decorator
@inline
export const DIRECTORY: usize = 28
// @ts-ignore: decorator
@inline
export const VCPUS: usize = 32
// @ts-ignore: decorator
@inline
export const NR_VCPUS: usize = 36
/** First slot of the guest's core in the table, and the slot of the climb of its depth and width. */
// @ts-ignore: decorator
@inline
export const FUNCTIONS: usize = 40
// @ts-ignore: decorator
@inline
export const CLIMB: usize = 44
/** Offset of evtchn_pending_sel in vcpu_info. */
// @ts-ignore: decorator
@inline
export const SEL: usize = 48
// @ts-ignore: decorator
@inline
export const LEAF: usize = 52
// @ts-ignore: decorator
@inline
export const FIFO: usize = 56
/** Run of slots of the guest's core, and the number of the memory: numbers are never used twice. */
// @ts-ignore: decorator
@inline
export const RUN: usize = 60
// @ts-ignore: decorator
@inline
export const MEMORY: usize = 64
/** 1: a vCPU of the domain has KICKED or WOKEN set. Written by senders. */
// @ts-ignore: decorator
@inline
export const CALLS: usize = 192
/** vCPUs that poll. Written by pollers. */
// @ts-ignore: decorator
@inline
export const POLLERS: usize = 128

// --- vCPU, 512 bytes -------------------------------------------------------------------------------------------------

// @ts-ignore: decorator
@inline
export const VCPU_SHIFT: u32 = 9
/** Address of vcpu_info; NONE on the dummy (EC-vi-2). */
// @ts-ignore: decorator
@inline
export const INFO: usize = 0
/** Depth of the tree whose selectors are active here; 0 = none, events latch in the leaf (NL-sel-4). */
// @ts-ignore: decorator
@inline
export const DEPTH: usize = 4
/** Words of level 2 and level 3, where they are not the last level. */
// @ts-ignore: decorator
@inline
export const LEVEL2: usize = 8
// @ts-ignore: decorator
@inline
export const LEVEL3: usize = 12
// @ts-ignore: decorator
@inline
export const LAST: usize = 16
/** Line of the thread that the vCPU runs on; 0 = the hypervisor's own. */
// @ts-ignore: decorator
@inline
export const HOME: usize = 28
/** 1: an upcall can enter it, PV or HVM with a way to call (EC-up-3), so an event wakes it. */
// @ts-ignore: decorator
@inline
export const CALLABLE: usize = 32
/** virq_to_evtchn[24]; 0 = not bound. */
// @ts-ignore: decorator
@inline
export const VIRQS: usize = 64
/** 1 = blocked, in SCHEDOP_block or SCHEDOP_poll; 2 = the same, and it is to look at CONTROL. A futex. */
// @ts-ignore: decorator
@inline
export const BLOCKED: usize = 192
/** What the hypervisor wants of a vCPU on a thread: 0 run, 1 park, 2 stop. A futex. */
// @ts-ignore: decorator
@inline
export const CONTROL: usize = 256
/** 1: it is parked, and looks at CONTROL before it runs guest code. A futex. */
// @ts-ignore: decorator
@inline
export const PARKED: usize = 320
/** Of a vCPU on the hypervisor's thread: 1 = its flag went 0 to 1; 1 = it was woken. Written by senders. */
// @ts-ignore: decorator
@inline
export const KICKED: usize = 324
// @ts-ignore: decorator
@inline
export const WOKEN: usize = 328
/** 1 = polling, and what: a port, or 0xffffffff for several or none. */
// @ts-ignore: decorator
@inline
export const POLLING: usize = 384
// @ts-ignore: decorator
@inline
export const POLL_PORT: usize = 388

// --- port, 32 bytes --------------------------------------------------------------------------------------------------

/** ECS_* in the low byte, slot of a notifier in Xen above it: a port of the guest's own has 0 there. */
// @ts-ignore: decorator
@inline
export const STATE: usize = 0
// @ts-ignore: decorator
@inline
export const NOTIFY: usize = 4
/** Remote domid, PIRQ or VIRQ. */
// @ts-ignore: decorator
@inline
export const REMOTE: usize = 8
/** Remote port, or the next PIRQ port. */
// @ts-ignore: decorator
@inline
export const REMOTE_PORT: usize = 12
/** FIFO priority. */
// @ts-ignore: decorator
@inline
export const PRIORITY: usize = 20
/** 1: an event came while the port's word did not exist (EC-fifo-3). Written by senders. */
// @ts-ignore: decorator
@inline
export const SAVED: usize = 24
/** vCPU << 16 | priority of the queue it was last linked on (EC-fifo-14). Written by senders, under queue locks. */
// @ts-ignore: decorator
@inline
export const LASTQ: usize = 28

// --- FIFO record, 1024 bytes; queues, 256 bytes a vCPU ---------------------------------------------------------------

// @ts-ignore: decorator
@inline
export const QUEUES: usize = 0
/** Events dropped (EC-fifo-5, -6), and links that the guest's own writes spoiled (EC-fifo-19). Written by senders. */
// @ts-ignore: decorator
@inline
export const DROPPED: usize = 64
// @ts-ignore: decorator
@inline
export const FOUGHT: usize = 68
/** Pages of the event array, and their addresses. */
// @ts-ignore: decorator
@inline
export const NR_PAGES: usize = 4
// @ts-ignore: decorator
@inline
export const PAGES: usize = 128

/** Address of a vCPU's control block; NONE = it has none. */
// @ts-ignore: decorator
@inline
export const BLOCK: usize = 0
// @ts-ignore: decorator
@inline
export const TAILS: usize = 64
// @ts-ignore: decorator
@inline
export const LOCKS: usize = 128
// @ts-ignore: decorator
@inline
export const QUEUES_SHIFT: u32 = 8

// --- values ----------------------------------------------------------------------------------------------------------

/** No guest address: words, blocks and vcpu_info are aligned. */
// @ts-ignore: decorator
@inline
export const NONE: u32 = 0xffff_ffff

// @ts-ignore: decorator
@inline
export const ECS_UNBOUND: u32 = 2
// @ts-ignore: decorator
@inline
export const ECS_INTERDOMAIN: u32 = 3
// @ts-ignore: decorator
@inline
export const ECS_IPI: u32 = 6

// @ts-ignore: decorator
@inline
export const ESRCH: i32 = 3
// @ts-ignore: decorator
@inline
export const EINVAL: i32 = 22
/** Not decided here: TypeScript does it (a port of Xen's own, a policy, an ABI that this core does not know). */
// @ts-ignore: decorator
@inline
export const SLOW: i32 = -4096

// Results of what raises an event: what is left to do for the caller. 0 = nothing.
//   bit 0 KICK: the upcall flag of a vCPU (bits 2 to 14) went from 0 to 1
//   bit 1 POLLED: the event is new, and vCPUs of its domain poll
//   bits 15 to 29: the domain of either
// @ts-ignore: decorator
@inline
export const KICK: i32 = 1
// @ts-ignore: decorator
@inline
export const POLLED: i32 = 2
// @ts-ignore: decorator
@inline
export const KICK_VCPU: i32 = 2
// @ts-ignore: decorator
@inline
export const KICK_DOMID: i32 = 15

/** Slot of the function that sleeps: this core's own waitOn (lock.ts says why it is called this way). */
// @ts-ignore: decorator
@inline
export const WAIT_ON: u32 = 1

// Slots of a guest's core, from FUNCTIONS on.
// @ts-ignore: decorator
@inline
export const LEAF_SET: u32 = 0
// @ts-ignore: decorator
@inline
export const LEAF_UNMASK: u32 = 1
// @ts-ignore: decorator
@inline
export const BIT_SET: u32 = 2
// @ts-ignore: decorator
@inline
export const BIT_CLEAR: u32 = 3
// @ts-ignore: decorator
@inline
export const BIT_TEST: u32 = 4
// @ts-ignore: decorator
@inline
export const FIFO_RAISE: u32 = 5
// @ts-ignore: decorator
@inline
export const FIFO_SET_LINK: u32 = 6
// @ts-ignore: decorator
@inline
export const FIFO_SET_HEAD: u32 = 7
// @ts-ignore: decorator
@inline
export const FIFO_READY: u32 = 8
