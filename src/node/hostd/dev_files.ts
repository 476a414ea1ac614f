/** What xenstored finds of its own ring in dom0, and what says that this is dom0: xsd_kva, xsd_port, capabilities. */

import { Errno } from '../../errno.js'
import { type Device, type DeviceContext, fail } from './device.js'

/** xsd_kva: the page of dom0's ring. */
export function storePageDev({ host, domain }: DeviceContext): Device {
  host.mustShare('xsd_kva')
  if (domain.domid) fail('xsd_kva', Errno.EACCES, `d${domain.domid} is not dom0`)
  return { mmap: () => [domain.frame(domain.mustKernel().storeGfn)] }
}

/** Small files by path. */
export function fileDev({ domain }: DeviceContext): Device {
  return {
    file(path) {
      if (domain.domid === 0 && path.endsWith('/xsd_port')) return `${domain.mustKernel().storePort}`
      if (path.endsWith('/capabilities')) return domain.domid ? '\n' : 'control_d\n'
      return fail('open', Errno.ENOENT, `d${domain.domid} has no ${path}`)
    },
  }
}
