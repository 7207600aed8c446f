/* Whom clients' certificates may be signed by (TLSClientCA), and which of them were revoked
 * (TLSClientCRL).  The files are kept with the configuration and read again when they change: they
 * may change one after the other, so what they hold is used when it fits together, and until then
 * what was used before.  Runs on thread 0. */
#include "tls.h"

#include <apr_strings.h>

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#define FILE_MAX (1 << 20)

/* A line's. */
struct tls_client_file {
    const char *path, *place;
    struct tls_text text; /* as it was read last */
    int is_watched;
    int64_t ends_s; /* of lists in use: when the first ends, since the epoch; 0: none does */
    int is_told;    /* that it has */
};

/* What a site's files come to. */
struct clients {
    X509_STORE *store;
    STACK_OF(X509_NAME) *names;
    int64_t ends_s;
};

/* ---- what files hold ---- */

static STACK_OF(X509_INFO) *
infos_of(const struct tls_text *t)
{
    BIO *bio = BIO_new_mem_buf(t->at, (int)t->n);
    STACK_OF(X509_INFO) *infos = PEM_X509_INFO_read_bio(bio, NULL, NULL, NULL);

    BIO_free(bio);
    ERR_clear_error();
    return infos;
}

static void
infos_free(STACK_OF(X509_INFO) *infos)
{
    sk_X509_INFO_pop_free(infos, X509_INFO_free);
}

/* NULL, or what is wrong with it: a phrase behind the file's name. */
static const char *
file_check(const struct tls_text *t, int is_list)
{
    STACK_OF(X509_INFO) *infos = infos_of(t);
    int i, n = 0;

    for (i = 0; i < sk_X509_INFO_num(infos); i++)
        n += is_list ? sk_X509_INFO_value(infos, i)->crl != NULL : sk_X509_INFO_value(infos, i)->x509 != NULL;
    infos_free(infos);
    return n > 0 ? NULL : is_list ? "holds no list of revoked certificates in PEM form"
                                  : "holds no certificate in PEM form";
}

static void
names_add(STACK_OF(X509_NAME) *names, X509 *ca)
{
    X509_NAME *name = X509_get_subject_name(ca), *copy;

    if (sk_X509_NAME_find(names, name) < 0 && (copy = X509_NAME_dup(name)) != NULL)
        sk_X509_NAME_push(names, copy);
}

static int
list_is_of(X509_CRL *list, X509 *ca)
{
    return X509_NAME_cmp(X509_CRL_get_issuer(list), X509_get_subject_name(ca)) == 0 &&
           X509_CRL_verify(list, X509_get0_pubkey(ca)) == 1;
}

static int
list_is_of_any(X509_CRL *list, const STACK_OF(X509_INFO) *cas)
{
    int i;

    for (i = 0; i < sk_X509_INFO_num(cas); i++)
        if (sk_X509_INFO_value(cas, i)->x509 != NULL &&
            list_is_of(list, sk_X509_INFO_value(cas, i)->x509))
            return 1;
    return 0;
}

static void
clients_free(struct clients *c)
{
    X509_STORE_free(c->store);
    sk_X509_NAME_pop_free(c->names, X509_NAME_free);
    *c = (struct clients){NULL, NULL, 0};
}

static void
clients_add_cas(struct clients *c, const STACK_OF(X509_INFO) *cas)
{
    int i;

    for (i = 0; i < sk_X509_INFO_num(cas); i++) {
        X509 *ca = sk_X509_INFO_value(cas, i)->x509;

        if (ca == NULL)
            continue;
        X509_STORE_add_cert(c->store, ca);
        names_add(c->names, ca);
    }
}

static int64_t
list_end(const X509_CRL *list)
{
    const ASN1_TIME *at = X509_CRL_get0_nextUpdate(list);
    struct tm tm;

    return at != NULL && ASN1_TIME_to_tm(at, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

static const char *
clients_add_lists(struct clients *c, const STACK_OF(X509_INFO) *lists, const STACK_OF(X509_INFO) *cas)
{
    int64_t ends_s;
    int i;

    for (i = 0; i < sk_X509_INFO_num(lists); i++) {
        X509_CRL *list = sk_X509_INFO_value(lists, i)->crl;

        if (list == NULL)
            continue;
        if (!list_is_of_any(list, cas))
            return "holds a list that none of TLSClientCA's has signed";
        ends_s = list_end(list);
        if (ends_s != 0 && (c->ends_s == 0 || ends_s < c->ends_s))
            c->ends_s = ends_s;
        X509_STORE_add_crl(c->store, list);
    }
    X509_STORE_set_flags(c->store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return NULL;
}

/* NULL, or why not: a phrase behind the name of the file *bad. */
static const char *
clients_make(struct clients *c, const struct tls_conf *conf, const struct tls_client_file **bad)
{
    const struct tls_client_file *ca = conf->client_ca, *crl = conf->client_crl;
    STACK_OF(X509_INFO) *cas = infos_of(&ca->text), *lists = crl != NULL ? infos_of(&crl->text) : NULL;
    const char *why;

    *c = (struct clients){X509_STORE_new(), sk_X509_NAME_new(NULL), 0};
    *bad = ca;
    why = file_check(&ca->text, 0);
    if (why == NULL && crl != NULL) {
        *bad = crl;
        why = file_check(&crl->text, 1);
    }
    clients_add_cas(c, cas);
    if (why == NULL && crl != NULL)
        why = clients_add_lists(c, lists, cas);
    infos_free(cas);
    infos_free(lists);
    ERR_clear_error();
    if (why != NULL)
        clients_free(c);
    return why;
}

/* ---- the lines ---- */

static apr_status_t
file_forget(void *data)
{
    tls_text_free(&((struct tls_client_file *)data)->text);
    return APR_SUCCESS;
}

static const char *
file_parse(struct sl_cmd *cmd, void **item, int is_list)
{
    struct tls_client_file *f = apr_pcalloc(sl_cmd_pool(cmd), sizeof *f);
    const char *err, *why;
    struct sl_span bytes;

    if (sl_cmd_argc(cmd) != 1)
        return "expected one file";
    if ((err = sl_cmd_file(cmd, sl_cmd_arg(cmd, 0), FILE_MAX, &bytes)) != NULL) {
        sl_cmd_cure(cmd, is_list ? "name the file with the CAs' lists; it is read before root's rights "
                                   "are given up"
                                 : "name the file with the certificates of those who sign clients' ones");
        return err;
    }
    f->path = sl_cmd_path(cmd, sl_cmd_arg(cmd, 0));
    f->place = sl_cmd_place(cmd);
    f->text = (struct tls_text){OPENSSL_memdup(bytes.at, bytes.n + 1), bytes.n};
    apr_pool_cleanup_register(sl_cmd_pool(cmd), f, file_forget, apr_pool_cleanup_null);
    *item = f;
    if ((why = file_check(&f->text, is_list)) == NULL)
        return NULL;
    sl_cmd_cure(cmd, is_list ? "\"openssl ca -gencrl\" writes one"
                             : "expected the certificates of those who sign clients' ones");
    return sl_cmd_error(cmd, "%s %s", f->path, why);
}

const char *
tls_client_ca_parse(struct sl_cmd *cmd, void **item)
{
    return file_parse(cmd, item, 0);
}

const char *
tls_client_crl_parse(struct sl_cmd *cmd, void **item)
{
    return file_parse(cmd, item, 1);
}

const char *
tls_client_path(const struct tls_client_file *f)
{
    return f != NULL ? f->path : "";
}

static void
site_set(struct tls_site *site, const struct clients *c)
{
    site->client_ca = c->store;
    site->client_names = c->names;
    if (site->conf->client_crl != NULL)
        site->conf->client_crl->ends_s = c->ends_s;
}

void
tls_clients_check(struct sl_worker *w, struct tls_site *site)
{
    const struct tls_client_file *bad;
    struct clients c;
    const char *why = clients_make(&c, site->conf, &bad);

    if (why == NULL)
        site_set(site, &c);
    else
        sl_worker_config_error(w, bad->place, "TLSClientCRL: %s %s\n    cure: expected the lists of the "
                               "CAs in %s, and of no others", bad->path, why, site->conf->client_ca->path);
}

void
tls_clients_free(struct tls_site *site)
{
    struct clients c = {site->client_ca, site->client_names, 0};

    clients_free(&c);
    site_set(site, &c);
}

/* ---- changes ---- */

static int
site_has(const struct tls_site *site, const struct tls_client_file *f)
{
    return site->client_ca != NULL && (site->conf->client_ca == f || site->conf->client_crl == f);
}

/* 0, or -1: what was used before goes on, and the log says why. */
static int
site_renew(struct tls_site *site)
{
    struct tls_client_file *crl = site->conf->client_crl;
    struct clients fresh, old = {site->client_ca, site->client_names, crl != NULL ? crl->ends_s : 0};
    const struct tls_client_file *bad;
    const char *why = clients_make(&fresh, site->conf, &bad);

    if (why != NULL) {
        sl_log(SL_WARN, "TLS0061", "%s %s; clients are verified as before", bad->path, why);
        return -1;
    }
    site_set(site, &fresh);
    if (tls_sites_build() != 0) {
        site_set(site, &old);
        clients_free(&fresh);
        return -1;
    }
    clients_free(&old);
    return 0;
}

static void
file_take(struct tls_client_file *f, int fd)
{
    struct tls_site *site;
    struct tls_text fresh;
    int rc = tls_text_read(fd, &fresh), n_bad = 0;
    unsigned i;

    close(fd);
    if (rc != 0 || tls_text_is(&fresh, &f->text)) {
        if (rc == 0)
            tls_text_free(&fresh);
        return;
    }
    tls_text_free(&f->text);
    f->text = fresh;
    for (i = 0; (site = tls_site_at(i)) != NULL; i++)
        n_bad += site_has(site, f) && site_renew(site) != 0;
    if (n_bad == 0)
        sl_log(SL_NOTICE, "TLS0060", "%s: read again; clients are verified by it from now on", f->path);
    tls_clients_look();
}

static void
file_changed(int fd, void *ctx)
{
    file_take(ctx, fd);
}

/* A worker in the place of a crashed one begins with what was accepted, and goes on to what the
 * file holds now. */
static void
file_watch(struct tls_client_file *f)
{
    int fd = f->is_watched ? -1 : sl_file_open(f->path, file_changed, f);

    if (!f->is_watched && fd < 0)
        sl_log(SL_WARN, "TLS0063", "%s: %s; changes will not be seen", f->path, strerror(errno));
    f->is_watched = 1;
    if (fd >= 0)
        file_take(f, fd);
}

void
tls_clients_watch(void)
{
    struct tls_site *site;
    unsigned i;

    for (i = 0; (site = tls_site_at(i)) != NULL; i++) {
        if (site->client_ca == NULL)
            continue;
        file_watch(site->conf->client_ca);
        if (site->conf->client_crl != NULL)
            file_watch(site->conf->client_crl);
    }
}

void
tls_clients_look(void)
{
    const struct tls_site *site;
    struct tls_client_file *crl;
    unsigned i;
    int is_over;

    for (i = 0; (site = tls_site_at(i)) != NULL; i++) {
        crl = site->conf->client_crl;
        if (site->client_ca == NULL || crl == NULL)
            continue;
        is_over = crl->ends_s != 0 && crl->ends_s <= time(NULL);
        if (is_over && !crl->is_told)
            sl_log(SL_WARN, "TLS0062", "TLSClientCRL %s: a list in it has ended; clients of its CA are "
                   "refused until there is a new one", crl->path);
        crl->is_told = is_over;
    }
}
