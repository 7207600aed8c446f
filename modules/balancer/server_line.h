/* What stands on a Server line, kept in its sl_server.balancer_data. */
#ifndef BALANCER_SERVER_LINE_H
#define BALANCER_SERVER_LINE_H

#include <stdint.h>

#define CHECK_UNSAID (-1) /* by HealthCheck of the pool */

struct server_line {
    int64_t weight, maxconn, slowstart_ms, priority, check_port;
    int is_backup, is_drain, check;
    const char *place; /* file:line */
    int64_t said_at;   /* override.c's: seconds since the epoch; 0: nobody knows */
};

#endif
