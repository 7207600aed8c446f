/* HTTP/2 of a client: whatever its bytes, each request that began ends once, nothing is kept
 * beyond the windows, and no request reaches the core that HTTP/1 would refuse. */
/* with: modules/http2/session.c modules/http2/stream.c modules/http2/fields.c modules/http2/guard.c modules/http2/server.c modules/http2/server_request.c modules/http2/server_response.c modules/http2/websocket.c server/http/fields.c server/http/field_names.c server/http/head.c server/http/framing.c server/runtime/span.c server/runtime/causes.c */
/* libs: libnghttp2 */
#include "http2_doubles.h"

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

struct sl_server *sl_conn_server(const struct sl_conn *c) { (void)c; abort(); }

void
sl_conn_close(struct sl_conn **c)
{
    (*c)->is_closed = 1;
    http2_server.closed(*c);
    *c = NULL;
}

void
http2_client_say(struct stream *s)
{
    (void)s;
    abort();
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
int sl_conn_failure_has_line(struct sl_conn *c, const char *why) { (void)c; (void)why; return 1; }
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
