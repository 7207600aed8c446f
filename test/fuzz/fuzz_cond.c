/* Conditions: any text compiles or is refused with a phrase; what compiles is asked of a
 * request, and the same text gives the same answer twice. */
/* with: server/[!m]*.c server/metrics.c server/config/[a-z]*.c server/event/[a-z]*.c server/http/[a-z]*.c server/master/[a-z]*.c server/net/[a-z]*.c server/runtime/[a-z]*.c server/upstream/[a-z]*.c */
#include "config/cond.h"
#include "config/config.h"
#include "http/request.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
make_request(struct sl_req *r, struct sl_conn *c, apr_pool_t *pool)
{
    memset(r, 0, sizeof *r);
    memset(c, 0, sizeof *c);
    r->pool = r->head.pool = r->response.pool = pool;
    r->conn = c;
    r->method = SL_SPAN("POST");
    r->host = SL_SPAN("a.test");
    r->path = r->match = SL_SPAN("/u/ann");
    r->query = SL_SPAN("x=it's&y=1");
    r->client_text = SL_SPAN("10.0.0.1");
    r->status = 404;
    sl_fields_add(&r->head, "Cookie", SL_SPAN("y=it"));
    sl_fields_add(&r->head, "X-Beta", SL_SPAN("1"));
}

/* Some variables need more of a server than a request has here. */
static int
is_whole(const char *text)
{
    return strstr(text, "%{uri") == NULL && strstr(text, "%{scheme") == NULL &&
           strstr(text, "_time}") == NULL && strstr(text, "%{request_id") == NULL;
}

static void
ask(apr_pool_t *pool, const struct sl_cond *cond, const char *text)
{
    struct sl_req r;
    struct sl_conn c;
    int first;

    if (!is_whole(text))
        return;
    make_request(&r, &c, pool);
    first = sl_cond_holds(cond, &r);
    if (first < -1 || first > 1 || first != sl_cond_holds(cond, &r))
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static int is_ready;
    struct config_source source = {
        .name = "fuzz", .text = "", .module_dir = "/nonexistent"};
    struct sl_cond *cond;
    const char *err, *text;
    apr_pool_t *pool;

    if (!is_ready)
        apr_initialize();
    is_ready = 1;
    apr_pool_create(&pool, NULL);
    config_load(pool, &source);
    text = apr_pstrmemdup(pool, (const char *)data, n);
    cond = sl_cond_compile(pool, text, SL_PHASE_LOG, &err);
    if ((cond == NULL) != (err != NULL))
        abort();
    if (cond != NULL)
        ask(pool, cond, text);
    apr_pool_destroy(pool);
    return 0;
}
