/* SipHash-2-4 (Aumasson and Bernstein): keys come from clients, who must not be able to choose
 * which of them meet in one bucket. */
#ifndef RATELIMIT_SIPHASH_H
#define RATELIMIT_SIPHASH_H

#include <apr_siphash.h>

#include <stddef.h>
#include <stdint.h>

static inline uint64_t
siphash(const uint64_t key[2], const void *bytes, size_t n)
{
    return apr_siphash24(bytes, n, (const unsigned char *)key);
}

#endif
