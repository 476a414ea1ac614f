/**
 * HYPERVISOR_xen_version: all commands of Xen 4.17 (xen/common/kernel.c). What a feature bit promises is there: PIRQs of an
 * HVM guest are not announced, for there is no PHYSDEVOP_map_pirq to map one.
 */

import {
  PAGE_SIZE,
  XEN_COMPILE_INFO,
  XEN_DOMAIN_HANDLE,
  XEN_FEATURE_INFO,
  XEN_TEXTS,
  XEN_VERSION,
  XEN_VIRT_START,
  XENFEAT,
  XENVER,
} from '../abi/index.js'
import type { Caller } from '../domain/domain.js'
import { Errno, type Outcome, type Refusal, refuse } from '../errno.js'
import { notKnown } from './parts.js'

const { EFAULT, EINVAL, ENODATA } = Errno

const bits = (...numbers: number[]) => numbers.reduce((map, bit) => map | (1 << bit), 0)

/** Feature map 0 by type of guest. An HVM guest's page tables are its own, and its frame numbers are not machine's. */
const FEATURES = {
  pv: 0,
  hvm: bits(XENFEAT.writable_page_tables, XENFEAT.auto_translated_physmap, XENFEAT.hvm_callback_vector),
} as const

/** Dispatches a xen_version. */
export function xenVersion(caller: Caller, cmd: number, gva: number): number | Refusal {
  const text = XEN_TEXTS.find((each) => each.cmd === cmd)
  if (text) return writeText(caller, gva, text.size, text.text)
  switch (cmd) {
    case XENVER.version:
      return (XEN_VERSION.major << 16) | XEN_VERSION.minor
    case XENVER.compile_info:
      return writeText(caller, gva, XEN_COMPILE_INFO.size, XEN_COMPILE_INFO.compiler)
    case XENVER.platform_parameters:
      return platformParameters(caller, gva)
    case XENVER.get_features:
      return getFeatures(caller, gva)
    case XENVER.pagesize:
      return PAGE_SIZE
    case XENVER.guest_handle:
      // A domain here has no UUID, as one in Xen that was made without.
      return writeText(caller, gva, XEN_DOMAIN_HANDLE.size, '')
    case XENVER.build_id:
      return refuse(ENODATA, 'this library has no build id')
    default:
      return notKnown(() => `xen_version ${cmd} does not exist`)
  }
}

/** Writes a field of fixed size that begins with a text. */
function writeText(caller: Caller, gva: number, size: number, text: string): Outcome {
  const bytes = new Uint8Array(size)
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i)
  return write(caller, gva, bytes)
}

function write({ domain, vcpu }: Caller, gva: number, bytes: Uint8Array): Outcome {
  if (domain.memory.copyOut(vcpu.vcpuId, gva, bytes, bytes.length)) return 0
  return refuse(EFAULT, () => `${bytes.length} bytes cannot be written`)
}

/** xen_platform_parameters: one word of the guest's width. */
function platformParameters(caller: Caller, gva: number): Outcome {
  const { bits: width, type } = caller.domain
  const bytes = new Uint8Array(width / 8)
  const start = type === 'pv' ? XEN_VIRT_START[width] : 0n
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number((start >> BigInt(8 * i)) & 0xffn)
  return write(caller, gva, bytes)
}

function getFeatures(caller: Caller, gva: number): Outcome {
  const { domain, vcpu } = caller
  const bytes = new Uint8Array(XEN_FEATURE_INFO.size)
  const view = new DataView(bytes.buffer)
  if (!domain.memory.copyIn(vcpu.vcpuId, gva, bytes, bytes.length))
    return refuse(EFAULT, 'struct feature_info cannot be read')
  // A guest asks for one map after the other, and learns from this that there is no further one.
  const index = view.getUint32(XEN_FEATURE_INFO.index, true)
  if (index) return refuse(EINVAL, () => `there is feature map 0 only, not ${index}`)
  view.setUint32(XEN_FEATURE_INFO.map, domain.features ?? FEATURES[domain.type], true)
  return write(caller, gva, bytes)
}
