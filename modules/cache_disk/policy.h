/* What a shared cache may do (RFC 9111): decisions over facts.  Pure: no clock, no store. */
#ifndef CACHE_POLICY_H
#define CACHE_POLICY_H

#include "control.h"

/* ---- which requests are the store's, and what they do to it (RFC 9111, 4 and 4.4) ---- */

/* is_for_server: it has a field that servers alone may answer. */
int policy_may_answer(struct sl_span method, int has_body, int is_for_server);
/* What is stored for its URL is of the past; so is what other URLs of the same origin have that the
 * response names. */
int policy_invalidates(struct sl_span method, int status);

/* ---- may it be stored, and for how long (RFC 9111, 3 and 4.2) ---- */

/* What of a response is not to be heeded: CacheIgnore. */
enum {
    IGNORE_CACHE_CONTROL = 1,
    IGNORE_EXPIRES = 2,
    IGNORE_SET_COOKIE = 4,
    IGNORE_VARY = 8,
    IGNORE_REQUEST = 16, /* what clients wish */
};

/* Spans at NULL: the field is absent. */
struct response_facts {
    int status;
    struct sl_span cache_control, cdn_cache_control, pragma, expires, date, age, vary;
    struct sl_span last_modified;
    int has_set_cookie, has_authorization; /* the latter of the request */
    int request_is_no_store;
    int64_t asked_at, received_at; /* seconds since the epoch */
    int64_t valid;                 /* CacheValid of this status in seconds; CC_ABSENT: none */
    unsigned ignore;
};

/* Whether it may be used when it is stale (RFC 9111, 4.2.4).  Stored: the numbers stay. */
enum strictness {
    LENIENT, /* as server, client or configuration allow it */
    STRICT,  /* never: must-revalidate and the like */
    AS_SAID, /* s-maxage: only where the server itself says how long (RFC 5861) */
};

struct storing {
    int64_t lifetime;      /* seconds it is fresh, from `born` on; 0: stored to be validated */
    int64_t born;          /* when it was made, by the server's clock as ours sees it (4.2.3) */
    int64_t date;          /* as the server says; CC_ABSENT: it does not */
    int64_t while_revalidate, if_error; /* seconds past that; CC_ABSENT: not said */
    enum strictness strict;
    int is_always_asked;   /* no-cache: never without validation */
};
/* NULL, or why it may not be stored; then of *s only born and date are set. */
const char *policy_store(const struct response_facts *f, struct storing *s);

/* ---- may it be used (RFC 9111, 4) ---- */

struct use_facts {
    struct storing stored;
    int is_soft;            /* purged softly: stale from now on */
    struct sl_span cache_control, pragma; /* of the request */
    int64_t now;
    unsigned ignore;
    int serves_stale_updating; /* CacheUseStale updating */
};

enum use {
    USE_FRESH,
    USE_STALE_UPDATE, /* now, and fetch a new one behind the client's back */
    USE_VALIDATE,     /* not before the server has agreed */
};
struct using {
    enum use use;
    int64_t age;        /* seconds */
    const char *reason; /* for who asks why */
    int may_on_error;   /* also when the server fails: stale-if-error has not run out */
    int is_stale;
    int is_refused; /* fresh, and the client wants it fresher */
};
struct using policy_use(const struct use_facts *f);

/* What comes of it when nothing that is stored may be used. */
enum miss {
    MISS_FETCH,
    MISS_PASS,   /* no-store: nobody else has anything of it */
    MISS_ABSENT, /* only-if-cached: 504 */
};
enum miss policy_miss(struct sl_span cache_control, unsigned ignore);

/* Whether this status of a server is an error that something stale may be given for (RFC 5861, 4). */
int policy_is_error(int status);

/* ---- what a 304 is about (RFC 9111, 4.3.4) ---- */

struct validators {
    struct sl_span etag, last_modified;
};
/* Whether it speaks of what is stored, and not of another response: by its ETag, without one by
 * when it was changed; with neither, of what was asked about. */
int policy_agrees(const struct validators *fresh, const struct validators *stored);

/* ---- conditional requests (RFC 9110, 13) ----
 *
 * If-Match and If-Unmodified-Since are for servers alone: a request with one of them never gets
 * here (RFC 9111, 4.3.2). */

struct condition_facts {
    struct sl_span if_none_match, if_modified_since; /* all lines */
    struct sl_span etag, last_modified; /* of what is stored */
    int64_t date;                       /* of what is stored */
};
/* 1: the client has it already (304); 0: it is to be given. */
int policy_not_modified(const struct condition_facts *f);
/* Weakly (RFC 9110, 8.8.3.2). */
int policy_etag_matches(struct sl_span a, struct sl_span b);
/* If-Range (13.1.5): whether a range may be given of what is stored, whose Date is `date`.  A
 * Last-Modified of that same second is weak: the second may have brought one more change
 * (8.8.2.2). */
int policy_range_holds(struct sl_span if_range, struct sl_span etag, struct sl_span last_modified,
                       int64_t date);

/* ---- ranges (RFC 9110, 14) ---- */

#define RANGES_MAX 16
struct range {
    int64_t from, n;
};
/* Of a body of `size` bytes.  0: the field asks for all, or is to be ignored; -1: none can be
 * satisfied; else how many, in the order asked for. */
int policy_ranges(struct sl_span field, int64_t size, struct range *ranges);

/* Content-Range of a part (14.4): 0, or -1: it says no such thing, or not how much there is. */
struct content_range {
    int64_t first, last, whole;
};
int policy_content_range(struct sl_span field, struct content_range *r);
/* What a condition that must hold to the byte may name (13.1.5): the entity-tag if it is strong,
 * else the date of the last change if that is a minute before the response's own (8.8.2.2); n 0:
 * neither. */
struct sl_span policy_strong_validator(struct sl_span etag, struct sl_span last_modified,
                                       int64_t date);

#endif
