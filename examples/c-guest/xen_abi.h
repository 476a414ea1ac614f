/*
 * Xen's public headers (package libxen-dev) for a guest that is compiled to WebAssembly.
 *
 * The headers know x86 and Arm. wasm32 has 4-byte pointers and longs as i386 has, so they are told that this is i386,
 * and shared_info, vcpu_info and every argument struct become those of a 32-bit x86 guest.
 *
 * One thing differs between the two machines: inside a struct i386 aligns a 64-bit integer to 4 bytes, wasm32 to 8.
 * While the headers are read, uint64_t is therefore a type with alignment 4. Most structs would come out the same
 * without this, for their 64-bit members happen to stand at multiples of 8; the runstate area and the single-shot timer
 * would not. The assertions below compare all of it with what gcc -m32 says.
 */
#ifndef XEN_ABI_H
#define XEN_ABI_H

#include <stddef.h>
#include <stdint.h>

#define __XEN_INTERFACE_VERSION__ __XEN_LATEST_INTERFACE_VERSION__
#define __i386__ 1
typedef uint64_t i386_uint64_t __attribute__((aligned(4)));
#define uint64_t i386_uint64_t

#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/hvm/hvm_op.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>
#include <xen/xen.h>

#undef uint64_t
#undef __i386__

#define PAGE_SIZE 4096

#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type ": size differs from i386")
#define AT(type, member, offset) _Static_assert(offsetof(type, member) == (offset), #type "." #member ": moved")

_Static_assert(sizeof(void *) == 4 && sizeof(xen_ulong_t) == 4, "not a 32-bit guest");
_Static_assert(EVTCHN_2L_NR_CHANNELS == 1024, "two levels of 32-bit words have 1024 channels");

SIZE(struct vcpu_time_info, 32);
AT(struct vcpu_time_info, tsc_timestamp, 8);
AT(struct vcpu_time_info, system_time, 16);
AT(struct vcpu_time_info, tsc_to_system_mul, 24);
AT(struct vcpu_time_info, tsc_shift, 28);
_Static_assert(_Alignof(struct vcpu_time_info) == 4, "i386 aligns 64-bit members to 4");

SIZE(struct vcpu_info, 64);
AT(struct vcpu_info, evtchn_upcall_pending, 0);
AT(struct vcpu_info, evtchn_upcall_mask, 1);
AT(struct vcpu_info, evtchn_pending_sel, 4);
AT(struct vcpu_info, arch, 8);
AT(struct vcpu_info, time, 32);

SIZE(struct shared_info, 2344);
AT(struct shared_info, evtchn_pending, 2048);
AT(struct shared_info, evtchn_mask, 2176);
AT(struct shared_info, wc_version, 2304);
AT(struct shared_info, wc_sec, 2308);
AT(struct shared_info, wc_nsec, 2312);
AT(struct shared_info, arch, 2316);
AT(struct shared_info, arch.wc_sec_hi, 2340);
_Static_assert(_Alignof(struct shared_info) == 4, "i386 aligns 64-bit members to 4");

SIZE(struct evtchn_alloc_unbound, 8);
AT(struct evtchn_alloc_unbound, port, 4);
SIZE(struct evtchn_bind_interdomain, 12);
AT(struct evtchn_bind_interdomain, local_port, 8);
SIZE(struct evtchn_bind_virq, 12);
AT(struct evtchn_bind_virq, port, 8);
SIZE(struct evtchn_bind_ipi, 8);
AT(struct evtchn_bind_ipi, port, 4);
SIZE(struct evtchn_close, 4);
SIZE(struct evtchn_send, 4);
SIZE(struct evtchn_unmask, 4);
SIZE(struct evtchn_status, 24);
AT(struct evtchn_status, u.interdomain.port, 20);
SIZE(struct evtchn_bind_vcpu, 8);
SIZE(struct evtchn_reset, 2);
SIZE(struct evtchn_init_control, 24);
AT(struct evtchn_init_control, link_bits, 16);
SIZE(struct evtchn_expand_array, 8);
SIZE(struct evtchn_op, 28);
AT(struct evtchn_op, u, 4);

SIZE(struct sched_poll, 16);
AT(struct sched_poll, nr_ports, 4);
AT(struct sched_poll, timeout, 8);
SIZE(struct vcpu_register_vcpu_info, 16);
AT(struct vcpu_register_vcpu_info, offset, 8);
SIZE(struct xen_hvm_evtchn_upcall_vector, 8);
SIZE(struct xen_hvm_param, 16);
AT(struct xen_hvm_param, value, 8);

/* The two that wasm32's own alignment would move. */
SIZE(struct vcpu_runstate_info, 44);
AT(struct vcpu_runstate_info, state_entry_time, 4);
SIZE(struct vcpu_set_singleshot_timer, 12);

#undef SIZE
#undef AT

#endif
