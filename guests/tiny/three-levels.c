/* Three levels: 32,768 channels of a 32-bit guest, registered with the hypervisor by the guest itself. */
#include "counted.h"

static u32 pending[MOST / WORD] __attribute__((aligned(PAGE)));
static u32 mask[MOST / WORD] __attribute__((aligned(PAGE)));
static u32 level2[WORD] __attribute__((aligned(PAGE)));

static void scan_three_levels(void)
{
    do {
        cpu->upcall_pending = 0;
        u32 top = take(&cpu->pending_sel);
        for (; top; top &= top - 1) {
            u32 i = lowest(top), words = take(&level2[i]);
            for (; words; words &= words - 1) {
                u32 word = i * WORD + lowest(words), due;
                while ((due = pending[word] & ~mask[word]))
                    for (; due; due &= due - 1)
                        if (clear_bit(&pending[word], lowest(due))) event(word * WORD + lowest(due));
            }
        }
    } while (*(volatile u8 *)&cpu->upcall_pending);
}

static void register_three(void)
{
    u64 frames[3] = {(u32)level2 / PAGE, (u32)pending / PAGE, (u32)mask / PAGE};
    struct {
        u64 gfns;
        u32 nr_pages, offset;
    } area = {(u32)&frames[0], 1, 0};
    struct {
        u32 vcpu, levels, nr_pages, pad;
        u64 areas;
    } selectors = {0, 3, 1, 0, (u32)&area};
    struct {
        u32 levels, nr_pages;
        u64 pending, mask;
        u32 nr_channels, pad;
    } leaf = {3, 1, (u32)&frames[1], (u32)&frames[2], 0, 0};
    for (u32 i = 0; i < MOST / WORD; i++) mask[i] = ~0u;
    irqs_off();
    expect("set_nlevel_selectors", evtchn(SET_NLEVEL_SELECTORS, &selectors), 0);
    expect("register_nlevel", evtchn(REGISTER_NLEVEL, &leaf), 0);
    scan = scan_three_levels;
    irqs_on();
    expect("channels", leaf.nr_channels, MOST);
    expect("a second registration", evtchn(REGISTER_NLEVEL, &leaf), -EBUSY);
}

void test(void)
{
    register_three();
    u32 first = 0, bound = bind_all(mask, &first), port = first + bound - 1;
    say("three levels: ports bound ", bound);
    expect("the highest port", port, MOST - 1);
    ring_all(first, bound);
    mask_and_unmask(mask, port - 63, 64);
    expect("close", evtchn(CLOSE, &port), 0);
    virq(mask);
}
