/**
 * A guest without a network of its own: its socket calls are executed by domain 0, on real TCP. First it fetches a page
 * from a Node server, then a Node client fetches one from it.
 */

import { createServer } from 'node:http'
import { TcpHost } from 'evtchn/node'

const host = new TcpHost({ anyPort: true })
const { front, network } = host
const encode = (text) => new TextEncoder().encode(text)
const decode = (bytes) => new TextDecoder().decode(bytes)

// The guest connects. Its programs are generators: `yield*` is where a call may sleep.
const server = createServer((request, response) => response.end(`Node has ${request.url}`))
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
const { port } = server.address()
const page = await host.guest(function* () {
  const socket = yield* front.connect({ ip: '127.0.0.1', port })
  yield* socket.send(encode('GET /index.html HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n'))
  const answer = yield* socket.receiveAll()
  yield* socket.close()
  return decode(answer)
})
console.log(`the guest fetched: ${page.split('\r\n\r\n')[1].match(/Node has \S+/)[0]}`)
server.close()

// The guest listens. What it calls port 80 is a free port of the host here, because of `anyPort`.
const address = { ip: '127.0.0.1', port: 80 }
const listener = await host.guest(() => front.listen(address))
const served = host.guest(function* () {
  const socket = yield* listener.accept()
  const request = decode(yield* socket.receive())
  const body = `the guest has ${request.split(' ')[1]}`
  yield* socket.send(encode(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`))
  yield* socket.close()
  yield* listener.close()
})
const answer = await fetch(`http://127.0.0.1:${network.portOf(address)}/hello`)
console.log(`Node fetched: ${await answer.text()}`)
await served

const { workersMade, bytesIn, bytesOut } = host.host.pvcalls.policy.stats
const moved = bytesIn > 0 && bytesOut > 0 ? 'bytes both ways' : 'nothing'
console.log(
  `${workersMade} workers were made, ${host.host.pvcalls.policy.workers.length} are left, they moved ${moved}`,
)
host.close()
