/* The body of an answer from the store: portions of what is stored, with texts between. */
#ifndef CACHE_GIVER_H
#define CACHE_GIVER_H

#include "cache.h"

struct portion {
    struct sl_span text; /* n > 0: this; else the body from `from` on */
    int64_t from, n;     /* n -1: to its end */
};

struct giver {
    struct store_read read;
    struct sl_req *r;            /* NULL: it has left */
    struct store_object *object; /* held */
    struct slices *slices;       /* of what is in slices; else NULL */
    const struct sl_cause *cause; /* why the last slice did not come */
    int is_begun, is_reading;
    enum store_io io; /* of the last read */
    size_t used;      /* of the piece at hand */
    unsigned i, n_portions;
    struct portion at[]; /* moved on as they are given */
};

/* For an answer with giver_source, which frees it; its portions are the caller's to fill in. */
struct giver *giver_new(struct visit *v, unsigned n_portions);
extern const struct sl_source giver_source;

#endif
