/* What the system's page cache has of a file. */
#ifndef CACHE_PAGE_CACHE_H
#define CACHE_PAGE_CACHE_H

#include <stdint.h>

/* Whether the system counts the pages it has of a file (Linux 6.5). */
int page_cache_counts(int fd);
/* Whether reading these bytes, which were read before, will most likely not wait for the disk; n is
 * not 0.  One that counts sees a page that left in their middle, else the first and the last byte
 * speak for them.  A file system that cannot tell has nothing. */
int page_cache_has(int fd, int counts, uint64_t from, uint64_t n);

#endif
