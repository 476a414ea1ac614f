/*
 * What Linux's /dev/xen/evtchn, gntalloc, gntdev and xenbus do (drivers/xen/evtchn.c, gntalloc.c, gntdev.c,
 * xenbus/xenbus_dev_frontend.c), as a program sees it. One line for each behaviour: "ok" or "DIFFERS", and what it is.
 * Argument: the domain that this runs in. Needs no library of Xen's: layouts are those of the uapi headers.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#ifndef STATIC
#include <pthread.h>
#endif

#define IO(type, nr, size) ((unsigned long)(size) << 16 | (type) << 8 | (nr))
enum { VIRQ_DOM_EXC = 3 };

static int differs;
static void check(const char *what, int holds)
{
    printf("%s %s\n", holds ? "ok" : "DIFFERS", what);
    differs += !holds;
}
static int with(int fd, int nr, int size, uint32_t a, uint32_t b)
{
    uint32_t arg[2] = { a, b };
    return ioctl(fd, IO('E', nr, size), arg);
}
static int bind_virq(int fd, uint32_t virq) { return with(fd, 0, 4, virq, 0); }
static int bind_interdomain(int fd, uint32_t domid, uint32_t port) { return with(fd, 1, 8, domid, port); }
static int bind_unbound(int fd, uint32_t domid) { return with(fd, 2, 4, domid, 0); }
static int unbind(int fd, uint32_t port) { return with(fd, 3, 4, port, 0); }
static int notify(int fd, uint32_t port) { return with(fd, 4, 4, port, 0); }
static int fails(int rc, int error) { return rc == -1 && errno == error; }
static int ready(int fd, int ms)
{
    struct pollfd one = { fd, POLLIN, 0 };
    return poll(&one, 1, ms);
}
/* Takes what waits, and unmasks it. */
static void drain(int fd)
{
    uint32_t port;
    while (ready(fd, 100) == 1 && read(fd, &port, 4) == 4)
        if (write(fd, &port, 4) != 4) exit(3);
}

static void events(int self)
{
    uint32_t port = 0, ports[8];
    int fd = open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    check("evtchn opens, and O_CLOEXEC holds", fd >= 0 && fcntl(fd, F_GETFD) & FD_CLOEXEC);
    check("read of nothing: EAGAIN", fails((int)read(fd, &port, 4), EAGAIN));
    struct pollfd both = { fd, POLLIN | POLLOUT, 0 };
    check("writable at once, not readable", poll(&both, 1, 0) == 1 && both.revents == POLLOUT);
    int a = bind_unbound(fd, self), b = bind_interdomain(fd, self, a);
    check("an unbound port and one bound to it", a > 0 && b > 0 && a != b);
    check("binding fires once on the new port", ready(fd, 2000) == 1 && read(fd, &port, 4) == 4 && (int)port == b);
    check("it stays masked until it is written back", !notify(fd, a) && ready(fd, 100) == 0);
    check("written back, it comes", write(fd, &port, 4) == 4 && ready(fd, 2000) == 1 && read(fd, &port, 4) == 4 && (int)port == b);
    drain((write(fd, &port, 4), fd));
    check("two notifications, one event", !notify(fd, a) && !notify(fd, a) && ready(fd, 2000) == 1 && (usleep(50000), read(fd, ports, 32) == 4));
    drain((write(fd, ports, 4), fd));
    check("two ports in one read", !notify(fd, a) && !notify(fd, b) && (usleep(100000), read(fd, ports, 32) == 8));
    drain((write(fd, ports, 8), fd));
    check("notify of a port of nobody's: ENOTCONN", fails(notify(fd, 999), ENOTCONN));
    check("unbind of a port of nobody's: ENOTCONN", fails(unbind(fd, 999), ENOTCONN));
    check("no such domain: ESRCH", fails(bind_interdomain(fd, 77, 1), ESRCH));
    check("no such VIRQ: EINVAL", fails(bind_virq(fd, 99), EINVAL));
    check("a global VIRQ for a guest is refused", bind_virq(fd, VIRQ_DOM_EXC) == -1);
    check("unknown ioctl: ENOSYS", fails(ioctl(fd, IO('E', 99, 4), &port), ENOSYS));
    check("ioctl with a bad address: EFAULT", fails(ioctl(fd, IO('E', 4, 4), (void *)8), EFAULT));
    check("write of a port of nobody's is ignored", (port = 999, write(fd, &port, 4)) == 4);
    notify(fd, a);
    usleep(50000);
    check("read of 3 bytes: 0", read(fd, &port, 3) == 0);
    check("RESET drops what waits", !ioctl(fd, IO('E', 5, 0)) && ready(fd, 50) == 0);
    port = (uint32_t)b;
    if (write(fd, &port, 4) != 4) exit(3);
    drain(fd);
    check("unbind leaves what waits in the ring", !notify(fd, b) && (usleep(50000), !unbind(fd, a)) && ready(fd, 50) == 1 && read(fd, ports, 32) == 4 && (int)ports[0] == a);
    int copy = dup(fd);
    check("a dup is the same handle, and closing one keeps the other", !unbind(copy, b) && !close(copy) && bind_unbound(fd, self) > 0);
    int restricted = open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC);
    uint16_t domid = 2;
    check("RESTRICT, then another domain: EACCES", !ioctl(restricted, IO('E', 6, 2), &domid) && fails(bind_interdomain(restricted, 1, 1), EACCES));
    check("RESTRICT, then a VIRQ: EACCES", fails(bind_virq(restricted, 0), EACCES));
    close(restricted);
    int poller = epoll_create1(0);
    struct epoll_event event = { .events = EPOLLIN };
    a = bind_unbound(fd, self), b = bind_interdomain(fd, self, a);
    drain(fd);
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    check("epoll tells of an event", !notify(fd, a) && epoll_wait(poller, &event, 1, 2000) == 1);
    drain(fd);
    pid_t child = fork();
    int bad = 0, status = 0;
    for (int i = 0; i < 1000; i++) bad |= notify(fd, a);
    if (!child) _exit(bad != 0);
    waitpid(child, &status, 0);
    check("after fork both use the handle, and answers do not mix", !bad && !status);
    close(fd);
    for (int i = 0; i < 100 && unbind(fd, b) == 0; i++) usleep(1000);
    usleep(100000);
    int again = open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC), low = bind_unbound(again, self);
    check("close frees the ports", low > 0 && low < a);
    close(again);
}

#ifndef STATIC
static void *notifier(void *arg)
{
    int *of = arg;
    for (int i = 0; i < 1000; i++)
        if (notify(of[0], (uint32_t)of[1])) return arg;
    return NULL;
}
static void threads(int self)
{
    int fd = open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC), of[2] = { fd, bind_unbound(fd, self) };
    pthread_t some[4];
    void *failed = NULL, *one;
    bind_interdomain(fd, self, of[1]);
    for (int i = 0; i < 4; i++) pthread_create(&some[i], NULL, notifier, of);
    for (int i = 0; i < 4; i++) pthread_join(some[i], &one), failed = one ? one : failed;
    check("four threads on one handle", !failed);
    int channel[2], status;
    socketpair(AF_UNIX, SOCK_DGRAM, 0, channel);
    char room[CMSG_SPACE(sizeof fd)] = { 0 }, byte = 0;
    struct iovec bytes = { &byte, 1 };
    struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
    if (!fork()) {
        close(fd);
        if (recvmsg(channel[1], &message, 0) != 1) _exit(2);
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
        _exit(notify(fd, (uint32_t)of[1]) || bind_unbound(fd, self) <= 0);
    }
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS, head->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(head), &fd, sizeof fd);
    sendmsg(channel[0], &message, 0);
    wait(&status);
    check("a handle passed by SCM_RIGHTS works in another process", !status);
    close(fd);
}
#endif

/* Pages of this domain, lent to itself: gntalloc makes and maps them, gntdev maps the same ones. */
static void grants(int self)
{
    struct { uint16_t domid, flags; uint32_t count; uint64_t index; uint32_t refs[2]; } alloc = { self, 1, 2, 0, { 0 } };
    int out = open("/dev/xen/gntalloc", O_RDWR | O_CLOEXEC), in = open("/dev/xen/gntdev", O_RDWR | O_CLOEXEC);
    check("gntalloc lends two pages", !ioctl(out, IO('G', 5, 24), &alloc) && alloc.refs[0] >= 8 && alloc.refs[1] != alloc.refs[0]);
    char *ours = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, out, (off_t)alloc.index);
    check("they are mapped, and empty", ours != MAP_FAILED && !ours[0] && !ours[8191]);
    struct { uint32_t count, pad; uint64_t index; struct { uint32_t domid, ref; } refs[2]; } map = { 2, 0, 0, { { self, alloc.refs[0] }, { self, alloc.refs[1] } } };
    check("gntdev maps the same pages", !ioctl(in, IO('G', 0, 24), &map));
    char *theirs = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, in, (off_t)map.index);
    strcpy(ours + 4096, "shared");
    check("what one writes the other reads", theirs != MAP_FAILED && theirs != ours && !strcmp(theirs + 4096, "shared"));
    struct { uint32_t count, pad; uint64_t index; struct { uint32_t domid, ref; } refs[1]; } wrong = { 1, 0, 0, { { self, 400 } } };
    check("a reference that is none: EINVAL", fails(ioctl(in, IO('G', 0, 24), &wrong), EINVAL));
    check("no such domain: EINVAL", (wrong.refs[0].domid = 99, fails(ioctl(in, IO('G', 0, 24), &wrong), EINVAL)));
    struct { uint64_t index; uint32_t action, port; } when = { map.index + 5, 1, 0 };
    theirs[5] = 7;
    check("SET_UNMAP_NOTIFY clears its byte at munmap", !ioctl(in, IO('G', 7, 16), &when) && !munmap(theirs, 8192) && (usleep(50000), ours[5] == 0));
    struct { uint64_t index; uint32_t count, pad; } end = { map.index, 2, 0 };
    check("UNMAP_GRANT_REF, and a second time: EINVAL", !ioctl(in, IO('G', 1, 16), &end) && fails(ioctl(in, IO('G', 1, 16), &end), EINVAL));
    end.index = alloc.index;
    check("DEALLOC_GREF leaves mapped pages as they are", !ioctl(out, IO('G', 6, 16), &end) && !strcmp(ours + 4096, "shared"));
    munmap(ours, 8192);
    close(in), close(out);
}

/* Two users of the store's ring: each gets its own answers, under its own request numbers. */
static void store(void)
{
    struct { uint32_t type, request, transaction, length; char body[64]; } ask = { 2, 7, 0, 6, "domid" }, told;
    int one = open("/dev/xen/xenbus", O_RDWR | O_CLOEXEC), two = open("/dev/xen/xenbus", O_RDWR | O_CLOEXEC);
    check("xenbus takes two users", one >= 0 && two >= 0);
    if (write(one, &ask, 22) != 22 || (ask.request = 8, write(two, &ask, 22)) != 22) exit(3);
    memset(&told, 0, sizeof told);
    check("each reads its own answer", read(two, &told, 16) == 16 && told.request == 8 && told.type == 2 && read(two, told.body, told.length) > 0);
    check("under its own request's number", read(one, &told, 16) == 16 && told.request == 7 && read(one, told.body, told.length) > 0);
    ask.transaction = 12345;
    if (write(one, &ask, 22) != 22) exit(3);
    check("another's transaction: ENOENT", read(one, &told, 16) == 16 && told.type == 16 && read(one, told.body, told.length) == 7 && !strcmp(told.body, "ENOENT"));
    close(one), close(two);
}

int main(int argc, char **argv)
{
    int self = argc > 1 ? atoi(argv[1]) : 1;
    events(self);
#ifndef STATIC
    threads(self);
#endif
    grants(self);
    store();
    return differs;
}
