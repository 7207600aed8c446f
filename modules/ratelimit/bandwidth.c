/* BandwidthLimit: how fast bodies go to clients (a filter) and come from them (a pace).
 *
 * Both count bytes as debts, in microseconds on the ring of gcra.h, of the request or in a shared
 * zone of the key.  CREDIT_US may be owed at any time: timers are late by up to 64 ms, and what a
 * late one missed is made good by it, so that the rate holds on average. */
#include "ratelimit.h"
#include "siphash.h"

#include <apr_strings.h>

#include <inttypes.h>

#define US 1000000
#define CREDIT_US 200000
#define DEBT_MOST_US (128 * INT64_C(1000000)) /* what is owed beyond is forgiven */
#define RATE_LEAST 1024
#define RATE_MOST (INT64_C(1) << 40)
#define PIECE_LEAST_US 50000 /* no smaller pieces, while there is more */
#define SHARED_SIZE (1024 * 1024)

struct width_zone {
    struct width_zone *next;
    const char *name; /* of the key, the direction and the rate */
    struct key key;
    uint64_t seed[2];
    struct table table; /* buckets NULL: not open: dry runs */
};

struct width {
    struct common common;
    int64_t rate; /* bytes a second */
    int64_t free; /* bytes of each body before it holds */
    int is_upload;
    const char *key_text;
    int64_t ipv4, ipv6;
    struct width_zone *zone; /* NULL: of each request for itself */
};

static struct width_zone *all;

static const struct sl_option width_options[] = {
    {"key", SL_SLOT_STRING, offsetof(struct width, key_text), NULL, NULL,
     "who shares the rate"},
    {"upload", SL_SLOT_FLAG, offsetof(struct width, is_upload), NULL, NULL,
     "bodies of requests"},
    {"after", SL_SLOT_SIZE, offsetof(struct width, free), "0", NULL,
     "so much of a body is free"},
    {"if", SL_SLOT_COND_ROUTED, offsetof(struct width, common.cond), NULL, NULL,
     "where it holds"},
    {"except", SL_SLOT_STRING, offsetof(struct width, common.except_text), NULL, NULL,
     "networks without this limit"},
    NETWORK_OPTIONS(struct width),
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

/* Lines of the same key, direction and rate share it, wherever they stand. */
static const char *
width_zone_of(struct sl_cmd *cmd, struct width *w)
{
    const char *name = apr_psprintf(
        sl_cmd_pool(cmd), "%s %s %" PRId64 " %" PRId64 " %" PRId64, w->key_text,
        w->is_upload ? "upload" : "download", w->rate, w->ipv4, w->ipv6);
    struct width_zone *z;
    const char *err;

    for (z = all; z != NULL && strcmp(z->name, name) != 0; z = z->next)
        ;
    w->zone = z;
    if (z != NULL)
        return NULL;
    w->zone = z = apr_pcalloc(sl_cmd_pool(cmd), sizeof *z);
    z->name = name;
    if ((err = key_make(cmd, w->key_text, w->ipv4, w->ipv6, &z->key)) != NULL)
        return err;
    if (all == NULL)
        forget_with(sl_cmd_pool(cmd), &all);
    z->next = all;
    all = z;
    return NULL;
}

const char *
width_parse(struct sl_cmd *cmd, void **item)
{
    struct width *w = apr_pcalloc(sl_cmd_pool(cmd), sizeof *w);
    const char *rate = sl_cmd_arg(cmd, 0), *err;
    int64_t per_1000s;

    if (strchr(rate, 'r') != NULL ||
        sl_parse_slot(sl_cmd_pool(cmd), SL_SLOT_RATE, rate, &per_1000s) != NULL ||
        per_1000s / 1000 < RATE_LEAST || per_1000s / 1000 > RATE_MOST)
        return "expected bytes a second first, such as 100k or 2m, at least 1k";
    w->rate = per_1000s / 1000;
    w->ipv4 = 32;
    w->ipv6 = 64;
    w->common.status = cause_rate_limited.status;
    if ((err = sl_cmd_options(cmd, 1, width_options, w)) != NULL ||
        (err = common_check(cmd, &w->common)) != NULL)
        return err;
    *item = w;
    return w->key_text != NULL ? width_zone_of(cmd, w) : NULL;
}

int
widths_open_all(void)
{
    static const uint64_t no_seed[2];
    struct width_zone *z;
    struct offenders none;
    struct shared *shared;
    char name[64];
    int is_fresh;

    for (z = all; z != NULL; z = z->next) {
        apr_snprintf(name, sizeof name, "bandwidth:%016" PRIx64,
                     siphash(no_seed, z->name, strlen(z->name)));
        shared = sl_zone(name, SHARED_LAYOUT, SHARED_SIZE, &is_fresh);
        if (shared == NULL)
            return -1;
        shared_open(shared, is_fresh, SHARED_SIZE, z->seed, &none, &z->table);
        z->table.most = DEBT_MOST_US;
        z->table.apart = CLOCKS_APART_MS * 1000;
    }
    return 0;
}

/* ---- a meter ---- */

/* One limit of one body. */
struct meter {
    const struct width *width;
    uint64_t hash; /* where the width has a zone */
    uint64_t tat;  /* else */
    int64_t free;
};

static uint64_t
meter_ahead(const struct meter *m, uint64_t now)
{
    return m->width->zone != NULL ? table_ahead(&m->width->zone->table, m->hash, now)
                                  : gcra_ahead(m->tat, now, DEBT_MOST_US);
}

static uint64_t
debt_sum(uint64_t ahead, uint64_t cost)
{
    return ahead + cost < DEBT_MOST_US ? ahead + cost : DEBT_MOST_US;
}

static void
meter_charge(struct meter *m, uint64_t now, size_t n)
{
    int64_t paid = (int64_t)n < m->free ? 0 : (int64_t)n - m->free;
    struct gcra g = {(uint64_t)((paid * US + m->width->rate - 1) / m->width->rate),
                     RING_MASK, DEBT_MOST_US};
    uint64_t ahead;

    m->free -= (int64_t)n - paid;
    if (g.cost > DEBT_MOST_US)
        g.cost = DEBT_MOST_US;
    if (m->width->zone != NULL)
        table_charge(&m->width->zone->table, m->hash, now, &g, &ahead);
    else
        m->tat = gcra_tat(now, debt_sum(gcra_ahead(m->tat, now, DEBT_MOST_US), g.cost));
}

/* Bytes that may go now. */
static int64_t
meter_room(const struct meter *m, uint64_t now)
{
    uint64_t ahead = meter_ahead(m, now);

    return m->free +
           (ahead >= CREDIT_US ? 0 : (int64_t)(CREDIT_US - ahead) * m->width->rate / US);
}

/* Microseconds until a piece of n bytes, or one worth sending, may go. */
static int64_t
meter_wait(const struct meter *m, uint64_t now, size_t n)
{
    int64_t cost = (int64_t)n * US / m->width->rate, ahead = (int64_t)meter_ahead(m, now);

    if (cost > PIECE_LEAST_US)
        cost = PIECE_LEAST_US;
    return ahead + cost - CREDIT_US;
}

static uint64_t
now_us(const struct sl_req *r)
{
    return (uint64_t)sl_loop_now(sl_req_loop(r)) * 1000 & RING_MASK;
}

struct body {
    struct sl_timer timer; /* first */
    struct sl_filter *filter;
    size_t n_done; /* of the piece that is held */
    unsigned n_meters;
    struct meter meters[];
};

static int64_t
body_room(const struct body *b, uint64_t now)
{
    int64_t room = INT64_MAX, its;
    unsigned i;

    for (i = 0; i < b->n_meters; i++)
        if ((its = meter_room(&b->meters[i], now)) < room)
            room = its;
    return room;
}

/* In ms, at least 1. */
static int64_t
body_wait(const struct body *b, uint64_t now, size_t n)
{
    int64_t wait = 0, its;
    unsigned i;

    for (i = 0; i < b->n_meters; i++)
        if ((its = meter_wait(&b->meters[i], now, n)) > wait)
            wait = its;
    return wait / 1000 + 1;
}

static void
body_charge(struct body *b, uint64_t now, size_t n)
{
    unsigned i;

    for (i = 0; i < b->n_meters; i++)
        meter_charge(&b->meters[i], now, n);
}

/* The limits of one direction that hold for the request; NULL: none.  *failed: r has. */
static struct body *
body_make(struct sl_req *r, const apr_array_header_t *widths, int is_upload, int *failed)
{
    char room[KEY_ROOM];
    struct sl_span key;
    struct body *b = NULL;
    int i, holds;

    *failed = 0;
    for (i = 0; i < widths->nelts; i++) {
        const struct width *w = APR_ARRAY_IDX(widths, i, const struct width *);
        struct meter m = {.width = w, .free = w->free, .tat = now_us(r)};

        if (w->is_upload != is_upload ||
            (w->zone != NULL && w->zone->table.buckets == NULL))
            continue;
        if ((holds = common_holds(&w->common, r)) < 0)
            *failed = 1;
        if (holds <= 0)
            continue;
        if (w->zone != NULL) {
            key = key_bytes(&w->zone->key, r, room);
            if (key.n == 0)
                continue;
            m.hash = siphash(w->zone->seed, key.at, key.n);
        }
        if (b == NULL)
            b = apr_pcalloc(sl_req_pool(r),
                            sizeof *b + (size_t)widths->nelts * sizeof b->meters[0]);
        b->meters[b->n_meters++] = m;
        sl_note(r, "%s: %s at %" PRId64 " bytes a second", w->common.place,
                is_upload ? "the request's body is read" : "the body is sent", w->rate);
    }
    return b;
}

/* ---- to clients ---- */

static void
body_resume(struct sl_loop *loop, struct sl_timer *timer)
{
    (void)loop;
    sl_filter_resume(((struct body *)timer)->filter);
}

static apr_status_t
body_forget(void *timer)
{
    sl_timer_unlink(timer);
    return APR_SUCCESS;
}

/* As much of a piece as may go; the rest when its time has come. */
static enum sl_verdict
width_bytes(struct sl_filter *f, const char *at, size_t n, unsigned flags)
{
    struct body *b = sl_filter_ctx(f);
    struct sl_req *r = sl_filter_req(f);
    struct sl_loop *loop = sl_req_loop(r);
    size_t left = n - b->n_done, part = left;
    uint64_t now = now_us(r);
    int64_t room = left > 0 ? body_room(b, now) : 0;

    if ((int64_t)part > room)
        part = (size_t)room;
    body_charge(b, now, part);
    at += b->n_done;
    if (part == left) {
        b->n_done = 0;
        return sl_filter_write(f, at, part, flags);
    }
    b->n_done += part;
    b->filter = f;
    sl_timer_set(loop, &b->timer, sl_loop_now(loop) + body_wait(b, now, left - part));
    if (part > 0 && sl_filter_write(f, at, part, SL_FILTER_FLUSH) == SL_FAIL)
        return SL_FAIL;
    return SL_WAIT;
}

static const struct sl_filter_type width_filter = {.name = "bandwidth",
                                                   .bytes = width_bytes};

enum sl_verdict
width_response(struct sl_req *r, const void *confp)
{
    const apr_array_header_t *widths = ((const struct ratelimit_conf *)confp)->widths;
    int failed = 0;
    struct body *b = widths != NULL && sl_req_status(r) != 101
                         ? body_make(r, widths, 0, &failed)
                         : NULL;

    if (failed)
        return SL_FAIL;
    if (b == NULL)
        return SL_NEXT;
    b->timer.fn = body_resume;
    apr_pool_cleanup_register(sl_req_pool(r), &b->timer, body_forget,
                              apr_pool_cleanup_null);
    sl_filter_add(r, &width_filter, b, 1);
    return SL_NEXT;
}

/* ---- from clients ---- */

static int64_t
width_pace(struct sl_req *r, void *ctx, size_t n)
{
    struct body *b = ctx;
    uint64_t now = now_us(r);

    body_charge(b, now, n);
    return body_room(b, now) > 0 ? 0 : body_wait(b, now, RATE_MOST);
}

enum sl_verdict
width_request(struct sl_req *r, const apr_array_header_t *widths)
{
    int failed = 0;
    struct body *b = sl_req_has_body(r) ? body_make(r, widths, 1, &failed) : NULL;

    if (failed)
        return SL_FAIL;
    if (b != NULL)
        sl_req_pace_body(r, width_pace, b);
    return SL_NEXT;
}
