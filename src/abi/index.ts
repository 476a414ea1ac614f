/** Xen's public interface as data: numbers, struct layouts, geometry. Imports nothing but itself. */
export * from './event_channel.js'
export * from './fifo.js'
export * from './nlevel.js'
export * from './numbers.js'
export * from './shared_info.js'
export * from './struct.js'
