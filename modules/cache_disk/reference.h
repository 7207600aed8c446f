/* References in fields (RFC 3986), as far as they stay where they stand.  Pure. */
#ifndef CACHE_REFERENCE_H
#define CACHE_REFERENCE_H

#include "sluice/base.h"

/* Of the request whose response has the reference. */
struct reference_base {
    struct sl_span scheme, host; /* in lower case */
    struct sl_span port;         /* as it came, with its colon; n 0: none */
    struct sl_span path;
};
/* The URL it names, its origin written as that of the base; at NULL: it is of another origin, or
 * none at all. */
struct sl_span reference_resolve(apr_pool_t *pool, const struct reference_base *base,
                                 struct sl_span reference);

#endif
