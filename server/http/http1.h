/* HTTP/1 as spoken by the core: the built-in protocol of both sides, and how heads are
 * written. */
#ifndef HTTP_HTTP1_H
#define HTTP_HTTP1_H

#include "http/fields.h"
#include "net/conn.h"

extern const struct sl_protocol http1_protocol;          /* http1_server.c */
extern const struct sl_upstream_protocol http1_upstream; /* upstream/http1_client.c */

/* Bytes as they are put together: full is remembered, not overrun. */
struct writer {
    char *at;
    char *end;
    int is_full;
};

static inline void
put(struct writer *w, const char *at, size_t n)
{
    if ((size_t)(w->end - w->at) < n) {
        w->is_full = 1;
        return;
    }
    if (n > 0)
        memcpy(w->at, at, n);
    w->at += n;
}

static inline void
put_span(struct writer *w, struct sl_span s)
{
    put(w, s.at, s.n);
}

#define PUT(w, literal) put((w), (literal), sizeof(literal) - 1)

/* Into the loop's scratch; it is sent before anybody else may write there. */
static inline struct writer
writer_begin(struct sl_conn *c)
{
    return (struct writer){c->loop->scratch, c->loop->scratch + LOOP_SCRATCH, 0};
}

static inline struct sl_span
writer_written(const struct writer *w, const struct sl_conn *c)
{
    return (struct sl_span){c->loop->scratch, (size_t)(w->at - c->loop->scratch)};
}

/* http1_client.c: the head of an attempt as a server gets it. */
void http1_put_request(struct writer *w, struct sl_attempt *a);
void put_number(struct writer *w, uint64_t n);
/* Every line not dropped; neighbours that came in canonical leave in one copy. */
void put_fields(struct writer *w, const struct sl_fields *f);
/* The same, trailers: what may not stand in a trailer section is left out (RFC 9110,
 * 6.5.1). */
void put_trailers(struct writer *w, const struct sl_fields *f);

#endif
