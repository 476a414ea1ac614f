/** Raising a port on a bitmap ABI of any depth (NL-set-1, NL-unmask-1); two levels are depth 2. */

import {
  ABI,
  BIT_CLEAR,
  BIT_TEST,
  CLIMB,
  DEPTH,
  DOMID,
  FUNCTIONS,
  INFO,
  KICK,
  KICK_DOMID,
  KICK_VCPU,
  LAST,
  LEAF,
  LEAF_SET,
  LEAF_UNMASK,
  LEVEL2,
  LEVEL3,
  MAX_EVTCHNS,
  NOTIFY,
  SEL,
  WORD_SHIFT,
} from './layout'
import { polled } from './poll'
import { vcpuOf } from './ports'

/** The result that asks for a kick of a vCPU. */
export function kickOf(dom: usize, vcpu: u32): i32 {
  return KICK | ((vcpu << KICK_VCPU) as i32) | ((load<u32>(dom, DOMID) << KICK_DOMID) as i32)
}

/** Address of the pair of leaf pages that hold a port. */
function leafOf(dom: usize, port: u32): usize {
  return (load<u32>(dom, LEAF) as usize) + ((port >>> 15) << 3)
}

/** Climbs on the notify vCPU, which is read here: after the leaf's test-and-set, as is "active?" (NL-set-1, NL-sel-4). */
export function levelsClimb(dom: usize, port: u32, at: usize): i32 {
  const vcpuId = load<u32>(at, NOTIFY)
  const vcpu = vcpuOf(dom, vcpuId)
  const n = load<u32>(dom, ABI)
  if (load<u32>(vcpu, DEPTH) != n) return 0
  const info = load<u32>(vcpu, INFO)
  let l2: u32 = 0
  let l3: u32 = 0
  let l4: u32 = 0
  if (n > 2) {
    const last = load<u32>((load<u32>(vcpu, LAST) as usize) + ((port >>> (load<u32>(dom, WORD_SHIFT) + 15)) << 2))
    if (n == 3) l2 = last
    else {
      l2 = load<u32>(vcpu, LEVEL2)
      if (n == 4) l3 = last
      else {
        l3 = load<u32>(vcpu, LEVEL3)
        l4 = last
      }
    }
  }
  const climbed = call_indirect<i32>(load<u32>(dom, CLIMB), port, info, info + load<u32>(dom, SEL), l2, l3, l4)
  return climbed ? kickOf(dom, vcpuId) : 0
}

/** NL-set-1. Pollers are woken for a masked event too (EC-up-11), and last. */
export function levelsRaise(dom: usize, port: u32, at: usize): i32 {
  if (port >= load<u32>(dom, MAX_EVTCHNS)) return 0
  const leaf = leafOf(dom, port)
  const found = call_indirect<i32>(load<u32>(dom, FUNCTIONS) + LEAF_SET, load<u32>(leaf), load<u32>(leaf, 4), port)
  if (found == 0) return 0
  const kick = found == 2 ? levelsClimb(dom, port, at) : 0
  return kick | polled(dom)
}

/** NL-unmask-1. No pollers (EC-2l-8). */
export function levelsUnmask(dom: usize, port: u32, at: usize): i32 {
  if (port >= load<u32>(dom, MAX_EVTCHNS)) return 0
  const leaf = leafOf(dom, port)
  const due = call_indirect<i32>(load<u32>(dom, FUNCTIONS) + LEAF_UNMASK, load<u32>(leaf), load<u32>(leaf, 4), port)
  return due ? levelsClimb(dom, port, at) : 0
}

/** NL-clear-1: the leaf only. */
export function levelsClear(dom: usize, port: u32): void {
  if (port >= load<u32>(dom, MAX_EVTCHNS)) return
  call_indirect<i32>(load<u32>(dom, FUNCTIONS) + BIT_CLEAR, load<u32>(leafOf(dom, port)), port)
}

/** Bit 0: pending; bit 1: masked. A port beyond the bitmap is masked. */
export function levelsBits(dom: usize, port: u32): i32 {
  if (port >= load<u32>(dom, MAX_EVTCHNS)) return 2
  const leaf = leafOf(dom, port)
  const test = load<u32>(dom, FUNCTIONS) + BIT_TEST
  const pending = call_indirect<i32>(test, load<u32>(leaf), port)
  return pending | (call_indirect<i32>(test, load<u32>(leaf, 4), port) << 1)
}
