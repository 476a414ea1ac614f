export * from './levels'
export * from './scan'
