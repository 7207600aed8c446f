/* The core as mod_http2 sees it of a connection: bytes come in pieces, and leave in pieces.  Included
 * by the drivers of both its sides; each says what closing its connection does. */
#ifndef HTTP2_DOUBLES_H
#define HTTP2_DOUBLES_H

#include "panic_double.h"

#include "../../modules/http2/http2.h"

#include "http/fields.h"

#include <stdio.h>
#include <stdlib.h>

struct sl_conn {
    void *data;
    const uint8_t *at;
    size_t n;
    int is_again, is_closed;
};

const struct http2_conf *http2_global;
int count_connections, count_resets, count_abuse, count_errors, count_goaways;
const struct sl_module sl_module_record = {.name = "http2"};

static struct http2_conf conf = {.streams = 20, .stream_window = 65535, .connection_window = 65535,
                                 .frame = 16384, .header_list = 4096, .resets = 20,
                                 .control_frames = 50, .server_streams = 10};
static struct sl_conn conn;
static int n_live;
static unsigned turn;
static int64_t now_ms;
static apr_pool_t *root;

void **sl_conn_protocol_data(struct sl_conn *c) { return &c->data; }
struct sl_loop *sl_conn_loop(const struct sl_conn *c) { (void)c; return NULL; }
int sl_conn_fd(const struct sl_conn *c) { (void)c; return -1; }
struct sl_scope *sl_conn_scope(const struct sl_conn *c) { (void)c; return NULL; }
struct sl_span sl_conn_peer_text(struct sl_conn *c) { (void)c; return SL_SPAN("-"); }
const struct sl_transport *sl_conn_transport(const struct sl_conn *c) { (void)c; return NULL; }
void sl_conn_again(struct sl_conn *c) { c->is_again = 1; }
void sl_conn_timeout(struct sl_conn *c, int64_t ms) { (void)c; (void)ms; }
const void *sl_scope_conf(const struct sl_scope *s, const struct sl_module *m) { (void)s; (void)m; return &conf; }
unsigned sl_loop_index(const struct sl_loop *l) { (void)l; return 0; }
int64_t sl_loop_now(const struct sl_loop *l) { (void)l; return now_ms; }
struct sl_span sl_loop_http_date(struct sl_loop *l) { (void)l; return SL_SPAN("Sun, 06 Nov 1994 08:49:37 GMT"); }
apr_pool_t *sl_worker_pool(struct sl_worker *w) { (void)w; return root; }
unsigned sl_worker_threads(const struct sl_worker *w) { (void)w; return 1; }
void sl_count(struct sl_loop *l, int counter, int64_t by) { (void)l; (void)counter; (void)by; }
void sl_random_bytes(void *to, size_t n) { memset(to, 7, n); }
void sl_buf_hold(struct sl_buf *b) { (void)b; }
void sl_buf_drop(struct sl_buf **b) { *b = NULL; }

void
sl_scope_terms(const struct sl_scope *s, struct sl_client_terms *to)
{
    (void)s;
    *to = (struct sl_client_terms){.header_ms = 1000, .body_ms = 1000, .send_ms = 1000,
                                   .keepalive_ms = 1000, .keepalive_requests = 1000};
}

void
sl_conn_limits(const struct sl_conn *c, struct sl_client_terms *to)
{
    (void)c;
    to->limit_head = 2048;
    to->limit_fields = 40;
}

ssize_t
sl_conn_read(struct sl_conn *c, void *to, size_t n)
{
    size_t k = c->n < n ? c->n : n;

    if (k == 0)
        return SL_IO_AGAIN;
    if (++turn % 3 == 0 && k > 7)
        k = 7;
    memcpy(to, c->at, k);
    c->at += k;
    c->n -= k;
    return (ssize_t)k;
}

ssize_t
sl_conn_writev(struct sl_conn *c, const struct iovec *iov, int n)
{
    size_t sum = 0;
    int i;

    (void)c;
    for (i = 0; i < n; i++)
        sum += iov[i].iov_len;
    if (++turn % 5 == 0)
        return SL_IO_AGAIN;
    return turn % 4 == 0 && sum > 3 ? 3 : (ssize_t)sum;
}

void
sl_log(enum sl_level level, const char *id, const char *fmt, ...)
{
    (void)level;
    (void)id;
    (void)fmt;
}

void
sl_req_log(struct sl_req *r, enum sl_level level, const char *id, const char *fmt, ...)
{
    (void)r;
    (void)level;
    (void)id;
    (void)fmt;
}

#endif
