/* The words every other header uses: spans, verdicts, levels, and the names of the
 * objects a module is handed.  Nothing here allocates or can fail. */
#ifndef SLUICE_BASE_H
#define SLUICE_BASE_H

#include <apr_pools.h>
#include <apr_tables.h>

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A span is bytes we look at but do not own: valid until the buffer it points into is
 * given back or its request ends, whichever is first.  To keep one, sl_span_dup() it.
 * Not NUL-terminated. */
struct sl_span {
    const char *at;
    size_t n;
};

#define SL_SPAN(literal) ((struct sl_span){(literal), sizeof(literal) - 1})

static inline struct sl_span
sl_span(const char *text)
{
    return (struct sl_span){text, text != NULL ? strlen(text) : 0};
}

/* A NUL-terminated copy in `pool`. */
char *sl_span_dup(apr_pool_t *pool, struct sl_span s);

/* Put together in `pool`, NUL-terminated; never at NULL. */
struct sl_span sl_spans_join(apr_pool_t *pool, const struct sl_span *parts, unsigned n);

/* Takes the first member of a comma-separated list off *list, without the blanks around it;
 * empty ones are given too (RFC 9110, 5.6.1).  0 when nothing is left, which *list shows by
 * at NULL. */
int sl_list_next(struct sl_span *list, struct sl_span *member);

/* ASCII case does not count (RFC 9110, 5.1: field names). */
int sl_span_eqi(struct sl_span a, struct sl_span b);

/* A JSON string with its quotes, valid whatever the bytes: what is no UTF-8 becomes U+FFFD, and
 * what does not fit is left out.  At least 16 bytes must be free; returns its end. */
char *sl_json_string(char *to, char *end, struct sl_span s);

static inline int
sl_span_eq(struct sl_span a, struct sl_span b)
{
    return a.n == b.n && memcmp(a.at, b.at, a.n) == 0;
}

/* What a hook says.  Values only grow at the end. */
enum sl_verdict {
    SL_NEXT,  /* go on with the next hook */
    SL_DONE,  /* this phase is decided: skip its other hooks */
    SL_WAIT,  /* suspended: a token was taken, sl_req_resume() continues after this hook */
    SL_FAIL,  /* the request failed: say it by way of sl_req_fail() */
    SL_RETRY, /* of upstream hooks: drop this attempt and make another; else of sl_req_resume() */
};

enum sl_level { SL_ERROR, SL_WARN, SL_NOTICE, SL_INFO, SL_DEBUG, SL_TRACE };

struct sl_attempt;
struct sl_cond;
struct sl_conn;
struct sl_cmd;
struct sl_exchange;
struct sl_expr;
struct sl_fields;
struct sl_filter;
struct sl_loop;
struct sl_module;
struct sl_networks;
struct sl_pool;
struct sl_req;
struct sl_scope;
struct sl_server;
struct sl_target;
struct sl_worker;

#if defined(__GNUC__)
#define SL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define SL_PRINTF(fmt, args)
#endif

/* Programmer errors end the process with a report; always compiled in. */
_Noreturn void sl_panic(const char *file, int line, const char *func, const char *what);
#define SL_ASSERT(e) ((e) ? (void)0 : sl_panic(__FILE__, __LINE__, __func__, #e))

#endif
