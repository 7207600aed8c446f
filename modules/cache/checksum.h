/* The checksums of records: XXH3, which says the same on every machine. */
#ifndef CACHE_CHECKSUM_H
#define CACHE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t checksum(const void *at, size_t n);

#endif
