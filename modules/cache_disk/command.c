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
ratio(struct sl_control_call *call, const char *name, int64_t hit, int64_t missed)
{
    sl_control_print(call, sl_control_wants_json(call) ? "\"%s\": %.4f,\n" : "%-24s %.4f\n",
                     name, hit_ratio((uint64_t)hit, (uint64_t)missed));
}

static void
ratios(struct sl_control_call *call)
{
    int64_t n[N_COUNTERS];
    int i;

    for (i = 0; i < N_COUNTERS; i++)
        n[i] = sl_counter_sum(cache_counters[i]);
    ratio(call, "hit_ratio", n[N_HIT] + n[N_STALE], n[N_MISS] + n[N_BYPASS]);
    ratio(call, "hit_bytes_ratio", n[N_HIT_BYTES], n[N_MISS_BYTES]);
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

/* ---- one URL ---- */

struct getting {
    struct store_get get;
    struct sl_control_call *call;
    struct sl_fields *fields;  /* of the request that is asked about */
    uint64_t era;              /* of the marker that led to it */
    struct store_object *base; /* held, while its forms are looked for */
    unsigned i, n_forms;       /* of the encoders; printed */
};

/* As store_get(), without being a hit where it is in memory: who looks changes nothing. */
static enum store_answer
getting_look(struct getting *d, struct sl_loop *loop, struct store_object **o)
{
    enum store_answer answer = store_peek(cache_store, d->get.key, o);

    d->get.hash = store_hash(cache_store, d->get.key);
    return answer == STORE_WAIT ? store_get(cache_store, loop, &d->get, o) : answer;
}

static const char *
json_of(struct sl_control_call *call, struct sl_span text)
{
    size_t room = 6 * text.n + 16;
    char *to = apr_palloc(sl_control_pool(call), room + 1);

    *sl_json_string(to, to + room, text) = '\0';
    return to;
}

static void
say_text(struct sl_control_call *call, const char *name, struct sl_span text)
{
    if (sl_control_wants_json(call))
        sl_control_print(call, "\"%s\": %s, ", name, json_of(call, text));
    else
        sl_control_print(call, "%-9s %.*s\n", name, (int)text.n, text.at);
}

static void
say_number(struct sl_control_call *call, const char *name, int64_t n, const char *unit)
{
    if (sl_control_wants_json(call))
        sl_control_print(call, "\"%s\": %ld, ", name, (long)n);
    else
        sl_control_print(call, "%-9s %ld%s\n", name, (long)n, unit);
}

static void
get_print_tags(struct sl_control_call *call, const struct meta *m)
{
    const char *sum = "";
    struct sl_field x;
    unsigned i;

    for (i = 0; meta_field(m, i, &x); i++)
        if (is_tag_field(&x))
            sum = apr_pstrcat(sl_control_pool(call), sum, *sum != '\0' ? " " : "",
                              sl_span_dup(sl_control_pool(call), x.value), NULL);
    if (*sum != '\0')
        say_text(call, "tags", sl_span(sum));
}

static void
get_print(struct sl_control_call *call, const struct store_object *o)
{
    static const char *const states[] = {"good", "purged softly", "purged"};
    struct meta m;
    int is_complete;
    int64_t now = apr_time_sec(apr_time_now());

    if (meta_read(o->meta, &m) != 0)
        return;
    say_number(call, "status", m.status, "");
    say_number(call, "size", m.whole > 0 ? m.whole : store_size(o, &is_complete), "");
    if (m.whole > 0)
        say_number(call, "slice", m.slice, "");
    say_number(call, "age", now - m.storing.born, " s");
    say_number(call, "fresh", m.storing.born + m.storing.lifetime - now, " s more");
    say_text(call, "state", sl_span(states[store_state(cache_store, o)]));
    say_number(call, "hits", store_hits(o), "");
    say_text(call, "memory", store_body(o).at != NULL ? SL_SPAN("yes") : SL_SPAN("no"));
    get_print_tags(call, &m);
}

static void
get_print_none(struct sl_control_call *call, struct sl_span key)
{
    const char *why = why_unstorable(key);

    if (sl_control_wants_json(call))
        say_text(call, "key", key);
    else
        sl_control_print(call, "nothing is stored under %.*s\n", (int)key.n, key.at);
    if (why != NULL)
        say_text(call, "because", sl_span(why));
}

static void
get_ended(struct getting *d, int is_there)
{
    if (sl_control_wants_json(d->call))
        sl_control_print(d->call, "\"stored\": %s}\n", is_there ? "true" : "false");
    sl_control_end(&d->call, is_there ? 0 : 1);
}

static void
form_print(struct getting *d, const struct store_object *o)
{
    const char *coding = sl_provider_name("encoder", d->i - 1);
    struct form form;
    struct meta base;
    int is_complete;
    long size = (long)store_size(o, &is_complete);

    if (meta_read(d->base->meta, &base) != 0 || form_read(o->meta, &form) != 0 ||
        form.body != base.body)
        return;
    if (sl_control_wants_json(d->call))
        sl_control_print(d->call,
                         "%s{\"coding\": \"%s\", \"level\": %d, \"size\": %ld, \"hits\": %u}",
                         d->n_forms == 0 ? "\"forms\": [" : ", ", coding, form.level, size,
                         store_hits(o));
    else
        sl_control_print(d->call, "form      %s, level %d, size %ld, hits %u\n", coding, form.level,
                         size, store_hits(o));
    d->n_forms++;
}

static void
forms_ended(struct getting *d)
{
    if (d->n_forms > 0 && sl_control_wants_json(d->call))
        sl_control_print(d->call, "], ");
    store_drop(&d->base);
    get_ended(d, 1);
}

/* The next of its forms, one a known coding, until the store has to be waited for. */
static void
forms_print(struct sl_loop *loop, struct store_get *get, struct store_object *o)
{
    struct getting *d = (struct getting *)(void *)get;
    enum store_answer answer = STORE_MISS;
    const char *coding;

    while (answer != STORE_WAIT) {
        if (o != NULL) {
            form_print(d, o);
            store_drop(&o);
        }
        if ((coding = sl_provider_name("encoder", d->i++)) == NULL) {
            forms_ended(d);
            return;
        }
        d->get = (struct store_get){
            .key = form_key(sl_control_pool(d->call), d->base->key, coding), .done = forms_print};
        answer = getting_look(d, loop, &o);
    }
}

static void
object_print(struct getting *d, struct sl_loop *loop, struct store_object *o)
{
    get_print(d->call, o);
    d->base = o;
    forms_print(loop, &d->get, NULL);
}

static void
variant_found(struct sl_loop *loop, struct store_get *get, struct store_object *o)
{
    struct getting *d = (struct getting *)(void *)get;
    struct meta m;

    if (o != NULL && meta_read(o->meta, &m) == 0 && m.era == d->era) {
        object_print(d, loop, o);
        return;
    }
    if (o != NULL)
        store_drop(&o);
    if (!sl_control_wants_json(d->call))
        sl_control_print(d->call, "none is stored for these fields\n");
    get_ended(d, 0);
}

/* The key has variants: that of a request with the fields. */
static void
variant_get(struct getting *d, struct sl_loop *loop, struct store_object *marked,
            const struct marker *marker)
{
    apr_pool_t *pool = sl_control_pool(d->call);
    struct store_object *o = NULL;

    say_text(d->call, "variants",
             sl_spans_join(pool, (struct sl_span[]){SL_SPAN("by "), marker->vary}, 2));
    d->era = marker->era;
    d->get = (struct store_get){.key = variant_key_of(pool, d->fields, marked->key, marker->vary),
                                .done = variant_found};
    store_drop(&marked);
    if (getting_look(d, loop, &o) != STORE_WAIT)
        variant_found(loop, &d->get, o);
}

static void
get_found(struct sl_loop *loop, struct store_get *get, struct store_object *o)
{
    struct getting *d = (struct getting *)(void *)get;
    struct marker marker;

    if (sl_control_wants_json(d->call))
        sl_control_print(d->call, "{");
    if (o == NULL) {
        get_print_none(d->call, get->key);
        get_ended(d, 0);
        return;
    }
    say_text(d->call, "key", o->key);
    if ((o->flags & VARY_MARKER) && marker_read(o->meta, &marker) == 0)
        variant_get(d, loop, o, &marker);
    else
        object_print(d, loop, o);
}

/* -H 'FIELD: VALUE' for each: 0, or -1. */
static int
fields_of_words(struct sl_fields *fields, int argc, const char *const *argv)
{
    struct sl_span name, value;
    const char *colon;

    for (; argc > 0; argc -= 2, argv += 2) {
        if (argc < 2 || strcmp(argv[0], "-H") != 0 || (colon = strchr(argv[1], ':')) == NULL)
            return -1;
        name = (struct sl_span){argv[1], (size_t)(colon - argv[1])};
        value = sl_span(colon + 1 + strspn(colon + 1, " "));
        if (sl_fields_receive(fields, name, value) != 0)
            return -1;
    }
    return 0;
}

static void
get_run(struct sl_control_call *call, const char *url, int argc, const char *const *argv)
{
    struct getting *d = apr_pcalloc(sl_control_pool(call), sizeof *d);
    struct store_object *o = NULL;
    const char *err = cache_url_error(sl_control_pool(call), url);

    d->fields = sl_fields_make(sl_control_pool(call));
    if (err == NULL && fields_of_words(d->fields, argc, argv) != 0)
        err = "expected get URL [-H 'FIELD: VALUE']...\n";
    if (err != NULL) {
        sl_control_print(call, "%s", err);
        sl_control_end(&call, 2);
        return;
    }
    d->call = call;
    d->get.key = cache_key_of_url(sl_control_pool(call), sl_span(url));
    d->get.done = get_found;
    if (getting_look(d, sl_loop_self(), &o) != STORE_WAIT)
        get_found(sl_loop_self(), &d->get, o);
}

static void
top_print(struct sl_control_call *call, const struct store_object *o, int is_first)
{
    const char *text = sl_span_dup(sl_control_pool(call), o->key);
    const char *coding = o->flags & FORM ? strrchr(text, '=') + 1 : NULL;
    struct sl_span key = {text, strcspn(text, "\n")};
    int is_complete;
    long size = (long)store_size(o, &is_complete);

    if (sl_control_wants_json(call))
        sl_control_print(call, "%s\n{\"key\": %s, %s%s%s\"hits\": %u, \"size\": %ld}",
                         is_first ? "" : ",", json_of(call, key),
                         coding != NULL ? "\"coding\": \"" : "", coding != NULL ? coding : "",
                         coding != NULL ? "\", " : "", store_hits(o), size);
    else
        sl_control_print(call, "%8u %10ld %.*s%s%s%s\n", store_hits(o), size, (int)key.n, key.at,
                         coding != NULL ? " (" : "", coding != NULL ? coding : "",
                         coding != NULL ? ")" : "");
}

static void
top_run(struct sl_control_call *call)
{
    struct store_object *objects[20];
    unsigned i, n = store_top(cache_store, objects, sizeof objects / sizeof objects[0]);

    if (sl_control_wants_json(call))
        sl_control_print(call, "[");
    for (i = 0; i < n; i++) {
        top_print(call, objects[i], i == 0);
        store_drop(&objects[i]);
    }
    if (sl_control_wants_json(call))
        sl_control_print(call, "]\n");
    sl_control_end(&call, 0);
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
        get_run(call, argv[1], argc - 2, argv + 2);
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
