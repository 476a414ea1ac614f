/** domctl of Xen 4.17 (libxc_abi.ts): what xl and its libraries do to domains. Only dom0's programs may. */

import { decode, encode, type Struct } from '../../abi/index.js'
import { Errno, XenError } from '../../errno.js'
import type { Hosting } from './hosting.js'
import {
  CDF,
  DOMAIN_INFO,
  DOMAIN_INFO_HANDLE,
  DOMCTL,
  DOMCTL_ACCEPTED,
  DOMCTL_ARGS,
  DOMCTL_HEAD,
  DOMCTL_SIZE,
  DOMINF,
  HANDLE,
  INTERFACE_VERSION,
  VERSIONS,
} from './libxc_abi.js'
import type { NativeDomain } from './native_domain.js'
import type { ProcessMemory } from './process_memory.js'

const { EACCES, EINVAL, ENOSYS, ESRCH } = Errno

/** Refuses another version's numbers, as Xen does. @throws XenError EACCES */
export function checkInterface(op: string, version: number): void {
  if (version === INTERFACE_VERSION) return
  const named = VERSIONS[version] ?? 'another version'
  throw new XenError(
    op,
    EACCES,
    `interface version 0x${version.toString(16)} is Xen ${named}; this host speaks 4.17's, 0x15`,
  )
}

/** What `xl list` shows of a domain. */
export function domainInfo(native: NativeDomain, nowNs: number): Buffer {
  const { domain, handle, createdNs } = native
  const bytes = Buffer.alloc(DOMAIN_INFO.size)
  const { shutdownCode, dying, pauseCount, type, memory, vcpus } = domain
  const blocked = vcpus.every((vcpu) => vcpu.blocked)
  const idle = shutdownCode !== undefined || pauseCount > 0 || dying !== 'alive'
  encode(DOMAIN_INFO, viewOf(bytes), {
    domain: domain.domid,
    flags:
      (dying === 'alive' ? 0 : DOMINF.dying) |
      (type === 'hvm' ? DOMINF.hvm_guest : 0) |
      (shutdownCode === undefined ? 0 : DOMINF.shutdown | (shutdownCode << DOMINF.shutdownshift)) |
      (pauseCount ? DOMINF.paused : 0) |
      (idle ? 0 : blocked ? DOMINF.blocked : DOMINF.running),
    tot_pages: native.pages,
    max_pages: native.maxFrames ?? memory.frames,
    shared_info_frame: domain.sharedInfoGfn,
    cpu_time: Math.max(0, nowNs - createdNs),
    nr_online_vcpus: vcpus.filter((vcpu) => !vcpu.down).length,
    max_vcpu_id: vcpus.length - 1,
    gpaddr_bits: 48,
  })
  bytes.set(handle, DOMAIN_INFO_HANDLE)
  return bytes
}

export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length)

/** CPUID leaves and MSRs of a policy: leaf 0 and MSR 0xce, all zero, as many as there is room for. */
export function writePolicy(
  memory: ProcessMemory,
  leavesAt: number,
  msrsAt: number,
): { nr_leaves: number; nr_msrs: number } {
  const leaf = Buffer.alloc(24)
  leaf.writeUInt32LE(0xffff_ffff, 4)
  const msr = Buffer.alloc(16)
  msr.writeUInt32LE(0xce, 0)
  if (leavesAt) memory.write(leavesAt, Buffer.concat(Array<Buffer>(POLICY.leaves).fill(leaf)))
  if (msrsAt) memory.write(msrsAt, Buffer.concat(Array<Buffer>(POLICY.msrs).fill(msr)))
  return { nr_leaves: POLICY.leaves, nr_msrs: POLICY.msrs }
}

const POLICY = { leaves: 100, msrs: 2 } as const

/** One domctl under way. */
interface Call {
  readonly host: Hosting
  readonly memory: ProcessMemory
  readonly bytes: Buffer
  readonly view: DataView
  readonly domid: number
}

const args = <S extends Struct>({ view }: Call, layout: S) => decode(layout, view)

function must({ host, domid }: Call): NativeDomain {
  return host.domain(domid) ?? fail(ESRCH, `there is no domain ${domid}`)
}

function fail(errno: number, found: string): never {
  throw new XenError('domctl', errno, found)
}

function create(call: Call): void {
  const { flags, max_vcpus, max_evtchn_port, max_grant_frames } = args(call, DOMCTL_ARGS.createdomain)
  if (flags & CDF.hvm)
    fail(Errno.EOPNOTSUPP, 'an HVM or PVH guest needs a processor; set type="pv" in its configuration')
  const domain = call.host.createByToolstack({
    wanted: call.domid,
    vcpus: max_vcpus,
    maxEvtchnPort: max_evtchn_port,
    maxGrantFrames: max_grant_frames,
  })
  domain.handle = Uint8Array.from(call.bytes.subarray(HANDLE.create, HANDLE.create + HANDLE.size))
  encode(DOMCTL_HEAD, call.view, { domain: domain.domid })
}

/** The lowest domain from the given number on. */
function getInfo(call: Call): void {
  const domain =
    call.host.domains.find((each) => each.domid >= call.domid) ?? fail(ESRCH, `no domain from ${call.domid} on`)
  encode(DOMCTL_HEAD, call.view, { domain: domain.domid })
  domainInfo(domain, call.host.nowNs).copy(call.bytes, 16)
}

/** All processors, as a bitmap: nothing is bound to any. */
function writeBitmap(memory: ProcessMemory, at: number, bits: number, set: number): void {
  if (!at || !bits) return
  const bytes = Buffer.alloc(Math.ceil(bits / 8))
  for (let bit = 0; bit < Math.min(bits, set); bit++) bytes[bit >> 3]! |= 1 << (bit & 7)
  memory.write(at, bytes)
}

type Operation = (call: Call) => void

const OPERATIONS: Readonly<Record<number, Operation>> = {
  [DOMCTL.createdomain]: create,
  [DOMCTL.getdomaininfo]: getInfo,
  [DOMCTL.destroydomain]: (call) => {
    if (!call.domid) fail(EINVAL, 'dom0 is not destroyed')
    call.host.destroyByToolstack(must(call))
  },
  [DOMCTL.pausedomain]: (call) => {
    if (!call.domid) fail(EINVAL, 'dom0 is not paused')
    call.host.pause(must(call))
  },
  [DOMCTL.unpausedomain]: (call) => call.host.unpause(must(call)),
  [DOMCTL.resumedomain]: (call) => call.host.xen.resumeDomain(must(call).domain),
  [DOMCTL.setdomainhandle]: (call) => {
    must(call).handle = Uint8Array.from(call.bytes.subarray(HANDLE.set, HANDLE.set + HANDLE.size))
  },
  [DOMCTL.max_mem]: (call) => {
    const domain = must(call)
    const { frames } = domain.domain.memory
    const wanted = Math.floor(args(call, DOMCTL_ARGS.max_mem).max_memkb / 4)
    if (call.domid && wanted > frames)
      fail(
        Errno.ENOMEM,
        `d${call.domid} gets at most ${frames / 256} MiB here, not ${Math.ceil(wanted / 256)}: see --guest-memory`,
      )
    domain.maxFrames = wanted
  },
  [DOMCTL.max_vcpus]: (call) => {
    const { vcpus } = must(call).domain
    if (call.view.getUint32(16, true) !== vcpus.length)
      fail(EINVAL, `d${call.domid} was created with ${vcpus.length} vCPUs`)
  },
  [DOMCTL.getvcpuinfo]: (call) => {
    const { domain, createdNs } = must(call)
    const vcpu =
      domain.vcpus[args(call, DOMCTL_ARGS.getvcpuinfo).vcpu] ?? fail(ESRCH, `d${call.domid} has no such vCPU`)
    const online = Number(!vcpu.down)
    const [blocked, running] = [Number(vcpu.blocked), Number(online && !vcpu.blocked && !domain.pauseCount)]
    const cpu_time = Math.max(0, call.host.nowNs - createdNs)
    encode(DOMCTL_ARGS.getvcpuinfo, call.view, { online, blocked, running, cpu_time, cpu: 0 })
  },
  [DOMCTL.getvcpuaffinity]: (call) => {
    must(call)
    const { hard_bitmap, hard_bits, soft_bitmap, soft_bits } = args(call, DOMCTL_ARGS.vcpuaffinity)
    writeBitmap(call.memory, hard_bitmap, hard_bits, hard_bits)
    writeBitmap(call.memory, soft_bitmap, soft_bits, soft_bits)
  },
  [DOMCTL.getnodeaffinity]: (call) => {
    must(call)
    const { bitmap, bits } = args(call, DOMCTL_ARGS.nodeaffinity)
    writeBitmap(call.memory, bitmap, bits, 1)
  },
  [DOMCTL.scheduler_op]: (call) => {
    must(call)
    // getinfo of credit: weight 256, no cap, as every domain has at first. Setting has no effect.
    if (args(call, DOMCTL_ARGS.scheduler_op).cmd === 1)
      encode(DOMCTL_ARGS.scheduler_op, call.view, { weight: 256, cap: 0 })
  },
  [DOMCTL.get_address_size]: (call) =>
    encode(DOMCTL_ARGS.get_address_size, call.view, { size: must(call).domain.bits }),
  [DOMCTL.gettscinfo]: (call) => void must(call),
  [DOMCTL.get_cpu_policy]: (call) => {
    must(call)
    const { leaves, msrs } = args(call, DOMCTL_ARGS.get_cpu_policy)
    encode(DOMCTL_ARGS.get_cpu_policy, call.view, writePolicy(call.memory, leaves, msrs))
  },
}

/** A domctl whose struct is at `at` in the caller's memory. @throws XenError */
export function domctl(host: Hosting, memory: ProcessMemory, at: number): number {
  const bytes = memory.read(at, DOMCTL_SIZE)
  const view = viewOf(bytes)
  const head = decode(DOMCTL_HEAD, view)
  checkInterface('domctl', head.interface_version)
  const call: Call = { host, memory, bytes, view, domid: head.domain }
  if (DOMCTL_ACCEPTED[head.cmd] !== undefined) {
    must(call)
    return 0
  }
  const operation = OPERATIONS[head.cmd] ?? host.unknown(`domctl ${head.cmd}`, ENOSYS)
  operation(call)
  memory.write(at, bytes)
  return 0
}
