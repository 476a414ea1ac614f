/** HYPERVISOR_xen_version: version, extraversion, features. */

import { XEN_EXTRAVERSION, XEN_FEATURE_INFO, XEN_VERSION, XENFEAT, XENVER } from '../abi/index.js'
import type { Caller } from '../domain/domain.js'
import { Errno, type Outcome, type Refusal, refuse } from '../errno.js'

const { EFAULT, EINVAL, ENOSYS } = Errno

/** Feature map 0 by type of guest. */
const FEATURES = { pv: 0, hvm: (1 << XENFEAT.hvm_callback_vector) | (1 << XENFEAT.hvm_pirqs) } as const

/** Dispatches a xen_version. */
export function xenVersion(caller: Caller, cmd: number, gva: number): number | Refusal {
  switch (cmd) {
    case XENVER.version:
      return (XEN_VERSION.major << 16) | XEN_VERSION.minor
    case XENVER.extraversion:
      return extraversion(caller, gva)
    case XENVER.get_features:
      return getFeatures(caller, gva)
    default:
      return refuse(ENOSYS, () => `xen_version ${cmd} does not exist`)
  }
}

function extraversion({ domain, vcpu }: Caller, gva: number): Outcome {
  const { size, text } = XEN_EXTRAVERSION
  const bytes = new Uint8Array(size)
  for (const [i, c] of [...text].entries()) bytes[i] = c.charCodeAt(0)
  return domain.memory.copyOut(vcpu.vcpuId, gva, bytes, size) ? 0 : refuse(EFAULT, 'extraversion cannot be written')
}

function getFeatures({ domain, vcpu }: Caller, gva: number): Outcome {
  const bytes = new Uint8Array(XEN_FEATURE_INFO.size)
  const view = new DataView(bytes.buffer)
  if (!domain.memory.copyIn(vcpu.vcpuId, gva, bytes, bytes.length))
    return refuse(EFAULT, 'struct feature_info cannot be read')
  // A guest asks for one map after the other, and learns from this that there is no further one.
  const index = view.getUint32(XEN_FEATURE_INFO.index, true)
  if (index) return refuse(EINVAL, () => `there is feature map 0 only, not ${index}`)
  view.setUint32(XEN_FEATURE_INFO.map, FEATURES[domain.type], true)
  return domain.memory.copyOut(vcpu.vcpuId, gva, bytes, bytes.length)
    ? 0
    : refuse(EFAULT, 'struct feature_info cannot be written')
}
