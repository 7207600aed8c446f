/* What a health check asks by HTTP, and which answer is a good one: pure functions. */
#ifndef BALANCER_CHECK_HTTP_H
#define BALANCER_CHECK_HTTP_H

#include "balancer.h"

/* Statuses: 200-399,404. */
struct check_ranges {
    unsigned n;
    struct check_range {
        int first, last;
    } at[8];
};
/* NULL or a phrase. */
const char *check_ranges_parse(const char *text, struct check_ranges *ranges);

/* The whole request to this server. */
const char *check_request(apr_pool_t *pool, const struct check_conf *conf,
                          const struct sl_server *s);

enum check_verdict { CHECK_MORE, CHECK_GOOD, CHECK_BAD };
/* Of the first n bytes of an answer; is_all: no more will come, or be looked at.  GOOD or BAD with
 * the evidence in why, a phrase. */
enum check_verdict check_answer(const struct check_conf *conf, const char *bytes, size_t n,
                                int is_all, char *why, size_t why_size);

#endif
