export * from './fifo'
export * from './levels'
export * from './scan'
