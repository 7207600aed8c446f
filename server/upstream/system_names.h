/* getaddrinfo, for where no module brings a resolver. */
#ifndef UPSTREAM_SYSTEM_NAMES_H
#define UPSTREAM_SYSTEM_NAMES_H

#include "sluice/resolver.h"

#define SYSTEM_FOUND_MAX 64 /* more addresses of one name are not used */

/* An answer that may wait: the caller's to free(). */
struct found_list {
    unsigned n; /* 1 or more */
    struct sl_found at[];
};

/* Blocks.  NULL, and getaddrinfo's words, when nothing was found. */
struct found_list *system_name_find(const char *host, int port, const char **why);

/* Several at a time, by threads, for timeout_ms at most; `is_answered` tells whose answer came in
 * time.  The others' threads end when they may, and their answers are dropped. */
struct system_question {
    const char *host;
    int port;
    int is_answered;
    struct found_list *found; /* the caller's; NULL: why tells */
    const char *why;
};
void system_names_find(struct system_question *questions, unsigned n, int timeout_ms);

#endif
