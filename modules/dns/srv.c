/* c-ares takes SRV records apart, but does not say how long they are good: that is read here.  A
 * pure function of the bytes. */
#include "dns.h"

#include <stdlib.h>

#define HEADER 12      /* RFC 1035, 4.1.1 */
#define QUESTION_END 4 /* type and class */
#define RECORD_HEAD 10 /* type, class, TTL, length: RFC 1035, 4.1.3 */

static unsigned
number16(const unsigned char *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

/* Behind the name that begins at `at`; NULL: it is malformed. */
static const unsigned char *
name_skip(const unsigned char *at, const unsigned char *bytes, int n)
{
    char *name;
    long length;

    if (at >= bytes + n || ares_expand_name(at, bytes, n, &name, &length) != ARES_SUCCESS)
        return NULL;
    ares_free_string(name);
    return at + length;
}

/* The least TTL of the answer's SRV records.  0, or -1. */
static int
least_ttl(const unsigned char *bytes, int n, unsigned *ttl)
{
    const unsigned char *at = bytes + HEADER, *end = bytes + n;
    unsigned i;

    *ttl = UINT32_MAX;
    if (n < HEADER)
        return -1;
    for (i = 0; i < number16(bytes + 4); i++) {
        at = name_skip(at, bytes, n);
        if (at == NULL || end - at < QUESTION_END)
            return -1;
        at += QUESTION_END;
    }
    for (i = 0; i < number16(bytes + 6); i++) {
        unsigned of_record;

        at = name_skip(at, bytes, n);
        if (at == NULL || end - at < RECORD_HEAD || end - at - RECORD_HEAD < number16(at + 8))
            return -1;
        of_record = number16(at + 4) << 16 | number16(at + 6);
        if (number16(at) == TYPE_SRV && of_record < *ttl)
            *ttl = of_record;
        at += RECORD_HEAD + number16(at + 8);
    }
    return 0;
}

static char *
lower_case(const char *name)
{
    char *copy = strdup(name), *c;

    for (c = copy; c != NULL && *c != '\0'; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c + ('a' - 'A'));
    return copy;
}

/* "." as a target says that there is no such service (RFC 2782). */
static int
is_usable(const struct ares_srv_reply *r)
{
    return r->port > 0 && r->host != NULL && r->host[0] != '\0' && strcmp(r->host, ".") != 0;
}

int
dns_services_parse(const unsigned char *bytes, int n, struct service *to, unsigned room,
                   unsigned *ttl)
{
    struct ares_srv_reply *list = NULL, *r;
    unsigned k = 0;

    if (least_ttl(bytes, n, ttl) != 0 || ares_parse_srv_reply(bytes, n, &list) != ARES_SUCCESS)
        return -1;
    for (r = list; r != NULL && k < room; r = r->next)
        if (is_usable(r) && (to[k].target = lower_case(r->host)) != NULL) {
            to[k].port = r->port;
            to[k].weight = r->weight;
            to[k].priority = r->priority;
            k++;
        }
    ares_free_data(list);
    return (int)k;
}
