/* Two levels, as Xen shipped them: 1,023 ports of a 32-bit guest, less those that the toolstack has. */
#include "counted.h"

void test(void)
{
    u32 first = 0, bound = bind_all(shared.mask, &first), port = first + bound - 1;
    say("two levels: ports bound ", bound);
    expect("the highest port", port, TWO_LEVELS - 1);
    ring_all(first, bound);
    mask_and_unmask(shared.mask, first, 64);
    expect("close", evtchn(CLOSE, &port), 0);
    virq(shared.mask);
}
