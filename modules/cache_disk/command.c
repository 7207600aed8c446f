/* sluice ctl cache ... */
#include "cache.h"

#include <apr_strings.h>

/* ---- what there is ---- */

static void
number(struct sl_control_call *call, const char *name, uint64_t n)
{
    sl_control_print(call, sl_control_wants_json(call) ? "\"%s\": %lu,\n" : "%-24s %lu\n", name,
                     (unsigned long)n);
}

static void
ratio(struct sl_control_call *call, const char *name, double part)
{
    sl_control_print(call, sl_control_wants_json(call) ? "\"%s\": %.4f,\n" : "%-24s %.4f\n",
                     name, part);
}

static void
ratios(struct sl_control_call *call)
{
    uint64_t n[N_OF_HOST];
    int i;

    for (i = 0; i < N_OF_HOST; i++)
        n[i] = (uint64_t)sl_counter_sum(cache_counters[i]);
    ratio(call, "hit_ratio", hit_ratio(n));
    ratio(call, "hit_bytes_ratio", hit_bytes_ratio(n));
}

static void
stats_run(struct sl_control_call *call)
{
    static const char *const names[N_COUNTERS] = {
        "hits", "misses", "stale", "revalidated", "bypassed", "hit_bytes", "miss_bytes",
        "stored", "not_storable", "encoded"};
    struct store_stats s;
    int i, is_json = sl_control_wants_json(call);

    store_stats(cache_store, &s);
    if (is_json)
        sl_control_print(call, "{");
    for (i = 0; i < N_COUNTERS; i++)
        number(call, names[i], (uint64_t)sl_counter_sum(cache_counters[i]));
    ratios(call);
    number(call, "disk_objects", s.disk_objects);
    number(call, "disk_bytes", s.disk_bytes);
    number(call, "disk_size", s.disk_size);
    number(call, "index_bytes", s.index_bytes);
    number(call, "memory_objects", s.memory_objects);
    number(call, "memory_bytes", s.memory_bytes);
    number(call, "memory_size", s.memory_size);
    number(call, "evicted", s.n_evicted);
    number(call, "unwritten", s.n_unwritten);
    number(call, "disk_errors", s.n_disk_errors);
    number(call, "disk_damaged", s.n_bad_records);
    sl_control_print(call, is_json ? "\"disk\": \"%s\"}\n" : "disk                     %s\n",
                     s.disk);
    sl_control_end(&call, 0);
}

/* ---- the gauges ---- */

static void
say_tiers(struct sl_gauge_sink *to, uint64_t disk, uint64_t memory)
{
    struct sl_label on_disk[] = {{"tier", "disk"}, {NULL, NULL}};
    struct sl_label in_memory[] = {{"tier", "memory"}, {NULL, NULL}};

    sl_gauge_say(to, (int64_t)disk, on_disk);
    sl_gauge_say(to, (int64_t)memory, in_memory);
}

/* 0: there is no store. */
static int
stats_take(struct store_stats *s)
{
    if (cache_store != NULL)
        store_stats(cache_store, s);
    return cache_store != NULL;
}

static void
objects_read(struct sl_gauge_sink *to)
{
    struct store_stats s;

    if (stats_take(&s))
        say_tiers(to, s.disk_objects, s.memory_objects);
}

static void
bytes_read(struct sl_gauge_sink *to)
{
    struct store_stats s;

    if (stats_take(&s))
        say_tiers(to, s.disk_bytes, s.memory_bytes);
}

static void
sizes_read(struct sl_gauge_sink *to)
{
    struct store_stats s;

    if (stats_take(&s))
        say_tiers(to, s.disk_size, s.memory_size);
}

static void
evicted_read(struct sl_gauge_sink *to)
{
    struct store_stats s;

    if (stats_take(&s))
        say_tiers(to, s.n_evicted, s.n_memory_evicted);
}

static void
errors_read(struct sl_gauge_sink *to)
{
    struct store_stats s;

    if (stats_take(&s))
        sl_gauge_say(to, (int64_t)s.n_disk_errors, NULL);
}

static void
damaged_read(struct sl_gauge_sink *to)
{
    struct store_stats s;

    if (stats_take(&s))
        sl_gauge_say(to, (int64_t)s.n_bad_records, NULL);
}

static void
in_use_read(struct sl_gauge_sink *to)
{
    struct store_stats s;

    if (stats_take(&s))
        sl_gauge_say(to, strcmp(s.disk, "in use") == 0, NULL);
}

int
cache_gauges_register(void)
{
    static const struct {
        const char *name;
        struct sl_gauge gauge;
    } gauges[] = {
        {"cache_objects", {"responses that are kept", objects_read}},
        {"cache_bytes", {"bytes that they take", bytes_read}},
        {"cache_size_bytes", {"bytes that they may take", sizes_read}},
        {"cache_evicted", {"responses that made room for others since the start", evicted_read}},
        {"cache_disk_errors", {"errors of the disk since the start", errors_read}},
        {"cache_disk_damaged", {"reads that did not find what was written", damaged_read}},
        {"cache_host_requests", {"requests of hosts since the first start", hosts_say_requests}},
        {"cache_host_bytes", {"bytes that hosts were given since the first start", hosts_say_bytes}},
        {"cache_disk_in_use", {"1: responses are kept on disk, 0: in memory alone", in_use_read}},
    };
    unsigned i;

    for (i = 0; i < sizeof gauges / sizeof gauges[0]; i++)
        if (sl_provider_register("gauge", gauges[i].name, &gauges[i].gauge) != 0)
            return -1;
    return 0;
}

/* ---- what is asked for most ---- */

const char *
command_json(struct sl_control_call *call, struct sl_span text)
{
    size_t room = 6 * text.n + 16;
    char *to = apr_palloc(sl_control_pool(call), room + 1);

    *sl_json_string(to, to + room, text) = '\0';
    return to;
}

static int
is_control(struct sl_span text, size_t i)
{
    unsigned char c = (unsigned char)text.at[i];

    return c < ' ' || c == 0x7f || (c >= 0x80 && c < 0xa0 && (i == 0 || text.at[i - 1] == '\xc2' ||
                                                              (unsigned char)text.at[i - 1] < 0x80));
}

struct sl_span
command_text(struct sl_control_call *call, struct sl_span text)
{
    char *to = sl_span_dup(sl_control_pool(call), text);
    size_t i;

    for (i = 0; i < text.n; i++)
        if (is_control(text, i))
            to[i] = '?';
    return (struct sl_span){to, text.n};
}

void
command_failed(struct sl_control_call *call)
{
    sl_control_print(call, "the server ends\n");
    sl_control_end(&call, 1);
}

static void
top_print(struct sl_control_call *call, const struct store_object *o, int is_first)
{
    const char *text = sl_span_dup(sl_control_pool(call), o->key);
    const char *coding = o->flags & FORM ? strrchr(text, '=') + 1 : NULL;
    struct sl_span key = {text, strcspn(text, "\n")}, shown = command_text(call, key);
    int is_complete;
    long size = (long)store_size(o, &is_complete);

    if (sl_control_wants_json(call))
        sl_control_print(call, "%s\n{\"key\": %s, %s%s%s\"hits\": %u, \"size\": %ld}",
                         is_first ? "" : ",", command_json(call, key),
                         coding != NULL ? "\"coding\": \"" : "", coding != NULL ? coding : "",
                         coding != NULL ? "\", " : "", store_hits(o), size);
    else
        sl_control_print(call, "%8u %10ld %.*s%s%s%s\n", store_hits(o), size, (int)shown.n, shown.at,
                         coding != NULL ? " (" : "", coding != NULL ? coding : "",
                         coding != NULL ? ")" : "");
}

struct topping {
    struct store_top top;
    struct sl_control_call *call;
};

static void
top_seen(struct sl_loop *loop, struct store_top *top)
{
    struct topping *t = (struct topping *)(void *)top;
    struct sl_control_call *call = t->call;
    unsigned i;

    (void)loop;
    if (sl_control_wants_json(call))
        sl_control_print(call, "[");
    for (i = 0; i < top->n; i++)
        top_print(call, top->objects[i], i == 0);
    if (sl_control_wants_json(call))
        sl_control_print(call, "]\n");
    sl_control_end(&call, 0);
}

static void
top_run(struct sl_control_call *call)
{
    struct topping *t = apr_pcalloc(sl_control_pool(call), sizeof *t);

    t->call = call;
    t->top.done = top_seen;
    if (store_top(cache_store, sl_loop_self(), &t->top) != 0)
        command_failed(call);
}

static void
cache_run(struct sl_control_call *call, int argc, const char *const *argv)
{
    const char *what = argc > 0 ? argv[0] : "";

    if (cache_store == NULL) {
        sl_control_print(call, "no CacheDisk line is in use\n");
        sl_control_end(&call, 1);
    } else if (strcmp(what, "stats") == 0 && argc == 1)
        stats_run(call);
    else if (strcmp(what, "hosts") == 0 && argc == 1) {
        hosts_print(call);
        sl_control_end(&call, 0);
    } else if (strcmp(what, "get") == 0 && argc >= 2)
        cache_get_run(call, argv[1], argc - 2, argv + 2);
    else if (strcmp(what, "top") == 0 && argc == 1)
        top_run(call);
    else if (strcmp(what, "purge") == 0)
        cache_purge_run(call, argc - 1, argv + 1);
    else {
        sl_control_print(call, "expected stats, hosts, top, get URL [-H 'FIELD: VALUE'] or purge\n");
        sl_control_end(&call, 2);
    }
}

const struct sl_control_command cache_command = {
    "stats | hosts | top | get URL [-H 'FIELD: VALUE'] | purge all|url URL|prefix URL|host NAME|tag NAME [soft]",
    "what the cache holds, and how it is made to forget",
    cache_run,
};
