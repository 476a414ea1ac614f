#define _GNU_SOURCE
/*
 * Stands in for the hypervisor under the C xenstored, so that it runs on any Linux: preloaded, it answers the calls of
 * libxenctrl, libxenevtchn and libxengnttab that the daemon makes. Domains 0 to 9 exist; a granted page is a page of
 * zeros that nobody else sees, and so is domain 0's ring; event channels never fire. Enough for a daemon that is spoken to over its socket.
 *
 *   cc -shared -fPIC -O2 -o shim.so shim.c && LD_PRELOAD=$PWD/shim.so xenstored -N
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>

#define DOMAINS 10

static int handle;
static int event_fd = -1;

/* Linux tells the daemon domain 0's port and ring page in two files, which only a Linux under Xen has. */
static int file_of(const char *name, const char *text, off_t size)
{
    int fd = memfd_create(name, 0);
    if (fd < 0 || ftruncate(fd, size) < 0 || pwrite(fd, text, strlen(text), 0) < 0)
        return -1;
    return fd;
}

int open(const char *path, int flags, ...)
{
    static int (*real)(const char *, int, ...);
    va_list rest;
    mode_t mode;
    if (!strcmp(path, "/proc/xen/xsd_port"))
        return file_of("xsd_port", "1", 1);
    if (!strcmp(path, "/proc/xen/xsd_kva"))
        return file_of("xsd_kva", "", 4096);
    if (!real)
        real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    va_start(rest, flags);
    mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return real(path, flags, mode);
}

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

int xc_domain_getinfo(xc_interface *xch, uint32_t first, unsigned int most, xc_dominfo_t *info)
{
    unsigned int n = 0;
    (void)xch;
    for (; n < most && first + n < DOMAINS; n++) {
        memset(&info[n], 0, sizeof(info[n]));
        info[n].domid = first + n;
        info[n].running = 1;
    }
    return (int)n;
}

xenevtchn_handle *xenevtchn_open(xentoollog_logger *logger, unsigned flags)
{
    (void)logger, (void)flags;
    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return (xenevtchn_handle *)&handle;
}

xenevtchn_handle *xenevtchn_fdopen(xentoollog_logger *logger, int fd, unsigned flags)
{
    (void)logger, (void)flags;
    event_fd = fd;
    return (xenevtchn_handle *)&handle;
}

int xenevtchn_fd(xenevtchn_handle *xce)
{
    (void)xce;
    return event_fd;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce, uint32_t domid, evtchn_port_t port)
{
    (void)xce, (void)port;
    return domid + 1;
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *xce, unsigned int virq)
{
    (void)xce;
    return 100 + virq;
}

int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port)
{
    (void)xce, (void)port;
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
    (void)xce;
    errno = EAGAIN;
    return -1;
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
    void *page;
    (void)xgt, (void)ref;
    if (domid >= DOMAINS) {
        errno = EINVAL;
        return NULL;
    }
    page = mmap(NULL, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? NULL : page;
}

int xengnttab_unmap(xengnttab_handle *xgt, void *start, uint32_t count)
{
    (void)xgt;
    return munmap(start, 4096UL * count);
}
