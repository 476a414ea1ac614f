/**
 * HYPERVISOR_grant_table_op, version 1 (spec part 11, EC-gnt): the size of the table, its frames, its version, copies.
 * A guest's memory is one window, so a guest cannot map another's page: that is the embedder's, by `Hypervisor.grants`.
 */

import {
  type Args,
  decode,
  encode,
  GNTCOPY,
  GNTST,
  GNTTAB_COPY,
  GNTTAB_GET_VERSION,
  GNTTAB_QUERY_SIZE,
  GNTTAB_SET_VERSION,
  GNTTAB_SETUP_TABLE,
  GNTTABOP,
  PAGE_SIZE,
  type Struct,
} from '../abi/index.js'
import { DOMID_SELF } from '../abi/numbers.js'
import type { Caller, Domain } from '../domain/domain.js'
import { GrantRefusal, type Pin } from '../domain/grants.js'
import { Errno, type Outcome, refuse } from '../errno.js'
import type { World } from '../host/world.js'
import { ofClassTarget } from '../host/xsm.js'
import { domainByAnyId, noDomain, notKnown } from './parts.js'

const { EFAULT, EINVAL, ENOSYS, EPERM } = Errno

/** Dispatches a grant_table_op: `count` structs from `gva` on. */
export function grantTableOp(world: World, caller: Caller, cmd: number, gva: number, count: number): Outcome {
  const { bits } = caller.domain
  switch (cmd) {
    case GNTTABOP.setup_table:
      if (count !== 1) return refuse(EINVAL, () => `setup_table takes 1 struct, not ${count}`)
      return each(caller, GNTTAB_SETUP_TABLE[bits], gva, 1, (args) => setupTable(world, caller, args))
    case GNTTABOP.query_size:
      if (count !== 1) return refuse(EINVAL, () => `query_size takes 1 struct, not ${count}`)
      return each(caller, GNTTAB_QUERY_SIZE, gva, 1, (args) => querySize(world, caller, args))
    case GNTTABOP.copy:
      return each(caller, GNTTAB_COPY[bits], gva, count, (args) => copy(world, caller, args))
    case GNTTABOP.set_version:
      return each(caller, GNTTAB_SET_VERSION, gva, 1, setVersion)
    case GNTTABOP.get_version:
      return each(caller, GNTTAB_GET_VERSION, gva, 1, (args) => getVersion(world, caller, args))
    case GNTTABOP.map_grant_ref:
    case GNTTABOP.unmap_grant_ref:
      return refuse(ENOSYS, 'a guest maps no page of another: its memory is one window')
    default:
      return notKnown(() => `grant_table_op ${cmd} does not exist`)
  }
}

/** Runs `body` on each of the structs and writes back what it stored in `args`. */
function each(
  { domain: { memory }, vcpu: { vcpuId } }: Caller,
  layout: Struct,
  gva: number,
  count: number,
  body: (args: Args) => Outcome,
): Outcome {
  const bytes = new Uint8Array(layout.size)
  const view = new DataView(bytes.buffer)
  for (let i = 0; i < count; i++) {
    const at = gva + i * layout.size
    if (!memory.copyIn(vcpuId, at, bytes, bytes.length))
      return refuse(EFAULT, () => `struct ${layout.name} ${i} cannot be read`)
    const args = decode(layout, view)
    const outcome = body(args)
    if (outcome) return outcome
    encode(layout, view, args)
    if (!memory.copyOut(vcpuId, at, bytes, bytes.length))
      return refuse(EFAULT, () => `struct ${layout.name} ${i} cannot be written`)
  }
  return 0
}

/** Stores the status; the hypercall itself succeeds. */
function status(args: Args, value: number): 0 {
  args.status = value & 0xffff
  return 0
}

/** The domain whose table is meant, or the status that says why not. */
function tableOf(world: World, caller: Domain, domid: number): Domain | number {
  const domain = domainByAnyId(world, caller, domid)
  if (!domain) return GNTST.bad_domain
  return ofClassTarget(caller, domain) ? GNTST.permission_denied : domain
}

/** GNTTABOP_setup_table: the table grows to `nr_frames`, and the caller learns where they are (EC-gnt-2). */
function setupTable(world: World, { domain: caller, vcpu }: Caller, args: Args): Outcome {
  const { dom, nr_frames: frames = 0, frame_list: list = 0 } = args
  const domain = tableOf(world, caller, dom!)
  if (typeof domain === 'number') return status(args, domain)
  if (!domain.grants.grow(frames)) return status(args, GNTST.general_error)
  const word = caller.bits / 8
  const bytes = new Uint8Array(word)
  const view = new DataView(bytes.buffer)
  for (let i = 0; i < frames; i++) {
    const gfn = domain.grants.gfn(i)
    // A frame that is placed nowhere is INVALID_GFN.
    bytes.fill(0xff)
    if (gfn >= 0 && word === 8) view.setBigUint64(0, BigInt(gfn), true)
    else if (gfn >= 0) view.setUint32(0, gfn, true)
    if (!caller.memory.copyOut(vcpu.vcpuId, list + i * word, bytes, word))
      return refuse(EFAULT, () => `frame_list[${i}] cannot be written`)
  }
  return status(args, GNTST.okay)
}

function querySize(world: World, { domain: caller }: Caller, args: Args): Outcome {
  const domain = tableOf(world, caller, args.dom!)
  if (typeof domain === 'number') return status(args, domain)
  args.nr_frames = domain.grants.frames
  args.max_nr_frames = domain.grants.maxFrames
  return status(args, GNTST.okay)
}

/** GNTTABOP_set_version: version 1 is all there is (EC-gnt-1). */
function setVersion(args: Args): Outcome {
  const wanted = args.version!
  args.version = 1
  if (wanted === 1) return 0
  if (wanted === 2) return refuse(ENOSYS, 'grant tables of version 2 do not exist here')
  return refuse(EINVAL, () => `there is no grant table of version ${wanted}`)
}

function getVersion(world: World, { domain: caller }: Caller, args: Args): Outcome {
  const domain = domainByAnyId(world, caller, args.dom!)
  if (!domain) return noDomain(args.dom!)
  if (ofClassTarget(caller, domain)) return refuse(EPERM, () => `d${caller.domid} may not ask d${domain.domid}`)
  args.version = 1
  return 0
}

/** One end of a copy: the absolute address of its page, and what to let go of. */
interface End {
  readonly domain: Domain
  readonly gfn: number
  readonly pin: Pin | undefined
}

function endOf(world: World, caller: Domain, place: number, domid: number, byRef: boolean, write: boolean) {
  if (!byRef && domid !== DOMID_SELF && domid !== caller.domid) return GNTST.permission_denied
  const domain = domainByAnyId(world, caller, domid)
  if (domain?.dying !== 'alive') return GNTST.bad_domain
  if (!byRef) return { domain, gfn: place, pin: undefined }
  const pin = domain.grants.pin(place, caller.domid, write)
  return pin instanceof GrantRefusal ? pin.status : { domain, gfn: pin.gfn, pin }
}

/** GNTTABOP_copy: bytes from page to page, each a grant or a frame of the caller's (EC-gnt-6). */
function copy(world: World, { domain: caller }: Caller, args: Args): Outcome {
  const { source, source_domid, source_offset: from = 0, dest, dest_domid, dest_offset: to = 0, len = 0 } = args
  const flags = args.flags!
  if (flags & ~(GNTCOPY.source_gref | GNTCOPY.dest_gref)) return status(args, GNTST.bad_copy_arg)
  if (from + len > PAGE_SIZE || to + len > PAGE_SIZE) return status(args, GNTST.bad_copy_arg)
  const ends: End[] = []
  try {
    const left = endOf(world, caller, source!, source_domid!, (flags & GNTCOPY.source_gref) !== 0, false)
    if (typeof left === 'number') return status(args, left)
    ends.push(left)
    const right = endOf(world, caller, dest!, dest_domid!, (flags & GNTCOPY.dest_gref) !== 0, true)
    if (typeof right === 'number') return status(args, right)
    ends.push(right)
    const at = left.domain.memory.absolute(left.gfn * PAGE_SIZE + from, len)
    const onto = right.domain.memory.frame(right.gfn)
    if (at < 0 || onto < 0) return status(args, GNTST.bad_page)
    const bytes = new Uint8Array(left.domain.memory.memory.buffer, at, len)
    new Uint8Array(right.domain.memory.memory.buffer, onto + to, len).set(bytes)
    return status(args, GNTST.okay)
  } finally {
    for (const { domain, pin } of ends) if (pin) domain.grants.unpin(pin)
  }
}
