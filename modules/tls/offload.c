/* TLSOffload: signatures by RSA keys are made on threads of their own, for one takes as long as a
 * loop needs for dozens of requests.
 *
 *   loop     the hello is read, a host chosen; it has RSA alone, and nothing is resumed
 *   thread   OpenSSL goes on, as far as the server's flight: away
 *   loop     the flight is sent, the handshake ends: back
 *
 * While it is away nobody else touches the SSL; what it writes is kept with it.  A connection that
 * is closed meanwhile leaves it behind, and it is freed when it comes back.  These are not the
 * core's offload threads: a storm of handshakes would keep the cache's files waiting. */
#include "tls.h"

#include <apr_thread_pool.h>

#include <pthread.h>
#include <stdlib.h>

#include <openssl/err.h>

#define WAITING_MAX 1024 /* of all loops; who finds more makes his signature on the loop */
#define NAMES_MAX 8      /* of protocols, for ALPN */

struct tls_away {
    struct sl_mail mail; /* first: what comes back */
    struct tls *t;
    struct sl_loop *loop;
    struct tls_away *next, **prev; /* of its loop's */
    const char *names[NAMES_MAX];  /* as sl_conn_protocol_name(): the connection may be gone */
    char *out; /* written by OpenSSL */
    size_t n_out;
    struct tls_step step;
    unsigned long why; /* the last error of the thread it was on */
    int is_back;
};

static apr_thread_pool_t *threads; /* NULL: TLSOffload is off */
static struct tls_away **loops;    /* by thread: those away, and those back that are not taken yet */
static unsigned n_loops;
static int signs_by_rsa; /* whether the data of this number is set */

/* ---- who goes ---- */

static int
has_extension(SSL *ssl, unsigned type)
{
    const unsigned char *at;
    size_t n;

    return SSL_client_hello_get0_ext(ssl, type, &at, &n) == 1 && n > 0;
}

/* RSA alone: where there is another key, too, nearly every client takes that. */
void
tls_offload_use(SSL_CTX *ctx, struct tls_pair *const *pairs, unsigned n)
{
    unsigned i;

    if (threads == NULL)
        return;
    for (i = 0; i < n; i++)
        if (EVP_PKEY_get_base_id(pairs[i]->key) != EVP_PKEY_RSA &&
            EVP_PKEY_get_base_id(pairs[i]->key) != EVP_PKEY_RSA_PSS)
            return;
    SSL_CTX_set_ex_data(ctx, signs_by_rsa, ctx);
}

int
tls_offload_wants(SSL *ssl, const SSL_CTX *ctx)
{
    return threads != NULL && SSL_CTX_get_ex_data(ctx, signs_by_rsa) != NULL &&
           !has_extension(ssl, TLSEXT_TYPE_psk) && !has_extension(ssl, TLSEXT_TYPE_session_ticket) &&
           !tls_session_is_known(ssl);
}

/* ---- there ---- */

const char *
tls_offload_protocol(const struct tls *t, unsigned i)
{
    return i < NAMES_MAX ? t->away->names[i] : NULL;
}

int
tls_offload_write(struct tls *t, const char *at, size_t n)
{
    struct tls_away *a = t->away;
    char *more = realloc(a->out, a->n_out + n);

    if (more == NULL)
        return -1;
    memcpy(more + a->n_out, at, n);
    a->out = more;
    a->n_out += n;
    return (int)n;
}

static void
away_free(struct tls_away *a)
{
    *a->prev = a->next;
    if (a->next != NULL)
        a->next->prev = a->prev;
    free(a->out);
    free(a);
}

static void
away_comes_back(struct sl_loop *loop, struct sl_mail *mail)
{
    struct tls_away *a = (struct tls_away *)mail;
    struct tls *t = a->t;

    (void)loop;
    a->is_back = 1;
    if (t->conn != NULL) {
        sl_conn_again(t->conn);
        return;
    }
    t->away = NULL;
    away_free(a);
    tls_free(t);
}

static void *APR_THREAD_FUNC
away_work(apr_thread_t *thread, void *data)
{
    struct tls_away *a = data;

    (void)thread;
    a->step = tls_step(a->t);
    a->why = ERR_peek_last_error();
    ERR_clear_error();
    sl_loop_post(a->loop, &a->mail);
    return NULL;
}

/* ---- and back ---- */

int
tls_offload(struct tls *t)
{
    struct sl_loop *loop = sl_conn_loop(t->conn);
    struct tls_away *a, **list = &loops[sl_loop_index(loop)];
    unsigned i;

    t->was_away = 1;
    if (apr_thread_pool_tasks_count(threads) >= WAITING_MAX || (a = calloc(1, sizeof *a)) == NULL)
        return -1;
    a->mail.fn = away_comes_back;
    a->t = t;
    a->loop = loop;
    for (i = 0; i < NAMES_MAX; i++)
        if ((a->names[i] = sl_conn_protocol_name(t->conn, i)) == NULL)
            break;
    a->next = *list;
    a->prev = list;
    if (a->next != NULL)
        a->next->prev = &a->next;
    *list = a;
    t->away = a;
    if (apr_thread_pool_push(threads, away_work, a, APR_THREAD_TASK_PRIORITY_NORMAL, NULL) == APR_SUCCESS)
        return 0;
    t->away = NULL;
    away_free(a);
    return -1;
}

int
tls_offload_take(struct tls *t, struct tls_step *step)
{
    struct tls_away *a = t->away;
    char *left;

    if (!a->is_back)
        return 0;
    *step = a->step;
    if (a->why != 0)
        ERR_raise(ERR_GET_LIB(a->why), ERR_GET_REASON(a->why));
    if (a->n_out > 0 && (left = realloc(t->left, t->n_left + a->n_out)) != NULL) {
        memcpy(left + t->n_left, a->out, a->n_out);
        t->left = left;
        t->n_left += (unsigned)a->n_out;
    } else if (a->n_out > 0)
        *step = (struct tls_step){-1, SSL_ERROR_SYSCALL};
    t->away = NULL;
    away_free(a);
    return 1;
}

void
tls_offload_leave(struct tls *t)
{
    if (t->away->is_back) { /* and its mail was read */
        away_free(t->away);
        t->away = NULL;
        tls_free(t);
    } else
        t->conn = NULL;
}

/* ---- from start to end ---- */

static void *
thread_exits(void *none)
{
    pthread_exit(none);
}

/* What the C library needs for the pool's threads to exit it loads when the first does so, and aborts if
 * it cannot: that is not left to a moment without descriptors. */
static int
one_thread_exits(void)
{
    pthread_t thread;

    return pthread_create(&thread, NULL, thread_exits, NULL) == 0 && pthread_join(thread, NULL) == 0
               ? 0 : -1;
}

int
tls_offload_open(struct sl_worker *w, int64_t n)
{
    if (n <= 0)
        return 0;
    if (one_thread_exits() != 0)
        return -1;
    signs_by_rsa = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    n_loops = sl_worker_threads(w);
    loops = apr_pcalloc(sl_worker_pool(w), n_loops * sizeof(struct tls_away *));
    if (apr_thread_pool_create(&threads, 0, (apr_size_t)n, sl_worker_pool(w)) != APR_SUCCESS)
        return -1;
    apr_thread_pool_idle_max_set(threads, (apr_size_t)n); /* once begun they stay */
    return 0;
}

/* Those that run are waited for; of the rest nobody waits for any more. */
void
tls_offload_close(void)
{
    unsigned i;

    if (threads == NULL)
        return;
    apr_thread_pool_destroy(threads);
    threads = NULL;
    for (i = 0; i < n_loops; i++)
        while (loops[i] != NULL) {
            struct tls *t = loops[i]->t;

            t->away = NULL;
            away_free(loops[i]);
            if (t->conn == NULL)
                tls_free(t);
        }
}
