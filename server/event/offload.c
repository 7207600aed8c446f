/* A few threads for what would block a loop: APR-util's pool, with a bounded queue.  They are there
 * from the start to the end: to make one takes a hook longer than it may. */
#include "event/loop.h"

#include "runtime/dry.h"

#include <apr_thread_pool.h>

#include <stdatomic.h>

#define QUEUE_MAX 4096

static apr_thread_pool_t *threads;
static atomic_int n_queued;

static void *APR_THREAD_FUNC
thread_ends(apr_thread_t *thread, void *data)
{
    (void)data;
    apr_thread_exit(thread, APR_SUCCESS);
    return NULL;
}

/* What the C library needs for a thread to end it loads when the first does so, and aborts if it
 * cannot: that is not left to a moment without descriptors. */
static int
one_thread_ends(apr_pool_t *pool)
{
    apr_thread_t *thread;
    apr_status_t status;

    return apr_thread_create(&thread, NULL, thread_ends, NULL, pool) == APR_SUCCESS &&
                   apr_thread_join(&status, thread) == APR_SUCCESS ? 0 : -1;
}

int
offload_open(apr_pool_t *pool, unsigned n_threads)
{
    if (one_thread_ends(pool) != 0)
        return -1;
    return apr_thread_pool_create(&threads, n_threads, n_threads, pool) == APR_SUCCESS ? 0 : -1;
}

void
offload_close(void)
{
    if (threads != NULL)
        apr_thread_pool_destroy(threads);
    threads = NULL;
}

static void
offload_arrived(struct sl_loop *loop, struct sl_mail *mail)
{
    struct sl_offload *job = (struct sl_offload *)mail;

    loop->n_jobs--;
    job->done(loop, job);
}

static void *APR_THREAD_FUNC
offload_work(apr_thread_t *thread, void *data)
{
    struct sl_offload *job = data;

    (void)thread;
    atomic_fetch_sub(&n_queued, 1);
    job->work(job);
    job->mail.fn = offload_arrived;
    sl_loop_post(job->loop, &job->mail);
    return NULL;
}

int
sl_offload(struct sl_loop *loop, struct sl_offload *job)
{
    if (dry_run_refuses("sl_offload()") || loop->is_stopping)
        return -1;
    if (threads == NULL || atomic_fetch_add(&n_queued, 1) >= QUEUE_MAX) {
        if (threads != NULL)
            atomic_fetch_sub(&n_queued, 1);
        return -1;
    }
    job->loop = loop;
    if (apr_thread_pool_push(threads, offload_work, job, APR_THREAD_TASK_PRIORITY_NORMAL, NULL) ==
        APR_SUCCESS) {
        loop->n_jobs++;
        return 0;
    }
    atomic_fetch_sub(&n_queued, 1);
    return -1;
}
