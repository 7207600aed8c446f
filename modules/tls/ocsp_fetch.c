/* Asks a responder about one certificate, by HTTP in clear (RFC 6960, A.1: a response is signed).
 * Runs on an offload thread, where it may wait: at most FETCH_MS beside the look-up of the host's
 * name, and no longer than a moment once it is cancelled. */
#include "ocsp.h"

#include <apr_strings.h>
#include <apr_time.h>

#include <poll.h>

#include <openssl/err.h>
#include <openssl/http.h>

#define FETCH_MS 5000
#define SLICE_MS 100 /* how late a cancelled one ends */
#define HOST_MAX 272 /* of a name and a port */

/* One on its way: the thread's own. */
struct asking {
    const struct tls_fetch *f;
    struct tls_ocsp_url url;
    BIO *socket;
    int64_t end_us;
};

/* NULL, or why it ends. */
static const char *
asking_over(const struct asking *a)
{
    if (atomic_load(&a->f->is_cancelled))
        return "cancelled";
    return apr_time_now() < a->end_us ? NULL : "no response in time";
}

/* Waits until the socket can go on.  NULL or why not. */
static const char *
asking_wait(const struct asking *a, short events)
{
    struct pollfd p = {.events = events};
    const char *why;

    while ((why = asking_over(a)) == NULL) {
        if (BIO_get_fd(a->socket, &p.fd) < 0)
            return "no socket";
        if (poll(&p, 1, SLICE_MS) != 0)
            return NULL;
    }
    return why;
}

/* OpenSSL reads a head as long as there is more of it: one that comes fast enough is never waited for. */
static long
asking_reads(BIO *b, int what, const char *at, size_t n, int i, long l, int rc, size_t *done)
{
    const struct asking *a = (const void *)BIO_get_callback_arg(b);

    (void)at;
    (void)n;
    (void)i;
    (void)l;
    (void)done;
    return what == BIO_CB_READ && asking_over(a) != NULL ? -1 : rc;
}

static int
asking_open(struct asking *a)
{
    const char *host = a->url.host;
    char literal[HOST_MAX];

    if (strchr(host, ':') != NULL) { /* an IPv6 address has lost its brackets */
        apr_snprintf(literal, sizeof literal, "[%s]", host);
        host = literal;
    }
    a->socket = BIO_new_connect(host);
    if (a->socket == NULL)
        return -1;
    BIO_set_conn_port(a->socket, a->url.port);
    BIO_set_nbio(a->socket, 1);
    BIO_set_callback_ex(a->socket, asking_reads);
    BIO_set_callback_arg(a->socket, (char *)a);
    return 0;
}

static const char *
asking_connect(struct asking *a)
{
    const char *why = NULL;

    while (why == NULL && BIO_do_connect(a->socket) != 1) {
        if (!BIO_should_retry(a->socket))
            return "no connection";
        why = asking_wait(a, POLLOUT);
    }
    return why;
}

static OSSL_HTTP_REQ_CTX *
asking_request(struct asking *a)
{
    OCSP_REQUEST *question = tls_ocsp_request(a->f->leaf, a->f->issuer);
    OSSL_HTTP_REQ_CTX *http = OCSP_sendreq_new(a->socket, a->url.path, NULL, TLS_OCSP_MAX);
    int is_usual = strcmp(a->url.port, "80") == 0, ok;
    char host[HOST_MAX];

    apr_snprintf(host, sizeof host, "%s%s%s", a->url.host, is_usual ? "" : ":",
                 is_usual ? "" : a->url.port);
    ok = question != NULL && http != NULL && OSSL_HTTP_REQ_CTX_add1_header(http, "Host", host) == 1 &&
         OCSP_REQ_CTX_set1_req(http, question) == 1;
    OCSP_REQUEST_free(question);
    if (ok) {
        OSSL_HTTP_REQ_CTX_set_max_response_length(http, TLS_OCSP_MAX);
        return http;
    }
    OSSL_HTTP_REQ_CTX_free(http);
    return NULL;
}

static const char *
asking_exchange(struct asking *a, OCSP_RESPONSE **response)
{
    OSSL_HTTP_REQ_CTX *http = asking_request(a);
    const char *why = http != NULL ? NULL : "out of memory";
    int rc = -1;

    while (why == NULL && (rc = OCSP_sendreq_nbio(response, http)) == -1)
        why = asking_wait(a, BIO_should_write(a->socket) ? POLLOUT : POLLIN);
    OSSL_HTTP_REQ_CTX_free(http);
    return why != NULL ? why : rc == 1 ? NULL : "no usable answer";
}

/* What OpenSSL says, where it does, says more than we do: the system's error first. */
static const char *
reason(const char *why)
{
    unsigned long first = ERR_peek_error(), last = ERR_peek_last_error();
    const char *says = ERR_SYSTEM_ERROR(first) ? strerror(ERR_GET_REASON(first))
                                               : ERR_reason_error_string(last);

    return first != 0 && says != NULL ? says : why;
}

static void
fetch_keep(struct tls_fetch *f, OCSP_RESPONSE *response)
{
    f->n = i2d_OCSP_RESPONSE(response, &f->der);
    f->what = f->n > 0 ? tls_ocsp_check(f->der, (size_t)f->n, f->leaf, f->issuer,
                                        apr_time_sec(apr_time_now()), &f->said)
                       : TLS_OCSP_BAD;
}

static void
fetch_work(struct sl_offload *job)
{
    struct tls_fetch *f = (struct tls_fetch *)job;
    struct asking a = {.f = f, .end_us = apr_time_now() + FETCH_MS * 1000};
    OCSP_RESPONSE *response = NULL;
    const char *why;

    ERR_clear_error();
    f->what = TLS_OCSP_BAD;
    if (tls_ocsp_url(f->leaf, &a.url) != 0 || asking_open(&a) != 0)
        why = "no address";
    else if ((why = asking_connect(&a)) == NULL)
        why = asking_exchange(&a, &response);
    if (response != NULL)
        fetch_keep(f, response);
    if (f->what == TLS_OCSP_BAD)
        apr_snprintf(f->text, sizeof f->text, "http://%s:%s%s: %s", a.url.host, a.url.port, a.url.path,
                     response != NULL ? f->said.why : reason(why));
    OCSP_RESPONSE_free(response);
    BIO_free_all(a.socket);
    tls_ocsp_url_free(&a.url);
    ERR_clear_error();
}

static void
fetch_over(struct sl_loop *loop, struct sl_offload *job)
{
    struct tls_fetch *f = (struct tls_fetch *)job;

    (void)loop;
    f->done(f);
}

int
tls_fetch_begin(struct sl_loop *loop, struct tls_fetch *f, X509 *leaf, X509 *issuer)
{
    f->job = (struct sl_offload){.work = fetch_work, .done = fetch_over};
    f->leaf = leaf;
    f->issuer = issuer;
    f->der = NULL;
    X509_up_ref(leaf);
    X509_up_ref(issuer);
    atomic_store(&f->is_cancelled, 0);
    if (sl_offload(loop, &f->job) == 0)
        return 0;
    tls_fetch_free(f);
    return -1;
}

void
tls_fetch_free(struct tls_fetch *f)
{
    X509_free(f->leaf);
    X509_free(f->issuer);
    OPENSSL_free(f->der);
    f->leaf = f->issuer = NULL;
    f->der = NULL;
}
