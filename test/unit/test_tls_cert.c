/* A certificate whose files change is taken up when chain and key fit and it has not expired; until
 * then, and when it cannot be used, the one from before is kept. */
#include "unit.h"
#include "tls_doubles.h"

#include "../../modules/tls/cert.c"
#include "../../modules/tls/text.c"

#include <sys/stat.h>

/* with: server/runtime/span.c */

static struct {
    void (*changed)(int fd, void *ctx);
    void *ctx;
} watched[2];
static unsigned n_watched, n_built;
static int build_fails;
static char folder[] = "/tmp/sluice-unit-XXXXXX";

int
sl_file_open(const char *path, void (*changed)(int fd, void *ctx), void *ctx)
{
    watched[n_watched].changed = changed;
    watched[n_watched++].ctx = ctx;
    return open(path, O_RDONLY);
}

int
tls_sites_build(void)
{
    n_built++;
    return build_fails ? -1 : 0;
}

/* The timer that is set, if any. */
static struct sl_timer *pending;

void
sl_timer_set(struct sl_loop *l, struct sl_timer *t, int64_t due)
{
    (void)l;
    assert_int_equal(due, TAKE_MS);
    assert_null(pending);
    pending = t;
}

void sl_timer_unlink(struct sl_timer *t) { (void)t; }
struct sl_loop *sl_worker_loop(struct sl_worker *w, unsigned i) { (void)w; (void)i; return NULL; }
int64_t sl_loop_now(const struct sl_loop *l) { (void)l; return 0; }
void tls_staple_renewed(struct tls_cert *cert) { (void)cert; }
void tls_cert_is_fresh(struct tls_cert *cert) { (void)cert; }

static void
file_write(const char *path, int (*print)(BIO *, struct tls_pair *), struct tls_pair *p)
{
    BIO *bio = BIO_new_file(path, "w");

    assert_int_equal(print(bio, p), 1);
    BIO_free(bio);
}

static int
print_chain(BIO *bio, struct tls_pair *p)
{
    return PEM_write_bio_X509(bio, p->leaf);
}

static int
print_key(BIO *bio, struct tls_pair *p)
{
    return PEM_write_bio_PrivateKey(bio, p->key, NULL, NULL, 0, NULL, NULL);
}

/* The broker's word. */
static void
hint(unsigned i, const char *path)
{
    said[0] = '\0';
    watched[i].changed(open(path, O_RDONLY), watched[i].ctx);
}

/* And the moment behind it is over. */
static void
tell(unsigned i, const char *path)
{
    struct sl_timer *t;

    hint(i, path);
    t = pending;
    pending = NULL;
    if (t != NULL)
        t->fn(NULL, t);
}

static struct tls_pair *
expired(void)
{
    struct tls_pair *p = tls_pair_placeholder();

    X509_gmtime_adj(X509_getm_notAfter(p->leaf), -86400);
    X509_sign(p->leaf, p->key, EVP_sha256());
    return p;
}

static void
pairs_change(void **state)
{
    struct tls_pair *one = tls_pair_placeholder(), *two = tls_pair_placeholder(), *old = expired();
    char chain[64], key[64];
    struct tls_cert c = {.place = "conf:1"};
    struct tls_pair *before;
    apr_pool_t *pool;

    (void)state;
    apr_pool_create(&pool, NULL);
    snprintf(chain, sizeof chain, "%s/chain", folder);
    snprintf(key, sizeof key, "%s/key", folder);
    c.chain_file = chain;
    c.key_file = key;
    file_write(chain, print_chain, one);
    file_write(key, print_key, one);
    cert_load(pool, &c);
    assert_null(c.why);
    all = &c;
    assert_int_equal(tls_certs_watch(NULL), 0);
    assert_int_equal(n_watched, 2);

    before = c.pair; /* the same bytes once more */
    tell(0, chain);
    assert_ptr_equal(c.pair, before);
    assert_string_equal(said, "");

    file_write(key, print_key, two); /* half of a pair */
    tell(1, key);
    assert_ptr_equal(c.pair, before);
    assert_string_equal(said, "TLS0021");
    file_write(chain, print_chain, two);
    tell(0, chain);
    assert_int_equal(X509_cmp(c.pair->leaf, two->leaf), 0);
    assert_string_equal(said, "TLS0020");
    assert_int_equal(n_built, 1);

    file_write(chain, print_chain, one); /* there and back within a moment: one table */
    hint(0, chain);
    file_write(key, print_key, one);
    hint(1, key);
    file_write(chain, print_chain, two);
    hint(0, chain);
    file_write(key, print_key, two);
    tell(1, key);
    assert_int_equal(X509_cmp(c.pair->leaf, two->leaf), 0);
    assert_int_equal(n_built, 2);

    before = c.pair;
    file_write(chain, print_chain, old); /* a pair that has expired */
    tell(0, chain);
    file_write(key, print_key, old);
    tell(1, key);
    assert_ptr_equal(c.pair, before);
    assert_string_equal(said, "TLS0021");

    file_write(chain, print_chain, one); /* one that cannot be used */
    tell(0, chain);
    build_fails = 1;
    file_write(key, print_key, one);
    tell(1, key);
    assert_ptr_equal(c.pair, before);
    build_fails = 0;

    assert_int_equal(truncate(chain, 0), 0); /* a file that is being written */
    tell(0, chain);
    assert_ptr_equal(c.pair, before);
    file_write(chain, print_chain, one);
    tell(0, chain);
    assert_int_equal(X509_cmp(c.pair->leaf, one->leaf), 0);

    all = &c;
    forget_all(NULL);
    tls_pair_free(one);
    tls_pair_free(two);
    tls_pair_free(old);
    apr_pool_destroy(pool);
    unlink(chain);
    unlink(key);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pairs_change)};
    int rc;

    apr_initialize();
    assert_non_null(mkdtemp(folder));
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return rc;
}
