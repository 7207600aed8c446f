/* WebSockets and the like towards servers (RFC 8441): what is asked by GET and Upgrade in HTTP/1.1 is
 * a CONNECT with :protocol here, and what 101 answers there is any 2xx. */
#include "http2.h"

#include <strings.h>

struct sl_span
tunnel_asked(struct sl_attempt *a)
{
    struct sl_span list = sl_fields_get_id(sl_attempt_head(a), SL_F_UPGRADE), one = {"", 0};

    if (!sl_span_eq(sl_attempt_method(a), SL_SPAN("GET")) || !sl_list_next(&list, &one))
        return SL_SPAN("");
    return sl_span_eqi(one, SL_SPAN("websocket")) ? SL_SPAN("websocket") : one;
}

size_t
tunnel_drop_key(nghttp2_nv *nva, size_t n)
{
    static const char name[] = "sec-websocket-key";
    size_t i, kept = 0;

    for (i = 0; i < n; i++)
        if (nva[i].namelen != sizeof name - 1 ||
            strncasecmp((const char *)nva[i].name, name, sizeof name - 1) != 0)
            nva[kept++] = nva[i];
    return kept;
}

void
tunnel_opened(struct sl_attempt *a)
{
    struct sl_fields *f = sl_attempt_response(a);
    struct sl_span key = sl_fields_get(sl_attempt_head(a), "Sec-WebSocket-Key");

    sl_attempt_switched(a, tunnel_asked(a));
    if (key.n > 0)
        sl_fields_set(f, "Sec-WebSocket-Accept",
                      websocket_accept(sl_req_pool(sl_attempt_req(a)), key));
}
