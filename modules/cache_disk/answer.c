/* What is stored, as an answer: conditions first, then ranges, then the body. */
#include "giver.h"

#include <apr_strings.h>

#define AT_ONCE 65536 /* a body in memory up to this goes in one piece with its head */
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

static int
is_plain_miss(const struct visit *v)
{
    return !v->is_hit && !v->is_partial && !v->is_variant && !v->is_collapsed &&
           strcmp(v->status, "MISS") == 0;
}

/* RFC 9211.  What a server was asked for in vain is no hit. */
static struct sl_span
cache_status(const struct visit *v)
{
    struct sl_span parts[5] = {SL_SPAN("sluice; fwd="), SL_SPAN("uri-miss"), SL_SPAN(""),
                               SL_SPAN("; stored"), SL_SPAN("")};
    int is_agreed = strcmp(v->status, "REVALIDATED") == 0;

    if (is_plain_miss(v))
        return SL_SPAN("sluice; fwd=uri-miss; stored");
    if (v->is_hit)
        return with_number(sl_req_pool(v->r),
                           v->flight == NULL ? SL_SPAN("sluice; hit; ttl=")
                           : v->is_collapsed ? SL_SPAN("sluice; fwd=stale; collapsed; ttl=")
                                             : SL_SPAN("sluice; fwd=stale; ttl="),
                           v->meta.storing.lifetime - v->using.age);
    if (v->is_partial)
        parts[1] = SL_SPAN("partial");
    else if (is_agreed || strcmp(v->status, "EXPIRED") == 0)
        parts[1] = v->using.is_refused ? SL_SPAN("request") : SL_SPAN("stale");
    else if (v->is_variant)
        parts[1] = SL_SPAN("vary-miss");
    if (is_agreed)
        parts[2] = SL_SPAN("; fwd-status=304");
    if (v->is_collapsed)
        parts[4] = SL_SPAN("; collapsed");
    return sl_spans_join(sl_req_pool(v->r), parts, 5);
}

static void
put_own_fields(struct visit *v)
{
    struct sl_fields *to = sl_req_response(v->r);
    struct sl_field age = {SL_SPAN("Age"), with_number(sl_req_pool(v->r), SL_SPAN(""), v->using.age),
                           SL_F_AGE, 0};
    struct sl_field status = {SL_SPAN("Cache-Status"), cache_status(v), SL_F_CACHE_STATUS, 0};

    sl_fields_restore(to, &age);
    sl_fields_restore(to, &status);
}

/* Spans into what is held until the request ends. */
static void
put_fields(struct visit *v, int status)
{
    struct sl_fields *to = sl_req_response(v->r);
    struct sl_span rest = v->meta.fields;
    struct sl_field x;

    while (meta_next(&rest, &x))
        if (!is_tag_field(&x) && (status != 304 || is_of_304(x.name)))
            sl_fields_restore(to, &x);
    put_own_fields(v);
}

/* The age is of now: a flight's answer was judged when nothing was known of it. */
static void
age_now(struct visit *v)
{
    int64_t now = sl_loop_wall_us(sl_req_loop(v->r)) / 1000000;

    v->using.age = now > v->meta.storing.born ? now - v->meta.storing.born : 0;
}

void
answer_as_stored(struct visit *v, int64_t born)
{
    struct sl_fields *fields = sl_req_response(v->r);

    v->meta.storing.born = born;
    age_now(v);
    sl_req_set_status(v->r, sl_req_status(v->r)); /* in the words of ours */
    tag_fields_drop(fields);
    sl_fields_unset(fields, "Age");
    if (v->conf->ignore & IGNORE_SET_COOKIE)
        sl_fields_unset(fields, "Set-Cookie");
    put_own_fields(v);
}

/* ---- the whole ---- */

/* Small, whole and in memory: no source is needed. */
static int
is_at_once(struct visit *v, struct store_object *o, int64_t size, struct store_piece *piece)
{
    struct store_read read = {.object = o, .how = STORE_MEMORY};

    if (size > AT_ONCE || !store_is_in_memory(o))
        return 0;
    if (size == 0 || store_read(cache_store, sl_req_loop(v->r), &read) != STORE_IO_OK)
        return size == 0;
    *piece = read.piece;
    return (int64_t)piece->n == size;
}

static int
answer_at_once(struct visit *v, int64_t size, int is_complete)
{
    return is_complete && v->meta.whole == 0 && is_at_once(v, v->found, size, &v->piece) &&
           (v->form_object == NULL ||
            is_at_once(v, v->form_object, v->form.length, &v->form_piece));
}

/* How long the body is, -1: nobody knows yet; *size: how much of it is there. */
static int64_t
length_of(const struct visit *v, int64_t *size, int *is_complete)
{
    *size = store_size(v->found, is_complete);
    if (v->meta.whole > 0)
        *size = v->meta.whole;
    return *is_complete || v->meta.whole > 0 ? *size : v->length;
}

enum sl_verdict
answer_body(struct visit *v)
{
    int is_complete, is_given;
    int64_t size, length = length_of(v, &size, &is_complete);
    struct giver *g;

    is_given = answer_at_once(v, size, is_complete);
    if (v->form_object != NULL) {
        if (is_given)
            v->form.body = (struct sl_span){v->form_piece.at, v->form_piece.n};
        sl_encoding_offer(v->r, &v->form);
    }
    if (is_given) {
        const char *body = v->piece.n > 0 ? v->piece.at : "";

        return sl_respond(v->r, v->meta.status, NULL, (struct sl_span){body, (size_t)size});
    }
    g = giver_new(v, 1);
    g->at[0] = (struct stretch){.from = 0, .n = is_complete && size > 0 ? size : -1};
    return sl_respond_from(v->r, v->meta.status, length, &giver_source, g);
}

/* What is in slices has no form: it is never there as a whole. */
static enum sl_verdict
answer_whole(struct visit *v, int64_t size, int is_complete)
{
    put_fields(v, v->meta.status);
    v->is_answering = 1;
    return is_complete && v->meta.whole == 0 && form_look(v, size) ? SL_WAIT : answer_body(v);
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
        .if_none_match = sl_fields_joined_id(head, SL_F_IF_NONE_MATCH),
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

enum sl_verdict
answer_object(struct visit *v)
{
    struct range ranges[RANGES_MAX];
    int is_complete, n;
    int64_t size, length;

    age_now(v);
    if (is_conditional(v->r) && client_has_it(v)) {
        put_fields(v, 304);
        return sl_respond(v->r, 304, NULL, SL_SPAN(""));
    }
    length = length_of(v, &size, &is_complete);
    n = ranges_of(v, length, ranges);
    if (n < 0)
        return answer_no_range(v, length);
    if (n == 1)
        return answer_range(v, &ranges[0], length);
    if (n > 1)
        return answer_ranges(v, ranges, n, length);
    return answer_whole(v, size, is_complete);
}

int64_t
answer_first(struct visit *v)
{
    struct range ranges[RANGES_MAX];
    int n;

    if ((is_conditional(v->r) && client_has_it(v)) ||
        sl_span_eq(sl_req_method(v->r), SL_SPAN("HEAD")))
        return -1;
    n = ranges_of(v, v->meta.whole, ranges);
    return n < 0 ? -1 : n == 0 ? 0 : ranges[0].from;
}
