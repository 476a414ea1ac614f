/* The part of xenshim.so that moves the folders of Xen's tools (paths.h), but for opening, which xenshim.c has. MIT. */
#define _GNU_SOURCE
#include "paths.h"
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <glob.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* Functions of one path. */
#define ONE(type, name, parameters, call)               \
    type name parameters                                \
    {                                                   \
        char room[PATHS_MOST];                          \
        const char *to = moved(path, room);             \
        return (type)call;                              \
    }

ONE(int, mkdir, (const char *path, mode_t mode), syscall(SYS_mkdirat, AT_FDCWD, to, mode))
ONE(int, unlink, (const char *path), syscall(SYS_unlinkat, AT_FDCWD, to, 0))
ONE(int, rmdir, (const char *path), syscall(SYS_unlinkat, AT_FDCWD, to, AT_REMOVEDIR))
ONE(int, lstat, (const char *path, struct stat *out), syscall(SYS_newfstatat, AT_FDCWD, to, out, AT_SYMLINK_NOFOLLOW))
ONE(int, lstat64, (const char *path, struct stat64 *out), syscall(SYS_newfstatat, AT_FDCWD, to, out, AT_SYMLINK_NOFOLLOW))
ONE(int, chmod, (const char *path, mode_t mode), syscall(SYS_fchmodat, AT_FDCWD, to, mode))
ONE(int, chown, (const char *path, uid_t user, gid_t group), syscall(SYS_fchownat, AT_FDCWD, to, user, group, 0))
ONE(int, execv, (const char *path, char *const argv[]), execve(to, argv, environ))

int execvp(const char *path, char *const argv[])
{
    static int (*real)(const char *, char *const[]);
    char room[PATHS_MOST];
    if (!real) real = (int (*)(const char *, char *const[]))dlsym(RTLD_NEXT, "execvp");
    return real(moved(path, room), argv);
}

DIR *opendir(const char *path)
{
    static DIR *(*real)(const char *);
    char room[PATHS_MOST];
    if (!real) real = (DIR * (*)(const char *)) dlsym(RTLD_NEXT, "opendir");
    return real(moved(path, room));
}

int rename(const char *from, const char *to)
{
    char from_room[PATHS_MOST], to_room[PATHS_MOST];
    return (int)syscall(SYS_renameat2, AT_FDCWD, moved(from, from_room), AT_FDCWD, moved(to, to_room), 0);
}

int link(const char *from, const char *to)
{
    char from_room[PATHS_MOST], to_room[PATHS_MOST];
    return (int)syscall(SYS_linkat, AT_FDCWD, moved(from, from_room), AT_FDCWD, moved(to, to_room), 0);
}

/* What it finds has the names where the files really are. */
int glob(const char *pattern, int flags, int (*error)(const char *, int), glob_t *found)
{
    static int (*real)(const char *, int, int (*)(const char *, int), glob_t *);
    char room[PATHS_MOST];
    if (!real) real = (int (*)(const char *, int, int (*)(const char *, int), glob_t *))dlsym(RTLD_NEXT, "glob");
    return real(moved(pattern, room), flags, error, found);
}

/* A unix socket's name in a moved folder. */
static int with_address(int (*call)(int, const struct sockaddr *, socklen_t), int fd, const struct sockaddr *at, socklen_t size)
{
    struct sockaddr_un other = { .sun_family = AF_UNIX };
    char room[PATHS_MOST], path[sizeof other.sun_path + 1] = { 0 };
    if (!at || at->sa_family != AF_UNIX || size <= sizeof(sa_family_t)) return call(fd, at, size);
    memcpy(path, ((const struct sockaddr_un *)at)->sun_path, size - sizeof(sa_family_t));
    const char *to = moved(path, room);
    if (to == path || strlen(to) >= sizeof other.sun_path) return call(fd, at, size);
    strcpy(other.sun_path, to);
    return call(fd, (struct sockaddr *)&other, sizeof other);
}
static int raw_bind(int fd, const struct sockaddr *at, socklen_t size) { return (int)syscall(SYS_bind, fd, at, size); }
static int raw_connect(int fd, const struct sockaddr *at, socklen_t size)
{
    static int (*real)(int, const struct sockaddr *, socklen_t);
    if (!real) real = (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
    return real(fd, at, size);
}
int bind(int fd, const struct sockaddr *at, socklen_t size) { return with_address(raw_bind, fd, at, size); }
int connect(int fd, const struct sockaddr *at, socklen_t size) { return with_address(raw_connect, fd, at, size); }
