/*
 * xenshim.so: /dev/xen without Xen. Preloaded, it turns opens of those paths into connections to `evtchn hostd`, which owns
 * the hypervisor. MIT; own code.
 *
 *     EVTCHN_HOST=FOLDER EVTCHN_DOMID=1 LD_PRELOAD=xenshim.so PROGRAM        (what `evtchn run` sets)
 *
 * Interposed: opening (open, openat, fopen, access, stat), ioctl, mmap and munmap. Nothing else is: see wire.h. (xenpaths.c
 * moves the folders of Xen's tools.) Pages are
 * pages of one file, FOLDER/machine, which hostd lays under its WebAssembly.Memory, so that sharing is real. A bad pointer
 * in an ioctl is EFAULT, as the kernel says, for it is copied by the kernel.
 */
#include "wire.h"
#include "paths.h"
#include <dlfcn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define MOST_MAPPED 1024
#define MOST_PAGES 1024

/* Copies between the program's memory and ours; false is EFAULT. Where the call is forbidden, it is a plain copy. */
static bool copy_user(void *ours, const void *theirs, size_t length, bool out)
{
    if (!length) return true;
    struct iovec local = { ours, length }, remote = { (void *)theirs, length };
    ssize_t done = out ? process_vm_writev(getpid(), &local, 1, &remote, 1, 0)
                       : process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
    if (done == (ssize_t)length) return true;
    if (done < 0 && (errno == ENOSYS || errno == EPERM)) {
        memcpy(out ? (void *)theirs : ours, out ? ours : theirs, length);
        return true;
    }
    errno = EFAULT;
    return false;
}

/* The file that is the machine's memory. */
static int machine(void)
{
    static int fd = -1;
    if (fd < 0) {
        char path[512];
        snprintf(path, sizeof path, "%s/machine", wire_folder());
        fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    }
    return fd;
}

/* --- opening --------------------------------------------------------------------------------------------------------- */

static int open_at(int folder, const char *path, int flags, mode_t mode)
{
    char room[PATHS_MOST];
    int kind = wire_kind(path);
    /* libxc tries the old path when the new one fails; there is none. */
    if (!kind || !strcmp(path, "/proc/xen/privcmd")) return (int)syscall(SYS_openat, folder, moved(path, room), flags, mode);
    int fd = wire_open((char)kind, path, (flags & O_CLOEXEC) != 0, getpid());
    if (fd >= 0 && flags & O_NONBLOCK) fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

#define MODE(flags)                                     \
    mode_t mode = 0;                                    \
    if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) { \
        va_list list;                                   \
        va_start(list, flags);                          \
        mode = va_arg(list, mode_t);                    \
        va_end(list);                                   \
    }

int open(const char *path, int flags, ...)
{
    MODE(flags)
    return open_at(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...)
{
    MODE(flags)
    return open_at(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}
int openat(int folder, const char *path, int flags, ...)
{
    MODE(flags)
    return open_at(folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...)
{
    MODE(flags)
    return open_at(folder, path, flags | O_LARGEFILE, mode);
}
int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags | O_LARGEFILE, 0); }

int access(const char *path, int mode)
{
    char room[PATHS_MOST];
    if (wire_kind(path)) return 0;
    return (int)syscall(SYS_faccessat, AT_FDCWD, moved(path, room), mode);
}

FILE *fopen(const char *path, const char *mode)
{
    static FILE *(*real)(const char *, const char *);
    if (!real) real = (FILE * (*)(const char *, const char *)) dlsym(RTLD_NEXT, "fopen");
    char room[PATHS_MOST];
    if (wire_kind(path) != 'F') return real(moved(path, room), mode);
    int fd = wire_open('F', path, 0, getpid());
    return fd < 0 ? NULL : fdopen(fd, "r");
}
FILE *fopen64(const char *path, const char *mode) { return fopen(path, mode); }

/* libxenstore looks whether its path is a socket; a device it opens. */
int stat(const char *path, struct stat *out)
{
    char room[PATHS_MOST];
    int kind = wire_kind(path);
    if (!kind) return (int)syscall(SYS_newfstatat, AT_FDCWD, moved(path, room), out, 0);
    memset(out, 0, sizeof *out);
    out->st_mode = (kind == 'F' ? S_IFREG : S_IFCHR) | 0600;
    return 0;
}
int stat64(const char *path, struct stat64 *out) { return stat(path, (struct stat *)out); }

/* --- pages ----------------------------------------------------------------------------------------------------------- */

/* What is mapped of a device, so that munmap can tell hostd: grants end, peers are notified. */
static struct {
    char *at;
    size_t bytes;
    int fd;
} mapped[MOST_MAPPED];

static void *raw_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    return (void *)syscall(SYS_mmap, at, size, prot, flags, fd, offset);
}

static void remember(char *at, size_t bytes, int fd)
{
    for (int i = 0; i < MOST_MAPPED; i++)
        if (__sync_bool_compare_and_swap(&mapped[i].at, NULL, at)) {
            mapped[i].bytes = bytes;
            /* The program may close its fd and keep the pages. */
            mapped[i].fd = fcntl(fd, F_DUPFD_CLOEXEC, 900);
            return;
        }
}

/* Pages of the machine at `at`, one by one: they need not be neighbours there. */
static bool lay(char *at, const uint32_t *frames, size_t pages, int prot)
{
    for (size_t i = 0; i < pages; i++)
        if (raw_mmap(at + WIRE_PAGE * i, WIRE_PAGE, prot, MAP_SHARED | MAP_FIXED, machine(),
                     (off_t)frames[i] * WIRE_PAGE) == MAP_FAILED)
            return false;
    return true;
}

void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    char kind = flags & MAP_ANONYMOUS || fd < 0 ? 0 : wire_device(fd);
    if (!kind) return raw_mmap(at, size, prot, flags, fd, offset);
    int place = MAP_PRIVATE | MAP_ANONYMOUS | (flags & MAP_FIXED);
    /* A buffer for hypercalls; or room for foreign pages, which IOCTL_PRIVCMD_MMAPBATCH fills. */
    if (kind == 'H') return raw_mmap(at, size, prot, place, -1, 0);
    if (kind == 'P') return raw_mmap(at, size, PROT_NONE, place, -1, 0);
    size_t pages = (size + WIRE_PAGE - 1) / WIRE_PAGE;
    uint32_t frames[MOST_PAGES];
    char *room = raw_mmap(at, size, PROT_NONE, place, -1, 0);
    if (room == MAP_FAILED) return room;
    uint64_t ask[3] = { (uint64_t)offset, pages, (uintptr_t)room };
    if (pages > MOST_PAGES ||
        wire_call(fd, getpid(), WIRE_MMAP, 0, ask, sizeof ask, frames, sizeof frames) < 0 ||
        !lay(room, frames, pages, prot)) {
        syscall(SYS_munmap, room, size);
        errno = EINVAL;
        return MAP_FAILED;
    }
    remember(room, pages * WIRE_PAGE, fd);
    return room;
}
void *mmap64(void *at, size_t size, int prot, int flags, int fd, off64_t offset)
{
    return mmap(at, size, prot, flags, fd, offset);
}

int munmap(void *at, size_t size)
{
    int rc = (int)syscall(SYS_munmap, at, size);
    for (int i = 0; !rc && at && i < MOST_MAPPED; i++) {
        char *from = mapped[i].at;
        /* All of it went, alone or with its neighbours; a part that is left keeps the grant in use. */
        if (!from || from < (char *)at || from + mapped[i].bytes > (char *)at + (size + WIRE_PAGE - 1) / WIRE_PAGE * WIRE_PAGE) continue;
        uint64_t va = (uintptr_t)from;
        wire_call(mapped[i].fd, getpid(), WIRE_MUNMAP, 0, &va, sizeof va, NULL, 0);
        close(mapped[i].fd);
        mapped[i].at = NULL;
    }
    return rc;
}

/* --- ioctl ----------------------------------------------------------------------------------------------------------- */

struct mmapbatch {
    uint32_t num;
    uint16_t domid;
    uint64_t addr;
    uint64_t *frames;
    int32_t *errors; /* of V2 only */
};

/* IOCTL_PRIVCMD_MMAPBATCH (3) and _V2 (4): hostd answers with a frame of the machine or -errno for each page. */
static int mmapbatch(int fd, uint32_t nr, char *arg)
{
    struct mmapbatch batch = { 0 };
    bool bad = false;
    if (!copy_user(&batch, arg, nr == 4 ? 32 : 24, false)) return -1;
    for (uint32_t i = 0; i < batch.num; i += 256) {
        uint32_t count = batch.num - i > 256 ? 256 : batch.num - i;
        uint64_t ask[257] = { batch.domid };
        int32_t frames[256];
        if (!copy_user(ask + 1, batch.frames + i, 8 * count, false)) return -1;
        if (wire_call(fd, getpid(), WIRE_IOCTL, 'P' << 8 | nr, ask, 8 * (count + 1), frames, sizeof frames) < 0) return -1;
        for (uint32_t k = 0; k < count; k++) {
            uint32_t frame = (uint32_t)frames[k];
            bool there = frames[k] >= 0 && lay((char *)batch.addr + (size_t)WIRE_PAGE * (i + k), &frame, 1, PROT_READ | PROT_WRITE);
            int32_t error = there ? 0 : frames[k] < 0 ? frames[k] : -EFAULT;
            bad |= !there;
            if (nr == 4 && !copy_user(&error, batch.errors + i + k, 4, true)) return -1;
            uint64_t marked = ask[1 + k] | 0xf0000000u;
            if (nr == 3 && !there && !copy_user(&marked, batch.frames + i + k, 8, true)) return -1;
        }
    }
    if (!bad) return 0;
    errno = EINVAL;
    return -1;
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    va_start(list, request);
    char *arg = va_arg(list, char *);
    va_end(list);
    char type = (char)(request >> 8), kind = 0, bytes[WIRE_PAYLOAD];
    uint32_t nr = request & 0xff, fixed = request >> 16 & 0x3fff, in, back, head[4] = { 0 };
    /* Xen's ioctls have no direction bits. Only then is it worth asking what the fd is. */
    if ((type == 'E' || type == 'G' || type == 'P' || type == 'B') && !(request >> 30)) kind = wire_device(fd);
    if (!kind) return (int)syscall(SYS_ioctl, fd, request, arg);
    if (kind == 'P' && (nr == 3 || nr == 4)) return mmapbatch(fd, nr, arg);
    if (!copy_user(head, arg, fixed < sizeof head ? fixed : sizeof head, false)) return -1;
    wire_sizes(kind, nr, head, fixed, &in, &back);
    if (in > sizeof bytes || back > sizeof bytes) {
        errno = EINVAL;
        return -1;
    }
    if (!copy_user(bytes, arg, in, false)) return -1;
    long rc = wire_call(fd, getpid(), WIRE_IOCTL, (uint32_t)type << 8 | nr, bytes, in, bytes, back);
    if (rc < 0) return -1;
    /* evtchn's ioctls return in rc alone. */
    if (kind != 'E' && !copy_user(bytes, arg, back, true)) return -1;
    /* RESET: what was on its way in the socket goes, too. */
    if (kind == 'E' && nr == 5)
        while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) {}
    return (int)rc;
}

/* oxenstored asks for more open files than a container may have, and ends if it is refused. */
int setrlimit(__rlimit_resource_t what, const struct rlimit *limit)
{
    long rc = syscall(SYS_prlimit64, 0, what, limit, NULL);
    return rc && errno == EPERM && what == RLIMIT_NOFILE ? 0 : (int)rc;
}
int setrlimit64(__rlimit_resource_t what, const struct rlimit64 *limit)
{
    return setrlimit(what, (const struct rlimit *)limit);
}
