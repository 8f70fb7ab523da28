/* Writes down what a program does to the files under one directory: the input of a power loss.
 *
 * Preloaded into appm by tests/it/powerloss.rs. Environment:
 *   POWERLOSS_ROOT     the directory (absolute, no trailing slash)
 *   POWERLOSS_JOURNAL  where to write it down; lies outside of the directory, shared by all processes
 *   POWERLOSS_BOOT_ID  a file that is opened instead of /proc/sys/kernel/random/boot_id
 *
 * A record is `@TYPE A B C LENGTH\n`, LENGTH bytes and `\n`, written by one writev(2) to an O_APPEND descriptor:
 *   W ino offset -   bytes written            T ino size -   truncated or extended
 *   O ino - -        path of a new file       M ino - -      path of a new directory
 *   R - - -          old path, tab, new path  L - - -        the same for a hard link
 *   U - - -          path removed             Y ino - -      synced (a file or a directory)
 *
 * A lock is held over each call and its record, so that the order of the records is the order of the calls, and a sync
 * covers exactly the records before it. A call whose record is missing because the process was killed in between was
 * not acknowledged to anybody. Nothing is remembered: the kernel is asked what a descriptor is (so dup, fork and exec
 * need no care). Writes through mmap (SQLite's -shm, which is rebuilt at every start), splice (logs, which need no durability)
 * and raw syscalls are not seen; the test compares the whole journal with the real files to prove that none matters.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define NEXT(result, name, ...)                                  \
    static result (*next)(__VA_ARGS__);                          \
    if (!next) next = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

/* A child of a multi-threaded process must not find the lock held by a thread that it does not have. */
static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }
__attribute__((constructor)) static void prepare(void) { pthread_atfork(before_fork, after_fork, after_fork); }

static const char *root(void) { return getenv("POWERLOSS_ROOT"); }

static void record(char type, unsigned long a, long b, const void *bytes, size_t length) {
    const char *journal = getenv("POWERLOSS_JOURNAL");
    int saved = errno;
    int fd = syscall(SYS_openat, AT_FDCWD, journal, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    char head[96];
    int n = snprintf(head, sizeof head, "@%c %lu %ld 0 %zu\n", type, a, b, length);
    struct iovec parts[3] = {{head, n}, {(void *)bytes, length}, {"\n", 1}};
    if (fd < 0 || syscall(SYS_writev, fd, parts, 3) != (long)(n + length + 1)) {
        static const char text[] = "powerloss shim: the journal cannot be written\n";
        syscall(SYS_write, 2, text, sizeof text - 1);
        abort();
    }
    syscall(SYS_close, fd);
    errno = saved;
}

static int inside(const char *path) {
    const char *r = root();
    size_t n = r ? strlen(r) : 0;
    return n && !strncmp(path, r, n) && (path[n] == '/' || path[n] == 0);
}

/* The inode of a file or directory under the root, or 0. */
static unsigned long tracked(int fd) {
    char link[64], path[PATH_MAX];
    struct stat st;
    if (!root()) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    if (!inside(path) || fstat(fd, &st) || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))) return 0;
    return st.st_ino;
}

/* The absolute path, if it lies under the root. */
static int resolve(int dir, const char *path, char *out) {
    if (!root() || !path) return 0;
    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
    } else {
        char link[64], base[PATH_MAX];
        ssize_t n;
        snprintf(link, sizeof link, dir == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", dir);
        n = readlink(link, base, sizeof base - 1);
        if (n <= 0) return 0;
        base[n] = 0;
        if (strlen(base) + strlen(path) + 2 > PATH_MAX) return 0;
        strcpy(out, base);
        strcat(out, "/");
        strcat(out, path);
    }
    return inside(out);
}

static const char *redirected(const char *path) {
    const char *other = getenv("POWERLOSS_BOOT_ID");
    return other && path && !strcmp(path, "/proc/sys/kernel/random/boot_id") ? other : path;
}

static int open_recorded(int dir, const char *path, int flags, mode_t mode) {
    NEXT(int, "openat64", int, const char *, int, ...);
    char full[PATH_MAX];
    struct stat st;
    path = redirected(path);
    if (!(flags & (O_CREAT | O_TRUNC)) || !resolve(dir, path, full)) return next(dir, path, flags, mode);
    pthread_mutex_lock(&lock);
    int absent = lstat(full, &st) != 0;
    int fd = next(dir, path, flags, mode);
    if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode)) {
        if (absent) record('O', st.st_ino, 0, full, strlen(full));
        else if (flags & O_TRUNC) record('T', st.st_ino, 0, "", 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE                                         \
    mode_t mode = 0;                                 \
    if (flags & (O_CREAT | __O_TMPFILE)) {           \
        va_list rest;                                \
        va_start(rest, flags);                       \
        mode = va_arg(rest, mode_t);                 \
        va_end(rest);                                \
    }
int open(const char *path, int flags, ...) { MODE return open_recorded(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return open_recorded(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE return open_recorded(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE return open_recorded(dir, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_recorded(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

static void gather(unsigned long ino, long offset, const struct iovec *parts, int count, ssize_t length) {
    char *all = malloc(length), *to = all;
    size_t left = length;
    for (int i = 0; i < count && left; i++) {
        size_t n = parts[i].iov_len < left ? parts[i].iov_len : left;
        memcpy(to, parts[i].iov_base, n);
        to += n;
        left -= n;
    }
    record('W', ino, offset, all, length);
    free(all);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    NEXT(ssize_t, "write", int, const void *, size_t);
    unsigned long ino = tracked(fd);
    if (!ino) return next(fd, bytes, length);
    pthread_mutex_lock(&lock);
    ssize_t n = next(fd, bytes, length);
    if (n > 0) record('W', ino, lseek(fd, 0, SEEK_CUR) - n, bytes, n);
    pthread_mutex_unlock(&lock);
    return n;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    NEXT(ssize_t, "writev", int, const struct iovec *, int);
    unsigned long ino = tracked(fd);
    if (!ino) return next(fd, parts, count);
    pthread_mutex_lock(&lock);
    ssize_t n = next(fd, parts, count);
    if (n > 0) gather(ino, lseek(fd, 0, SEEK_CUR) - n, parts, count, n);
    pthread_mutex_unlock(&lock);
    return n;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) {
    NEXT(ssize_t, "pwrite64", int, const void *, size_t, off_t);
    unsigned long ino = tracked(fd);
    if (!ino) return next(fd, bytes, length, offset);
    pthread_mutex_lock(&lock);
    ssize_t n = next(fd, bytes, length, offset);
    if (n > 0) record('W', ino, offset, bytes, n);
    pthread_mutex_unlock(&lock);
    return n;
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return pwrite64(fd, bytes, length, offset); }

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) {
    NEXT(ssize_t, "pwritev64", int, const struct iovec *, int, off_t);
    unsigned long ino = tracked(fd);
    if (!ino) return next(fd, parts, count, offset);
    pthread_mutex_lock(&lock);
    ssize_t n = next(fd, parts, count, offset);
    if (n > 0) gather(ino, offset, parts, count, n);
    pthread_mutex_unlock(&lock);
    return n;
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return pwritev64(fd, parts, count, offset);
}

int ftruncate64(int fd, off_t size) {
    NEXT(int, "ftruncate64", int, off_t);
    unsigned long ino = tracked(fd);
    if (!ino) return next(fd, size);
    pthread_mutex_lock(&lock);
    int result = next(fd, size);
    if (!result) record('T', ino, size, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int sync_recorded(int fd, int (*next)(int)) {
    unsigned long ino = tracked(fd);
    if (!ino) return next(fd);
    pthread_mutex_lock(&lock);
    int result = next(fd);
    if (!result) record('Y', ino, 0, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int fsync(int fd) {
    NEXT(int, "fsync", int);
    return sync_recorded(fd, next);
}
int fdatasync(int fd) {
    NEXT(int, "fdatasync", int);
    return sync_recorded(fd, next);
}

static int pair_recorded(char type, int from_dir, const char *from, int to_dir, const char *to, int flags,
                         int (*next)(int, const char *, int, const char *, int)) {
    char both[2 * PATH_MAX + 1], target[PATH_MAX];
    if (!resolve(from_dir, from, both) || !resolve(to_dir, to, target)) return next(from_dir, from, to_dir, to, flags);
    strcat(both, "\t");
    strcat(both, target);
    pthread_mutex_lock(&lock);
    int result = next(from_dir, from, to_dir, to, flags);
    if (!result) record(type, 0, 0, both, strlen(both));
    pthread_mutex_unlock(&lock);
    return result;
}
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    NEXT(int, "renameat2", int, const char *, int, const char *, int);
    return pair_recorded('R', from_dir, from, to_dir, to, flags, next);
}
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return renameat2(from_dir, from, to_dir, to, 0);
}
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    NEXT(int, "linkat", int, const char *, int, const char *, int);
    return pair_recorded('L', from_dir, from, to_dir, to, flags, next);
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int dir, const char *path, int flags) {
    NEXT(int, "unlinkat", int, const char *, int);
    char full[PATH_MAX];
    if (!resolve(dir, path, full)) return next(dir, path, flags);
    pthread_mutex_lock(&lock);
    int result = next(dir, path, flags);
    if (!result) record('U', 0, 0, full, strlen(full));
    pthread_mutex_unlock(&lock);
    return result;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int dir, const char *path, mode_t mode) {
    NEXT(int, "mkdirat", int, const char *, mode_t);
    char full[PATH_MAX];
    struct stat st;
    if (!resolve(dir, path, full)) return next(dir, path, mode);
    pthread_mutex_lock(&lock);
    int result = next(dir, path, mode);
    if (!result && !stat(full, &st)) record('M', st.st_ino, 0, full, strlen(full));
    pthread_mutex_unlock(&lock);
    return result;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* Copies within the kernel: what arrived is read back. */
static void read_back(int fd, unsigned long ino, off_t offset, ssize_t length) {
    char *bytes = malloc(length);
    ssize_t n = pread(fd, bytes, length, offset);
    if (n > 0) record('W', ino, offset, bytes, n);
    free(bytes);
}
ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t length, unsigned flags) {
    NEXT(ssize_t, "copy_file_range", int, off_t *, int, off_t *, size_t, unsigned);
    unsigned long ino = tracked(out);
    if (!ino) return next(in, in_at, out, out_at, length, flags);
    pthread_mutex_lock(&lock);
    ssize_t n = next(in, in_at, out, out_at, length, flags);
    if (n > 0) {
        off_t end = out_at ? *out_at : lseek(out, 0, SEEK_CUR);
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", out);
        int again = syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC, 0);
        if (again >= 0) {
            read_back(again, ino, end - n, n);
            close(again);
        }
    }
    pthread_mutex_unlock(&lock);
    return n;
}
