/* Cookie and Set-Cookie: whatever the bytes, what is found lies within them behind its name, and
 * attributes are added once, behind what the server said. */
/* with: server/http/pairs.c server/runtime/span.c */
#include "panic_double.h"

#include "../../modules/headers/cookies.c"

#include "http/fields.h"

#include <apr_general.h>

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
cookie_try(struct sl_span field)
{
    static const char *const names[] = {"a", "session", "", "a=b"};
    unsigned i;

    for (i = 0; i < 4; i++) {
        struct sl_span name = sl_span(names[i]), value = pair_find(field, ';', name);

        if (value.at == NULL)
            continue;
        SL_ASSERT(value.at > field.at + name.n && value.at + value.n <= field.at + field.n);
        SL_ASSERT(value.at[-1] == '=' && memchr(value.at, ';', value.n) == NULL);
        SL_ASSERT(memcmp(value.at - 1 - name.n, name.at, name.n) == 0);
    }
}

static void
set_cookie_try(apr_pool_t *pool, struct sl_span cookie)
{
    static const struct cookie_flags all = {1, 1, SAME_SITE_LAX, NULL, NULL};
    struct sl_span once = flagged(pool, &all, cookie), twice = flagged(pool, &all, once);

    SL_ASSERT(once.n >= cookie.n && (cookie.n == 0 || memcmp(once.at, cookie.at, cookie.n) == 0));
    SL_ASSERT(has_attribute(once, SL_SPAN("Secure")) && has_attribute(once, SL_SPAN("HttpOnly")) &&
              has_attribute(once, SL_SPAN("SameSite")));
    SL_ASSERT(sl_span_eq(once, twice));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct sl_span text = {n > 0 ? (const char *)data : "", n};
    apr_pool_t *pool;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    cookie_try(text);
    set_cookie_try(pool, text);
    apr_pool_destroy(pool);
    apr_terminate();
    return 0;
}

/* ---- what a request and a line have; not reached ---- */

const char *
sl_cmd_options(struct sl_cmd *cmd, int first, const struct sl_option *options, void *to)
{
    (void)cmd;
    (void)first;
    (void)options;
    (void)to;
    return NULL;
}

void
sl_cmd_cure(struct sl_cmd *cmd, const char *fmt, ...)
{
    (void)cmd;
    (void)fmt;
}

apr_pool_t *
sl_cmd_pool(const struct sl_cmd *cmd)
{
    (void)cmd;
    return NULL;
}

struct sl_fields *
sl_req_response(struct sl_req *r)
{
    (void)r;
    return NULL;
}

const struct sl_field *
sl_fields_at(const struct sl_fields *f, unsigned i)
{
    (void)f;
    (void)i;
    return NULL;
}

int
sl_fields_put(struct sl_fields *f, unsigned i, struct sl_span value)
{
    (void)f;
    (void)i;
    (void)value;
    return 0;
}

int
sl_fields_has_id(const struct sl_fields *f, enum sl_field_id id)
{
    (void)f;
    (void)id;
    return 0;
}

void
sl_req_note(struct sl_req *r, const char *fmt, ...)
{
    (void)r;
    (void)fmt;
}
