/* What the parts of mod_tls share.
 *
 *   mod_tls.c    the manual, the rows, the hooks
 *   cert.c       a certificate and its key: read, checked, replaced when the files change
 *   text.c       files read whole
 *   ocsp.h       what OCSP says of a certificate
 *   staple.h     and what of it is stapled
 *   expiry.c     how long certificates have left: warnings, ctl cert
 *   clients.c    whom clients' certificates may be signed by, and which are revoked
 *   site.c       which certificates a host has: one SSL_CTX for each choice, found by name
 *   context.c    an SSL_CTX with the settings of a host
 *   transport.c  bytes through OpenSSL: the transport of both sides
 *   server.c     towards servers: ServerTLS, ProxyTLS, verification, sessions kept
 *   tickets.c    the keys of session tickets, in a zone
 *   ticket_file.c  or in a file that machines share
 *   sessions.c   TLSSessionCache: sessions of clients that take no tickets, in a zone
 *   early.c      TLSEarlyData: requests before the handshake is over
 *   offload.c    TLSOffload: signatures by RSA keys on other threads
 *   redirect.c   HTTPSRedirect, HSTS
 *   variables.c  %{tls_...} */
#ifndef TLS_TLS_H
#define TLS_TLS_H

#include "sluice/module.h"

#include <openssl/ssl.h>

#pragma GCC visibility push(hidden)

/* ---- files (text.c) ---- */

/* The bytes of a file, NUL-terminated, at most 1 MiB; wiped when freed. */
struct tls_text {
    char *at;
    size_t n;
};
/* From where fd stands, or by its path.  0, or -1 and errno. */
int tls_text_read(int fd, struct tls_text *t);
int tls_text_open(const char *path, struct tls_text *t);
void tls_text_free(struct tls_text *t);
int tls_text_is(const struct tls_text *t, const struct tls_text *other);

/* ---- certificates (cert.c) ---- */

/* A chain and its key that fit together; nothing of it changes any more. */
struct tls_pair {
    X509 *leaf;
    STACK_OF(X509) *chain;
    EVP_PKEY *key;
    apr_array_header_t *names; /* of const char *, lower case; "*.suffix" too */
    apr_pool_t *pool;          /* its own */
};

/* One TLSCertificate line. */
struct tls_cert {
    const char *chain_file, *key_file; /* the same where one has both */
    const char *place;
    const char *why;        /* it could not be taken: a phrase; NULL: it was */
    const char *cure;
    struct tls_pair *pair;  /* thread 0 replaces it; NULL: none */
    struct tls_pair *other; /* waits to take its place; NULL: none */
    int is_new;             /* so it does */
    int told; /* how soon it expires, as the log has it: expiry.c */
    struct tls_text chain, key; /* the files as they were read last */
    struct tls_cert *next;  /* of all */
};

sl_parse_f tls_cert_parse;
/* The first of all lines. */
struct tls_cert *tls_certs(void);
/* In post_config: asks to be told of changes.  Those of a moment are taken together. */
int tls_certs_watch(struct sl_worker *w);
void tls_certs_unwatch(void);
/* A self-signed pair for a while. */
struct tls_pair *tls_pair_placeholder(void);
void tls_pair_free(struct tls_pair *pair);
/* Days until it expires. */
int tls_pair_days(const struct tls_pair *pair);
/* PEM files of certificates and keys: NULL and a phrase. */
struct tls_pair *tls_pair_read(apr_pool_t *pool, const char *chain, const char *key,
                               const char **why);

/* ---- how long they have left (expiry.c) ---- */

/* Of the certificate a line has now, the log has said how long. */
void tls_cert_is_fresh(struct tls_cert *cert);
/* Warns of what expires soon; again every hour from ready to drain. */
void tls_certs_look(void);
void tls_certs_ready(struct sl_worker *w);
void tls_certs_drain(void);
void tls_certs_close(void);
extern const struct sl_control_command tls_cert_command;
extern const struct sl_gauge tls_cert_gauge;

/* ---- settings and hosts ---- */

enum tls_profile { TLS_MODERN, TLS_INTERMEDIATE };
enum tls_verify { TLS_VERIFY_OFF, TLS_VERIFY_OPTIONAL, TLS_VERIFY_REQUIRE };

struct tls_protocols {
    int min, max;
};

struct tls_ciphers {
    const char *list;   /* up to TLS 1.2; NULL: the profile's */
    const char *suites; /* TLS 1.3 */
};

struct tls_tickets {
    int is_on;
    int64_t rotate_ms;
    const char *file;    /* the keys are there; NULL: our own */
    struct sl_span keys; /* what stood in it when the configuration was read */
};

struct tls_client_file; /* clients.c */
struct tls_stapling;    /* staple.h */

struct tls_conf {
    apr_array_header_t *certs; /* of struct tls_cert * */
    int profile;               /* enum tls_profile */
    struct tls_protocols *protocols;
    struct tls_ciphers *ciphers;
    struct tls_tickets *tickets; /* NULL: on */
    struct tls_stapling *stapling; /* NULL: off */
    struct tls_client_file *client_ca, *client_crl;
    int client_verify; /* enum tls_verify */
    int64_t client_depth;
    int placeholder;
    int strict_sni;
    int early_data;
    int64_t offload; /* threads; -1: none */
    int64_t session_cache; /* bytes; -1: none */
    const char *key_log;
    apr_array_header_t *proxy; /* lines of ProxyTLS */
    struct tls_redirect *redirect;
    struct tls_hsts *hsts;
    struct tls_site *site; /* set when the whole is checked, on hosts and global */
};

/* A host, or what stands outside all of them. */
struct tls_site {
    const struct tls_conf *conf;
    const char *place;
    unsigned index;
    X509_STORE *client_ca; /* NULL: no client is asked; replaced when the files change */
    STACK_OF(X509_NAME) *client_names;
};

/* context.c.  A context for pairs of different key types.  NULL with a message in the log. */
SSL_CTX *tls_context_make(const struct tls_site *site, struct tls_pair *const *pairs, unsigned n);
/* The settings of another host than the one the connection began with. */
void tls_context_enter(SSL *ssl, SSL_CTX *ctx);
const char *tls_context_check(struct sl_cmd *cmd, const struct tls_ciphers *ciphers);
void tls_key_log(const SSL *ssl, const char *line);
/* Why the last call failed; "" where OpenSSL does not say. */
const char *tls_error(char *to, size_t n);

/* site.c */
int tls_sites_check(struct sl_worker *w);
/* NULL past the last. */
struct tls_site *tls_site_at(unsigned i);
/* Makes the contexts; also when a certificate changed.  0 or -1. */
int tls_sites_build(void);
/* Whether clients are verified in the same way. */
int tls_asks_the_same(const struct tls_conf *a, const struct tls_conf *b);
int tls_sites_want_early_data(void);
struct tls_site *tls_site_of(const struct sl_scope *scope);
/* The context for a name (lower case; n 0: none was sent) on a listener; NULL: the handshake
 * is refused.  The caller's to use at once. */
SSL_CTX *tls_context_find(const struct sl_scope *listener, struct sl_span name);
SSL_CTX *tls_context_default(const struct sl_scope *listener);

/* ---- who signs clients' certificates (clients.c) ---- */

sl_parse_f tls_client_ca_parse, tls_client_crl_parse;
const char *tls_client_path(const struct tls_client_file *f); /* NULL: "" */
/* Fills in what the site verifies clients by, or reports an error of its lines. */
void tls_clients_check(struct sl_worker *w, struct tls_site *site);
void tls_clients_free(struct tls_site *site);
/* In post_config, when there are contexts: files are taken up when they change. */
void tls_clients_watch(void);
/* Once in a while: whether lists of revoked certificates have ended. */
void tls_clients_look(void);

/* ---- OCSP stapling (staple.h) ---- */

sl_parse_f tls_stapling_parse;
/* In post_config, before contexts are made: what is kept from before is stapled from the start. */
int tls_staples_open(struct sl_worker *w);
/* The certificate of a line is about to be used in place of another. */
void tls_staple_renewed(struct tls_cert *cert);
/* The contexts of hosts where it is on. */
void tls_staple_use(SSL_CTX *ctx, const struct tls_stapling *conf);
/* What ctl cert tells; seconds since the epoch, 0: never. */
struct tls_staple_state {
    const char *source;         /* "responder" or "file"; NULL: no stapling for this certificate */
    int64_t asked_s, until_s;   /* of the response that is stapled; a file's: when it was read */
    int64_t due_s;              /* when the responder is asked next */
    int is_revoked;
    unsigned n_failed;          /* in a row, up to now */
    int64_t failed_s;           /* the last time */
    const char *failure;
};
struct tls_staple_state tls_staple_state(const struct tls_cert *cert);
void tls_staples_ready(void);
void tls_staples_drain(void);
void tls_staples_close(void);

/* ---- connections (transport.c) ---- */

struct tls {
    struct sl_conn *conn;
    SSL *ssl;
    char *left; /* written by OpenSSL, not yet by the socket */
    unsigned n_left;
    unsigned n_silent; /* bytes read since some were handed out, after the handshake */
    unsigned debt;     /* bytes taken from the caller that are told only when left is empty */
    int64_t wrote_at;  /* ms, of the last write */
    uint8_t is_server; /* of the two sides, this is the server's */
    uint8_t is_done;   /* the handshake */
    uint8_t is_broken;
    uint8_t is_held;   /* left goes out with the next write */
    uint8_t is_ended;  /* close_notify was said; the socket is to be shut when left is empty */
    uint8_t is_shut;   /* it was */
    uint8_t is_told; /* the log has why the handshake failed */
    uint8_t has_seen_end;
    uint8_t first_byte; /* of the peer's */
    uint8_t reads_early; /* early data may still come */
    uint8_t ends_early;  /* close_notify is to be said when the handshake is over */
    uint8_t asks_for_session; /* of TLSSessionCache */
    uint8_t was_away; /* the hello was looked at, and need not be again */
    struct tls_early *early; /* NULL: none came */
    struct tls_away *away;   /* of another thread now: nothing but this and conn is ours; NULL: no */
};

/* What came of a part of the handshake: as SSL_do_handshake(), SSL_get_error(). */
struct tls_step {
    int rc, error;
};
struct tls_step tls_step(struct tls *t);
/* When its connection is closed. */
void tls_free(struct tls *t);

extern const struct sl_transport tls_transport;
void tls_accept_with(SSL_CTX *ctx); /* the callbacks of clients' connections */
int tls_threads_make(struct sl_worker *w);
/* The connection a request came on; NULL: it came in clear. */
struct tls *tls_of_req(const struct sl_req *r);
/* The host whose settings hold on a client's connection. */
static inline const struct tls_site *
tls_site_in_use(const struct tls *t)
{
    return SSL_CTX_get_app_data(SSL_get_SSL_CTX(t->ssl));
}

/* ---- early data (early.c) ---- */

/* In post_config, behind the tickets', where a site has it on.  0 or -1. */
int tls_early_open(void);
void tls_early_use(SSL_CTX *ctx, const struct tls_conf *conf);
/* For tls_context_enter(). */
void tls_early_enter(SSL *ssl, const SSL_CTX *ctx);
/* A client's connection begins. */
void tls_early_accept(struct tls *t);
/* In place of SSL_do_handshake() while t->reads_early; what came is kept in t->early. */
int tls_early_read(struct tls *t);
/* Early bytes for the protocol; AGAIN: none, and the handshake lasts; 0: no more will come. */
ssize_t tls_early_take(struct tls *t, void *to, size_t n);
int tls_early_is_pending(const struct tls *t);
/* The handshake is: those who wait go on. */
void tls_early_over(struct tls *t);
void tls_early_free(struct tls *t);
/* A request before that: it goes on, or waits. */
enum sl_verdict tls_early_access(struct sl_req *r, const struct tls_conf *conf, struct tls *t);
int tls_early_went(struct sl_req *r, const struct tls *t);

/* ---- other threads (offload.c) ---- */

int tls_offload_open(struct sl_worker *w, int64_t n_threads);
void tls_offload_close(void);
void tls_offload_use(SSL_CTX *ctx, struct tls_pair *const *pairs, unsigned n);
/* While the client says hello: whether the rest is better done elsewhere. */
int tls_offload_wants(SSL *ssl, const SSL_CTX *ctx);
/* The next step is made there, and the connection is told when it is done; -1: it cannot be. */
int tls_offload(struct tls *t);
/* The step, and what was written goes to t->left.  0: it is away still. */
int tls_offload_take(struct tls *t, struct tls_step *step);
/* The connection ends; t is freed when it is back. */
void tls_offload_leave(struct tls *t);
/* On the other thread. */
const char *tls_offload_protocol(const struct tls *t, unsigned i);
int tls_offload_write(struct tls *t, const char *at, size_t n);

/* ---- servers (server.c) ---- */

const char *tls_server_options(struct sl_cmd *cmd, struct sl_pool *pool);
sl_parse_f tls_proxy_parse;
int tls_servers_check(struct sl_worker *w);
void tls_servers_warn(void);
/* A connection to a server begins: name, verification, session.  0 or -1. */
int tls_server_begin(struct tls *t);
SSL_CTX *tls_server_context(const struct sl_conn *c);
/* The session it offered was no good. */
void tls_server_failed(const struct tls *t);

/* ---- the rest ---- */

/* A key of tickets: who has it writes tickets, and reads those whose first bytes are its name. */
#define TLS_TICKET_NAME 16
struct tls_ticket_key {
    unsigned char name[TLS_TICKET_NAME];
    unsigned char cipher[32], mac[32];
    uint32_t size; /* of both: 32, or 16 */
};

int tls_tickets_open(apr_pool_t *pool, const struct tls_tickets *conf);
/* Whether no ticket of these keys can have been given by a generation before. */
int tls_tickets_are_new(void);
int tls_tickets_ready(struct sl_worker *w);
int tls_tickets_drain(void);
void tls_tickets_close(void);
void tls_tickets_use(SSL_CTX *ctx, const struct tls_tickets *conf);

/* ticket_file.c.  NULL or a phrase. */
const char *tls_ticket_file_parse(struct sl_cmd *cmd, const char *name, struct tls_tickets *conf);
/* How many keys there are; 0: these are none. */
unsigned tls_ticket_keys_read(struct sl_span bytes, struct tls_ticket_key *keys, unsigned max);
int tls_ticket_file_open(apr_pool_t *pool, const struct tls_tickets *conf);
/* The key of that name, at name NULL the first.  The caller's to use at once.  Any thread. */
const struct tls_ticket_key *tls_ticket_file_key(const unsigned char *name, int *is_first);

/* sessions.c */
void tls_sessions_register(void);
const char *tls_sessions_check(struct sl_cmd *cmd, void **slot);
/* 0 or -1. */
int tls_sessions_open(apr_pool_t *pool, int64_t size);
void tls_sessions_use(SSL_CTX *ctx);
/* The handshake is over: whether a session that was asked for was there. */
void tls_session_count(const struct tls *t);
/* An error ended the connection: its session is not resumed. */
void tls_session_failed(const struct tls *t);
/* While a client says hello: whether its session is there. */
int tls_session_is_known(SSL *ssl);

sl_parse_f tls_redirect_parse, tls_hsts_parse;
sl_req_f tls_hsts_response;
enum sl_verdict tls_redirect(struct sl_req *r, const struct tls_redirect *d);

extern const struct sl_variable tls_variables[];

#pragma GCC visibility pop

#endif
