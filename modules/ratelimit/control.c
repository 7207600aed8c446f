/* sluice ctl limit: who is over a limit, what a key owes, and to forget it.  What reads or clears
 * a whole table runs on an offload thread; the rest is as short as a hook. */
#include "ratelimit.h"
#include "siphash.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <stdlib.h>

#define TOP_ROWS 20
#define JSON_ROOM (6 * OFFENDER_TEXT + 16)

/* One command under way, in the memory of its call. */
struct ask {
    struct sl_offload job; /* first */
    struct sl_control_call *call;
    struct watched w;
    const char *word; /* the key, or how many; NULL: none */
    int64_t now_ms;
    uint64_t n_keys; /* of show without a key */
};

static void
ask_end(struct ask *a, int status)
{
    sl_control_end(&a->call, status);
}

static void
ask_offload(struct ask *a, void (*work)(struct sl_offload *),
            void (*done)(struct sl_loop *, struct sl_offload *))
{
    a->job.work = work;
    a->job.done = done;
    if (sl_offload(sl_loop_self(), &a->job) == 0)
        return;
    sl_control_print(a->call, "too much is going on; try again\n");
    ask_end(a, 1);
}

static uint64_t
ask_hash(const struct ask *a, struct sl_span key)
{
    return siphash(a->w.seed, key.at, key.n);
}

/* The hash of the key that was named; 0 when it can be none, and the call has ended. */
static int
ask_key(struct ask *a, uint64_t *hash)
{
    char room[KEY_ROOM];
    struct sl_span key = key_of_text(a->w.key, a->word, room);

    if (key.n == 0) {
        sl_control_print(a->call, "expected an address as the key of %s, found \"%s\"\n",
                         a->w.name, a->word);
        ask_end(a, 2);
        return 0;
    }
    *hash = ask_hash(a, key);
    return 1;
}

static const char *
json_of(struct ask *a, const char *text)
{
    char *to = apr_palloc(sl_control_pool(a->call), JSON_ROOM + 6 * strlen(text));

    *sl_json_string(to, to + JSON_ROOM + 6 * strlen(text) - 1, sl_span(text)) = '\0';
    return to;
}

/* ---- top ---- */

static int
by_count(const void *a, const void *b)
{
    const struct offender_copy *x = a, *y = b;

    return (x->n_over < y->n_over) - (x->n_over > y->n_over);
}

static void
top_row(struct ask *a, const struct offender_copy *row, int is_first)
{
    int64_t ago = (a->now_ms - row->last_ms) / 1000;

    if (sl_control_wants_json(a->call))
        sl_control_print(a->call,
                         "%s\n{\"key\":%s,\"over\":%" PRId64
                         ",\"last_seconds_ago\":%" PRId64 "}",
                         is_first ? "" : ",", json_of(a, row->text), row->n_over, ago);
    else
        sl_control_print(a->call, "%-48s %10" PRId64 "  %" PRId64 " s ago\n", row->text,
                         row->n_over, ago);
}

/* 1 to as many as there can be; 0: the word is no such number. */
static long
top_most(const struct ask *a)
{
    char *end;
    long most;

    if (a->word == NULL)
        return TOP_ROWS;
    most = strtol(a->word, &end, 10);
    return *end == '\0' && most > 0 ? most : 0;
}

static void
ask_top(struct ask *a)
{
    const struct offenders *o = a->w.offenders;
    struct offender_copy *rows =
        apr_palloc(sl_control_pool(a->call), o->n * sizeof *rows);
    long most = top_most(a);
    int is_json = sl_control_wants_json(a->call);
    uint32_t i, n = 0;

    if (most == 0) {
        sl_control_print(a->call, "expected how many keys, found \"%s\"\n", a->word);
        ask_end(a, 2);
        return;
    }
    for (i = 0; i < o->n; i++)
        n += offenders_read(o, i, &rows[n]) != 0;
    qsort(rows, n, sizeof *rows, by_count);
    if (is_json)
        sl_control_print(a->call, "[");
    else
        sl_control_print(a->call, "%-48s %10s  %s\n", "key", "over", "last");
    for (i = 0; i < n && (long)i < most; i++)
        top_row(a, &rows[i], i == 0);
    if (is_json)
        sl_control_print(a->call, "\n]\n");
    ask_end(a, 0);
}

/* ---- show ---- */

static void
count_work(struct sl_offload *job)
{
    struct ask *a = (struct ask *)job;

    a->n_keys = table_count(&a->w.zone->table, rate_ticks(&a->w.zone->rate, a->now_ms));
}

static void
count_done(struct sl_loop *loop, struct sl_offload *job)
{
    struct ask *a = (struct ask *)job;
    const struct zone *z = a->w.zone;

    (void)loop;
    if (sl_control_wants_json(a->call))
        sl_control_print(a->call,
                         "{\"zone\":%s,\"key\":%s,\"rate\":%s,\"size\":%" PRId64
                         ",\"room\":%" PRIu64 ",\"keys\":%" PRIu64 "}\n",
                         json_of(a, z->name), json_of(a, z->key.source),
                         json_of(a, z->rate_text), z->size,
                         (uint64_t)z->table.n_buckets * BUCKET_WORDS, a->n_keys);
    else
        sl_control_print(a->call,
                         "%s: key %s, rate %s, %" PRId64 " bytes, room for %" PRIu64
                         " keys; %" PRIu64 " have a debt\n",
                         z->name, z->key.source, z->rate_text, z->size,
                         (uint64_t)z->table.n_buckets * BUCKET_WORDS, a->n_keys);
    ask_end(a, 0);
}

static void
show_conn(struct ask *a, uint64_t hash)
{
    int64_t n = conn_count(a->w.name, hash);

    if (sl_control_wants_json(a->call))
        sl_control_print(a->call, "{\"key\":%s,\"under_way\":%" PRId64 "}\n",
                         json_of(a, a->word), n);
    else
        sl_control_print(a->call, "%s: %" PRId64 " under way\n", a->word, n);
    ask_end(a, 0);
}

/* A debt in the words of an operator: requests beyond the rate, and when they are paid. */
static void
show_debt(struct ask *a, uint64_t hash)
{
    const struct zone *z = a->w.zone;
    uint64_t ahead = table_ahead(&z->table, hash, rate_ticks(&z->rate, a->now_ms));
    uint64_t requests = (ahead + z->rate.period_ms - 1) / z->rate.period_ms;
    int64_t ms = rate_ms(&z->rate, ahead);

    if (sl_control_wants_json(a->call))
        sl_control_print(
            a->call, "{\"key\":%s,\"requests\":%" PRIu64 ",\"paid_in_ms\":%" PRId64 "}\n",
            json_of(a, a->word), requests, ms);
    else
        sl_control_print(a->call,
                         "%s: owes %" PRIu64 " requests, paid in %" PRId64 ".%03" PRId64
                         " s\n",
                         a->word, requests, ms / 1000, ms % 1000);
    ask_end(a, 0);
}

static void
ask_show(struct ask *a)
{
    uint64_t hash;

    if (a->word != NULL && ask_key(a, &hash)) {
        if (a->w.zone != NULL)
            show_debt(a, hash);
        else
            show_conn(a, hash);
    } else if (a->word == NULL && a->w.zone != NULL)
        ask_offload(a, count_work, count_done);
    else if (a->word == NULL) {
        sl_control_print(a->call, "expected a key: %s is a ConnLimit\n", a->w.name);
        ask_end(a, 2);
    }
}

/* ---- clear ---- */

static void
clear_work(struct sl_offload *job)
{
    struct ask *a = (struct ask *)job;

    if (a->w.zone != NULL)
        table_clear(&a->w.zone->table);
    offenders_forget(a->w.offenders, 0);
}

static void
clear_done(struct sl_loop *loop, struct sl_offload *job)
{
    struct ask *a = (struct ask *)job;

    (void)loop;
    sl_control_print(a->call, "%s: all keys are forgotten\n", a->w.name);
    sl_log(SL_NOTICE, "RATELIMIT0004", "%s: all keys are forgotten, by order", a->w.name);
    ask_end(a, 0);
}

static void
ask_clear(struct ask *a)
{
    uint64_t hash;
    int was_there;

    if (a->word == NULL) {
        ask_offload(a, clear_work, clear_done);
        return;
    }
    if (!ask_key(a, &hash))
        return;
    was_there = a->w.zone != NULL && table_forget(&a->w.zone->table, hash);
    offenders_forget(a->w.offenders, hash);
    sl_control_print(a->call, "%s: %s\n", a->word,
                     was_there ? "forgotten" : "owed nothing");
    ask_end(a, 0);
}

/* ---- the command ---- */

static const struct verb {
    const char *name;
    void (*run)(struct ask *a);
} verbs[] = {{"top", ask_top}, {"show", ask_show}, {"clear", ask_clear}};
#define N_VERBS (sizeof verbs / sizeof verbs[0])

static int
watched_find(const char *name, struct watched *w)
{
    const struct zone *z = zone_find(name);

    if (z == NULL)
        return conn_watched(name, w);
    *w = (struct watched){z->name, &z->key, z->seed, &z->offenders, z};
    return 1;
}

static void
limit_run(struct sl_control_call *call, int argc, const char *const *argv)
{
    struct ask *a = apr_pcalloc(sl_control_pool(call), sizeof *a);
    size_t i = 0;

    a->call = call;
    a->now_ms = sl_loop_now(sl_loop_self());
    while (argc >= 2 && i < N_VERBS && strcmp(argv[0], verbs[i].name) != 0)
        i++;
    if (argc < 2 || argc > 3 || i == N_VERBS) {
        sl_control_print(call,
                         "expected top ZONE [N], show ZONE [KEY] or clear ZONE [KEY]\n");
        ask_end(a, 2);
        return;
    }
    if (!watched_find(argv[1], &a->w)) {
        sl_control_print(call, "no RateLimitZone and no ConnLimit is called \"%s\"\n",
                         argv[1]);
        ask_end(a, 1);
        return;
    }
    a->word = argc == 3 ? apr_pstrdup(sl_control_pool(call), argv[2]) : NULL;
    verbs[i].run(a);
}

const struct sl_control_command limit_command = {
    "top ZONE [N] | show ZONE [KEY] | clear ZONE [KEY]",
    "keys over a RateLimit or ConnLimit, what a key owes, and to forget it", limit_run};
