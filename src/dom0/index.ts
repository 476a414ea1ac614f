/** A whole host with dom0 and guests. */

export { DomainList } from './domain_list.js'
export { Guest } from './guest.js'
export { Host, type HostOptions, type Job } from './host.js'
