/* Who went over a limit lately: the words for the operator, beside the numbers of the table.
 * Touched only when a limit is exceeded.
 *
 * A row has no lock.  Its text counts only while the check over it fits, so that a row of which
 * two threads, or one that was killed, wrote a part each is passed over, and written again when
 * its key comes back. */
#ifndef RATELIMIT_OFFENDERS_H
#define RATELIMIT_OFFENDERS_H

#include "sluice/base.h"

#include <stdatomic.h>

#define OFFENDER_WORDS 11
#define OFFENDER_TEXT (OFFENDER_WORDS * 8) /* with its NUL; longer keys are cut */

struct offender {
    _Alignas(128) _Atomic(uint64_t) hash; /* 0: free */
    _Atomic(uint64_t) check;
    _Atomic(int64_t) n_over;    /* requests over the limit */
    _Atomic(int64_t) last_ms;   /* the last of them */
    _Atomic(int64_t) logged_ms; /* 0: never */
    _Atomic(uint64_t) text[OFFENDER_WORDS];
};

struct offenders {
    struct offender *rows;
    uint32_t n; /* a multiple of OFFENDER_SET */
};
#define OFFENDER_SET 4

/* One row as it can be read: 0 when there is nothing whole in it. */
struct offender_copy {
    uint64_t hash;
    int64_t n_over;
    int64_t last_ms;
    char text[OFFENDER_TEXT];
};

/* One more request over the limit.  Whether it is to be logged: the first of `every_ms`.
 * *n_over: so many since the key is known here. */
int offenders_note(const struct offenders *o, uint64_t hash, struct sl_span text,
                   int64_t now_ms, int64_t every_ms, int64_t *n_over);
int offenders_read(const struct offenders *o, uint32_t i, struct offender_copy *copy);
/* hash 0: all. */
void offenders_forget(const struct offenders *o, uint64_t hash);

#endif
