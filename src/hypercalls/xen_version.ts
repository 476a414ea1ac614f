/** HYPERVISOR_xen_version: version, extraversion, features (xen/include/public/version.h, features.h). */

import { Errno, type Refusal, refuse } from '../errno.js'
import type { Caller } from '../host/world.js'

const { EFAULT, EINVAL, ENOSYS } = Errno

/** XENFEAT_hvm_callback_vector 8, hvm_safe_pvclock 9, hvm_pirqs 10. */
const FEATURES = { pv: 0, hvm: (1 << 8) | (1 << 10) } as const

/** xen_version: 0 version, 1 extraversion, 6 get_features. */
export function xenVersion({ domain }: Caller, cmd: number, gva: number): number | Refusal {
  switch (cmd) {
    case 0:
      return (4 << 16) | 17
    case 1: {
      const text = new Uint8Array(16)
      for (const [i, c] of [...'.evtchn'].entries()) text[i] = c.charCodeAt(0)
      return domain.memory.copyOut(gva, text, 16) ? 0 : refuse(EFAULT, 'extraversion cannot be written')
    }
    case 6: {
      const bytes = new Uint8Array(8)
      const view = new DataView(bytes.buffer)
      if (!domain.memory.copyIn(gva, bytes, 8)) return refuse(EFAULT, 'struct feature_info cannot be read')
      // How a guest that asks for one map after the other learns that there is no further one.
      const index = view.getUint32(0, true)
      if (index) return refuse(EINVAL, () => `there is feature map 0 only, not ${index}`)
      view.setUint32(4, FEATURES[domain.type], true)
      return domain.memory.copyOut(gva, bytes, 8) ? 0 : refuse(EFAULT, 'struct feature_info cannot be written')
    }
    default:
      return refuse(ENOSYS, () => `xen_version ${cmd} does not exist`)
  }
}
