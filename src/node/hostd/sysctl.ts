/** sysctl of Xen 4.17 (libxc_abi.ts): what xl asks about the host. Only dom0's programs may. */

import { decode, encode, type Struct } from '../../abi/index.js'
import { Errno, XenError } from '../../errno.js'
import { checkInterface, domainInfo, viewOf, writePolicy } from './domctl.js'
import type { Hosting } from './hosting.js'
import { DOMAIN_INFO, SYSCTL, SYSCTL_ARGS, SYSCTL_HEAD, SYSCTL_SIZE } from './libxc_abi.js'
import type { ProcessMemory } from './process_memory.js'

/** The host as it describes itself: two processors of one node, PV guests, the credit scheduler. */
const CPUS = 2
const PHYSCAP_PV = 2
const PHYSCAP_GNTTAB_V1 = 1 << 8
const SCHED_CREDIT = 5
const CPU_KHZ = 2_400_000
const CPUPOOL_OP = { info: 3, freeinfo: 7 } as const
const FEATURE_WORDS = 17

interface Call {
  readonly host: Hosting
  readonly memory: ProcessMemory
  readonly view: DataView
}

const args = <S extends Struct>({ view }: Call, layout: S) => decode(layout, view)
const reply = ({ view }: Call, layout: Struct, values: Readonly<Record<string, number>>) => encode(layout, view, values)

function physinfo(call: Call): void {
  const { machine } = call.host
  reply(call, SYSCTL_ARGS.physinfo, {
    threads_per_core: 1,
    cores_per_socket: CPUS,
    nr_cpus: CPUS,
    max_cpu_id: CPUS - 1,
    nr_nodes: 1,
    max_node_id: 0,
    cpu_khz: CPU_KHZ,
    capabilities: PHYSCAP_PV | PHYSCAP_GNTTAB_V1,
    total_pages: machine.frames,
    free_pages: machine.freeFrames,
    max_mfn: machine.frames - 1,
  })
}

function readConsole(call: Call): void {
  const { clear, incremental, index, buffer, count } = args(call, SYSCTL_ARGS.readconsole)
  const text = call.host.console.read({ from: incremental ? index : 0, most: count })
  if (text.length) call.memory.write(buffer, text)
  reply(call, SYSCTL_ARGS.readconsole, { count: text.length, index: (incremental ? index : 0) + text.length })
  if (clear) call.host.console.clear()
}

function listDomains(call: Call): void {
  const { first_domain, max_domains, buffer } = args(call, SYSCTL_ARGS.getdomaininfolist)
  const found = call.host.domains.filter(({ domid }) => domid >= first_domain).slice(0, max_domains)
  for (const [i, domain] of found.entries())
    call.memory.write(buffer + i * DOMAIN_INFO.size, domainInfo(domain, call.host.nowNs))
  reply(call, SYSCTL_ARGS.getdomaininfolist, { num_domains: found.length })
}

/** Pool-0 has all processors and domains; nothing is outside of it. */
function cpupool(call: Call): void {
  const { op, cpupool_id, bitmap, bits } = args(call, SYSCTL_ARGS.cpupool_op)
  if (op === CPUPOOL_OP.info && cpupool_id) throw new XenError('sysctl', Errno.ENOENT, `there is pool 0 only`)
  if (op !== CPUPOOL_OP.info && op !== CPUPOOL_OP.freeinfo)
    throw new XenError('sysctl', Errno.EOPNOTSUPP, 'processor pools are not changed here')
  if (bitmap && bits) {
    const bytes = Buffer.alloc(Math.ceil(bits / 8))
    if (op === CPUPOOL_OP.info) bytes[0] = (1 << CPUS) - 1
    call.memory.write(bitmap, bytes)
  }
  if (op === CPUPOOL_OP.info)
    reply(call, SYSCTL_ARGS.cpupool_op, { cpupool_id: 0, sched_id: SCHED_CREDIT, n_dom: call.host.domains.length })
}

type Operation = (call: Call) => void

const OPERATIONS: Readonly<Record<number, Operation>> = {
  [SYSCTL.readconsole]: readConsole,
  [SYSCTL.physinfo]: physinfo,
  [SYSCTL.sched_id]: (call) => reply(call, SYSCTL_ARGS.sched_id, { sched_id: SCHED_CREDIT }),
  [SYSCTL.getdomaininfolist]: listDomains,
  [SYSCTL.debug_keys]: (call) => {
    const { keys, nr_keys } = args(call, SYSCTL_ARGS.debug_keys)
    call.host.debugKeys(call.memory.read(keys, Math.min(nr_keys, 64)).toString('latin1'))
  },
  [SYSCTL.getcpuinfo]: (call) => {
    const { max_cpus, info } = args(call, SYSCTL_ARGS.getcpuinfo)
    const count = Math.min(max_cpus, CPUS)
    if (info) call.memory.write(info, Buffer.alloc(8 * count))
    reply(call, SYSCTL_ARGS.getcpuinfo, { nr_cpus: count })
  },
  [SYSCTL.availheap]: (call) =>
    reply(call, SYSCTL_ARGS.availheap, { avail_bytes: call.host.machine.freeFrames * 4096 }),
  [SYSCTL.cputopoinfo]: (call) => {
    const { num_cpus, cputopo } = args(call, SYSCTL_ARGS.cputopoinfo)
    if (cputopo) {
      const cpus = Buffer.alloc(12 * Math.min(num_cpus, CPUS))
      for (let cpu = 0; cpu * 12 < cpus.length; cpu++) cpus.writeUInt32LE(cpu, cpu * 12)
      call.memory.write(cputopo, cpus)
    }
    reply(call, SYSCTL_ARGS.cputopoinfo, { num_cpus: CPUS })
  },
  [SYSCTL.numainfo]: (call) => {
    const { meminfo, distance } = args(call, SYSCTL_ARGS.numainfo)
    const { machine } = call.host
    if (meminfo) {
      const sizes = BigUint64Array.of(BigInt(machine.frames) * 4096n, BigInt(machine.freeFrames) * 4096n)
      call.memory.write(meminfo, new Uint8Array(sizes.buffer))
    }
    if (distance) call.memory.write(distance, new Uint8Array(Uint32Array.of(10).buffer))
    reply(call, SYSCTL_ARGS.numainfo, { num_nodes: 1 })
  },
  [SYSCTL.cpupool_op]: cpupool,
  [SYSCTL.get_cpu_featureset]: (call) => {
    const { nr_features, features } = args(call, SYSCTL_ARGS.get_cpu_featureset)
    const words = features ? Math.min(nr_features, FEATURE_WORDS) : FEATURE_WORDS
    if (features) call.memory.write(features, Buffer.alloc(4 * words))
    reply(call, SYSCTL_ARGS.get_cpu_featureset, { nr_features: words })
  },
  [SYSCTL.get_cpu_policy]: (call) => {
    const { leaves, msrs } = args(call, SYSCTL_ARGS.get_cpu_policy)
    reply(call, SYSCTL_ARGS.get_cpu_policy, writePolicy(call.memory, leaves, msrs))
  },
}

/** A sysctl whose struct is at `at` in the caller's memory. @throws XenError */
export function sysctl(host: Hosting, memory: ProcessMemory, at: number): number {
  const bytes = memory.read(at, SYSCTL_SIZE)
  const view = viewOf(bytes)
  const head = decode(SYSCTL_HEAD, view)
  checkInterface('sysctl', head.interface_version)
  const operation = OPERATIONS[head.cmd] ?? host.unknown(`sysctl ${head.cmd}`, Errno.ENOSYS)
  operation({ host, memory, view })
  memory.write(at, bytes)
  return 0
}
