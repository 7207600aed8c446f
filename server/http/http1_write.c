/* Heads written.  A line leaves from the buffer it came in when the parser marked it
 * canonical, else it is written anew: nothing odd passes. */
#include "http/http1.h"

void
put_number(struct writer *w, uint64_t n)
{
    char digits[20], *p = digits + sizeof digits;

    do
        *--p = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    put(w, p, (size_t)(digits + sizeof digits - p));
}

/* A line written anew. */
static void
put_line(struct writer *w, const struct sl_field *x)
{
    size_t n = x->name.n + x->value.n + 4;
    char *at = w->at;

    if ((size_t)(w->end - at) < n) {
        w->is_full = 1;
        return;
    }
    at = mempcpy(at, x->name.at, x->name.n);
    at = mempcpy(at, ": ", 2);
    if (x->value.n > 0)
        at = mempcpy(at, x->value.at, x->value.n);
    memcpy(at, "\r\n", 2);
    w->at += n;
}

void
put_fields(struct writer *w, const struct sl_fields *f)
{
    const char *run = NULL, *run_end = NULL;
    unsigned i;

    for (i = 0; i < f->n; i++) {
        const struct sl_field *x = &f->at[i];

        if (x->flags & FIELD_DROPPED)
            continue;
        if (x->flags & FIELD_CANONICAL) {
            struct sl_span line = field_line(x);

            if (line.at != run_end) {
                if (run != NULL)
                    put(w, run, (size_t)(run_end - run));
                run = line.at;
            }
            run_end = line.at + line.n;
            continue;
        }
        if (run != NULL)
            put(w, run, (size_t)(run_end - run));
        run = run_end = NULL;
        put_line(w, x);
    }
    if (run != NULL)
        put(w, run, (size_t)(run_end - run));
}

#define NO_TRAILER                                                                           \
    ((uint64_t)1 << SL_F_HOST | (uint64_t)1 << SL_F_CONNECTION |                             \
     (uint64_t)1 << SL_F_CONTENT_LENGTH | (uint64_t)1 << SL_F_TRANSFER_ENCODING |            \
     (uint64_t)1 << SL_F_TE | (uint64_t)1 << SL_F_TRAILER | (uint64_t)1 << SL_F_UPGRADE |    \
     (uint64_t)1 << SL_F_KEEP_ALIVE | (uint64_t)1 << SL_F_PROXY_CONNECTION |                 \
     (uint64_t)1 << SL_F_CONTENT_TYPE | (uint64_t)1 << SL_F_CONTENT_ENCODING |               \
     (uint64_t)1 << SL_F_CONTENT_RANGE | (uint64_t)1 << SL_F_AUTHORIZATION |                 \
     (uint64_t)1 << SL_F_COOKIE | (uint64_t)1 << SL_F_SET_COOKIE |                           \
     (uint64_t)1 << SL_F_CACHE_CONTROL | (uint64_t)1 << SL_F_EXPECT |                        \
     (uint64_t)1 << SL_F_MAX_FORWARDS | (uint64_t)1 << SL_F_RANGE |                          \
     (uint64_t)1 << SL_F_PROXY_AUTHORIZATION | (uint64_t)1 << SL_F_VIA |                     \
     (uint64_t)1 << SL_F_FORWARDED | (uint64_t)1 << SL_F_X_FORWARDED_FOR |                   \
     (uint64_t)1 << SL_F_X_FORWARDED_PROTO | (uint64_t)1 << SL_F_X_FORWARDED_HOST |          \
     (uint64_t)1 << SL_F_X_REAL_IP)

int
sl_field_may_trail(const struct sl_field *x)
{
    return (x->flags & (FIELD_DROPPED | FIELD_FOLDED)) == 0 && (NO_TRAILER >> x->id & 1) == 0;
}

void
put_trailers(struct writer *w, const struct sl_fields *f)
{
    unsigned i;

    for (i = 0; i < f->n; i++) {
        const struct sl_field *x = &f->at[i];

        if (!sl_field_may_trail(x))
            continue;
        put_line(w, x);
    }
}
