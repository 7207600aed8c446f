/* RateLimitZone: zones by name, and where they lie in shared memory. */
#include "ratelimit.h"
#include "siphash.h"

#include <apr_strings.h>

#include <stdalign.h>

#define SIZE_LEAST (64 * 1024)
#define SIZE_MOST (INT64_C(1) << 36)
#define NAME_LENGTH 40 /* with what stands before it, the name of a zone of the core */
#define ROWS_MOST 4096

static struct zone *all;

struct zone *
zone_find(const char *name)
{
    struct zone *z;

    for (z = all; z != NULL && strcmp(z->name, name) != 0; z = z->next)
        ;
    return z;
}

const char *
zone_nearest(const char *name)
{
    const struct zone *z;
    const char *nearest = NULL;
    unsigned distance, least = 4;

    for (z = all; z != NULL; z = z->next)
        if ((distance = sl_name_distance(name, z->name)) < least) {
            least = distance;
            nearest = z->name;
        }
    return nearest;
}

static const struct sl_lint_rule unused_zone = {
    "unused-zone",
    "it counts nothing and limits nobody, whatever its rate",
    "write \"RateLimit\" and its name where it should hold, or take it away",
};

void
zones_lint(struct sl_worker *w)
{
    const struct zone *z;

    for (z = all; z != NULL; z = z->next)
        if (!z->is_used)
            sl_lint(w, &unused_zone, z->place, "no RateLimit line names the RateLimitZone %s", z->name);
}

/* ---- the line ---- */

struct zone_options {
    const char *key, *rate, *store;
    int64_t size, ipv4, ipv6, log_ms;
};
static const struct sl_option zone_options[] = {
    {"key", SL_SLOT_STRING, offsetof(struct zone_options, key), NULL, NULL,
     "what is counted"},
    {"rate", SL_SLOT_STRING, offsetof(struct zone_options, rate), NULL, NULL,
     "10r/s, 600r/m, 50r/h"},
    {"size", SL_SLOT_SIZE, offsetof(struct zone_options, size), "10m", NULL,
     "of its memory"},
    NETWORK_OPTIONS(struct zone_options),
    {"log", SL_SLOT_DURATION, offsetof(struct zone_options, log_ms), "60s", NULL,
     "a key is logged once in this time"},
    {"store", SL_SLOT_STRING, offsetof(struct zone_options, store), NULL, NULL,
     "where machines meet"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

static const char *
zone_name_check(struct sl_cmd *cmd, const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789._-";
    const struct zone *before;

    if (strchr(name, '=') != NULL)
        return "expected the name of the zone first";
    if (name[0] == '\0' || name[strspn(name, allowed)] != '\0' ||
        strlen(name) > NAME_LENGTH)
        return "the name of a zone may have 40 letters, digits, '.', '_' and '-'";
    before = zone_find(name);
    return before != NULL ? sl_cmd_error(cmd, "the zone %s is defined already at %s",
                                         name, before->place)
                          : NULL;
}

static const char *
zone_store(struct sl_cmd *cmd, struct zone *z, const char *text)
{
    const char *err = store_parse(sl_cmd_pool(cmd), text, &z->store_zone.address);

    if (err != NULL)
        return sl_cmd_error(cmd, "store: %s", err);
    if (redis_link == NULL) {
        sl_cmd_cure(cmd, "on Debian, apt-get install libhiredis-dev, and build it again");
        return "store: this server was built without hiredis";
    }
    z->store_text = text;
    z->store_zone.name = z->name;
    z->store_zone.table = &z->table;
    z->store_zone.rate = &z->rate;
    return NULL;
}

static const char *
zone_fill(struct sl_cmd *cmd, const struct zone_options *o, struct zone *z)
{
    const char *err;

    if (o->key == NULL || o->rate == NULL) {
        sl_cmd_cure(cmd, "for example: RateLimitZone %s key=%%{remote_addr} rate=10r/s",
                    z->name);
        return o->key == NULL ? "expected key=EXPR, what requests are counted by"
                              : "expected rate=, so many requests in a time";
    }
    if ((err = rate_parse(o->rate, &z->rate)) != NULL)
        return sl_cmd_error(cmd, "rate: %s, found \"%s\"", err, o->rate);
    if (o->size < SIZE_LEAST || o->size > SIZE_MOST)
        return "size: expected 64k to 64g";
    z->rate_text = o->rate;
    z->size = o->size;
    z->log_ms = o->log_ms;
    if (o->store != NULL && (err = zone_store(cmd, z, o->store)) != NULL)
        return err;
    return key_make(cmd, o->key, o->ipv4, o->ipv6, &z->key);
}

const char *
zone_parse(struct sl_cmd *cmd, void **item)
{
    struct zone_options o = {
        .size = 10 * 1024 * 1024, .ipv4 = 32, .ipv6 = 64, .log_ms = LOG_EVERY_MS};
    const char *name = sl_cmd_arg(cmd, 0), *err = zone_name_check(cmd, name);
    struct zone *z;

    if (err == NULL)
        err = sl_cmd_options(cmd, 1, zone_options, &o);
    if (err != NULL)
        return err;
    z = apr_pcalloc(sl_cmd_pool(cmd), sizeof *z);
    z->name = name;
    z->place = sl_cmd_place(cmd);
    if (all == NULL)
        forget_with(sl_cmd_pool(cmd), &all);
    z->next = all;
    all = z; /* also one with errors: lines that name it are not to blame */
    *item = z;
    return zone_fill(cmd, &o, z);
}

/* ---- shared memory ---- */

/*   | seed, 128 bytes | rows of offenders | buckets |   */
_Static_assert(sizeof(struct shared) <= alignof(struct offender),
               "the seed has a row's room");

uint32_t
shared_rows(size_t size)
{
    size_t n = size / 16 / sizeof(struct offender);

    return (uint32_t)(n > ROWS_MOST ? ROWS_MOST : n / OFFENDER_SET * OFFENDER_SET);
}

void
shared_open(struct shared *shared, int is_fresh, size_t size, uint64_t seed[2],
            struct offenders *offenders, struct table *table)
{
    size_t used;

    if (is_fresh)
        sl_random_bytes(shared->seed, sizeof shared->seed);
    memcpy(seed, shared->seed, sizeof shared->seed);
    offenders->n = shared_rows(size);
    offenders->rows = (struct offender *)((char *)shared + sizeof(struct offender));
    used = (offenders->n + 1) * sizeof(struct offender);
    if (table == NULL)
        return;
    table->buckets = (struct bucket *)((char *)shared + used);
    table->n_buckets = (uint32_t)((size - used) / sizeof(struct bucket));
}

/* With another rate the numbers in a zone mean other times, and with a store its keys have other
 * hashes: it is another layout. */
static unsigned
zone_layout(const struct zone *z)
{
    uint64_t mixed =
        ((uint64_t)z->rate.n << 32 | z->rate.period_ms) * UINT64_C(0x9e3779b97f4a7c15);

    return SHARED_LAYOUT << 24 | ((unsigned)(mixed >> 40) & ~1u) |
           (z->store_text != NULL);
}

/* Machines that share a store have to agree on the hashes; a password makes them secret. */
static void
zone_common_seed(struct zone *z)
{
    const char *secret =
        z->store_zone.address.password != NULL ? z->store_zone.address.password : "";

    z->seed[0] = z->seed[1] = 0;
    z->seed[0] = siphash(z->seed, z->name, strlen(z->name));
    z->seed[1] = siphash(z->seed, secret, strlen(secret));
    z->seed[0] = siphash(z->seed, secret, strlen(secret));
}

static int
zone_open(struct zone *z)
{
    char name[64];
    struct shared *shared;
    int is_fresh;

    apr_snprintf(name, sizeof name, "ratelimit:%s", z->name);
    shared = sl_zone(name, zone_layout(z), (size_t)z->size, &is_fresh);
    if (shared == NULL)
        return -1;
    shared_open(shared, is_fresh, (size_t)z->size, z->seed, &z->offenders, &z->table);
    if (z->store_text != NULL)
        zone_common_seed(z);
    return 0;
}

int
zones_open_stores(unsigned n_loops)
{
    struct zone *z;

    for (z = all; z != NULL; z = z->next)
        if (z->store_text != NULL &&
            (z->store = store_open(&z->store_zone, n_loops)) == NULL)
            return -1;
    return 0;
}

void
zones_close_stores(void)
{
    struct zone *z;

    for (z = all; z != NULL; z = z->next)
        store_close(&z->store);
}

int
zones_open_all(void)
{
    struct zone *z;

    for (z = all; z != NULL; z = z->next)
        if (zone_open(z) != 0)
            return -1;
    return 0;
}

uint64_t
zone_hash(const struct zone *z, struct sl_span key)
{
    return siphash(z->seed, key.at, key.n);
}
