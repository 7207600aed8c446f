/* HTTP/2 of a client: whatever its bytes, each request that began ends once, nothing is kept
 * beyond the windows, and no request reaches the core that HTTP/1 would refuse. */
/* with: modules/http2/session.c modules/http2/stream.c modules/http2/fields.c modules/http2/guard.c modules/http2/server.c modules/http2/server_request.c modules/http2/server_response.c modules/http2/websocket.c server/http/fields.c server/http/field_names.c server/http/head.c server/http/framing.c server/runtime/span.c server/runtime/causes.c */
/* libs: libnghttp2 */
#include "../../modules/http2/http2.h"

#include "http/fields.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The core as the module sees it: a request is answered at once, or when its body has come, with
 * room that comes and goes. */
struct sl_req {
    unsigned magic; /* as struct sl_req_public has it */
    unsigned flags;
    apr_pool_t *pool;
    struct sl_loop *loop;
    struct sl_conn *conn;
    void *data;
    struct sl_fields head, response;
    int status;
    uint8_t is_started, answers_late, is_over;
};
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

void
http2_client_say(struct stream *s)
{
    (void)s;
    abort();
}

_Noreturn void
sl_panic(const char *file, int line, const char *func, const char *what)
{
    fprintf(stderr, "%s:%d %s: %s\n", file, line, func, what);
    abort();
}

/* ---- connections ---- */

void **sl_conn_protocol_data(struct sl_conn *c) { return &c->data; }
struct sl_loop *sl_conn_loop(const struct sl_conn *c) { (void)c; return NULL; }
int sl_conn_fd(const struct sl_conn *c) { (void)c; return -1; }
struct sl_scope *sl_conn_scope(const struct sl_conn *c) { (void)c; return NULL; }
struct sl_span sl_conn_peer_text(struct sl_conn *c) { (void)c; return SL_SPAN("-"); }
struct sl_server *sl_conn_server(const struct sl_conn *c) { (void)c; abort(); }
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
sl_conn_close(struct sl_conn **c)
{
    (*c)->is_closed = 1;
    http2_server.closed(*c);
    *c = NULL;
}

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

/* ---- requests ---- */

static void
answer(struct sl_req *r, int status)
{
    struct sl_data body = {"hello", 5, NULL};

    r->is_over = 1;
    r->status = status;
    sl_fields_add(&r->response, "X-Answer", SL_SPAN("yes"));
    if (http2_server.head(r, 0) != SL_FLOW_GONE)
        http2_server.body(r, body, 1);
    http2_server.ended(r);
}

void **sl_req_protocol_data(struct sl_req *r) { return &r->data; }
struct sl_fields *sl_req_head(struct sl_req *r) { return &r->head; }
struct sl_fields *sl_req_response(struct sl_req *r) { return &r->response; }
int sl_req_status(const struct sl_req *r) { return r->status; }
int sl_req_is_tls(const struct sl_req *r) { (void)r; return 0; }
int64_t sl_req_length(const struct sl_req *r) { (void)r; return 5; }
struct sl_span sl_req_server_name(const struct sl_req *r) { (void)r; return SL_SPAN("sluice"); }
void sl_req_set_head_size(struct sl_req *r, unsigned n) { (void)r; (void)n; }
void sl_req_ask_upgrade(struct sl_req *r, struct sl_span to) { (void)r; (void)to; }
int sl_field_may_trail(const struct sl_field *x) { (void)x; return 1; }

struct sl_req *
sl_req_new(struct sl_conn *c, const struct sl_protocol *protocol)
{
    struct sl_req *r = calloc(1, sizeof *r);

    (void)protocol;
    r->conn = c;
    apr_pool_create(&r->pool, root);
    r->head.pool = r->response.pool = r->pool;
    n_live++;
    return r;
}

void
sl_req_finish(struct sl_req **r)
{
    n_live--;
    apr_pool_destroy((*r)->pool);
    free(*r);
    *r = NULL;
}

void sl_req_gone(struct sl_req *r) { sl_req_finish(&r); }

int
sl_req_set_line(struct sl_req *r, struct sl_span method, struct sl_span target, int version)
{
    (void)r;
    SL_ASSERT(version == 20 && (method.n == 0 || is_token(method)));
    return target.n > 0 ? 0 : -1;
}

void
sl_req_start(struct sl_req *r, int64_t body)
{
    unsigned i;

    for (i = 0; i < r->head.n; i++)
        SL_ASSERT(is_token(r->head.at[i].name) && is_field_value(r->head.at[i].value));
    SL_ASSERT((r->head.ids & ((uint64_t)1 << SL_F_CONNECTION |
                              (uint64_t)1 << SL_F_TRANSFER_ENCODING)) == 0);
    SL_ASSERT(sl_fields_get_id(&r->head, SL_F_CONTENT_LENGTH).n == 0 || body == 0);
    if (body != 0 && ++turn % 2 == 0) {
        r->answers_late = 1;
        http2_server.want(r);
    } else
        answer(r, turn % 7 == 0 ? 101 : 200);
}

void
sl_req_start_refused(struct sl_req *r, const struct sl_cause *cause)
{
    answer(r, cause->status);
}

enum sl_flow
sl_req_body(struct sl_req *r, struct sl_data data, int ends)
{
    (void)data;
    if (r->is_over)
        return SL_FLOW_GONE;
    if (ends)
        answer(r, 200);
    return turn++ % 4 == 0 ? SL_FLOW_FULL : SL_FLOW_ROOM;
}

void
sl_req_trailers(struct sl_req *r, struct sl_fields *fields)
{
    SL_ASSERT(fields != NULL);
    if (!r->is_over)
        answer(r, 200);
}

void
sl_req_abort(struct sl_req *r, const struct sl_cause *cause)
{
    if (!r->is_over)
        answer(r, cause->status);
}

void sl_req_writable(struct sl_req *r) { (void)r; }

/* ---- one connection ---- */

static void
begin(void)
{
    static const char greeting[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";

    if (root == NULL) {
        apr_initialize();
        apr_pool_create(&root, NULL);
        http2_fields_threads_make(NULL);
        session_threads_make(NULL);
        http2_server_init();
    }
    turn = 0;
    now_ms = 1000;
    http2_server.open(&conn, (struct sl_data){greeting, sizeof greeting - 1, NULL});
}

/* Those who have no room get some. */
static void
wake(void)
{
    struct http2 *h = conn.data;
    struct stream *s;

    for (s = h->streams; s != NULL; s = s->next) {
        SL_ASSERT(s->n_in + s->owed <= 65535);
        if (s->is_started && s->r->answers_late && !s->is_closed)
            http2_server.want(s->r);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct sl_conn *c = &conn;
    unsigned i;

    conn = (struct sl_conn){.at = data, .n = n};
    begin();
    for (i = 0; i < 64 && !conn.is_closed && (conn.n > 0 || conn.is_again); i++) {
        conn.is_again = 0;
        now_ms += 10;
        http2_server.ready(c, SL_READABLE | SL_WRITABLE);
        if (!conn.is_closed)
            wake();
    }
    if (!conn.is_closed && n % 2 == 0) {
        now_ms += 100000;
        http2_server.ready(c, SL_TIMEOUT);
    }
    if (!conn.is_closed && n % 3 == 0)
        http2_server.drain(c);
    if (!conn.is_closed)
        sl_conn_close(&c);
    SL_ASSERT(n_live == 0);
    return 0;
}
