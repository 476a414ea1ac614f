/* Counts the events of each port, and rings many of them: what the tests of two and of three levels share. */
#ifndef TINY_COUNTED_H
#define TINY_COUNTED_H

#include "guest.h"

#define MOST 32768

static u8 count[MOST];
static u32 events, twice;

void event(u32 port)
{
    events++;
    if (port >= MOST) fail("an event of no port", port);
    if (count[port]++) twice++;
}

static void again(void)
{
    events = twice = upcalls = 0;
    for (u32 i = 0; i < MOST; i++) count[i] = 0;
}

/* Binds every port that is left, and unmasks each in `mask`. The first in *first; how many. */
static u32 bind_all(u32 *mask, u32 *first)
{
    u32 bound = 0, port, last = 0;
    for (int rc; (rc = bind_ipi(&port)) != -ENOSPC; last = port) {
        if (rc) fail("bind_ipi", rc);
        if (!bound++) *first = port;
        else expect("ports ascend", port, last + 1);
        clear_bit(mask, port);
    }
    return bound;
}

/* Each port once, one upcall each; then all of them while interrupts are off, in one upcall. */
static void ring_all(u32 first, u32 bound)
{
    again();
    for (u32 i = 0; i < bound; i++) expect("send", send(first + i), 0);
    say("one by one: events ", events);
    say("            upcalls ", upcalls);
    expect("events, one by one", events, bound);
    expect("upcalls, one by one", upcalls, bound);
    expect("events of one port", twice, 0);
    again();
    irqs_off();
    for (u32 i = 0; i < bound; i++) expect("send", send(first + i), 0);
    expect("events while interrupts are off", events, 0);
    irqs_on();
    say("all at once: events ", events);
    say("             upcalls ", upcalls);
    expect("events, all at once", events, bound);
    expect("upcalls, all at once", upcalls, 1);
    expect("events of one port", twice, 0);
}

/* Masked events wait, and unmask by hypercall delivers them. */
static void mask_and_unmask(u32 *mask, u32 first, u32 ports)
{
    again();
    for (u32 i = 0; i < ports; i++) {
        set_bit(mask, first + i);
        expect("send to a masked port", send(first + i), 0);
    }
    expect("events while masked", events, 0);
    for (u32 i = 0; i < ports; i++) expect("unmask", unmask(first + i), 0);
    expect("events after unmask", events, ports);
    expect("events of one port", twice, 0);
}

/* VIRQ_DEBUG, which the host raises when it reads "RAISE". */
static void virq(u32 *mask)
{
    struct {
        u32 virq, vcpu, port;
    } arg = {1, 0, 0};
    expect("bind_virq", evtchn(BIND_VIRQ, &arg), 0);
    clear_bit(mask, arg.port);
    again();
    puts("RAISE\n");
    while (!*(volatile u32 *)&events) __asm__ volatile("sti; hlt" : : : "memory");
    expect("the port of the VIRQ", count[arg.port], 1);
    say("VIRQ_DEBUG on port ", arg.port);
}

#endif
