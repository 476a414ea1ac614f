/** pvcalls over real sockets, for Node: the package's entry `evtchn/pvcalls`. All else of it is in `evtchn/dom0`. */

export { NodeLoop } from './node_loop.js'
export { TcpHost, type TcpHostOptions } from './tcp_host.js'
export { TcpNetwork, type TcpOptions } from './tcp_network.js'
