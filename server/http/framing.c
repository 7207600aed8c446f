/* Where a body ends, whether the connection lives on, and which fields stop here.
 *
 * Two parsers that disagree about the end of a message are a hole (request smuggling), so
 * whatever leaves room for two opinions is refused: repeated or listed lengths even when
 * equal, a length beside a coding, codings other than plain chunked. */
#include "http/fields.h"
#include "http/head.h"
#include "sluice/log.h"

#define BIT(id) ((uint64_t)1 << SL_F_##id)

/* Content-Length = 1*DIGIT (RFC 9110, 8.6). */
static int
length_of(struct sl_span text, uint64_t *length)
{
    int64_t sum = 0;
    size_t i;

    for (i = 0; i < text.n; i++) {
        unsigned digit = (unsigned char)text.at[i] - (unsigned)'0';

        if (digit > 9 || __builtin_mul_overflow(sum, 10, &sum) ||
            __builtin_add_overflow(sum, digit, &sum))
            return 0;
    }
    *length = (uint64_t)sum;
    return text.n > 0;
}

enum coding { CODING_CHUNKED, CODING_UNKNOWN, CODING_BAD };

/* All Transfer-Encoding lines as one list (RFC 9112, 6.1): chunked alone, others that are
 * at least well formed and end in chunked, or nonsense. */
static enum coding __attribute__((noinline))
coding_of(const struct sl_field *fields, unsigned n)
{
    unsigned i, n_codings = 0, n_chunked = 0, is_chunked = 0;
    struct sl_span rest, member;

    for (i = 0; i < n; i++) {
        if (fields[i].id != SL_F_TRANSFER_ENCODING)
            continue;
        for (rest = fields[i].value; sl_list_next(&rest, &member); n_codings++) {
            if (!is_token(member))
                return CODING_BAD;
            is_chunked = (unsigned)sl_span_eqi(member, SL_SPAN("chunked"));
            n_chunked += is_chunked;
        }
    }
    if (!is_chunked || n_chunked != 1)
        return CODING_BAD;
    return n_codings == 1 ? CODING_CHUNKED : CODING_UNKNOWN;
}

/* The one Content-Length: 0 when it is repeated or no number. */
static int
only_length(const struct sl_field *fields, unsigned n, uint64_t *length)
{
    unsigned i, seen = 0;

    for (i = 0; i < n; i++)
        if (fields[i].id == SL_F_CONTENT_LENGTH)
            if (seen++ > 0 || !length_of(fields[i].value, length))
                return 0;
    return seen == 1;
}

struct framed {
    int version;
    uint64_t ids;
    const struct sl_field *fields;
    unsigned n;
};

/* What the fields say, in either direction: FRAMING_NONE where they say nothing. */
static enum parse
framing_of(const struct framed *m, enum framing *framing, uint64_t *length,
           const struct sl_cause *bad, const struct sl_cause *unknown,
           const struct sl_cause **why)
{
    *framing = FRAMING_NONE;
    *length = 0;
    *why = bad;
    switch (m->ids & (BIT(CONTENT_LENGTH) | BIT(TRANSFER_ENCODING))) {
    case 0:
        return PARSE_OK;
    case BIT(CONTENT_LENGTH):
        *framing = FRAMING_LENGTH;
        return only_length(m->fields, m->n, length) ? PARSE_OK : PARSE_BAD;
    case BIT(TRANSFER_ENCODING):
        if (m->version < 11) /* RFC 9112, 6.1: its framing is faulty */
            return PARSE_BAD;
        break;
    default: /* both: RFC 9112, 6.3 rule 3 */
        return PARSE_BAD;
    }
    *framing = FRAMING_CHUNKED;
    switch (coding_of(m->fields, m->n)) {
    case CODING_CHUNKED:
        return PARSE_OK;
    case CODING_UNKNOWN:
        *why = unknown;
        return PARSE_BAD;
    case CODING_BAD:
        break;
    }
    return PARSE_BAD;
}

enum parse
framing_of_request(const struct request_head *head, const struct sl_field *fields,
                   enum framing *framing, uint64_t *length, const struct sl_cause **why)
{
    struct framed m = {head->version, head->ids, fields, head->n_fields};

    return framing_of(&m, framing, length, &sl_cause_bad_framing, &sl_cause_coding_unknown,
                      why);
}

/* RFC 9112, 6.3 rule 1: these end with their head, whatever it says. */
static int
is_bodiless(int status, struct sl_span method)
{
    return status < 200 || status == 204 || status == 304 ||
           sl_span_eq(method, SL_SPAN("HEAD"));
}

enum parse
framing_of_response(const struct response_head *head, const struct sl_field *fields,
                    struct sl_span method, enum framing *framing, uint64_t *length,
                    const struct sl_cause **why)
{
    struct framed m = {head->version, head->ids, fields, head->n_fields};

    if (head->status / 100 == 2 && sl_span_eq(method, SL_SPAN("CONNECT"))) {
        *framing = FRAMING_NONE; /* RFC 9112, 6.3 rule 2: a tunnel, its fields ignored */
        *length = 0;
        return PARSE_OK;
    }
    if (framing_of(&m, framing, length, &sl_cause_bad_response, &sl_cause_bad_response, why) !=
        PARSE_OK)
        return PARSE_BAD;
    if (is_bodiless(head->status, method)) {
        *framing = FRAMING_NONE;
        *length = 0;
    } else if (*framing == FRAMING_NONE) {
        *framing = FRAMING_CLOSE;
    }
    return PARSE_OK;
}

static int __attribute__((noinline))
connection_says(const struct sl_field *fields, unsigned n, int is_kept)
{
    struct sl_span rest, member;
    unsigned i;

    for (i = 0; i < n; i++) {
        if (fields[i].id != SL_F_CONNECTION)
            continue;
        for (rest = fields[i].value; sl_list_next(&rest, &member);) {
            if (sl_span_eqi(member, SL_SPAN("close")))
                return 0;
            if (sl_span_eqi(member, SL_SPAN("keep-alive")))
                is_kept = 1;
        }
    }
    return is_kept;
}

int
connection_persists(int version, const struct sl_field *fields, unsigned n, uint64_t ids)
{
    int is_kept = version >= 11;

    return ids & BIT(CONNECTION) ? connection_says(fields, n, is_kept) : is_kept;
}

#define KEEP_ALIVE_DIGITS 7 /* of seconds; more is as good as for ever */

/* "timeout=5" in ms; -1: it is something else. */
static int64_t
keep_alive_member(struct sl_span member)
{
    struct sl_span prefix = SL_SPAN("timeout=");
    int64_t seconds = 0;
    size_t i;

    if (member.n <= prefix.n || member.n > prefix.n + KEEP_ALIVE_DIGITS ||
        !sl_span_eqi((struct sl_span){member.at, prefix.n}, prefix))
        return -1;
    for (i = prefix.n; i < member.n; i++) {
        if (member.at[i] < '0' || member.at[i] > '9')
            return -1;
        seconds = seconds * 10 + (member.at[i] - '0');
    }
    return seconds * 1000;
}

static int64_t __attribute__((noinline))
keep_alive_says(const struct sl_field *fields, unsigned n)
{
    struct sl_span rest, member;
    int64_t ms;
    unsigned i;

    for (i = 0; i < n; i++) {
        if (fields[i].id != SL_F_KEEP_ALIVE)
            continue;
        for (rest = fields[i].value; sl_list_next(&rest, &member);)
            if ((ms = keep_alive_member(member)) >= 0)
                return ms;
    }
    return -1;
}

int64_t
keep_alive_ms(const struct sl_field *fields, unsigned n, uint64_t ids)
{
    return ids & BIT(KEEP_ALIVE) ? keep_alive_says(fields, n) : -1;
}

/* Gone at every hop; Trailer and the Proxy-Auth pair go only when named. */
#define HOP_BY_HOP                                                                           \
    (BIT(CONNECTION) | BIT(KEEP_ALIVE) | BIT(PROXY_CONNECTION) | BIT(TE) | BIT(UPGRADE) |    \
     BIT(TRANSFER_ENCODING))

/* What nobody makes us drop by naming it: routing and framing need them, servers take decisions by
 * who they say is asking, and caches on the way by what is for all of them (RFC 9110, 7.6.1). */
#define NOT_DROPPED                                                                          \
    (BIT(HOST) | BIT(CONTENT_LENGTH) | BIT(X_FORWARDED_FOR) | BIT(X_FORWARDED_PROTO) |       \
     BIT(X_FORWARDED_HOST) | BIT(X_REAL_IP) | BIT(FORWARDED) | BIT(VIA) |                    \
     BIT(CACHE_CONTROL) | BIT(VARY))

static void
drop_known(struct sl_field *fields, unsigned n, uint64_t drop)
{
    unsigned i;

    for (i = 0; i < n; i++)
        if ((sl_field_bit((enum sl_field_id)fields[i].id) & drop) != 0)
            fields[i].flags |= FIELD_DROPPED;
}

static int
is_x_forwarded(struct sl_span name)
{
    struct sl_span prefix = SL_SPAN("X-Forwarded-");

    return name.n > prefix.n && sl_span_eqi((struct sl_span){name.at, prefix.n}, prefix);
}

static void
drop_unknown(struct sl_field *fields, unsigned n, struct sl_span name)
{
    unsigned i;

    for (i = 0; i < n; i++)
        if (fields[i].id == SL_F_OTHER && sl_span_eqi(fields[i].name, name))
            fields[i].flags |= FIELD_DROPPED;
}

/* What one Connection line names: well-known names as bits, others are dropped at once. */
static uint64_t
drop_options(struct sl_field *fields, unsigned n, uint64_t ids, struct sl_span options)
{
    struct sl_span member;
    uint64_t drop = 0;

    while (sl_list_next(&options, &member)) {
        enum sl_field_id id = sl_field_id(member);

        if (id != SL_F_OTHER)
            drop |= sl_field_bit(id) & ~NOT_DROPPED;
        else if ((ids & BIT(OTHER)) != 0 && !is_x_forwarded(member))
            drop_unknown(fields, n, member);
    }
    return drop;
}

/* Drops well-known names by their bits in one pass. */
int
fields_drop_hop_by_hop(struct sl_field *fields, unsigned n, uint64_t ids)
{
    uint64_t drop = HOP_BY_HOP;
    unsigned i;

    if ((ids & HOP_BY_HOP) == 0)
        return 0;
    for (i = 0; i < n && (ids & BIT(CONNECTION)) != 0; i++)
        if (fields[i].id == SL_F_CONNECTION)
            drop |= drop_options(fields, n, ids, fields[i].value);
    drop_known(fields, n, drop);
    return 1;
}

void
fields_drop_named(struct sl_field *fields, unsigned n, struct sl_span options)
{
    drop_known(fields, n, drop_options(fields, n, ~(uint64_t)0, options));
}
