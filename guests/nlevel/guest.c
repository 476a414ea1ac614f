/* SPDX-License-Identifier: MIT */
/*
 * A guest that registers two, three or four levels, counts its events, and makes its channels again after a migration. The
 * loader plays the processor: it calls `boot`, and `upcall` when the hypervisor says so.
 */
#include "tree.h"

#define EXPORT(name) __attribute__((export_name(#name)))

/* What a channel is, so that it can be made again on another host. */
enum kind { NONE, OFFERED, IPI };
struct channel {
    uint8_t kind;
    uint16_t remote;
};

static struct tree tree;
static struct channel channels[MAX_PORTS];
static uint32_t counts[MAX_PORTS];
static uint32_t strays, lost;
/* A handler's nested scan would be a scan within a scan: the outer one sees the flag. */
static int scanning;

static void handle(uint32_t port)
{
    if (channels[port].kind == NONE)
        strays++;
    counts[port]++;
}

EXPORT(upcall) void upcall(void)
{
    if (scanning)
        return;
    scanning = 1;
    tree_scan(&tree, handle);
    scanning = 0;
}

/* Masks all, registers, lets upcalls in. Returns how many channels there are, or -errno: then it is on two levels. */
EXPORT(boot) int boot(uint32_t shared_info_gfn, uint32_t levels, uint32_t nr_pages, uint32_t gfn)
{
    int rc = 0;

    scanning = 1; /* between two forms there is nothing to scan (NL-reg-5) */
    tree_two_levels(&tree, (void *)(uintptr_t)(shared_info_gfn * PAGE_SIZE));
    if (levels > 2)
        rc = tree_register(&tree, levels, nr_pages, gfn);
    tree.info->evtchn_upcall_mask = 0;
    scanning = 0;
    upcall(); /* registering raised the flag and every selector bit (NL-sel-3) */
    return rc < 0 ? rc : (int)tree.nr_channels;
}

/* How many channels this host grants to a full tree; on an older host 0, or -errno. */
EXPORT(query) int query(void)
{
    struct evtchn_query_nlevel2 op = { .dom = DOMID_SELF };
    int rc = event_channel_op(EVTCHNOP_query_nlevel2, &op);

    return rc < 0 ? rc : (int)op.nr_channels;
}

EXPORT(unmask) int unmask(uint32_t port)
{
    struct evtchn_port op = { .port = port };

    return event_channel_op(EVTCHNOP_unmask, &op);
}

static int make(uint8_t kind, uint16_t remote)
{
    struct evtchn_alloc_unbound offer = { .dom = DOMID_SELF, .remote_dom = remote };
    struct evtchn_bind_ipi ipi = { .vcpu = 0 };
    int rc = kind == IPI ? event_channel_op(EVTCHNOP_bind_ipi, &ipi) : event_channel_op(EVTCHNOP_alloc_unbound, &offer);
    uint32_t port = kind == IPI ? ipi.port : offer.port;

    if (rc < 0)
        return rc;
    if (port >= tree.max_evtchns || port >= MAX_PORTS)
        return -28; /* ENOSPC */
    channels[port] = (struct channel){ .kind = kind, .remote = remote };
    rc = unmask(port);
    return rc < 0 ? rc : (int)port;
}

/* A port that `remote` may bind to; it is masked until it is the guest's. */
EXPORT(offer) int offer(uint32_t remote)
{
    return make(OFFERED, (uint16_t)remote);
}

EXPORT(bind_ipi) int bind_ipi(void)
{
    return make(IPI, 0);
}

EXPORT(send) int send(uint32_t port)
{
    struct evtchn_port op = { .port = port };

    return event_channel_op(EVTCHNOP_send, &op);
}

EXPORT(mask) void mask(uint32_t port)
{
    tree_mask(&tree, port);
}

EXPORT(close) int close(uint32_t port)
{
    struct evtchn_port op = { .port = port };
    int rc;

    tree_mask(&tree, port);
    rc = event_channel_op(EVTCHNOP_close, &op);
    if (rc == 0)
        channels[port].kind = NONE;
    return rc;
}

/* Ready to move: the domain stops here, and goes on in `resume`. */
EXPORT(suspend) int suspend(void)
{
    uint32_t reason = SHUTDOWN_suspend;

    return hypercall(HYPERVISOR_sched_op, SCHEDOP_shutdown, (uint32_t)(uintptr_t)&reason);
}

/*
 * On another host, after a cooperative migration: two levels and no channels. Registers again, or takes two levels, and
 * makes the channels again in the order of their numbers. Those that do not fit are counted (NL-mig-2).
 */
EXPORT(resume) int resume(uint32_t shared_info_gfn, uint32_t levels, uint32_t nr_pages, uint32_t gfn)
{
    int rc = boot(shared_info_gfn, levels, nr_pages, gfn);

    lost = 0;
    for (uint32_t port = 1; port < MAX_PORTS; port++) {
        struct channel was = channels[port];

        channels[port].kind = NONE;
        if (was.kind != NONE && make(was.kind, was.remote) < 0)
            lost++;
    }
    return rc;
}

EXPORT(levels) int get_levels(void)
{
    return (int)tree.levels;
}
EXPORT(pending) int pending(uint32_t port)
{
    return tree_is_pending(&tree, port);
}
EXPORT(handled) uint32_t handled(uint32_t port)
{
    return port < MAX_PORTS ? counts[port] : 0;
}
EXPORT(stray) uint32_t stray(void)
{
    return strays;
}
EXPORT(lost) uint32_t get_lost(void)
{
    return lost;
}
