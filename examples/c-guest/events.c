/*
 * The driver. The contract it keeps (see the comments in Xen's public xen.h and event_channel.h):
 *
 *     Xen sets     pending bit, then, if unmasked, the word's bit in evtchn_pending_sel, then evtchn_upcall_pending
 *     the guest    clears them in the opposite order, each before it looks at the next
 *
 * so whatever arrives in between is found either by this scan or by the upcall that it raises. The accesses are atomic:
 * in this single-threaded build the compiler makes plain loads and stores of them.
 */
#include "events.h"
#include "hypercall.h"

#define WORD_BITS (8 * sizeof(xen_ulong_t))
#define WORDS (EVTCHN_2L_NR_CHANNELS / WORD_BITS)

#define LOAD(at) __atomic_load_n(at, __ATOMIC_SEQ_CST)
#define STORE(at, value) __atomic_store_n(at, value, __ATOMIC_SEQ_CST)
#define TAKE(at) __atomic_exchange_n(at, 0, __ATOMIC_SEQ_CST)
#define SET_BITS(at, bits) __atomic_fetch_or(at, bits, __ATOMIC_SEQ_CST)
#define CLEAR_BITS(at, bits) __atomic_fetch_and(at, ~(bits), __ATOMIC_SEQ_CST)

static struct {
    events_handler_t handler;
    unsigned long handled;
} ports[EVTCHN_2L_NR_CHANNELS];

static unsigned long stray;
static struct shared_info *shared;
static struct vcpu_info *cpu;

/* Where events_move_vcpu_info puts it. 64 bytes, so that no page boundary can cut it. */
static struct vcpu_info own_cpu __attribute__((aligned(64)));

static xen_ulong_t *pending_word(evtchn_port_t port)
{
    return &shared->evtchn_pending[port / WORD_BITS];
}

static xen_ulong_t *mask_word(evtchn_port_t port)
{
    return &shared->evtchn_mask[port / WORD_BITS];
}

static xen_ulong_t bit_of(evtchn_port_t port)
{
    return (xen_ulong_t)1 << (port % WORD_BITS);
}

void events_init(struct shared_info *shared_info)
{
    unsigned int i;

    shared = shared_info;
    /* A vcpu_info that was registered stays where it is until the domain is reset by its toolstack. */
    if (cpu != &own_cpu)
        cpu = &shared->vcpu_info[0];
    events_disable();
    for (i = 0; i < WORDS; i++) {
        STORE(&shared->evtchn_mask[i], ~(xen_ulong_t)0);
        STORE(&shared->evtchn_pending[i], 0);
    }
    STORE(&cpu->evtchn_pending_sel, 0);
    STORE(&cpu->evtchn_upcall_pending, 0);
    for (i = 0; i < EVTCHN_2L_NR_CHANNELS; i++) {
        ports[i].handler = NULL;
        ports[i].handled = 0;
    }
    stray = 0;
}

int events_move_vcpu_info(void)
{
    struct vcpu_register_vcpu_info area = {
        .mfn = (uintptr_t)&own_cpu / PAGE_SIZE,
        .offset = (uintptr_t)&own_cpu % PAGE_SIZE,
    };
    int rc = vcpu_op(VCPUOP_register_vcpu_info, 0, &area);

    if (rc == 0)
        cpu = &own_cpu;
    return rc;
}

void events_disable(void)
{
    STORE(&cpu->evtchn_upcall_mask, 1);
}

void events_enable(void)
{
    STORE(&cpu->evtchn_upcall_mask, 0);
    /* What came while upcalls were disabled raises none by itself: give Xen an occasion to look. */
    if (LOAD(&cpu->evtchn_upcall_pending))
        xen_version();
}

/* Remembers who handles a port that Xen has just bound. */
static int bound(int rc, evtchn_port_t port, events_handler_t handler)
{
    if (rc < 0)
        return rc;
    if (port >= EVTCHN_2L_NR_CHANNELS)
        return -XEN_EINVAL;
    ports[port].handler = handler;
    ports[port].handled = 0;
    return (int)port;
}

int events_offer(domid_t remote, events_handler_t handler)
{
    struct evtchn_alloc_unbound op = { .dom = DOMID_SELF, .remote_dom = remote };
    int rc = event_channel_op(EVTCHNOP_alloc_unbound, &op);

    return bound(rc, op.port, handler);
}

int events_connect(domid_t remote, evtchn_port_t remote_port, events_handler_t handler)
{
    struct evtchn_bind_interdomain op = { .remote_dom = remote, .remote_port = remote_port };
    int rc = event_channel_op(EVTCHNOP_bind_interdomain, &op);

    return bound(rc, op.local_port, handler);
}

int events_bind_virq(unsigned int virq, events_handler_t handler)
{
    struct evtchn_bind_virq op = { .virq = virq, .vcpu = 0 };
    int rc = event_channel_op(EVTCHNOP_bind_virq, &op);

    return bound(rc, op.port, handler);
}

int events_bind_ipi(events_handler_t handler)
{
    struct evtchn_bind_ipi op = { .vcpu = 0 };
    int rc = event_channel_op(EVTCHNOP_bind_ipi, &op);

    return bound(rc, op.port, handler);
}

int events_close(evtchn_port_t port)
{
    struct evtchn_close op = { .port = port };

    if (port >= EVTCHN_2L_NR_CHANNELS)
        return -XEN_EINVAL;
    /* Masked first, for Xen leaves the mask bit as it is and the number may soon be somebody else's. */
    events_mask(port);
    ports[port].handler = NULL;
    return event_channel_op(EVTCHNOP_close, &op);
}

int events_notify(evtchn_port_t port)
{
    struct evtchn_send op = { .port = port };

    return event_channel_op(EVTCHNOP_send, &op);
}

void events_mask(evtchn_port_t port)
{
    SET_BITS(mask_word(port), bit_of(port));
}

int events_unmask(evtchn_port_t port)
{
    struct evtchn_unmask op = { .port = port };

    CLEAR_BITS(mask_word(port), bit_of(port));
    if (!(LOAD(pending_word(port)) & bit_of(port)))
        return 0;
    /* It fired while masked: no upcall is under way. Xen raises one, but only for a port that it finds masked. */
    events_mask(port);
    return event_channel_op(EVTCHNOP_unmask, &op);
}

int events_poll(evtchn_port_t port, uint64_t timeout_ns)
{
    struct sched_poll op = { .nr_ports = 1, .timeout = timeout_ns };

    set_xen_guest_handle(op.ports, &port);
    return sched_op(SCHEDOP_poll, &op);
}

static void serve_port(evtchn_port_t port)
{
    xen_ulong_t bit = bit_of(port);

    /* A handler that ran since the word was read may have masked it. */
    if (LOAD(mask_word(port)) & bit)
        return;
    if (!(CLEAR_BITS(pending_word(port), bit) & bit))
        return;
    if (ports[port].handler) {
        ports[port].handled++;
        ports[port].handler(port);
    } else
        stray++;
}

/* Each round takes what the word shows and serves all of it before looking again: no port can starve its neighbours. */
static void serve_word(unsigned int word)
{
    xen_ulong_t due;

    while ((due = LOAD(&shared->evtchn_pending[word]) & ~LOAD(&shared->evtchn_mask[word])) != 0)
        for (; due; due &= due - 1)
            serve_port(word * WORD_BITS + (unsigned int)__builtin_ctzl(due));
}

void events_upcall(void)
{
    do {
        /* Xen enters a PV guest with upcalls disabled; doing it again does no harm. */
        events_disable();
        while (TAKE(&cpu->evtchn_upcall_pending)) {
            xen_ulong_t words = TAKE(&cpu->evtchn_pending_sel);

            for (; words; words &= words - 1)
                serve_word((unsigned int)__builtin_ctzl(words));
        }
        STORE(&cpu->evtchn_upcall_mask, 0);
    } while (LOAD(&cpu->evtchn_upcall_pending));
}

unsigned long events_handled(evtchn_port_t port)
{
    return port < EVTCHN_2L_NR_CHANNELS ? ports[port].handled : 0;
}

unsigned long events_stray(void)
{
    return stray;
}
