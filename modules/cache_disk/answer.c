/* What is stored, as an answer: conditions first, then ranges, then the body. */
#include "giver.h"
#include "status.h"

#include <apr_strings.h>

#define AT_ONCE 65536 /* a body in memory up to this goes in one piece with its head */
#define BOUNDARY_BYTES 12
#define OWN_BYTES (64 + STATUS_MAX) /* of Age and Cache-Status at their longest */

/* ---- the head ---- */

#define OF_304                                                                               \
    (sl_field_bit(SL_F_CACHE_CONTROL) | sl_field_bit(SL_F_CONTENT_LOCATION) |                \
     sl_field_bit(SL_F_DATE) | sl_field_bit(SL_F_ETAG) | sl_field_bit(SL_F_EXPIRES) |        \
     sl_field_bit(SL_F_VARY) | sl_field_bit(SL_F_LAST_MODIFIED))

/* RFC 9110, 15.4.5: what a 304 says of the response it stands for. */
static int
is_of_304(const struct sl_field *x)
{
    return (OF_304 >> x->id & 1) != 0;
}

/* A line whose value is between `at` and `end`, where its CR and LF stand. */
static char *
line_before(char *at, const char *end, struct sl_span name, enum sl_field_id id,
            struct sl_field *x)
{
    char *line = text_before(text_before(at, SL_SPAN(": ")), name);

    *x = (struct sl_field){{line, name.n}, {at, (size_t)(end - at)}, (uint8_t)id, 0};
    return line;
}

static void
put_own_fields(struct visit *v)
{
    struct sl_fields *to = sl_req_response(v->r);
    char *end = (char *)apr_palloc(sl_req_pool(v->r), OWN_BYTES) + OWN_BYTES, *at;
    struct sl_field age, status;

    end = text_before(end, SL_SPAN("\r\n"));
    at = status_before(end, v);
    at = line_before(at, end, SL_SPAN("Cache-Status"), SL_F_CACHE_STATUS, &status);
    end = text_before(at, SL_SPAN("\r\n"));
    line_before(number_before(end, v->using.age), end, SL_SPAN("Age"), SL_F_AGE, &age);
    sl_fields_restore(to, &age);
    sl_fields_restore(to, &status);
}

/* Spans into what is held until the request ends. */
static void
put_fields(struct visit *v, int status)
{
    struct sl_fields *to = sl_req_response(v->r);
    struct sl_field x;
    unsigned i;

    for (i = 0; meta_field(&v->meta, i, &x); i++)
        if (!is_tag_field(&x) && (status != 304 || is_of_304(&x)))
            sl_fields_restore(to, &x);
    put_own_fields(v);
}

/* The age is of now: a flight's answer was judged when nothing was known of it. */
static void
age_now(struct visit *v)
{
    int64_t now = wall_s(sl_req_loop(v->r));

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
    sl_fields_unset_id(fields, SL_F_AGE);
    if (v->conf->ignore & IGNORE_SET_COOKIE)
        sl_fields_unset_id(fields, SL_F_SET_COOKIE);
    put_own_fields(v);
}

/* ---- the whole ---- */

/* Small, whole and in memory: no source is needed. */
static int
is_at_once(const struct store_object *o, int64_t size, struct sl_span *body)
{
    struct sl_span all = store_body(o);

    if (all.at == NULL || (int64_t)all.n != size || size > AT_ONCE)
        return 0;
    *body = all;
    return 1;
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

/* Of an error, no body would be a bare status, for which ErrorPage may have a page. */
static int
is_bare(const struct visit *v, int64_t size)
{
    return size == 0 && v->meta.status >= 400;
}

enum sl_verdict
answer_body(struct visit *v)
{
    int is_complete, is_given;
    int64_t size, length = length_of(v, &size, &is_complete);
    struct sl_span body;
    struct giver *g;

    is_given = is_complete && v->meta.whole == 0 && !is_bare(v, size) &&
               is_at_once(v->found, size, &body) &&
               (v->form_object == NULL ||
                is_at_once(v->form_object, v->form.length, &v->form.body));
    if (v->form_object != NULL)
        sl_encoding_offer(v->r, &v->form);
    if (is_given)
        return sl_respond(v->r, v->meta.status, NULL, body);
    g = giver_new(v, 1);
    g->at[0] = (struct portion){.from = 0, .n = is_complete && size > 0 ? size : -1};
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
    g->at[0] = (struct portion){.from = range->from, .n = range->n};
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
    struct sl_span type = meta_get(&v->meta, SL_F_CONTENT_TYPE), text;
    int64_t length = 0;
    int i;

    put_fields(v, 206);
    for (i = 0; i < n; i++) {
        text = part_head(pool, boundary, type, &ranges[i], size);
        g->at[2 * i].text = text;
        g->at[2 * i + 1] = (struct portion){.from = ranges[i].from, .n = ranges[i].n};
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
    return sl_fields_has_any(sl_req_head(r), sl_field_bit(SL_F_IF_NONE_MATCH) |
                                                 sl_field_bit(SL_F_IF_MODIFIED_SINCE));
}

static int
client_has_it(struct visit *v)
{
    struct sl_fields *head = sl_req_head(v->r);
    struct condition_facts f = {
        .if_none_match = sl_fields_joined_id(head, SL_F_IF_NONE_MATCH),
        .if_modified_since = sl_fields_joined_id(head, SL_F_IF_MODIFIED_SINCE),
        .etag = meta_get(&v->meta, SL_F_ETAG),
        .last_modified = meta_get(&v->meta, SL_F_LAST_MODIFIED),
        .date = v->meta.storing.date,
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
        !policy_range_holds(sl_fields_get_id(head, SL_F_IF_RANGE), meta_get(&v->meta, SL_F_ETAG),
                            meta_get(&v->meta, SL_F_LAST_MODIFIED), v->meta.storing.date))
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
