/* SPDX-License-Identifier: MIT */
/*
 * The words, and the scan.
 *
 *     gfn + 0 …          pending bitmap, nr_pages frames
 *     gfn + nr_pages …   mask bitmap, nr_pages frames
 *     then               level 2 … n-1, each from a frame of its own on
 *
 * Every access of a word that the hypervisor changes too is atomic. The orders are those of NL-scan-1: the flag is cleared
 * before level 1 is taken, each level before the one below it, and a pending bit before its handler runs.
 */
#include "tree.h"

#define ATOMIC __ATOMIC_SEQ_CST
#define ONE ((word_t)1)

static uint8_t *frame(uint32_t gfn)
{
    return (uint8_t *)(uintptr_t)(gfn * PAGE_SIZE);
}

static void fill(uint8_t *bytes, uint8_t value, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        bytes[i] = value;
}

void tree_two_levels(struct tree *tree, void *shared_info)
{
    const uint32_t words = sizeof(word_t) * 8;
    uint8_t *base = shared_info;

    tree->levels = 2;
    tree->max_evtchns = tree->nr_channels = words * words;
    tree->info = shared_info;
    tree->selector[0] = &tree->info->evtchn_pending_sel;
    tree->pending = (word_t *)(base + LEGACY_VCPUS * VCPU_INFO_SIZE);
    tree->mask = tree->pending + words;
    fill((uint8_t *)tree->mask, 0xff, words * sizeof(word_t));
}

/* Where the selectors go, from `gfn` on: one area a level. */
static void place_selectors(struct tree *tree, struct evtchn_selector_area *areas, uint64_t *gfns, uint32_t gfn)
{
    for (uint32_t k = 2; k < tree->levels; k++) {
        uint32_t bytes = evtchn_nlevel_level_bytes(GUEST_BITS, tree->levels, k, tree->max_evtchns);
        uint32_t pages = (bytes + PAGE_SIZE - 1) / PAGE_SIZE;

        tree->selector[k - 1] = (word_t *)frame(gfn);
        areas[k - 2] = (struct evtchn_selector_area){ .gfns = (uintptr_t)gfns, .nr_pages = pages, .offset = 0 };
        for (uint32_t i = 0; i < pages; i++) {
            fill(frame(gfn), 0, PAGE_SIZE);
            *gfns++ = gfn++;
        }
    }
}

int tree_register(struct tree *tree, uint32_t levels, uint32_t nr_pages, uint32_t gfn)
{
    static struct evtchn_selector_area areas[MAX_LEVELS - 2];
    static uint64_t selector_gfns[32], pending_gfns[MAX_LEAF_PAGES], mask_gfns[MAX_LEAF_PAGES];
    struct evtchn_set_nlevel_selectors name = { .levels = levels, .nr_pages = nr_pages, .areas = (uintptr_t)areas };
    struct evtchn_register_nlevel commit = {
        .levels = levels,
        .nr_pages = nr_pages,
        .pending_gfns = (uintptr_t)pending_gfns,
        .mask_gfns = (uintptr_t)mask_gfns,
    };
    struct tree next = *tree;
    int rc;

    if (levels < 3 || levels > MAX_LEVELS || nr_pages < 1 || nr_pages > MAX_LEAF_PAGES)
        return -22; /* EINVAL */
    next.levels = levels;
    next.max_evtchns = evtchn_nlevel_max_evtchns(GUEST_BITS, levels, nr_pages);
    next.pending = (word_t *)frame(gfn);
    next.mask = (word_t *)frame(gfn + nr_pages);
    for (uint32_t i = 0; i < nr_pages; i++) {
        pending_gfns[i] = gfn + i;
        mask_gfns[i] = gfn + nr_pages + i;
    }
    fill((uint8_t *)next.pending, 0, nr_pages * PAGE_SIZE);
    fill((uint8_t *)next.mask, 0xff, nr_pages * PAGE_SIZE);
    place_selectors(&next, areas, selector_gfns, gfn + 2 * nr_pages);

    rc = event_channel_op(EVTCHNOP_set_nlevel_selectors, &name);
    if (rc < 0)
        return rc;
    rc = event_channel_op(EVTCHNOP_register_nlevel, &commit);
    if (rc < 0) {
        name.levels = 0; /* what was named is dropped, and nothing has changed */
        event_channel_op(EVTCHNOP_set_nlevel_selectors, &name);
        return rc;
    }
    next.nr_channels = commit.nr_channels;
    *tree = next;
    return 0;
}

/* The lowest bit of a word. */
static uint32_t lowest(word_t word)
{
    return (uint32_t)__builtin_ctzll((unsigned long long)word);
}

/* Serves a word of the leaf. */
static void scan_leaf(struct tree *tree, uint32_t index, void (*handler)(uint32_t port))
{
    word_t due = __atomic_load_n(&tree->pending[index], ATOMIC) & ~__atomic_load_n(&tree->mask[index], ATOMIC);

    for (; due; due &= due - 1) {
        uint32_t bit = lowest(due);

        __atomic_fetch_and(&tree->pending[index], ~(ONE << bit), ATOMIC);
        handler((index << WORD_SHIFT) + bit);
    }
}

/* Takes a word of level k, and follows every bit of it to the end. */
static void scan_level(struct tree *tree, uint32_t k, uint32_t index, void (*handler)(uint32_t port))
{
    uint32_t bits = evtchn_nlevel_level_bits(GUEST_BITS, tree->levels, k, tree->max_evtchns);
    word_t taken = __atomic_exchange_n(&tree->selector[k - 1][index], 0, ATOMIC);

    for (; taken; taken &= taken - 1) {
        uint32_t below = (index << WORD_SHIFT) + lowest(taken);

        if (below >= bits)
            continue;
        if (k + 1 == tree->levels)
            scan_leaf(tree, below, handler);
        else
            scan_level(tree, k + 1, below, handler);
    }
}

void tree_scan(struct tree *tree, void (*handler)(uint32_t port))
{
    while (__atomic_exchange_n(&tree->info->evtchn_upcall_pending, 0, ATOMIC))
        scan_level(tree, 1, 0, handler);
}

void tree_mask(struct tree *tree, uint32_t port)
{
    __atomic_fetch_or(&tree->mask[port >> WORD_SHIFT], ONE << (port & ((1u << WORD_SHIFT) - 1)), ATOMIC);
}

int tree_is_pending(const struct tree *tree, uint32_t port)
{
    word_t word = __atomic_load_n(&tree->pending[port >> WORD_SHIFT], ATOMIC);

    return (int)(word >> (port & ((1u << WORD_SHIFT) - 1)) & 1);
}
