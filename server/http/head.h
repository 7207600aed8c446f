/* Heads of HTTP/1 messages: pure functions over bytes (RFC 9112, 2 to 5).
 *
 * Nothing here allocates, keeps state or does I/O.  A head is parsed when it may be
 * complete; MORE means that more bytes are needed, and parsing begins anew with them.
 * Anything ambiguous is BAD: bare CR or LF, obs-fold, bytes that may not stand in a field, a
 * missing version; white space before the colon, which is taken out of responses alone. */
#ifndef HTTP_HEAD_H
#define HTTP_HEAD_H

#include "sluice/fields.h"

enum parse { PARSE_OK, PARSE_MORE, PARSE_BAD };

/* sl_field.flags */
enum {
    FIELD_CANONICAL = 1, /* stands in its buffer as "Name: value\r\n": may leave as it is */
    FIELD_DROPPED = 2,   /* not sent on (hop by hop, replaced) */
    FIELD_FOLDED = 4,    /* CGI makes of "X_Real_IP" what it makes of "X-Real-IP" */
};

/* Among the ids of a section: some field is FIELD_FOLDED. */
#define FIELD_ID_FOLDED 63

/* sl_field_id() for names as they come in: FIELD_ID_FOLDED where '_' for '-' would make them
 * say who is asking or where the body ends. */
unsigned field_id_received(struct sl_span name);

/* Gives fields as they came in, flags set, their ids: the bits of those, and in *doubled of those that
 * came more than once. */
uint64_t fields_identify(struct sl_field *fields, unsigned n, uint64_t *doubled);

/* The bytes of a canonical line, CRLF included. */
static inline struct sl_span
field_line(const struct sl_field *f)
{
    return (struct sl_span){f->name.at, (size_t)(f->value.at + f->value.n + 2 - f->name.at)};
}

struct head_limits {
    size_t line;       /* request or status line, without CRLF */
    size_t head;       /* all of it */
    unsigned n_fields; /* at most the caller's array */
};

struct request_head {
    struct sl_span method;
    struct sl_span target;
    int version;     /* 10 or 11 */
    size_t size;     /* of the whole head, blank line included */
    unsigned n_fields;
    uint64_t ids;    /* bit per enum sl_field_id present */
    const struct sl_cause *why; /* BAD */
};

struct response_head {
    int status;
    struct sl_span reason;
    int version;
    size_t size;
    unsigned n_fields;
    uint64_t ids;
    const struct sl_cause *why; /* BAD: bad_response or response_too_large */
};

/* Parses from buf[0].  Empty lines before a request are skipped (RFC 9112, 2.2), at most
 * one CRLF.  On OK fields[0..n_fields) point into buf.  A head over a limit is BAD as soon
 * as that is known, also when incomplete.  A first byte that no method has is BAD at once. */
enum parse head_parse_request(const char *buf, size_t n, const struct head_limits *limits,
                              struct request_head *head, struct sl_field *fields);
enum parse head_parse_response(const char *buf, size_t n, const struct head_limits *limits,
                               struct response_head *head, struct sl_field *fields);

/* A trailer section, from behind the last chunk to the blank line (RFC 9112, 7.1.2). */
enum parse head_parse_trailers(const char *buf, size_t n, const struct head_limits *limits,
                               size_t *size, unsigned *n_fields, struct sl_field *fields);

/* Body framing (RFC 9112, 6.3).  `close` is for responses: until the connection ends. */
enum framing { FRAMING_NONE, FRAMING_LENGTH, FRAMING_CHUNKED, FRAMING_CLOSE };

/* Where the request's body ends.  BAD with *why where it is ambiguous: two lengths, length
 * with coding, coding that does not end in chunked, in HTTP/1.0, lists, signs. */
enum parse framing_of_request(const struct request_head *head, const struct sl_field *fields,
                              enum framing *framing, uint64_t *length,
                              const struct sl_cause **why);
/* The same for a response to `method`; interim, 204 and 304 and HEAD have none. */
enum parse framing_of_response(const struct response_head *head, const struct sl_field *fields,
                               struct sl_span method, enum framing *framing, uint64_t *length,
                               const struct sl_cause **why);

/* What Connection says (RFC 9112, 9.3): 1 the connection persists. */
int connection_persists(int version, const struct sl_field *fields, unsigned n, uint64_t ids);

/* How long the peer keeps an idle connection, ms, as its Keep-Alive says (RFC 9112, C.2.2); -1: it
 * does not say. */
int64_t keep_alive_ms(const struct sl_field *fields, unsigned n, uint64_t ids);

/* Marks hop-by-hop fields FIELD_DROPPED: the fixed ones and those Connection names
 * (RFC 9110, 7.6.1).  Content-Length is never dropped by being named.  0: there are none. */
int fields_drop_hop_by_hop(struct sl_field *fields, unsigned n, uint64_t ids);
/* The same for the trailers of a message whose Connection said `options`. */
void fields_drop_named(struct sl_field *fields, unsigned n, struct sl_span options);

/* Host (RFC 9112, 3.2; RFC 3986, 3.2.2): a reg-name, IPv4 or [IPv6] and an optional port,
 * no userinfo.  1 when valid; host without port in *name. */
int host_split(struct sl_span authority, struct sl_span *name, int *port);

/* Splits a request target.  origin-form, absolute-form (authority set), `*` for OPTIONS,
 * authority-form for CONNECT.  PARSE_OK or PARSE_BAD. */
struct target {
    struct sl_span path;      /* raw, begins with '/'; "*" for OPTIONS * */
    struct sl_span query;     /* at NULL without '?' */
    struct sl_span authority; /* absolute-form and CONNECT; else at NULL */
    struct sl_span scheme;
};
enum parse target_split(struct sl_span method, struct sl_span raw, struct target *out);

/* The copy that matching uses: percent-decoded but for %2F, dot segments removed, slashes
 * merged.  `to` has room for raw.n + 1 bytes.  The length, or -1: %00, a bad escape.
 * *is_same: raw needed no change (then `to` is untouched). */
int path_normalise(struct sl_span raw, char *to, int *is_same);
/* Most are, and need no copy. */
int path_is_normal(struct sl_span raw);

int is_token(struct sl_span s);
int is_field_value(struct sl_span s); /* no CR, LF, NUL or other control but HTAB */

#endif
