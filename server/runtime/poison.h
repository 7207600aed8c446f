/* Free memory of our own lists is poisoned when the address sanitizer watches, so that a
 * use after giving back shows as one after free() would. */
#ifndef RUNTIME_POISON_H
#define RUNTIME_POISON_H

#if defined(__SANITIZE_ADDRESS__)
#define SL_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SL_HAS_ASAN 1
#endif
#endif

#ifdef SL_HAS_ASAN
#include <sanitizer/asan_interface.h>
#define poison(at, n) ASAN_POISON_MEMORY_REGION(at, n)
#define unpoison(at, n) ASAN_UNPOISON_MEMORY_REGION(at, n)
#else
#define poison(at, n) ((void)(at), (void)(n))
#define unpoison(at, n) ((void)(at), (void)(n))
#endif

#endif
