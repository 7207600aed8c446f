/* Certificates.  Each line's files are read when the configuration is, checked as a pair, and
 * read again when they change: chain and key may change one after the other, so a new pair is
 * taken when both fit, and until then the old one serves.  Runs on thread 0. */
#include "tls.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <errno.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define TOO_SOON_DAYS 14 /* of a new one */
#define TAKE_MS 300      /* changes of so long are one new table: hundreds may be renewed at once */

static struct tls_cert *all, **all_end = &all;
static struct sl_worker *worker;
static struct sl_timer take_timer;
static int is_taking; /* the timer is set */

struct tls_cert *
tls_certs(void)
{
    return all;
}

/* ---- pairs ---- */

void
tls_pair_free(struct tls_pair *p)
{
    X509_free(p->leaf);
    sk_X509_pop_free(p->chain, X509_free);
    EVP_PKEY_free(p->key);
    apr_pool_destroy(p->pool);
}

static void
pair_name(struct tls_pair *p, const unsigned char *at, int n)
{
    char *name = apr_pstrmemdup(p->pool, (const char *)at, (size_t)n);
    int i;

    for (i = 0; i < n; i++) {
        name[i] = (char)apr_tolower(name[i]);
        if (name[i] <= ' ' || name[i] >= 127)
            return;
    }
    if (n > 0)
        APR_ARRAY_PUSH(p->names, const char *) = name;
}

/* RFC 6125, 6.4.4: the common name counts only where there are no others. */
static void
pair_names(struct tls_pair *p)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(p->leaf, NID_subject_alt_name, NULL, NULL);
    X509_NAME *subject = X509_get_subject_name(p->leaf);
    int i = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);

    p->names = apr_array_make(p->pool, 4, sizeof(const char *));
    if (names == NULL && i >= 0) {
        const ASN1_STRING *s = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i));

        pair_name(p, ASN1_STRING_get0_data(s), ASN1_STRING_length(s));
    }
    for (i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);

        if (g->type == GEN_DNS)
            pair_name(p, ASN1_STRING_get0_data(g->d.dNSName), ASN1_STRING_length(g->d.dNSName));
    }
    GENERAL_NAMES_free(names);
}

static struct tls_pair *
pair_make(void)
{
    struct tls_pair *p;
    apr_pool_t *own;

    apr_pool_create(&own, NULL);
    p = apr_pcalloc(own, sizeof *p);
    p->pool = own;
    p->chain = sk_X509_new_null();
    return p;
}

static const char *
pair_chain(struct tls_pair *p, const struct tls_text *t)
{
    BIO *bio = BIO_new_mem_buf(t->at, (int)t->n);
    X509 *cert;

    p->leaf = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
    while (p->leaf != NULL && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
        sk_X509_push(p->chain, cert);
    BIO_free(bio);
    ERR_clear_error(); /* it ended by finding no more */
    return p->leaf != NULL ? NULL : "holds no certificate in PEM form";
}

/* A key that wants a password is refused: nobody is there to type it. */
static int
no_password(char *to, int n, int writing, void *unused)
{
    (void)to;
    (void)n;
    (void)writing;
    (void)unused;
    return -1;
}

static const char *
pair_key(struct tls_pair *p, const struct tls_text *t)
{
    BIO *bio = BIO_new_mem_buf(t->at, (int)t->n);

    p->key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    BIO_free(bio);
    ERR_clear_error();
    if (p->key != NULL)
        return NULL;
    return strstr(t->at, "ENCRYPTED") != NULL ? "holds a key that needs a password"
                                              : "holds no private key in PEM form";
}

/* Weak keys and signatures are refused by OpenSSL's security level. */
static const char *
pair_use(const struct tls_pair *p)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    int rc = SSL_CTX_use_certificate(ctx, p->leaf);
    const char *why = rc == 1 ? NULL : ERR_reason_error_string(ERR_peek_last_error());

    SSL_CTX_free(ctx);
    return rc == 1 ? NULL : why != NULL ? why : "cannot be used";
}

static const char not_its_key[] = "is not the key of this certificate";

/* NULL and a phrase; *is_key: it is about the key. */
static struct tls_pair *
pair_parse(const struct tls_text *chain, const struct tls_text *key, const char **why, int *is_key)
{
    struct tls_pair *p = pair_make();

    *is_key = 0;
    if ((*why = pair_chain(p, chain)) == NULL) {
        *is_key = 1;
        *why = pair_key(p, key);
    }
    if (*why == NULL)
        *why = pair_use(p);
    if (*why == NULL && X509_check_private_key(p->leaf, p->key) != 1)
        *why = not_its_key;
    ERR_clear_error();
    if (*why != NULL) {
        tls_pair_free(p);
        return NULL;
    }
    pair_names(p);
    return p;
}

int
tls_pair_days(const struct tls_pair *p)
{
    int days = 0, seconds = 0;

    ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(p->leaf));
    return seconds < 0 ? days - 1 : days;
}

struct tls_pair *
tls_pair_read(apr_pool_t *pool, const char *chain, const char *key, const char **why)
{
    struct tls_text c = {NULL, 0}, k = {NULL, 0};
    struct tls_pair *p = NULL;
    int is_key = 0;

    if (tls_text_open(chain, &c) != 0)
        *why = apr_psprintf(pool, "%s: %s", chain, strerror(errno));
    else if (tls_text_open(key, &k) != 0)
        *why = apr_psprintf(pool, "%s: %s", key, strerror(errno));
    else if ((p = pair_parse(&c, &k, why, &is_key)) == NULL)
        *why = apr_psprintf(pool, "%s %s", is_key ? key : chain, *why);
    tls_text_free(&c);
    tls_text_free(&k);
    return p;
}

/* ---- a placeholder ---- */

static X509 *
self_signed(EVP_PKEY *key)
{
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);

    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set_int64(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400 * 365);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               (const unsigned char *)"sluice placeholder", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_sign(cert, key, EVP_sha256());
    return cert;
}

struct tls_pair *
tls_pair_placeholder(void)
{
    struct tls_pair *p = pair_make();

    p->key = EVP_EC_gen("P-256");
    p->leaf = self_signed(p->key);
    p->names = apr_array_make(p->pool, 1, sizeof(const char *));
    return p;
}

/* ---- the line ---- */

static apr_status_t
forget_all(void *unused)
{
    struct tls_cert *c;

    (void)unused;
    for (c = all; c != NULL; c = c->next) {
        if (c->pair != NULL)
            tls_pair_free(c->pair);
        if (c->other != NULL)
            tls_pair_free(c->other);
        tls_text_free(&c->chain);
        tls_text_free(&c->key);
    }
    all = NULL;
    all_end = &all;
    return APR_SUCCESS;
}

static void
cert_load(apr_pool_t *pool, struct tls_cert *c)
{
    const char *why;
    int is_key;

    if (tls_text_open(c->chain_file, &c->chain) != 0 || tls_text_open(c->key_file, &c->key) != 0) {
        const char *file = c->chain.at == NULL ? c->chain_file : c->key_file;

        c->why = apr_psprintf(pool, "%s: %s", file, strerror(errno));
        c->cure = errno == EACCES ? "it is read before root's rights are given up: start as root, "
                                    "or let this user read it"
                                  : "name the file of the chain and, behind it, that of the key; "
                                    "TLSPlaceholder on starts without";
        return;
    }
    c->pair = pair_parse(&c->chain, &c->key, &why, &is_key);
    if (c->pair != NULL)
        return;
    c->why = apr_psprintf(pool, "%s %s", is_key ? c->key_file : c->chain_file, why);
    c->cure = is_key ? "expected the private key that belongs to the first certificate of the chain, "
                       "without a password"
                     : "expected the host's certificate first, then those of its issuers";
}

const char *
tls_cert_parse(struct sl_cmd *cmd, void **item)
{
    struct tls_cert *c = apr_pcalloc(sl_cmd_pool(cmd), sizeof *c);
    int argc = sl_cmd_argc(cmd);

    if (argc < 1 || argc > 2)
        return "expected the file of a certificate with its chain and, where it is another, that "
               "of its key";
    c->chain_file = sl_cmd_path(cmd, sl_cmd_arg(cmd, 0));
    c->key_file = argc == 2 ? sl_cmd_path(cmd, sl_cmd_arg(cmd, 1)) : c->chain_file;
    c->place = sl_cmd_place(cmd);
    cert_load(sl_cmd_pool(cmd), c);
    if (all == NULL)
        apr_pool_cleanup_register(sl_cmd_pool(cmd), NULL, forget_all, apr_pool_cleanup_null);
    *all_end = c;
    all_end = &c->next;
    *item = c;
    return NULL;
}

/* ---- changes ---- */

/* The new pair and the old one change places. */
static void
cert_swap(struct tls_cert *c)
{
    struct tls_pair *other = c->other;

    c->other = c->pair;
    c->pair = other;
    tls_staple_renewed(c);
}

static void
cert_is_taken(struct tls_cert *c)
{
    int days = tls_pair_days(c->pair);

    c->is_new = 0;
    c->why = NULL;
    tls_cert_is_fresh(c);
    if (c->other != NULL)
        tls_pair_free(c->other);
    c->other = NULL;
    sl_log(days < TOO_SOON_DAYS ? SL_WARN : SL_NOTICE, "TLS0020",
           "%s: the new certificate is used, it expires in %d days", c->chain_file, days);
}

/* 0: all new pairs are used, or only that of one line. */
static int
certs_use(struct tls_cert *one)
{
    struct tls_cert *c;
    int rc;

    for (c = all; c != NULL; c = c->next)
        if (c->is_new && (one == NULL || c == one))
            cert_swap(c);
    rc = tls_sites_build();
    for (c = all; c != NULL; c = c->next)
        if (c->is_new && (one == NULL || c == one)) {
            if (rc == 0)
                cert_is_taken(c);
            else
                cert_swap(c);
        }
    return rc;
}

/* Where one of them cannot be used the others are. */
static void
certs_take(struct sl_loop *loop, struct sl_timer *t)
{
    struct tls_cert *c;

    (void)loop;
    (void)t;
    is_taking = 0;
    if (certs_use(NULL) == 0)
        return;
    for (c = all; c != NULL; c = c->next)
        if (c->is_new && certs_use(c) != 0) {
            c->is_new = 0;
            tls_pair_free(c->other);
            c->other = NULL;
        }
}

static void
cert_take(struct tls_cert *c, struct tls_pair *p)
{
    struct sl_loop *loop = sl_worker_loop(worker, 0);

    if (c->other != NULL)
        tls_pair_free(c->other);
    c->other = p;
    c->is_new = 1;
    if (is_taking)
        return;
    is_taking = 1;
    take_timer.fn = certs_take;
    sl_timer_set(loop, &take_timer, sl_loop_now(loop) + TAKE_MS);
}

static void
cert_changed(struct tls_cert *c, int fd, struct tls_text *which)
{
    struct tls_text fresh;
    struct tls_pair *p;
    const char *why;
    int is_key, rc = tls_text_read(fd, &fresh);

    close(fd);
    if (rc != 0 || tls_text_is(&fresh, which)) {
        if (rc == 0)
            tls_text_free(&fresh);
        return;
    }
    tls_text_free(which);
    *which = fresh;
    if (c->chain_file == c->key_file && which == &c->chain) {
        tls_text_free(&c->key);
        c->key.at = OPENSSL_memdup(fresh.at, fresh.n + 1);
        c->key.n = fresh.n;
    }
    if (c->chain.at == NULL || c->key.at == NULL)
        return;
    p = pair_parse(&c->chain, &c->key, &why, &is_key);
    if (p != NULL && tls_pair_days(p) >= 0) {
        cert_take(c, p);
        return;
    }
    if (p != NULL)
        why = "has expired";
    sl_log(why == not_its_key ? SL_NOTICE : SL_WARN, "TLS0021",
           "%s changed, but %s %s; the certificate from before is kept",
           which == &c->chain ? c->chain_file : c->key_file,
           is_key && p == NULL ? c->key_file : c->chain_file, why);
    if (p != NULL)
        tls_pair_free(p);
}

static void
chain_changed(int fd, void *ctx)
{
    struct tls_cert *c = ctx;

    cert_changed(c, fd, &c->chain);
}

static void
key_changed(int fd, void *ctx)
{
    struct tls_cert *c = ctx;

    cert_changed(c, fd, &c->key);
}

static void
watch(const char *file, void (*changed)(int fd, void *ctx), struct tls_cert *c)
{
    int fd = sl_file_open(file, changed, c);

    if (fd >= 0)
        close(fd);
    else
        sl_log(SL_WARN, "TLS0022", "%s: %s; changes will not be seen", file, strerror(errno));
}

int
tls_certs_watch(struct sl_worker *w)
{
    struct tls_cert *c;

    worker = w;
    for (c = all; c != NULL; c = c->next) {
        if (c->why != NULL)
            sl_log(SL_ERROR, "TLS0023", "%s: TLSCertificate: %s; a self-signed placeholder is used, "
                   "which no client trusts", c->place, c->why);
        if (c->why != NULL && access(c->chain_file, F_OK) != 0)
            continue;
        watch(c->chain_file, chain_changed, c);
        if (c->key_file != c->chain_file && (c->why == NULL || access(c->key_file, F_OK) == 0))
            watch(c->key_file, key_changed, c);
    }
    return 0;
}

void
tls_certs_unwatch(void)
{
    sl_timer_unlink(&take_timer);
    is_taking = 0;
}
