/* sluice ctl cache ..., the method PURGE, and what unsafe methods make invalid. */
#include "cache.h"

#include <apr_lib.h>
#include <apr_strings.h>

/* ---- purging ---- */

struct purging {
    struct store_purge purge;
    struct sl_control_call *call;
};

static void
purge_done(struct sl_loop *loop, struct store_purge *p, int is_kept)
{
    struct purging *d = (struct purging *)(void *)p;

    (void)loop;
    sl_control_print(d->call, "purged%s\n",
                     is_kept ? "" : " (not on disk yet: a crash would bring it back)");
    sl_control_end(&d->call, 0);
}

static struct sl_span
prefixed(apr_pool_t *pool, const char *prefix, struct sl_span text)
{
    return sl_spans_join(pool, (struct sl_span[]){sl_span(prefix), text}, 2);
}

/* As hosts of requests are. */
static struct sl_span
in_lower_case(apr_pool_t *pool, struct sl_span text)
{
    char *low = sl_span_dup(pool, text);
    size_t i;

    for (i = 0; i < text.n; i++)
        low[i] = (char)apr_tolower(low[i]);
    return (struct sl_span){low, text.n};
}

static struct sl_span
host_of_url(apr_pool_t *pool, struct sl_span url)
{
    const char *text = sl_span_dup(pool, url), *host = strstr(text, "://");
    size_t n;

    if (host == NULL)
        return SL_SPAN("");
    host += 3;
    n = *host == '[' ? strcspn(host, "]/") : strcspn(host, ":/");
    n += host[n] == ']';
    return prefixed(pool, "host:", (struct sl_span){host, n});
}

/* 0, or -1: the words are wrong. */
static int
purge_words(struct purging *d, int argc, const char *const *argv)
{
    apr_pool_t *pool = sl_control_pool(d->call);
    struct store_purge *p = &d->purge;
    const char *what = argc > 0 ? argv[0] : "";
    struct sl_span text = sl_span(argc > 1 ? argv[1] : "");

    p->is_soft = argc > 1 && strcmp(argv[argc - 1], "soft") == 0;
    if (strcmp(what, "all") == 0) {
        p->what = STORE_PURGE_ALL;
        return argc - p->is_soft == 1 ? 0 : -1;
    }
    if (argc - p->is_soft != 2 || text.n == 0)
        return -1;
    p->what = STORE_PURGE_TAG;
    if (strcmp(what, "tag") == 0)
        p->text = text;
    else if (strcmp(what, "host") == 0)
        p->text = prefixed(pool, "host:", in_lower_case(pool, text));
    else if (strcmp(what, "url") == 0)
        p->text = prefixed(pool, "key:", cache_key_of_url(pool, text));
    else if (strcmp(what, "prefix") == 0) {
        p->what = STORE_PURGE_PREFIX;
        p->text = cache_key_of_url(pool, text);
        p->host = host_of_url(pool, p->text);
    } else
        return -1;
    return 0;
}

static void
purge_run(struct sl_control_call *call, int argc, const char *const *argv)
{
    struct purging *d = apr_pcalloc(sl_control_pool(call), sizeof *d);

    d->call = call;
    d->purge.done = purge_done;
    if (purge_words(d, argc, argv) != 0) {
        sl_control_print(call, "expected purge all, or url, prefix, host or tag and a text; "
                               "soft behind it marks stale\n");
        sl_control_end(&call, 2);
        return;
    }
    store_purge(cache_store, sl_loop_self(), &d->purge);
}

/* ---- what there is ---- */

static void
number(struct sl_control_call *call, const char *name, uint64_t n)
{
    sl_control_print(call, sl_control_wants_json(call) ? "\"%s\": %lu,\n" : "%-24s %lu\n", name,
                     (unsigned long)n);
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
    sl_control_print(call, is_json ? "\"disk\": \"%s\"}\n" : "disk                     %s\n",
                     s.disk);
    sl_control_end(&call, 0);
}

/* ---- one URL ---- */

struct getting {
    struct store_get get;
    struct sl_control_call *call;
    struct store_object *base; /* held, while its forms are looked for */
    struct sl_span form_key;   /* a copy */
    unsigned i, n_forms;       /* of the encoders; printed */
};

static const char *
json_of(struct sl_control_call *call, struct sl_span text)
{
    char *to = apr_palloc(sl_control_pool(call), 6 * text.n + 3);

    *sl_json_string(to, to + 6 * text.n + 2, text) = '\0';
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
    struct sl_span rest = m->fields;
    const char *sum = "";
    struct sl_field x;

    while (meta_next(&rest, &x))
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
    struct marker marker;
    struct meta m;
    int is_complete;
    int64_t now = apr_time_sec(apr_time_now());

    say_text(call, "key", o->key);
    if (o->flags & VARY_MARKER) {
        if (marker_read(o->meta, &marker) == 0)
            say_text(call, "variants", sl_spans_join(sl_control_pool(call), (struct sl_span[]){
                                           SL_SPAN("by "), marker.vary}, 2));
        return;
    }
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
    say_text(call, "memory", store_is_in_memory(o) ? SL_SPAN("yes") : SL_SPAN("no"));
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
        kept_free(d->form_key);
        d->form_key.at = NULL;
        if ((coding = sl_provider_name("encoder", d->i++)) == NULL) {
            forms_ended(d);
            return;
        }
        d->form_key = form_key(d->base->key, coding);
        d->get = (struct store_get){.key = d->form_key, .done = forms_print};
        answer = store_get(cache_store, loop, &d->get, &o);
    }
}

static void
get_found(struct sl_loop *loop, struct store_get *get, struct store_object *o)
{
    struct getting *d = (struct getting *)(void *)get;

    if (sl_control_wants_json(d->call))
        sl_control_print(d->call, "{");
    if (o == NULL) {
        get_print_none(d->call, get->key);
        get_ended(d, 0);
        return;
    }
    get_print(d->call, o);
    d->base = o;
    forms_print(loop, get, NULL);
}

static void
get_run(struct sl_control_call *call, const char *url)
{
    struct getting *d = apr_pcalloc(sl_control_pool(call), sizeof *d);
    struct store_object *o = NULL;

    d->call = call;
    d->get.key = cache_key_of_url(sl_control_pool(call), sl_span(url));
    d->get.done = get_found;
    if (store_get(cache_store, sl_loop_self(), &d->get, &o) != STORE_WAIT)
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
    } else if (strcmp(what, "get") == 0 && argc == 2)
        get_run(call, argv[1]);
    else if (strcmp(what, "top") == 0 && argc == 1)
        top_run(call);
    else if (strcmp(what, "purge") == 0)
        purge_run(call, argc - 1, argv + 1);
    else {
        sl_control_print(call, "expected stats, hosts, top, get URL or purge\n");
        sl_control_end(&call, 2);
    }
}

const struct sl_control_command cache_command = {
    "stats | hosts | top | get URL | purge all|url URL|prefix URL|host NAME|tag NAME [soft]",
    "what the cache holds, and how it is made to forget",
    cache_run,
};

/* ---- the method PURGE ---- */

/* Flights first: what comes of one before the store forgets goes with the rest. */
static void
forget(struct sl_req *r, struct sl_span key)
{
    flights_forget(key);
    store_invalidate(cache_store, sl_req_loop(r), key);
}

enum sl_verdict
cache_purge(struct sl_req *r, const void *confp)
{
    const struct cache_conf *conf = confp;

    if (!conf->is_on || conf->purge == NULL || !sl_span_eq(sl_req_method(r), SL_SPAN("PURGE")))
        return SL_NEXT;
    if (!sl_networks_has(conf->purge, sl_req_client(r)))
        return sl_respond(r, 403, NULL, SL_SPAN(""));
    if (sl_req_is_dry(r) || cache_store == NULL)
        return sl_respond(r, 200, "text/plain", SL_SPAN("purged\n"));
    forget(r, cache_key(r, conf));
    return sl_respond(r, 200, "text/plain", SL_SPAN("purged\n"));
}

/* ---- RFC 9111, 4.4 ---- */

static int
is_safe(struct sl_span method)
{
    static const struct sl_span safe[] = {{"GET", 3}, {"HEAD", 4}, {"OPTIONS", 7}, {"TRACE", 5}};
    size_t i;

    for (i = 0; i < sizeof safe / sizeof safe[0]; i++)
        if (sl_span_eq(method, safe[i]))
            return 1;
    return 0;
}

/* Location and Content-Location of the same origin: what stands there has changed, too. */
static void
invalidate_field(struct sl_req *r, enum sl_field_id id)
{
    apr_pool_t *pool = sl_req_pool(r);
    struct sl_span parts[] = {cache_scheme(r), SL_SPAN("://"), sl_req_authority(r)};
    struct sl_span url = sl_fields_get_id(sl_req_response(r), id), key;
    struct sl_span origin = sl_spans_join(pool, parts, 3);
    const char *fragment = url.n > 0 ? memchr(url.at, '#', url.n) : NULL;

    if (fragment != NULL)
        url.n = (size_t)(fragment - url.at);
    if (url.n == 0)
        return;
    if (url.at[0] == '/' && (url.n == 1 || url.at[1] != '/'))
        url = sl_spans_join(pool, (struct sl_span[]){origin, url}, 2);
    key = cache_key_of_url(pool, url);
    if (key.n > origin.n && key.at[origin.n] == '/' &&
        sl_span_eqi((struct sl_span){key.at, origin.n}, origin))
        forget(r, sl_spans_join(pool, (struct sl_span[]){key, cache_key_beside(r)}, 2));
}

enum sl_verdict
cache_invalidate(struct sl_req *r, const void *confp)
{
    const struct cache_conf *conf = confp;

    if (!conf->is_on || cache_store == NULL || sl_req_is_dry(r) || is_safe(sl_req_method(r)) ||
        sl_req_status(r) >= 400 || sl_req_server(r) == NULL)
        return SL_NEXT;
    forget(r, cache_key(r, conf));
    invalidate_field(r, SL_F_LOCATION);
    invalidate_field(r, SL_F_CONTENT_LOCATION);
    return SL_NEXT;
}
