/**
 * What an x86 guest finds of Xen before its first hypercall: the CPUID leaves from 0x40000000 on, and the page of hypercalls
 * that it asks for by the MSR that a leaf names (xen/include/public/arch-x86/cpuid.h).
 */

import { PAGE_SIZE, XEN_VERSION } from '../abi/index.js'

const FIRST_LEAF = 0x4000_0000
const LAST_LEAF = 0x4000_0005
/** The MSR that asks for the page. */
export const HYPERCALL_PAGE_MSR = 0x4000_0000
/** HVM features, leaf 4: EBX has the vCPU's number, ECX the domain's, and each vCPU may have an upcall vector of its own. */
const VCPU_ID_PRESENT = 1 << 3
const DOMID_PRESENT = 1 << 4
const UPCALL_VECTOR = 1 << 6

/** "XenVMMXenVMM" in EBX, ECX, EDX. */
const SIGNATURE = [0x566e_6558, 0x6558_4d4d, 0x4d4d_566e] as const

/** EAX, EBX, ECX, EDX. */
export type Leaf = readonly [number, number, number, number]

/** Whom the leaves tell about, and what they say. */
export interface LeafOptions {
  readonly domid: number
  readonly vcpuId: number
  /** False: the guest learns nothing of upcall vectors by vCPU. */
  readonly perVcpuVector: boolean
}

/** A leaf of Xen's; undefined for a number that is not the hypervisor's. */
export function xenLeaf(leaf: number, { domid, vcpuId, perVcpuVector }: LeafOptions): Leaf | undefined {
  if (leaf < FIRST_LEAF || leaf > FIRST_LEAF + 0xff) return undefined
  switch (leaf - FIRST_LEAF) {
    case 0:
      return [LAST_LEAF, ...SIGNATURE]
    case 1:
      return [(XEN_VERSION.major << 16) | XEN_VERSION.minor, 0, 0, 0]
    case 2:
      return [1, HYPERCALL_PAGE_MSR, 0, 0]
    case 4:
      return [VCPU_ID_PRESENT | DOMID_PRESENT | (perVcpuVector ? UPCALL_VECTOR : 0), vcpuId, domid, 0]
    default:
      return [0, 0, 0, 0]
  }
}

/** Bytes of one entry of the page; entry n makes hypercall n. */
const ENTRY_BYTES = 32
const BREAKPOINT = 0xcc

/** The page: `mov $n, %eax; vmcall; ret`, 128 times. */
export function hypercallPage(): Uint8Array {
  const page = new Uint8Array(PAGE_SIZE).fill(BREAKPOINT)
  for (let nr = 0; nr < PAGE_SIZE / ENTRY_BYTES; nr++)
    page.set([0xb8, nr, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xc3], nr * ENTRY_BYTES)
  return page
}
