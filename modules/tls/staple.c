/* OCSP stapling: beside a certificate its clients get the CA's word that it is not revoked, and need
 * not ask themselves.
 *
 * TLSStapling on asks the responder the certificate names, one certificate at a time and off the
 * loops, long before the response ends; the last good one stays until then.  Only the generation
 * that serves asks.  TLSStapling FILE takes what somebody else has fetched. */
#include "staple.h"

#include <apr_strings.h>

#include <time.h>

/* A certificate that has responses stapled. */
struct keeper {
    struct keeper *next; /* of all */
    struct tls_cert *cert;
    const struct tls_stapling *files; /* of one of its hosts; NULL: none has any */
    int is_asking;     /* the responder */
    int64_t due_s;     /* when to ask, since the epoch; 0: never */
    int is_revoked;
    unsigned n_failed; /* in a row */
    int64_t failed_s;  /* the last time */
    char failure[192];
};

static struct keeper *keepers;
static struct sl_worker *worker;
static int is_serving; /* this generation, which then asks */
static struct tls_fetch fetch;
static int is_fetching;
static struct sl_timer timer;

static unsigned
random_number(void)
{
    unsigned n;

    sl_random_bytes(&n, sizeof n);
    return n;
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
    int64_t until_s = stapled_until(k->cert);
    int is_over = until_s != 0 && until_s <= now_s;

    sl_log(k->n_failed == 1 || is_over ? SL_WARN : SL_INFO, "TLS0051",
           "%s: no OCSP response: %s; %s, asked again in %d s", k->cert->chain_file, text,
           until_s > now_s ? "the last one is good for now" : "none is stapled", (int)(k->due_s - now_s));
    if (is_over)
        stapled_set(k->cert->pair->leaf, NULL, 0, 0, 0);
}

static void
keeper_fails(struct keeper *k, const char *text, int64_t now_s)
{
    k->n_failed++;
    k->failed_s = now_s;
    apr_cpystrn(k->failure, text, sizeof k->failure);
}

/* What the responder said of the certificate k has now. */
static void
keeper_heard(struct keeper *k, const struct tls_fetch *f, int64_t now_s)
{
    int is_first = stapled_until(k->cert) == 0;

    if (f->what == TLS_OCSP_BAD) {
        keeper_fails(k, f->text, now_s);
        k->due_s = now_s + tls_ocsp_backoff_s(k->n_failed, random_number());
        log_bad(k, f->text, now_s);
        return;
    }
    k->n_failed = 0;
    k->is_revoked = f->what == TLS_OCSP_REVOKED;
    k->due_s = tls_ocsp_renew_s(now_s, f->said.next_s, random_number());
    if (f->what == TLS_OCSP_GOOD) {
        stapled_set(k->cert->pair->leaf, f->der, (size_t)f->n, now_s, f->said.next_s);
        log_good(k, f->said.next_s, is_first);
        return;
    }
    stapled_set(k->cert->pair->leaf, NULL, 0, 0, 0);
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
answer_take(const struct tls_fetch *f)
{
    int64_t now_s = time(NULL);
    struct keeper *k;

    for (k = keepers; k != NULL; k = k->next)
        if (k->is_asking && X509_cmp(k->cert->pair->leaf, f->leaf) == 0)
            keeper_heard(k, f, now_s);
    if (f->what != TLS_OCSP_BAD)
        kept_put(f->leaf, f->der, f->what == TLS_OCSP_GOOD ? (size_t)f->n : 0, now_s, f->said.next_s);
}

/* One that was cancelled says nothing of the responder, also where this generation serves again. */
static void
fetched(struct tls_fetch *f)
{
    is_fetching = 0;
    if (is_serving && !atomic_load(&f->is_cancelled))
        answer_take(f);
    tls_fetch_free(f);
    if (is_serving)
        look_later(0);
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
    struct kept_response kept;

    k->due_s = now_s;
    if (!kept_get(leaf, &kept, der) || kept.until_s <= now_s)
        return;
    k->is_revoked = kept.n == 0;
    if (k->is_revoked)
        k->due_s = tls_ocsp_renew_s(kept.asked_s, kept.until_s, random_number());
    else if (tls_ocsp_check(der, kept.n, leaf, tls_ocsp_issuer(k->cert->pair), now_s, &said) ==
             TLS_OCSP_GOOD) {
        stapled_set(leaf, der, kept.n, kept.asked_s, said.next_s);
        k->due_s = tls_ocsp_renew_s(kept.asked_s, said.next_s, random_number());
    }
}

static void
keeper_begin(struct keeper *k)
{
    const char *why;

    k->due_s = k->failed_s = 0;
    k->n_failed = 0;
    k->is_revoked = 0;
    if (stapled_prepare(k->cert->pair->leaf) != 0)
        return;
    if (!k->is_asking || k->cert->why != NULL)
        return;
    why = cannot_be_asked(k->cert);
    if (why == NULL) {
        keeper_remember(k);
        return;
    }
    keeper_fails(k, why, time(NULL));
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
        k->files = conf;
}

struct tls_staple_state
tls_staple_state(const struct tls_cert *cert)
{
    const struct keeper *k = keeper_of(cert);
    struct tls_staple_state s = {.source = NULL};

    if (k == NULL)
        return s;
    s.source = k->is_asking ? "responder" : "file";
    s.asked_s = stapled_asked(cert);
    s.until_s = stapled_until(cert);
    s.due_s = k->due_s;
    s.is_revoked = k->is_revoked;
    s.n_failed = k->n_failed;
    s.failed_s = k->failed_s;
    s.failure = k->failed_s != 0 ? k->failure : NULL;
    return s;
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
    kept_close();
    stapled_close();
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
            staple_files_open(site->conf->stapling);
    }
}

int
tls_staples_open(struct sl_worker *w)
{
    const struct tls_cert *cert;
    struct keeper *k;

    worker = w;
    stapled_open();
    apr_pool_cleanup_register(sl_worker_pool(w), NULL, staples_forget, apr_pool_cleanup_null);
    if (keepers_make(sl_worker_pool(w)))
        kept_open();
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

    warn_must_staple(cert);
    if (k == NULL)
        return;
    keeper_begin(k);
    if (k->files != NULL)
        staple_files_again(k->files);
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
