/** What needs Node: the store behind a Unix socket, real TCP for guests, real time. The package's entry `evtchn/node`. */

export { realClock } from './clock.js'
export { NodeLoop } from './node_loop.js'
export { TcpHost, type TcpHostOptions } from './tcp_host.js'
export { TcpNetwork, type TcpOptions } from './tcp_network.js'
export { type XenstoredFixture, type XenstoredFixtureOptions, xenstored } from './xenstored_fixture.js'
export {
  connectSocket,
  defaultSocketPath,
  type ServeOptions,
  type SocketServer,
  SocketTransport,
  serveSocket,
} from './xenstored_socket.js'
