/* Requests that wait for a server with room, as many as configured and as long.
 *
 * Whoever ends an attempt wakes the one that has waited longest in the best class, by mail to its
 * thread; there it picks like any other, and goes back to the front if others were faster.  Who
 * comes while others wait queues up behind them.
 *
 * The list is under a lock, which a request takes only when it has to wait, or when somebody
 * waits.  A waiter is touched by its own thread but for its place in the list.  It is not the
 * request's memory: the mail that wakes it may come when the request is gone.
 *
 * Room may come about without an attempt of ours that ends: a server comes back, or a generation
 * before us frees it; and there may be nothing to wait for any more when all servers are down.  So
 * each waiter looks for itself now and then. */

#include "balancer.h"
#include "queue.h"

#include <pthread.h>
#include <stdlib.h>

#define CLASSES 10 /* priority 0, the first, to 9 */
#define CLASS_DEFAULT 5
#define LOOK_MS 200

enum waiter_state {
    WAITER_QUEUED,
    WAITER_WOKEN, /* its mail is on the way */
    WAITER_PICKS, /* it came */
    WAITER_GONE,  /* the mail will find nobody */
};

struct waiter {
    struct sl_mail mail; /* first */
    struct sl_timer timer;
    struct waiter *next, **prev; /* in its class */
    struct queue *queue;
    struct sl_pool *pool;
    struct sl_attempt *attempt;
    struct sl_loop *loop;
    enum waiter_state state;
    int saw_room;      /* when it looked last */
    unsigned n_served; /* then */
    unsigned class;
    int64_t until;
};

struct queue {
    _Atomic(unsigned) n; /* in the list: written under the lock */
    atomic_uint n_woken; /* their mail is on the way */
    atomic_uint n_served;
    _Atomic(int64_t) n_in_flight; /* of this generation; counted where limited */
    int64_t n_max, timeout_ms, in_flight_max;
    struct sl_expr *priority;
    pthread_mutex_t lock;
    struct {
        struct waiter *first, **end;
    } classes[CLASSES];
};

static const struct sl_cause cause_full = {"BALANCER0020", "queue_full", 503,
                                           "all servers are busy and the queue is full"};
static const struct sl_cause cause_late = {"BALANCER0021", "queue_timeout", 503,
                                           "no server had room within the Queue's timeout"};

struct queue *
queue_make(apr_pool_t *pool, int64_t n, int64_t timeout_ms, int64_t in_flight,
           struct sl_expr *priority)
{
    struct queue *q = apr_pcalloc(pool, sizeof(*q));
    unsigned i;

    q->n_max = n;
    q->timeout_ms = timeout_ms;
    q->in_flight_max = in_flight;
    q->priority = priority;
    pthread_mutex_init(&q->lock, NULL);
    for (i = 0; i < CLASSES; i++)
        q->classes[i].end = &q->classes[i].first;
    return q;
}

unsigned
queue_length(const struct queue *q)
{
    return atomic_load(&q->n);
}

/* ---- the list; under the lock ---- */

static void
list_append(struct queue *q, struct waiter *w)
{
    w->next = NULL;
    w->prev = q->classes[w->class].end;
    *w->prev = w;
    q->classes[w->class].end = &w->next;
    atomic_fetch_add(&q->n, 1);
}

static void
list_put_first(struct queue *q, struct waiter *w)
{
    w->next = q->classes[w->class].first;
    w->prev = &q->classes[w->class].first;
    if (w->next != NULL)
        w->next->prev = &w->next;
    else
        q->classes[w->class].end = &w->next;
    q->classes[w->class].first = w;
    atomic_fetch_add(&q->n, 1);
}

static void
list_remove(struct queue *q, struct waiter *w)
{
    *w->prev = w->next;
    if (w->next != NULL)
        w->next->prev = w->prev;
    else
        q->classes[w->class].end = w->prev;
    atomic_fetch_sub(&q->n, 1);
}

static struct waiter *
list_first(const struct queue *q)
{
    unsigned i;

    for (i = 0; i < CLASSES; i++)
        if (q->classes[i].first != NULL)
            return q->classes[i].first;
    return NULL;
}

/* ---- waking ---- */

static int
queue_is_full_house(const struct queue *q)
{
    return q->in_flight_max > 0 && atomic_load(&q->n_in_flight) >= q->in_flight_max;
}

static void
wake_one(struct queue *q)
{
    struct waiter *w;

    pthread_mutex_lock(&q->lock);
    w = list_first(q);
    if (w != NULL) {
        list_remove(q, w);
        w->state = WAITER_WOKEN;
        atomic_fetch_add(&q->n_woken, 1);
    }
    pthread_mutex_unlock(&q->lock);
    if (w != NULL)
        sl_loop_post(w->loop, &w->mail);
}

/* There is room, but maybe for somebody who is woken already. */
static void
wake_if_none(struct queue *q)
{
    if (atomic_load(&q->n_woken) == 0)
        wake_one(q);
}

/* On its thread: it picks, and may be freed by that. */
static void
waiter_picks(struct waiter *w)
{
    w->state = WAITER_PICKS;
    sl_attempt_pick(w->attempt);
}

static void
waiter_woken(struct sl_loop *loop, struct sl_mail *mail)
{
    struct waiter *w = (struct waiter *)(void *)mail;

    (void)loop;
    atomic_fetch_sub(&w->queue->n_woken, 1);
    if (w->state != WAITER_GONE) {
        waiter_picks(w);
        return;
    }
    wake_one(w->queue); /* its client left: the room is for the next one */
    free(w);
}

/* ---- waiting ---- */

/* Whether a server, or the pool, is full that the attempt could go to; has_room: one is not. */
static int
is_worth_waiting(const struct queue *q, struct sl_attempt *a, const struct sl_pool *pool,
                 int *has_room)
{
    int64_t now_ms = sl_loop_now(sl_attempt_loop(a));
    int is_worth = 0;
    unsigned i;

    *has_room = 0;
    for (i = 0; i < pool->n_servers; i++) {
        const struct sl_server *s = pool->servers[i];

        if (sl_attempt_tried(a, s) || !sl_server_may_be_used(s, now_ms))
            continue;
        is_worth = 1;
        if (!sl_server_is_full(s) && !queue_is_full_house(q))
            *has_room = 1;
    }
    return is_worth;
}

/* Takes it out of the list, if nobody has woken it meanwhile. */
static int
waiter_take_out(struct waiter *w)
{
    int is_queued;

    pthread_mutex_lock(&w->queue->lock);
    is_queued = w->state == WAITER_QUEUED;
    if (is_queued)
        list_remove(w->queue, w);
    pthread_mutex_unlock(&w->queue->lock);
    return is_queued;
}

static void
waiter_free(struct waiter *w)
{
    sl_timer_unlink(&w->timer);
    free(w);
}

/* Room is for the first in line: only if nobody has taken it since the last look, none of those before
 * this one can use it. */
static int
waiter_may_pick(struct waiter *w, int has_room)
{
    unsigned n_served = atomic_load(&w->queue->n_served);
    int is_left = has_room && w->saw_room && w->n_served == n_served;

    w->saw_room = has_room;
    w->n_served = n_served;
    if (has_room && !is_left)
        wake_if_none(w->queue);
    return is_left;
}

static void
waiter_looks(struct sl_loop *loop, struct sl_timer *timer)
{
    struct waiter *w = (struct waiter *)(void *)((char *)timer - offsetof(struct waiter, timer));
    int64_t now_ms = sl_loop_now(loop), due = now_ms + LOOK_MS;
    struct sl_attempt *a = w->attempt;
    int has_room, is_worth = is_worth_waiting(w->queue, a, w->pool, &has_room);
    int may_pick = waiter_may_pick(w, has_room) || (has_room && now_ms >= w->until);

    sl_timer_set(loop, timer, due < w->until ? due : w->until);
    if ((is_worth && !may_pick && now_ms < w->until) || !waiter_take_out(w))
        return;
    if (may_pick) {
        waiter_picks(w);
        return;
    }
    *sl_attempt_owner_data(a) = NULL;
    waiter_free(w);
    sl_attempt_fail(a, is_worth ? &cause_late : &sl_cause_no_server);
}

/* "0" to "9" are classes; anything else is in the middle. */
static unsigned
class_of(const struct queue *q, struct sl_req *r)
{
    struct sl_span text = q->priority != NULL && r != NULL ? sl_expr_text(q->priority, r)
                                                           : SL_SPAN("");

    return text.n == 1 && text.at[0] >= '0' && text.at[0] <= '9' ? (unsigned)(text.at[0] - '0')
                                                                : CLASS_DEFAULT;
}

static struct waiter *
waiter_make(struct queue *q, struct sl_attempt *a, struct sl_pool *pool)
{
    struct waiter *w = calloc(1, sizeof(*w));
    struct sl_loop *loop = sl_attempt_loop(a);
    int64_t until = sl_loop_now(loop) + q->timeout_ms, deadline = sl_attempt_deadline(a);

    if (w == NULL)
        return NULL;
    w->mail.fn = waiter_woken;
    w->timer.due = INT64_MAX;
    w->timer.fn = waiter_looks;
    w->queue = q;
    w->pool = pool;
    w->attempt = a;
    w->loop = loop;
    w->class = class_of(q, sl_attempt_req(a));
    w->until = until < deadline ? until : deadline;
    sl_timer_set(loop, &w->timer, sl_loop_now(loop) + LOOK_MS);
    *sl_attempt_owner_data(a) = w;
    return w;
}

/* Behind those of its class, in front if it was woken in vain.  0: there is no room for it. */
static int
waiter_enqueue(struct queue *q, struct waiter *w)
{
    int is_back = w->state == WAITER_PICKS;
    int has_place = is_back || (int64_t)atomic_load(&q->n) < q->n_max;

    pthread_mutex_lock(&q->lock);
    w->state = WAITER_QUEUED;
    if (is_back)
        list_put_first(q, w);
    else if (has_place)
        list_append(q, w);
    pthread_mutex_unlock(&q->lock);
    return has_place;
}

const struct sl_cause *
queue_wait(struct queue *q, struct sl_attempt *a, struct sl_pool *pool)
{
    struct waiter *w = *sl_attempt_owner_data(a);
    int has_room, is_worth = is_worth_waiting(q, a, pool, &has_room);

    if (!is_worth && w == NULL)
        return &sl_cause_no_server;
    if (w == NULL)
        w = waiter_make(q, a, pool);
    if (w == NULL || !is_worth || !waiter_enqueue(q, w)) {
        *sl_attempt_owner_data(a) = NULL;
        if (w != NULL)
            waiter_free(w);
        return is_worth ? &cause_full : &sl_cause_no_server;
    }
    is_worth_waiting(q, a, pool, &has_room); /* an attempt may have ended before we stood here */
    if (has_room)
        wake_if_none(q);
    return NULL;
}

void
queue_leave(struct queue *q, struct sl_attempt *a)
{
    struct waiter *w = *sl_attempt_owner_data(a);

    (void)q;
    *sl_attempt_owner_data(a) = NULL;
    sl_timer_unlink(&w->timer);
    if (waiter_take_out(w))
        free(w);
    else
        w->state = WAITER_GONE;
}

/* ---- coming and going ---- */

int
queue_admits(struct queue *q, struct sl_attempt *a)
{
    if (*sl_attempt_owner_data(a) == NULL && atomic_load(&q->n) > 0)
        return 0;
    if (q->in_flight_max == 0)
        return 1;
    if (atomic_fetch_add(&q->n_in_flight, 1) < q->in_flight_max)
        return 1;
    atomic_fetch_sub(&q->n_in_flight, 1);
    return 0;
}

void
queue_leave_place(struct queue *q)
{
    if (q->in_flight_max > 0)
        atomic_fetch_sub(&q->n_in_flight, 1);
}

void
queue_served(struct sl_attempt *a, void *waiter)
{
    struct waiter *w = waiter;
    int has_room;

    if (*sl_attempt_owner_data(a) == waiter)
        *sl_attempt_owner_data(a) = NULL;
    if (w == NULL)
        return;
    atomic_fetch_add(&w->queue->n_served, 1);
    is_worth_waiting(w->queue, a, w->pool, &has_room);
    if (has_room && queue_length(w->queue) > 0) /* for more than one */
        wake_if_none(w->queue);
    waiter_free(w);
}

void
queue_room(struct queue *q)
{
    queue_leave_place(q);
    if (atomic_load(&q->n) > 0)
        wake_one(q);
}
