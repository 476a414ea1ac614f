/**
 * The page tables of a 32-bit x86 guest, walked as its processor would in supervisor mode. Two forms:
 *
 *     two levels   cr3 ─▶ [1024 × 4 bytes] ─▶ [1024 × 4 bytes] ─▶ page     a large page has 4 MiB
 *     PAE          cr3 ─▶ [4 × 8] ─▶ [512 × 8] ─▶ [512 × 8]    ─▶ page     a large page has 2 MiB
 *
 * Accessed and dirty bits stay as they are: these are the hypervisor's accesses, as in Xen's own walk of a guest's tables.
 */

const PRESENT = 1
const WRITABLE = 2
const LARGE = 0x80
const CR0_PAGING = 0x8000_0000
const CR0_WRITE_PROTECT = 0x1_0000
const CR4_LARGE_PAGES = 0x10
const CR4_PAE = 0x20
const PAGE_MASK = 0xffff_f000

/** Not mapped: EFAULT. */
const NOT_MAPPED = -1

/** What a walk reads. */
export interface PageTables {
  readonly cr0: number
  readonly cr3: number
  readonly cr4: number
  /** The word at a guest-physical address; 0 outside of RAM, which no entry is present in. */
  read32(gpa: number): number
}

/** Guest-physical address of a virtual one, or -1. */
export function walkPages(tables: PageTables, gva: number, write: boolean): number {
  if (!(tables.cr0 & CR0_PAGING)) return gva
  const needed = PRESENT | (write && tables.cr0 & CR0_WRITE_PROTECT ? WRITABLE : 0)
  return tables.cr4 & CR4_PAE ? walkPae(tables, gva, needed) : walkTwoLevels(tables, gva, needed)
}

const has = (entry: number, needed: number): boolean => (entry & needed) === needed

/** `base` begins a page of `bytes`. */
const within = (base: number, bytes: number, gva: number): number => ((base & -bytes) >>> 0) + (gva & (bytes - 1))

function walkTwoLevels({ cr3, cr4, read32 }: PageTables, gva: number, needed: number): number {
  const directory = read32(((cr3 & PAGE_MASK) >>> 0) + (gva >>> 22) * 4)
  if (!has(directory, needed)) return NOT_MAPPED
  if (directory & LARGE && cr4 & CR4_LARGE_PAGES) return within(directory, 1 << 22, gva)
  const entry = read32(((directory & PAGE_MASK) >>> 0) + ((gva >>> 12) & 1023) * 4)
  return has(entry, needed) ? within(entry, 1 << 12, gva) : NOT_MAPPED
}

function walkPae({ cr3, read32 }: PageTables, gva: number, needed: number): number {
  /** The low half of an entry; 0 if it points beyond 4 GiB, where this machine has nothing. */
  const entryAt = (at: number) => (read32(at + 4) & 0xf_ffff ? 0 : read32(at))
  const pointer = entryAt(((cr3 & ~31) >>> 0) + (gva >>> 30) * 8)
  if (!(pointer & PRESENT)) return NOT_MAPPED
  const directory = entryAt(((pointer & PAGE_MASK) >>> 0) + ((gva >>> 21) & 511) * 8)
  if (!has(directory, needed)) return NOT_MAPPED
  if (directory & LARGE) return within(directory, 1 << 21, gva)
  const entry = entryAt(((directory & PAGE_MASK) >>> 0) + ((gva >>> 12) & 511) * 8)
  return has(entry, needed) ? within(entry, 1 << 12, gva) : NOT_MAPPED
}
