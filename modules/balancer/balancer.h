/* mod_balancer's own: a pool as configured, and who has a part in it.
 *
 *   mod_balancer.c  the pools by name, the section, the checks of the whole
 *   directives.c    the lines of a section
 *   share.c         which server gets an attempt, who rests after a failure, what is retried
 *   roundrobin.c    Method roundrobin
 *   leastconn.c     Method leastconn */
#ifndef BALANCER_H
#define BALANCER_H

#include "sluice/module.h"

/* What Retry on= names. */
enum { RETRY_CONNECT = 1, RETRY_ERROR = 2, RETRY_TIMEOUT = 4 };
#define RETRY_MAX_DEFAULT 2

struct balancer {
    struct balancer *next;
    struct sl_pool *pool; /* pool->data is this */
    const char *used_at;    /* file:line of the first balancer://NAME; NULL: none yet */
    const char *defined_at; /* file:line of <Balancer NAME>; NULL: none yet */
    const char *method_at, *keepalive_at, *retry_at; /* each may be written once */
    unsigned n_server_lines;                         /* right or wrong */
    const struct sl_balance_method *method;
    void *method_data;
    unsigned retry_on;
    unsigned retry_max; /* attempts beyond the first */
};

/* The lines of one section; the pool itself is filled in as they are read. */
struct balancer_conf {
    apr_array_header_t *servers, *later;
    void *method, *keepalive, *retry, *tls, *send_proxy;
};

/* directives.c: the lines, and the pool of the section being read, NULL outside of one. */
extern const struct sl_directive balancer_directives[];
extern struct balancer *section_pool;
/* NAME and the arguments behind it: NULL or a phrase. */
const char *method_set(struct sl_cmd *cmd, struct balancer *b, const char *name);

extern const struct sl_pool_owner share_owner;
extern const struct sl_balance_method roundrobin_method;
extern const struct sl_balance_method leastconn_method;

#endif
