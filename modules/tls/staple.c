/* OCSP stapling: beside a certificate its clients get the CA's word that it is not revoked, and need
 * not ask themselves.
 *
 * A response hangs on the certificate itself (X509), so that connections which still begin with one
 * that was renewed staple what belongs to it.  Threads read it while they shake hands; thread 0
 * replaces it, and frees the old one when word of that has been on every thread.
 *
 * TLSStapling on asks the responder the certificate names, one certificate at a time and off the
 * loops, long before the response ends; the last good one stays until then.  What was fetched is in
 * a zone, for the next generation and the worker after a crash.  Only the generation that serves
 * asks.  TLSStapling FILE takes what somebody else has fetched. */
#include "ocsp.h"

#include <apr_strings.h>

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define ZONE_LAYOUT 1
#define KEPT_MAX 512
#define DIGEST_N 32

struct tls_stapling {
    int is_on;
    struct staple_file *files; /* none: responders are asked */
};

struct staple_file {
    const char *path;
    struct tls_stapling *of;
    struct tls_text text;
    struct staple_file *next; /* of the same line */
};

/* A good one; does not change. */
struct response {
    struct sl_mail mail; /* first; once it is replaced */
    struct response *next; /* of those that were */
    int64_t until_s;
    size_t n;
    unsigned char der[];
};

/* Of one X509. */
struct staple {
    _Atomic(struct response *) now; /* NULL: none */
};

/* A certificate that has responses stapled. */
struct keeper {
    struct keeper *next; /* of all */
    struct tls_cert *cert;
    struct staple_file *files; /* of one of its hosts; NULL: none has any */
    int is_asking;     /* the responder */
    int64_t due_s;     /* when to ask, since the epoch; 0: never */
    unsigned n_failed; /* in a row */
};

/* In the zone.  A response counts when its sequence is even and the same after it was read. */
struct kept {
    atomic_uint sequence;
    unsigned n; /* 0: revoked, or nothing is here */
    int64_t asked_s, until_s;
    unsigned char digest[DIGEST_N]; /* of the certificate */
};
struct kept_zone {
    struct kept kept[KEPT_MAX];
    unsigned char der[KEPT_MAX][TLS_OCSP_MAX]; /* pages of those that are used exist */
};

static struct keeper *keepers;
static struct kept_zone *zone;
static struct response *retired; /* on their way round the threads */
static struct sl_worker *worker;
static int is_serving; /* this generation, which then asks */
static struct tls_fetch fetch;
static int is_fetching;
static struct sl_timer timer;
static int x509_index = -1;

static unsigned
random_number(void)
{
    unsigned n;

    sl_random_bytes(&n, sizeof n);
    return n;
}

/* ---- a certificate's response ---- */

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

static struct staple *
staple_make(X509 *leaf)
{
    struct staple *s = calloc(1, sizeof *s);

    if (s == NULL || X509_set_ex_data(leaf, x509_index, s) != 1) {
        free(s);
        return NULL;
    }
    return s;
}

static void
retired_free(struct response *r)
{
    struct response **at = &retired;

    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    free(r);
}

/* On each thread in turn, 0 being the last: none holds it any more. */
static void
retired_goes_round(struct sl_loop *loop, struct sl_mail *mail)
{
    unsigned i = sl_loop_index(loop) + 1;

    if (i == 1)
        retired_free((struct response *)mail);
    else
        sl_loop_post(sl_worker_loop(worker, i % sl_worker_threads(worker)), mail);
}

static void
response_retire(struct response *r)
{
    r->next = retired;
    retired = r;
    r->mail.fn = retired_goes_round;
    sl_loop_post(sl_worker_loop(worker, sl_worker_threads(worker) > 1 ? 1 : 0), &r->mail);
}

/* NULL der: none from now on. */
static void
staple_set(X509 *leaf, const unsigned char *der, size_t n, int64_t until_s)
{
    struct staple *s = staple_of(leaf);
    struct response *r = NULL, *old;

    if (s == NULL || (der != NULL && (r = calloc(1, sizeof *r + n)) == NULL))
        return;
    if (r != NULL) {
        r->until_s = until_s;
        r->n = n;
        memcpy(r->der, der, n);
    }
    old = atomic_exchange_explicit(&s->now, r, memory_order_acq_rel);
    if (old != NULL && sl_loop_self() != NULL)
        response_retire(old);
    else
        free(old);
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

int64_t
tls_stapled_until(const struct tls_cert *cert)
{
    const struct staple *s = x509_index >= 0 ? staple_of(cert->pair->leaf) : NULL;
    const struct response *r = s != NULL ? atomic_load(&s->now) : NULL;

    return r != NULL ? r->until_s : 0;
}

/* ---- what is kept ---- */

static int
digest_of(const X509 *leaf, unsigned char *digest)
{
    return X509_digest(leaf, EVP_sha256(), digest, NULL) == 1;
}

static struct kept *
kept_find(const unsigned char *digest)
{
    unsigned i;

    for (i = 0; i < KEPT_MAX; i++)
        if (memcmp(zone->kept[i].digest, digest, DIGEST_N) == 0)
            return &zone->kept[i];
    return NULL;
}

/* The place of this certificate, else of the response that ends first. */
static struct kept *
kept_room(const unsigned char *digest)
{
    struct kept *k = kept_find(digest), *first = &zone->kept[0];
    unsigned i;

    for (i = 1; i < KEPT_MAX; i++)
        if (zone->kept[i].until_s < first->until_s)
            first = &zone->kept[i];
    return k != NULL ? k : first;
}

static void
kept_put(const X509 *leaf, const unsigned char *der, size_t n, int64_t asked_s, int64_t until_s)
{
    unsigned char digest[DIGEST_N];
    struct kept *k;

    if (zone == NULL || !digest_of(leaf, digest))
        return;
    k = kept_room(digest);
    atomic_fetch_or(&k->sequence, 1); /* a writer that was killed has left it odd */
    memcpy(k->digest, digest, DIGEST_N);
    k->n = (unsigned)n;
    k->asked_s = asked_s;
    k->until_s = until_s;
    if (n > 0)
        memcpy(zone->der[k - zone->kept], der, n);
    atomic_fetch_add_explicit(&k->sequence, 1, memory_order_release);
}

/* Of what is kept of a certificate, a copy, as it stood at one moment.  0: there is none. */
static int
kept_get(const X509 *leaf, struct kept *copy, unsigned char *der)
{
    unsigned char digest[DIGEST_N];
    struct kept *k = zone != NULL && digest_of(leaf, digest) ? kept_find(digest) : NULL;
    unsigned before;

    if (k == NULL)
        return 0;
    before = atomic_load_explicit(&k->sequence, memory_order_acquire);
    copy->n = k->n;
    copy->asked_s = k->asked_s;
    copy->until_s = k->until_s;
    memcpy(copy->digest, k->digest, DIGEST_N);
    if (copy->n > TLS_OCSP_MAX)
        return 0;
    memcpy(der, zone->der[k - zone->kept], copy->n);
    return before % 2 == 0 && atomic_fetch_or(&k->sequence, 0) == before && /* after what was read */
           memcmp(copy->digest, digest, DIGEST_N) == 0;
}

/* ---- files ---- */

static void
file_give(const struct staple_file *f, struct tls_cert *cert, int *n_taken, const char **why)
{
    const unsigned char *der = (const unsigned char *)f->text.at;
    X509 *issuer = tls_ocsp_issuer(cert->pair);
    struct tls_ocsp_said said;
    enum tls_ocsp what = TLS_OCSP_BAD;

    said.why = "there is no issuer in the certificate's chain";
    if (issuer != NULL)
        what = tls_ocsp_check(der, f->text.n, cert->pair->leaf, issuer, time(NULL), &said);
    if (what == TLS_OCSP_BAD)
        *why = said.why;
    else if (what == TLS_OCSP_REVOKED)
        *why = "the certificate is revoked";
    if (what != TLS_OCSP_GOOD)
        return;
    staple_set(cert->pair->leaf, der, f->text.n, said.next_s);
    ++*n_taken;
}

/* To the certificates it is about, of the hosts its line holds for. */
static void
file_take(const struct staple_file *f)
{
    const char *why = "no host has a certificate here";
    const struct tls_site *site;
    int n_taken = 0, k;
    unsigned i;

    for (i = 0; (site = tls_site_at(i)) != NULL; i++)
        for (k = 0; site->conf->stapling == f->of && site->conf->certs != NULL &&
                    k < site->conf->certs->nelts; k++)
            file_give(f, APR_ARRAY_IDX(site->conf->certs, k, struct tls_cert *), &n_taken, &why);
    if (n_taken == 0)
        sl_log(SL_WARN, "TLS0055", "TLSStapling %s: %s; nothing of it is stapled", f->path, why);
    else
        sl_log(SL_INFO, "TLS0056", "TLSStapling %s: stapled", f->path);
}

static void
file_changed(int fd, void *ctx)
{
    struct staple_file *f = ctx;
    struct tls_text fresh;
    int rc = tls_text_read(fd, &fresh);

    close(fd);
    if (rc != 0)
        return;
    tls_text_free(&f->text);
    f->text = fresh;
    file_take(f);
}

static void
files_open(struct tls_stapling *of)
{
    struct staple_file *f;
    int fd;

    for (f = of->files; f != NULL; f = f->next) {
        fd = sl_file_open(f->path, file_changed, f);
        if (fd >= 0)
            close(fd);
        else
            sl_log(SL_WARN, "TLS0057", "TLSStapling %s: %s; changes will not be seen", f->path,
                   strerror(errno));
        file_take(f);
    }
}

static apr_status_t
file_forget(void *data)
{
    tls_text_free(&((struct staple_file *)data)->text);
    return APR_SUCCESS;
}

static const char *
file_parse(struct sl_cmd *cmd, struct tls_stapling *of, const char *word)
{
    struct staple_file *f = apr_pcalloc(sl_cmd_pool(cmd), sizeof *f);

    f->path = sl_cmd_path(cmd, word);
    f->of = of;
    if (tls_text_open(f->path, &f->text) != 0) {
        sl_cmd_cure(cmd, "name files with OCSP responses, or write \"TLSStapling on\" to have them "
                    "fetched");
        return sl_cmd_error(cmd, "expected on, off or files: %s: %s", f->path, strerror(errno));
    }
    apr_pool_cleanup_register(sl_cmd_pool(cmd), f, file_forget, apr_pool_cleanup_null);
    if (!tls_ocsp_is_response((const unsigned char *)f->text.at, f->text.n)) {
        sl_cmd_cure(cmd, "\"openssl ocsp ... -respout FILE\" writes one");
        return sl_cmd_error(cmd, "%s holds no OCSP response in DER form", f->path);
    }
    f->next = of->files;
    of->files = f;
    return NULL;
}

const char *
tls_stapling_parse(struct sl_cmd *cmd, void **item)
{
    struct tls_stapling *s = apr_pcalloc(sl_cmd_pool(cmd), sizeof *s);
    const char *word = sl_cmd_arg(cmd, 0), *err = NULL;
    int i;

    *item = s;
    if (word == NULL)
        return "expected on, off or files with OCSP responses";
    s->is_on = strcmp(word, "off") != 0;
    if (!s->is_on || strcmp(word, "on") == 0)
        return sl_cmd_argc(cmd) == 1 ? NULL : "on and off stand alone";
    for (i = 0; err == NULL && (word = sl_cmd_arg(cmd, i)) != NULL; i++)
        err = file_parse(cmd, s, word);
    return err;
}

/* ---- asking ---- */

static void
log_good(const struct keeper *k, int64_t until_s, int is_first)
{
    char date[32];
    time_t until = (time_t)until_s;
    struct tm tm;

    strftime(date, sizeof date, "%F %H:%M:%S", gmtime_r(&until, &tm));
    sl_log(is_first ? SL_NOTICE : SL_INFO, "TLS0050", "%s: its OCSP response is good until %s UTC",
           k->cert->chain_file, date);
}

/* The first of a row is for the operator, and the one with which the last good response is over. */
static void
log_bad(struct keeper *k, const char *text, int64_t now_s)
{
    int64_t until_s = tls_stapled_until(k->cert);
    int is_over = until_s != 0 && until_s <= now_s;

    sl_log(k->n_failed == 1 || is_over ? SL_WARN : SL_INFO, "TLS0051",
           "%s: no OCSP response: %s; %s, asked again in %d s", k->cert->chain_file, text,
           until_s > now_s ? "the last one is good for now" : "none is stapled", (int)(k->due_s - now_s));
    if (is_over)
        staple_set(k->cert->pair->leaf, NULL, 0, 0);
}

/* What the responder said of the certificate k has now. */
static void
keeper_heard(struct keeper *k, const struct tls_fetch *f, int64_t now_s)
{
    int is_first = tls_stapled_until(k->cert) == 0;

    if (f->what == TLS_OCSP_BAD) {
        k->due_s = now_s + tls_ocsp_backoff_s(++k->n_failed, random_number());
        log_bad(k, f->text, now_s);
        return;
    }
    k->n_failed = 0;
    k->due_s = tls_ocsp_renew_s(now_s, f->said.next_s, random_number());
    if (f->what == TLS_OCSP_GOOD) {
        staple_set(k->cert->pair->leaf, f->der, (size_t)f->n, f->said.next_s);
        log_good(k, f->said.next_s, is_first);
        return;
    }
    staple_set(k->cert->pair->leaf, NULL, 0, 0);
    sl_log(SL_ERROR, "TLS0052", "%s: its CA has revoked this certificate; nothing is stapled, and "
           "clients that ask will refuse it: get another", k->cert->chain_file);
}

static void look(struct sl_loop *loop, struct sl_timer *t);

static void
look_later(int64_t wait_s)
{
    struct sl_loop *loop = sl_worker_loop(worker, 0);

    timer.fn = look;
    sl_timer_set(loop, &timer, sl_loop_now(loop) + (wait_s > 0 ? wait_s * 1000 : 0));
}

static void
fetched(struct tls_fetch *f)
{
    int64_t now_s = time(NULL);
    struct keeper *k;

    is_fetching = 0;
    if (is_serving) {
        for (k = keepers; k != NULL; k = k->next)
            if (k->is_asking && X509_cmp(k->cert->pair->leaf, f->leaf) == 0)
                keeper_heard(k, f, now_s);
        if (f->what != TLS_OCSP_BAD)
            kept_put(f->leaf, f->der, f->what == TLS_OCSP_GOOD ? (size_t)f->n : 0, now_s, f->said.next_s);
        look_later(0);
    }
    tls_fetch_free(f);
}

static struct keeper *
keeper_next(void)
{
    struct keeper *k, *next = NULL;

    for (k = keepers; k != NULL; k = k->next)
        if (k->due_s != 0 && (next == NULL || k->due_s < next->due_s))
            next = k;
    return next;
}

/* Asks for the one that is due, or comes back when one is: at the latest in an hour, lest a clock
 * that was set leaves it asleep. */
static void
look(struct sl_loop *loop, struct sl_timer *t)
{
    struct keeper *k = keeper_next();
    int64_t wait_s = k != NULL ? k->due_s - time(NULL) : 0;

    (void)t;
    if (k == NULL || is_fetching)
        return;
    if (wait_s > 0) {
        look_later(wait_s < 3600 ? wait_s : 3600);
        return;
    }
    fetch.done = fetched;
    is_fetching = tls_fetch_begin(loop, &fetch, k->cert->pair->leaf, tls_ocsp_issuer(k->cert->pair)) == 0;
    if (!is_fetching)
        look_later(1);
}

/* ---- which certificates ---- */

static const char *
cannot_be_asked(const struct tls_cert *cert)
{
    struct tls_ocsp_url url;

    if (tls_ocsp_url(cert->pair->leaf, &url) != 0)
        return "it names no OCSP responder (http://)";
    tls_ocsp_url_free(&url);
    return tls_ocsp_issuer(cert->pair) != NULL ? NULL : "its issuer is not in its chain";
}

/* What is kept of its certificate; else it is due. */
static void
keeper_remember(struct keeper *k)
{
    X509 *leaf = k->cert->pair->leaf;
    unsigned char der[TLS_OCSP_MAX];
    struct tls_ocsp_said said;
    int64_t now_s = time(NULL);
    struct kept kept;

    k->due_s = now_s;
    if (!kept_get(leaf, &kept, der) || kept.until_s <= now_s)
        return;
    if (kept.n == 0) /* revoked */
        k->due_s = tls_ocsp_renew_s(kept.asked_s, kept.until_s, random_number());
    else if (tls_ocsp_check(der, kept.n, leaf, tls_ocsp_issuer(k->cert->pair), now_s, &said) ==
             TLS_OCSP_GOOD) {
        staple_set(leaf, der, kept.n, said.next_s);
        k->due_s = tls_ocsp_renew_s(kept.asked_s, said.next_s, random_number());
    }
}

static void
keeper_begin(struct keeper *k)
{
    const char *why;

    k->due_s = 0;
    k->n_failed = 0;
    if (staple_of(k->cert->pair->leaf) == NULL && staple_make(k->cert->pair->leaf) == NULL)
        return;
    if (!k->is_asking || k->cert->why != NULL)
        return;
    why = cannot_be_asked(k->cert);
    if (why == NULL)
        keeper_remember(k);
    else
        sl_log(SL_WARN, "TLS0054", "%s: TLSStapling: %s; nothing is stapled", k->cert->chain_file, why);
}

static struct keeper *
keeper_of(const struct tls_cert *cert)
{
    struct keeper *k = keepers;

    while (k != NULL && k->cert != cert)
        k = k->next;
    return k;
}

static void
keeper_add(apr_pool_t *pool, struct tls_cert *cert, const struct tls_stapling *conf)
{
    struct keeper *k = keeper_of(cert);

    if (k == NULL) {
        k = apr_pcalloc(pool, sizeof *k);
        k->cert = cert;
        k->next = keepers;
        keepers = k;
    }
    k->is_asking |= conf->files == NULL;
    if (conf->files != NULL)
        k->files = conf->files;
}

static void
warn_must_staple(const struct tls_cert *cert)
{
    if (cert->why == NULL && keeper_of(cert) == NULL && tls_ocsp_is_must(cert->pair->leaf))
        sl_log(SL_WARN, "TLS0053", "%s: this certificate wants an OCSP response stapled: clients may "
               "refuse it without; write \"TLSStapling on\"", cert->chain_file);
}

/* ---- from the configuration to the end ---- */

static apr_status_t
staples_forget(void *unused)
{
    (void)unused;
    keepers = NULL;
    zone = NULL;
    while (retired != NULL)
        retired_free(retired);
    tls_fetch_free(&fetch);
    return APR_SUCCESS;
}

static int
keepers_make(apr_pool_t *pool)
{
    const struct tls_site *site;
    int k, is_asking = 0;
    unsigned i;

    for (i = 0; (site = tls_site_at(i)) != NULL; i++)
        for (k = 0; site->conf->stapling != NULL && site->conf->stapling->is_on &&
                    site->conf->certs != NULL && k < site->conf->certs->nelts; k++) {
            keeper_add(pool, APR_ARRAY_IDX(site->conf->certs, k, struct tls_cert *), site->conf->stapling);
            is_asking |= site->conf->stapling->files == NULL;
        }
    return is_asking;
}

/* Each line's files once, also where several hosts have them. */
static void
all_files_open(void)
{
    const struct tls_site *site;
    unsigned i, before;

    for (i = 0; (site = tls_site_at(i)) != NULL; i++) {
        for (before = 0; before < i && tls_site_at(before)->conf->stapling != site->conf->stapling;)
            before++;
        if (before == i && site->conf->stapling != NULL)
            files_open(site->conf->stapling);
    }
}

int
tls_staples_open(struct sl_worker *w)
{
    const struct tls_cert *cert;
    struct keeper *k;
    int is_fresh;

    worker = w;
    if (x509_index < 0)
        x509_index = X509_get_ex_new_index(0, NULL, NULL, NULL, staple_free);
    apr_pool_cleanup_register(sl_worker_pool(w), NULL, staples_forget, apr_pool_cleanup_null);
    if (keepers_make(sl_worker_pool(w)))
        zone = sl_zone("tls.staples", ZONE_LAYOUT, sizeof *zone, &is_fresh);
    for (k = keepers; k != NULL; k = k->next)
        keeper_begin(k);
    all_files_open();
    for (cert = tls_certs(); cert != NULL; cert = cert->next)
        warn_must_staple(cert);
    return 0;
}

void
tls_staple_renewed(struct tls_cert *cert)
{
    struct keeper *k = keeper_of(cert);
    const struct staple_file *f;

    warn_must_staple(cert);
    if (k == NULL)
        return;
    keeper_begin(k);
    for (f = k->files; f != NULL; f = f->next)
        file_take(f);
    if (is_serving)
        look_later(0);
}

void
tls_staples_ready(void)
{
    is_serving = 1;
    if (keepers != NULL)
        look_later(0);
}

void
tls_staples_drain(void)
{
    is_serving = 0;
    sl_timer_stop(&timer);
    atomic_store(&fetch.is_cancelled, 1);
}

void
tls_staples_close(void)
{
    sl_timer_unlink(&timer);
}
