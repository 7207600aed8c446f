/* The table of flights: who joins one, is told of its result, and leaves.  See flight.h. */
#include "flight.h"

#include <pthread.h>
#include <stdlib.h>

#define BUCKETS 256

static struct bucket {
    _Alignas(64) pthread_mutex_t lock;
    struct flight *flights;
    atomic_uint n_left; /* flights that were in it */
} buckets[BUCKETS] = {[0 ... BUCKETS - 1] = {PTHREAD_MUTEX_INITIALIZER, NULL, 0}};

static struct bucket *
bucket_of(struct store_hash hash)
{
    return &buckets[hash.lo % BUCKETS];
}

unsigned
flights_left(struct store_hash hash)
{
    return atomic_load_explicit(&bucket_of(hash)->n_left, memory_order_acquire);
}

/* ---- under the lock ---- */

static struct bucket *
bucket_lock(struct store_hash hash)
{
    struct bucket *b = bucket_of(hash);

    pthread_mutex_lock(&b->lock);
    return b;
}

/* NULL: another thread has it. */
static struct bucket *
bucket_try_lock(struct store_hash hash)
{
    struct bucket *b = bucket_of(hash);

    return pthread_mutex_trylock(&b->lock) == 0 ? b : NULL;
}

static void
bucket_unlock(struct bucket *b)
{
    pthread_mutex_unlock(&b->lock);
}

/* Who comes now is not to get what was asked for before it was forgotten, or purged in either way. */
static int
is_of_the_past(const struct flight *f)
{
    return is_forgotten(f) ||
           (f->state == ARRIVING && store_state(cache_store, f->object) != STORE_GOOD);
}

static struct flight *
flight_find(const struct bucket *b, struct store_hash hash, struct sl_span key)
{
    struct flight *f = b->flights;

    while (f != NULL && (f->hash.hi != hash.hi || f->hash.lo != hash.lo ||
                         !sl_span_eq(f->key, key) || is_of_the_past(f)))
        f = f->next;
    return f;
}

static void
flight_unlist(struct bucket *b, struct flight *f)
{
    struct flight **at = &b->flights;

    if (!f->is_listed)
        return;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    f->is_listed = 0;
    atomic_store_explicit(&b->n_left, b->n_left + 1, memory_order_release);
}

static void
flight_list(struct bucket *b, struct flight *f)
{
    f->next = b->flights;
    b->flights = f;
    f->is_listed = 1;
}

static void
user_add(struct flight *f, struct visit *v)
{
    v->flight = f;
    f->n_users++;
    atomic_fetch_add(&f->n_refs, 1);
}

static void
waiter_add(struct flight *f, struct visit *v)
{
    v->next_waiter = f->waiters;
    f->waiters = v;
    f->n_waiters++;
}

static void
waiter_remove(struct flight *f, struct visit *v)
{
    struct visit **at = &f->waiters;

    while (*at != NULL && *at != v)
        at = &(*at)->next_waiter;
    if (*at == NULL)
        return;
    *at = v->next_waiter;
    f->n_waiters--;
    v->is_asking = 0; /* no mail will come */
}

/* By mail.  Requests are woken by their tokens, and not under the lock: they may go on at once. */
static int
waiter_wake(struct visit *v)
{
    if (v->wake == NULL)
        return 0;
    v->mail.fn = v->wake;
    sl_loop_post(v->loop, &v->mail);
    return 1;
}

/* ---- life ---- */

static struct sl_span
key_of(const struct visit *v)
{
    return v->is_variant ? v->variant : v->key;
}

/* Copies to *at, which moves on. */
static struct sl_span
copied(char **at, struct sl_span s)
{
    struct sl_span copy = {*at, s.n};

    if (s.n > 0)
        memcpy(*at, s.at, s.n);
    *at += s.n;
    return copy;
}

struct flight *
flight_make(struct sl_span key, struct sl_span primary, const struct marker *marker)
{
    int is_one = primary.at == key.at;
    struct flight *f = flight_alloc(key.n + (is_one ? 0 : primary.n) + marker->vary.n);
    char *behind = (char *)(f + 1);

    f->state = ASKING;
    atomic_init(&f->n_refs, 1);
    f->size = -1;
    f->key = copied(&behind, key);
    f->primary = is_one ? f->key : copied(&behind, primary);
    f->marker = (struct marker){marker->era, copied(&behind, marker->vary)};
    return f;
}

/* What it looked for was looked up, and the hash is known; but for slices. */
static struct flight *
flight_new(const struct visit *v)
{
    static const struct marker none;
    struct flight *f = flight_make(key_of(v), v->key,
                                   v->is_variant && v->of == NULL ? &v->marker : &none);

    f->hash = v->of == NULL ? v->get.hash : store_hash(cache_store, f->key);
    f->primary_hash = v->of == NULL ? v->hash : store_hash(cache_store, f->primary);
    f->loop = sl_req_loop(v->r);
    f->conf = v->conf;
    f->begun = forgets_now();
    f->is_personal = sl_var_get(v->r, "user").n > 0; /* mod_auth took Authorization away */
    slice_begin(f, v);
    if (v->found != NULL) {
        f->base = v->found;
        store_hold(f->base);
    }
    return f;
}

void
flight_drop(struct flight *f)
{
    if (atomic_fetch_sub(&f->n_refs, 1) > 1)
        return;
    if (f->object != NULL)
        store_drop(&f->object);
    if (f->base != NULL)
        store_drop(&f->base);
    if (f->is_slice) {
        kept_free(f->sliced);
        kept_free(f->etag);
        kept_free(f->modified);
    }
    flight_free(f);
}

/* The tokens of all who wait, who wait no more; the array is the caller's, NULL without any.  Who is
 * to read what arrives is its reader before anything of it can be gone. */
static struct sl_token *
waiters_take(struct flight *f, unsigned *n)
{
    struct sl_token *tokens = NULL;
    struct visit *v, *next;

    *n = 0;
    if (f->n_waiters == 0)
        return NULL;
    tokens = malloc(f->n_waiters * sizeof *tokens);
    SL_ASSERT(tokens != NULL);
    for (v = f->waiters; v != NULL; v = next) {
        next = v->next_waiter;
        if (f->state == ARRIVING)
            store_reader_add(f->object, &v->reader);
        if (!waiter_wake(v))
            tokens[(*n)++] = v->token;
    }
    f->waiters = NULL;
    f->n_waiters = 0;
    return tokens;
}

void
flight_settle(struct flight *f, enum state state, enum result result)
{
    struct bucket *b = bucket_lock(f->hash);
    struct sl_token *tokens;
    unsigned i, n;

    f->result = result;
    f->state = state;
    if (state != ARRIVING)
        flight_unlist(b, f);
    tokens = waiters_take(f, &n);
    bucket_unlock(b);
    for (i = 0; i < n; i++)
        sl_req_resume(tokens[i], SL_RETRY);
    free(tokens);
}

void
flight_close(struct flight *f)
{
    struct bucket *b = bucket_lock(f->hash);

    flight_unlist(b, f);
    bucket_unlock(b);
}

void
flight_over(struct flight *f)
{
    struct bucket *b = bucket_lock(f->hash);

    flight_unlist(b, f);
    f->state = OVER;
    bucket_unlock(b);
}

void
flight_hand_over(struct flight *f, struct flight *to)
{
    struct bucket *b = bucket_lock(to->hash);

    to->sub = f->sub;
    to->fetch = f->fetch;
    to->fetch->flight = to;
    f->sub = NULL;
    f->fetch = NULL;
    to->state = ARRIVING;
    to->result = CAME;
    flight_list(b, to);
    bucket_unlock(b);
}

/* ---- joining ---- */

/* The slices of one response are always shared. */
static int
is_shared(const struct visit *v)
{
    return v->conf->is_locked || v->of != NULL;
}

/* Under the lock: the flight for the visit, perhaps its own.  One that has just turned out not to
 * be stored has lost its beginning. */
static struct flight *
flight_for(struct bucket *b, struct flight *own, struct visit *v)
{
    struct flight *f = is_shared(v) ? flight_find(b, own->hash, own->key) : NULL;

    if (f != NULL && (f->state != ARRIVING || store_reader_add(f->object, &v->reader) == 0))
        return f;
    own->leader = v;
    v->is_leader = 1;
    if (is_shared(v))
        flight_list(b, own);
    return own;
}

/* Under the lock: what the visit looks for was stored since it looked, by a flight that is over. */
static int
has_just_come(const struct bucket *b, struct flight *own, struct visit *v)
{
    struct store_object *o;
    int is_new;

    if (b->n_left == v->n_left || v->has_looked_again || !is_shared(v))
        return 0;
    o = store_at_hand(cache_store, own->hash, own->key);
    if (o == NULL)
        return 0;
    is_new = o != v->found;
    store_drop(&o);
    v->has_looked_again = is_new;
    return is_new;
}

void
flight_leader_waits(struct flight *f)
{
    struct visit *v = f->leader;
    struct bucket *b;

    v->outcome = OUT_FLIGHT;
    visit_suspend(v);
    b = bucket_lock(f->hash);
    f->state = ASKING;
    waiter_add(f, v);
    bucket_unlock(b);
}

static void
flight_is_wanted(struct sl_loop *loop, struct sl_mail *mail)
{
    struct flight *f = (struct flight *)(void *)((char *)mail - offsetof(struct flight, wanted));

    (void)loop;
    if (f->state == DIRECT)
        direct_is_shared(f);
    flight_drop(f);
}

/* Under the lock: 1, once, if its loop is to be told that it is not the leader's alone any more. */
static int
is_to_be_told(struct flight *f, const struct flight *own)
{
    if (f == own || f->state != DIRECT || f->wanted.fn != NULL)
        return 0;
    f->wanted.fn = flight_is_wanted;
    atomic_fetch_add(&f->n_refs, 1);
    return 1;
}

/* Under the lock: the visit gets what comes of it. */
static void
flight_take_in(struct flight *f, struct flight *own, struct visit *v)
{
    v->is_collapsed = f != own;
    v->outcome = f == own && is_direct(v) ? OUT_DIRECT : OUT_FLIGHT;
    if (v->outcome == OUT_DIRECT)
        f->state = DIRECT;
    else if (v->wake == NULL)
        visit_suspend(v);
    user_add(f, v);
    if (v->outcome == OUT_FLIGHT && f->state != ARRIVING)
        waiter_add(f, v);
}

int
flight_join(struct visit *v)
{
    struct flight *f, *own = flight_new(v);
    struct bucket *b = bucket_try_lock(own->hash);
    int is_arriving, is_told;

    if (b == NULL || has_just_come(b, own, v)) {
        if (b != NULL)
            bucket_unlock(b);
        flight_drop(own);
        return -1;
    }
    v->stamp = store_stamp(cache_store);
    f = flight_for(b, own, v);
    flight_take_in(f, own, v);
    is_arriving = f->state == ARRIVING;
    is_told = is_to_be_told(f, own);
    bucket_unlock(b);
    if (is_told)
        sl_loop_post(f->loop, &f->wanted);
    if (is_arriving && !waiter_wake(v))
        sl_req_resume(v->token, SL_RETRY);
    if (f != own)
        flight_drop(own);
    else if (v->outcome == OUT_DIRECT)
        direct_start(f);
    else
        flight_start(f, v->r);
    return 0;
}

/* Where another thread is at the table it may be for the same; if not, the next who gets what is
 * stale begins the update. */
void
flight_update(struct visit *v)
{
    struct flight *own = flight_new(v);
    struct bucket *b = bucket_try_lock(own->hash);
    int is_mine = b != NULL && flight_find(b, own->hash, own->key) == NULL;

    own->is_background = 1;
    if (is_mine)
        flight_list(b, own);
    if (b != NULL)
        bucket_unlock(b);
    if (is_mine)
        flight_start(own, v->r);
    else
        flight_drop(own);
}

/* ---- leaving ---- */

/* Whoever comes from now on begins a flight of his own: nobody would wake him in this one. */
static void
flight_abandoned(struct sl_loop *loop, struct sl_mail *mail)
{
    struct flight *f = (struct flight *)(void *)((char *)mail - offsetof(struct flight, mail));
    struct bucket *b = bucket_lock(f->hash);
    int is_wanted = f->n_users > 0; /* again, since this was posted */

    (void)loop;
    f->mail.fn = NULL;
    if (!is_wanted)
        flight_unlist(b, f);
    bucket_unlock(b);
    if (!is_wanted)
        flight_cancel(f);
    flight_drop(f);
}

/* The last one who leaves ends what still comes. */
void
flight_leave(struct visit *v)
{
    struct flight *f = v->flight;
    struct bucket *b;
    int is_last;

    v->flight = NULL;
    if (v->is_leader)
        f->leader = NULL;
    if (v->is_leader && f->state == DIRECT)
        direct_leave(f);
    if (v->is_leader && v->outcome == OUT_DIRECT) { /* it is over, and he waited for nothing */
        flight_drop(f);
        return;
    }
    b = bucket_lock(f->hash);
    waiter_remove(f, v);
    is_last = --f->n_users == 0 && f->state != OVER && !f->is_background && f->mail.fn == NULL;
    if (is_last) {
        f->mail.fn = flight_abandoned;
        atomic_fetch_add(&f->n_refs, 1);
    }
    bucket_unlock(b);
    store_reader_remove(&v->reader);
    if (is_last)
        sl_loop_post(f->loop, &f->mail);
    flight_drop(f);
}
