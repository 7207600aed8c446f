/* Large responses in slices.  What stands under the key has the head of the whole and a number
 * drawn for its slices, which are objects of their own: those of another version are never found by
 * it.  A slice that is not stored is fetched by a flight that asks for it by Range and If-Range. */
#include "cache.h"

#include <stdlib.h>

static void
slices_destroy(struct slices *s)
{
    if (s->object != NULL)
        store_drop(&s->object);
    store_drop(&s->of);
    kept_free(s->visit.key);
    kept_free(s->visit.variant);
    free(s);
}

static void slice_flown(struct sl_loop *loop, struct sl_mail *mail);

struct slices *
slices_new(struct visit *v)
{
    struct slices *s = calloc(1, sizeof *s);

    SL_ASSERT(s != NULL);
    s->of = v->found;
    store_hold(s->of);
    SL_ASSERT(meta_read(s->of->meta, &s->meta) == 0); /* as it did for v */
    s->i = -1;
    s->visit = (struct visit){.r = v->r,
                              .conf = v->conf,
                              .loop = sl_req_loop(v->r),
                              .key = kept(v->key),
                              .is_variant = 1,
                              .of = &s->meta,
                              .of_key = s->of->key,
                              .wake = slice_flown};
    return s;
}

/* ---- fetching ---- */

/* The flight it waited for has its result. */
static enum slice_answer
slice_result(struct slices *s)
{
    enum slice_answer answer = flight_slice_result(&s->visit, &s->object, &s->cause);

    s->is_fetched = answer == SLICE_HERE;
    return answer;
}

static void slice_again(struct sl_loop *loop, struct sl_mail *mail);

static enum slice_answer
slice_fetch(struct slices *s)
{
    struct visit *v = &s->visit;

    v->is_asking = 1;
    if (flight_join(v) == 0)
        return SLICE_WAIT;
    v->mail.fn = slice_again;
    sl_loop_post(v->loop, &v->mail);
    return SLICE_WAIT;
}

static struct slices *
slices_of(struct sl_mail *mail)
{
    return (struct slices *)(void *)((char *)mail - offsetof(struct visit, mail) -
                                     offsetof(struct slices, visit));
}

static enum slice_answer slice_look(struct slices *s);

static void
slice_again(struct sl_loop *loop, struct sl_mail *mail)
{
    struct slices *s = slices_of(mail);
    enum slice_answer answer;

    (void)loop;
    s->visit.is_asking = 0;
    if (s->visit.r == NULL) {
        slices_destroy(s);
        return;
    }
    answer = slice_look(s);
    if (answer != SLICE_WAIT)
        s->done(s, answer);
}

static void
slice_flown(struct sl_loop *loop, struct sl_mail *mail)
{
    struct slices *s = slices_of(mail);
    enum slice_answer answer;

    (void)loop;
    s->visit.is_asking = 0;
    if (s->visit.r == NULL) {
        slices_destroy(s);
        return;
    }
    answer = slice_result(s);
    if (answer == SLICE_FAILED && !s->visit.is_leader && !s->has_failed) {
        s->has_failed = 1; /* what failed was another's fetch */
        answer = slice_look(s);
    }
    if (answer != SLICE_WAIT)
        s->done(s, answer);
}

/* ---- from the store ---- */

/* One that is not as long as it has to be is fetched anew. */
static enum slice_answer
slice_found(struct slices *s, struct store_object *o)
{
    int64_t left = s->meta.whole - s->i * s->meta.slice;
    int is_complete;

    if (store_size(o, &is_complete) != (left < s->meta.slice ? left : s->meta.slice)) {
        store_drop(&o);
        return slice_fetch(s);
    }
    s->object = o;
    return SLICE_HERE;
}

static void
slice_got(struct sl_loop *loop, struct store_get *get, struct store_object *found)
{
    struct slices *s = (struct slices *)(void *)((char *)get - offsetof(struct visit, get) -
                                                 offsetof(struct slices, visit));
    enum slice_answer answer;

    (void)loop;
    s->visit.is_asking = 0;
    if (s->visit.r == NULL) {
        if (found != NULL)
            store_drop(&found);
        slices_destroy(s);
        return;
    }
    answer = found != NULL ? slice_found(s, found) : slice_fetch(s);
    if (answer != SLICE_WAIT)
        s->done(s, answer);
}

static enum slice_answer
slice_look(struct slices *s)
{
    struct visit *v = &s->visit;
    struct store_object *found = NULL;

    v->get = (struct store_get){
        .key = v->variant, .hash = store_hash(cache_store, v->variant), .done = slice_got};
    v->n_left = flights_left(v->get.hash);
    switch (store_get(cache_store, v->loop, &v->get, &found)) {
    case STORE_HIT:
        return slice_found(s, found);
    case STORE_MISS:
        return slice_fetch(s);
    case STORE_WAIT:
        v->is_asking = 1;
        break;
    }
    return SLICE_WAIT;
}

/* ---- one at a time ---- */

static void
slice_close(struct slices *s)
{
    if (s->object != NULL)
        store_drop(&s->object);
    if (s->visit.flight != NULL)
        flight_leave(&s->visit);
    kept_free(s->visit.variant);
    s->visit.variant = (struct sl_span){NULL, 0};
    s->visit.is_leader = 0;
    s->visit.has_looked_again = 0;
    s->has_failed = 0;
    s->is_fetched = 0;
}

enum slice_answer
slices_open(struct slices *s, int64_t at)
{
    struct visit *v = &s->visit;
    int64_t i = at / s->meta.slice;

    if (s->i == i && s->object != NULL)
        return SLICE_HERE;
    slice_close(s);
    s->i = i;
    v->first = i * s->meta.slice;
    v->variant = slice_key(s->of->key, s->meta.slices, i);
    return slice_look(s);
}

void
slices_leave(struct slices *s)
{
    if (s->visit.flight != NULL)
        flight_leave(&s->visit);
    s->visit.r = NULL;
}

void
slices_free(struct slices **sp)
{
    struct slices *s = *sp;

    *sp = NULL;
    slices_leave(s);
    if (!s->visit.is_asking) /* else when the mail for it comes */
        slices_destroy(s);
}
