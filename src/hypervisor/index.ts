/** The public face: `Hypervisor` creates, boots, kills, saves and restores domains. The parts behind it are put together here. */

export type { GrantMapping, Grants, MapGrantOptions } from './grants.js'
export { Hypervisor, worldOf } from './hypervisor.js'
export type { AttachOptions, DetachOptions, QuiesceOptions } from './threaded.js'
