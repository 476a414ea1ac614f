/*
 * Folders of Xen's tools in a place of their own: with EVTCHN_PATHS=FOLDER, what a program opens below /etc/xen, /var/lib/xen,
 * /var/run/xen, /run/xen, /var/log/xen and /var/lock is below FOLDER/etc/xen and so on. So `evtchn xl` writes nothing to /etc
 * or /var, needs no root, and two hosts do not meet. MIT; own code.
 */
#ifndef EVTCHN_PATHS_H
#define EVTCHN_PATHS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATHS_MOST 4096

static inline const char *moved(const char *path, char room[PATHS_MOST])
{
    static const struct {
        const char *from, *to;
    } FOLDERS[] = {
        { "/etc/xen", "/etc/xen" },         { "/var/lib/xen", "/var/lib/xen" }, { "/var/run/xen", "/run/xen" },
        { "/run/xen", "/run/xen" },         { "/var/log/xen", "/var/log/xen" }, { "/var/lock", "/var/lock" },
        /* oxenstored's socket is where all look for it: in the host's own folder. */
        { "/var/run/xenstored", "/.." },    { "/run/xenstored", "/.." },        { "/var/run/xenstored.pid", "/run/xenstored.pid" },
    };
    const char *folder = path && *path == '/' ? getenv("EVTCHN_PATHS") : NULL;
    if (!folder) return path;
    for (size_t i = 0; i < sizeof FOLDERS / sizeof *FOLDERS; i++) {
        size_t length = strlen(FOLDERS[i].from);
        if (strncmp(path, FOLDERS[i].from, length) || (path[length] && path[length] != '/')) continue;
        int made = snprintf(room, PATHS_MOST, "%s%s%s", folder, FOLDERS[i].to, path + length);
        return made > 0 && made < PATHS_MOST ? room : path;
    }
    return path;
}

#endif
