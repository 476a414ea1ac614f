#define _GNU_SOURCE
/*
 * Stands in for the hypervisor under Xen's own xenstore daemons (C and OCaml), so that they run on any Linux: preloaded, it
 * answers the calls of libxenctrl, libxenevtchn and libxengnttab that the daemons make. Who drives it shares a folder:
 *
 *     $XS_SHIM/control   bytes 0-7: time in ms, little-endian; byte 64 + N: state of domain N (0 none, or RUNS with flags)
 *     $XS_SHIM/ringN     the ring page of domain N
 *     $XS_SHIM/events    unix socket; driver to daemon: EVENT + domid, or VIRQ; daemon to driver: the domid that is
 *                        notified, and each event when it is taken
 *
 * Without $XS_SHIM domains 0 to 9 exist, a ring page is a page of zeros that nobody else sees, and no event ever comes.
 *
 *   cc -shared -fPIC -O2 -o shim.so shim.c && LD_PRELOAD=$PWD/shim.so xenstored -N
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>

enum { DOMAINS = 64, PAGE = 4096, PORTS = 65536 };
enum { RUNS = 1, SHUTDOWN = 2, DYING = 4 };
enum { EVENT = 1u << 16, VIRQ = 1u << 17, VIRQ_PORT = 100, FIRST_PORT = 300 };

static int handle;
static int event_fd = -1;
static unsigned char domain_of[PORTS];
static unsigned int port_of[DOMAINS];
static unsigned int next_port = FIRST_PORT;

/* The folder shared with the driver; NULL if there is none. */
static const char *folder(void)
{
    return getenv("XS_SHIM");
}

/* Opens a file of the folder. Not by open(), which is replaced below. */
static int file_in_folder(const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", folder(), name);
    return (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
}

static volatile uint8_t *control(void)
{
    static uint8_t *page;
    if (!page) {
        int fd = file_in_folder("control");
        page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
    }
    return page;
}

static int state(uint32_t domid)
{
    if (!folder())
        return domid < 10 ? RUNS : 0;
    return domid < DOMAINS ? control()[64 + domid] : 0;
}

static int ring_file(uint32_t domid)
{
    char name[32];
    snprintf(name, sizeof(name), "ring%u", domid);
    return file_in_folder(name);
}

static void *ring_page(uint32_t domid, int prot)
{
    void *page = MAP_FAILED;
    if (!folder()) {
        page = mmap(NULL, PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    } else {
        int fd = ring_file(domid);
        if (fd >= 0) {
            page = mmap(NULL, PAGE, prot, MAP_SHARED, fd, 0);
            close(fd);
        }
    }
    if (page == MAP_FAILED) {
        errno = EINVAL;
        return NULL;
    }
    return page;
}

/* --- time and files ---------------------------------------------------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (clock == CLOCK_MONOTONIC && folder()) {
        uint64_t ms = *(volatile uint64_t *)control();
        now->tv_sec = (time_t)(ms / 1000);
        now->tv_nsec = (long)(ms % 1000) * 1000000;
        return 0;
    }
    return (int)syscall(SYS_clock_gettime, clock, now);
}

/* Linux names domain 0's port and ring page in two files, which only a Linux under Xen has. */
static int special_file(const char *path)
{
    int fd;
    if (!strcmp(path, "/proc/xen/xsd_port")) {
        fd = memfd_create("xsd_port", 0);
        return fd < 0 || pwrite(fd, "1", 1, 0) < 0 ? -1 : fd;
    }
    if (!strcmp(path, "/proc/xen/xsd_kva")) {
        if (folder())
            return ring_file(0);
        fd = memfd_create("xsd_kva", 0);
        return fd < 0 || ftruncate(fd, PAGE) < 0 ? -1 : fd;
    }
    return -2;
}

#define OPEN(name)                                                                                                         \
    int name(const char *path, int flags, ...)                                                                             \
    {                                                                                                                      \
        int fd = special_file(path);                                                                                       \
        va_list rest;                                                                                                      \
        mode_t mode;                                                                                                       \
        if (fd != -2)                                                                                                      \
            return fd;                                                                                                     \
        va_start(rest, flags);                                                                                             \
        mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                                   \
        va_end(rest);                                                                                                      \
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);                                                      \
    }
OPEN(open)
OPEN(open64)

/* The OCaml daemon raises its limit of open files to more than a container allows, and ends if it cannot. */
int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit)
{
    (void)resource, (void)limit;
    return 0;
}

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
    (void)resource, (void)limit;
    return 0;
}

/* --- domains ----------------------------------------------------------------------------------------------------------- */

xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *builder, unsigned flags)
{
    (void)logger, (void)builder, (void)flags;
    return (xc_interface *)&handle;
}

int xc_interface_close(xc_interface *xch)
{
    (void)xch;
    return 0;
}

int xc_version(xc_interface *xch, int command, void *arg)
{
    (void)xch, (void)command, (void)arg;
    return (4 << 16) | 17;
}

const xc_error *xc_get_last_error(xc_interface *xch)
{
    static xc_error error = { .code = XC_INTERNAL_ERROR, .message = "shim" };
    (void)xch;
    return &error;
}

int xc_domain_getinfo(xc_interface *xch, uint32_t first, unsigned int most, xc_dominfo_t *info)
{
    unsigned int n = 0;
    (void)xch;
    for (uint32_t domid = first; domid < DOMAINS && n < most; domid++) {
        int s = state(domid);
        if (!s)
            continue;
        memset(&info[n], 0, sizeof(info[n]));
        info[n].domid = domid;
        info[n].running = s == RUNS;
        info[n].shutdown = !!(s & SHUTDOWN);
        info[n].dying = !!(s & DYING);
        n++;
    }
    if (!n) {
        errno = ESRCH;
        return -1;
    }
    return (int)n;
}

int xc_domain_getinfolist(xc_interface *xch, uint32_t first, unsigned int most, xc_domaininfo_t *info)
{
    unsigned int n = 0;
    (void)xch;
    for (uint32_t domid = first; domid < DOMAINS && n < most; domid++) {
        int s = state(domid);
        if (!s)
            continue;
        memset(&info[n], 0, sizeof(info[n]));
        info[n].domain = (domid_t)domid;
        if (s & SHUTDOWN)
            info[n].flags |= XEN_DOMINF_shutdown;
        if (s & DYING)
            info[n].flags |= XEN_DOMINF_dying;
        n++;
    }
    return (int)n;
}

/* --- pages ------------------------------------------------------------------------------------------------------------- */

void *xc_map_foreign_range(xc_interface *xch, uint32_t domid, int size, int prot, unsigned long mfn)
{
    (void)xch, (void)size, (void)mfn;
    return ring_page(domid, prot);
}

xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger, unsigned flags)
{
    (void)logger, (void)flags;
    return (xengnttab_handle *)&handle;
}

int xengnttab_close(xengnttab_handle *xgt)
{
    (void)xgt;
    return 0;
}

int xengnttab_set_max_grants(xengnttab_handle *xgt, uint32_t count)
{
    (void)xgt, (void)count;
    return 0;
}

void *xengnttab_map_grant_ref(xengnttab_handle *xgt, uint32_t domid, uint32_t ref, int prot)
{
    (void)xgt, (void)ref;
    if (!state(domid) || state(domid) & DYING) {
        errno = EINVAL;
        return NULL;
    }
    return ring_page(domid, prot);
}

int xengnttab_unmap(xengnttab_handle *xgt, void *start, uint32_t count)
{
    (void)xgt;
    return munmap(start, (size_t)PAGE * count);
}

/* --- event channels ---------------------------------------------------------------------------------------------------- */

static void connect_to_driver(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (event_fd >= 0)
        return;
    if (!folder()) {
        event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        return;
    }
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/events", folder());
    event_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(event_fd, (struct sockaddr *)&address, sizeof(address)))
        perror("shim: events");
}

xenevtchn_handle *xenevtchn_open(xentoollog_logger *logger, unsigned flags)
{
    (void)logger, (void)flags;
    connect_to_driver();
    return (xenevtchn_handle *)&handle;
}

xenevtchn_handle *xenevtchn_fdopen(xentoollog_logger *logger, int fd, unsigned flags)
{
    (void)logger, (void)fd, (void)flags;
    connect_to_driver();
    return (xenevtchn_handle *)&handle;
}

int xenevtchn_close(xenevtchn_handle *xce)
{
    (void)xce;
    return 0;
}

int xenevtchn_fd(xenevtchn_handle *xce)
{
    (void)xce;
    return event_fd;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce, uint32_t domid, evtchn_port_t remote)
{
    unsigned int port = next_port++;
    (void)xce, (void)remote;
    if (next_port == PORTS)
        next_port = FIRST_PORT;
    if (domid < DOMAINS) {
        domain_of[port] = (unsigned char)domid;
        port_of[domid] = port;
    }
    return (int)port;
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *xce, unsigned int virq)
{
    (void)xce, (void)virq;
    return VIRQ_PORT;
}

int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port)
{
    uint32_t domid = domain_of[port % PORTS];
    (void)xce;
    if (folder())
        send(event_fd, &domid, sizeof(domid), MSG_NOSIGNAL);
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
    uint32_t event;
    (void)xce;
    if (!folder()) {
        errno = EAGAIN;
        return -1;
    }
    /* The driver is gone, and with it the world. */
    if (recv(event_fd, &event, sizeof(event), MSG_WAITALL) != sizeof(event))
        _exit(0);
    /* The daemon takes one event each time round its loop, so the driver cannot know when by itself. */
    send(event_fd, &event, sizeof(event), MSG_NOSIGNAL);
    return event & VIRQ ? VIRQ_PORT : (int)port_of[event & (DOMAINS - 1)];
}

int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t port)
{
    (void)xce, (void)port;
    return 0;
}

int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port)
{
    (void)xce, (void)port;
    return 0;
}
