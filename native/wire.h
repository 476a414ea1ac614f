/*
 * The way from a program to `evtchn hostd`: what xenshim.c (preloaded) and xenrun.c (a supervisor) share. MIT.
 *
 *     program                                        hostd
 *     fd of a device  == unix stream socket ==>  requests, unmasks, bytes of the store's protocol
 *                     <==                        ports that fired, bytes of the store's protocol
 *     answer socket   <== one per thread         answers to requests
 *
 * The fd that a program gets for a device is a unix socket, named "\0evtchn.KIND.PID.N". So read, write, poll, epoll, dup,
 * fork and passing it to another process are the kernel's own. An ioctl is a request on that same socket, which keeps its
 * order with write(); its answer comes on a socket of the thread that asked, so threads and forks do not mix.
 *
 *     request   | MAGIC+op:4 | pid:4 | answer socket:8 | cmd:4 | length:4 | payload …
 *     answer    | rc:4 | length:4 | payload …
 *
 * Numbers and layouts are facts of Xen's public headers and Linux's uapi; nothing is included from either.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef EVTCHN_WIRE_H
#define EVTCHN_WIRE_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define WIRE_MAGIC 0xE7C40000u /* no port is that high, and no message of the store begins with it */
#define WIRE_PAYLOAD 8192u     /* the largest payload of a request */
#define WIRE_PAGE 4096u

enum wire_op { WIRE_ANSWERS = 0, WIRE_OPEN, WIRE_IOCTL, WIRE_MMAP, WIRE_FILE, WIRE_MUNMAP };

struct wire_request {
    uint32_t op;
    uint32_t pid;
    uint64_t answer_to;
    uint32_t cmd;
    uint32_t length;
};
struct wire_answer {
    int32_t rc;
    uint32_t length;
};

/* Paths, and the letter that stands for the device: evtchn, gntdev, gntalloc, privcmd, hypercall buffer, xenbus, store page,
 * small file. */
static const struct {
    const char *path;
    char kind;
} WIRE_PATHS[] = {
    { "/dev/xen/evtchn", 'E' },   { "/dev/xen/gntdev", 'G' },    { "/dev/xen/gntalloc", 'A' },  { "/dev/xen/privcmd", 'P' },
    { "/proc/xen/privcmd", 'P' }, { "/dev/xen/hypercall", 'H' }, { "/dev/xen/xenbus", 'X' },    { "/proc/xen/xenbus", 'X' },
    { "/proc/xen/xsd_kva", 'K' }, { "/dev/xen/xsd_kva", 'K' },   { "/proc/xen/xsd_port", 'F' }, { "/dev/xen/xsd_port", 'F' },
    { "/proc/xen/capabilities", 'F' },
};

static inline int wire_kind(const char *path)
{
    if (!path || (strncmp(path, "/dev/xen/", 9) && strncmp(path, "/proc/xen/", 10))) return 0;
    for (size_t i = 0; i < sizeof WIRE_PATHS / sizeof *WIRE_PATHS; i++)
        if (!strcmp(path, WIRE_PATHS[i].path)) return WIRE_PATHS[i].kind;
    return 0;
}

static inline const char *wire_folder(void)
{
    const char *folder = getenv("EVTCHN_HOST");
    return folder ? folder : "/run/evtchn";
}

/* Sends or receives all of it. A program may have made the socket non-blocking: then a full buffer is waited for. */
static inline int wire_all(int fd, void *bytes, size_t length, int out)
{
    for (char *at = bytes; length;) {
        ssize_t done = out ? send(fd, at, length, MSG_NOSIGNAL) : recv(fd, at, length, MSG_WAITALL);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0 && errno == EAGAIN && out) {
            usleep(50);
            continue;
        }
        if (done <= 0) {
            if (!done) errno = EIO;
            return -1;
        }
        at += done;
        length -= (size_t)done;
    }
    return 0;
}

/* A named socket to hostd; ENOENT without one, as on a machine without Xen. */
static inline int wire_dial(char kind, int cloexec)
{
    static uint32_t count;
    struct sockaddr_un own = { .sun_family = AF_UNIX }, to = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | (cloexec ? SOCK_CLOEXEC : 0), 0);
    if (fd < 0) return -1;
    int named = snprintf(own.sun_path + 1, sizeof own.sun_path - 1, "evtchn.%c.%d.%u", kind, getpid(),
                         __sync_fetch_and_add(&count, 1));
    int length = snprintf(to.sun_path, sizeof to.sun_path, "%s/host.sock", wire_folder());
    if (length < 0 || (size_t)length >= sizeof to.sun_path ||
        bind(fd, (void *)&own, (socklen_t)(sizeof(sa_family_t) + 1 + (size_t)named)) ||
        connect(fd, (void *)&to, sizeof to)) {
        close(fd);
        errno = ENOENT;
        return -1;
    }
    return fd;
}

static __thread int wire_answers = -1;
static __thread pid_t wire_answers_pid;
static __thread uint64_t wire_answers_id;
static pthread_key_t wire_key;
static pthread_once_t wire_once = PTHREAD_ONCE_INIT;

/* A thread ends: so does its answer socket. */
static inline void wire_thread_ends(void *fd_plus_1) { close((int)(intptr_t)fd_plus_1 - 1); }
static inline void wire_make_key(void) { pthread_key_create(&wire_key, wire_thread_ends); }

/* hostd reads and writes the memory of a process that makes hypercalls. Where only a parent may (yama), it is allowed to. */
static inline void wire_allow_hostd(int fd)
{
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length))
        prctl(PR_SET_PTRACER, (unsigned long)peer.pid, 0, 0, 0);
}

/*
 * When hostd ends, so does the program: a daemon whose event channels have all hung up would spin. A socket that never
 * carries a byte tells it, by the signal that a hang-up sends.
 */
static inline void wire_end_with_hostd(void)
{
    static pid_t done;
    if (done == getpid()) return;
    done = getpid();
    int fd = wire_dial('L', 1);
    if (fd < 0) return;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 900);
    if (high >= 0) {
        close(fd);
        fd = high;
    }
    fcntl(fd, F_SETOWN, getpid());
    fcntl(fd, F_SETSIG, SIGTERM);
    fcntl(fd, F_SETFL, O_ASYNC);
}

/* This thread's answer socket; a forked child makes its own. */
static inline int wire_answer_socket(void)
{
    if (wire_answers >= 0 && wire_answers_pid == getpid()) return wire_answers;
    int fd = wire_dial('C', 1);
    if (fd < 0) return -1;
    /* Out of the way of programs that close or count low numbers. */
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 900);
    if (high >= 0) {
        close(fd);
        fd = high;
    }
    wire_allow_hostd(fd);
    wire_end_with_hostd();
    uint64_t id;
    if (getrandom(&id, sizeof id, 0) != sizeof id) id = (uint64_t)getpid() << 32 | (uint64_t)syscall(SYS_gettid);
    struct wire_request hello = { WIRE_MAGIC | WIRE_ANSWERS, (uint32_t)getpid(), id, 0, 0 };
    struct wire_answer answer;
    if (wire_all(fd, &hello, sizeof hello, 1) || wire_all(fd, &answer, sizeof answer, 0)) {
        close(fd);
        return -1;
    }
    wire_answers = fd;
    wire_answers_pid = getpid();
    wire_answers_id = id;
    pthread_once(&wire_once, wire_make_key);
    pthread_setspecific(wire_key, (void *)(intptr_t)(fd + 1));
    return fd;
}

/*
 * One request on `fd`, for process `pid`; the answer's payload goes to `out`, at most `room` bytes. Returns the answer's
 * rc, or -1 with errno. All of both are this program's own buffers.
 */
static inline long wire_call(int fd, pid_t pid, enum wire_op op, uint32_t cmd, const void *in, uint32_t length, void *out,
                             uint32_t room)
{
    char bytes[sizeof(struct wire_request) + WIRE_PAYLOAD];
    struct wire_answer answer;
    int answers = wire_answer_socket();
    if (answers < 0) return -1;
    if (length > WIRE_PAYLOAD) {
        errno = E2BIG;
        return -1;
    }
    struct wire_request head = { WIRE_MAGIC | op, (uint32_t)pid, wire_answers_id, cmd, length };
    memcpy(bytes, &head, sizeof head);
    if (length) memcpy(bytes + sizeof head, in, length);
    if (wire_all(fd, bytes, sizeof head + length, 1) || wire_all(answers, &answer, sizeof answer, 0)) return -1;
    if (answer.length > room) {
        errno = EPROTO;
        return -1;
    }
    if (answer.length && wire_all(answers, out, answer.length, 0)) return -1;
    if (answer.rc < 0) {
        errno = -answer.rc;
        return -1;
    }
    return answer.rc;
}

/* Which device an fd is, by its name; 0 for any other fd. */
static inline char wire_device(int fd)
{
    struct sockaddr_un name;
    socklen_t length = sizeof name;
    if (fd < 0 || getsockname(fd, (void *)&name, &length) || name.sun_family != AF_UNIX || length < 12 ||
        memcmp(name.sun_path, "\0evtchn.", 8))
        return 0;
    return name.sun_path[8];
}

static inline int wire_domid(void)
{
    const char *domid = getenv("EVTCHN_DOMID");
    return domid ? atoi(domid) : 0;
}

/* Opens a device for process `pid`. A small file becomes a memfd with its text. */
static inline int wire_open(char kind, const char *path, int cloexec, pid_t pid)
{
    uint32_t hello[2] = { (uint32_t)kind, (uint32_t)wire_domid() };
    char text[256];
    int fd = wire_dial(kind, cloexec);
    if (fd < 0) return -1;
    long rc = wire_call(fd, pid, WIRE_OPEN, 0, hello, sizeof hello, NULL, 0);
    if (rc >= 0 && kind == 'F') {
        rc = wire_call(fd, pid, WIRE_FILE, 0, path, (uint32_t)strlen(path) + 1, text, sizeof text);
        if (rc >= 0) {
            int file = memfd_create("xen", cloexec ? MFD_CLOEXEC : 0);
            if (file >= 0 && pwrite(file, text, (size_t)rc, 0) == rc) {
                close(fd);
                return file;
            }
            rc = -1;
        }
    }
    if (rc < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* How many bytes the argument of an ioctl has, going in and coming back; `head` are its first bytes. */
static inline void wire_sizes(char kind, uint32_t nr, const uint32_t *head, uint32_t fixed, uint32_t *in, uint32_t *back)
{
    *in = *back = fixed;
    if (kind == 'G' && nr == 0) *in = 16 + 8 * head[0];        /* IOCTL_GNTDEV_MAP_GRANT_REF: refs[count] */
    if (kind == 'G' && nr == 8) *in = 16;                      /* IOCTL_GNTDEV_GRANT_COPY: a pointer */
    if (kind == 'A' && nr == 5) *back = 16 + 4 * head[1];      /* IOCTL_GNTALLOC_ALLOC_GREF: gref_ids[count] */
}

#endif
