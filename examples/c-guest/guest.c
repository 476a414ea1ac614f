/*
 * What this guest does with its events:
 *
 *     echo     answers each event on the channel it came from
 *     burst    masks itself at the first event; what follows merges until it is unmasked
 *     timer    VIRQ_TIMER: sends an IPI
 *     ipi      unmasks the burst channels
 *
 * Everything marked EXPORT is called by the loader, which plays the part of the processor: it starts the guest, and
 * enters `upcall` when the hypervisor says so.
 */
#include "events.h"
#include "hypercall.h"

#define EXPORT(name) __attribute__((export_name(#name)))

/* Frame 0 stays empty, frame 1 holds shared_info: the program begins after them. */
#define FIRST_FREE_FRAME 2

enum kind { ECHO, BURST };
enum flags { OWN_VCPU_INFO = 1 };

static int timer_port, ipi_port;
static unsigned long failures;

static evtchn_port_t throttled[EVTCHN_2L_NR_CHANNELS];
static unsigned int throttled_count;

static void must(int rc)
{
    if (rc < 0)
        failures++;
}

static void on_echo(evtchn_port_t port)
{
    must(events_notify(port));
}

static void on_burst(evtchn_port_t port)
{
    events_mask(port);
    throttled[throttled_count++] = port;
}

static void on_timer(evtchn_port_t port)
{
    (void)port;
    must(events_notify((evtchn_port_t)ipi_port));
}

static void on_ipi(evtchn_port_t port)
{
    unsigned int i, count = throttled_count;

    (void)port;
    throttled_count = 0;
    for (i = 0; i < count; i++)
        must(events_unmask(throttled[i]));
}

static events_handler_t handler_of(enum kind kind)
{
    return kind == BURST ? on_burst : on_echo;
}

/* Opens a port that was bound, and hands it on. */
static int opened(int port)
{
    int rc;

    if (port < 0)
        return port;
    rc = events_unmask((evtchn_port_t)port);
    return rc < 0 ? rc : port;
}

/* Opens the doors. An IPI that was sent before waits behind them, and comes in exactly once. */
static int announce(void)
{
    must(events_notify((evtchn_port_t)ipi_port));
    if (events_handled((evtchn_port_t)ipi_port) != 0)
        return -XEN_EIO;
    events_enable();
    return events_handled((evtchn_port_t)ipi_port) == 1 ? 0 : -XEN_EIO;
}

/* Returns 0, or -errno of what failed first. */
EXPORT(boot) int boot(unsigned long shared_info_gfn, unsigned int flags)
{
    char on_stack = 0;
    int rc;

    if ((uintptr_t)&on_stack < FIRST_FREE_FRAME * PAGE_SIZE || (uintptr_t)throttled < FIRST_FREE_FRAME * PAGE_SIZE)
        return -XEN_ENOMEM;
    failures = throttled_count = 0;
    events_init((struct shared_info *)(shared_info_gfn * PAGE_SIZE));
    if (flags & OWN_VCPU_INFO) {
        rc = events_move_vcpu_info();
        if (rc < 0)
            return rc;
    }
    timer_port = events_bind_virq(VIRQ_TIMER, on_timer);
    if (timer_port < 0)
        return timer_port;
    ipi_port = events_bind_ipi(on_ipi);
    if (ipi_port < 0)
        return ipi_port;
    must(opened(timer_port));
    must(opened(ipi_port));
    return announce();
}

/* A crashed kernel's successor: closes every channel of the domain, then starts from the beginning. */
EXPORT(reboot) int reboot(unsigned long shared_info_gfn)
{
    struct evtchn_reset op = { .dom = DOMID_SELF };
    int rc = event_channel_op(EVTCHNOP_reset, &op);

    return rc < 0 ? rc : boot(shared_info_gfn, 0);
}

EXPORT(upcall) void upcall(void)
{
    events_upcall();
}

EXPORT(offer) int offer(unsigned int remote, unsigned int kind)
{
    return opened(events_offer((domid_t)remote, handler_of(kind)));
}

EXPORT(connect) int connect(unsigned int remote, evtchn_port_t remote_port, unsigned int kind)
{
    return opened(events_connect((domid_t)remote, remote_port, handler_of(kind)));
}

EXPORT(close) int close(evtchn_port_t port)
{
    return events_close(port);
}

/* Goes to sleep unless the port is pending. 0 says only that it was woken or never slept; -errno. */
EXPORT(poll) int poll(evtchn_port_t port)
{
    return events_poll(port, 0);
}

/* Peer's domain in bits 31:16, its port in bits 15:0; -errno unless the channel is connected. */
EXPORT(peer_of) int peer_of(evtchn_port_t port)
{
    struct evtchn_status op = { .dom = DOMID_SELF, .port = port };
    int rc = event_channel_op(EVTCHNOP_status, &op);

    if (rc < 0)
        return rc;
    if (op.status != EVTCHNSTAT_interdomain)
        return -XEN_ENOTCONN;
    return (int)(((unsigned int)op.u.interdomain.dom << 16) | op.u.interdomain.port);
}

EXPORT(timer_port) int get_timer_port(void)
{
    return timer_port;
}

EXPORT(ipi_port) int get_ipi_port(void)
{
    return ipi_port;
}

EXPORT(handled) unsigned long handled(evtchn_port_t port)
{
    return events_handled(port);
}

EXPORT(stray) unsigned long stray(void)
{
    return events_stray();
}

EXPORT(failures) unsigned long get_failures(void)
{
    return failures;
}
