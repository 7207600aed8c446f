/* Which responses are encoded, and what their fields then say.
 *
 * Whether a response could be encoded depends on the response and the configuration; that
 * decides Vary, for every client alike (RFC 9110, 12.5.5).  Whether it is depends on the
 * request as well. */
#include "http/encode.h"
#include "http/coders.h"

#include "runtime/loader.h"
#include "runtime/span.h"
#include "sluice/provider.h"

#define ENCODERS_MAX 8
#define LIKINGS 8
#define LIKING_BYTES 64

static struct {
    const struct sl_encoder *encoder;
    unsigned index; /* of its module, which is asked for with each response */
} encoders[ENCODERS_MAX]; /* the highest rank first */
static unsigned n_encoders;

int
sl_encoder_register(const struct sl_module *self, const struct sl_encoder *encoder)
{
    unsigned i;

    if (n_encoders == ENCODERS_MAX ||
        sl_provider_register("encoder", encoder->coding, encoder) != 0)
        return -1;
    for (i = n_encoders++; i > 0 && encoders[i - 1].encoder->rank < encoder->rank; i--)
        encoders[i] = encoders[i - 1];
    encoders[i].encoder = encoder;
    encoders[i].index = loader_index_of(self);
    return 0;
}

const char *
sl_encoding_level(struct sl_cmd *cmd, void **item, int least, int most)
{
    const int64_t *level = (const void *)item;

    return *level >= least && *level <= most
               ? NULL
               : sl_cmd_error(cmd, "expected a number between %d and %d", least, most);
}

static const struct sl_encoding_conf *
encoder_conf(unsigned i, const struct sl_scope *scope)
{
    return scope->conf[encoders[i].index];
}

/* Whether this is the one whose hook does the work for all. */
static int
is_first_in_scope(const struct sl_scope *scope, const void *self)
{
    unsigned i;

    for (i = 0; i < n_encoders; i++) {
        const struct sl_encoding_conf *conf = encoder_conf(i, scope);

        if (conf->is_on || conf->decodes)
            return conf == self;
    }
    return 0;
}

/* ---- the response ---- */

/* "text/html; charset=utf-8" is of "text/html" and of the family "text". */
static int
type_matches(const apr_array_header_t *types, struct sl_span type)
{
    int i;

    for (i = 0; i < types->nelts; i++) {
        struct sl_span known = sl_span(APR_ARRAY_IDX(types, i, const char *)), part = type;

        if (known.n > 0 && known.at[known.n - 1] == '*') {
            if (known.n == 1)
                return 1;
            if (known.n > 2 && known.at[known.n - 2] == '/')
                part.n = type.n < --known.n ? type.n : known.n;
        }
        if (known.n == part.n && sl_span_eqi(known, part))
            return 1;
    }
    return 0;
}

static struct sl_span
response_type(const struct sl_req *r)
{
    struct sl_span type = sl_fields_get_id(&r->response, SL_F_CONTENT_TYPE);
    const char *end = type.n > 0 ? memchr(type.at, ';', type.n) : NULL;

    return end != NULL ? span_trim((struct sl_span){type.at, (size_t)(end - type.at)}) : type;
}

/* What of Cache-Control counts, with or without an argument. */
enum { PRIVATE = 1, NO_STORE = 2, NO_TRANSFORM = 4 };

static unsigned
cache_control_says(struct sl_fields *f)
{
    static const struct {
        struct sl_span name;
        unsigned bit;
    } known[] = {{{"private", 7}, PRIVATE}, {{"no-store", 8}, NO_STORE},
                 {{"no-transform", 12}, NO_TRANSFORM}};
    struct sl_span list, one;
    unsigned says = 0, i;

    if (!fields_may_have(f, SL_F_CACHE_CONTROL))
        return 0;
    list = sl_fields_joined_id(f, SL_F_CACHE_CONTROL);
    while (sl_list_next(&list, &one)) {
        const char *end = one.n > 0 ? memchr(one.at, '=', one.n) : NULL;

        if (end != NULL)
            one.n = (size_t)(end - one.at);
        for (i = 0; i < sizeof known / sizeof known[0]; i++)
            if (sl_span_eqi(one, known[i].name))
                says |= known[i].bit;
    }
    return says;
}

/* What is secret in it could be guessed from its length (BREACH), when a part of it is the
 * attacker's choice. */
static int
is_private(const struct sl_req *r, unsigned says)
{
    return (says & (PRIVATE | NO_STORE)) != 0 || sl_fields_has_id(&r->response, SL_F_SET_COOKIE);
}

static int
is_never_encoded(int status, unsigned says)
{
    return status < 200 || status == 204 || status == 205 || (says & NO_TRANSFORM) != 0;
}

/* What a GET would get as its body, -1: unknown.  A HEAD's own has none. */
static int64_t
full_length(const struct sl_req *r)
{
    struct sl_span digits = sl_fields_get_id(&r->response, SL_F_CONTENT_LENGTH);
    int64_t n = 0;
    size_t i;

    if (!sl_span_eq(r->method, SL_SPAN("HEAD")))
        return r->length;
    if (digits.at == NULL)
        return r->length > 0 ? r->length : -1;
    for (i = 0; i < digits.n && n < INT64_MAX / 10 - 9; i++)
        n = 10 * n + (digits.at[i] - '0');
    return n;
}

/* The coding it came with; empty: none. */
static struct sl_span
response_coding(struct sl_req *r)
{
    struct sl_span coding = sl_fields_joined_id(&r->response, SL_F_CONTENT_ENCODING);

    if (coding.at == NULL || sl_span_eqi(coding, SL_SPAN("identity")))
        return SL_SPAN("");
    return sl_span_eqi(coding, SL_SPAN("x-gzip")) ? SL_SPAN("gzip") : coding;
}

/* ---- its fields ---- */

static void
vary_set(struct sl_req *r)
{
    struct sl_fields *f = &r->response;
    struct sl_span vary;

    if (!sl_fields_has_id(f, SL_F_VARY)) {
        fields_push_line(f, SL_F_VARY, 4, SL_SPAN("Vary: Accept-Encoding\r\n"));
        return;
    }
    vary = sl_fields_joined_id(f, SL_F_VARY);
    if (vary.n == 0)
        sl_fields_set(f, "Vary", SL_SPAN("Accept-Encoding"));
    else if (sl_fields_lists(f, SL_F_VARY, "Accept-Encoding") || sl_fields_lists(f, SL_F_VARY, "*"))
        sl_fields_set(f, "Vary", vary);
    else
        sl_fields_set(f, "Vary", sl_spans_join(r->pool,
                                               (struct sl_span[]){vary, SL_SPAN(", Accept-Encoding")},
                                               2));
}

/* RFC 9110, 8.8.1: other bytes, the same meaning. */
static void
etag_weaken(struct sl_req *r)
{
    struct sl_span etag = sl_fields_get_id(&r->response, SL_F_ETAG);

    if (etag.at == NULL || (etag.n > 2 && memcmp(etag.at, "W/\"", 3) == 0))
        return;
    if (etag.n < 2 || etag.at[0] != '"')
        sl_fields_unset(&r->response, "ETag");
    else
        sl_fields_set(&r->response, "ETag",
                      sl_spans_join(r->pool, (struct sl_span[]){SL_SPAN("W/"), etag}, 2));
}

#define MAY_BE_OF_BYTES                                                                      \
    (sl_field_bit(SL_F_OTHER) | sl_field_bit(SL_F_CONTENT_LENGTH) |                          \
     sl_field_bit(SL_F_ACCEPT_RANGES))

static int
is_of_bytes(const struct sl_field *x)
{
    static const struct sl_span digests[] = { /* the last two: RFC 9530 */
        {"Content-MD5", 11}, {"Digest", 6}, {"Content-Digest", 14}, {"Repr-Digest", 11}};
    size_t i;

    if (x->id != SL_F_OTHER)
        return x->id == SL_F_CONTENT_LENGTH || x->id == SL_F_ACCEPT_RANGES;
    for (i = 0; i < sizeof digests / sizeof digests[0]; i++)
        if (x->name.n == digests[i].n && sl_span_eqi(x->name, digests[i]))
            return 1;
    return 0;
}

/* What was true of the bytes that came is not of those that leave. */
static void
fields_of_other_bytes(struct sl_req *r)
{
    etag_weaken(r);
    if (r->response.ids & MAY_BE_OF_BYTES)
        fields_unset_if(&r->response, is_of_bytes);
}

/* ---- decoding ---- */

static const struct sl_encoder *
decoder_for(const struct sl_req *r, struct sl_span coding)
{
    unsigned i;

    for (i = 0; i < n_encoders; i++)
        if (sl_span_eqi(coding, sl_span(encoders[i].encoder->coding)))
            return encoder_conf(i, r->scope)->decodes ? encoders[i].encoder : NULL;
    return NULL;
}

/* Whether it came encoded and stays so. */
static int
decode_or_leave(struct sl_req *r, struct sl_span accept)
{
    struct sl_span coding = response_coding(r);
    const struct sl_encoder *e = coding.n > 0 ? decoder_for(r, coding) : NULL;

    if (e == NULL)
        return coding.n > 0;
    vary_set(r);
    if (r->status == 206 || sl_encoding_quality(accept, coding) > 0 ||
        !coders_have_room(r->loop, e->decode, 0))
        return 1;
    sl_note(r, "decoded from %s, which the client does not accept", e->coding);
    fields_of_other_bytes(r);
    sl_fields_unset(&r->response, "Content-Encoding");
    if (answer_has_body(r))
        decode_filter_add(r, e->decode);
    return 0;
}

/* ---- encoding ---- */

static int
could_encode(const struct sl_encoding_conf *conf, struct sl_span type, int status, int64_t length,
             int is_secret)
{
    if (!conf->is_on || (is_secret && !conf->with_private) || !type_matches(conf->types, type))
        return 0;
    return status == 206 || length < 0 || (length > 0 && length >= conf->min);
}

/* Those that could encode it, in the order of encoders[]. */
static unsigned
candidates(struct sl_req *r, int status, int64_t length, unsigned says, unsigned *found)
{
    struct sl_span type = response_type(r);
    int is_secret = is_private(r, says);
    unsigned i, n = 0;

    for (i = 0; i < n_encoders && type.n > 0; i++)
        if (could_encode(encoder_conf(i, r->scope), type, status, length, is_secret))
            found[n++] = i;
    return n;
}

static struct sl_span
accepted(struct sl_req *r)
{
    return sl_fields_joined_id(&r->head, SL_F_ACCEPT_ENCODING);
}

/* What a client likes, by the words of its Accept-Encoding.  Clients of a kind write the same: a
 * thread keeps what it has read of some. */
struct liking {
    char accept[LIKING_BYTES];
    size_t n;
    unsigned identity, quality[ENCODERS_MAX];
};
static _Thread_local struct liking likings[LIKINGS];

static void
liking_read(struct liking *l, struct sl_span accept)
{
    unsigned i;

    l->identity = accept.at != NULL ? sl_encoding_quality(accept, SL_SPAN("identity")) : 1;
    for (i = 0; i < n_encoders; i++)
        l->quality[i] = sl_encoding_quality(accept, sl_span(encoders[i].encoder->coding));
}

/* One that is in `own`, or kept. */
static const struct liking *
liking_of(struct sl_span accept, struct liking *own)
{
    struct liking *l = &likings[accept.n % LIKINGS];

    if (accept.n == 0 || accept.n > LIKING_BYTES) {
        liking_read(own, accept);
        return own;
    }
    if (l->n != accept.n || memcmp(l->accept, accept.at, accept.n) != 0) {
        liking_read(l, accept);
        memcpy(l->accept, accept.at, accept.n);
        l->n = accept.n;
    }
    return l;
}

/* -1: the client likes it best as it is. */
static int
choose(struct sl_span accept, const unsigned *from, unsigned n)
{
    struct liking own;
    const struct liking *l = liking_of(accept, &own);
    unsigned best = l->identity, q, i;
    int chosen = -1;

    for (i = 0; i < n; i++) {
        q = l->quality[from[i]];
        if (q > best || (q == best && q > 0 && chosen < 0)) {
            best = q;
            chosen = (int)from[i];
        }
    }
    return chosen;
}

static void
fields_of_coding(struct sl_req *r, const struct sl_encoder *e)
{
    fields_of_other_bytes(r);
    fields_unset_id(&r->response, SL_F_CONTENT_ENCODING);
    fields_push(&r->response, SL_F_CONTENT_ENCODING, SL_SPAN("Content-Encoding"),
                sl_span(e->coding));
}

/* A filter that is in the way already is for the body as it is. */
static int
is_offered(const struct sl_req *r, const struct sl_encoder *e, int level)
{
    return r->encoded != NULL && r->encoded->encoder == e && r->encoded->level == level &&
           r->filters == NULL;
}

static void
take_offered(struct sl_req *r, struct sl_encoded *offered)
{
    sl_note(r, "encoded with %s before", offered->encoder->coding);
    fields_of_coding(r, offered->encoder);
    offered->is_taken = 1;
    if (offered->body.at != NULL)
        r->respond_body = offered->body;
    answer_set_length(r, offered->length);
}

static void
encode(struct sl_req *r, unsigned i)
{
    const struct sl_encoder *e = encoders[i].encoder;
    int level = (int)encoder_conf(i, r->scope)->level;
    int64_t length = r->length;

    if (is_offered(r, e, level)) {
        take_offered(r, r->encoded);
        return;
    }
    if (!coders_have_room(r->loop, e->encode, level)) {
        sl_note(r, "not encoded: the thread has no room for more states");
        return;
    }
    sl_note(r, "encoded with %s", e->coding);
    fields_of_coding(r, e);
    r->length = -1;
    if (answer_has_body(r))
        encode_filter_add(r, e->encode, level, length);
}

/* Whether the request's own words keep it as it is. */
static int
is_wanted_whole(struct sl_req *r)
{
    return sl_fields_has_id(&r->head, SL_F_RANGE) ||
           (cache_control_says(&r->head) & NO_TRANSFORM) != 0;
}

static void
encode_or_leave(struct sl_req *r, struct sl_span accept, unsigned says)
{
    unsigned found[ENCODERS_MAX], n = candidates(r, r->status, full_length(r), says, found);
    int chosen;

    if (n == 0)
        return;
    vary_set(r);
    if (r->status == 206 || is_wanted_whole(r))
        return;
    chosen = choose(accept, found, n);
    if (chosen >= 0)
        encode(r, (unsigned)chosen);
}

/* ---- bodies that are there in a coding already ---- */

#define FACT_IDS                                                                             \
    (sl_field_bit(SL_F_CONTENT_TYPE) | sl_field_bit(SL_F_CONTENT_ENCODING) |                 \
     sl_field_bit(SL_F_CACHE_CONTROL) | sl_field_bit(SL_F_SET_COOKIE))

/* Of the status and the fields a choice depends on: values are not written to, so where they lie
 * says which they are. */
static uint64_t
facts_of(const struct sl_req *r, int status)
{
    uint64_t facts = (uint64_t)status;
    unsigned i;

    for (i = 0; i < r->response.n; i++) {
        const struct sl_field *x = &r->response.at[i];

        if (FACT_IDS >> x->id & 1)
            facts = (facts ^ (uintptr_t)x->value.at ^ x->value.n) * UINT64_C(0x9e3779b97f4a7c15);
    }
    return facts;
}

/* What is offered is what was expected, and nothing has come between. */
static int
is_as_expected(const struct sl_req *r)
{
    return r->encoded != NULL && !r->encoded->is_taken && r->filters == NULL &&
           r->encoded->facts == facts_of(r, r->status);
}

void
sl_encoding_offer(struct sl_req *r, struct sl_encoded *e)
{
    r->encoded = e;
}

void
sl_encoding_expect(struct sl_req *r, int status, int64_t length, struct sl_encoded *e)
{
    unsigned found[ENCODERS_MAX], n = 0, says;
    int chosen = -1;

    e->encoder = NULL;
    if (n_encoders == 0 || status == 206)
        return;
    says = cache_control_says(&r->response);
    if (!is_never_encoded(status, says) && response_coding(r).n == 0)
        n = candidates(r, status, length, says, found);
    if (n > 0 && !is_wanted_whole(r))
        chosen = choose(accepted(r), found, n);
    if (chosen < 0)
        return;
    e->encoder = encoders[chosen].encoder;
    e->level = (int)encoder_conf((unsigned)chosen, r->scope)->level;
    e->facts = facts_of(r, status);
}

/* ---- 304 ---- */

/* The client asked with our weakened form of this tag and not with the server's own: what it
 * has is what we encoded. */
static int
asked_with_weak(struct sl_req *r, struct sl_span etag)
{
    struct sl_span asked = sl_fields_joined_id(&r->head, SL_F_IF_NONE_MATCH);
    const char *at = asked.at, *end = asked.at + asked.n;
    int n_weak = 0;

    if (at == NULL || etag.n < 2 || etag.at[0] != '"')
        return 0;
    for (; (at = memmem(at, (size_t)(end - at), etag.at, etag.n)) != NULL; at += etag.n) {
        if (at - asked.at < 2 || memcmp(at - 2, "W/", 2) != 0)
            return 0;
        n_weak++;
    }
    return n_weak > 0;
}

/* RFC 9110, 15.4.5: the fields a 200 would have had.  Without Content-Type it may have been one
 * that varies, and a field too many does no harm. */
static void
not_modified(struct sl_req *r)
{
    struct sl_span type = response_type(r);
    unsigned i;

    for (i = 0; i < n_encoders; i++) {
        const struct sl_encoding_conf *conf = encoder_conf(i, r->scope);

        if (conf->decodes || (conf->is_on && (type.n == 0 || type_matches(conf->types, type))))
            break;
    }
    if (i == n_encoders)
        return;
    vary_set(r);
    if (asked_with_weak(r, sl_fields_get_id(&r->response, SL_F_ETAG)))
        etag_weaken(r);
}

enum sl_verdict
sl_encode_response(struct sl_req *r, const void *conf)
{
    struct sl_span accept;
    unsigned says;

    if (is_as_expected(r)) {
        vary_set(r);
        take_offered(r, r->encoded);
        return SL_NEXT;
    }
    if (!is_first_in_scope(r->scope, conf))
        return SL_NEXT;
    says = cache_control_says(&r->response);
    if (is_never_encoded(r->status, says))
        return SL_NEXT;
    if (r->status == 304) {
        not_modified(r);
        return SL_NEXT;
    }
    accept = accepted(r);
    if (!decode_or_leave(r, accept))
        encode_or_leave(r, accept, says);
    return SL_NEXT;
}
