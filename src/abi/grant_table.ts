/**
 * HYPERVISOR_grant_table_op: commands, statuses, structs, and the entry of version 1 (xen/include/public/grant_table.h).
 *
 *     grant frame   ├ entry 0 ┼ entry 1 ┼ … ┼ entry 511 ┤
 *     entry         ├ flags:16 ┼ domid:16 ┼ frame:32 ┤      the guest writes it, and Xen sets "in use" in flags
 */

import { PAGE_SIZE } from './numbers.js'
import { struct } from './struct.js'

/** grant_table_op commands. */
export const GNTTABOP = Object.freeze({
  map_grant_ref: 0,
  unmap_grant_ref: 1,
  setup_table: 2,
  copy: 5,
  query_size: 6,
  set_version: 8,
  get_version: 10,
} as const)

/** Flags of an entry. The two lowest bits are its type. */
export const GTF = Object.freeze({
  type_mask: 3,
  invalid: 0,
  permit_access: 1,
  readonly: 1 << 2,
  reading: 1 << 3,
  writing: 1 << 4,
} as const)

/** What became of one operation. */
export const GNTST = Object.freeze({
  okay: 0,
  general_error: -1,
  bad_domain: -2,
  bad_gntref: -3,
  permission_denied: -8,
  bad_page: -9,
  bad_copy_arg: -10,
} as const)

/** An entry: its size, and where the members are. Flags and domid are read and changed as one word. */
export const GRANT_ENTRY = Object.freeze({ size: 8, flagsAndDomid: 0, frame: 4 } as const)
/** Entries of one frame. */
export const GRANTS_PER_FRAME = PAGE_SIZE / GRANT_ENTRY.size
/** The first references, which libxl and xenconsoled use: console and store. Kernels hand out those behind them. */
export const GNTTAB_RESERVED = Object.freeze({ console: 0, xenstore: 1, entries: 8 } as const)
/** Frames that a table has at first, and that it may grow to unless its creator says otherwise. */
export const GRANT_FRAMES = Object.freeze({ initial: 1, max: 64 } as const)

/** gnttab_setup_table, by the guest's width; frame_list points to words of that width. */
export const GNTTAB_SETUP_TABLE = Object.freeze({
  32: struct('gnttab_setup_table', 16, {
    dom: [0, 2, 'in'],
    nr_frames: [4, 4, 'in'],
    status: [8, 2, 'out'],
    frame_list: [12, 4, 'in'],
  }),
  64: struct('gnttab_setup_table', 24, {
    dom: [0, 2, 'in'],
    nr_frames: [4, 4, 'in'],
    status: [8, 2, 'out'],
    frame_list: [16, 8, 'in'],
  }),
} as const)

/** gnttab_query_size. */
export const GNTTAB_QUERY_SIZE = struct('gnttab_query_size', 16, {
  dom: [0, 2, 'in'],
  nr_frames: [4, 4, 'out'],
  max_nr_frames: [8, 4, 'out'],
  status: [12, 2, 'out'],
})
/** gnttab_set_version. */
export const GNTTAB_SET_VERSION = struct('gnttab_set_version', 4, { version: [0, 4, 'inout'] })
/** gnttab_get_version. */
export const GNTTAB_GET_VERSION = struct('gnttab_get_version', 8, { dom: [0, 2, 'in'], version: [4, 4, 'out'] })

/** Flags of a copy: its ends are references rather than the caller's own frames. */
export const GNTCOPY = Object.freeze({ source_gref: 1, dest_gref: 2 } as const)

/** gnttab_copy, by the guest's width. `source` and `dest` are a reference or a frame. */
export const GNTTAB_COPY = Object.freeze({
  32: struct('gnttab_copy', 24, {
    source: [0, 4, 'in'],
    source_domid: [4, 2, 'in'],
    source_offset: [6, 2, 'in'],
    dest: [8, 4, 'in'],
    dest_domid: [12, 2, 'in'],
    dest_offset: [14, 2, 'in'],
    len: [16, 2, 'in'],
    flags: [18, 2, 'in'],
    status: [20, 2, 'out'],
  }),
  64: struct('gnttab_copy', 40, {
    source: [0, 8, 'in'],
    source_domid: [8, 2, 'in'],
    source_offset: [10, 2, 'in'],
    dest: [16, 8, 'in'],
    dest_domid: [24, 2, 'in'],
    dest_offset: [26, 2, 'in'],
    len: [32, 2, 'in'],
    flags: [34, 2, 'in'],
    status: [36, 2, 'out'],
  }),
} as const)
