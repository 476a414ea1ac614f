/**
 * The records of the host core in the private memory, as assembly/host/layout.ts has them: byte offsets and sizes. A test
 * compares the two files.
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
 */

/** W of the delivery lock, the bell of the hypervisor's thread, and that somebody of its own was kicked. */
export const DELIVERY_LOCK = 0
export const BELL = 4032
export const RUNG = 4036

/** A thread's line. */
export const THREAD = { MARK: 0, KNOWN: 4, MAILBOX: 8, RAISING: 12, RAISING_PORT: 16, STAGE: 20 } as const
/** STAGE of an event that is linked on its FIFO queue. */
export const STAGE_LINKED = 2
export const THREAD_SHIFT = 6
/** Threads beside the hypervisor's own, and the number that its queue locks bear. */
export const MOST_THREADS = 62
export const HYPERVISOR_THREAD = 63
/** Memories whose cores a thread can have. */
export const KNOWN_MEMORIES = 1024

/** Addresses of domain records by domid, and where the heap begins. */
export const DOMAINS = 4096
export const HEAP = DOMAINS + 32768 * 4

/** A domain's record. */
export const DOMAIN = {
  STATUS: 0,
  GENERATION: 4,
  DOMID: 8,
  ABI: 12,
  WORD_SHIFT: 16,
  MAX_EVTCHNS: 20,
  VALID: 24,
  DIRECTORY: 28,
  VCPUS: 32,
  NR_VCPUS: 36,
  FUNCTIONS: 40,
  CLIMB: 44,
  SEL: 48,
  LEAF: 52,
  FIFO: 56,
  RUN: 60,
  MEMORY: 64,
  POLLERS: 128,
  CALLS: 192,
} as const
export const DOMAIN_BYTES = 256

/** Bits of a domain's STATUS: what sends its hypercalls the long way. */
export const STATUS_DYING = 1
export const STATUS_FROZEN = 2
export const STATUS_POLICY = 4

/** A vCPU's record. */
export const VCPU = {
  INFO: 0,
  DEPTH: 4,
  LEVEL2: 8,
  LEVEL3: 12,
  LAST: 16,
  /** Offline; only TypeScript asks. */
  DOWN: 20,
  /** First port of the list of PIRQ ports (EC-pirq-9); only TypeScript asks. */
  PIRQ_HEAD: 24,
  HOME: 28,
  CALLABLE: 32,
  VIRQS: 64,
  BLOCKED: 192,
  CONTROL: 256,
  PARKED: 320,
  KICKED: 324,
  WOKEN: 328,
  POLLING: 384,
  POLL_PORT: 388,
} as const
export const VCPU_SHIFT = 9

/** What the hypervisor wants of a vCPU on a thread: CONTROL. */
export const CONTROL_RUN = 0
export const CONTROL_PARK = 1
export const CONTROL_STOP = 2
/** BLOCKED of a vCPU that sleeps, and of one that is to look at CONTROL. */
export const ASLEEP = 1
export const ASLEEP_CALLED = 2

/** A port object. */
export const PORT = {
  STATE: 0,
  NOTIFY: 4,
  REMOTE: 8,
  REMOTE_PORT: 12,
  /** Previous PIRQ port; only TypeScript asks. */
  PREVIOUS: 16,
  PRIORITY: 20,
  SAVED: 24,
  LASTQ: 28,
} as const
export const PORT_SHIFT = 5
export const PORTS_PER_BUCKET = 64
export const BUCKET_BYTES = PORTS_PER_BUCKET << PORT_SHIFT

/** The FIFO record of a domain, and the queues of each of its vCPUs. */
export const FIFO = { QUEUES: 0, NR_PAGES: 4, DROPPED: 64, FOUGHT: 68, PAGES: 128 } as const
export const FIFO_BYTES = 1024
export const QUEUE = { BLOCK: 0, TAILS: 64, LOCKS: 128 } as const
export const QUEUES_SHIFT = 8

/** ABI of a domain: 2 to 5 levels, FIFO queues, or one that only TypeScript knows. */
export const ABI_QUEUES = 16
export const ABI_FOREIGN = 0

/** No guest address: words, blocks and vcpu_info are aligned. */
export const NONE = -1

/** Not decided in the core, and nothing changed: TypeScript does the whole of it. */
export const SLOW = -4096

/** What a result leaves to do: bit 0, a vCPU's flag went 0 → 1; bit 1, the event is new and its domain has pollers. */
export const KICK = 1
export const POLLED = 2
/** Where a result has the vCPU, 13 bits, and the domain. */
export const KICK_VCPU = 2
export const KICK_DOMID = 15
export const KICK_VCPU_MASK = 0x1fff

/** Slot of the function that sleeps, and the first slot of guests' cores. Slot 0 is empty: what names no core traps. */
export const WAIT_ON = 1
export const FIRST_SLOT = 2

/** Slots of a guest's core in the table, then one for each climb. */
export const SLOTS = [
  'leafSet',
  'leafUnmask',
  'bitSet',
  'bitClear',
  'bitTest',
  'fifoRaise',
  'fifoSetLink',
  'fifoSetHead',
  'fifoReady',
  'climb2x32',
  'climb3x32',
  'climb4x32',
  'climb5x32',
  'climb2x64',
  'climb3x64',
  'climb4x64',
] as const
