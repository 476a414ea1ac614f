/*
 * A driver for two-level event channels: one vCPU, a handler per port.
 *
 * Functions answer 0 or a port, or -errno as Xen gave it. A port is bound masked; `events_unmask` opens it.
 */
#ifndef EVENTS_H
#define EVENTS_H

#include "xen_abi.h"

/* Runs with upcalls disabled, the port's pending bit already cleared: a signal from now on is a new event. */
typedef void (*events_handler_t)(evtchn_port_t port);

/* Takes over shared_info: upcalls disabled, every port masked, nothing pending, no handlers. */
void events_init(struct shared_info *shared_info);

/* Moves vcpu_info into the driver's own memory (VCPUOP_register_vcpu_info). Once in a vCPU's life. */
int events_move_vcpu_info(void);

/* Upcalls may come, respectively do not. */
void events_enable(void);
void events_disable(void);

/* Event channels that `remote` may bind to; the other end of one that `remote` offers; VIRQs; IPIs to this vCPU. */
int events_offer(domid_t remote, events_handler_t handler);
int events_connect(domid_t remote, evtchn_port_t remote_port, events_handler_t handler);
int events_bind_virq(unsigned int virq, events_handler_t handler);
int events_bind_ipi(events_handler_t handler);
int events_close(evtchn_port_t port);

int events_notify(evtchn_port_t port);
void events_mask(evtchn_port_t port);
int events_unmask(evtchn_port_t port);

/* Waits until the port is pending, masked or not (SCHEDOP_poll). */
int events_poll(evtchn_port_t port, uint64_t timeout_ns);

/* The upcall: to be entered when Xen interrupts the guest. */
void events_upcall(void);

/* Events handled on a port since it was bound; events on ports that had no handler. */
unsigned long events_handled(evtchn_port_t port);
unsigned long events_stray(void);

#endif
