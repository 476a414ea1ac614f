/** What other clients of the store are built from: those of a kernel over its ring, and of a process by tasks. Not public. */

export * as asks from './asks.js'
export { isRefusal } from './asks.js'
export { ByteQueue } from './byte_queue.js'
export { AwaitedOutcome, Exchange } from './exchange.js'
export { sealedPeer } from './sealed.js'
export { fromLatin1, toLatin1 } from './text.js'
export { XS } from './wire.js'
