/* Heads and trailers, from nghttp2's form to the core's and back.
 *
 * nghttp2 refuses what RFC 9113, 8 calls malformed: names in capitals, fields of a connection,
 * pseudo-fields that are doubled, missing or too late, bodies that are not as long as announced.
 * What HTTP/1 refuses beyond that the core's sl_fields_receive() refuses here, too. */
#include "http2.h"

struct cookie {
    struct cookie *next;
    struct sl_span crumb;
};

#define FIELD_COST 32 /* RFC 9113, 6.5.2: of a field, beside its bytes */
#define LINE_COST 4   /* ": " and CRLF, as HTTP/1 would write it */

static nghttp2_nv *rooms; /* NV_MAX a thread */

int
http2_fields_threads_make(struct sl_worker *w)
{
    rooms = apr_palloc(sl_worker_pool(w), sl_worker_threads(w) * NV_MAX * sizeof *rooms);
    return rooms != NULL ? 0 : -1;
}

nghttp2_nv *
fields_room(struct sl_conn *c)
{
    return rooms + (size_t)sl_loop_index(sl_conn_loop(c)) * NV_MAX;
}

/* ---- what comes ---- */

static struct sl_span
span_of(nghttp2_rcbuf *b)
{
    nghttp2_vec v = nghttp2_rcbuf_get_buf(b);

    return (struct sl_span){(const char *)v.base, v.len};
}

static struct sl_span
span_kept(struct stream *s, struct sl_span text)
{
    return (struct sl_span){sl_span_dup(s->pool, text), text.n};
}

/* nghttp2 has seen that there are no others, and that a status has three digits. */
static int
pseudo_take(struct stream *s, struct sl_span name, struct sl_span value)
{
    struct sl_span *to = NULL;

    switch (name.at[1]) {
    case 'm':
        to = &s->method;
        break;
    case 's':
        if (name.at[2] == 't')
            s->status = (value.at[0] - '0') * 100 + (value.at[1] - '0') * 10 + value.at[2] - '0';
        else
            to = &s->scheme;
        break;
    case 'a':
        to = &s->authority;
        break;
    case 'p':
        to = name.at[2] == 'a' ? &s->path : &s->protocol;
        break;
    default:
        return -1;
    }
    if (to != NULL)
        *to = span_kept(s, value);
    return 0;
}

/* nghttp2 has seen that it is a number, and compares it with the body. */
static int
length_take(struct stream *s, struct sl_span value)
{
    int64_t n = 0;
    size_t i;

    for (i = 0; i < value.n; i++)
        n = n * 10 + (value.at[i] - '0');
    s->length = n;
    return 0;
}

static int
cookie_take(struct stream *s, struct sl_span value)
{
    struct cookie *c = apr_palloc(s->pool, sizeof *c), **last = &s->cookies;

    while (*last != NULL)
        last = &(*last)->next;
    *c = (struct cookie){NULL, span_kept(s, value)};
    *last = c;
    return 0;
}

/* Whether there is room for it: of what is too much nothing is kept. */
static int
is_within(struct stream *s, size_t n)
{
    const struct http2 *h = s->h;

    s->head_size += (unsigned)n;
    s->n_fields++;
    if ((int64_t)s->head_size + (int64_t)s->n_fields * (FIELD_COST - LINE_COST) >
            h->conf->header_list ||
        (int64_t)s->head_size > h->terms.limit_head)
        s->is_too_large = 1;
    if ((int64_t)s->n_fields > h->terms.limit_fields)
        s->has_too_many = 1;
    return !s->is_too_large && !s->has_too_many;
}

int
fields_receive(struct stream *s, nghttp2_rcbuf *name_buf, nghttp2_rcbuf *value_buf)
{
    struct sl_span name = span_of(name_buf), value = span_of(value_buf);

    if (!is_within(s, name.n + value.n + LINE_COST))
        return 0;
    if (name.n > 0 && name.at[0] == ':')
        return pseudo_take(s, name, value);
    if (sl_span_eq(name, SL_SPAN("content-length"))) {
        length_take(s, value);
        if (s->r != NULL && s->length > 0) /* the next hop's protocol says it anew */
            return 0;
    }
    if (s->r != NULL && sl_span_eq(name, SL_SPAN("cookie")))
        return cookie_take(s, value);
    return sl_fields_receive(s->fields, span_kept(s, name), span_kept(s, value));
}

int
fields_join_cookies(struct stream *s)
{
    struct sl_span parts[2 * 256 - 1]; /* LimitFields is at most 250 */
    struct cookie *c;
    unsigned n = 0;

    if (s->cookies == NULL)
        return 0;
    for (c = s->cookies; c != NULL && n + 2 < sizeof parts / sizeof parts[0]; c = c->next) {
        if (n > 0)
            parts[n++] = SL_SPAN("; ");
        parts[n++] = c->crumb;
    }
    s->cookies = NULL;
    return sl_fields_receive(s->fields, SL_SPAN("cookie"), sl_spans_join(s->pool, parts, n));
}

/* ---- what leaves ---- */

size_t
fields_put(nghttp2_nv *nva, size_t n, const char *name, struct sl_span value)
{
    nva[n] = (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value.at,
                          strlen(name), value.n, NGHTTP2_NV_FLAG_NONE};
    return n + 1;
}

struct sl_span
fields_number(char *to, int64_t n)
{
    char *at = to + NUMBER_ROOM;

    do
        *--at = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    return (struct sl_span){at, (size_t)(to + NUMBER_ROOM - at)};
}

#define BIT(id) ((uint64_t)1 << SL_F_##id)

size_t
fields_list(nghttp2_nv *nva, size_t n, const struct sl_fields *f, unsigned flags)
{
    uint64_t out = BIT(CONNECTION) | BIT(KEEP_ALIVE) | BIT(PROXY_CONNECTION) | BIT(TE) |
                   BIT(TRANSFER_ENCODING) | BIT(UPGRADE) | BIT(HTTP2_SETTINGS);
    const struct sl_field *x;
    unsigned i = 0;

    if ((flags & FIELDS_KEEP_LENGTH) == 0)
        out |= BIT(CONTENT_LENGTH);
    if ((flags & FIELDS_KEEP_HOST) == 0)
        out |= BIT(HOST);
    while ((x = sl_fields_next(f, &i)) != NULL && n < NV_MAX)
        if ((out >> x->id & 1) == 0)
            nva[n++] = (nghttp2_nv){(uint8_t *)(uintptr_t)x->name.at,
                                    (uint8_t *)(uintptr_t)x->value.at, x->name.n, x->value.n,
                                    NGHTTP2_NV_FLAG_NONE};
    return n;
}

static uint8_t *
bytes_kept(apr_pool_t *pool, struct sl_span s)
{
    return (uint8_t *)(uintptr_t)sl_span_dup(pool, s);
}

void
fields_keep_trailers(struct stream *s, const struct sl_fields *f)
{
    const struct sl_field *x;
    unsigned i = 0, n = 0;

    while (sl_fields_next(f, &i) != NULL)
        n++;
    s->trailers_out = apr_palloc(s->pool, (n + 1) * sizeof *s->trailers_out);
    for (i = n = 0; (x = sl_fields_next(f, &i)) != NULL;)
        if (sl_field_may_trail(x))
            s->trailers_out[n++] =
                (nghttp2_nv){bytes_kept(s->pool, x->name), bytes_kept(s->pool, x->value),
                             x->name.n, x->value.n, NGHTTP2_NV_FLAG_NONE};
    s->n_trailers_out = n;
}
