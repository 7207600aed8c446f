/* What stands on a Server line, kept in its sl_server.balancer_data. */
#ifndef BALANCER_SERVER_LINE_H
#define BALANCER_SERVER_LINE_H

#include "sluice/conf.h"

#define CHECK_UNSAID (-1) /* by HealthCheck of the pool */
#define SEATS_MAX 1024

/* What holds where a line says nothing. */
#define SERVER_LINE_DEFAULT \
    ((struct server_line){.weight = 1, .maxconn = -1, .slowstart_ms = -1, .n_seats = -1, \
                          .check = CHECK_UNSAID})

struct server_line {
    int64_t weight, maxconn, slowstart_ms, priority, check_port;
    int64_t n_seats; /* resolve; -1: the target is one server */
    int is_backup, is_drain, check;
    const char *place; /* file:line */
};

/* The options of a Server line, for one that is added at run time, too. */
extern const struct sl_option server_options[];
/* NULL or a phrase. */
const char *line_check(const struct server_line *line, const char *address);
unsigned line_level(const struct server_line *line);

#endif
