/**
 * ABIs of the embedder's own: event channel operations with numbers that Xen does not use, which put a domain on words of
 * their choice. Everything else stands on the one port table: ports, states, peers, permissions, limits, dump, reset.
 *
 *     event_channel_op 128 …  →  the argument's struct  →  OwnOperation.run(guest, args)  →  guest.registerTree, or
 *                                                                                          guest.install(words)
 *
 * A function of an own ABI never unwinds the host: what it throws is reported to `onError`, and the guest gets EIO.
 * docs/own-abi.md is the guide.
 */

import type { Args, Bits, Struct } from '../abi/index.js'
import { func, listOf, nested, object, ParameterError, type Table, text, within } from '../check.js'
import type { Outcome } from '../errno.js'
import type { GuestMemory } from '../machine/memory.js'

/** Numbers that an own operation may have: Xen's end at 14, and this library's begin at 64. */
const FIRST_OWN_OPERATION = 128
const LAST_OWN_OPERATION = 1023

/** Where the words of one selector level of a vCPU are. */
export interface OwnSelector {
  /** Frames of the guest's. */
  readonly gfns: readonly number[]
  /** Of the words in the first frame, a multiple of 8; 0 for a level of more than a page. */
  readonly offset: number
}

/** A tree of the library's kind, in frames that an own operation has taken from its arguments. */
export interface OwnTree {
  /** 3 … 4, or 5 for 32-bit guests. */
  readonly levels: number
  readonly pendingGfns: readonly number[]
  /** As many as of pending. */
  readonly maskGfns: readonly number[]
  /** Of each vCPU, level 2 first. A vCPU without an entry latches: it is never upcalled until it names them (NL-sel-4). */
  readonly selectors: readonly (readonly OwnSelector[])[]
}

/**
 * Words of another kind. The functions work on guest memory, and say when a vCPU is to be upcalled. Ports are checked before:
 * each is open and below `maxEvtchns`.
 */
export interface OwnWords {
  /** Port numbers that the words have room for, 0 included. */
  readonly maxEvtchns: number
  /** An event. True: it was not pending, and is not masked, so the vCPU looks. Pollers are woken by the host. */
  setPending(port: number, vcpu: number): boolean
  clearPending(port: number): void
  /** Clears the mask. True: the port was masked and is pending, so the vCPU looks. */
  unmask(port: number, vcpu: number): boolean
  isPending(port: number): boolean
  isMasked(port: number): boolean
  /** A port was bound to another vCPU. True: that one is to look. Default: nothing, as on two levels. */
  moved?(port: number, vcpu: number): boolean
  /** The domain has left these words: a reset, its death, or another registration. */
  left?(): void
}

/** What an own operation sees of the domain whose vCPU makes the call. */
export interface OwnGuest {
  readonly domid: number
  /** Of the calling vCPU. */
  readonly vcpuId: number
  readonly vcpus: number
  readonly bits: Bits
  /** Highest port number, or infinity. */
  readonly maxEvtchnPort: number
  /** What the host and the domain's options allow: 2 levels where N levels are not allowed. */
  readonly maxLevels: number
  readonly maxLeafPages: number
  readonly memory: GuestMemory
  /** Frame of shared_info. */
  readonly sharedInfoGfn: number
  /** `count` u64 frame numbers at a guest virtual address; undefined: they cannot be read (EFAULT). */
  readGfns(gva: number, count: number): number[] | undefined
  /** `count` u32 at a guest virtual address; undefined: they cannot be read. */
  readU32s(gva: number, count: number): number[] | undefined
  /** A refusal for `run` to return: Xen's errno, positive, and why. */
  refuse(errno: number, text: string): Outcome
  /**
   * Puts the domain on a tree: every check of the N-level operations on sizes, limits and frames, then their switch. Nothing
   * has changed after a refusal. Transparent migration carries it as N levels.
   */
  registerTree(tree: OwnTree): Outcome
  /** Puts the domain on other words: what is pending and masked on two levels is carried over. EBUSY if it has left these. */
  install(words: OwnWords): Outcome
}

/** One operation. */
export interface OwnOperation {
  /** As reports name it: `EVTCHNOP_register_3level`. */
  readonly name: string
  /** 128 to 1023. */
  readonly cmd: number
  /** Of the argument. Members of direction `out` and `inout` are written back after success. */
  readonly struct: Struct
  /** Returns 0, or what `guest.refuse` and the other functions of `guest` returned. */
  run(guest: OwnGuest, args: Args): Outcome
}

/** An own ABI. */
export interface OwnAbi {
  readonly name: string
  readonly operations: readonly OwnOperation[]
}

const OPERATION: Table<OwnOperation> = {
  name: text,
  cmd: within(FIRST_OWN_OPERATION, LAST_OWN_OPERATION),
  struct: (call, parameter, value) => object(call, parameter, value, 'a struct()'),
  run: func,
}

/** A list of own ABIs, as an option. */
export const checkAbis = listOf((call, parameter, value) => {
  const { name, operations } = object(call, parameter, value) as OwnAbi
  text(call, `${parameter}.name`, name)
  listOf((_, where, each) => {
    const given = object(call, where, each) as OwnOperation
    nested(OPERATION)(call, where, given)
    for (const row of Object.keys(OPERATION) as (keyof OwnOperation)[])
      OPERATION[row](call, `${where}.${row}`, given[row])
  }, 'operations')(call, `${parameter}.operations`, operations)
}, 'own ABIs')

/** The operations of all own ABIs by their numbers. @throws ParameterError for a number that two have. */
export function ownOperations(call: string, abis: readonly OwnAbi[] = []): ReadonlyMap<number, OwnOperation> {
  const all = new Map<number, OwnOperation>()
  for (const { name, operations } of abis)
    for (const each of operations) {
      const other = all.get(each.cmd)
      if (other) throw new ParameterError(call, `abis: ${name}`, each.cmd, `a number that ${other.name} does not have`)
      all.set(each.cmd, each)
    }
  return all
}
