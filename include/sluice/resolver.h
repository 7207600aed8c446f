/* How names become addresses: provider group "resolver".  The first that is loaded is asked;
 * without one the core asks getaddrinfo on its offload threads, which knows neither how long an
 * answer is good nor SRV records.
 *
 * The core asks for the name of every server again and again: when an answer is not good any
 * more, and after a failure, also of a part of it, ever less often.  What was found last stays in use until then. */
#ifndef SLUICE_RESOLVER_H
#define SLUICE_RESOLVER_H

#include "sluice/net.h"

struct sl_found {
    struct sl_sockaddr at; /* with the port */
    unsigned weight, priority; /* as the SRV record says (RFC 2782); 0 */
};

/* Good until done() returns. */
struct sl_answer {
    const struct sl_found *found; /* in the order in which they are to be tried */
    unsigned n;                   /* 0: nothing was found */
    const char *why;              /* nothing was found: a phrase */
    int64_t good_ms;              /* it was: ask again after that time */
    int is_partial;               /* some of the questions failed: sooner, if that is long */
};

/* A name to be looked up: embedded in the asker's memory, which lasts as long as the loop. */
struct sl_lookup {
    const char *name; /* lower case */
    int port;         /* of its addresses */
    int is_service;   /* SRV records of the name, and the addresses of their targets */
    void (*done)(struct sl_loop *loop, struct sl_lookup *l, const struct sl_answer *answer);
    void *resolver_data; /* the provider's, from one question to the next; NULL at first */
};

/* On thread 0. */
struct sl_resolver {
    /* Calls done() once, later or before it returns, unless the loop ends before. */
    void (*ask)(struct sl_loop *loop, struct sl_lookup *l);
    /* While the loop does not run yet: until all that was asked has been answered, but not longer.
     * What comes later still counts. */
    void (*settle)(int timeout_ms);
};

#endif
