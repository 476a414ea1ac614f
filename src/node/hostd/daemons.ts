/** What dom0 has running beside xl: it is set up by xen-init-dom0, and xenconsoled serves the guests' consoles. */

import { join } from 'node:path'
import type { NativeHost } from './native_host.js'
import { xenToolsFolder } from './tools.js'

/** Starts both on a host with the library's store. False: Xen's tools are not installed. */
export async function startDaemons(host: NativeHost): Promise<boolean> {
  if (!xenToolsFolder()) return false
  await host.children.run(host.program(0, ['xen-init-dom0']), ['ignore', 'ignore', 'inherit'])
  const args = ['-i', '--log=guest', `--log-dir=${host.dir}`, `--pid-file=${join(host.dir, 'xenconsoled.pid')}`]
  host.children.start(host.program(0, ['xenconsoled', ...args]), ['ignore', 'ignore', 'inherit'])
  return true
}
