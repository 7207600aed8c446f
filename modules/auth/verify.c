/* Passwords are verified on offload threads, a few at a time: a hash that is worth its name takes
 * milliseconds, and names are looked up on those threads, too.  A question that is being answered
 * is not asked again: whoever has the same waits with the first.  All questions go to thread 0 by
 * mail, which alone knows what is under way, so that no thread waits for a lock.
 *
 * What was right is remembered for a while in a table of digests.  Wrong answers are not: guessing
 * must cost.  An entry is four words and a time, written in an order that makes a lock needless:
 * a reader that sees the time sees these words or later ones, and words of two entries make no
 * digest of anything. */
#include "auth.h"

#include <apr_siphash.h>

#include <openssl/crypto.h>

#include <stdlib.h>

#define SETS 1024
#define WAYS 4
#define RUNNING_MAX 2 /* of the offload threads, which others need, too */
#define WAITING_MAX 256

struct entry {
    _Atomic uint64_t word[4];
    _Atomic int64_t until_ms; /* 0: free */
};
static struct entry cache[SETS][WAYS];
static unsigned char process_keys[4][APR_SIPHASH_KSIZE];

struct verification {
    struct verification *next; /* of the same job */
    struct sl_token token;
    atomic_uint n_holders; /* the request and the job */
    enum auth_outcome outcome; /* written before the request is woken */
};

/* Made by the request's thread, thread 0's from when it arrives there. */
struct job {
    union {
        struct sl_mail mail; /* on its way to thread 0 */
        struct sl_offload offload;
    } u; /* first */
    struct job *next;
    struct auth_file *file;
    struct auth_digest digest;
    struct auth_contents *contents; /* NULL until it runs or waits to run */
    struct verification *waiting;
    unsigned n_waiting;
    const char *hash; /* of contents */
    int is_known, is_good;
    int64_t keep_ms;
    size_t n_password, n_user;
    char text[]; /* the password, NUL, the user */
};

/* Thread 0's. */
static struct sl_loop *home;
static struct job *jobs, *queue, **queue_end = &queue; /* being verified; not begun */
static unsigned n_running, n_waiting;

/* ---- the cache ---- */

struct auth_digest
auth_digest(const struct auth_file *f, uint64_t version, struct sl_span a, struct sl_span b)
{
    struct {
        const void *file;
        uint64_t version, n_a, n_b;
    } begin = {f, version, a.n, b.n};
    unsigned char room[sizeof begin + 2048], *text = room;
    struct auth_digest d;
    size_t n = sizeof begin + a.n + b.n;
    unsigned i;

    if (n > sizeof room) {
        text = malloc(n);
        SL_ASSERT(text != NULL);
    }
    memcpy(text, &begin, sizeof begin);
    memcpy(text + sizeof begin, a.at, a.n);
    memcpy(text + sizeof begin + a.n, b.at, b.n);
    for (i = 0; i < 4; i++)
        d.word[i] = apr_siphash24(text, n, process_keys[i]);
    OPENSSL_cleanse(text, n);
    if (text != room)
        free(text);
    return d;
}

int
auth_cache_has(const struct auth_digest *d, int64_t now_ms)
{
    struct entry *set = cache[d->word[0] % SETS];
    unsigned i, k;

    for (i = 0; i < WAYS; i++) {
        uint64_t differs = 0;

        if (atomic_load_explicit(&set[i].until_ms, memory_order_acquire) <= now_ms)
            continue;
        for (k = 0; k < 4; k++)
            differs |= atomic_load_explicit(&set[i].word[k], memory_order_relaxed) ^ d->word[k];
        if (differs == 0)
            return 1;
    }
    return 0;
}

void
auth_cache_add(const struct auth_digest *d, int64_t until_ms)
{
    struct entry *set = cache[d->word[0] % SETS], *oldest = set;
    unsigned i, k;

    for (i = 1; i < WAYS; i++)
        if (atomic_load(&set[i].until_ms) < atomic_load(&oldest->until_ms))
            oldest = &set[i];
    atomic_store(&oldest->until_ms, 0);
    for (k = 0; k < 4; k++)
        atomic_store(&oldest->word[k], d->word[k]);
    atomic_store_explicit(&oldest->until_ms, until_ms, memory_order_release);
}

/* ---- who waits ---- */

static void
verification_drop(struct verification *v)
{
    if (atomic_fetch_sub(&v->n_holders, 1) == 1)
        free(v);
}

static apr_status_t
request_ends(void *ctx)
{
    verification_drop(ctx);
    return APR_SUCCESS;
}

static struct verification *
verification_make(struct sl_req *r)
{
    struct verification *v = calloc(1, sizeof *v);

    SL_ASSERT(v != NULL);
    atomic_init(&v->n_holders, 2);
    v->token = sl_req_suspend(r);
    apr_pool_cleanup_register(sl_req_pool(r), v, request_ends, apr_pool_cleanup_null);
    return v;
}

enum auth_outcome
verification_outcome(const struct verification *v)
{
    return v->outcome;
}

/* Wakes all who wait for a job. */
static void
waiting_wake(struct job *job, enum auth_outcome outcome)
{
    struct verification *v, *next;

    for (v = job->waiting; v != NULL; v = next) {
        next = v->next;
        v->outcome = outcome;
        sl_req_resume(v->token, SL_NEXT);
        verification_drop(v);
    }
    job->waiting = NULL;
}

/* ---- jobs, on thread 0 ---- */

static void
job_free(struct job *job)
{
    OPENSSL_cleanse(job->text, job->n_password);
    if (job->contents != NULL)
        auth_contents_drop(&job->contents);
    free(job);
}

/* On an offload thread. */
static void
job_work(struct sl_offload *offload)
{
    struct job *job = (struct job *)(void *)offload;
    int is_right = password_is(job->text, job->hash);

    job->is_good = is_right & job->is_known;
}

static void
job_finish(struct sl_loop *loop, struct job *job)
{
    struct job **at;

    for (at = &jobs; *at != job; at = &(*at)->next)
        ;
    *at = job->next;
    n_running--;
    n_waiting -= job->n_waiting;
    if (job->is_good)
        auth_cache_add(&job->digest, sl_loop_now(loop) + job->keep_ms);
    waiting_wake(job, job->is_good ? AUTH_RIGHT : AUTH_WRONG);
    job_free(job);
}

static void jobs_run(struct sl_loop *loop);

static void
job_done(struct sl_loop *loop, struct sl_offload *offload)
{
    job_finish(loop, (struct job *)(void *)offload);
    jobs_run(loop);
}

static void
jobs_run(struct sl_loop *loop)
{
    while (n_running < RUNNING_MAX && queue != NULL) {
        struct job *job = queue;

        queue = job->next;
        if (queue == NULL)
            queue_end = &queue;
        job->next = jobs;
        jobs = job;
        n_running++;
        job->u.offload = (struct sl_offload){.work = job_work, .done = job_done};
        if (sl_offload(loop, &job->u.offload) != 0)
            job_finish(loop, job); /* nothing was compared: it is not good */
    }
}

static struct job *
job_find(struct job *list, const struct auth_digest *d)
{
    while (list != NULL && memcmp(&list->digest, d, sizeof *d) != 0)
        list = list->next;
    return list;
}

static struct sl_span
job_password(const struct job *job)
{
    return (struct sl_span){job->text, job->n_password};
}

static struct sl_span
job_user(const struct job *job)
{
    return (struct sl_span){job->text + job->n_password + 1, job->n_user};
}

static void
job_queue(struct job *job, struct auth_contents *contents)
{
    auth_contents_hold(contents);
    job->contents = contents;
    job->hash = passwords_hash(contents->parsed, job_user(job), &job->is_known);
    job->next = NULL;
    *queue_end = job;
    queue_end = &job->next;
}

/* Moves who waits for `from` to `to`, which asks the same. */
static void
job_join(struct job *from, struct job *to)
{
    from->waiting->next = to->waiting;
    to->waiting = from->waiting;
    from->waiting = NULL;
    to->n_waiting++;
    job_free(from);
}

static void
job_arrived(struct sl_loop *loop, struct sl_mail *mail)
{
    struct job *job = (struct job *)(void *)mail, *same;
    struct auth_contents *contents = auth_file_contents(job->file, loop);

    job->digest = auth_digest(job->file, contents->version, job_user(job), job_password(job));
    same = job_find(jobs, &job->digest);
    if (same == NULL)
        same = job_find(queue, &job->digest);
    if (auth_cache_has(&job->digest, sl_loop_now(loop)) || n_waiting == WAITING_MAX) {
        waiting_wake(job, n_waiting == WAITING_MAX ? AUTH_BUSY : AUTH_RIGHT);
        job_free(job);
        return;
    }
    n_waiting++;
    if (same != NULL)
        job_join(job, same);
    else
        job_queue(job, contents);
    jobs_run(loop);
}

/* ---- a request ---- */

struct verification *
verification_begin(struct sl_req *r, struct auth_file *file, struct sl_span user,
                   struct sl_span password, int64_t keep_ms)
{
    struct job *job = calloc(1, sizeof *job + password.n + 1 + user.n);
    struct verification *v = verification_make(r);

    SL_ASSERT(job != NULL);
    job->u.mail.fn = job_arrived;
    job->file = file;
    job->waiting = v;
    job->n_waiting = 1;
    job->keep_ms = keep_ms;
    job->n_password = password.n;
    job->n_user = user.n;
    memcpy(job->text, password.at, password.n);
    memcpy(job->text + password.n + 1, user.at, user.n);
    sl_loop_post(home, &job->u.mail);
    return v;
}

/* ---- the process ---- */

void
verify_open(struct sl_loop *loop)
{
    home = loop;
    sl_random_bytes(process_keys, sizeof process_keys);
}

static void
jobs_forget(struct job **list)
{
    while (*list != NULL) {
        struct job *job = *list;

        *list = job->next;
        while (job->waiting != NULL) {
            struct verification *v = job->waiting;

            job->waiting = v->next;
            verification_drop(v);
        }
        job_free(job);
    }
}

/* What waits for threads that are no more. */
void
verify_close(void)
{
    jobs_forget(&jobs);
    jobs_forget(&queue);
    queue_end = &queue;
}
