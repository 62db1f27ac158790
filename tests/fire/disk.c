/* A disk that goes wrong at one moment. Loaded before the C library (LD_PRELOAD), it counts what a
 * process changes below one folder, and at the change with one number it does what it was told to.
 *
 * FIRE_FOLDER  the folder, absolute
 * FIRE_AT      number of the change, from 1; 0: none, for counting
 * FIRE_HOW     full      a write takes half of its bytes, then the disk is full until the end
 *              io        the change fails with an input/output error, once
 *              readonly  this change and all after it: read-only file system
 *              denied    this change and all after it: permission denied
 *              device    a rename goes to another file system; other changes work
 *              kill      the process is killed before the change
 *              torn      a write takes half of its bytes, then the process is killed
 * FIRE_COUNT   file that gets the number of changes when the process ends by itself
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum how { NOTHING, FULL, IO, READONLY, DENIED, DEVICE, KILL, TORN };
enum what { WRITE, SYNC, RENAME, REMOVE, OPEN, CUT };

static char folder[PATH_MAX];
static size_t folder_length;
static long at;
static enum how how;
static atomic_long changes;

__attribute__((constructor)) static void begin(void) {
    static const char *const names[] = {"",       "full",   "io",   "readonly",
                                        "denied", "device", "kill", "torn"};
    const char *value = getenv("FIRE_FOLDER");
    if (!value) return;
    snprintf(folder, sizeof folder, "%s", value);
    folder_length = strlen(folder);
    if ((value = getenv("FIRE_AT"))) at = atol(value);
    if ((value = getenv("FIRE_HOW")))
        for (int name = 1; name < 8; name++)
            if (!strcmp(value, names[name])) how = (enum how)name;
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("FIRE_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "%ld\n", atomic_load(&changes));
    fclose(file);
}

static int below(const char *path) {
    if (!folder_length || !path) return 0;
    char whole[PATH_MAX];
    if (path[0] != '/') {
        char here[PATH_MAX];
        if (!getcwd(here, sizeof here)) return 0;
        if (snprintf(whole, sizeof whole, "%s/%s", here, path) >= (int)sizeof whole) return 0;
        path = whole;
    }
    return !strncmp(path, folder, folder_length) &&
           (path[folder_length] == '/' || !path[folder_length]);
}

static int file_below(int file) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = folder_length ? readlink(link, path, sizeof path - 1) : -1;
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

/* The error that the change meets; 0: none; -1: half of the bytes are taken. */
static int meets(enum what what) {
    long number = atomic_fetch_add(&changes, 1) + 1;
    if (!at || number < at || how == NOTHING) return 0;
    if (number == at) {
        switch (how) {
        case KILL: raise(SIGKILL); break;
        case TORN:
            if (what == WRITE) return -1;
            raise(SIGKILL);
            break;
        case FULL:
            return what == WRITE ? -1 : what == OPEN ? ENOSPC : 0;
        case IO: return EIO;
        default: break;
        }
    }
    switch (how) {
    case FULL: return what == WRITE || what == OPEN ? ENOSPC : 0;
    case READONLY: return EROFS;
    case DENIED: return EACCES;
    case DEVICE: return what == RENAME ? EXDEV : 0;
    default: return 0;
    }
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void *bytes, size_t length) {
    if (!file_below(file)) return REAL(write)(file, bytes, length);
    int error = meets(WRITE);
    if (error > 0) return errno = error, -1;
    if (error < 0 && length > 1) length /= 2;
    ssize_t written = REAL(write)(file, bytes, length);
    if (error < 0 && how == TORN) raise(SIGKILL);
    return written;
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    if (!file_below(file)) return REAL(writev)(file, parts, count);
    int error = meets(WRITE);
    if (error > 0) return errno = error, -1;
    if (error < 0) {
        ssize_t written = REAL(write)(file, parts[0].iov_base, (parts[0].iov_len + 1) / 2);
        if (how == TORN) raise(SIGKILL);
        return written;
    }
    return REAL(writev)(file, parts, count);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t place) {
    if (!file_below(file)) return REAL(pwrite64)(file, bytes, length, place);
    int error = meets(WRITE);
    if (error > 0) return errno = error, -1;
    if (error < 0 && length > 1) length /= 2;
    ssize_t written = REAL(pwrite64)(file, bytes, length, place);
    if (error < 0 && how == TORN) raise(SIGKILL);
    return written;
}

/* Copies within the kernel would not be counted; callers fall back to reading and writing. */
ssize_t copy_file_range(int from, off64_t *from_place, int to, off64_t *to_place, size_t length,
                        unsigned flags) {
    if (!file_below(to))
        return REAL(copy_file_range)(from, from_place, to, to_place, length, flags);
    return errno = ENOSYS, -1;
}

ssize_t sendfile64(int to, int from, off64_t *place, size_t length) {
    static ssize_t (*real)(int, int, off64_t *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "sendfile64");
    if (!file_below(to)) return real(to, from, place, length);
    return errno = ENOSYS, -1;
}

static int change(enum what what, int here) {
    int error = here ? meets(what) : 0;
    if (error > 0) return errno = error, -1;
    return 0;
}

int fsync(int file) {
    return change(SYNC, file_below(file)) ? -1 : REAL(fsync)(file);
}

int fdatasync(int file) {
    return change(SYNC, file_below(file)) ? -1 : REAL(fdatasync)(file);
}

int ftruncate64(int file, off64_t length) {
    return change(CUT, file_below(file)) ? -1 : REAL(ftruncate64)(file, length);
}

int rename(const char *from, const char *to) {
    return change(RENAME, below(to)) ? -1 : REAL(rename)(from, to);
}

int unlink(const char *path) {
    return change(REMOVE, below(path)) ? -1 : REAL(unlink)(path);
}

int rmdir(const char *path) {
    return change(REMOVE, below(path)) ? -1 : REAL(rmdir)(path);
}

int unlinkat(int place, const char *path, int flags) {
    return change(REMOVE, file_below(place)) ? -1 : REAL(unlinkat)(place, path, flags);
}

int mkdir(const char *path, mode_t mode) {
    return change(OPEN, below(path)) ? -1 : REAL(mkdir)(path, mode);
}

static int changes_by_opening(int flags) {
    return (flags & (O_CREAT | O_TRUNC)) || (flags & O_ACCMODE) != O_RDONLY;
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    if (change(OPEN, changes_by_opening(flags) && below(path))) return -1;
    return REAL(open64)(path, flags, mode);
}
