/* Arguments that no honest kernel passes. Each is an errno, and afterwards an event still arrives. */
#include "guest.h"

static u32 events;
void event(u32 port) { events += port != 0; }

/* Addresses where there is no RAM, or not enough of it. */
static const u32 nowhere[] = {0x7fff0000, 0xfffffffc, 0xffffffff, 0x80000001};

void test(void)
{
    u32 port, calls = 0;
    for (u32 cmd = 0; cmd < 80; cmd++)
        for (u32 i = 0; i < sizeof nowhere / sizeof *nowhere; i++, calls++) {
            int rc = hypercall(32, cmd, nowhere[i], 0);
            if (rc != -EFAULT && rc != -ENOSYS) fail("event_channel_op without memory", rc);
        }
    for (u32 nr = 0; nr < 64; nr++)
        for (u32 cmd = 0; cmd < 32; cmd++, calls++) {
            /* sched_op and vcpu_op may stop this vCPU as they should. */
            if (nr == 29 || nr == 24 || nr == 13) continue;
            hypercall(nr, cmd, 0xfffff000, 0xffffffff);
        }
    for (u32 bad = 1; bad; bad <<= 1, calls++) {
        port = bad | 1 << 11;
        expect("send on a port that there is not", evtchn(SEND, &port), -EINVAL);
    }
    expect("bind_ipi", bind_ipi(&port), 0);
    clear_bit(shared.mask, port);
    events = 0;
    expect("send", send(port), 0);
    expect("events", events, 1);
    say("hostile: calls that changed nothing ", calls);
}
