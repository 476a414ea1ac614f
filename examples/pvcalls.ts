/**
 * A guest without a network of its own. Domain 0 executes its socket calls, on real TCP. First the guest fetches a page from
 * a Node server. Then a Node client fetches one from the guest.
 */

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { TcpHost } from 'evtchn/node'

const host = new TcpHost({ anyPort: true })
const { front, network } = host
const encode = (text: string): Uint8Array => new TextEncoder().encode(text)
const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

// The guest connects. Its programs are generators: a call may sleep where `yield*` stands.
const server = createServer((request, response) => response.end(`Node has ${request.url}`))
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
const { port } = server.address() as AddressInfo
const page = await host.guest(function* () {
  const socket = yield* front.connect({ ip: '127.0.0.1', port })
  yield* socket.send(encode('GET /index.html HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n'))
  const response = yield* socket.receiveAll()
  yield* socket.close()
  return decode(response)
})
console.log(`the guest fetched: ${/Node has \S+/.exec(page)?.[0]}`)
server.close()

// The guest listens. Its port 80 is a free port of this machine, because of `anyPort`.
const address = { ip: '127.0.0.1', port: 80 }
const listener = await host.guest(() => front.listen(address))
const served = host.guest(function* () {
  const socket = yield* listener.accept()
  const request = decode((yield* socket.receive()) ?? new Uint8Array())
  const body = `the guest has ${request.split(' ')[1]}`
  yield* socket.send(encode(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`))
  yield* socket.close()
  yield* listener.close()
})
const response = await fetch(`http://127.0.0.1:${network.portOf(address)}/hello`)
console.log(`Node fetched: ${await response.text()}`)
await served

const { policy } = host.host.pvcalls
const { workersMade, bytesIn, bytesOut } = policy.stats
const moved = bytesIn > 0 && bytesOut > 0 ? 'bytes both ways' : 'nothing'
console.log(`${workersMade} workers were made, ${policy.workers.length} are left, they moved ${moved}`)
host.close()
