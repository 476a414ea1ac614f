/** How the library's store reaches the domains of a native host: their state, and their rings over dom0's event channels. */

import type { RingPeer, XenStoreClient } from '../../xenstore/index.js'
import type { Hosting } from './hosting.js'

/** The `host` option of XenStored. */
export function storeHost(host: Hosting) {
  return {
    state(domid: number): { shutdown: boolean; dying: boolean } | undefined {
      const domain = host.domain(domid)?.domain
      return domain && { shutdown: domain.shutdownCode !== undefined, dying: domain.dying !== 'alive' }
    },
    connect(domid: number, gfn: number, remotePort: number): RingPeer | undefined {
      const domain = host.domain(domid)
      const channels = host.domain(0)?.kernel?.channels
      if (!domain || !channels) return undefined
      let onEvent = () => {}
      const port = channels.bindInterdomain(domid, remotePort, {
        name: `xenstored d${domid}`,
        handler: () => onEvent(),
      })
      return {
        page: () => domain.page(gfn),
        channel: {
          notify: () => channels.send(port),
          onEvent: (callback) => {
            onEvent = callback
          },
        },
        close: () => channels.close(port),
      }
    },
  }
}

/** The nodes of a domain that no toolstack made: its home, which it may read, and folders that it may write. */
export async function makeHome(client: XenStoreClient, domid: number): Promise<void> {
  const home = `/local/domain/${domid}`
  const make = async (path: string, value: string, perms: readonly string[]) => {
    await client.write(path, value)
    await client.setPermissions(path, perms)
  }
  await make(home, '', ['n0', `r${domid}`])
  await make(`${home}/name`, `domain-${domid}`, ['n0', `r${domid}`])
  await make(`${home}/domid`, `${domid}`, ['n0', `r${domid}`])
  for (const folder of ['data', 'device', 'control']) await make(`${home}/${folder}`, '', [`n${domid}`])
}
