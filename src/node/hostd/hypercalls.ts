/**
 * Hypercalls of a native program, by IOCTL_PRIVCMD_HYPERCALL. Those that the hypervisor of this library knows are made by the
 * domain itself, on a copy of their argument in its RAM; those of toolstacks are answered here.
 *
 *     program's memory ──/proc/PID/mem──▶ bounce frame of the domain ──▶ Hypervisor.hypercall ──▶ back
 */

import {
  decode,
  EVTCHN_STRUCTS,
  EVTCHNOP_NAMES,
  encode,
  GNTTAB_SETUP_TABLE,
  GNTTABOP,
  HVM_PARAM,
  HYPERVISOR,
  PAGE_SIZE,
  XEN_COMPILE_INFO,
  XEN_DOMAIN_HANDLE,
  XEN_TEXTS,
  XENVER,
} from '../../abi/index.js'
import { Errno, XenError } from '../../errno.js'
import { domctl, viewOf } from './domctl.js'
import type { Hosting } from './hosting.js'
import { MEMORY_RESERVATION, TOOLSTACK_HYPERCALL, XENMEM } from './libxc_abi.js'
import type { NativeDomain } from './native_domain.js'
import type { ProcessMemory } from './process_memory.js'
import { sysctl } from './sysctl.js'

const { EINVAL, ENOSYS, EPERM, ESRCH } = Errno

/** Who makes a hypercall. */
export interface NativeCaller {
  readonly host: Hosting
  readonly domain: NativeDomain
  readonly memory: ProcessMemory
}

const ENTRY_BYTES = 64
const MOST_ENTRIES = 1024

/** Bytes that a xen_version command has at its argument. */
const VERSION_BYTES: Readonly<Record<number, number>> = {
  ...Object.fromEntries(XEN_TEXTS.map(({ cmd, size }) => [cmd, size])),
  [XENVER.compile_info]: XEN_COMPILE_INFO.size,
  [XENVER.guest_handle]: XEN_DOMAIN_HANDLE.size,
  [XENVER.platform_parameters]: 8,
  [XENVER.get_features]: 8,
}

/** Makes a hypercall of the domain on a copy of `bytes` at `at`; copies it back. */
function forward({ host, domain, memory }: NativeCaller, nr: number, cmd: number, at: number, bytes: number): number {
  const gfn = domain.bounceGfn()
  const page = domain.page(gfn)
  if (bytes) page.set(memory.read(at, bytes))
  let found = ''
  const rc = host.xen.hypercall(domain.domain.vcpu(0), nr, [cmd, gfn * PAGE_SIZE], ({ text }) => {
    found = text
  })
  if (rc < 0) throw new XenError(`hypercall ${nr} ${cmd}`, -rc, found)
  if (bytes) memory.write(at, page.slice(0, bytes))
  return rc
}

/** Commands of hypercalls that the hypervisor knows: bytes of their argument; undefined for a command that it lacks. */
function argumentBytes(nr: number, cmd: number): number | undefined {
  if (nr === HYPERVISOR.xen_version) return VERSION_BYTES[cmd] ?? 0
  if (nr === HYPERVISOR.hvm_op) return HVM_PARAM.size
  const name = EVTCHNOP_NAMES.get(cmd)
  return name && EVTCHN_STRUCTS[name].size
}

/** GNTTABOP_setup_table for another domain: libxl writes its first entries. The table has its frames already. */
function setupTable(caller: NativeCaller, at: number): number {
  const layout = GNTTAB_SETUP_TABLE[64]
  const bytes = caller.memory.read(at, layout.size)
  const { dom, nr_frames, frame_list } = decode(layout, viewOf(bytes))
  const { domain } = caller.host.domain(dom) ?? fail('grant_table_op', ESRCH, `there is no domain ${dom}`)
  const { grants } = caller.host.xen
  const list = BigUint64Array.from({ length: nr_frames }, (_, i) => BigInt(grants.frame(domain, i) ?? -1))
  caller.memory.write(frame_list, new Uint8Array(list.buffer))
  encode(layout, viewOf(bytes), { status: 0 })
  caller.memory.write(at, bytes)
  return 0
}

/** XENMEM_populate_physmap: frames of the window in order; how many extents there were. */
function populate({ host, memory }: NativeCaller, at: number): number {
  const { extent_start, nr_extents, extent_order, domid } = decode(MEMORY_RESERVATION, viewOf(memory.read(at, 32)))
  const domain = host.domain(domid) ?? fail('memory_op', ESRCH, `there is no domain ${domid}`)
  const size = 2 ** extent_order
  const room = Math.floor((domain.populateEnd - domain.nextGfn) / size)
  const extents = Math.max(0, Math.min(nr_extents, room))
  const gfns = BigUint64Array.from({ length: extents }, (_, i) => BigInt(domain.nextGfn + i * size))
  if (extent_start) memory.write(extent_start, new Uint8Array(gfns.buffer))
  domain.nextGfn += extents * size
  return extents
}

function memoryOp(caller: NativeCaller, cmd: number, at: number): number {
  switch (cmd & 63) {
    case XENMEM.populate_physmap:
      return populate(caller, at)
    case XENMEM.maximum_ram_page:
      return caller.host.machine.frames - 1
    case XENMEM.maximum_gpfn: {
      const domid = caller.memory.read(at, 2).readUInt16LE(0)
      const { domain } = caller.host.domain(domid) ?? fail('memory_op', ESRCH, `there is no domain ${domid}`)
      return domain.memory.frames - 1
    }
    // Nothing is shared, claimed or in need of a map: no processor of ours looks at it.
    case XENMEM.set_memory_map:
    case XENMEM.get_sharing_freed_pages:
    case XENMEM.get_sharing_shared_pages:
    case XENMEM.claim_pages:
      return 0
    default:
      return caller.host.unknown(`memory_op ${cmd & 63}`, ENOSYS)
  }
}

/** libxc makes memory_op by a multicall, for its results of 64 bits. */
function multicall(caller: NativeCaller, at: number, calls: number): number {
  if (calls > MOST_ENTRIES) fail('multicall', EINVAL, `${calls} entries`)
  for (let i = 0; i < calls; i++) {
    const entry = caller.memory.read(at + i * ENTRY_BYTES, ENTRY_BYTES)
    const word = (index: number) => Number(entry.readBigUInt64LE(index * 8))
    let rc: number
    try {
      rc = hypercall(caller, word(0), [word(2), word(3), word(4), word(5), word(6)])
    } catch (error) {
      if (!(error instanceof XenError)) throw error
      rc = -error.errno
    }
    entry.writeBigInt64LE(BigInt(rc), 8)
    caller.memory.write(at + i * ENTRY_BYTES, entry)
  }
  return 0
}

/** A hypercall: 0 or more. @throws XenError */
export function hypercall(caller: NativeCaller, nr: number, [a = 0, b = 0]: readonly number[]): number {
  const { host, memory, domain } = caller
  switch (nr) {
    case HYPERVISOR.multicall:
      return multicall(caller, a, b)
    case HYPERVISOR.xen_version:
    case HYPERVISOR.hvm_op:
    case HYPERVISOR.event_channel_op: {
      const bytes = argumentBytes(nr, a)
      return bytes === undefined ? host.unknown(`hypercall ${nr} ${a}`, ENOSYS) : forward(caller, nr, a, b, bytes)
    }
  }
  if (!domain.domain.privileged) fail(`hypercall ${nr}`, EPERM, `d${domain.domid} is no control domain`)
  switch (nr) {
    case TOOLSTACK_HYPERCALL.domctl:
      return domctl(host, memory, a)
    case TOOLSTACK_HYPERCALL.sysctl:
      return sysctl(host, memory, a)
    case TOOLSTACK_HYPERCALL.memory_op:
      return memoryOp(caller, a, b)
    case HYPERVISOR.grant_table_op:
      return a === GNTTABOP.setup_table ? setupTable(caller, b) : host.unknown(`grant_table_op ${a}`, ENOSYS)
    // Page tables that no processor walks.
    case TOOLSTACK_HYPERCALL.mmu_update:
    case TOOLSTACK_HYPERCALL.mmuext_op:
      return 0
    // Xen without XSM.
    case TOOLSTACK_HYPERCALL.xsm_op:
      return fail('xsm_op', ENOSYS, 'the host has no XSM policy that tools could ask')
    default:
      return host.unknown(`hypercall ${nr} ${a}`, ENOSYS)
  }
}

function fail(op: string, errno: number, found: string): never {
  throw new XenError(op, errno, found)
}
