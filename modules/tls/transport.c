/* Bytes through OpenSSL.
 *
 *   read    OpenSSL reads from the socket, as much as it holds: a record and what follows in one
 *           call.  Its buffer is given back when it is empty.
 *   write   what OpenSSL writes is gathered in a buffer of the thread, up to four records, and
 *           leaves in one call.  What the socket does not take is kept with the connection.
 *
 * Bytes that OpenSSL has encrypted cannot be encrypted again.  So while some of them wait, the
 * last of the plain bytes they were made of count as not taken (the debt): the caller keeps
 * them, offers them again when there is room, and they are told as taken when all has left. */
#include "tls.h"

#include <apr_lib.h>

#include <errno.h>
#include <stdlib.h>

#include <openssl/err.h>

#define RECORD 16384u
#define RECORD_MORE 512u            /* what encryption adds, generously */
#define OUT_MAX (4 * (RECORD + RECORD_MORE))
#define LEFT_MAX (256u << 10)       /* of handshakes and replies the peer does not read */
#define SILENT_MAX (64u << 10)      /* read of a peer that says nothing but TLS's own */
#define EARLY 4096u                 /* the first record of a long answer: shown at once */
#define EARLY_FROM (14u << 10)      /* what a fresh connection may send before it must wait */
#define EARLY_AFTER_MS 1000

static const char bad_port[] =
    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 65\r\n"
    "Connection: close\r\n\r\n"
    "This port speaks HTTPS; the request came in clear. Use https://.\n";

/* One a thread: what one call gathers; empty between calls. */
struct out {
    char at[OUT_MAX];
    unsigned n;
    char plain[RECORD]; /* short pieces put together */
};

static struct out *outs;
static BIO_METHOD *socket_method;

static struct tls *
tls_of(struct sl_conn *c)
{
    return *sl_conn_transport_data(c);
}

struct tls *
tls_of_req(const struct sl_req *r)
{
    struct sl_conn *c = sl_req_conn(r);

    return c != NULL && sl_conn_transport(c) == &tls_transport ? tls_of(c) : NULL;
}

static struct out *
out_of(const struct tls *t)
{
    return &outs[sl_loop_index(sl_conn_loop(t->conn))];
}

/* ---- the socket as OpenSSL sees it ---- */

/* Keeps what the socket did not take: of the part kept before, then of what was gathered. */
static int
keep(struct tls *t, size_t sent)
{
    struct out *o = out_of(t);
    size_t from_left = sent < t->n_left ? sent : t->n_left, from_out = sent - from_left;
    size_t rest = t->n_left - from_left + o->n - from_out;
    char *left;

    if (rest == 0 || (from_left == 0 && o->n == 0))
        left = rest == 0 ? NULL : t->left;
    else if (rest > LEFT_MAX || (left = malloc(rest)) == NULL)
        return -1;
    if (left != t->left) {
        if (rest > 0 && t->n_left > from_left)
            memcpy(left, t->left + from_left, t->n_left - from_left);
        if (rest > 0)
            memcpy(left + (t->n_left - from_left), o->at + from_out, o->n - from_out);
        free(t->left);
        t->left = left;
    }
    t->n_left = (unsigned)rest;
    o->n = 0;
    return 0;
}

/* 0: all is written, 1: some is kept, -1: the connection is broken. */
static int
push(struct tls *t)
{
    struct out *o = out_of(t);
    struct iovec iov[2] = {{t->left, t->n_left}, {o->at, o->n}};
    int skip = t->n_left == 0;
    ssize_t k;

    t->is_held = 0;
    if (t->n_left + o->n == 0)
        return 0;
    k = sl_conn_raw_writev(t->conn, iov + skip, 1 + (!skip && o->n > 0));
    if (k == SL_IO_ERROR || keep(t, k > 0 ? (size_t)k : 0) != 0) {
        o->n = 0;
        t->is_broken = 1;
        return -1;
    }
    return t->n_left > 0;
}

static int
socket_write(BIO *b, const char *at, int n)
{
    struct tls *t = BIO_get_data(b);
    struct out *o;

    BIO_clear_retry_flags(b);
    if (t->away != NULL)
        return tls_offload_write(t, at, (size_t)n);
    o = out_of(t);
    if (o->n + (unsigned)n > OUT_MAX && push(t) < 0)
        return -1;
    memcpy(o->at + o->n, at, (size_t)n);
    o->n += (unsigned)n;
    return n;
}

static int
socket_read(BIO *b, char *to, int n)
{
    struct tls *t = BIO_get_data(b);
    ssize_t k = t->away != NULL ? SL_IO_AGAIN : sl_conn_raw_read(t->conn, to, (size_t)n);

    BIO_clear_retry_flags(b);
    if (k > 0 && t->first_byte == 0)
        t->first_byte = (uint8_t)*to;
    if (k > 0 && t->is_done && (t->n_silent += (unsigned)k) > SILENT_MAX)
        t->is_broken = 1; /* a flood of changes of keys, or the like */
    if (t->is_broken)
        return -1;
    if (k == SL_IO_AGAIN)
        BIO_set_retry_read(b);
    t->has_seen_end |= k == SL_IO_EOF;
    return k > 0 ? (int)k : k == SL_IO_EOF ? 0 : -1;
}

static long
socket_ctrl(BIO *b, int what, long n, void *at)
{
    const struct tls *t = BIO_get_data(b);

    (void)n;
    (void)at;
    if (what == BIO_CTRL_EOF)
        return t->has_seen_end;
    return what == BIO_CTRL_FLUSH;
}

/* ---- opening ---- */

static struct tls *
tls_make(struct sl_conn *c, SSL_CTX *ctx)
{
    struct tls *t = calloc(1, sizeof *t);
    BIO *bio = BIO_new(socket_method);

    if (t != NULL)
        t->ssl = SSL_new(ctx);
    if (bio == NULL || t == NULL || t->ssl == NULL) {
        BIO_free(bio);
        if (t != NULL)
            SSL_free(t->ssl);
        free(t);
        return NULL;
    }
    t->conn = c;
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    SSL_set_app_data(t->ssl, t);
    *sl_conn_transport_data(c) = t;
    return t;
}

static int
tls_open(struct sl_conn *c, int server)
{
    SSL_CTX *ctx = server ? tls_context_default(sl_conn_scope(c)) : tls_server_context(c);
    struct tls *t = ctx != NULL ? tls_make(c, ctx) : NULL;

    if (t == NULL)
        return -1;
    t->is_server = server != 0;
    if (!server)
        return tls_server_begin(t);
    SSL_set_accept_state(t->ssl);
    tls_early_accept(t);
    return 0;
}

/* ---- the handshake ---- */

static void tls_shutdown(struct sl_conn *c);

static void
log_client_failure(struct tls *t, const char *what, const char *why)
{
    struct sl_span peer = sl_conn_peer_text(t->conn);
    const char *name = SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name);

    if (sl_conn_failure_has_line(t->conn, why))
        sl_log(SL_INFO, "TLS0010", "client %.*s%s%s: %s: %s", (int)peer.n, peer.at,
               name != NULL ? " for " : "", name != NULL ? name : "", what, why);
}

static void
log_failure(struct tls *t, const char *what)
{
    long verify = SSL_get_verify_result(t->ssl);
    char why[160], all[320];

    tls_error(why, sizeof why);
    if (why[0] == '\0')
        snprintf(why, sizeof why, "%s", t->has_seen_end ? "the peer closed" : "the connection broke");
    snprintf(all, sizeof all, "%s%s%s", why, verify != X509_V_OK ? ": " : "",
             verify != X509_V_OK ? X509_verify_cert_error_string(verify) : "");
    if (t->is_server)
        log_client_failure(t, what, all);
    else
        sl_log(SL_WARN, "TLS0011", "pool %s server %s: %s: %s", sl_conn_server(t->conn)->pool->name,
               sl_conn_server(t->conn)->name, what, all);
}

/* Somebody who speaks HTTP in clear is told so in HTTP. */
static void
answer_in_clear(struct tls *t)
{
    struct iovec one = {(void *)(uintptr_t)bad_port, sizeof bad_port - 1};
    struct sl_span peer = sl_conn_peer_text(t->conn);

    out_of(t)->n = 0;
    if (sl_conn_failure_has_line(t->conn, "a request in clear"))
        sl_log(SL_INFO, "TLS0012", "client %.*s: a request in clear on a port that speaks TLS; "
               "answered 400", (int)peer.n, peer.at);
    if (sl_conn_raw_writev(t->conn, &one, 1) > 0)
        shutdown(sl_conn_fd(t->conn), SHUT_WR);
    ERR_clear_error();
}

/* The session tickets of TLS 1.3 go out with the first answer, a call to the kernel less, where the
 * request came with the end of the handshake.  Where it did not, a client without TCP_NODELAY may
 * hold it back until that end is acknowledged, which takes some 40 ms if nothing is sent.  Of early
 * data the first answer may have left already. */
static int
handshake_over(struct tls *t)
{
    t->is_done = 1;
    tls_session_count(t);
    if (t->early != NULL) {
        tls_early_over(t);
        if (t->ends_early)
            tls_shutdown(t->conn);
    } else if (t->is_server && SSL_version(t->ssl) == TLS1_3_VERSION && SSL_has_pending(t->ssl)) {
        if (keep(t, 0) != 0)
            return -1;
        t->is_held = t->n_left > 0;
        return 1;
    }
    return push(t) < 0 ? -1 : 1;
}

static int
handshake_failed(struct tls *t)
{
    t->is_broken = 1;
    tls_session_failed(t);
    if (t->is_server && apr_isupper(t->first_byte))
        answer_in_clear(t);
    else {
        if (!t->is_told)
            log_failure(t, "the handshake failed");
        push(t); /* the alert */
    }
    if (!t->is_server)
        tls_server_failed(t);
    return -1;
}

struct tls_step
tls_step(struct tls *t)
{
    struct tls_step s = {0, SSL_ERROR_NONE};

    ERR_clear_error();
    s.rc = t->reads_early ? tls_early_read(t) : SSL_do_handshake(t->ssl);
    if (s.rc != 1)
        s.error = SSL_get_error(t->ssl, s.rc);
    return s;
}

/* What was made on another thread leaves, and what came meanwhile is read. */
static struct tls_step
step_is_back(struct tls *t, struct tls_step s)
{
    return s.error == SSL_ERROR_WANT_READ && push(t) >= 0 ? tls_step(t) : s;
}

static int
tls_handshake(struct sl_conn *c)
{
    struct tls *t = tls_of(c);
    struct tls_step s;

    if (t->away != NULL) {
        if (!tls_offload_take(t, &s))
            return 0;
        s = step_is_back(t, s);
    } else if (t->n_left > 0 && push(t) < 0)
        return -1;
    else
        s = tls_step(t);
    if (s.error == SSL_ERROR_WANT_CLIENT_HELLO_CB) {
        if (tls_offload(t) == 0)
            return 0;
        s = tls_step(t);
    }
    if (s.rc == 1)
        return handshake_over(t);
    if (s.error != SSL_ERROR_WANT_READ && s.error != SSL_ERROR_WANT_WRITE)
        return handshake_failed(t);
    return push(t) < 0 ? -1 : t->early != NULL ? SL_HANDSHAKE_EARLY : 0;
}

/* ---- who the client wants ---- */

/* RFC 6066, 3: one name, of type host_name. */
static struct sl_span
hello_name(SSL *ssl, char *lower)
{
    const unsigned char *p;
    size_t n, i, len;

    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) != 1 || n < 5 || p[2] != 0)
        return (struct sl_span){NULL, 0};
    len = (size_t)p[3] << 8 | p[4];
    if (len + 5 > n || len > 255)
        return (struct sl_span){NULL, 0};
    for (i = 0; i < len; i++)
        lower[i] = (char)apr_tolower(p[5 + i]);
    if (len > 0 && lower[len - 1] == '.')
        len--;
    return (struct sl_span){lower, len};
}

static void
log_strange_name(struct tls *t, struct sl_span name)
{
    struct sl_span peer = sl_conn_peer_text(t->conn);

    t->is_told = 1;
    if (sl_conn_failure_has_line(t->conn, "a name no certificate has"))
        sl_log(SL_INFO, "TLS0015", "client %.*s: refused, no certificate has the name it asks for: %.*s",
               (int)peer.n, peer.at, name.n > 0 ? (int)name.n : 4, name.n > 0 ? name.at : "none");
}

static int
client_says_hello(SSL *ssl, int *alert, void *unused)
{
    struct tls *t = SSL_get_app_data(ssl);
    char lower[256];
    struct sl_span name;
    SSL_CTX *ctx;

    (void)unused;
    if (t->was_away)
        return SSL_CLIENT_HELLO_SUCCESS;
    name = hello_name(ssl, lower);
    ctx = tls_context_find(sl_conn_scope(t->conn), name);
    if (ctx == NULL) {
        log_strange_name(t, name);
        *alert = SSL_AD_UNRECOGNIZED_NAME;
        return SSL_CLIENT_HELLO_ERROR;
    }
    if (ctx != SSL_get_SSL_CTX(ssl))
        tls_context_enter(ssl, ctx);
    return tls_offload_wants(ssl, ctx) ? SSL_CLIENT_HELLO_RETRY : SSL_CLIENT_HELLO_SUCCESS;
}

/* A name that was looked at is one that was accepted. */
static int
name_is_taken(SSL *ssl, int *alert, void *unused)
{
    (void)alert;
    (void)unused;
    return SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) != NULL ? SSL_TLSEXT_ERR_OK
                                                                      : SSL_TLSEXT_ERR_NOACK;
}

/* RFC 7301, 3.2: the listener's preference decides; nothing in common ends the handshake. */
static int
alpn_select(SSL *ssl, const unsigned char **out, unsigned char *n_out, const unsigned char *in,
            unsigned n_in, void *unused)
{
    struct tls *t = SSL_get_app_data(ssl);
    const char *name;
    unsigned i, at;

    (void)unused;
    for (i = 0; (name = t->away != NULL ? tls_offload_protocol(t, i)
                                        : sl_conn_protocol_name(t->conn, i)) != NULL; i++)
        for (at = 0; at < n_in; at += 1u + in[at])
            if (in[at] == strlen(name) && memcmp(in + at + 1, name, in[at]) == 0) {
                *out = in + at + 1;
                *n_out = in[at];
                return SSL_TLSEXT_ERR_OK;
            }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

void
tls_accept_with(SSL_CTX *ctx)
{
    SSL_CTX_set_client_hello_cb(ctx, client_says_hello, NULL);
    SSL_CTX_set_tlsext_servername_callback(ctx, name_is_taken);
    SSL_CTX_set_alpn_select_cb(ctx, alpn_select, NULL);
}

static const char *
tls_alpn(struct sl_conn *c)
{
    const unsigned char *at;
    const char *name;
    unsigned n, i;

    SSL_get0_alpn_selected(tls_of(c)->ssl, &at, &n);
    for (i = 0; n > 0 && (name = sl_conn_protocol_name(c, i)) != NULL; i++)
        if (strlen(name) == n && memcmp(name, at, n) == 0)
            return name;
    return NULL;
}

/* ---- reading ---- */

static ssize_t
read_failed(struct tls *t, int rc)
{
    switch (SSL_get_error(t->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return SL_IO_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return SL_IO_EOF;
    case SSL_ERROR_SSL:
        if (!t->has_seen_end) /* RFC 5246, 7.2.1: who just ends may come back */
            tls_session_failed(t);
        break;
    default:
        break;
    }
    t->is_broken = 1;
    /* An end without close_notify may be a cut by somebody between (RFC 8446, 6.1): clients end so
     * every day, but not within a record. */
    if (ERR_peek_error() != 0 && (!t->has_seen_end || SSL_has_pending(t->ssl)))
        log_failure(t, "reading failed");
    ERR_clear_error();
    return SL_IO_ERROR;
}

static ssize_t
tls_read(struct sl_conn *c, void *to, size_t n)
{
    struct tls *t = tls_of(c);
    ssize_t early;
    int k;

    if (t->is_broken || (t->n_left > 0 && !t->is_held && push(t) < 0))
        return SL_IO_ERROR;
    if (t->is_ended && !t->is_shut && t->n_left == 0)
        t->is_shut = shutdown(sl_conn_fd(c), SHUT_WR) == 0;
    if (t->early != NULL && (early = tls_early_take(t, to, n)) != 0)
        return early;
    ERR_clear_error();
    k = SSL_read(t->ssl, to, n < INT32_MAX ? (int)n : INT32_MAX);
    /* A reply to a change of keys, an alert, or tickets where the request is not whole. */
    if ((out_of(t)->n > 0 || (k <= 0 && t->is_held)) && push(t) < 0)
        return SL_IO_ERROR;
    if (k > 0)
        t->n_silent = 0;
    return k > 0 ? k : read_failed(t, k);
}

static int
tls_pending(struct sl_conn *c)
{
    const struct tls *t = tls_of(c);

    if (t->is_broken)
        return 0;
    if (t->early != NULL && tls_early_is_pending(t))
        return 1;
    return t->is_done && SSL_has_pending(t->ssl);
}

/* ---- writing ---- */

/* Where a call stands in its iov. */
struct cursor {
    const struct iovec *iov;
    int n;
    size_t at; /* in iov[0] */
};

static void
cursor_skip(struct cursor *from, size_t n)
{
    while (from->n > 0 && n >= from->iov->iov_len - from->at) {
        n -= from->iov->iov_len - from->at;
        from->iov++;
        from->n--;
        from->at = 0;
    }
    from->at += n;
}

/* The next plain bytes, up to max: in place where they lie together. */
static struct sl_span
cursor_take(struct cursor *from, size_t max, char *plain)
{
    size_t n = 0, k;
    const char *at;

    if (from->n > 0 && (from->n == 1 || from->iov->iov_len - from->at >= max)) {
        at = (const char *)from->iov->iov_base + from->at;
        k = from->iov->iov_len - from->at;
        k = k < max ? k : max;
        cursor_skip(from, k);
        return (struct sl_span){at, k};
    }
    while (from->n > 0 && n < max) {
        k = from->iov->iov_len - from->at;
        k = k < max - n ? k : max - n;
        memcpy(plain + n, (const char *)from->iov->iov_base + from->at, k);
        n += k;
        cursor_skip(from, k);
    }
    return (struct sl_span){plain, n};
}

/* How long the next record may be: a long answer begins with a short one, which its client can
 * use before the rest has come. */
static size_t
record_max(struct tls *t, const struct cursor *from, int is_first)
{
    size_t n = 0;
    int i;

    if (!is_first)
        return RECORD;
    for (i = 0; i < from->n; i++)
        n += from->iov[i].iov_len;
    return n > EARLY_FROM && sl_loop_now(sl_conn_loop(t->conn)) - t->wrote_at > EARLY_AFTER_MS
               ? EARLY : RECORD;
}

static int
encrypt(struct tls *t, struct sl_span part)
{
    size_t n;

    ERR_clear_error();
    if (t->is_done)
        return SSL_write(t->ssl, part.at, (int)part.n) == (int)part.n;
    return SSL_write_early_data(t->ssl, part.at, part.n, &n) == 1 && n == part.n;
}

static ssize_t
tls_writev(struct sl_conn *c, const struct iovec *iov, int n)
{
    struct tls *t = tls_of(c);
    struct out *o = out_of(t);
    struct cursor from = {iov, n, 0};
    size_t done = t->debt, last = 0;

    SL_ASSERT(o->n == 0);
    if (t->is_broken || (t->debt > 0 && push(t) < 0))
        return SL_IO_ERROR;
    if (t->debt > 0 && t->n_left > 0)
        return SL_IO_AGAIN;
    cursor_skip(&from, t->debt);
    t->debt = 0;
    while (from.n > 0 && o->n + RECORD + RECORD_MORE <= OUT_MAX) {
        struct sl_span part = cursor_take(&from, record_max(t, &from, last == 0), o->plain);

        if (!encrypt(t, part)) {
            push(t);
            t->is_broken = 1;
            return SL_IO_ERROR;
        }
        last = part.n;
        done += part.n;
    }
    if (from.n == 0 && t->is_done && !t->is_ended && sl_conn_ends(c)) {
        SSL_shutdown(t->ssl);
        t->is_ended = 1;
    }
    t->wrote_at = sl_loop_now(sl_conn_loop(c));
    if (push(t) < 0)
        return SL_IO_ERROR;
    if (t->n_left > 0 && last > 0) {
        t->debt = (unsigned)last;
        done -= last;
    }
    return done > 0 ? (ssize_t)done : SL_IO_AGAIN;
}

static int
tls_can_splice(struct sl_conn *c)
{
    (void)c;
    return 0;
}

/* ---- the end ---- */

/* close_notify, so that the end is told from a cut.  The socket's own end follows when the peer is
 * read from; where it is closed at once that would be a call for nothing.  While the handshake of
 * early data lasts it cannot be said yet. */
static void
tls_shutdown(struct sl_conn *c)
{
    struct tls *t = tls_of(c);

    if (t->is_broken || t->is_ended)
        return;
    t->ends_early = !t->is_done && t->early != NULL;
    if (t->ends_early)
        return;
    if (t->is_done) {
        ERR_clear_error();
        SSL_shutdown(t->ssl);
    }
    t->is_ended = 1;
    push(t);
}

void
tls_free(struct tls *t)
{
    tls_early_free(t);
    SSL_free(t->ssl);
    free(t->left);
    free(t);
}

/* A session stays good when its connection just ended: to OpenSSL all has been said. */
static void
tls_close(struct sl_conn *c)
{
    struct tls *t = tls_of(c);

    if (t == NULL)
        return;
    *sl_conn_transport_data(c) = NULL;
    if (t->away != NULL) {
        tls_offload_leave(t);
        return;
    }
    if (t->is_done && !t->is_broken)
        SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    out_of(t)->n = 0;
    tls_free(t);
}

const struct sl_transport tls_transport = {
    .name = "tls",
    .open = tls_open,
    .read = tls_read,
    .writev = tls_writev,
    .pending = tls_pending,
    .can_splice = tls_can_splice,
    .shutdown = tls_shutdown,
    .close = tls_close,
    .alpn = tls_alpn,
    .handshake = tls_handshake,
    .server_options = tls_server_options,
    .is_secure = 1,
};

static apr_status_t
threads_free(void *unused)
{
    (void)unused;
    BIO_meth_free(socket_method);
    socket_method = NULL;
    outs = NULL;
    return APR_SUCCESS;
}

int
tls_threads_make(struct sl_worker *w)
{
    outs = apr_pcalloc(sl_worker_pool(w), sl_worker_threads(w) * sizeof *outs);
    socket_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "sluice connection");
    if (socket_method == NULL)
        return -1;
    BIO_meth_set_write(socket_method, socket_write);
    BIO_meth_set_read(socket_method, socket_read);
    BIO_meth_set_ctrl(socket_method, socket_ctrl);
    apr_pool_cleanup_register(sl_worker_pool(w), NULL, threads_free, apr_pool_cleanup_null);
    return 0;
}
