/* What would be done with a request: its hooks and its routing are run as for a real one, in a
 * dry run, on a connection that leads nowhere.  There is no second matcher: what is told are the
 * notes of the code that decides.
 *
 * Nothing is opened, created or counted; a hook whose row lacks SL_DRY_OK is not called but
 * listed.  The answer of a server is assumed to be 200 without fields. */
#ifndef EXPLAIN_H
#define EXPLAIN_H

#include "http/request.h"
#include "worker.h"

#include <stdio.h>

struct explain_ask {
    const char *what;          /* METHOD URL */
    const char *const *fields; /* "Field: value" */
    unsigned n_fields;
    const char *from; /* the client's address; NULL: 127.0.0.1 */
};

/* In the memory of its request, which explain_end() frees. */
struct explained {
    struct sl_req *r;
    struct sl_loop *loop;
    struct sl_span url;
    const struct listener *listener;
    const char *listener_why;
    const struct sl_target *target; /* NULL: nobody is asked */
    const struct sl_server *server; /* NULL: the same */
    struct sl_span sent;            /* the head the server would get; n 0: none */
    struct sl_span path;            /* in it, with query */
    int is_assumed;                 /* the response is */
    int has_ended;                  /* 0: a hook waits for something */
};

/* NULL: *err says what is wrong with the question, or lacks for it.  pool: holds the question until
 * explain_end(), and what is assumed for it.  On any thread that runs no request. */
struct explained *explain(struct sl_worker *w, apr_pool_t *pool, const struct explain_ask *ask,
                          const char **err);
void explain_end(struct explained **x);

/* explain_command.c: as a command for the running server. */
void explain_register(void);

/* explain_print.c */
void explain_print_text(const struct explained *x, FILE *to);
void explain_print_json(const struct explained *x, FILE *to);

/* tests.c: runs the <Test> blocks; what does not come as it says is an error of the
 * configuration.  How many there are. */
int tests_run(struct sl_worker *w);

#endif
