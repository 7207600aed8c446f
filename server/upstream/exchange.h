/* An exchange: one request to a pool, until one response.
 *
 * It makes attempts, one at a time, each at one server over one connection; the attempt is
 * what hooks, pool owners and protocols see.  It never keeps pointers into the request's
 * memory past the request: what an attempt sends is written out of a view made for it.
 *
 *   pick -> connect -> send -> first -> relay       (over: the rest of an intercepted answer)
 *   ^  |  ^______________________|   another attempt: before the first byte of a response, or
 *   wait                             in place of one that the pool's owner does not want
 *
 * The request side asks (body, want, cancel), the protocol of the connection tells (head,
 * data, end, fail).  Calls that may free the exchange are the last a caller makes. */
#ifndef UPSTREAM_EXCHANGE_H
#define UPSTREAM_EXCHANGE_H

#include "http/request.h"
#include "upstream/pool.h"

#define EXCHANGE_MAGIC 0x77ac24e1u
#define VIEW_FIELDS 24 /* of a request head that need no pool */

enum ex_state { EX_PICK, EX_WAIT, EX_CONNECT, EX_SEND, EX_FIRST, EX_RELAY, EX_OVER };

struct sl_attempt {
    struct sl_conn *conn;
    struct upstream_server *server;
    const struct upstream_address *address;
    unsigned number;
    int status;
    void *protocol_data;
    struct sl_fields head;      /* the view: as it will be sent */
    struct sl_fields *response; /* the request's, or the exchange's own */
    int64_t began_us;
    int64_t first_us; /* from then to the response's head, -1: none came */
    void *owner_data; /* the pool's owner's */
    struct sl_span method, path;
    struct sl_span whole; /* the response's body, if it is at hand with the head; at NULL: not */
    uint8_t is_reused; /* the connection had served before */
    uint8_t is_replay; /* of a request that found its connection dead */
    uint8_t has_sent;  /* a byte of the request may have reached the server */
    uint8_t is_refused; /* it has, and the server says that it did not act on it */
    uint8_t is_unsendable; /* its head does not fit: no fault of a server's */
    uint8_t has_response; /* a byte of the response arrived */
};

/* A part of the request body kept for another attempt. */
struct held {
    struct held *next;
    struct sl_buf *buf;
    const char *at;
    size_t n;
};

struct sl_exchange {
    struct sl_attempt a; /* first: an attempt is its exchange */
    unsigned magic;
    uint8_t state; /* enum ex_state */
    uint8_t body_ended;
    uint8_t holds_body; /* all of the body so far is held */
    uint8_t n_interim;  /* 1xx responses passed on */
    uint8_t head_given; /* to the request */
    uint8_t wants_upgrade;
    uint8_t shares;     /* others may have attempts on its connection: its time is its own */
    uint8_t is_waiting; /* in the connection's list of those who wait for it to open */
    struct sl_loop *loop;
    struct sl_req *r; /* NULL: no client */
    struct sl_pool *pool;
    const struct sl_target *target;
    const struct sl_proxy_conf *conf;
    struct sl_scope *scope;
    int64_t deadline_ms;
    unsigned n_unreachable; /* addresses of this server */
    uint64_t tried; /* bit per server index below 64 */
    uint64_t *tried_more; /* those of the others; NULL: none of them */
    struct held *held, **held_end;
    size_t n_held;
    const struct sl_cause *retry_cause;
    struct sl_span connection; /* what the response's Connection said */
    struct sl_timer timer;     /* where it shares */
    struct sl_exchange *next_waiting;
    struct sl_field view[VIEW_FIELDS];
};

static inline struct sl_exchange *
exchange_of(struct sl_attempt *a)
{
    return (struct sl_exchange *)(void *)a;
}

/* From the request.  start: the hooks are done; once. */
void exchange_start(struct sl_exchange *ex);
enum sl_flow exchange_body(struct sl_exchange *ex, struct sl_data data, int ends);
void exchange_trailers(struct sl_exchange *ex, struct sl_fields *fields);
void exchange_want(struct sl_exchange *ex);
void exchange_cancel(struct sl_exchange *ex);
/* Another request, a copy of its own, goes on with it: which has no body, and of which no head is
 * given. */
void exchange_move(struct sl_exchange *ex, struct sl_req *to);

/* What tells that a state takes too long: the connection's timer, which stays filed from one
 * exchange to the next, or its own. */
static inline struct sl_timer *
exchange_timer(struct sl_exchange *ex)
{
    return ex->shares ? &ex->timer : &ex->a.conn->timer;
}

/* Between exchange.c, connect.c and attempt.c.  Enters a state and sets the time it may take;
 * ms -1: all there is. */
static inline void
exchange_goto(struct sl_exchange *ex, enum ex_state state, int64_t may_take_ms)
{
    int64_t due = may_take_ms < 0 ? INT64_MAX : ex->loop->now_ms + may_take_ms;

    ex->state = (uint8_t)state;
    if (due > ex->deadline_ms)
        due = ex->deadline_ms;
    if (ex->a.conn != NULL)
        sl_timer_set(ex->loop, exchange_timer(ex), due);
}
/* connect.c: to the address of the attempt's server that worked last.  Goes on with
 * exchange_send() or exchange_attempt_failed(), maybe before it returns.  One that shares joins
 * those who wait for a connection to the same server. */
void exchange_connect(struct sl_exchange *ex);
/* It waits for `c` no more; nobody does: it is closed. */
void exchange_stop_waiting(struct sl_exchange *ex, struct sl_conn *c);
/* The time of one that shares is over. */
void exchange_late(struct sl_loop *loop, struct sl_timer *timer);
/* Counts a failure to connect: whether the server has an address that was not tried. */
int exchange_has_address(struct sl_exchange *ex, const struct sl_cause *cause);
/* The head as it will be sent, by way of the hooks; -1: one of them failed. */
int exchange_prepare(struct sl_exchange *ex);
/* explain.c, in a dry run instead of a connection: what would be sent, and what would be done
 * to the answer.  Frees the exchange. */
void exchange_explain(struct sl_exchange *ex);
/* The request goes out on a connection that is open.  May free the exchange. */
void exchange_send(struct sl_exchange *ex);
/* What was kept of the request body goes, and with it the chance of another attempt. */
static inline void
exchange_drop_held(struct sl_exchange *ex)
{
    while (ex->held != NULL) {
        struct held *h = ex->held;

        ex->held = h->next;
        sl_buf_drop(&h->buf);
        slab_give(&ex->loop->pieces, h);
    }
    ex->held_end = &ex->held;
    ex->holds_body = 0;
}
/* A server is picked and the attempt goes on, waits or fails.  May free the exchange. */
void exchange_attempt(struct sl_exchange *ex);
/* RFC 9110, 9.2.2: whether the server may be asked twice, whatever it did the first time, and all
 * that was taken of the body can be sent again. */
int exchange_is_harmless(const struct sl_exchange *ex);
/* These may free the exchange.  again: another attempt is made; failed: that, or the request fails;
 * fail: it does, with this cause. */
void exchange_attempt_again(struct sl_exchange *ex, const struct sl_cause *cause);
void exchange_attempt_failed(struct sl_exchange *ex, const struct sl_cause *cause);
void exchange_fail(struct sl_exchange *ex, const struct sl_cause *cause);

/* From the built-in protocol, beside the public sl_attempt_*(): the head with the promise
 * that data or a flush follows in this turn; data with the end known. */
enum sl_flow attempt_head(struct sl_attempt *a, int status, int64_t body);
enum sl_flow attempt_data(struct sl_attempt *a, struct sl_data data, int ends);
/* A part of what is queued went out: the time for sending begins anew. */
void attempt_sends(struct sl_attempt *a);
/* The receiver has no room: the server's time stands still. */
void attempt_waits(struct sl_attempt *a);
void attempt_client_gone(struct sl_attempt *a);
/* How long the server may stay silent, -1: for ever.  A tunnel may while both its halves are
 * open: who is silent there is for its ends to say. */
static inline int64_t
exchange_idle_ms(const struct sl_exchange *ex)
{
    return ex->a.status == 101 && !ex->body_ended ? -1 : ex->conf->idle_ms;
}
/* Bytes of the response arrived: the idle time begins anew. */
static inline void
attempt_lives(struct sl_attempt *a)
{
    struct sl_exchange *ex = exchange_of(a);
    int64_t ms = exchange_idle_ms(ex), due = ex->loop->now_ms + ms;

    if (ms >= 0 && ex->state == EX_RELAY)
        sl_timer_set(ex->loop, exchange_timer(ex), due < ex->deadline_ms ? due : ex->deadline_ms);
}

/* intercept.c: whether our page takes the place of an answer; and does so.  body as in
 * attempt_head().  SL_FLOW_ROOM: its body is read, and goes nowhere; exchange_replace() follows,
 * which may free the exchange, as intercept() may: SL_FLOW_GONE. */
int intercept_wants(const struct sl_proxy_conf *conf, int status);
enum sl_flow intercept(struct sl_exchange *ex, int64_t body);
void exchange_replace(struct sl_exchange *ex);

/* idle.c: connections that wait for their next request, per server and thread. */
struct sl_conn *idle_take(struct upstream_server *s, struct sl_loop *loop);
/* Whether its server has said nothing, not even goodbye, up to now: the loop tells of that only in
 * its next turn.  Costs a system call; one that is not quiet is to be closed. */
int idle_is_quiet(struct sl_conn *c);
/* It is open now: its age counts from here. */
void idle_begin_life(struct sl_conn *c);
/* How long it may be idle from now on, ms: by the pool, its age and its peer.  -1: no limit; 0: it is
 * not kept. */
int64_t idle_patience_ms(const struct sl_conn *c);
/* 1: kept; 0: it is not to be, or the list is full: close it. */
int idle_put(struct sl_conn *c);
void idle_remove(struct sl_conn *c);
/* Connections that carry several attempts are in the list from the time they are made. */
void idle_share(struct sl_conn *c);
/* One that has room for another attempt, or that is still being connected; NULL: none. */
struct sl_conn *idle_with_room(struct upstream_server *s, struct sl_loop *loop);
struct sl_conn *idle_connecting(struct upstream_server *s, struct sl_loop *loop);

#endif
