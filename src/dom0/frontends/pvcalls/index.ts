/** pvcallsfront: a guest's sockets. */

export { PvcallsError } from './errors.js'
export { PvListener, PvSocket, type SocketCalls } from './front_socket.js'
export { Pvcallsfront } from './pvcallsfront.js'
export { SocketEnd } from './socket_end.js'
