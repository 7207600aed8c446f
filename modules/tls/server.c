/* Towards servers.  Each pool has a context with what verifies its servers, and each thread
 * keeps the last session of each server: the next connection resumes it.
 *
 * Certificates are verified by the system's CAs, or those of ca=, and must be for the host the
 * target names.  That can be turned off, and is complained about at each start. */
#include "tls.h"

#include <apr_strings.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

struct options {
    int verify;
    const char *ca, *sni, *cert, *key;
    const char *place;
};

#define HOST_MAX 256

/* Whom a server must be. */
struct identity {
    char name[HOST_MAX]; /* host or address */
    int is_address;
};

/* A pool's; pool->transport_data. */
struct servers {
    struct servers *next; /* of all */
    struct options o;
    struct sl_pool *pool; /* NULL: the default of those without a line */
    struct tls_pair *pair; /* of cert= and key=; NULL: none */
    X509_STORE *store;
    SSL_CTX *ctx;
    SSL_SESSION **sessions;      /* by thread and server; each its thread's */
    unsigned n_sessions;
    unsigned char alpn[64]; /* wire format */
    unsigned n_alpn;
};

static struct servers *all, *defaults;
static X509_STORE *system_store;

static const struct sl_option rows[] = {
    {"verify", SL_SLOT_FLAG, offsetof(struct options, verify), "on", NULL,
     "whether certificates are verified"},
    {"ca", SL_SLOT_STRING, offsetof(struct options, ca), NULL, NULL, "who may have signed them"},
    {"sni", SL_SLOT_STRING, offsetof(struct options, sni), NULL, NULL,
     "the name to ask for and to verify"},
    {"cert", SL_SLOT_STRING, offsetof(struct options, cert), NULL, NULL,
     "the certificate shown to servers"},
    {"key", SL_SLOT_STRING, offsetof(struct options, key), NULL, NULL, "its key"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

/* ---- the lines ---- */

static apr_status_t
forget_all(void *unused)
{
    struct servers *s;
    unsigned i;

    (void)unused;
    for (s = all; s != NULL; s = s->next) {
        for (i = 0; i < s->n_sessions; i++)
            SSL_SESSION_free(s->sessions[i]);
        SSL_CTX_free(s->ctx);
        X509_STORE_free(s->store);
        if (s->pair != NULL && (s == defaults || defaults == NULL || s->pair != defaults->pair))
            tls_pair_free(s->pair);
    }
    X509_STORE_free(system_store);
    system_store = NULL;
    all = defaults = NULL;
    return APR_SUCCESS;
}

static struct servers *
servers_make(apr_pool_t *pool)
{
    struct servers *s = apr_pcalloc(pool, sizeof *s);

    if (all == NULL)
        apr_pool_cleanup_register(pool, NULL, forget_all, apr_pool_cleanup_null);
    s->o.verify = 1;
    s->next = all;
    all = s;
    return s;
}

static const char *
servers_read(struct sl_cmd *cmd, struct servers *s)
{
    const char *why = NULL;
    char text[160];

    if ((s->o.cert == NULL) != (s->o.key == NULL) && s->o.cert == NULL)
        return "expected cert= with key=";
    if (s->o.sni != NULL && (*s->o.sni == '\0' || *s->o.sni == '.')) /* any name would do, or many */
        return sl_cmd_error(cmd, "expected sni=NAME, found \"%s\"", s->o.sni);
    s->o.ca = s->o.ca != NULL ? sl_cmd_path(cmd, s->o.ca) : NULL;
    s->o.cert = s->o.cert != NULL ? sl_cmd_path(cmd, s->o.cert) : NULL;
    s->o.key = s->o.key != NULL ? sl_cmd_path(cmd, s->o.key) : NULL;
    if (s->o.cert != NULL)
        s->pair = tls_pair_read(sl_cmd_pool(cmd), s->o.cert, s->o.key != NULL ? s->o.key : s->o.cert,
                                &why);
    if (why != NULL || s->o.ca == NULL)
        return why;
    s->store = X509_STORE_new();
    ERR_clear_error();
    if (X509_STORE_load_file(s->store, s->o.ca) != 1)
        return sl_cmd_error(cmd, "ca: %s: %s", s->o.ca, tls_error(text, sizeof text));
    return NULL;
}

/* Options from argument `from` on; pool NULL: for all that have no line. */
static const char *
servers_parse(struct sl_cmd *cmd, int from, struct sl_pool *pool)
{
    struct servers *s = pool != NULL ? pool->transport_data : defaults;
    const char *err;

    if (s != NULL)
        return sl_cmd_error(cmd, "already given for these servers at %s", s->o.place);
    if (sl_cmd_argc(cmd) <= from)
        return "expected verify=, ca=, sni=, cert= or key=";
    s = servers_make(sl_cmd_pool(cmd));
    s->pool = pool;
    s->o.place = sl_cmd_place(cmd);
    if (pool != NULL)
        pool->transport_data = s;
    else
        defaults = s;
    err = sl_cmd_options(cmd, from, rows, &s->o);
    return err != NULL ? err : servers_read(cmd, s);
}

const char *
tls_server_options(struct sl_cmd *cmd, struct sl_pool *pool)
{
    return servers_parse(cmd, 0, pool);
}

const char *
tls_proxy_parse(struct sl_cmd *cmd, void **item)
{
    struct sl_target *target = NULL;
    const char *first = sl_cmd_arg(cmd, 0), *err;

    if (first == NULL)
        return "expected [TARGET] and verify=, ca=, sni=, cert= or key=";
    *item = cmd;
    if (strstr(first, "://") == NULL)
        return servers_parse(cmd, 0, NULL);
    if ((err = sl_target_parse(cmd, apr_pstrdup(sl_cmd_pool(cmd), first), &target)) != NULL)
        return err;
    return servers_parse(cmd, 1, target->pool);
}

/* ---- contexts ---- */

static int
session_comes(SSL *ssl, SSL_SESSION *session)
{
    const struct tls *t = SSL_get_app_data(ssl);
    const struct sl_server *server = sl_conn_server(t->conn);
    struct servers *s = server->pool->transport_data;
    unsigned i = sl_loop_index(sl_conn_loop(t->conn)) * server->pool->n_servers + server->index;

    if (i >= s->n_sessions)
        return 0;
    SSL_SESSION_free(s->sessions[i]);
    s->sessions[i] = session;
    return 1;
}

/* The CAs of the system, read once. */
static X509_STORE *
store_of_system(void)
{
    if (system_store == NULL) {
        system_store = X509_STORE_new();
        X509_STORE_set_default_paths(system_store);
        ERR_clear_error();
    }
    return system_store;
}

static int
servers_context(struct servers *s)
{
    SSL_CTX *ctx = s->ctx = SSL_CTX_new(TLS_client_method());

    if (ctx == NULL)
        return -1;
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, session_comes);
    if (s->o.verify) {
        SSL_CTX_set1_cert_store(ctx, s->store != NULL ? s->store : store_of_system());
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    }
    if (s->pair != NULL && SSL_CTX_use_cert_and_key(ctx, s->pair->leaf, s->pair->key,
                                                    s->pair->chain, 1) != 1)
        return -1;
    return 0;
}

/* "host:443" -> host; "[::1]:443" -> ::1.  Anew for each connection: who a server is may change. */
static struct identity
identity_of(const struct servers *s, const struct sl_server *server)
{
    const char *at = s->o.sni != NULL ? s->o.sni : server->address, *end;
    struct identity id;
    unsigned char bytes[16];

    end = *at == '[' ? strchr(at, ']') : s->o.sni != NULL ? NULL : strrchr(at, ':');
    at += *at == '[';
    snprintf(id.name, sizeof id.name, "%.*s", end != NULL ? (int)(end - at) : HOST_MAX, at);
    id.is_address = inet_pton(AF_INET, id.name, bytes) == 1 || inet_pton(AF_INET6, id.name, bytes) == 1;
    return id;
}

static void
servers_identities(struct sl_worker *w, const struct servers *s)
{
    unsigned i;

    for (i = 0; i < s->pool->n_servers; i++) {
        const struct sl_server *server = s->pool->servers[i];

        if (s->o.verify && s->o.sni == NULL && strncmp(server->address, "unix:", 5) == 0)
            sl_worker_config_error(w, s->o.place, "server %s has no host name its certificate could be "
                                   "verified for\n    cure: write sni=NAME", server->name);
    }
}

/* What this pool's protocol is called in ALPN. */
static void
servers_alpn(struct servers *s)
{
    const char *name = s->pool->protocol != NULL ? s->pool->protocol->name : "http/1.1";
    size_t n = strlen(name);

    if (n >= sizeof s->alpn)
        return;
    s->alpn[0] = (unsigned char)n;
    memcpy(s->alpn + 1, name, n);
    s->n_alpn = (unsigned)n + 1;
}

static struct servers *
servers_of(struct sl_worker *w, struct sl_pool *pool)
{
    struct servers *s = pool->transport_data;

    if (s == NULL) {
        s = servers_make(sl_worker_pool(w));
        if (defaults != NULL) {
            s->o = defaults->o;
            s->store = defaults->store;
            s->pair = defaults->pair;
            if (s->store != NULL)
                X509_STORE_up_ref(s->store);
        }
        pool->transport_data = s;
    }
    s->pool = pool;
    return s;
}

static const struct sl_lint_rule unverified_server = {
    "unverified-server", "anybody on the way can stand in for the server, and read and change all",
    "ca=FILE trusts a CA of one's own, and sni=NAME says what the certificate is for"};

int
tls_servers_check(struct sl_worker *w)
{
    struct sl_pool *pool = NULL;

    while ((pool = sl_pool_next(pool)) != NULL) {
        struct servers *s = pool->transport_data;

        if (pool->transport != &tls_transport) {
            if (s != NULL)
                sl_worker_config_error(w, s->o.place, "the servers of %s are not spoken to by TLS\n"
                                       "    cure: write their scheme, https://", pool->name);
            continue;
        }
        s = servers_of(w, pool);
        if (!s->o.verify)
            sl_lint(w, &unverified_server, s->o.place, "verify=off: who answers as %s is not verified",
                    pool->name);
        servers_identities(w, s);
        servers_alpn(s);
        s->n_sessions = pool->n_servers * sl_worker_threads(w);
        s->sessions = apr_pcalloc(sl_worker_pool(w), (s->n_sessions + 1) * sizeof *s->sessions);
        if (servers_context(s) != 0)
            return -1;
    }
    return 0;
}

void
tls_servers_warn(void)
{
    const struct servers *s;

    for (s = all; s != NULL; s = s->next)
        if (!s->o.verify && s->pool != NULL)
            sl_log(SL_WARN, "TLS0030", "%s: verify=off: who answers as %s is not verified; anybody on "
                   "the way can read and change what is said", s->o.place, s->pool->name);
}

/* ---- connections ---- */

SSL_CTX *
tls_server_context(const struct sl_conn *c)
{
    const struct servers *s = sl_conn_server(c)->pool->transport_data;

    return s->ctx;
}

static SSL_SESSION **
session_of(const struct tls *t)
{
    const struct sl_server *server = sl_conn_server(t->conn);
    struct servers *s = server->pool->transport_data;

    return &s->sessions[sl_loop_index(sl_conn_loop(t->conn)) * server->pool->n_servers + server->index];
}

void
tls_server_failed(const struct tls *t)
{
    SSL_SESSION **session = session_of(t);

    SSL_SESSION_free(*session);
    *session = NULL;
}

int
tls_server_begin(struct tls *t)
{
    const struct sl_server *server = sl_conn_server(t->conn);
    const struct servers *s = server->pool->transport_data;
    const struct identity id = identity_of(s, server);
    SSL_SESSION *session = *session_of(t);

    SSL_set_connect_state(t->ssl);
    SSL_set_hostflags(t->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (!id.is_address && SSL_set_tlsext_host_name(t->ssl, id.name) != 1)
        return -1;
    if (s->o.verify && (id.is_address
                            ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), id.name)
                            : SSL_set1_host(t->ssl, id.name)) != 1)
        return -1;
    if (s->n_alpn > 0)
        SSL_set_alpn_protos(t->ssl, s->alpn, s->n_alpn);
    if (session != NULL && SSL_SESSION_is_resumable(session))
        SSL_set_session(t->ssl, session);
    return 0;
}
