/* A limit that several machines hold together, by way of a store all of them can reach.
 *
 * Requests are decided by this machine's zone, always and at once.  What was admitted is told to
 * the store by a thread of its own, every STORE_EVERY_MS; it answers with the debt of the key on
 * all machines, and the zone's is raised to that.  So a machine can admit what the others have
 * admitted since it asked last, and that is owed: on average the rate holds.  When the store is
 * slow or gone, what is left is the limit of this machine. */
#ifndef RATELIMIT_STORE_H
#define RATELIMIT_STORE_H

#include "sluice/module.h"

#include "gcra.h"
#include "table.h"

#define STORE_EVERY_MS 20
#define STORE_TIMEOUT_MS 250
#define STORE_AGAIN_MS 1000 /* after a failure */
/* Debts beyond a burst: what machines may have admitted at once. */
#define STORE_BEYOND 64

struct store_address {
    const char *url;             /* as it was written, without the password */
    const char *host, *password; /* password NULL: none */
    int port, db;
};

/* redis://[:PASSWORD@]HOST[:PORT][/DB].  NULL or a phrase. */
const char *store_parse(apr_pool_t *pool, const char *text,
                        struct store_address *address);

struct store;

/* What its thread needs to know of a zone; outlives it. */
struct store_zone {
    const char *name;
    const struct table *table;
    const struct rate *rate;
    struct store_address address;
};

/* Starts its thread.  NULL with a message in the log. */
struct store *store_open(const struct store_zone *zone, unsigned n_loops);
/* A request of the key was admitted: on a loop's thread; no lock, and a system call only when
 * the store's thread sleeps.  0: too many were, and this one is not told. */
int store_tell(struct store *store, unsigned loop, uint64_t hash);
void store_close(struct store **store);

/* ---- redis.c: the other end ---- */

#define KEYS_ROOM 1024u /* told in one go, up to a half of it; a power of two */
struct store_key {
    uint64_t hash;
    uint64_t ahead; /* ticks, from the store */
    uint32_t n;     /* requests; 0: free */
};
/* Both functions block for STORE_TIMEOUT_MS at most, name look-up aside. */
struct store_link {
    /* The connection, or NULL and `why`. */
    void *(*open)(const struct store_address *address, char *why, size_t n);
    /* Tells what was admitted and fills in what is owed now.  0, or -1 and `why`. */
    int (*sync)(void *link, const struct store_zone *zone,
                struct store_key keys[KEYS_ROOM], char *why, size_t n);
    void (*close)(void *link);
};
/* NULL where the server was built without hiredis. */
extern const struct store_link *const redis_link;

#endif
