/* The health of a server: one state machine for what requests and what checks have seen.
 *
 *             EJECTED                time is up, PROBE_BEGINS
 *        UP ---------> RESTING ------------------------------> PROBED, by a connection; REACHED:
 *       ^ |^             ^  ^------- PROBE_FAILED, _LOST --------|  |  its time is up; PROBE_BEGINS:
 *       | |'-- CHECK_OK -'  (its time is up)                        |  by a request
 *       | |                                       PROBE_OK -> UP <--'
 *       | '-- CHECK_FAILED, `fall` in a row, from any state ---> DOWN
 *       '----- CHECK_OK, `rise` in a row ------------------------'
 *
 * A pure function of the word a server's state is (sluice/upstream.h); health_tell() in
 * condition.c is the one who changes it. */
#ifndef BALANCER_HEALTH_H
#define BALANCER_HEALTH_H

#include "sluice/upstream.h"

#define REST_FIRST_MS 1000
#define REST_MAX_MS 10000
#define PROBE_MS 30000       /* a probe that says nothing for so long is given up */
#define WELL_AFTER_MS 30000  /* up for so long, it rests for REST_FIRST_MS again */

enum health_event {
    HEALTH_EJECTED,      /* requests failed too often */
    HEALTH_PROBE_BEGINS, /* a connection, or then a request, is about to try it */
    HEALTH_PROBE_REACHED, /* the connection was made: a request may follow */
    HEALTH_PROBE_OK,
    HEALTH_PROBE_FAILED,
    HEALTH_PROBE_LOST, /* its client left before it said anything */
    HEALTH_CHECK_OK,
    HEALTH_CHECK_FAILED,
    HEALTH_UNCHECKED, /* nobody checks it (any more) */
    HEALTH_EVENTS
};

struct health_rules {
    unsigned rise, fall;
};

/* The word after the event; the same one where it changes nothing. */
uint64_t health_next(uint64_t word, enum health_event event, const struct health_rules *rules,
                     int64_t now_ms);

/* How long it rests, having rested n times before. */
int64_t health_rest_ms(unsigned n_rested);

static inline unsigned
health_streak(uint64_t word)
{
    return word >> 51 & 255;
}

static inline unsigned
health_n_rested(uint64_t word)
{
    return word >> 46 & 31;
}

#endif
