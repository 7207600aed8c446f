/* Passwords are verified on offload threads, a few at a time: a hash that is worth its name takes
 * milliseconds, and names are looked up on those threads, too.  A question that is being answered
 * is not asked again: whoever has the same waits with the first.
 *
 * What was right is remembered for a while in a table of digests.  Wrong answers are not: guessing
 * must cost.  An entry is four words and a time, written in an order that makes a lock needless:
 * a reader that sees the time sees these words or later ones, and words of two entries make no
 * digest of anything. */
#include "auth.h"

#include <apr_strings.h>

#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <pthread.h>
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
static unsigned char process_key[32];

struct verification {
    struct verification *next; /* of the same job */
    struct sl_token token;
    atomic_uint n_holders; /* the request and the job */
    int is_good;           /* written before the request is woken */
};

struct job {
    struct sl_offload offload; /* first */
    struct job *next;
    struct auth_digest digest;
    struct auth_contents *contents;
    struct verification *waiting;
    const char *hash; /* of contents */
    unsigned n_waiting;
    int is_known, is_good;
    int64_t keep_ms;
    size_t n;
    char password[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of what follows */
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
    unsigned char text[sizeof begin + 2048], *big = text;
    struct auth_digest d;
    size_t n = sizeof begin + a.n + b.n;

    if (n > sizeof text) {
        big = malloc(n);
        SL_ASSERT(big != NULL);
    }
    memcpy(big, &begin, sizeof begin);
    memcpy(big + sizeof begin, a.at, a.n);
    if (b.n > 0)
        memcpy(big + sizeof begin + a.n, b.at, b.n);
    HMAC(EVP_sha256(), process_key, sizeof process_key, big, n, (unsigned char *)d.word, NULL);
    OPENSSL_cleanse(big, n);
    if (big != text)
        free(big);
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

int
verification_is_good(const struct verification *v)
{
    return v->is_good;
}

/* ---- jobs ---- */

static void
job_free(struct job *job)
{
    OPENSSL_cleanse(job->password, job->n);
    auth_contents_drop(&job->contents);
    free(job);
}

static void
job_work(struct sl_offload *offload)
{
    struct job *job = (struct job *)(void *)offload;
    int is_right = password_is(job->password, job->hash);

    job->is_good = is_right & job->is_known;
}

static struct verification *
job_leave(struct job *job)
{
    struct verification *waiting;
    struct job **at;

    pthread_mutex_lock(&lock);
    for (at = &jobs; *at != job; at = &(*at)->next)
        ;
    *at = job->next;
    waiting = job->waiting;
    n_waiting -= job->n_waiting;
    n_running--;
    pthread_mutex_unlock(&lock);
    return waiting;
}

/* The next of the queue, where there is room to run it. */
static struct job *
queue_next(void)
{
    struct job *job = NULL;

    pthread_mutex_lock(&lock);
    if (n_running < RUNNING_MAX && queue != NULL) {
        job = queue;
        queue = job->next;
        if (queue == NULL)
            queue_end = &queue;
        job->next = jobs;
        jobs = job;
        n_running++;
    }
    pthread_mutex_unlock(&lock);
    return job;
}

/* Wakes who waited, and frees the job. */
static void
job_finish(struct sl_loop *loop, struct job *job)
{
    struct verification *v, *next;

    if (job->is_good)
        auth_cache_add(&job->digest, sl_loop_now(loop) + job->keep_ms);
    for (v = job_leave(job); v != NULL; v = next) {
        next = v->next;
        v->is_good = job->is_good;
        sl_req_resume(v->token, SL_NEXT);
        verification_drop(v);
    }
    job_free(job);
}

static void
jobs_run(struct sl_loop *loop)
{
    struct job *job;

    while ((job = queue_next()) != NULL)
        if (sl_offload(loop, &job->offload) != 0)
            job_finish(loop, job); /* nothing was compared: it is not good */
}

static void
job_done(struct sl_loop *loop, struct sl_offload *offload)
{
    job_finish(loop, (struct job *)(void *)offload);
    jobs_run(loop);
}

static struct job *
job_find(struct job *list, const struct auth_digest *d)
{
    while (list != NULL && memcmp(&list->digest, d, sizeof *d) != 0)
        list = list->next;
    return list;
}

/* Takes contents over. */
static struct job *
job_make(struct auth_contents *contents, const struct auth_digest *d, struct sl_span user,
         struct sl_span password, int64_t keep_ms)
{
    struct job *job = calloc(1, sizeof *job + password.n + 1);

    SL_ASSERT(job != NULL);
    job->offload.work = job_work;
    job->offload.done = job_done;
    job->digest = *d;
    job->contents = contents;
    job->hash = passwords_hash(contents->parsed, user, &job->is_known);
    job->keep_ms = keep_ms;
    job->n = password.n;
    memcpy(job->password, password.at, password.n);
    return job;
}

/* Has r wait for the job of the same question, or for this one, which is then queued and not the
 * caller's any more.  NULL: too many wait. */
static struct verification *
question_join(struct sl_req *r, struct job **own)
{
    struct job *job = job_find(jobs, &(*own)->digest);
    struct verification *v;

    if (n_waiting >= WAITING_MAX)
        return NULL;
    if (job == NULL)
        job = job_find(queue, &(*own)->digest);
    if (job == NULL) {
        job = *own;
        *queue_end = job;
        queue_end = &job->next;
        *own = NULL;
    }
    v = verification_make(r);
    v->next = job->waiting;
    job->waiting = v;
    job->n_waiting++;
    n_waiting++;
    return v;
}

struct verification *
verification_begin(struct sl_req *r, struct auth_file *file, struct sl_span user,
                   struct sl_span password, int64_t keep_ms)
{
    struct auth_contents *contents = auth_file_hold(file);
    struct auth_digest d = auth_digest(file, contents->version, user, password);
    struct job *own = job_make(contents, &d, user, password, keep_ms);
    struct verification *v;

    pthread_mutex_lock(&lock);
    v = question_join(r, &own);
    pthread_mutex_unlock(&lock);
    if (own != NULL)
        job_free(own);
    jobs_run(sl_req_loop(r));
    return v;
}

/* ---- the process ---- */

int
verify_open(void)
{
    sl_random_bytes(process_key, sizeof process_key);
    return 0;
}

/* What waits for threads that are no more. */
void
verify_close(void)
{
    static struct job **const lists[] = {&jobs, &queue};
    unsigned i;

    for (i = 0; i < 2; i++)
        while (*lists[i] != NULL) {
            struct job *job = *lists[i];
            struct verification *v, *next;

            *lists[i] = job->next;
            for (v = job->waiting; v != NULL; v = next) {
                next = v->next;
                verification_drop(v);
            }
            job_free(job);
        }
    queue_end = &queue;
}
