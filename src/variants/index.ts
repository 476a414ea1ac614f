/**
 * The variants of the argument, as ABIs of their own on the same port table: what was proposed before and beside the N-level
 * ABI, to be run, measured and compared. The package's entry `evtchn/variants`; docs/history.md says who proposed what.
 */

export type { Variant } from './common.js'
export { contiguousLevels } from './contiguous.js'
export { liuLevels } from './liu.js'
export { type RaoVariant, raoLevels } from './rao.js'
