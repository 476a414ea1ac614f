/** What a guest finds of Xen by CPUID, and the page of hypercalls. */

import { expect, it } from 'vitest'
import { hypercallPage, xenLeaf } from '../../src/x86/leaves.js'

const guest = { domid: 7, vcpuId: 0, perVcpuVector: true }

it('RG-30: leaf 0x40000000 spells XenVMMXenVMM', () => {
  const [, ...words] = xenLeaf(0x4000_0000, guest)!
  const text = words.map((word) => String.fromCharCode(...new Uint8Array(Uint32Array.of(word).buffer))).join('')
  expect(text).toBe('XenVMMXenVMM')
})

it('RG-30: leaf 4 tells the numbers of domain and vCPU, and of upcall vectors only if there are', () => {
  expect(xenLeaf(0x4000_0004, guest)).toEqual([0b101_1000, 0, 7, 0])
  expect(xenLeaf(0x4000_0004, { ...guest, perVcpuVector: false })).toEqual([0b001_1000, 0, 7, 0])
})

it('RG-30: leaves that are not the hypervisor’s are not its business', () => {
  for (const leaf of [0, 1, 0x3fff_ffff, 0x4000_0100, 0x8000_0000]) expect(xenLeaf(leaf, guest)).toBeUndefined()
})

it('RG-31: entry n of the page loads n and makes the hypercall', () => {
  const page = hypercallPage()
  expect(page.length).toBe(4096)
  for (const nr of [0, 1, 32, 127])
    expect([...page.subarray(nr * 32, nr * 32 + 10)]).toEqual([0xb8, nr, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xc3, 0xcc])
})
