/* SPDX-License-Identifier: MIT */
/*
 * What this guest takes of Xen's ABI, in its own words, and the way to the hypervisor: one imported function. Guest virtual
 * is guest physical, and an address in this module's memory is one in the domain's RAM.
 */
#ifndef NLEVEL_HYPERCALL_H
#define NLEVEL_HYPERCALL_H

#include <stdint.h>
#include <xen/evtchn_nlevel.h>

/* Word width of the guest: 32 or 64. It is the domain's, not the compiler's. */
#ifndef GUEST_BITS
#define GUEST_BITS 64
#endif
#if GUEST_BITS == 64
typedef uint64_t word_t;
#define WORD_SHIFT 6
#else
typedef uint32_t word_t;
#define WORD_SHIFT 5
#endif

#define PAGE_SIZE EVTCHN_NLEVEL_PAGE_SIZE
#define DOMID_SELF 0x7ff0u

#define HYPERVISOR_sched_op 29
#define HYPERVISOR_event_channel_op 32
#define SCHEDOP_shutdown 2
#define SHUTDOWN_suspend 2
#define EVTCHNOP_close 3
#define EVTCHNOP_send 4
#define EVTCHNOP_alloc_unbound 6
#define EVTCHNOP_bind_ipi 7
#define EVTCHNOP_unmask 9

struct evtchn_alloc_unbound {
    uint16_t dom, remote_dom;
    uint32_t port;
};
struct evtchn_bind_ipi {
    uint32_t vcpu, port;
};
struct evtchn_port {
    uint32_t port;
};

/* vcpu_info, the first members, and shared_info up to the bitmaps: 32 vcpu_info of 64 bytes come first. */
struct vcpu_info {
    uint8_t evtchn_upcall_pending, evtchn_upcall_mask;
    uint8_t pad[sizeof(word_t) - 2];
    word_t evtchn_pending_sel;
};
#define VCPU_INFO_SIZE 64
#define LEGACY_VCPUS 32

__attribute__((import_module("env"), import_name("hypercall"))) int
hypercall(uint32_t op, uint32_t a1, uint32_t a2);

static inline int event_channel_op(uint32_t cmd, void *arg)
{
    return hypercall(HYPERVISOR_event_channel_op, cmd, (uint32_t)(uintptr_t)arg);
}

#endif
