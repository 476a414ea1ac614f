/** Bounds of what a domain can have: by Xen's interface, or by this library where Xen leaves it to the machine. */

import { DOMID_FIRST_RESERVED } from './numbers.js'

/** Most vCPUs of a domain. */
export const MAX_VCPUS = 8192
/** Most PIRQs of a domain: as many bits as a page has, for the EOI map is one page (EC-irq-3). */
export const MAX_PIRQS = 32768
/** Highest number of a host interrupt. */
export const MAX_IRQ = 0xffff
/** Most leaf pages per bitmap that a host or a domain may grant: enough for any tree. */
export const MAX_LEAF_PAGES = 1024
/** Most frames of RAM: 4 GiB, the address space of a WebAssembly memory. */
export const MAX_FRAMES = 2 ** 20
/** Most frames of a grant table: 16 MiB of entries. */
export const MAX_GRANT_FRAMES = 4096
/** Highest number of an ordinary domain. */
export const MAX_DOMID = DOMID_FIRST_RESERVED - 1
/** Highest value of a domid_t, which may also name no domain. */
export const DOMID_MASK = 0xffff
/** Lowest vector that a guest may be upcalled by: those below are exceptions. */
export const FIRST_UPCALL_VECTOR = 0x10
/** Highest port number that there can be. */
export const MAX_PORT = 2 ** 31 - 1
/** Highest value of a 32-bit register or member. */
export const U32_MAX = 2 ** 32 - 1
