/* mod_dns's own.
 *
 *   mod_dns.c  the directive, and how c-ares lives in the loop
 *   lookup.c   one name: its questions, what was found of it last, the answer
 *   srv.c      the bytes of an answer with SRV records */
#ifndef DNS_H
#define DNS_H

#include "sluice/module.h"

#include <ares.h>

#define TYPE_SRV 33 /* RFC 2782 */
#define SERVICES_MAX 64 /* SRV records of one name; more are not used */

struct dns_conf {
    int64_t timeout_ms, least_ms, most_ms; /* ttl=MIN-MAX */
    const char *servers;                   /* ADDR:PORT with commas; NULL: the system's */
};

/* lookup.c: the questions of one lookup; thread 0. */
void dns_ask(ares_channel channel, const struct dns_conf *conf, struct sl_loop *loop,
             struct sl_lookup *l);
/* All that is kept of names, when nothing is asked any more. */
void dns_forget_all(void);

/* srv.c: an answer with SRV records (RFC 2782), as far as there is room.  How many, and for how
 * many seconds they are good; -1: malformed. */
struct service {
    char *target; /* lower case; the caller's to free() */
    int port;
    unsigned weight, priority;
};
int dns_services_parse(const unsigned char *bytes, int n, struct service *to, unsigned room,
                       unsigned *ttl);

#endif
