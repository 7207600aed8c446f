/* HTTP/2 of a server: whatever its bytes, each attempt ends once, its response comes in order (1xx,
 * one head, body, trailers), 101 only to one that asked, and nothing is kept beyond the windows. */
/* with: modules/http2/session.c modules/http2/stream.c modules/http2/fields.c modules/http2/guard.c modules/http2/client.c modules/http2/tunnel.c modules/http2/websocket.c server/http/fields.c server/http/field_names.c server/http/head.c server/http/framing.c server/runtime/span.c server/runtime/causes.c */
/* libs: libnghttp2 */
#include "http2_doubles.h"

#include <apr_strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define ATTEMPTS 12 /* of one run; more than share a connection */

struct sl_req {
    unsigned magic; /* as struct sl_req_public has it */
    unsigned flags;
    apr_pool_t *pool;
    struct sl_loop *loop;
    struct sl_conn *conn;
    struct sl_fields head;
};
/* The core as the module sees it: an attempt whose reader has room or not, and may leave. */
struct sl_attempt {
    void *data;
    struct sl_req r;
    struct sl_fields head, response;
    const char *method;
    int64_t body; /* 0: none, -1: of unknown length */
    unsigned n_sent;
    uint8_t asks_switch, switched, has_head, has_trailers, is_full, is_over;
};

static struct sl_attempt attempts[ATTEMPTS];
static unsigned n_attempts;
static struct sl_pool pool = {.name = "p"};
static struct sl_server server = {.name = "s", .pool = &pool};

struct sl_server *sl_conn_server(const struct sl_conn *c) { (void)c; return &server; }

void
sl_conn_close(struct sl_conn **c)
{
    (*c)->is_closed = 1;
    http2_client.closed(*c);
    *c = NULL;
}

void
http2_server_say(struct stream *s)
{
    (void)s;
    abort();
}

/* ---- attempts ---- */

static struct sl_attempt *
live(struct sl_attempt *a)
{
    SL_ASSERT(!a->is_over);
    return a;
}

static void
over(struct sl_attempt *a)
{
    live(a)->is_over = 1;
    n_live--;
}

static void
cancel(struct sl_attempt *a)
{
    http2_client.cancel(a, &conn);
    over(a);
}

void **sl_attempt_protocol_data(struct sl_attempt *a) { return &a->data; }
struct sl_req *sl_attempt_req(struct sl_attempt *a) { return &a->r; }
struct sl_fields *sl_req_head(struct sl_req *r) { return &r->head; }
struct sl_fields *sl_attempt_head(struct sl_attempt *a) { return &a->head; }
struct sl_fields *sl_attempt_response(struct sl_attempt *a) { return &live(a)->response; }
struct sl_span sl_attempt_method(struct sl_attempt *a) { return sl_span(a->method); }
struct sl_server *
sl_attempt_server(struct sl_attempt *a)
{
    static struct sl_pool pool;
    static struct sl_server server = {.pool = &pool};

    (void)a;
    return &server;
}
struct sl_span sl_attempt_path(struct sl_attempt *a) { (void)a; return SL_SPAN("/"); }
int64_t sl_attempt_body_length(const struct sl_attempt *a) { return a->body; }
void sl_attempt_unsent(struct sl_attempt *a) { live(a); }
int sl_field_may_trail(const struct sl_field *x) { (void)x; return 1; }

static void
fields_are_sound(const struct sl_fields *f)
{
    unsigned i;

    for (i = 0; i < f->n; i++)
        SL_ASSERT(is_token(f->at[i].name) && is_field_value(f->at[i].value));
}

void
sl_attempt_interim(struct sl_attempt *a, int status, struct sl_fields *fields)
{
    SL_ASSERT(!live(a)->has_head && status / 100 == 1 && status != 101);
    fields_are_sound(fields);
    if (++turn % 9 == 0)
        cancel(a);
}

void
sl_attempt_switched(struct sl_attempt *a, struct sl_span to)
{
    SL_ASSERT(live(a)->asks_switch && to.n > 0);
    a->switched = 1;
}

enum sl_flow
sl_attempt_head_done(struct sl_attempt *a, int status, int64_t body)
{
    SL_ASSERT(!live(a)->has_head && (status >= 200 || (status == 101 && a->switched)));
    SL_ASSERT(body >= -1 && (status != 101 || body == -1));
    fields_are_sound(&a->response);
    a->has_head = 1;
    if (++turn % 7 == 0) {
        cancel(a);
        return SL_FLOW_GONE;
    }
    a->is_full = turn % 3 == 0;
    return a->is_full ? SL_FLOW_FULL : SL_FLOW_ROOM;
}

enum sl_flow
sl_attempt_body(struct sl_attempt *a, struct sl_data data)
{
    SL_ASSERT(live(a)->has_head && !a->has_trailers && !a->is_full && data.n > 0);
    if (++turn % 11 == 0) {
        cancel(a);
        return SL_FLOW_GONE;
    }
    a->is_full = turn % 4 == 0;
    return a->is_full ? SL_FLOW_FULL : SL_FLOW_ROOM;
}

void
sl_attempt_trailers(struct sl_attempt *a, struct sl_fields *fields)
{
    SL_ASSERT(live(a)->has_head && !a->has_trailers);
    fields_are_sound(fields);
    a->has_trailers = 1;
}

void
sl_attempt_end(struct sl_attempt *a, int reusable)
{
    SL_ASSERT(live(a)->has_head && reusable);
    over(a);
}

void
sl_attempt_fail(struct sl_attempt *a, const struct sl_cause *cause)
{
    SL_ASSERT(cause->status >= 500);
    over(a);
}

void
sl_attempt_writable(struct sl_attempt *a)
{
    SL_ASSERT(live(a)->body < 0);
}

/* ---- one connection ---- */

static void
begin(void)
{
    if (root == NULL) {
        apr_initialize();
        apr_pool_create(&root, NULL);
        http2_fields_threads_make(NULL);
        session_threads_make(NULL);
        http2_client_init();
        http2_global = &conf;
    }
    turn = n_attempts = 0;
    now_ms = 1000;
    http2_client.open(&conn);
}

/* GET, POST, one that asks for a WebSocket, HEAD. */
static void
ask(void)
{
    static const char *const methods[] = {"GET", "POST", "GET", "HEAD"};
    unsigned kind = n_attempts % 4;
    struct sl_attempt *a = &attempts[n_attempts++];

    *a = (struct sl_attempt){.method = methods[kind], .body = kind == 1 ? -1 : 0, .asks_switch = kind == 2};
    apr_pool_create(&a->r.pool, root);
    a->head.pool = a->response.pool = a->r.head.pool = a->r.pool;
    sl_fields_add(&a->head, "Host", SL_SPAN("test"));
    if (a->asks_switch) {
        fields_push(&a->head, SL_F_UPGRADE, SL_SPAN("Upgrade"), SL_SPAN("websocket"));
        sl_fields_add(&a->head, "Sec-WebSocket-Key", SL_SPAN("dGhlIHNhbXBsZSBub25jZQ=="));
    }
    n_live++;
    if (http2_client.start(a, &conn) == SL_FLOW_GONE)
        over(a);
}

/* A request's body goes on, a tunnel's too; a reader without room gets some. */
static void
go_on(struct sl_attempt *a)
{
    struct sl_data data = {"some bytes of a body", 20, NULL};

    if (!a->is_over && (a->body < 0 || (a->switched && a->has_head)) && a->n_sent < 4)
        http2_client.body(a, data, ++a->n_sent == 4);
    if (!a->is_over && a->is_full && ++turn % 3 == 0) {
        a->is_full = 0;
        http2_client.want(a);
    }
}

static void
wake(void)
{
    struct http2 *h = conn.data;
    struct stream *s;
    unsigned i;

    for (s = h->streams; s != NULL; s = s->next)
        SL_ASSERT(s->n_in + s->owed <= 65535);
    for (i = 0; i < n_attempts; i++)
        go_on(&attempts[i]);
    if (n_attempts < ATTEMPTS && http2_client.room(&conn))
        ask();
}

static void
end(void)
{
    struct sl_conn *c = &conn;
    unsigned i;

    for (i = 0; i < n_attempts; i += 2)
        if (!attempts[i].is_over)
            cancel(&attempts[i]);
    if (!conn.is_closed)
        sl_conn_close(&c);
    SL_ASSERT(n_live == 0);
    while (n_attempts > 0)
        apr_pool_destroy(attempts[--n_attempts].r.pool);
}

/* One turn of its loop. */
static void
turn_over(void)
{
    conn.is_again = 0;
    now_ms += 10;
    http2_client.ready(&conn, SL_READABLE | SL_WRITABLE);
    if (!conn.is_closed)
        wake();
}

/* What the server says first: how many streams it allows, and whether it knows tunnels. */
static void
greeting(int with_tunnels)
{
    uint8_t settings[] = {0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100, 0, 8, 0, 0, 0, with_tunnels != 0};

    conn.at = settings;
    conn.n = sizeof settings;
    while (conn.n > 0 || conn.is_again)
        turn_over();
}

/* The first byte: how the connection begins, and who has room when. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    unsigned i;

    if (n == 0)
        return 0;
    conn = (struct sl_conn){.n = 0};
    begin();
    turn = data[0] >> 2;
    for (i = 0; i < 4; i++)
        ask();
    turn_over();
    if ((data[0] & 2) == 0)
        greeting(data[0] & 1);
    conn.at = data + 1;
    conn.n = n - 1;
    for (i = 0; i < 64 && !conn.is_closed && (conn.n > 0 || conn.is_again); i++)
        turn_over();
    if (!conn.is_closed && n_live == 0)
        http2_client.ready(&conn, SL_TIMEOUT);
    end();
    return 0;
}
