/**
 * What libxc and libxl say to a hypervisor, as data: Xen 4.17's domctl and sysctl (interface version 0x15) and the parts of
 * memory_op that building a domain needs. Other versions of Xen number and lay out differently: they are refused.
 *
 *     struct xen_domctl   ├ cmd:4 ┼ interface_version:4 ┼ domain:2 ┼ … ┼ 16: union of the operations ┤   144 bytes
 *     struct xen_sysctl   ├ cmd:4 ┼ interface_version:4 ┼  8: union of the operations ┤                  136 bytes
 *
 * Offsets are from the beginning of the whole struct; test/real/native compares them with what a C compiler says.
 */

import { struct } from '../../abi/index.js'

/** Hypercalls of toolstacks, by number; the library's own are in abi/. */
export const TOOLSTACK_HYPERCALL = Object.freeze({
  mmu_update: 1,
  memory_op: 12,
  mmuext_op: 26,
  xsm_op: 27,
  sysctl: 35,
  domctl: 36,
} as const)

/** Interface version of both, in Xen 4.17. */
export const INTERFACE_VERSION = 0x15

/** Which Xen has which interface version, for the message of a refusal. */
export const VERSIONS: Readonly<Record<number, string>> = Object.freeze({
  20: '4.16 or older',
  21: '4.17 or 4.18',
  22: '4.19',
  23: '4.20',
})

export const DOMCTL_SIZE = 144
export const SYSCTL_SIZE = 136

/** Commands of domctl that do something here. */
export const DOMCTL = Object.freeze({
  createdomain: 1,
  destroydomain: 2,
  pausedomain: 3,
  unpausedomain: 4,
  getdomaininfo: 5,
  max_mem: 11,
  getvcpuinfo: 14,
  max_vcpus: 15,
  scheduler_op: 16,
  setdomainhandle: 17,
  getvcpuaffinity: 25,
  resumedomain: 27,
  get_address_size: 36,
  gettscinfo: 59,
  getnodeaffinity: 69,
  get_cpu_policy: 82,
} as const)

/** Commands that are accepted, for what they set has no effect here: no guest code runs on a processor of ours. */
export const DOMCTL_ACCEPTED: Readonly<Record<number, string>> = Object.freeze({
  9: 'setvcpuaffinity',
  12: 'setvcpucontext',
  19: 'irq_permission',
  20: 'iomem_permission',
  21: 'ioport_permission',
  22: 'hypercall_init',
  24: 'settimeoffset',
  35: 'set_address_size',
  60: 'settscinfo',
  66: 'set_virq_handler',
  68: 'setnodeaffinity',
  83: 'set_cpu_policy',
  86: 'set_paging_mempool_size',
})

/** The head of a domctl. */
export const DOMCTL_HEAD = struct('xen_domctl', DOMCTL_SIZE, {
  cmd: [0, 4, 'in'],
  interface_version: [4, 4, 'in'],
  domain: [8, 2, 'inout'],
})

/** Members of the union, by operation. */
export const DOMCTL_ARGS = Object.freeze({
  createdomain: struct('xen_domctl_createdomain', DOMCTL_SIZE, {
    flags: [36, 4, 'in'],
    max_vcpus: [44, 4, 'in'],
    max_evtchn_port: [48, 4, 'in'],
    max_grant_frames: [52, 4, 'in'],
  }),
  max_mem: struct('xen_domctl_max_mem', DOMCTL_SIZE, { max_memkb: [16, 8, 'in'] }),
  getvcpuinfo: struct('xen_domctl_getvcpuinfo', DOMCTL_SIZE, {
    vcpu: [16, 4, 'in'],
    online: [20, 1, 'out'],
    blocked: [21, 1, 'out'],
    running: [22, 1, 'out'],
    cpu_time: [24, 8, 'out'],
    cpu: [32, 4, 'out'],
  }),
  vcpuaffinity: struct('xen_domctl_vcpuaffinity', DOMCTL_SIZE, {
    vcpu: [16, 4, 'in'],
    flags: [20, 4, 'in'],
    hard_bitmap: [24, 8, 'in'],
    hard_bits: [32, 4, 'in'],
    soft_bitmap: [40, 8, 'in'],
    soft_bits: [48, 4, 'in'],
  }),
  nodeaffinity: struct('xen_domctl_nodeaffinity', DOMCTL_SIZE, { bitmap: [16, 8, 'in'], bits: [24, 4, 'in'] }),
  scheduler_op: struct('xen_domctl_scheduler_op', DOMCTL_SIZE, {
    sched_id: [16, 4, 'in'],
    cmd: [20, 4, 'in'],
    weight: [24, 2, 'out'],
    cap: [26, 2, 'out'],
  }),
  get_address_size: struct('xen_domctl_address_size', DOMCTL_SIZE, { size: [16, 4, 'out'] }),
  get_cpu_policy: struct('xen_domctl_cpu_policy', DOMCTL_SIZE, {
    nr_leaves: [16, 4, 'inout'],
    nr_msrs: [20, 4, 'inout'],
    leaves: [24, 8, 'in'],
    msrs: [32, 8, 'in'],
  }),
} as const)

/** Place of the 16 bytes of a handle in createdomain and in setdomainhandle. */
export const HANDLE = Object.freeze({ create: 20, set: 16, size: 16 } as const)
/** Bits of createdomain's flags. */
export const CDF = Object.freeze({ hvm: 1 } as const)

/** struct xen_domctl_getdomaininfo, in a domctl from byte 16 on, and by itself in a list. */
export const DOMAIN_INFO = struct('xen_domctl_getdomaininfo', 112, {
  domain: [0, 2, 'out'],
  flags: [4, 4, 'out'],
  tot_pages: [8, 8, 'out'],
  max_pages: [16, 8, 'out'],
  shared_info_frame: [48, 8, 'out'],
  cpu_time: [56, 8, 'out'],
  nr_online_vcpus: [64, 4, 'out'],
  max_vcpu_id: [68, 4, 'out'],
  cpupool: [92, 4, 'out'],
  gpaddr_bits: [96, 1, 'out'],
})
/** The handle in it. */
export const DOMAIN_INFO_HANDLE = 76
/** Bits of its flags; a shutdown's reason is in bits 23:16. */
export const DOMINF = Object.freeze({
  dying: 1 << 0,
  hvm_guest: 1 << 1,
  shutdown: 1 << 2,
  paused: 1 << 3,
  blocked: 1 << 4,
  running: 1 << 5,
  shutdownshift: 16,
} as const)

/** Commands of sysctl. */
export const SYSCTL = Object.freeze({
  readconsole: 1,
  physinfo: 3,
  sched_id: 4,
  getdomaininfolist: 6,
  debug_keys: 7,
  getcpuinfo: 8,
  availheap: 9,
  cputopoinfo: 16,
  numainfo: 17,
  cpupool_op: 18,
  get_cpu_featureset: 26,
  get_cpu_policy: 29,
} as const)

export const SYSCTL_HEAD = struct('xen_sysctl', SYSCTL_SIZE, { cmd: [0, 4, 'in'], interface_version: [4, 4, 'in'] })

/** Members of the union, by operation. */
export const SYSCTL_ARGS = Object.freeze({
  readconsole: struct('xen_sysctl_readconsole', SYSCTL_SIZE, {
    clear: [8, 1, 'in'],
    incremental: [9, 1, 'in'],
    index: [12, 4, 'inout'],
    buffer: [16, 8, 'in'],
    count: [24, 4, 'inout'],
  }),
  physinfo: struct('xen_sysctl_physinfo', SYSCTL_SIZE, {
    threads_per_core: [8, 4, 'out'],
    cores_per_socket: [12, 4, 'out'],
    nr_cpus: [16, 4, 'out'],
    max_cpu_id: [20, 4, 'out'],
    nr_nodes: [24, 4, 'out'],
    max_node_id: [28, 4, 'out'],
    cpu_khz: [32, 4, 'out'],
    capabilities: [36, 4, 'out'],
    total_pages: [48, 8, 'out'],
    free_pages: [56, 8, 'out'],
    max_mfn: [80, 8, 'out'],
  }),
  sched_id: struct('xen_sysctl_sched_id', SYSCTL_SIZE, { sched_id: [8, 4, 'out'] }),
  getdomaininfolist: struct('xen_sysctl_getdomaininfolist', SYSCTL_SIZE, {
    first_domain: [8, 2, 'in'],
    max_domains: [12, 4, 'in'],
    buffer: [16, 8, 'in'],
    num_domains: [24, 4, 'out'],
  }),
  debug_keys: struct('xen_sysctl_debug_keys', SYSCTL_SIZE, { keys: [8, 8, 'in'], nr_keys: [16, 4, 'in'] }),
  getcpuinfo: struct('xen_sysctl_getcpuinfo', SYSCTL_SIZE, {
    max_cpus: [8, 4, 'in'],
    info: [16, 8, 'in'],
    nr_cpus: [24, 4, 'out'],
  }),
  availheap: struct('xen_sysctl_availheap', SYSCTL_SIZE, { avail_bytes: [24, 8, 'out'] }),
  cputopoinfo: struct('xen_sysctl_cputopoinfo', SYSCTL_SIZE, { num_cpus: [8, 4, 'inout'], cputopo: [16, 8, 'in'] }),
  numainfo: struct('xen_sysctl_numainfo', SYSCTL_SIZE, {
    num_nodes: [8, 4, 'inout'],
    meminfo: [16, 8, 'in'],
    distance: [24, 8, 'in'],
  }),
  cpupool_op: struct('xen_sysctl_cpupool_op', SYSCTL_SIZE, {
    op: [8, 4, 'in'],
    cpupool_id: [12, 4, 'inout'],
    sched_id: [16, 4, 'out'],
    n_dom: [28, 4, 'out'],
    bitmap: [32, 8, 'in'],
    bits: [40, 4, 'in'],
  }),
  get_cpu_featureset: struct('xen_sysctl_cpu_featureset', SYSCTL_SIZE, {
    index: [8, 4, 'in'],
    nr_features: [12, 4, 'inout'],
    features: [16, 8, 'in'],
  }),
  get_cpu_policy: struct('xen_sysctl_cpu_policy', SYSCTL_SIZE, {
    index: [8, 4, 'in'],
    nr_leaves: [12, 4, 'inout'],
    nr_msrs: [16, 4, 'inout'],
    leaves: [24, 8, 'in'],
    msrs: [32, 8, 'in'],
  }),
} as const)

/** Commands of memory_op. */
export const XENMEM = Object.freeze({
  maximum_ram_page: 2,
  populate_physmap: 6,
  add_to_physmap: 7,
  set_memory_map: 13,
  maximum_gpfn: 14,
  get_sharing_freed_pages: 18,
  get_sharing_shared_pages: 19,
  claim_pages: 24,
  get_vnumainfo: 26,
} as const)

/** struct xen_memory_reservation of a 64-bit caller. */
export const MEMORY_RESERVATION = struct('xen_memory_reservation', 32, {
  extent_start: [0, 8, 'in'],
  nr_extents: [8, 8, 'in'],
  extent_order: [16, 4, 'in'],
  domid: [24, 2, 'in'],
})
