/* SPDX-License-Identifier: MIT */
/*
 * Event channels on N levels: the operations that a guest needs beyond <xen/event_channel.h>, which this header does not
 * need. The rules are in docs/spec/nlevel.md of the evtchn project; ids such as NL-reg-1 are theirs. No Xen release has
 * these operations: a host without them returns -ENOSYS.
 *
 *     level 1        vcpu_info.evtchn_pending_sel, one word a vCPU
 *     level 2 … n-1  selectors of each vCPU, in frames that the guest registers
 *     level n        the leaf: two bitmaps of the domain, pending and mask, in frames that the guest registers
 *
 * Port p is bit p mod W of leaf word p / W, where W is the bits of the guest's word, 32 or 64. Its bit in level k is bit
 * p >> (b (n - k)) of that level, where b is 5 or 6.
 *
 * The structs are the same for both widths. Guest addresses and frame numbers are 64 bits wide; pads must be 0.
 *
 * To go over: EVTCHNOP_set_nlevel_selectors for every vCPU, which changes nothing yet, then one EVTCHNOP_register_nlevel.
 * Before: zero the pending frames and the selectors, and set the mask frames to all ones (NL-reg-3). After: scan once.
 */
#ifndef XEN_EVTCHN_NLEVEL_H
#define XEN_EVTCHN_NLEVEL_H

#include <stdint.h>

/* Commands of HYPERVISOR_event_channel_op. Xen's own end at 14. */
#define EVTCHNOP_query_nlevel 64
#define EVTCHNOP_set_nlevel_selectors 65
#define EVTCHNOP_register_nlevel 66
#define EVTCHNOP_query_nlevel2 67

/* evtchn_query_nlevel.abi of a domain on FIFO; otherwise the number of levels. */
#define EVTCHN_ABI_FIFO 0x100

#define EVTCHN_NLEVEL_PAGE_SIZE 4096u
/* Bits of one leaf page. */
#define EVTCHN_NLEVEL_PAGE_BITS 32768u
#define EVTCHN_NLEVEL_MAX_LEVELS_64 4
#define EVTCHN_NLEVEL_MAX_LEVELS_32 5

/* What register_nlevel would accept. Asking changes nothing (NL-query-1). */
struct evtchn_query_nlevel {
    uint16_t dom;        /* IN: DOMID_SELF, or another with privilege */
    uint16_t ignored;
    uint32_t max_levels; /* OUT: 2 where there are no N levels */
    uint32_t max_pages;  /* OUT: leaf pages per bitmap */
    uint32_t abi;        /* OUT: levels in force, or EVTCHN_ABI_FIFO */
};

/* The same, and how many channels that would be. A host without it returns -ENOSYS: ask the one above (NL-query-2). */
struct evtchn_query_nlevel2 {
    uint16_t dom;
    uint16_t ignored;
    uint32_t max_levels;
    uint32_t max_pages;
    uint32_t abi;
    uint32_t nr_channels; /* OUT: port numbers, 0 included */
    uint32_t pad;         /* IN: 0 */
};

/* Where the words of one level of one vCPU are. */
struct evtchn_selector_area {
    uint64_t gfns;     /* guest address of uint64_t[nr_pages] */
    uint32_t nr_pages; /* 1 for a level that fits in a page, else exactly what it needs */
    uint32_t offset;   /* of the words in that page, a multiple of 8; else 0 */
};

struct evtchn_set_nlevel_selectors {
    uint32_t vcpu;
    uint32_t levels;   /* 0 drops what was recorded before the commit */
    uint32_t nr_pages; /* leaf pages per bitmap that will be registered */
    uint32_t pad;
    uint64_t areas;    /* guest address of struct evtchn_selector_area[levels - 2], level 2 first */
};

struct evtchn_register_nlevel {
    uint32_t levels;
    uint32_t nr_pages;
    uint64_t pending_gfns; /* guest address of uint64_t[nr_pages] */
    uint64_t mask_gfns;    /* guest address of uint64_t[nr_pages] */
    uint32_t nr_channels;  /* OUT: port numbers that may be used, 0 included */
    uint32_t pad;
};

/* b = log2 W. */
static inline uint32_t evtchn_nlevel_shift(uint32_t bits)
{
    return bits == 64 ? 6 : 5;
}

/* Leaf pages per bitmap of a full tree. */
static inline uint32_t evtchn_nlevel_full_pages(uint32_t bits, uint32_t levels)
{
    uint64_t channels = (uint64_t)1 << (evtchn_nlevel_shift(bits) * levels);

    return (uint32_t)((channels + EVTCHN_NLEVEL_PAGE_BITS - 1) / EVTCHN_NLEVEL_PAGE_BITS);
}

/* Port numbers that a tree has room for: the geometry. What may be used is nr_channels (NL-reg-6). */
static inline uint32_t evtchn_nlevel_max_evtchns(uint32_t bits, uint32_t levels, uint32_t nr_pages)
{
    uint64_t full = (uint64_t)1 << (evtchn_nlevel_shift(bits) * levels);
    uint64_t paged = (uint64_t)nr_pages * EVTCHN_NLEVEL_PAGE_BITS;

    return (uint32_t)(levels == 2 || full < paged ? full : paged);
}

/* Bits of level k, 1 <= k <= levels. Bits at or beyond it are to be discarded by a scan (NL-scan-1). */
static inline uint32_t evtchn_nlevel_level_bits(uint32_t bits, uint32_t levels, uint32_t k, uint32_t max_evtchns)
{
    uint32_t shift = evtchn_nlevel_shift(bits) * (levels - k);

    return (uint32_t)(((uint64_t)max_evtchns + ((uint64_t)1 << shift) - 1) >> shift);
}

/* Bytes of level k, in whole words. */
static inline uint32_t evtchn_nlevel_level_bytes(uint32_t bits, uint32_t levels, uint32_t k, uint32_t max_evtchns)
{
    return (evtchn_nlevel_level_bits(bits, levels, k, max_evtchns) + bits - 1) / bits * (bits / 8);
}

#endif
