/** Xen's public numbers, under Xen's names. Sources: xen/include/public/{xen,errno,event_channel,sched,vcpu}.h; nlevel.md section 2. */

/** Hypercall numbers (`__HYPERVISOR_*`). */
export const HYPERVISOR = Object.freeze({
  memory_op: 12,
  multicall: 13,
  event_channel_op_compat: 16,
  xen_version: 17,
  grant_table_op: 20,
  vcpu_op: 24,
  sched_op: 29,
  event_channel_op: 32,
  physdev_op: 33,
  hvm_op: 34,
} as const)

/** Domain ids from DOMID_FIRST_RESERVED up name no ordinary domain (EC-lay-1). */
export const DOMID_FIRST_RESERVED = 0x7ff0
/** The calling domain. */
export const DOMID_SELF = 0x7ff0
/** No domain at all. */
export const DOMID_INVALID = 0x7ff4

/** Event channel operations; 64…67 are this library's N-level operations, Xen uses 0…14. */
export const EVTCHNOP = Object.freeze({
  bind_interdomain: 0,
  bind_virq: 1,
  bind_pirq: 2,
  close: 3,
  send: 4,
  status: 5,
  alloc_unbound: 6,
  bind_ipi: 7,
  bind_vcpu: 8,
  unmask: 9,
  reset: 10,
  init_control: 11,
  expand_array: 12,
  set_priority: 13,
  reset_cont: 14,
  query_nlevel: 64,
  set_nlevel_selectors: 65,
  register_nlevel: 66,
  query_nlevel2: 67,
} as const)

/** States of a port object, as the dump prints them in `s=` (spec 2.1). */
export const ECS = Object.freeze({
  FREE: 0,
  RESERVED: 1,
  UNBOUND: 2,
  INTERDOMAIN: 3,
  PIRQ: 4,
  VIRQ: 5,
  IPI: 6,
} as const)

/** The values of `status` that EVTCHNOP_status returns. */
export const EVTCHNSTAT = Object.freeze({ closed: 0, unbound: 1, interdomain: 2, pirq: 3, virq: 4, ipi: 5 } as const)

/** Virtual interrupts. */
export const VIRQ = Object.freeze({
  TIMER: 0,
  DEBUG: 1,
  CONSOLE: 2,
  DOM_EXC: 3,
  TBUF: 4,
  DEBUGGER: 6,
  XENOPROF: 7,
  CON_RING: 8,
  PCPU_STATE: 9,
  MEM_EVENT: 10,
  ARGO: 11,
  ENOMEM: 12,
  XENPMU: 13,
  ARCH_0: 16,
} as const)
/** Number of virtual interrupts. */
export const NR_VIRQS = 24

/** vCPUs that have their vcpu_info in shared_info (EC-vi-1). */
export const XEN_LEGACY_MAX_VCPUS = 32
/** Bytes of a frame. */
export const PAGE_SIZE = 4096
/** Bits of a leaf page: P of nlevel.md. */
export const PAGE_BITS = 32768

/** vcpu_op commands. */
export const VCPUOP = Object.freeze({ initialise: 0, up: 1, down: 2, is_up: 3, register_vcpu_info: 10 } as const)
/** sched_op commands. */
export const SCHEDOP = Object.freeze({ yield: 0, block: 1, shutdown: 2, poll: 3 } as const)
/** Reasons of SCHEDOP_shutdown. */
export const SHUTDOWN = Object.freeze({
  poweroff: 0,
  reboot: 1,
  suspend: 2,
  crash: 3,
  watchdog: 4,
  soft_reset: 5,
} as const)
/** Most ports that one SCHEDOP_poll may name. */
export const POLL_MAX_PORTS = 128

/** Value of `abi` that query_nlevel returns for FIFO. */
export const ABI_FIFO = 0x100
