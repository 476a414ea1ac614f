/*
 * Hypercalls. A PV guest on x86 calls into its hypercall page; this one calls a function that it imports, with the same
 * number and the same arguments in the same order. Pointers are addresses in the module's memory, which is the
 * domain's RAM: guest virtual is guest physical.
 */
#ifndef HYPERCALL_H
#define HYPERCALL_H

#include "xen_abi.h"

__attribute__((import_module("env"), import_name("hypercall"))) int
hypercall(unsigned int op, unsigned long a1, unsigned long a2, unsigned long a3, unsigned long a4, unsigned long a5);

static inline int event_channel_op(int cmd, void *arg)
{
    return hypercall(__HYPERVISOR_event_channel_op, (unsigned long)cmd, (unsigned long)arg, 0, 0, 0);
}

static inline int sched_op(int cmd, void *arg)
{
    return hypercall(__HYPERVISOR_sched_op, (unsigned long)cmd, (unsigned long)arg, 0, 0, 0);
}

static inline int vcpu_op(int cmd, unsigned int vcpu, void *arg)
{
    return hypercall(__HYPERVISOR_vcpu_op, (unsigned long)cmd, vcpu, (unsigned long)arg, 0, 0);
}

/* The cheapest call there is: Xen looks for pending events on the way back to the guest. */
static inline int xen_version(void)
{
    return hypercall(__HYPERVISOR_xen_version, XENVER_version, 0, 0, 0, 0);
}

#endif
