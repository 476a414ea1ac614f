/**
 * /dev/xen/xenbus: messages of the store's protocol. In dom0 of a host with the library's store a user is a client of its
 * own; elsewhere users share the domain's ring (xenbus_users.ts).
 */

import { RingClientTransport, type XenStored } from '../../xenstore/index.js'
import type { Device, DeviceContext } from './device.js'
import { XenbusUsers } from './xenbus_users.js'

const CHUNK = 65536

/** A client of the store in this process. */
function client(store: XenStored, send: (bytes: Uint8Array) => void): Device {
  const connection = store.connect({
    wake: () => {
      while (connection.outputBytes) send(Buffer.from(connection.take(CHUNK)))
    },
    fail: () => {},
    end: () => {},
  })
  return {
    message: (message) => store.receive(connection, message),
    close: () => store.disconnect(connection),
  }
}

/** Opens the device. */
export function xenbusDev({ host, domain, send }: DeviceContext): Device {
  if (domain.domid === 0 && host.store) return client(host.store, send)
  domain.users ??= new XenbusUsers(new RingClientTransport(domain.storePeer()))
  const user = domain.users.open(send)
  return { message: (message) => user.receive(message), close: () => user.close() }
}
