/* SPDX-License-Identifier: MIT */
/* The tree of one vCPU: its words, registering them, and the scan. */
#ifndef NLEVEL_TREE_H
#define NLEVEL_TREE_H

#include "hypercall.h"

#define MAX_LEVELS 4
#define MAX_LEAF_PAGES 2
/* Ports that this guest keeps count of. */
#define MAX_PORTS (MAX_LEAF_PAGES * EVTCHN_NLEVEL_PAGE_BITS)

struct tree {
    uint32_t levels;
    uint32_t max_evtchns; /* geometry */
    uint32_t nr_channels; /* may be used */
    struct vcpu_info *info;
    word_t *selector[MAX_LEVELS]; /* [k - 1] is level k; [0] is evtchn_pending_sel */
    word_t *pending, *mask;       /* the leaf, contiguous */
};

/* Masks all, and stands on two levels in shared_info. */
void tree_two_levels(struct tree *tree, void *shared_info);

/*
 * Goes over to `levels` with `nr_pages` leaf pages, in frames of the guest from `gfn` on. Returns 0 or -errno; then the
 * tree is what it was.
 */
int tree_register(struct tree *tree, uint32_t levels, uint32_t nr_pages, uint32_t gfn);

/* Scans until the flag stays 0. Each event's pending bit is clear before `handler` runs. */
void tree_scan(struct tree *tree, void (*handler)(uint32_t port));

void tree_mask(struct tree *tree, uint32_t port);
int tree_is_pending(const struct tree *tree, uint32_t port);

#endif
