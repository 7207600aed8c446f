/* Body filters: put into a response from a response hook, run in the order they were put.
 *
 * The easy door takes plain bytes: a filter consumes all it was given, or returns SL_WAIT
 * having consumed none and sees the same bytes again after sl_filter_resume().  What it
 * passes on is copied where needed; it keeps nothing it was handed.  The other door hands
 * bucket brigades, for those who pass bytes on without touching them. */
#ifndef SLUICE_FILTER_H
#define SLUICE_FILTER_H

#include "sluice/base.h"

#include <apr_buckets.h>

/* FLUSH: the source has no more for now.  MORE, to be read as FLUSH by those who do not care:
 * its buffer was full, so more is likely to follow at once. */
enum { SL_FILTER_FLUSH = 1, SL_FILTER_END = 2, SL_FILTER_MORE = 5 };

struct sl_filter_type {
    const char *name;
    /* Exactly one of the two.  SL_NEXT: consumed.  SL_WAIT: nothing consumed.  SL_FAIL. */
    enum sl_verdict (*bytes)(struct sl_filter *f, const char *at, size_t n, unsigned flags);
    enum sl_verdict (*brigade)(struct sl_filter *f, apr_bucket_brigade *bb);
};

/* `ctx` is the filter's own; keeps_length 0: Content-Length goes, the framing follows. */
void sl_filter_add(struct sl_req *r, const struct sl_filter_type *type, void *ctx,
                   int keeps_length);
void *sl_filter_ctx(const struct sl_filter *f);
struct sl_req *sl_filter_req(const struct sl_filter *f);
/* Hands bytes (or a brigade, emptied) to the next filter.  Always taken whole; a receiver
 * that is full stops the source, not the filter. */
enum sl_verdict sl_filter_write(struct sl_filter *f, const char *at, size_t n, unsigned flags);
enum sl_verdict sl_filter_pass(struct sl_filter *f, apr_bucket_brigade *bb);
void sl_filter_resume(struct sl_filter *f);
/* For a filter that makes much of little, after a write: whether the receiver is full.  Then
 * it returns SL_WAIT, remembers how far it came, and is resumed when there is room. */
int sl_filter_waits_for_room(struct sl_filter *f);

#endif
