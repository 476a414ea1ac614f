/*
 * The same guest gone mad: noise all over its shared_info and vcpu_info, and event channel operations with arguments
 * out of the same noise. It may harm itself; nobody else is to notice.
 */
#include "hypercall.h"

#define EXPORT(name) __attribute__((export_name(#name)))

static uint32_t noise_state;

/* xorshift32 (Marsaglia): the same seed makes the same noise. */
static uint32_t noise(void)
{
    noise_state ^= noise_state << 13;
    noise_state ^= noise_state >> 17;
    noise_state ^= noise_state << 5;
    return noise_state;
}

/* Anything, or something that could name a port, a vCPU or a domain. */
static uint32_t plausible(void)
{
    switch (noise() % 4) {
    case 0:
        return noise();
    case 1:
        return DOMID_SELF;
    default:
        return noise() % 16;
    }
}

/* Fills the frame of shared_info with noise. */
EXPORT(scribble) void scribble(unsigned long shared_info_gfn, uint32_t seed)
{
    uint32_t *word = (uint32_t *)(shared_info_gfn * PAGE_SIZE);
    unsigned int i;

    noise_state = seed | 1;
    for (i = 0; i < PAGE_SIZE / sizeof(*word); i++)
        __atomic_store_n(&word[i], noise(), __ATOMIC_SEQ_CST);
}

/* `calls` event channel operations and unknown hypercalls. Answers how many Xen accepted. */
EXPORT(babble) unsigned int babble(uint32_t seed, unsigned int calls)
{
    uint32_t arg[8];
    unsigned int i, accepted = 0;

    noise_state = seed | 1;
    while (calls--) {
        uint32_t how = noise();
        unsigned int cmd = how % 18;
        unsigned long at = (unsigned long)arg;

        for (i = 0; i < 8; i++)
            arg[i] = plausible();
        /* Now and then a pointer to nowhere: outside RAM, never into the program's own data. */
        if ((how >> 24) % 8 == 0)
            at = noise() | 0x80000000u;
        if ((how >> 16) % 32 == 0)
            hypercall(56 + how % 64, noise(), noise(), noise(), noise(), noise());
        else if (event_channel_op((int)(cmd < 15 ? cmd : 49 + cmd), (void *)at) >= 0)
            accepted++;
    }
    return accepted;
}
