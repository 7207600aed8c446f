/* Ifs: what holds for a request is overlaid on the scope its location has.
 *
 * A scope knows the Ifs that apply to it: its own and those of the scopes around it,
 * outer before inner, in file order; at most 32, so a set of them is a word.  A set that
 * a request needs first is merged and compiled by the thread that needs it, in a pool of
 * its own, and published by one compare-and-swap; of two threads that make the same one,
 * one throws its work away.  Nothing is locked, nothing published ever changes.
 *
 * Which sets there are is for clients to choose.  So only so many are kept; past that,
 * one is made for its request and goes with it. */
#include "config/load.h"

#include "http/request.h"

#include <apr_strings.h>

#include <stdatomic.h>

#define IFS_MAX 32
#define BUCKET_BITS 6
#define KEPT_MAX 4096 /* sets of a generation */

struct overlay {
    struct overlay *next;
    apr_pool_t *pool;
    uint32_t set;
    struct sl_scope scope;
};

struct overlays {
    struct config *c;
    atomic_uint *n_kept; /* of the generation */
    unsigned n;
    struct sl_scope *ifs[IFS_MAX];
    uint32_t needs[IFS_MAX]; /* the If around it; 0: none */
    struct overlay *_Atomic buckets[1 << BUCKET_BITS];
};

/* ---- when the configuration is read ---- */

/* The scope an If applies to: the first around it that is none. */
static struct sl_scope *
if_base(struct sl_scope *s)
{
    while (s->kind == SL_SCOPE_IF)
        s = s->parent;
    return s;
}

static int
is_around(const struct sl_scope *outer, const struct sl_scope *s)
{
    while (s != NULL && s != outer)
        s = s->parent;
    return s != NULL;
}

static unsigned
depth_of(const struct sl_scope *s)
{
    unsigned n = 0;

    while ((s = s->parent) != NULL)
        n++;
    return n;
}

/* Puts an If behind those that stand no further inside. */
static void
ifs_add(struct overlays *o, struct sl_scope *s)
{
    unsigned i = o->n++;

    for (; i > 0 && depth_of(o->ifs[i - 1]) > depth_of(s); i--)
        o->ifs[i] = o->ifs[i - 1];
    o->ifs[i] = s;
}

static void
ifs_link(struct overlays *o)
{
    unsigned i, k;

    for (i = 0; i < o->n; i++)
        for (k = 0; k < i; k++)
            if (o->ifs[k] == o->ifs[i]->parent)
                o->needs[i] = (uint32_t)1 << k;
}

static apr_status_t
overlays_free(void *data)
{
    struct overlays *o = data;
    unsigned i;

    for (i = 0; i < 1 << BUCKET_BITS; i++) {
        struct overlay *at = atomic_load(&o->buckets[i]), *next;

        for (; at != NULL; at = next) {
            next = at->next;
            apr_pool_destroy(at->pool);
        }
    }
    return APR_SUCCESS;
}

static struct overlays *
overlays_make(struct config *c, struct sl_scope *base, atomic_uint *n_kept)
{
    struct overlays *o = NULL;
    int i;

    for (i = 0; i < c->scopes->nelts; i++) {
        struct sl_scope *s = APR_ARRAY_IDX(c->scopes, i, struct sl_scope *);

        if (s->kind != SL_SCOPE_IF || s->condition == NULL ||
            !is_around(if_base(s), base))
            continue;
        if (o == NULL)
            o = apr_pcalloc(c->pool, sizeof *o);
        if (o->n == IFS_MAX) {
            config_error(c, s->place, "join conditions with || or use <Location>",
                         "<If>: expected at most %d Ifs to apply in one place, found one "
                         "more at %s",
                         IFS_MAX,
                         base->place != NULL ? base->place : "the whole configuration");
            return NULL;
        }
        ifs_add(o, s);
    }
    if (o == NULL)
        return NULL;
    o->c = c;
    o->n_kept = n_kept;
    ifs_link(o);
    apr_pool_cleanup_register(c->pool, o, overlays_free, apr_pool_cleanup_null);
    return o;
}

void
config_overlays(struct config *c)
{
    atomic_uint *n_kept = apr_pcalloc(c->pool, sizeof *n_kept);
    int i;

    for (i = 0; i < c->scopes->nelts; i++) {
        struct sl_scope *s = APR_ARRAY_IDX(c->scopes, i, struct sl_scope *);

        if (s->kind != SL_SCOPE_IF)
            s->overlays = overlays_make(c, s, n_kept);
    }
}

void
sl_scope_set_condition(struct sl_scope *scope, struct sl_cond *cond)
{
    scope->condition = cond;
}

int
sl_scope_has_ifs(const struct sl_scope *scope)
{
    return scope->overlays != NULL;
}

/* ---- when a request asks ---- */

/* The scope's values with those of the set laid over them, by the rules all merging has.
 */
static void
overlay_merge(struct overlay *made, const struct overlays *o, const struct sl_scope *base)
{
    struct sl_scope *s = &made->scope;
    int i;
    unsigned k;

    *s = *base;
    s->overlays = NULL;
    s->conf = apr_pcalloc(made->pool, (size_t)o->c->modules->nelts * sizeof(void *));
    s->raw =
        apr_pcalloc(made->pool, (size_t)o->c->modules->nelts * sizeof(struct raw_conf));
    for (i = 0; i < o->c->modules->nelts; i++) {
        const struct loaded_module *m = config_module(o->c, i);

        s->conf[i] = base->conf[i];
        scope_raw(s, m)->is_active = scope_raw(base, m)->is_active;
        for (k = 0; k < o->n; k++) {
            const struct raw_conf *raw = scope_raw(o->ifs[k], m);

            if ((made->set >> k & 1) == 0 || raw->marks == NULL)
                continue;
            s->conf[i] = merge_over(made->pool, m, raw, s->conf[i]);
            scope_raw(s, m)->is_active = 1;
        }
    }
    s->core = s->conf[0];
    compile_scope(o->c, made->pool, s);
}

static struct overlay *
overlay_make(apr_pool_t *pool, const struct overlays *o, const struct sl_scope *base,
             uint32_t set)
{
    struct overlay *made = apr_pcalloc(pool, sizeof *made);

    made->pool = pool;
    made->set = set;
    overlay_merge(made, o, base);
    return made;
}

static struct overlay *
overlay_find(struct overlay *at, uint32_t set)
{
    while (at != NULL && at->set != set)
        at = at->next;
    return at;
}

/* Publishes it, unless another thread has: then that one's. */
static struct overlay *
overlay_publish(struct overlay *_Atomic *bucket, struct overlay *made)
{
    struct overlay *first = atomic_load_explicit(bucket, memory_order_acquire), *other;

    do {
        if ((other = overlay_find(first, made->set)) != NULL) {
            apr_pool_destroy(made->pool);
            return other;
        }
        made->next = first;
    } while (!atomic_compare_exchange_weak_explicit(
        bucket, &first, made, memory_order_release, memory_order_acquire));
    return made;
}

static struct sl_scope *
overlay_of(struct overlays *o, const struct sl_scope *base, uint32_t set,
           struct sl_req *r)
{
    struct overlay *_Atomic *bucket =
        &o->buckets[set * 0x9e3779b1u >> (32 - BUCKET_BITS)];
    struct overlay *found =
        overlay_find(atomic_load_explicit(bucket, memory_order_acquire), set);
    apr_pool_t *pool;

    if (found != NULL)
        return &found->scope;
    if (atomic_load_explicit(o->n_kept, memory_order_relaxed) >= KEPT_MAX ||
        apr_pool_create_unmanaged_ex(&pool, NULL, NULL) != APR_SUCCESS)
        return &overlay_make(r->pool, o, base, set)->scope;
    found = overlay_make(pool, o, base, set);
    atomic_fetch_add_explicit(o->n_kept, 1, memory_order_relaxed);
    return &overlay_publish(bucket, found)->scope;
}

struct sl_scope *
sl_scope_overlay(struct sl_scope *scope, struct sl_req *r)
{
    struct overlays *o = scope->overlays;
    uint32_t set = 0;
    unsigned i;
    int holds;

    if (o == NULL)
        return scope;
    for (i = 0; i < o->n; i++) {
        if ((o->needs[i] & ~set) != 0) {
            sl_note(r, "%s If: not asked, the one around it does not hold", o->ifs[i]->place);
            continue;
        }
        if ((holds = sl_cond_holds(o->ifs[i]->condition, r)) < 0) {
            sl_req_fail(r, 0, &sl_cause_condition_limit, "%s", o->ifs[i]->place);
            return NULL;
        }
        sl_note(r, "%s If %s: %s", o->ifs[i]->place, sl_cond_source(o->ifs[i]->condition),
                holds ? "holds" : "does not hold");
        if (holds)
            set |= (uint32_t)1 << i;
    }
    return set != 0 ? overlay_of(o, scope, set, r) : scope;
}
