/* How requests were answered, by the host they asked for, in a zone: numbers outlive reloads and
 * crashes.  A host gets a row by its first hit, so that made-up names, which have none, do not
 * fill the table; what has no row is in the last one. */
#include "cache.h"

#include <xxhash.h>

#define ZONE_LAYOUT 2
#define ROWS 1024
#define TRIES 16
#define NAME_MAX_BYTES 79 /* longer names are cut where they are printed */

struct host_row {
    _Atomic(uint64_t) hash; /* 0: free */
    _Atomic(uint32_t) n_name; /* 0: not written yet */
    char name[NAME_MAX_BYTES + 1];
    _Atomic(uint64_t) n[N_OF_HOST];
};

static struct host_row *rows; /* ROWS, and that of the others; NULL: not opened */

int
hosts_open(void)
{
    int is_fresh;

    rows = sl_zone("cache.hosts", ZONE_LAYOUT, (ROWS + 1) * sizeof *rows, &is_fresh);
    return rows != NULL ? 0 : -1;
}

static void
row_name(struct host_row *row, struct sl_span host)
{
    size_t n = host.n < NAME_MAX_BYTES ? host.n : NAME_MAX_BYTES;

    memcpy(row->name, host.at, n);
    atomic_store_explicit(&row->n_name, (uint32_t)n, memory_order_release);
}

struct host_row *
host_row(struct sl_span host, int is_hit)
{
    uint64_t hash;
    unsigned i;

    if (host.n == 0)
        return NULL;
    hash = XXH3_64bits(host.at, host.n) | 1;
    for (i = 0; i < TRIES; i++) {
        struct host_row *row = &rows[(hash + i) % ROWS];
        uint64_t is = atomic_load_explicit(&row->hash, memory_order_relaxed);

        if (is == 0 && !is_hit)
            break;
        if (is == 0 && atomic_compare_exchange_strong(&row->hash, &is, hash)) {
            row_name(row, host);
            return row;
        }
        if (is == hash)
            return row;
    }
    return &rows[ROWS];
}

void
visit_count(const struct visit *v, int which, int64_t by)
{
    sl_count(v->loop, cache_counters[which], by);
    if (v->host != NULL)
        atomic_fetch_add_explicit(&v->host->n[which], (uint64_t)by, memory_order_relaxed);
}

/* ---- what is told ---- */

static const char *const names[N_OF_HOST] = {"hits", "misses", "stale", "revalidated",
                                             "bypassed", "hit_bytes", "miss_bytes"};

static double
ratio(uint64_t hit, uint64_t missed)
{
    return hit + missed > 0 ? (double)hit / (double)(hit + missed) : 0;
}

double
hit_ratio(const uint64_t n[N_OF_HOST])
{
    return ratio(n[N_HIT] + n[N_STALE], n[N_MISS] + n[N_BYPASS]);
}

double
hit_bytes_ratio(const uint64_t n[N_OF_HOST])
{
    return ratio(n[N_HIT_BYTES], n[N_MISS_BYTES]);
}

static uint64_t
row_n(const struct host_row *row, int which)
{
    return atomic_load_explicit(&row->n[which], memory_order_relaxed);
}

static void
row_print(struct sl_control_call *call, const struct host_row *row, struct sl_span name)
{
    int i, is_json = sl_control_wants_json(call);
    char text[6 * NAME_MAX_BYTES + 17];
    uint64_t n[N_OF_HOST];

    for (i = 0; i < N_OF_HOST; i++)
        n[i] = row_n(row, i);
    if (is_json) {
        *sl_json_string(text, text + sizeof text - 1, name) = '\0';
        sl_control_print(call, "%s\n{\"host\": %s", row == rows + ROWS ? "" : ",", text);
    } else
        sl_control_print(call, "%-40.*s", (int)name.n, name.at);
    for (i = 0; i < N_OF_HOST; i++) {
        if (is_json)
            sl_control_print(call, ", \"%s\": %lu", names[i], (unsigned long)n[i]);
        else
            sl_control_print(call, " %*lu", i < N_HIT_BYTES ? 11 : 15, (unsigned long)n[i]);
    }
    sl_control_print(call, is_json ? ", \"hit_ratio\": %.4f, \"hit_bytes_ratio\": %.4f}"
                                   : " %9.4f %15.4f\n",
                     hit_ratio(n), hit_bytes_ratio(n));
}

void
hosts_print(struct sl_control_call *call)
{
    int is_json = sl_control_wants_json(call);
    unsigned i, n;

    sl_control_print(call, is_json ? "[" : "host                                            hits"
                                           "      misses       stale revalidated    bypassed"
                                           "       hit_bytes      miss_bytes hit_ratio hit_bytes_ratio\n");
    row_print(call, &rows[ROWS], SL_SPAN("(others)"));
    for (i = 0; i < ROWS; i++)
        if ((n = atomic_load_explicit(&rows[i].n_name, memory_order_acquire)) > 0)
            row_print(call, &rows[i], (struct sl_span){rows[i].name, n});
    if (is_json)
        sl_control_print(call, "]\n");
}

/* ---- the gauges ---- */

static void
row_say(struct sl_gauge_sink *to, const struct host_row *row, const char *host, int first,
        int last)
{
    int i;

    for (i = first; i <= last; i++) {
        struct sl_label labels[] = {{"host", host}, {"of", names[i]}, {NULL, NULL}};

        sl_gauge_say(to, (int64_t)row_n(row, i), labels);
    }
}

static void
rows_say(struct sl_gauge_sink *to, int first, int last)
{
    char host[NAME_MAX_BYTES + 1];
    unsigned i, n;

    if (rows == NULL) /* no CacheDisk line is in use */
        return;
    row_say(to, &rows[ROWS], "(others)", first, last);
    for (i = 0; i < ROWS; i++)
        if ((n = atomic_load_explicit(&rows[i].n_name, memory_order_acquire)) > 0) {
            memcpy(host, rows[i].name, n);
            host[n] = '\0';
            row_say(to, &rows[i], host, first, last);
        }
}

void
hosts_say_requests(struct sl_gauge_sink *to)
{
    rows_say(to, N_HIT, N_BYPASS);
}

void
hosts_say_bytes(struct sl_gauge_sink *to)
{
    rows_say(to, N_HIT_BYTES, N_MISS_BYTES);
}
