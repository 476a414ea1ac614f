/*
 * xenrun PROGRAM ARGUMENT…: what xenshim.so does, for programs that do not go through libc's open and ioctl: static ones, Go.
 * MIT; own code. Seccomp user notification: opens of /dev/xen/ and Xen's ioctls stop the program, and this process does
 * them in its place; everything else runs at full speed. Needs no privilege, and Linux 5.14 or later.
 *
 *     program ──open, ioctl──▶ kernel ──notification──▶ xenrun ──wire.h──▶ hostd
 *        └──read, write, poll, mmap──▶ its fd: a socket, or the file of the machine's memory
 *
 * Nobody can map a page into another process. So the fd of gntdev and gntalloc is the machine's file itself, opened under
 * a name of its own by which an ioctl knows the device, and the index that they return is an offset in that file. Pages
 * under one index must be neighbours then: several grants at once that are not are refused (EINVAL). Foreign pages by
 * privcmd are refused, too; its hypercalls work.
 */
#include "wire.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF_EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)

#ifdef SYS_open
#define OLD_OPEN SYS_open
#else
#define OLD_OPEN SYS_openat
#endif

/* openat and open always; ioctl if it has no direction bits and type E, G or P. */
static struct sock_filter filter[] = {
    LOAD(nr),
    IF_EQUAL(SYS_openat, 8, 0),
    IF_EQUAL(OLD_OPEN, 7, 0),
    IF_EQUAL(SYS_ioctl, 0, 5),
    LOAD(args[1]),
    BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xc000ff00u),
    IF_EQUAL('E' << 8, 3, 0),
    IF_EQUAL('G' << 8, 2, 0),
    IF_EQUAL('P' << 8, 1, 0),
    RETURN(SECCOMP_RET_ALLOW),
    RETURN(SECCOMP_RET_USER_NOTIF),
};

/* Devices whose fd is the machine's file: the socket to hostd behind each, by the number in its name. */
#define MOST_FILES 256
#define MOST_INDEXES 1024
static struct {
    int socket;
    char kind;
} files[MOST_FILES];
static int nr_files;
/* What an index of the program's stands for at hostd. */
static struct {
    int file;
    uint64_t theirs;
    uint64_t index;
} indexes[MOST_INDEXES];
static int nr_indexes;

static ssize_t peer(pid_t pid, uint64_t at, void *bytes, size_t length, bool out)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t done = out ? pwrite(fd, bytes, length, (off_t)at) : pread(fd, bytes, length, (off_t)at);
    close(fd);
    return done;
}

/* The machine's file under the name FOLDER/device.N, which goes at once: the kernel still tells it of the fd. */
static int open_file(char kind, int socket, int cloexec)
{
    char from[512], to[512];
    if (nr_files == MOST_FILES) {
        errno = EMFILE;
        return -1;
    }
    snprintf(from, sizeof from, "%s/machine", wire_folder());
    snprintf(to, sizeof to, "%s/device.%d.%d", wire_folder(), getpid(), nr_files);
    if (link(from, to)) return -1;
    int fd = open(to, O_RDWR | (cloexec ? O_CLOEXEC : 0));
    unlink(to);
    if (fd < 0) return -1;
    files[nr_files].socket = socket;
    files[nr_files++].kind = kind;
    return fd;
}

/* Which of `files` an fd of ours is; -1: none. */
static int file_of(int fd)
{
    char path[64], name[600], expected[600];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(path, name, sizeof name - 1);
    if (length < 0) return -1;
    name[length] = 0;
    const char *dot = strstr(name, "/device.");
    int pid, file;
    if (!dot || sscanf(dot, "/device.%d.%d", &pid, &file) != 2 || pid != getpid() || file < 0 || file >= nr_files) return -1;
    snprintf(expected, sizeof expected, "/device.%d.%d", pid, file);
    return strncmp(dot, expected, strlen(expected)) ? -1 : file;
}

static void put_u64(char *at, uint64_t value) { memcpy(at, &value, sizeof value); }
static uint64_t get_u64(const char *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Replaces the index that hostd gave by the place of the pages in the file, if they are neighbours there. */
static int to_file_offset(int file, char *index_at, uint32_t count)
{
    uint32_t frames[1024];
    uint64_t index = get_u64(index_at), ask[3] = { index, count, index + 1 };
    int socket = files[file].socket;
    bool neighbours = nr_indexes < MOST_INDEXES && count <= 1024 &&
                      wire_call(socket, getpid(), WIRE_MMAP, 0, ask, sizeof ask, frames, sizeof frames) >= 0;
    for (uint32_t i = 1; neighbours && i < count; i++) neighbours = frames[i] == frames[0] + i;
    /* hostd cannot see what the program maps: for it they are not mapped. */
    wire_call(socket, getpid(), WIRE_MUNMAP, 0, &ask[2], 8, NULL, 0);
    if (!neighbours) {
        char end[16] = { 0 };
        put_u64(end, index);
        memcpy(end + 8, &count, 4);
        wire_call(socket, getpid(), WIRE_IOCTL, 'G' << 8 | (files[file].kind == 'G' ? 1 : 6), end, 16, end, 16);
        return -EINVAL;
    }
    indexes[nr_indexes].file = file;
    indexes[nr_indexes].theirs = (uint64_t)frames[0] * WIRE_PAGE;
    indexes[nr_indexes++].index = index;
    put_u64(index_at, (uint64_t)frames[0] * WIRE_PAGE);
    return 0;
}

/* hostd's index for the program's; an offset within a page stays. */
static void from_file_offset(int file, char *index_at)
{
    uint64_t theirs = get_u64(index_at);
    for (int i = nr_indexes; i-- > 0;)
        if (indexes[i].file == file && theirs >= indexes[i].theirs && theirs - indexes[i].theirs < 1024 * WIRE_PAGE) {
            put_u64(index_at, indexes[i].index + (theirs - indexes[i].theirs));
            return;
        }
}

/* An ioctl on a device, its argument in the program's memory. Returns its result, or -errno. */
static long serve_ioctl(int fd, int file, pid_t pid, uint32_t request, uint64_t arg)
{
    char bytes[WIRE_PAYLOAD];
    uint32_t head[4] = { 0 }, in, back, nr = request & 0xff, fixed = request >> 16 & 0x3fff;
    char kind = file >= 0 ? files[file].kind : wire_device(fd);
    uint32_t first = fixed < sizeof head ? fixed : sizeof head;
    if (first && peer(pid, arg, head, first, false) != (ssize_t)first) return -EFAULT;
    wire_sizes(kind, nr, head, fixed, &in, &back);
    if (in > sizeof bytes || back > sizeof bytes) return -EINVAL;
    if (in && peer(pid, arg, bytes, in, false) != (ssize_t)in) return -EFAULT;
    if (kind == 'P' && (nr == 3 || nr == 4)) return -EOPNOTSUPP;
    bool by_index = file >= 0 && ((kind == 'G' && (nr == 1 || nr == 7)) || (kind == 'A' && (nr == 6 || nr == 7)));
    if (by_index) from_file_offset(file, bytes);
    int socket = file >= 0 ? files[file].socket : fd;
    long rc = wire_call(socket, pid, WIRE_IOCTL, (request >> 8 & 0xff) << 8 | nr, bytes, in, bytes, back);
    if (rc < 0) return -errno;
    if (file >= 0 && ((kind == 'G' && nr == 0) || (kind == 'A' && nr == 5))) {
        int error = to_file_offset(file, bytes + 8, kind == 'G' ? head[0] : head[1]);
        if (error) return error;
    }
    if (kind != 'E' && !by_index && back && peer(pid, arg, bytes, back, true) != (ssize_t)back) return -EFAULT;
    if (kind == 'E' && nr == 5)
        while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) {}
    return rc;
}

/* Opens a device for the program and puts the fd into it. False: the path is none of ours. */
static bool serve_open(int notify, const struct seccomp_notif *event, struct seccomp_notif_resp *reply)
{
    char path[64] = { 0 };
    int at = event->data.nr == SYS_openat, flags = (int)event->data.args[at + 1];
    if (peer((pid_t)event->pid, event->data.args[at], path, sizeof path - 1, false) <= 0) return false;
    char kind = (char)wire_kind(path);
    if (!kind) return false;
    int fd = wire_open(kind, path, 1, (pid_t)event->pid);
    if (fd >= 0 && (kind == 'G' || kind == 'A')) {
        int file = open_file(kind, fd, 1);
        if (file < 0) close(fd);
        fd = file;
    }
    reply->flags = 0;
    if (fd < 0) {
        reply->error = -errno;
        return true;
    }
    if (flags & O_NONBLOCK) fcntl(fd, F_SETFL, O_NONBLOCK);
    struct seccomp_notif_addfd add = { event->id, SECCOMP_ADDFD_FLAG_SEND, (uint32_t)fd, 0, (uint32_t)(flags & O_CLOEXEC) };
    /* The number of the fd is the answer; it is sent with it. */
    if (ioctl(notify, SECCOMP_IOCTL_NOTIF_ADDFD, &add) < 0) reply->error = -errno;
    else reply->id = 0;
    close(fd);
    return true;
}

/* A duplicate of the program's fd; a thread's pid needs its process (Linux before 6.9) or PIDFD_THREAD. */
static int borrow(pid_t pid, int fd)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) pidfd = (int)syscall(SYS_pidfd_open, pid, O_EXCL);
    if (pidfd < 0) {
        char path[64], line[128];
        snprintf(path, sizeof path, "/proc/%d/status", pid);
        FILE *status = fopen(path, "re");
        while (status && fgets(line, sizeof line, status))
            if (!strncmp(line, "Tgid:", 5)) pidfd = (int)syscall(SYS_pidfd_open, atoi(line + 5), 0);
        if (status) fclose(status);
    }
    int own = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
    close(pidfd);
    return own;
}

static void serve(int notify)
{
    struct seccomp_notif event = { 0 };
    if (ioctl(notify, SECCOMP_IOCTL_NOTIF_RECV, &event)) return;
    struct seccomp_notif_resp reply = { event.id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE };
    if (event.data.nr != SYS_ioctl) serve_open(notify, &event, &reply);
    else {
        int fd = borrow((pid_t)event.pid, (int)event.data.args[0]), file = fd < 0 ? -1 : file_of(fd);
        if (fd >= 0 && (file >= 0 || wire_device(fd))) {
            long rc = serve_ioctl(fd, file, (pid_t)event.pid, (uint32_t)event.data.args[1], event.data.args[2]);
            reply.flags = 0;
            reply.error = rc < 0 ? (int)rc : 0;
            reply.val = rc < 0 ? 0 : rc;
        }
        if (fd >= 0) close(fd);
    }
    if (reply.id) ioctl(notify, SECCOMP_IOCTL_NOTIF_SEND, &reply);
}

/* The program: it installs the filter, hands the notifications' fd over, and runs. */
static void child(int channel, char **argv)
{
    struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    char taken;
    int fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (fd < 0 || write(channel, &fd, sizeof fd) != sizeof fd || read(channel, &taken, 1) != 1) {
        perror("xenrun: seccomp");
        _exit(126);
    }
    close(fd);
    execvp(argv[0], argv);
    perror(argv[0]);
    _exit(127);
}

int main(int argc, char **argv)
{
    int channel[2], theirs, status;
    if (argc < 2 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel)) {
        fprintf(stderr, "usage: xenrun PROGRAM [ARGUMENT…]\n");
        return 2;
    }
    pid_t pid = fork();
    if (!pid) child(channel[1], argv + 1);
    close(channel[1]);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (read(channel[0], &theirs, sizeof theirs) != sizeof theirs) return 126;
    int notify = (int)syscall(SYS_pidfd_getfd, pidfd, theirs, 0);
    if (notify < 0 || write(channel[0], "", 1) != 1) {
        perror("xenrun: pidfd_getfd");
        return 126;
    }
    for (;;) {
        struct pollfd on[2] = { { notify, POLLIN, 0 }, { pidfd, POLLIN, 0 } };
        poll(on, 2, -1);
        if (on[0].revents & POLLIN) serve(notify);
        else if (on[1].revents & POLLIN) break;
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
