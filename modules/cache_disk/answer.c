/* What is stored, as an answer: conditions first, then ranges, then the body as it is at hand,
 * which may still be arriving. */
#include "cache.h"

#include <apr_strings.h>

#include <stdlib.h>

#define AT_ONCE 65536 /* a body in memory up to this goes in one piece with its head */
#define SLICE 65536   /* what a full connection does not take of one is copied */
#define BOUNDARY_BYTES 12
#define DIGITS 20 /* of a number, with its sign */

/* ---- the head ---- */

/* RFC 9110, 15.4.5: what a 304 says of the response it stands for. */
static int
is_of_304(struct sl_span name)
{
    static const char *const names[] = {"Cache-Control", "Content-Location", "Date", "ETag",
                                        "Expires", "Vary", "Last-Modified"};
    size_t i;

    for (i = 0; i < sizeof names / sizeof names[0]; i++)
        if (sl_span_eqi(name, sl_span(names[i])))
            return 1;
    return 0;
}

/* The text with a number behind; each hit needs two, for which printf is slow. */
static struct sl_span
with_number(apr_pool_t *pool, struct sl_span text, int64_t number)
{
    uint64_t n = number < 0 ? -(uint64_t)number : (uint64_t)number;
    char *to = apr_palloc(pool, text.n + DIGITS), *end = to + text.n + DIGITS, *at = end;

    do
        *--at = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    if (number < 0)
        *--at = '-';
    at -= text.n;
    memcpy(at, text.at, text.n);
    return (struct sl_span){at, (size_t)(end - at)};
}

/* RFC 9211.  What a server was asked for in vain is no hit. */
static struct sl_span
cache_status(const struct visit *v)
{
    if (v->is_hit)
        return with_number(sl_req_pool(v->r),
                           v->flight == NULL ? SL_SPAN("sluice; hit; ttl=")
                                             : SL_SPAN("sluice; fwd=stale; ttl="),
                           v->meta.storing.lifetime - v->using.age);
    if (strcmp(v->status, "REVALIDATED") == 0)
        return SL_SPAN("sluice; fwd=stale; fwd-status=304; stored");
    return strcmp(v->status, "EXPIRED") == 0 ? SL_SPAN("sluice; fwd=stale; stored")
           : v->is_variant                   ? SL_SPAN("sluice; fwd=vary-miss; stored")
                                             : SL_SPAN("sluice; fwd=uri-miss; stored");
}

/* Spans into what is held until the request ends. */
static void
put_fields(struct visit *v, int status)
{
    struct sl_fields *to = sl_req_response(v->r);
    struct sl_span rest = v->meta.fields, name, value;

    while (meta_next(&rest, &name, &value))
        if (!is_tag_field(name) && (status != 304 || is_of_304(name)))
            sl_fields_receive(to, name, value);
    sl_fields_set(to, "Age", with_number(sl_req_pool(v->r), SL_SPAN(""), v->using.age));
    sl_fields_add(to, "Cache-Status", cache_status(v));
}

/* ---- the body: stretches of what is stored, with texts between ---- */

struct stretch {
    struct sl_span text; /* n > 0: this; else the body from `from` on */
    int64_t from, n;     /* n -1: to its end */
};

struct giver {
    struct store_read read;
    struct sl_req *r; /* NULL: it has left */
    struct store_object *object; /* held */
    int is_reading;
    enum store_io io; /* of the last read */
    size_t used; /* of the piece at hand */
    unsigned i, n_stretches;
    struct stretch at[]; /* moved on as they are given */
};

static void
giver_free(struct giver *g)
{
    if (g->read.piece.n > 0)
        store_piece_drop(&g->read.piece);
    store_drop(&g->object);
    free(g);
}

static void giver_go(struct giver *g);

static void
giver_read(struct sl_loop *loop, struct store_read *read, enum store_io io)
{
    struct giver *g = (struct giver *)(void *)read;

    (void)loop;
    g->io = io;
    g->is_reading = 0;
    if (g->r == NULL)
        giver_free(g);
    else
        giver_go(g);
}

/* A slice of what is at hand; 0: that was all of it. */
static size_t
giver_slice(struct giver *g, struct sl_data *data)
{
    struct stretch *s = &g->at[g->i];
    size_t n = g->read.piece.n - g->used;

    if (n > SLICE)
        n = SLICE;
    if (s->n >= 0 && (int64_t)n > s->n)
        n = (size_t)s->n;
    *data = (struct sl_data){g->read.piece.at + g->used, n, NULL};
    g->used += n;
    s->from += (int64_t)n;
    if (s->n >= 0)
        s->n -= (int64_t)n;
    return n;
}

static int
giver_is_last(const struct giver *g)
{
    return g->i + 1 == g->n_stretches;
}

static void
piece_done(struct giver *g)
{
    if (g->read.piece.n > 0)
        store_piece_drop(&g->read.piece);
    g->read.piece.n = 0;
    g->used = 0;
}

/* The next bytes of the body are asked for: 1 they are at hand. */
static int
giver_fetch(struct giver *g)
{
    struct stretch *s = &g->at[g->i];

    piece_done(g);
    g->read.object = g->object;
    g->read.from = (uint64_t)s->from;
    g->read.how = sl_source_takes_files(g->r) ? STORE_FILE : STORE_MEMORY;
    g->read.done = giver_read;
    g->is_reading = 1;
    g->io = store_read(cache_store, sl_req_loop(g->r), &g->read);
    if (g->io == STORE_IO_WAIT)
        return 0;
    g->is_reading = 0;
    return 1;
}

/* The piece at hand is a file's: what the client takes of it.  As giver_body(). */
static int
giver_file(struct giver *g)
{
    struct stretch *s = &g->at[g->i];
    struct store_piece *piece = &g->read.piece;
    size_t left = piece->n - g->used, n = left;
    int64_t at = piece->offset + (int64_t)g->used;
    enum sl_flow flow;
    int ends;

    if (s->n >= 0 && (int64_t)n > s->n)
        n = left = (size_t)s->n;
    ends = giver_is_last(g) && s->n == (int64_t)n;
    flow = sl_source_file(g->r, piece->fd, &at, &left, ends);
    if (flow == SL_FLOW_GONE || (ends && flow == SL_FLOW_ROOM))
        return 0; /* g may be free */
    n -= left;
    g->used += n;
    s->from += (int64_t)n;
    if (s->n >= 0)
        s->n -= (int64_t)n;
    return flow == SL_FLOW_ROOM;
}

/* One step: 1 go on, 0 stop, r may be gone. */
static int
giver_body(struct giver *g)
{
    struct stretch *s = &g->at[g->i];
    struct sl_data data = {NULL, 0, NULL};
    int ends;

    if (s->n == 0) {
        piece_done(g);
        g->i++;
        return 1;
    }
    if (g->used == g->read.piece.n && !giver_fetch(g))
        return 0;
    if (g->io == STORE_IO_BROKEN || (g->io == STORE_IO_END && s->n > 0)) {
        sl_source_fail(g->r, &sl_cause_truncated);
        return 0;
    }
    if (g->io == STORE_IO_OK && g->read.piece.at == NULL)
        return giver_file(g);
    if (g->io == STORE_IO_OK)
        giver_slice(g, &data);
    ends = giver_is_last(g) && (g->io == STORE_IO_END || s->n == 0);
    if (g->io == STORE_IO_END)
        s->n = 0;
    return sl_source_body(g->r, data, ends) == SL_FLOW_ROOM && !ends;
}

static int
giver_text(struct giver *g)
{
    struct sl_span text = g->at[g->i].text;
    struct sl_data data = {text.at, text.n, NULL};
    int ends = giver_is_last(g);

    g->i++;
    return sl_source_body(g->r, data, ends) == SL_FLOW_ROOM && !ends;
}

static void
giver_go(struct giver *g)
{
    int more = 1;

    while (more)
        more = g->at[g->i].text.n > 0 ? giver_text(g) : giver_body(g);
}

static void
giver_want(struct sl_req *r, void *ctx)
{
    struct giver *g = ctx;

    (void)r;
    if (!g->is_reading)
        giver_go(g);
}

static void
giver_closed(struct sl_req *r, void *ctx)
{
    struct giver *g = ctx;

    (void)r;
    g->r = NULL;
    if (!g->is_reading || store_read_cancel(&g->read))
        giver_free(g);
}

static const struct sl_source giver_source = {giver_want, giver_closed};

static struct giver *
giver_new(struct visit *v, unsigned n)
{
    struct giver *g = calloc(1, sizeof *g + n * sizeof g->at[0]);

    SL_ASSERT(g != NULL);
    g->r = v->r;
    g->object = v->found;
    store_hold(g->object);
    g->n_stretches = n;
    return g;
}

/* ---- the whole ---- */

/* Small, whole and in memory: no source is needed. */
static int
answer_at_once(struct visit *v, int64_t size, int is_complete)
{
    struct store_read read = {.object = v->found, .how = STORE_MEMORY};

    if (!is_complete || size > AT_ONCE || !store_is_in_memory(v->found))
        return 0;
    if (size == 0 || store_read(cache_store, sl_req_loop(v->r), &read) != STORE_IO_OK)
        return size == 0;
    v->piece = read.piece;
    return (int64_t)read.piece.n == size;
}

static enum sl_verdict
answer_whole(struct visit *v, int64_t size, int is_complete, int64_t length)
{
    struct giver *g;

    put_fields(v, v->meta.status);
    if (answer_at_once(v, size, is_complete)) {
        const char *body = v->piece.n > 0 ? v->piece.at : "";

        return sl_respond(v->r, v->meta.status, NULL, (struct sl_span){body, (size_t)size});
    }
    g = giver_new(v, 1);
    g->at[0] = (struct stretch){.from = 0, .n = is_complete && size > 0 ? size : -1};
    return sl_respond_from(v->r, v->meta.status, length, &giver_source, g);
}

/* ---- ranges ---- */

static enum sl_verdict
answer_range(struct visit *v, const struct range *range, int64_t size)
{
    struct giver *g = giver_new(v, 1);

    put_fields(v, 206);
    sl_fields_set(sl_req_response(v->r), "Content-Range",
                  sl_span(apr_psprintf(sl_req_pool(v->r), "bytes %ld-%ld/%ld", (long)range->from,
                                       (long)(range->from + range->n - 1), (long)size)));
    g->at[0] = (struct stretch){.from = range->from, .n = range->n};
    return sl_respond_from(v->r, 206, range->n, &giver_source, g);
}

static const char *
boundary_make(apr_pool_t *pool)
{
    unsigned char bytes[BOUNDARY_BYTES];
    char *text = apr_palloc(pool, 2 * sizeof bytes + 1);
    size_t i;

    sl_random_bytes(bytes, sizeof bytes);
    for (i = 0; i < sizeof bytes; i++)
        apr_snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return text;
}

static struct sl_span
part_head(apr_pool_t *pool, const char *boundary, struct sl_span type, const struct range *range,
          int64_t size)
{
    const char *begin = type.n > 0 ? "Content-Type: " : "", *end = type.n > 0 ? "\r\n" : "";

    return sl_span(apr_psprintf(
        pool, "\r\n--%s\r\n%s%.*s%sContent-Range: bytes %ld-%ld/%ld\r\n\r\n", boundary, begin,
        (int)type.n, type.n > 0 ? type.at : "", end, (long)range->from,
        (long)(range->from + range->n - 1), (long)size));
}

/* RFC 9110, 14.6. */
static enum sl_verdict
answer_ranges(struct visit *v, const struct range *ranges, int n, int64_t size)
{
    apr_pool_t *pool = sl_req_pool(v->r);
    struct giver *g = giver_new(v, 2 * (unsigned)n + 1);
    const char *boundary = boundary_make(pool);
    struct sl_span type = meta_get(&v->meta, "Content-Type"), text;
    int64_t length = 0;
    int i;

    put_fields(v, 206);
    for (i = 0; i < n; i++) {
        text = part_head(pool, boundary, type, &ranges[i], size);
        g->at[2 * i].text = text;
        g->at[2 * i + 1] = (struct stretch){.from = ranges[i].from, .n = ranges[i].n};
        length += (int64_t)text.n + ranges[i].n;
    }
    text = sl_span(apr_psprintf(pool, "\r\n--%s--\r\n", boundary));
    g->at[2 * n].text = text;
    sl_fields_set(sl_req_response(v->r), "Content-Type",
                  sl_span(apr_psprintf(pool, "multipart/byteranges; boundary=%s", boundary)));
    return sl_respond_from(v->r, 206, length + (int64_t)text.n, &giver_source, g);
}

static enum sl_verdict
answer_no_range(struct visit *v, int64_t size)
{
    sl_fields_set(sl_req_response(v->r), "Content-Range",
                  sl_span(apr_psprintf(sl_req_pool(v->r), "bytes */%ld", (long)size)));
    return sl_respond(v->r, 416, NULL, SL_SPAN(""));
}

/* ---- which of them ---- */

static int
is_conditional(struct sl_req *r)
{
    const struct sl_fields *head = sl_req_head(r);

    return sl_fields_has_id(head, SL_F_IF_NONE_MATCH) ||
           sl_fields_has_id(head, SL_F_IF_MODIFIED_SINCE);
}

static int
client_has_it(struct visit *v)
{
    struct sl_fields *head = sl_req_head(v->r);
    struct condition_facts f = {
        .if_none_match = sl_fields_joined(head, "If-None-Match"),
        .if_modified_since = sl_fields_get_id(head, SL_F_IF_MODIFIED_SINCE),
        .etag = meta_get(&v->meta, "ETag"),
        .last_modified = meta_get(&v->meta, "Last-Modified"),
        .date = v->meta.date,
    };

    return v->meta.status == 200 && policy_not_modified(&f);
}

/* How many ranges are to be given of it. */
static int
ranges_of(struct visit *v, int64_t length, struct range *ranges)
{
    struct sl_fields *head = sl_req_head(v->r);
    struct sl_span field = sl_fields_get_id(head, SL_F_RANGE);

    if (field.n == 0 || v->meta.status != 200 || length < 0 ||
        !sl_span_eq(sl_req_method(v->r), SL_SPAN("GET")) ||
        !policy_range_holds(sl_fields_get_id(head, SL_F_IF_RANGE), meta_get(&v->meta, "ETag"),
                            meta_get(&v->meta, "Last-Modified"), v->meta.date))
        return 0;
    return policy_ranges(field, length, ranges);
}

/* The age is of now: a flight's answer was judged when nothing was known of it. */
static void
age_now(struct visit *v)
{
    int64_t now = sl_loop_wall_us(sl_req_loop(v->r)) / 1000000;

    v->using.age = now > v->meta.storing.born ? now - v->meta.storing.born : 0;
}

enum sl_verdict
answer_object(struct visit *v)
{
    struct range ranges[RANGES_MAX];
    int is_complete, n;
    int64_t size = store_size(v->found, &is_complete), length;

    age_now(v);
    if (is_conditional(v->r) && client_has_it(v)) {
        put_fields(v, 304);
        return sl_respond(v->r, 304, NULL, SL_SPAN(""));
    }
    length = is_complete ? size : v->length;
    n = ranges_of(v, length, ranges);
    if (n < 0)
        return answer_no_range(v, length);
    if (n == 1)
        return answer_range(v, &ranges[0], length);
    if (n > 1)
        return answer_ranges(v, ranges, n, length);
    return answer_whole(v, size, is_complete, length);
}
