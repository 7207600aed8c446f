/* A disk that fails as it is told to: between the server and the system, for what lies in one
 * folder.
 *
 *     cc -shared -fPIC -o faults.so faults.c -ldl
 *     LD_PRELOAD=faults.so FAULTS_FOLDER=/of/the/cache FAULTS_ORDERS=/file sluice ...
 *
 * The orders are one row for each call, in a file that whoever tests has mapped, too: he changes
 * them while the server runs, and reads what was called.  faults.py is his side, and takes the
 * names of calls and of what a row has from here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* preadv2: what must not wait, with RWF_NOWAIT; without it is a pread. */
enum call {
    OPEN, ACCESS, PREAD, PREADV2, PWRITE, PWRITEV, SENDFILE, FALLOCATE, FTRUNCATE, SYNC, UNLINK,
    RENAME, N_CALLS
};

struct row {
    _Atomic uint32_t every;    /* 0: no call has a fault, 1: each has, n: each nth */
    _Atomic uint32_t error;    /* it fails with this errno */
    _Atomic uint32_t part;     /* it is given no more than so many bytes */
    _Atomic uint32_t flip;     /* one byte of what it read is changed by these bits */
    _Atomic uint32_t delay_ms; /* each call takes so much longer */
    _Atomic uint32_t called, faults, waiting;
};

#define FDS_MAX 65536

static struct row none[N_CALLS], *rows = none;
static char folder[PATH_MAX];
static size_t n_folder;
static _Atomic char there[FDS_MAX]; /* what is open there */

/* Looked up once: that takes a lock, and the loop is not to wait for it. */
#define REAL(name)                                                                       \
    (*({                                                                                 \
        static _Atomic(__typeof__(&name)) real;                                          \
        if (real == NULL)                                                                \
            real = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                           \
        real;                                                                            \
    }))

__attribute__((constructor)) static void
orders_map(void)
{
    const char *file = getenv("FAULTS_ORDERS"), *in = getenv("FAULTS_FOLDER");
    int fd = file != NULL && in != NULL ? REAL(open)(file, O_RDWR | O_CLOEXEC) : -1;
    void *at = MAP_FAILED;

    if (fd >= 0) {
        at = mmap(NULL, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
    }
    if (at == MAP_FAILED)
        return;
    n_folder = (size_t)snprintf(folder, sizeof folder, "%s", in);
    rows = at;
}

/* ---- what a call is told ---- */

/* The folder itself is there, too. */
static int
path_is_there(const char *path)
{
    return n_folder > 0 && strncmp(path, folder, n_folder) == 0 &&
           (path[n_folder] == '/' || path[n_folder] == '\0');
}

static int
fd_is_there(int fd)
{
    return fd >= 0 && fd < FDS_MAX && there[fd];
}

/* What a call has opened. */
static int
opened(int fd, int is_there)
{
    if (fd >= 0 && fd < FDS_MAX)
        there[fd] = (char)is_there;
    return fd;
}

static int
name_is_there(int at, const char *path)
{
    return path_is_there(path) || (path[0] != '/' && fd_is_there(at));
}

static void
wait_ms(struct row *row, uint32_t ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};

    if (ms == 0)
        return;
    row->waiting++;
    while (nanosleep(&left, &left) != 0)
        ;
    row->waiting--;
}

/* The row of a call if this one has a fault, else of those that have none. */
static const struct row *
told(enum call call)
{
    struct row *row = &rows[call];
    uint32_t n = row->called++, every = row->every;

    wait_ms(row, row->delay_ms);
    if (every == 0 || n % every != 0)
        return &none[call];
    row->faults++;
    return row;
}

static int
fails(const struct row *row)
{
    int error = (int)row->error;

    if (error != 0)
        errno = error;
    return error != 0;
}

static size_t
part_of(const struct row *row, size_t n)
{
    size_t part = row->part;

    return part > 0 && part < n ? part : n;
}

/* What was read, perhaps with another byte in its middle. */
static ssize_t
flipped(const struct row *row, void *at, ssize_t n)
{
    if (n > 0)
        ((unsigned char *)at)[n / 2] ^= (unsigned char)row->flip;
    return n;
}

/* ---- calls ---- */

#define AS_TOLD(call, is_there, ...)                                                     \
    do {                                                                                 \
        if ((is_there) && fails(told(call)))                                             \
            return -1;                                                                   \
        return __VA_ARGS__;                                                              \
    } while (0)

static mode_t
mode_of(int flags, va_list more)
{
    return flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)) ? va_arg(more, mode_t) : 0;
}

int
openat(int at, const char *path, int flags, ...)
{
    int is_there = name_is_there(at, path);
    va_list more;
    mode_t mode;

    va_start(more, flags);
    mode = mode_of(flags, more);
    va_end(more);
    AS_TOLD(OPEN, is_there, opened(REAL(openat)(at, path, flags, mode), is_there));
}

int
open(const char *path, int flags, ...)
{
    va_list more;
    mode_t mode;

    va_start(more, flags);
    mode = mode_of(flags, more);
    va_end(more);
    return openat(AT_FDCWD, path, flags, mode);
}

int
close(int fd)
{
    opened(fd, 0);
    return REAL(close)(fd);
}

int
faccessat(int at, const char *path, int how, int flags)
{
    AS_TOLD(ACCESS, name_is_there(at, path), REAL(faccessat)(at, path, how, flags));
}

ssize_t
pread(int fd, void *to, size_t n, off_t offset)
{
    const struct row *row;

    if (!fd_is_there(fd))
        return REAL(pread)(fd, to, n, offset);
    row = told(PREAD);
    if (fails(row))
        return -1;
    return flipped(row, to, REAL(pread)(fd, to, part_of(row, n), offset));
}

ssize_t
preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    struct iovec first = iov[0];
    const struct row *row;

    if (!fd_is_there(fd))
        return REAL(preadv2)(fd, iov, n, offset, flags);
    row = told(flags & RWF_NOWAIT ? PREADV2 : PREAD);
    if (fails(row))
        return -1;
    if (row->part == 0 && row->flip == 0)
        return REAL(preadv2)(fd, iov, n, offset, flags);
    first.iov_len = part_of(row, first.iov_len);
    return flipped(row, first.iov_base, REAL(preadv2)(fd, &first, 1, offset, flags));
}

ssize_t
pwrite(int fd, const void *from, size_t n, off_t offset)
{
    const struct row *row;

    if (!fd_is_there(fd))
        return REAL(pwrite)(fd, from, n, offset);
    row = told(PWRITE);
    return fails(row) ? -1 : REAL(pwrite)(fd, from, part_of(row, n), offset);
}

ssize_t
pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
    struct iovec first = iov[0];
    const struct row *row;

    if (!fd_is_there(fd))
        return REAL(pwritev)(fd, iov, n, offset);
    row = told(PWRITEV);
    if (fails(row))
        return -1;
    if (row->part == 0)
        return REAL(pwritev)(fd, iov, n, offset);
    first.iov_len = part_of(row, first.iov_len);
    return REAL(pwritev)(fd, &first, 1, offset);
}

ssize_t
sendfile(int to, int fd, off_t *offset, size_t n)
{
    const struct row *row;

    if (!fd_is_there(fd))
        return REAL(sendfile)(to, fd, offset, n);
    row = told(SENDFILE);
    return fails(row) ? -1 : REAL(sendfile)(to, fd, offset, part_of(row, n));
}

int
fallocate(int fd, int how, off_t from, off_t n)
{
    AS_TOLD(FALLOCATE, fd_is_there(fd), REAL(fallocate)(fd, how, from, n));
}

int
ftruncate(int fd, off_t n)
{
    AS_TOLD(FTRUNCATE, fd_is_there(fd), REAL(ftruncate)(fd, n));
}

int
fsync(int fd)
{
    AS_TOLD(SYNC, fd_is_there(fd), REAL(fsync)(fd));
}

int
fdatasync(int fd)
{
    AS_TOLD(SYNC, fd_is_there(fd), REAL(fdatasync)(fd));
}

int
unlink(const char *path)
{
    AS_TOLD(UNLINK, path_is_there(path), REAL(unlink)(path));
}

int
unlinkat(int at, const char *path, int flags)
{
    AS_TOLD(UNLINK, name_is_there(at, path), REAL(unlinkat)(at, path, flags));
}

int
rename(const char *from, const char *to)
{
    AS_TOLD(RENAME, path_is_there(from) || path_is_there(to), REAL(rename)(from, to));
}

int
renameat(int at, const char *from, int to_at, const char *to)
{
    AS_TOLD(RENAME, name_is_there(at, from) || name_is_there(to_at, to),
            REAL(renameat)(at, from, to_at, to));
}
