/* What a client is told of limits: Retry-After (RFC 9110, 10.2.3), and by option RateLimit and
 * RateLimit-Policy. */
#include "ratelimit.h"

#include <apr_strings.h>

#include <inttypes.h>

#define ONE_ROOM 128 /* a name and two numbers */

static void
answer_list(struct sl_req *r, const struct request *q, const char *field,
            size_t (*text)(const struct told *, char *, size_t))
{
    char *to = apr_palloc(sl_req_pool(r), TOLD_MAX * ONE_ROOM);
    size_t n = 0;
    unsigned i;

    for (i = 0; i < q->n_told; i++) {
        if (i > 0) {
            memcpy(to + n, ", ", 2);
            n += 2;
        }
        n += text(&q->told[i], to + n, ONE_ROOM - 2);
    }
    sl_fields_set(sl_req_response(r), field, (struct sl_span){to, n});
}

enum sl_verdict
answer_fields(struct sl_req *r, const void *conf)
{
    const struct request *q;
    const struct sl_cause *cause = sl_req_cause(r);

    if (cause != &cause_rate_limited &&
        !limits_tell(((const struct ratelimit_conf *)conf)->limits))
        return SL_NEXT;
    q = request_of(r);
    if (q->retry_ms > 0 && cause == &cause_rate_limited)
        sl_fields_set(
            sl_req_response(r), "Retry-After",
            sl_span(apr_psprintf(sl_req_pool(r), "%" PRId64, told_seconds(q->retry_ms))));
    if (q->n_told == 0)
        return SL_NEXT;
    answer_list(r, q, "RateLimit-Policy", told_policy);
    answer_list(r, q, "RateLimit", told_state);
    return SL_NEXT;
}
