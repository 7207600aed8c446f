/* Checksums by AVX2 where the processor has it: as Debian builds libxxhash it has SSE2, a third
 * as fast.  Not by its functions that choose for themselves: they take AVX-512, behind which the
 * library's SSE2 code took four times as long, most likely because the upper halves of registers
 * stay in use.  Without seeds: one costs as much as a KiB of bytes. */
#include "checksum.h"

#include <xxhash.h>

static uint64_t
checksum_plain(const void *at, size_t n)
{
    return XXH3_64bits(at, n);
}

/* clang says nothing of a target by __AVX2__ that was not on its command line. */
#if defined __x86_64__ && !defined __clang__
#pragma GCC push_options
#pragma GCC target("avx2")
#define XXH_INLINE_ALL
#define XXH_VECTOR 2 /* AVX2, where -march has AVX-512, too */
#include <xxhash.h>

static uint64_t
checksum_avx2(const void *at, size_t n)
{
    return XXH3_64bits(at, n);
}

#pragma GCC pop_options

uint64_t
checksum(const void *at, size_t n)
{
    return __builtin_cpu_supports("avx2") ? checksum_avx2(at, n) : checksum_plain(at, n);
}
#else
uint64_t
checksum(const void *at, size_t n)
{
    return checksum_plain(at, n);
}
#endif
