#include "page_cache.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The kernel may be younger than the headers; the number is that of all processors but Alpha. */
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

struct bytes_of_file {
    uint64_t from, n;
};

struct pages_of_file {
    uint64_t cached, dirty, being_written, evicted, lately_evicted;
};

/* 0, or -1 with errno. */
static int
count_pages(int fd, struct bytes_of_file bytes, struct pages_of_file *pages)
{
    return (int)syscall(SYS_cachestat, fd, &bytes, pages, 0);
}

int
page_cache_counts(int fd)
{
    struct pages_of_file pages;

    return count_pages(fd, (struct bytes_of_file){0, 1}, &pages) == 0;
}

static int
has_all_pages(int fd, uint64_t from, uint64_t n)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct pages_of_file pages;

    return count_pages(fd, (struct bytes_of_file){from, n}, &pages) == 0 &&
           pages.cached == (from + n - 1) / page - from / page + 1;
}

/* A page that is being read is counted, but has no byte yet. */
static int
has_byte(int fd, uint64_t at)
{
    char byte;
    struct iovec iov = {&byte, 1};

    return preadv2(fd, &iov, 1, (off_t)at, RWF_NOWAIT) == 1;
}

int
page_cache_has(int fd, int counts, uint64_t from, uint64_t n)
{
    return (counts ? has_all_pages(fd, from, n) : has_byte(fd, from)) && has_byte(fd, from + n - 1);
}
