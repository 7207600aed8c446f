/* A few threads for what would block a loop, and the bounded queue they take it from.  They are there
 * from the start to the end: to make one takes a hook longer than it may.
 *
 * Who is woken finds the lock free: with a library's pool, which wakes under it, each job cost two
 * more turns of the system's scheduler.  And who wakes does not sleep: pthread_cond_signal() waits for
 * a thread that was woken before and had no processor since, on a busy machine for milliseconds; a
 * semaphore is posted without. */
#include "event/loop.h"

#include "runtime/dry.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>

#define THREADS_MAX 16
#define QUEUE_MAX 4096

static struct {
    pthread_mutex_t lock;
    sem_t turns; /* one for each job, and one for each thread to end by */
    struct sl_mail *first, **last; /* of the jobs */
    unsigned n_queued;
    int is_ending;
    pthread_t threads[THREADS_MAX];
    unsigned n_threads;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .last = &pool.first};

static void
offload_arrived(struct sl_loop *loop, struct sl_mail *mail)
{
    struct sl_offload *job = (struct sl_offload *)mail;

    loop->n_jobs--;
    job->done(loop, job);
}

/* The next job, waited for; NULL: there will be none. */
static struct sl_offload *
job_take(void)
{
    struct sl_mail *mail;

    while (sem_wait(&pool.turns) != 0)
        SL_ASSERT(errno == EINTR);
    pthread_mutex_lock(&pool.lock);
    mail = pool.first;
    if (mail != NULL) {
        pool.first = mail->next;
        if (pool.first == NULL)
            pool.last = &pool.first;
        pool.n_queued--;
    }
    pthread_mutex_unlock(&pool.lock);
    return (struct sl_offload *)mail;
}

static void *
offload_run(void *none)
{
    struct sl_offload *job;

    while ((job = job_take()) != NULL) {
        job->work(job);
        job->mail.fn = offload_arrived;
        sl_loop_post(job->loop, &job->mail);
    }
    return none;
}

int
offload_open(unsigned n_threads)
{
    SL_ASSERT(n_threads <= THREADS_MAX);
    if (pool.n_threads == 0)
        sem_init(&pool.turns, 0, 0);
    pool.is_ending = 0;
    for (; pool.n_threads < n_threads; pool.n_threads++)
        if (pthread_create(&pool.threads[pool.n_threads], NULL, offload_run, NULL) != 0) {
            offload_close();
            return -1;
        }
    return 0;
}

void
offload_close(void)
{
    unsigned i;

    pthread_mutex_lock(&pool.lock);
    pool.is_ending = 1;
    pthread_mutex_unlock(&pool.lock);
    for (i = 0; i < pool.n_threads; i++)
        sem_post(&pool.turns);
    for (i = 0; i < pool.n_threads; i++)
        pthread_join(pool.threads[i], NULL);
    pool.n_threads = 0;
}

int
sl_offload(struct sl_loop *loop, struct sl_offload *job)
{
    int is_taken;

    if (dry_run_refuses("sl_offload()") || loop->is_stopping)
        return -1;
    job->loop = loop;
    job->mail.next = NULL;
    pthread_mutex_lock(&pool.lock);
    is_taken = pool.n_threads > 0 && !pool.is_ending && pool.n_queued < QUEUE_MAX;
    if (is_taken) {
        *pool.last = &job->mail;
        pool.last = &job->mail.next;
        pool.n_queued++;
        loop->n_jobs++;
    }
    pthread_mutex_unlock(&pool.lock);
    if (is_taken)
        sem_post(&pool.turns);
    return is_taken ? 0 : -1;
}
