/* A certificate's response, and how it reaches clients.
 *
 * It hangs on the certificate itself (X509), so that connections which still begin with one that
 * was renewed staple what belongs to it.  Threads read it while they shake hands; thread 0 replaces
 * it, and the old one waits for a minute, longer than any of them looks at it. */
#include "staple.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define RETIRED_S 60

/* A good one; does not change. */
struct response {
    struct response *next; /* of those that were replaced */
    int64_t retired_s;
    int64_t asked_s, until_s;
    size_t n;
    unsigned char der[];
};

/* Of one X509. */
struct staple {
    _Atomic(struct response *) now; /* NULL: none */
};

static struct response *retired;
static int x509_index = -1;

static void
staple_free(void *x509, void *data, CRYPTO_EX_DATA *all, int index, long argl, void *argp)
{
    struct staple *s = data;

    (void)x509;
    (void)all;
    (void)index;
    (void)argl;
    (void)argp;
    if (s == NULL)
        return;
    free(atomic_load(&s->now));
    free(s);
}

static struct staple *
staple_of(const X509 *leaf)
{
    return X509_get_ex_data(leaf, x509_index);
}

int
stapled_prepare(X509 *leaf)
{
    struct staple *s = staple_of(leaf);

    if (s != NULL)
        return 0;
    s = calloc(1, sizeof *s);
    if (s != NULL && X509_set_ex_data(leaf, x509_index, s) == 1)
        return 0;
    free(s);
    return -1;
}

static void
retired_free(int64_t before_s)
{
    struct response **at = &retired;

    while (*at != NULL) {
        struct response *r = *at;

        if (r->retired_s > before_s) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        free(r);
    }
}

static void
response_retire(struct response *r)
{
    r->retired_s = time(NULL);
    retired_free(r->retired_s - RETIRED_S);
    r->next = retired;
    retired = r;
}

void
stapled_set(X509 *leaf, const unsigned char *der, size_t n, int64_t asked_s, int64_t until_s)
{
    struct staple *s = staple_of(leaf);
    struct response *r = NULL, *old;

    if (s == NULL || (der != NULL && (r = calloc(1, sizeof *r + n)) == NULL))
        return;
    if (r != NULL) {
        r->asked_s = asked_s;
        r->until_s = until_s;
        r->n = n;
        memcpy(r->der, der, n);
    }
    old = atomic_exchange_explicit(&s->now, r, memory_order_acq_rel);
    if (old != NULL)
        response_retire(old);
}

/* The client asks for the status of the certificate it is shown.  Perhaps on a thread of
 * TLSOffload. */
static int
status_wanted(SSL *ssl, void *unused)
{
    const X509 *leaf = SSL_get_certificate(ssl);
    const struct staple *s = leaf != NULL ? staple_of(leaf) : NULL;
    const struct response *r = s != NULL ? atomic_load_explicit(&s->now, memory_order_acquire) : NULL;
    unsigned char *copy;

    (void)unused;
    if (r == NULL || r->until_s <= time(NULL) ||
        (copy = OPENSSL_memdup(r->der, r->n)) == NULL)
        return SSL_TLSEXT_ERR_NOACK;
    SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)r->n);
    return SSL_TLSEXT_ERR_OK;
}

void
tls_staple_use(SSL_CTX *ctx, const struct tls_stapling *conf)
{
    if (conf != NULL && conf->is_on)
        SSL_CTX_set_tlsext_status_cb(ctx, status_wanted);
}

static const struct response *
response_of(const struct tls_cert *cert)
{
    const struct staple *s = x509_index >= 0 ? staple_of(cert->pair->leaf) : NULL;

    return s != NULL ? atomic_load(&s->now) : NULL;
}

int64_t
stapled_asked(const struct tls_cert *cert)
{
    const struct response *r = response_of(cert);

    return r != NULL ? r->asked_s : 0;
}

int64_t
stapled_until(const struct tls_cert *cert)
{
    const struct response *r = response_of(cert);

    return r != NULL ? r->until_s : 0;
}

void
stapled_open(void)
{
    if (x509_index < 0)
        x509_index = X509_get_ex_new_index(0, NULL, NULL, NULL, staple_free);
}

void
stapled_close(void)
{
    retired_free(INT64_MAX);
}
