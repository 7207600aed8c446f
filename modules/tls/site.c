/* Which certificates a host has.  A site is a host (or what stands outside all of them) with
 * its own settings; a choice is the pairs of one site that serve one name, one for each type of
 * key, in one SSL_CTX.  All of them are in a table that never changes: when a certificate does,
 * a new table takes its place, and keeps the contexts whose pairs are the same.
 *
 * Threads read the table while a client says hello; the old one waits for a minute, longer than
 * any of them looks at it. */
#include "tls.h"

#include <apr_hash.h>
#include <apr_strings.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define TYPES_MAX 4 /* RSA, ECDSA, Ed25519, RSA-PSS */
#define RETIRED_S 60

struct choice {
    const struct tls_site *site;
    const X509_STORE *clients;         /* the site's when ctx was made */
    struct tls_pair *pairs[TYPES_MAX]; /* NULL behind the last */
    unsigned n;
    SSL_CTX *ctx;
};
#define CHOICE_KEY_BYTES offsetof(struct choice, n) /* what is before n says which choice it is */

struct entry {
    const struct tls_site *site;
    struct sl_span name; /* ".suffix" for "*.suffix" */
    struct choice *choice;
};

struct table {
    apr_pool_t *pool;
    struct table *next; /* of the retired ones */
    time_t retired_at;
    struct entry *entries; /* sorted */
    unsigned n_entries;
    struct choice *choices;
    unsigned n_choices;
    apr_hash_t *choices_by_key;
    struct choice **defaults; /* by site; NULL: it has no certificate */
};

static apr_array_header_t *sites; /* of struct tls_site * */
static _Atomic(struct table *) current;
static struct table *retired;
static const struct sl_host_lookup *hosts;

/* ---- the end ---- */

static void
table_free(struct table *t)
{
    unsigned i;

    for (i = 0; i < t->n_choices; i++)
        SSL_CTX_free(t->choices[i].ctx);
    apr_pool_destroy(t->pool);
}

static apr_status_t
sites_free(void *unused)
{
    struct table *t = atomic_exchange(&current, NULL);
    int i;

    (void)unused;
    if (t != NULL)
        table_free(t);
    while (retired != NULL) {
        t = retired;
        retired = t->next;
        table_free(t);
    }
    for (i = 0; sites != NULL && i < sites->nelts; i++)
        tls_clients_free(APR_ARRAY_IDX(sites, i, struct tls_site *));
    sites = NULL;
    return APR_SUCCESS;
}

/* ---- sites ---- */

int
tls_sites_want_early_data(void)
{
    int i;

    for (i = 0; i < sites->nelts; i++)
        if (APR_ARRAY_IDX(sites, i, struct tls_site *)->conf->early_data)
            return 1;
    return 0;
}

struct tls_site *
tls_site_of(const struct sl_scope *scope)
{
    while (sl_scope_kind(scope) != SL_SCOPE_GLOBAL && sl_scope_kind(scope) != SL_SCOPE_HOST)
        scope = sl_scope_parent(scope);
    return ((const struct tls_conf *)sl_scope_conf(scope, &sl_module_record))->site;
}

struct tls_site *
tls_site_at(unsigned i)
{
    return sites != NULL && (int)i < sites->nelts ? APR_ARRAY_IDX(sites, i, struct tls_site *) : NULL;
}

static void
site_check(struct sl_worker *w, struct tls_site *site)
{
    const struct tls_conf *conf = site->conf;

    if (conf->client_verify == TLS_VERIFY_OFF)
        return;
    if (conf->client_ca == NULL)
        sl_worker_config_error(w, site->place, "TLSClientVerify: there is no TLSClientCA to verify "
                               "clients by\n    cure: write \"TLSClientCA FILE\"");
    else
        tls_clients_check(w, site);
}

static int
is_same_file(const struct tls_client_file *a, const struct tls_client_file *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(tls_client_path(a), tls_client_path(b)) == 0);
}

int
tls_asks_the_same(const struct tls_conf *a, const struct tls_conf *b)
{
    if (a->client_verify != b->client_verify)
        return 0;
    return a->client_verify == TLS_VERIFY_OFF ||
           (a->client_depth == b->client_depth && is_same_file(a->client_ca, b->client_ca) &&
            is_same_file(a->client_crl, b->client_crl));
}

/* Hosts that say nothing of their own about certificates are one site. */
static struct tls_site *
site_like(const struct tls_conf *conf)
{
    int i;

    for (i = 0; i < sites->nelts; i++) {
        struct tls_site *site = APR_ARRAY_IDX(sites, i, struct tls_site *);
        const struct tls_conf *other = site->conf;

        if (other->certs == conf->certs && other->profile == conf->profile &&
            other->protocols == conf->protocols && other->ciphers == conf->ciphers &&
            other->stapling == conf->stapling && other->early_data == conf->early_data &&
            other->strict_sni == conf->strict_sni && tls_asks_the_same(other, conf))
            return site;
    }
    return NULL;
}

static void
sites_make(struct sl_worker *w)
{
    struct sl_scope *scope;
    unsigned i;

    sites = apr_array_make(sl_worker_pool(w), 8, sizeof(struct tls_site *));
    apr_pool_cleanup_register(sl_worker_pool(w), NULL, sites_free, apr_pool_cleanup_null);
    for (i = 0; (scope = sl_worker_scope(w, i)) != NULL; i++) {
        struct tls_conf *conf = (struct tls_conf *)(uintptr_t)sl_scope_conf(scope, &sl_module_record);

        if ((sl_scope_kind(scope) != SL_SCOPE_GLOBAL && sl_scope_kind(scope) != SL_SCOPE_HOST) ||
            conf->site != NULL)
            continue;
        if ((conf->site = site_like(conf)) != NULL)
            continue;
        conf->site = apr_pcalloc(sl_worker_pool(w), sizeof *conf->site);
        conf->site->conf = conf;
        conf->site->place = sl_scope_place(scope);
        conf->site->index = (unsigned)sites->nelts;
        APR_ARRAY_PUSH(sites, struct tls_site *) = conf->site;
        site_check(w, conf->site);
    }
}

/* A certificate that could not be taken is an error, unless one of its hosts can do without. */
static void
certs_check(struct sl_worker *w)
{
    const struct tls_conf *global = sl_scope_conf(sl_worker_global(w), &sl_module_record);
    struct tls_cert *c;

    for (c = tls_certs(); c != NULL; c = c->next)
        if (c->why != NULL && global->placeholder)
            c->pair = tls_pair_placeholder();
        else if (c->why != NULL)
            sl_worker_config_error(w, c->place, "TLSCertificate: %s\n    cure: %s", c->why, c->cure);
}

static void
listeners_check(struct sl_worker *w)
{
    struct sl_listen l;
    unsigned i;

    for (i = 0; sl_worker_listen(w, i, &l); i++) {
        const struct tls_conf *conf = sl_scope_conf(l.scope, &sl_module_record);

        if (l.transport != &tls_transport || (conf->certs != NULL && conf->certs->nelts > 0))
            continue;
        sl_worker_config_error(w, l.place, "Listen %s tls: its default host has no certificate\n"
                               "    cure: write \"TLSCertificate CHAIN KEY\" %s%s", l.text,
                               sl_scope_place(l.scope) != NULL ? "there or outside all sections; it is at "
                                                               : "outside all sections",
                               sl_scope_place(l.scope) != NULL ? sl_scope_place(l.scope) : "");
    }
}

static const struct sl_lint_rule no_early_data = {
    "no-early-data",
    "who shows a certificate has to end the handshake first: such hosts take no early data",
    "TLSEarlyData off there, or hosts of their own for clients with certificates",
};

static void
early_data_lint(struct sl_worker *w)
{
    const struct sl_scope *scope;
    unsigned i;

    for (i = 0; (scope = sl_worker_scope(w, i)) != NULL; i++) {
        const struct tls_conf *conf = sl_scope_conf(scope, &sl_module_record);
        const char *early = sl_scope_said(scope, &sl_module_record, "TLSEarlyData");
        const char *verify = sl_scope_said(scope, &sl_module_record, "TLSClientVerify");

        if (conf->early_data && conf->client_verify != TLS_VERIFY_OFF && (early != NULL || verify != NULL))
            sl_lint(w, &no_early_data, early != NULL ? early : verify,
                    "TLSEarlyData is on where clients are asked for certificates (TLSClientVerify)");
    }
}

int
tls_sites_check(struct sl_worker *w)
{
    const char *name = sl_provider_name("hosts", 0);

    hosts = name != NULL ? sl_provider_find("hosts", name) : NULL;
    sites_make(w);
    certs_check(w);
    listeners_check(w);
    early_data_lint(w);
    return 0;
}

/* ---- tables ---- */

static struct choice *
choice_find(const struct table *t, const struct choice *like)
{
    return apr_hash_get(t->choices_by_key, like, CHOICE_KEY_BYTES);
}

static struct choice *
choice_add(struct table *t, struct choice c)
{
    struct choice *added = &t->choices[t->n_choices++];

    *added = c;
    apr_hash_set(t->choices_by_key, added, CHOICE_KEY_BYTES, added);
    return added;
}

static int
choice_has_type(const struct choice *c, const struct tls_pair *p)
{
    unsigned i;

    for (i = 0; i < c->n; i++)
        if (EVP_PKEY_get_base_id(c->pairs[i]->key) == EVP_PKEY_get_base_id(p->key))
            return 1;
    return 0;
}

static int
pair_has_name(const struct tls_pair *p, const char *name)
{
    int i;

    for (i = 0; i < p->names->nelts; i++)
        if (strcmp(APR_ARRAY_IDX(p->names, i, const char *), name) == 0)
            return 1;
    return 0;
}

/* The pairs of a site for a name, the first line of each type; name NULL: for any name, the
 * first line and those that share its first name. */
static struct choice
choice_for(const struct tls_site *site, const char *name)
{
    const apr_array_header_t *certs = site->conf->certs;
    struct choice c = {.site = site, .clients = site->client_ca};
    int i;

    for (i = 0; i < certs->nelts && c.n < TYPES_MAX; i++) {
        struct tls_pair *p = APR_ARRAY_IDX(certs, i, struct tls_cert *)->pair;

        if (name == NULL && i == 0 && p->names->nelts > 0)
            name = APR_ARRAY_IDX(p->names, 0, const char *);
        if (i > 0 && name == NULL)
            break;
        if ((name == NULL || pair_has_name(p, name)) && !choice_has_type(&c, p))
            c.pairs[c.n++] = p;
    }
    return c;
}

/* The same choice once: names of one certificate share it, and so do tables. */
static struct choice *
table_choice(struct table *t, const struct table *old, struct choice c)
{
    struct choice *same = choice_find(t, &c);

    if (same != NULL)
        return same;
    same = old != NULL ? choice_find(old, &c) : NULL;
    c.ctx = same != NULL && SSL_CTX_up_ref(same->ctx) ? same->ctx
                                                      : tls_context_make(c.site, c.pairs, c.n);
    return c.ctx != NULL ? choice_add(t, c) : NULL;
}

static int
entry_compare(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    size_t n = x->name.n < y->name.n ? x->name.n : y->name.n;
    int rc;

    if (x->site != y->site)
        return x->site->index < y->site->index ? -1 : 1;
    rc = memcmp(x->name.at, y->name.at, n);
    return rc != 0 ? rc : x->name.n < y->name.n ? -1 : x->name.n > y->name.n;
}

static int
table_add_names(struct table *t, const struct table *old, const struct tls_site *site,
                const struct tls_pair *p)
{
    int i;

    for (i = 0; i < p->names->nelts; i++) {
        const char *name = APR_ARRAY_IDX(p->names, i, const char *);
        struct entry e = {site, sl_span(apr_pstrdup(t->pool, name)), NULL};

        e.choice = table_choice(t, old, choice_for(site, name));
        if (e.choice == NULL)
            return -1;
        if (e.name.n > 2 && e.name.at[0] == '*' && e.name.at[1] == '.')
            e.name = (struct sl_span){e.name.at + 1, e.name.n - 1};
        t->entries[t->n_entries++] = e;
    }
    return 0;
}

static struct table *
table_room(void)
{
    struct table *t;
    apr_pool_t *pool;
    unsigned n = 0;
    int i, k;

    for (i = 0; i < sites->nelts; i++) {
        const apr_array_header_t *certs = APR_ARRAY_IDX(sites, i, struct tls_site *)->conf->certs;

        for (k = 0; certs != NULL && k < certs->nelts; k++)
            n += (unsigned)APR_ARRAY_IDX(certs, k, struct tls_cert *)->pair->names->nelts;
    }
    apr_pool_create(&pool, NULL);
    t = apr_pcalloc(pool, sizeof *t);
    t->pool = pool;
    t->entries = apr_pcalloc(pool, (n + 1) * sizeof *t->entries);
    t->choices = apr_pcalloc(pool, (n + (unsigned)sites->nelts + 1) * sizeof *t->choices);
    t->choices_by_key = apr_hash_make(pool);
    t->defaults = apr_pcalloc(pool, ((unsigned)sites->nelts + 1) * sizeof *t->defaults);
    return t;
}

static int
table_add_site(struct table *t, const struct table *old, const struct tls_site *site)
{
    const apr_array_header_t *certs = site->conf->certs;
    int i;

    if (certs == NULL || certs->nelts == 0)
        return 0;
    t->defaults[site->index] = table_choice(t, old, choice_for(site, NULL));
    if (t->defaults[site->index] == NULL)
        return -1;
    for (i = 0; i < certs->nelts; i++)
        if (table_add_names(t, old, site, APR_ARRAY_IDX(certs, i, struct tls_cert *)->pair) != 0)
            return -1;
    return 0;
}

static void
retired_free(time_t before)
{
    struct table **at = &retired;

    while (*at != NULL) {
        struct table *t = *at;

        if (t->retired_at > before) {
            at = &t->next;
            continue;
        }
        *at = t->next;
        table_free(t);
    }
}

int
tls_sites_build(void)
{
    struct table *old = atomic_load(&current), *t = table_room();
    time_t now = time(NULL);
    int i;

    for (i = 0; i < sites->nelts; i++)
        if (table_add_site(t, old, APR_ARRAY_IDX(sites, i, struct tls_site *)) != 0) {
            table_free(t);
            return -1;
        }
    qsort(t->entries, t->n_entries, sizeof *t->entries, entry_compare);
    atomic_store_explicit(&current, t, memory_order_release);
    retired_free(now - RETIRED_S);
    if (old != NULL) {
        old->retired_at = now;
        old->next = retired;
        retired = old;
    }
    return 0;
}

/* ---- looking ---- */

static const struct choice *
table_find(const struct table *t, const struct tls_site *site, struct sl_span name)
{
    struct entry key = {site, name, NULL}, *e;
    const char *dot;

    e = bsearch(&key, t->entries, t->n_entries, sizeof *t->entries, entry_compare);
    if (e == NULL && (dot = memchr(name.at, '.', name.n)) != NULL && dot > name.at) {
        key.name = (struct sl_span){dot, name.n - (size_t)(dot - name.at)};
        e = bsearch(&key, t->entries, t->n_entries, sizeof *t->entries, entry_compare);
    }
    return e != NULL ? e->choice : NULL;
}

SSL_CTX *
tls_context_default(const struct sl_scope *listener)
{
    const struct table *t = atomic_load_explicit(&current, memory_order_acquire);
    const struct choice *c = t->defaults[tls_site_of(listener)->index];

    return c != NULL ? c->ctx : NULL;
}

SSL_CTX *
tls_context_find(const struct sl_scope *listener, struct sl_span name)
{
    const struct table *t = atomic_load_explicit(&current, memory_order_acquire);
    const struct sl_scope *scope = name.n > 0 && hosts != NULL ? hosts->find(name) : NULL;
    const struct tls_site *site = tls_site_of(scope != NULL ? scope : listener);
    const struct choice *c = NULL;

    if (name.n > 0)
        c = table_find(t, site, name);
    if (c == NULL && site->conf->strict_sni)
        return NULL;
    if (c == NULL)
        c = t->defaults[site->index];
    return c != NULL ? c->ctx : tls_context_default(listener);
}
