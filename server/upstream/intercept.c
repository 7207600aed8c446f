/* ProxyIntercept: a server's answer of such a status makes place for our page of it.
 *
 * Nothing of its body is passed on.  A short one is read to its end, for a moment, so that the
 * connection can be kept; the page is sent when the exchange is over, as after a failure. */
#include "upstream/exchange.h"

#include "upstream/splice.h"

#define REST_MAX ((int64_t)SPLICE_MIN) /* longer: a new connection is cheaper */
#define REST_MS 200

int
intercept_wants(const struct sl_proxy_conf *conf, int status)
{
    const apr_array_header_t *lines = conf->intercept;
    int i;

    for (i = 0; i < lines->nelts; i++)
        if (sl_statuses_have(APR_ARRAY_IDX(lines, i, const struct sl_statuses *), status))
            return 1;
    return 0;
}

enum sl_flow
intercept(struct sl_exchange *ex, int64_t body)
{
    sl_note(ex->r, "ProxyIntercept: the page of %d in place of the server's", ex->a.status);
    ex->r->flags |= REQ_SOURCE_ENDED;
    exchange_goto(ex, EX_OVER, REST_MS);
    if (body < REST_MAX)
        return SL_FLOW_ROOM;
    exchange_replace(ex);
    return SL_FLOW_GONE;
}
