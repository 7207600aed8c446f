/* How many of a key are under way, in a bucket of shared memory.
 *
 * A word is a part of the key's hash and its count; one whose count is 0 may be taken for another
 * key.  Two threads that meet a key at once may give it a word each, when another word became free
 * between their looks: a key's count is the sum of all its words. */
#ifndef MODULES_RATELIMIT_COUNTS_H
#define MODULES_RATELIMIT_COUNTS_H

#include "table.h"

int64_t counts_of(struct bucket *b, uint64_t hash);
/* One more; *n: so many with it.  The word to give back, or NULL: there is no room. */
_Atomic(uint64_t) *counts_up(struct bucket *b, uint64_t hash, int64_t *n);
void counts_down(_Atomic(uint64_t) *at);

#endif
