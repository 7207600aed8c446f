/* Names by getaddrinfo, which may hang longer than anybody waits: a thread that comes back late
 * finds a batch that nobody looks at, and the last one frees it. */
#include "upstream/system_names.h"

#include "runtime/clock.h"
#include "upstream/address.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define THREADS_MAX 16

/* The order getaddrinfo gives is kept: it is the host's policy (RFC 6724). */
static struct found_list *
found_list_make(const struct addrinfo *ai, int port)
{
    struct found_list *list = calloc(1, sizeof *list + SYSTEM_FOUND_MAX * sizeof list->at[0]);
    struct upstream_address a;

    for (; list != NULL && ai != NULL && list->n < SYSTEM_FOUND_MAX; ai = ai->ai_next)
        if (ai->ai_family == AF_INET || ai->ai_family == AF_INET6) {
            address_fill(&a, ai, port);
            list->at[list->n++].at = a.addr;
        }
    if (list != NULL && list->n == 0) {
        free(list);
        return NULL;
    }
    return list;
}

struct found_list *
system_name_find(const char *host, int port, const char **why)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    struct found_list *list = NULL;
    int rv = getaddrinfo(host, NULL, &hints, &found);

    *why = rv != 0 ? gai_strerror(rv) : "no usable address";
    if (rv == 0) {
        list = found_list_make(found, port);
        freeaddrinfo(found);
    }
    return list;
}

struct batch {
    pthread_mutex_t lock;
    pthread_cond_t done;
    unsigned n, n_taken, n_finished;
    unsigned n_holders; /* threads, and the one that waits */
    struct batch_item {
        char host[ADDRESS_HOST_MAX];
        int port, is_answered;
        struct found_list *found;
        const char *why;
    } items[];
};

static struct batch *
batch_make(const struct system_question *questions, unsigned n)
{
    struct batch *b = calloc(1, sizeof *b + n * sizeof b->items[0]);
    pthread_condattr_t attr;
    unsigned i;

    if (b == NULL)
        return NULL;
    pthread_mutex_init(&b->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&b->done, &attr);
    pthread_condattr_destroy(&attr);
    b->n = n;
    b->n_holders = 1;
    for (i = 0; i < n; i++) {
        b->items[i].port = questions[i].port;
        strcpy(b->items[i].host, questions[i].host);
    }
    return b;
}

/* Under the lock, which it gives back. */
static void
batch_release(struct batch *b)
{
    int is_last = --b->n_holders == 0;
    unsigned i;

    pthread_mutex_unlock(&b->lock);
    if (!is_last)
        return;
    for (i = 0; i < b->n; i++)
        free(b->items[i].found);
    pthread_cond_destroy(&b->done);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

static void *
batch_thread(void *arg)
{
    struct batch *b = arg;

    pthread_mutex_lock(&b->lock);
    while (b->n_taken < b->n) {
        struct batch_item *item = &b->items[b->n_taken++];
        struct found_list *found;
        const char *why;

        pthread_mutex_unlock(&b->lock);
        found = system_name_find(item->host, item->port, &why);
        pthread_mutex_lock(&b->lock);
        item->found = found;
        item->why = why;
        item->is_answered = 1;
        b->n_finished++;
        pthread_cond_signal(&b->done);
    }
    batch_release(b);
    return NULL;
}

/* Under the lock. */
static void
batch_start(struct batch *b)
{
    pthread_attr_t attr;
    pthread_t thread;
    unsigned i;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    for (i = 0; i < b->n && i < THREADS_MAX; i++)
        if (pthread_create(&thread, &attr, batch_thread, b) == 0)
            b->n_holders++;
    pthread_attr_destroy(&attr);
}

/* Under the lock. */
static void
batch_collect(struct batch *b, struct system_question *questions)
{
    unsigned i;

    for (i = 0; i < b->n; i++) {
        questions[i].is_answered = b->items[i].is_answered;
        questions[i].found = b->items[i].found;
        questions[i].why = b->items[i].why;
        b->items[i].found = NULL;
    }
}

void
system_names_find(struct system_question *questions, unsigned n, int timeout_ms)
{
    struct batch *b = batch_make(questions, n);
    int64_t until = monotonic_ms() + timeout_ms;
    struct timespec ts = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};

    if (b == NULL)
        return;
    pthread_mutex_lock(&b->lock);
    batch_start(b);
    while (b->n_holders > 1 && b->n_finished < b->n)
        if (pthread_cond_timedwait(&b->done, &b->lock, &ts) == ETIMEDOUT)
            break;
    batch_collect(b, questions);
    batch_release(b);
}
