/* Header fields: an ordered list that keeps every line, with an id for well-known names.
 *
 * Names compare without case (RFC 9110, 5.1).  Values are spans into the message's buffer
 * or the request's pool; nothing here copies what it is given: bytes handed to set and add
 * must live as long as the request (sl_span_dup, apr_psprintf on its pool, literals).
 * Values set by modules are checked: CR, LF and NUL are refused, so no variable can split
 * a message. */
#ifndef SLUICE_FIELDS_H
#define SLUICE_FIELDS_H

#include "sluice/base.h"

/* Well-known names.  Order is frozen; new ones are added at the end. */
#define SL_FIELD_NAMES(X)                                                                    \
    X(HOST, "Host")                                                                          \
    X(CONNECTION, "Connection")                                                              \
    X(CONTENT_LENGTH, "Content-Length")                                                      \
    X(TRANSFER_ENCODING, "Transfer-Encoding")                                                \
    X(TE, "TE")                                                                              \
    X(TRAILER, "Trailer")                                                                    \
    X(UPGRADE, "Upgrade")                                                                    \
    X(EXPECT, "Expect")                                                                      \
    X(KEEP_ALIVE, "Keep-Alive")                                                              \
    X(PROXY_CONNECTION, "Proxy-Connection")                                                  \
    X(VIA, "Via")                                                                            \
    X(X_FORWARDED_FOR, "X-Forwarded-For")                                                    \
    X(X_FORWARDED_PROTO, "X-Forwarded-Proto")                                                \
    X(X_FORWARDED_HOST, "X-Forwarded-Host")                                                  \
    X(X_REAL_IP, "X-Real-IP")                                                                \
    X(FORWARDED, "Forwarded")                                                                \
    X(DATE, "Date")                                                                          \
    X(SERVER, "Server")                                                                      \
    X(LOCATION, "Location")                                                                  \
    X(CONTENT_TYPE, "Content-Type")                                                          \
    X(CONTENT_ENCODING, "Content-Encoding")                                                  \
    X(CONTENT_RANGE, "Content-Range")                                                        \
    X(CONTENT_LOCATION, "Content-Location")                                                  \
    X(ACCEPT, "Accept")                                                                      \
    X(ACCEPT_ENCODING, "Accept-Encoding")                                                    \
    X(ACCEPT_RANGES, "Accept-Ranges")                                                        \
    X(AGE, "Age")                                                                            \
    X(ALLOW, "Allow")                                                                        \
    X(AUTHORIZATION, "Authorization")                                                        \
    X(CACHE_CONTROL, "Cache-Control")                                                        \
    X(COOKIE, "Cookie")                                                                      \
    X(SET_COOKIE, "Set-Cookie")                                                              \
    X(ETAG, "ETag")                                                                          \
    X(EXPIRES, "Expires")                                                                    \
    X(IF_MATCH, "If-Match")                                                                  \
    X(IF_MODIFIED_SINCE, "If-Modified-Since")                                                \
    X(IF_NONE_MATCH, "If-None-Match")                                                        \
    X(IF_RANGE, "If-Range")                                                                  \
    X(IF_UNMODIFIED_SINCE, "If-Unmodified-Since")                                            \
    X(LAST_MODIFIED, "Last-Modified")                                                        \
    X(MAX_FORWARDS, "Max-Forwards")                                                          \
    X(ORIGIN, "Origin")                                                                      \
    X(PRAGMA, "Pragma")                                                                      \
    X(PROXY_AUTHENTICATE, "Proxy-Authenticate")                                              \
    X(PROXY_AUTHORIZATION, "Proxy-Authorization")                                            \
    X(RANGE, "Range")                                                                        \
    X(REFERER, "Referer")                                                                    \
    X(RETRY_AFTER, "Retry-After")                                                            \
    X(USER_AGENT, "User-Agent")                                                              \
    X(VARY, "Vary")                                                                          \
    X(WWW_AUTHENTICATE, "WWW-Authenticate")                                                  \
    X(X_ACCEL_BUFFERING, "X-Accel-Buffering")                                                \
    X(HTTP2_SETTINGS, "HTTP2-Settings")                                                      \
    X(CACHE_STATUS, "Cache-Status")                                                          \
    X(CDN_CACHE_CONTROL, "CDN-Cache-Control")

#define SL_FIELD_ID(id, name) SL_F_##id,
enum sl_field_id { SL_F_OTHER, SL_FIELD_NAMES(SL_FIELD_ID) SL_F_COUNT };
#undef SL_FIELD_ID

struct sl_field {
    struct sl_span name;
    struct sl_span value; /* without the white space around it */
    uint8_t id;           /* enum sl_field_id; SL_F_OTHER: not well known */
    uint8_t flags;        /* the core's */
};

/* Looking.  The first line of that name; NULL at is absent (an empty value is not). */
struct sl_span sl_fields_get(const struct sl_fields *f, const char *name);
struct sl_span sl_fields_get_id(const struct sl_fields *f, enum sl_field_id id);
int sl_fields_has_id(const struct sl_fields *f, enum sl_field_id id);
/* Whether any of several stands there: the bits of their ids. */
int sl_fields_has_any(const struct sl_fields *f, uint64_t ids);
static inline uint64_t
sl_field_bit(enum sl_field_id id)
{
    return (uint64_t)1 << id;
}
/* Walks all lines in order: for (i = 0; (x = sl_fields_at(f, i)) != NULL; i++) */
const struct sl_field *sl_fields_at(const struct sl_fields *f, unsigned i);
/* The same without those that the next hop does not get: for (i = 0; (x = sl_fields_next(f, &i))
 * != NULL;) */
const struct sl_field *sl_fields_next(const struct sl_fields *f, unsigned *i);
/* All of them at once, for who walks often; they stay until the list changes. */
struct sl_field_lines {
    const struct sl_field *at;
    unsigned n;
};
struct sl_field_lines sl_fields_lines(const struct sl_fields *f);
/* All lines of that name joined by ", " (RFC 9110, 5.3); allocates only where there are
 * several. */
struct sl_span sl_fields_joined(struct sl_fields *f, const char *name);
struct sl_span sl_fields_joined_id(struct sl_fields *f, enum sl_field_id id);

/* Changing.  Replaces every line of the name by one; adds a line; removes all.
 * 0, or -1 when name or value holds bytes that may not stand there, or when the field says
 * where a message ends or who speaks next: those are the core's, and stay as they are. */
int sl_fields_set(struct sl_fields *f, const char *name, struct sl_span value);
int sl_fields_add(struct sl_fields *f, const char *name, struct sl_span value);
void sl_fields_unset(struct sl_fields *f, const char *name);
void sl_fields_unset_id(struct sl_fields *f, enum sl_field_id id);
#define SL_FRAMING                                                                           \
    (sl_field_bit(SL_F_CONTENT_LENGTH) | sl_field_bit(SL_F_TRANSFER_ENCODING) |              \
     sl_field_bit(SL_F_CONNECTION) | sl_field_bit(SL_F_KEEP_ALIVE) | sl_field_bit(SL_F_TE) | \
     sl_field_bit(SL_F_UPGRADE) | sl_field_bit(SL_F_TRAILER))
static inline int
sl_field_is_framing(enum sl_field_id id)
{
    return (SL_FRAMING >> id & 1) != 0;
}
/* Replaces the value of line i. */
int sl_fields_put(struct sl_fields *f, unsigned i, struct sl_span value);

/* For protocols.  A list of their own, for trailers and 1xx. */
struct sl_fields *sl_fields_make(apr_pool_t *pool);
/* A field as a peer sent it: refused, -1, where HTTP/1 would refuse it, and names that others
 * fold into ones that say who asks are marked.  Content-Length is taken as it stands: whether it
 * is true is the protocol's to say.  The fields of a connection (RFC 9113, 8.2.2) are refused but
 * for TE.  Bytes as in sl_fields_add(). */
int sl_fields_receive(struct sl_fields *f, struct sl_span name, struct sl_span value);
/* One of a response that was received before, x->id of then, and has been in safe hands since: its
 * bytes are not checked again.  It stands as HTTP/1 has it, name, ": ", value and CR LF in one piece,
 * and so it leaves where nobody changes it.  0, or -1: it is not one that may be kept. */
int sl_fields_restore(struct sl_fields *f, const struct sl_field *x);
/* Whether it may stand in trailers that are sent on. */
int sl_field_may_trail(const struct sl_field *x);

/* Whether a comma-separated list field has this member, without case. */
int sl_fields_lists(const struct sl_fields *f, enum sl_field_id id, const char *member);

/* The id of a name, SL_F_OTHER where it is not well known. */
enum sl_field_id sl_field_id(struct sl_span name);

#endif
