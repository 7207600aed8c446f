/* The serving layers put together: what is built in, what a thread's loop holds for them, how
 * its connections are drained and closed.  The threads themselves are in worker_threads.c. */
#include "http/coders.h"
#include "http/http1.h"
#include "http/request.h"
#include "runtime/counter.h"
#include "upstream/exchange.h"

#include "sluice/provider.h"

#include <stdlib.h>

void
serving_register(void)
{
    counters_register();
    sl_provider_register("protocol", http1_protocol.name, &http1_protocol);
}

void
serving_thread_init(struct sl_loop *loop)
{
    loop->exchanges.size = slab_lines(sizeof(struct sl_exchange));
    loop->parsed = malloc(FIELDS_MAX * sizeof *loop->parsed);
    SL_ASSERT(loop->parsed != NULL);
    req_tokens_init(loop);
}

void
conn_drain_all(struct sl_loop *loop)
{
    struct sl_conn *c, *next;

    for (c = loop->clients; c != NULL; c = next) {
        next = c->next;
        if (c->protocol != NULL)
            c->protocol->drain(c);
        else if (atomic_load(&loop->worker->leaving) == LEAVING_FOR_GOOD)
            sl_conn_close(&c);
    }
}

void
conn_close_all(struct sl_loop *loop)
{
    struct sl_conn *c;

    while ((c = loop->clients) != NULL)
        sl_conn_close(&c);
    subrequests_close(loop);
    while ((c = loop->upstreams) != NULL)
        sl_conn_close(&c);
}

void
conn_thread_exit(struct sl_loop *loop)
{
    conn_close_all(loop);
    coders_close(loop);
    req_tokens_close(loop);
    free(loop->parsed);
    if (loop->buckets != NULL)
        apr_bucket_alloc_destroy(loop->buckets);
}
