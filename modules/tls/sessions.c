/* TLSSessionCache: sessions of clients of TLS 1.2 that take no tickets.  They are in a zone, so that
 * every thread, the next generation and a worker after a crash resumes them, and nowhere else: who
 * reads one can read what was said in it.
 *
 * Which set a session belongs to its id says, which is random and ours.  In a full set the oldest makes
 * place.  A session is as long as it has to be; one that does not fit is not kept.
 *
 *   set:  taken | entry | entry | ...        entry:  n | until | id | session as DER
 *
 * A set is held while it is read or written, for less than a microsecond; who finds it taken for longer
 * goes on without.  Its holder may be killed: then others take the set after a second, and what was half
 * written is nobody's. */
#include "tls.h"

#include <stdatomic.h>
#include <time.h>

#include <openssl/err.h>

#define ZONE_LAYOUT 2
#define ID SSL3_SSL_SESSION_ID_LENGTH
#define ENTRY 336u /* some 165 bytes of a session, and the name that was asked for */
#define DER_MAX (ENTRY - 16 - ID)
#define WAYS 12
#define TRIES 1000
#define DEAD_MS 1000
#define SIZE_LEAST (64 << 10)
#define SIZE_MOST (1 << 30)
#define LIFE_MAX_S 86400 /* RFC 5246, F.1.4 */

struct entry {
    _Atomic(uint32_t) n; /* bytes of der; 0: it is nobody's */
    int64_t until_ms;    /* CLOCK_MONOTONIC; the least is the oldest, also within a second */
    unsigned char id[ID];
    unsigned char der[DER_MAX];
};

struct set {
    _Atomic(int64_t) taken_ms; /* since when somebody holds it; 0: nobody does */
    struct entry entries[WAYS];
};

struct sessions {
    struct set *sets; /* NULL: there is no cache */
    unsigned n_sets;
};

static struct sessions cache;

enum { STORED, RESUMED, MISSED, EVICTED, N_COUNTERS };
static int counters[N_COUNTERS];

/* ---- a set ---- */

static int64_t
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The caller's until set_give() with the same now.  NULL: others hold it. */
static struct set *
set_take(const struct sessions *s, const unsigned char *id, int64_t now)
{
    uint32_t where;
    struct set *set;
    unsigned i;

    memcpy(&where, id, sizeof where);
    set = &s->sets[where % s->n_sets];
    for (i = 0; i < TRIES; i++) {
        int64_t since = atomic_load_explicit(&set->taken_ms, memory_order_relaxed);

        if ((since == 0 || now - since > DEAD_MS) &&
            atomic_compare_exchange_strong(&set->taken_ms, &since, now))
            return set;
    }
    return NULL;
}

static void
set_give(struct set *set, int64_t now)
{
    atomic_compare_exchange_strong(&set->taken_ms, &now, 0);
}

static struct entry *
set_find(struct set *set, const unsigned char *id, int64_t now)
{
    struct entry *e;

    for (e = set->entries; e < set->entries + WAYS; e++)
        if (atomic_load(&e->n) > 0 && e->until_ms > now && memcmp(e->id, id, ID) == 0)
            return e;
    return NULL;
}

static void
entry_clear(struct entry *e)
{
    atomic_exchange(&e->n, 0);
    OPENSSL_cleanse(e->der, sizeof e->der);
}

/* One that is nobody's, else the oldest.  What has ended is cleared on the way. */
static struct entry *
set_room(struct set *set, int64_t now)
{
    struct entry *e, *room = set->entries;

    for (e = set->entries; e < set->entries + WAYS; e++) {
        if (atomic_load(&e->n) > 0 && e->until_ms <= now)
            entry_clear(e);
        if (atomic_load(&room->n) > 0 && (atomic_load(&e->n) == 0 || e->until_ms < room->until_ms))
            room = e;
    }
    return room;
}

/* ---- the cache ---- */

/* 1: it is kept, 2: in place of one that had not ended, 0: it is not. */
static int
sessions_put(const struct sessions *s, const unsigned char *id, int64_t life_s, const unsigned char *der,
             size_t n, int64_t now)
{
    struct set *set = n <= DER_MAX ? set_take(s, id, now) : NULL;
    struct entry *e;
    int is_full;

    if (set == NULL)
        return 0;
    e = set_room(set, now);
    is_full = atomic_exchange(&e->n, 0) > 0; /* first: a process may die at any instruction */
    e->until_ms = now + 1000 * (life_s < LIFE_MAX_S ? life_s : LIFE_MAX_S);
    memcpy(e->id, id, ID);
    memcpy(e->der, der, n);
    atomic_store(&e->n, (uint32_t)n);
    set_give(set, now);
    return 1 + is_full;
}

/* Bytes copied to der; 0: it is not there. */
static size_t
sessions_get(const struct sessions *s, const unsigned char *id, unsigned char *der, int64_t now)
{
    struct set *set = set_take(s, id, now);
    const struct entry *e;
    size_t n = 0;

    if (set == NULL)
        return 0;
    e = set_find(set, id, now);
    if (e != NULL && (n = atomic_load(&e->n)) <= DER_MAX)
        memcpy(der, e->der, n);
    set_give(set, now);
    return n <= DER_MAX ? n : 0;
}

static void
sessions_forget(const struct sessions *s, const unsigned char *id, int64_t now)
{
    struct set *set = set_take(s, id, now);
    struct entry *e;

    if (set == NULL)
        return;
    e = set_find(set, id, now);
    if (e != NULL)
        entry_clear(e);
    set_give(set, now);
}

/* ---- what OpenSSL asks ---- */

/* TLS 1.3 has tickets, and who shows a certificate is verified each time. */
static int
is_ours(SSL *ssl)
{
    return SSL_version(ssl) == TLS1_2_VERSION &&
           tls_site_in_use(SSL_get_app_data(ssl))->conf->client_verify == TLS_VERIFY_OFF;
}

/* After a whole handshake, on the loop's thread. */
static int
session_made(SSL *ssl, SSL_SESSION *session)
{
    const struct tls *t = SSL_get_app_data(ssl);
    unsigned char der[DER_MAX], *to = der;
    const unsigned char *id;
    unsigned n_id;
    int n, kept = 0;

    if (!is_ours(ssl))
        return 0;
    id = SSL_SESSION_get_id(session, &n_id);
    n = i2d_SSL_SESSION(session, NULL);
    if (n_id == ID && n > 0 && (size_t)n <= sizeof der && i2d_SSL_SESSION(session, &to) == n)
        kept = sessions_put(&cache, id, SSL_SESSION_get_timeout(session), der, (size_t)n, now_ms());
    OPENSSL_cleanse(der, sizeof der);
    if (kept > 0)
        sl_count(sl_conn_loop(t->conn), counters[STORED], 1);
    if (kept > 1)
        sl_count(sl_conn_loop(t->conn), counters[EVICTED], 1);
    return 0;
}

/* NULL: it is none, or not that one. */
static SSL_SESSION *
session_read(const unsigned char *der, size_t n, const unsigned char *id)
{
    SSL_SESSION *session;
    unsigned n_id = 0;

    ERR_set_mark();
    session = d2i_SSL_SESSION(NULL, &der, (long)n);
    ERR_pop_to_mark();
    if (session != NULL && (memcmp(SSL_SESSION_get_id(session, &n_id), id, ID) != 0 || n_id != ID)) {
        SSL_SESSION_free(session);
        session = NULL;
    }
    return session;
}

/* That it is of this host OpenSSL finds out, by the session's context: context.c.  Any thread. */
static SSL_SESSION *
session_wanted(SSL *ssl, const unsigned char *id, int n_id, int *is_kept)
{
    struct tls *t = SSL_get_app_data(ssl);
    unsigned char der[DER_MAX];
    SSL_SESSION *session = NULL;
    size_t n;

    *is_kept = 0;
    if (n_id != ID || !is_ours(ssl))
        return NULL;
    t->asks_for_session = 1;
    n = sessions_get(&cache, id, der, now_ms());
    if (n > 0)
        session = session_read(der, n, id);
    OPENSSL_cleanse(der, sizeof der);
    return session;
}

/* All contexts have the same: it is the one a connection began with that counts. */
void
tls_sessions_use(SSL_CTX *ctx)
{
    SSL_CTX_set_session_cache_mode(ctx, cache.sets == NULL ? SSL_SESS_CACHE_OFF
                                                           : SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL |
                                                                 SSL_SESS_CACHE_NO_AUTO_CLEAR);
    SSL_CTX_sess_set_new_cb(ctx, session_made);
    SSL_CTX_sess_set_get_cb(ctx, session_wanted);
}

/* ---- what becomes of a connection ---- */

void
tls_session_count(const struct tls *t)
{
    if (t->asks_for_session)
        sl_count(sl_conn_loop(t->conn), counters[SSL_session_reused(t->ssl) ? RESUMED : MISSED], 1);
}

/* RFC 5246, 7.2.2. */
void
tls_session_failed(const struct tls *t)
{
    const SSL_SESSION *session = cache.sets != NULL && t->is_server ? SSL_get0_session(t->ssl) : NULL;
    const unsigned char *id;
    unsigned n = 0;

    if (session != NULL && (id = SSL_SESSION_get_id(session, &n)) != NULL && n == ID)
        sessions_forget(&cache, id, now_ms());
}

int
tls_session_is_known(SSL *ssl)
{
    unsigned char der[DER_MAX];
    const unsigned char *id;
    int is_known;

    if (cache.sets == NULL || SSL_client_hello_get0_session_id(ssl, &id) != ID)
        return 0;
    is_known = sessions_get(&cache, id, der, now_ms()) > 0;
    OPENSSL_cleanse(der, sizeof der);
    return is_known;
}

/* ---- from start to end ---- */

void
tls_sessions_register(void)
{
    static const char *const rows[N_COUNTERS][2] = {
        {"tls_sessions_stored", "sessions of TLS 1.2 without tickets that were kept"},
        {"tls_sessions_resumed", "clients whose session was kept"},
        {"tls_sessions_missed", "clients that asked for a session that is not kept"},
        {"tls_sessions_evicted", "sessions that made place for others before they ended"},
    };
    int i;

    for (i = 0; i < N_COUNTERS; i++)
        counters[i] = sl_counter(rows[i][0], rows[i][1]);
}

static apr_status_t
sessions_free(void *unused)
{
    (void)unused;
    cache.sets = NULL;
    return APR_SUCCESS;
}

int
tls_sessions_open(apr_pool_t *pool, int64_t size)
{
    int is_fresh;

    if (size < 0)
        return 0;
    cache.n_sets = (unsigned)((size_t)size / sizeof *cache.sets);
    cache.sets = sl_zone("tls.sessions", ZONE_LAYOUT, cache.n_sets * sizeof *cache.sets, &is_fresh);
    apr_pool_cleanup_register(pool, NULL, sessions_free, apr_pool_cleanup_null);
    return cache.sets != NULL ? 0 : -1;
}

const char *
tls_sessions_check(struct sl_cmd *cmd, void **slot)
{
    int64_t size = *(int64_t *)(void *)slot;
    const char *word = sl_cmd_arg(cmd, 0);

    return (size >= SIZE_LEAST && size <= SIZE_MOST) || (word != NULL && strcmp(word, "off") == 0)
               ? NULL : "expected off or a size from 64k to 1g";
}
