/* A disk that is full from its n-th write on, for a process that loads this library (LD_PRELOAD).
 *
 * FAULTS_STATE names a file of struct state, which all processes of a trial share. Calls that write
 * to files, or make them, below `prefix` are counted; from number `limit` on they fail by ENOSPC.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct state { long count, limit; char prefix[4080]; };
static struct state *state;

__attribute__((constructor)) static void start(void) {
    const char *name = getenv("FAULTS_STATE");
    int fd = name ? open(name, O_RDWR) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) state = mapped;
    close(fd);
}

static int below(const char *path) {
    char full[4096];
    if (!state || !state->limit || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(full, sizeof full)) return 0;
        strncat(full, "/", sizeof full - strlen(full) - 1);
        strncat(full, path, sizeof full - strlen(full) - 1);
        path = full;
    }
    return strncmp(path, state->prefix, strlen(state->prefix)) == 0;
}

static int full(void) {
    long number = __atomic_add_fetch(&state->count, 1, __ATOMIC_SEQ_CST);
    if (number < state->limit) return 0;
    errno = ENOSPC;
    return 1;
}

static int descriptor_is_below(int fd) {
    char link[64], path[4096];
    if (!state || !state->limit) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return below(path);
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    return descriptor_is_below(fd) && full() ? -1 : real(fd, data, size);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    return descriptor_is_below(fd) && full() ? -1 : real(fd, data, size, at);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    return descriptor_is_below(fd) && full() ? -1 : real(fd, parts, count);
}
ssize_t sendfile(int out, int in, off_t *at, size_t size) {
    REAL(sendfile);
    return descriptor_is_below(out) && full() ? -1 : real(out, in, at, size);
}
ssize_t copy_file_range(int in, off64_t *a, int out, off64_t *b, size_t size, unsigned flags) {
    REAL(copy_file_range);
    return descriptor_is_below(out) && full() ? -1 : real(in, a, out, b, size, flags);
}
int fsync(int fd) {
    REAL(fsync);
    return descriptor_is_below(fd) && full() ? -1 : real(fd);
}
int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    return below(path) && full() ? -1 : real(path, mode);
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & O_CREAT) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
#define MAKES(path, flags) (((flags) & O_CREAT) && access(path, F_OK) != 0 && below(path) && full())

int open(const char *path, int flags, ...) {
    MODE(flags)
    REAL(open);
    return MAKES(path, flags) ? -1 : real(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags)
    REAL(open64);
    return MAKES(path, flags) ? -1 : real(path, flags, mode);
}
int openat(int at, const char *path, int flags, ...) {
    MODE(flags)
    REAL(openat);
    return at == AT_FDCWD && MAKES(path, flags) ? -1 : real(at, path, flags, mode);
}
int openat64(int at, const char *path, int flags, ...) {
    MODE(flags)
    REAL(openat64);
    return at == AT_FDCWD && MAKES(path, flags) ? -1 : real(at, path, flags, mode);
}
