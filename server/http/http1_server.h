/* One HTTP/1 connection of a client, as the files that serve it share it: the connection
 * and its requests (http1_server.c), a request's body as it is read (http1_request_body.c),
 * a response as it is written (http1_response.c).  All run on the connection's thread. */
#ifndef HTTP_HTTP1_SERVER_H
#define HTTP_HTTP1_SERVER_H

#include "http/http1.h"
#include "http/chunked.h"
#include "http/request.h"

enum h1_state { H1_HEAD, H1_ANSWER, H1_LINGER };

/* In sl_conn.space: what a connection keeps between requests and during one. */
struct h1 {
    struct sl_buf *in; /* NULL: nothing read that is not used up */
    struct sl_req *r;
    uint64_t left;     /* of the request body */
    uint64_t out_left; /* of the response body, FRAMING_LENGTH */
    int64_t send_due, body_due; /* while answering, loop time; 0: none */
    uint32_t n_requests;
    uint8_t state;
    uint8_t framing;     /* of the request */
    uint8_t out_framing; /* of the response */
    uint8_t persists;
    uint8_t unparsed;   /* the buffer may hold a head */
    uint8_t late_armed; /* the time for this head runs */
    uint8_t wants;      /* the reader of the request body has room */
    uint8_t head_held;  /* the response head is not written yet */
    uint8_t ended;
    uint8_t broken; /* writing failed, or the answer was cut */
    uint8_t in_trailers;
    uint8_t waits_room; /* a splice found the socket full */
    int64_t waits_since; /* for bytes of the request body; 0: it does not */
    int64_t waited_ms;   /* before that */
    struct chunked chunked;
    uint32_t lingered;
    uint32_t file_turn; /* bytes of a file since the socket was full last */
};

_Static_assert(sizeof(struct h1) <= CONN_SPACE, "the state of HTTP/1 lies in the connection");

static inline struct h1 *
h1_of(struct sl_conn *c)
{
    return (struct h1 *)(void *)c->space;
}

/* Of the request's host and location once it has them, before that of the default host. */
static inline const struct core_conf *
h1_conf(struct sl_conn *c)
{
    const struct h1 *h = h1_of(c);

    return h->r != NULL ? h->r->scope->core : c->listener->scope->core;
}

/* While a request is answered both directions have their time. */
static inline void
h1_due(struct sl_conn *c)
{
    const struct h1 *h = h1_of(c);
    int64_t due = h->send_due == 0 || (h->body_due != 0 && h->body_due < h->send_due)
                      ? h->body_due : h->send_due;

    sl_timer_set(c->loop, &c->timer, due != 0 ? due : INT64_MAX);
}

static inline void
h1_due_send(struct sl_conn *c, int64_t ms)
{
    h1_of(c)->send_due = ms < 0 ? 0 : c->loop->now_ms + ms;
    h1_due(c);
}

static inline void
h1_due_body(struct sl_conn *c, int64_t ms)
{
    h1_of(c)->body_due = ms < 0 ? 0 : c->loop->now_ms + ms;
    h1_due(c);
}

static inline void
h1_drop_used(struct h1 *h)
{
    if (h->in != NULL && buf_used(h->in) == 0)
        sl_buf_drop(&h->in);
}

/* That a client closed behind what it sent is no event that comes again: who has taken what it
 * sent has the connection looked at once more. */
static inline void
h1_look_again(struct sl_conn *c)
{
    if (c->io.ready & SL_HANGUP)
        loop_queue(c->loop, &c->io);
}

/* http1_request_body.c: hands the body to its reader while that has room; the connection
 * may be closed on return. */
void h1_body_read(struct sl_conn *c);
/* The reader or the client has given up: settle with what the cause says. */
void h1_body_fails(struct sl_conn *c, const struct sl_cause *why);
void h1_want(struct sl_req *r);

/* http1_response.c: these never close the connection nor free the request. */
enum sl_flow h1_head(struct sl_req *r, int ends);
int h1_take_back(struct sl_req *r);
enum sl_flow h1_interim(struct sl_req *r, int status, struct sl_fields *fields);
enum sl_flow h1_body(struct sl_req *r, struct sl_data data, int ends);
enum sl_flow h1_trailers(struct sl_req *r, struct sl_fields *fields);
/* Only a body of announced length on a plain socket, with nothing queued before it. */
ssize_t h1_splice(struct sl_req *r, int pipe, size_t n);
ssize_t h1_file(struct sl_req *r, int fd, int64_t offset, size_t n);
/* Closing before the announced end tells the client; where only the close would end the
 * body, a reset does (RFC 9112, 8). */
void h1_reset(struct sl_req *r);

/* RFC 9110, 10.1.1: one expectation is known, and HTTP/1.0 has none. */
static inline int
http1_may_expect(struct sl_req *r)
{
    if (r->version == 10) {
        fields_unset_id(&r->head, SL_F_EXPECT);
        return 1;
    }
    return sl_span_eqi(sl_fields_get_id(&r->head, SL_F_EXPECT), SL_SPAN("100-continue"));
}

/* A parsed head becomes the request's; how its body is framed.  NULL, or why it must be
 * refused. */
static inline const struct sl_cause *
http1_take_request(struct sl_req *r, const struct request_head *head,
                   const struct sl_field *fields, enum framing *framing, uint64_t *length)
{
    const struct sl_cause *why = NULL;
    enum parse ok = framing_of_request(head, fields, framing, length, &why);

    fields_take(&r->head, r->pool, fields, head->n_fields, head->ids);
    r->head_size = (unsigned)head->size;
    sl_req_set_line(r, head->method, head->target, head->version);
    if (ok != PARSE_OK)
        return why;
    if (fields_may_have(&r->head, SL_F_EXPECT) && !http1_may_expect(r))
        return &sl_cause_expectation;
    return NULL;
}

#endif
