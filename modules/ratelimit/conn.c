/* ConnLimit: how many requests of a key are under way at once.
 *
 * They are counted in the slot of this process (counts.h), which the master clears when the process
 * has died: a count cannot leak.  What other generations count is added.
 *
 * Lines with the same name (the text of the key where none is given) share their counts, and a
 * request counts once in each name. */
#include "counts.h"
#include "ratelimit.h"
#include "siphash.h"

#include <apr_strings.h>

#include <inttypes.h>

#define COUNTS_SIZE (1024 * 1024) /* a process: 131,072 keys under way at once */
#define N_BUCKETS (COUNTS_SIZE / sizeof(struct bucket))
#define SHARED_SIZE (256 * 1024) /* for offenders */
#define LIMIT_MOST 1000000

struct conn_zone {
    struct conn_zone *next;
    const char *name;
    struct key key;
    const char *place;
    const struct sl_slots *slots; /* NULL: not open: dry runs */
    uint64_t seed[2];
    struct offenders offenders;
};

struct conn_limit {
    struct common common;
    const char *name, *key_text;
    int64_t ipv4, ipv6;
    int64_t most;
    struct conn_zone *zone;
};

const struct sl_cause cause_conn_limited = {"RATELIMIT0010", "conn_limited", 429,
                                            "too many requests at once"};

static struct conn_zone *all;
static int count_refused, count_shadowed, count_uncounted;

static const struct sl_option conn_options[] = {
    COMMON_OPTIONS(struct conn_limit, common, "429"),
    {"key", SL_SLOT_STRING, offsetof(struct conn_limit, key_text), "%{remote_addr}", NULL,
     "what is counted"},
    {"name", SL_SLOT_STRING, offsetof(struct conn_limit, name), NULL, NULL,
     "lines of one count"},
    NETWORK_OPTIONS(struct conn_limit),
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

static struct conn_zone *
conn_find(const char *name)
{
    struct conn_zone *z;

    for (z = all; z != NULL && strcmp(z->name, name) != 0; z = z->next)
        ;
    return z;
}

static const char *
conn_zone_of(struct sl_cmd *cmd, struct conn_limit *l)
{
    struct conn_zone *z = l->zone = conn_find(l->name);
    const char *err;

    if (z != NULL && strcmp(z->key.source, l->key_text) == 0 && z->key.ipv4 == l->ipv4 &&
        z->key.ipv6 == l->ipv6)
        return NULL;
    if (z != NULL)
        return sl_cmd_error(
            cmd,
            "\"%s\" counts by another key or network at %s; name= gives this "
            "line a count of its own",
            l->name, z->place);
    l->zone = z = apr_pcalloc(sl_cmd_pool(cmd), sizeof *z);
    z->name = l->name;
    z->place = sl_cmd_place(cmd);
    if ((err = key_make(cmd, l->key_text, l->ipv4, l->ipv6, &z->key)) != NULL)
        return err;
    if (all == NULL)
        forget_with(sl_cmd_pool(cmd), &all);
    z->next = all;
    all = z;
    return NULL;
}

const char *
conn_parse(struct sl_cmd *cmd, void **item)
{
    struct conn_limit *l = apr_pcalloc(sl_cmd_pool(cmd), sizeof *l);
    const char *most = sl_cmd_arg(cmd, 0), *err;

    if (sl_parse_slot(sl_cmd_pool(cmd), SL_SLOT_NUMBER, most, &l->most) != NULL ||
        l->most < 1 || l->most > LIMIT_MOST)
        return "expected a number of requests first, 1 to 1000000";
    l->common.status = cause_conn_limited.status;
    l->key_text = "%{remote_addr}";
    l->ipv4 = 32;
    l->ipv6 = 64;
    if ((err = sl_cmd_options(cmd, 1, conn_options, l)) != NULL ||
        (err = common_check(cmd, &l->common)) != NULL)
        return err;
    if (l->name == NULL)
        l->name = l->key_text;
    *item = l;
    return conn_zone_of(cmd, l);
}

int
conn_init(void)
{
    count_refused = sl_counter("connlimit_refused", "requests refused by a ConnLimit");
    count_shadowed = sl_counter("connlimit_shadowed",
                                "requests a ConnLimit with shadow would have refused");
    count_uncounted = sl_counter("connlimit_uncounted",
                                 "requests a ConnLimit let pass for lack of memory");
    return count_refused < 0 || count_shadowed < 0 || count_uncounted < 0 ? -1 : 0;
}

static int
conn_open(struct conn_zone *z)
{
    static const uint64_t no_seed[2];
    char name[64];
    int is_fresh;

    apr_snprintf(name, sizeof name, "connlimit:%016" PRIx64,
                 siphash(no_seed, z->name, strlen(z->name)));
    z->slots = sl_zone_slots(name, SHARED_LAYOUT, SHARED_SIZE, COUNTS_SIZE, &is_fresh);
    if (z->slots == NULL)
        return -1;
    shared_open(z->slots->shared, is_fresh, SHARED_SIZE, z->seed, &z->offenders, NULL);
    return 0;
}

int
conns_open_all(void)
{
    struct conn_zone *z;

    for (z = all; z != NULL; z = z->next)
        if (conn_open(z) != 0)
            return -1;
    return 0;
}

/* ---- counting ---- */

static struct bucket *
bucket_of(const struct conn_zone *z, unsigned place, uint64_t hash)
{
    return (struct bucket *)sl_slot(z->slots, place) + hash % N_BUCKETS;
}

static int64_t
count_elsewhere(const struct conn_zone *z, uint64_t hash)
{
    uint64_t others = sl_places_others();
    int64_t n = 0;

    for (; others != 0; others &= others - 1)
        n += counts_of(bucket_of(z, (unsigned)__builtin_ctzll(others), hash), hash);
    return n;
}

static apr_status_t
count_down(void *at)
{
    counts_down(at);
    return APR_SUCCESS;
}

int
conn_watched(const char *name, struct watched *w)
{
    const struct conn_zone *z = conn_find(name);

    if (z == NULL)
        return 0;
    *w = (struct watched){z->name, &z->key, z->seed, &z->offenders, NULL};
    return 1;
}

int64_t
conn_count(const char *name, uint64_t hash)
{
    const struct conn_zone *z = conn_find(name);

    return counts_of(bucket_of(z, z->slots->mine, hash), hash) + count_elsewhere(z, hash);
}

/* ---- one request ---- */

static void
conn_say_over(struct sl_req *r, const struct conn_limit *l, uint64_t hash)
{
    const struct conn_zone *z = l->zone;
    struct sl_span key = key_text(&z->key, r);
    int64_t n_over;

    if (offenders_note(&z->offenders, hash, key, sl_loop_now(sl_req_loop(r)),
                       LOG_EVERY_MS, &n_over))
        sl_req_log(r, SL_NOTICE, "RATELIMIT0011",
                   "ConnLimit %s: key \"%.*s\" has more than %" PRId64
                   " requests under way: %s; %" PRId64 " so far",
                   z->name, (int)key.n, key.at, l->most,
                   l->common.shadow ? "would be refused without shadow" : "refused",
                   n_over);
}

/* What the request holds already of the names it met. */
struct hold {
    const struct conn_zone *zone;
    uint64_t hash;
    int64_t n;
};
#define HOLDS_MAX 8

/* The count with this request.  0: it has no key, or is not counted. */
static int64_t
conn_hold(struct sl_req *r, const struct conn_zone *z, struct hold *holds, int *n_holds,
          uint64_t *hash)
{
    char room[KEY_ROOM];
    struct sl_span key;
    _Atomic(uint64_t) *at;
    int64_t n;
    int i;

    for (i = 0; i < *n_holds; i++)
        if (holds[i].zone == z) {
            *hash = holds[i].hash;
            return holds[i].n;
        }
    key = key_bytes(&z->key, r, room);
    if (key.n == 0)
        return 0;
    *hash = siphash(z->seed, key.at, key.n);
    at = counts_up(bucket_of(z, z->slots->mine, *hash), *hash, &n);
    if (at == NULL) {
        sl_count(sl_req_loop(r), count_uncounted, 1);
        return 0;
    }
    apr_pool_cleanup_register(sl_req_pool(r), (void *)at, count_down,
                              apr_pool_cleanup_null);
    n += count_elsewhere(z, *hash);
    if (*n_holds < HOLDS_MAX)
        holds[(*n_holds)++] = (struct hold){z, *hash, n};
    return n;
}

enum sl_verdict
conn_access(struct sl_req *r, const apr_array_header_t *conns)
{
    struct hold holds[HOLDS_MAX];
    uint64_t hash = 0;
    int i, n_holds = 0, applies;

    for (i = 0; i < conns->nelts; i++) {
        const struct conn_limit *l = APR_ARRAY_IDX(conns, i, const struct conn_limit *);

        applies = common_holds(&l->common, r);
        if (applies < 0)
            return SL_FAIL;
        if (applies && l->zone->slots == NULL)
            sl_note(r, "%s: ConnLimit %" PRId64 " holds; not counted here",
                    l->common.place, l->most);
        if (!applies || l->zone->slots == NULL ||
            conn_hold(r, l->zone, holds, &n_holds, &hash) <= l->most)
            continue;
        conn_say_over(r, l, hash);
        sl_count(sl_req_loop(r), l->common.shadow ? count_shadowed : count_refused, 1);
        if (!l->common.shadow)
            return sl_req_refuse(r, (int)l->common.status, &cause_conn_limited);
    }
    return SL_NEXT;
}
