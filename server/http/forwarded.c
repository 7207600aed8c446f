/* Who asked, told to the server: X-Forwarded-For, -Proto, -Host, X-Real-IP or Forwarded,
 * and Via (RFC 9110, 7.6.3; RFC 7239).  What a peer says of these is believed only when
 * it is in TrustedProxies; else its fields are replaced, and names that CGI would fold into
 * them, or into those that frame the body, are left out. */
#include "http/request.h"

#include "runtime/address.h"
#include "runtime/span.h"

#include <apr_strings.h>

#include <arpa/inet.h>

int
sl_req_peer_is_trusted(const struct sl_req *r)
{
    const struct sl_networks *nets = r->scope->core->trusted;

    return nets != NULL && r->conn->peer.len > 0 && sl_networks_has(nets, &r->conn->peer);
}

int
sl_req_passes_forwarded(const struct sl_req *r)
{
    return r->scope->core->forwarded == FORWARDED_OFF || sl_req_peer_is_trusted(r);
}

/* X-Forwarded-For from the right: the first address that is no trusted proxy's is the
 * client's; an element that is no address ends the search. */
static void
client_find(struct sl_req *r)
{
    struct sl_span list, one;
    struct sl_sockaddr addr;

    r->client = r->conn->peer;
    r->client_text = conn_peer_text(r->conn);
    if (!fields_may_have(&r->head, SL_F_X_FORWARDED_FOR) || !sl_req_peer_is_trusted(r))
        return;
    list = sl_fields_joined(&r->head, "X-Forwarded-For");
    while (span_list_last(&list, &one)) {
        if (!address_parse_host(one, &addr))
            return;
        r->client = addr;
        r->client_text = address_host_text(r->pool, &addr);
        if (!sl_networks_has(r->scope->core->trusted, &addr))
            return;
    }
}

struct sl_span
sl_req_client_text(struct sl_req *r)
{
    if (r->client_text.at == NULL)
        client_find(r);
    return r->client_text;
}

const struct sl_sockaddr *
sl_req_client(struct sl_req *r)
{
    if (r->client_text.at == NULL)
        client_find(r);
    return &r->client;
}

/* RFC 7239, 6: an IPv6 address stands in brackets and quotes. */
static struct sl_span
forwarded_value(struct sl_req *r, struct sl_span old, struct sl_span peer)
{
    int is_v6 = memchr(peer.at, ':', peer.n) != NULL;
    struct sl_span scheme = sl_req_scheme(r);

    if (r->conn->peer.len == 0) { /* RFC 7239, 6.2 */
        is_v6 = 0;
        peer = SL_SPAN("unknown");
    }

    return sl_span(apr_psprintf(
        r->pool, "%.*s%sfor=%s%.*s%s;proto=%.*s;host=\"%.*s\"", (int)old.n,
        old.n > 0 ? old.at : "", old.n > 0 ? ", " : "", is_v6 ? "\"[" : "", (int)peer.n, peer.at,
        is_v6 ? "]\"" : "", (int)scheme.n, scheme.at, (int)r->authority.n,
        r->authority.n > 0 ? r->authority.at : ""));
}

static struct sl_span
xff_value(struct sl_req *r, struct sl_span peer)
{
    struct sl_span old = sl_fields_joined(&r->head, "X-Forwarded-For");

    if (old.n == 0)
        return peer;
    return sl_span(apr_psprintf(r->pool, "%.*s, %.*s", (int)old.n, old.at, (int)peer.n, peer.at));
}

#define FORWARDED_IDS                                                                        \
    ((uint64_t)1 << SL_F_X_FORWARDED_FOR | (uint64_t)1 << SL_F_X_FORWARDED_PROTO |           \
     (uint64_t)1 << SL_F_X_FORWARDED_HOST | (uint64_t)1 << SL_F_X_REAL_IP |                  \
     (uint64_t)1 << SL_F_FORWARDED)

static void
drop_ids(struct sl_fields *f, uint64_t ids)
{
    unsigned i;

    if ((f->ids & ids) == 0)
        return;
    for (i = 0; i < f->n; i++)
        if (ids & sl_field_bit(f->at[i].id))
            f->at[i].flags |= FIELD_DROPPED;
}

static void
drop_folded(struct sl_fields *f)
{
    unsigned i;

    for (i = 0; i < f->n; i++)
        if (f->at[i].flags & FIELD_FOLDED)
            f->at[i].flags |= FIELD_DROPPED;
}

#define N_NAME(name) (sizeof(name) - 1)

static void
push_via(struct sl_fields *to, int version)
{
    fields_push_line(to, SL_F_VIA, N_NAME("Via"),
                     version == 11 ? SL_SPAN("Via: 1.1 sluice\r\n")
                     : version == 20 ? SL_SPAN("Via: 2 sluice\r\n") : SL_SPAN("Via: 1.0 sluice\r\n"));
}

static void
push_proto(struct sl_fields *to, int is_tls)
{
    fields_push_line(to, SL_F_X_FORWARDED_PROTO, N_NAME("X-Forwarded-Proto"),
                     is_tls ? SL_SPAN("X-Forwarded-Proto: https\r\n")
                            : SL_SPAN("X-Forwarded-Proto: http\r\n"));
}

void
forwarded_add(struct sl_req *r, struct sl_fields *to)
{
    int mode = r->scope->core->forwarded, trusted = 0;
    struct sl_span peer = conn_peer_text(r->conn), old = {NULL, 0};

    push_via(to, r->version);
    if (r->head.ids & (FORWARDED_IDS | (uint64_t)1 << FIELD_ID_FOLDED))
        trusted = sl_req_peer_is_trusted(r);
    if (!trusted && r->head.ids >> FIELD_ID_FOLDED)
        drop_folded(to);
    if (mode == FORWARDED_OFF)
        return;
    if (mode == FORWARDED_RFC7239) {
        if (trusted)
            old = sl_fields_joined(&r->head, "Forwarded");
        drop_ids(to, FORWARDED_IDS);
        fields_push(to, SL_F_FORWARDED, SL_SPAN("Forwarded"), forwarded_value(r, old, peer));
        return;
    }
    if (!trusted)
        drop_ids(to, FORWARDED_IDS);
    if (!trusted && r->conn->peer.len > 0) { /* a Unix socket's peer has no address */
        fields_push(to, SL_F_X_FORWARDED_FOR, SL_SPAN("X-Forwarded-For"), peer);
        fields_push(to, SL_F_X_REAL_IP, SL_SPAN("X-Real-IP"), peer);
    } else if (trusted) {
        drop_ids(to, sl_field_bit(SL_F_X_FORWARDED_FOR) | sl_field_bit(SL_F_X_REAL_IP));
        fields_push(to, SL_F_X_FORWARDED_FOR, SL_SPAN("X-Forwarded-For"), xff_value(r, peer));
        fields_push(to, SL_F_X_REAL_IP, SL_SPAN("X-Real-IP"), sl_req_client_text(r));
    }
    if (!trusted || !fields_may_have(&r->head, SL_F_X_FORWARDED_PROTO))
        push_proto(to, sl_req_is_tls(r));
    if (r->authority.n > 0 && (!trusted || !fields_may_have(&r->head, SL_F_X_FORWARDED_HOST)))
        fields_push(to, SL_F_X_FORWARDED_HOST, SL_SPAN("X-Forwarded-Host"), r->authority);
}
