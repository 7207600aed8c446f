/* <Test> blocks: each is explained, and what came is compared with what was expected.  They are
 * run where a configuration is judged: by -t, at a start and before a reload takes over. */
#include "explain.h"

#include "config/test_section.h"

#include "sluice/upstream.h"

#include <apr_strings.h>

#include <stdlib.h>

/* One that is running. */
struct trial {
    struct config *c;
    const struct test_section *test;
    const struct explained *x;
};

static void
failed(const struct trial *t, const struct test_expect *e, const char *word, struct sl_span came)
{
    config_error(t->c, e->place,
                 apr_psprintf(t->c->pool, "sluice -E '%s' shows how it comes about", t->test->ask),
                 "<Test \"%s\">: expected %s%s%s %s, came %.*s", t->test->ask, word,
                 e->name != NULL ? " " : "", e->name != NULL ? e->name : "", e->value, (int)came.n,
                 came.at);
}

/* "404, no module answers for this path" */
static struct sl_span
answer_text(const struct trial *t)
{
    const struct sl_req *r = t->x->r;

    return sl_span(apr_psprintf(t->c->pool, "%d%s%s", r->status, r->cause != NULL ? ", " : "",
                                r->cause != NULL ? r->cause->text : ""));
}

static int
pool_has(const struct sl_pool *pool, const char *server)
{
    unsigned i;

    for (i = 0; i < pool->n_servers; i++)
        if (strcmp(pool->servers[i]->address, server) == 0 ||
            strcmp(pool->servers[i]->name, server) == 0)
            return 1;
    return 0;
}

static void
try_backend(const struct trial *t, const struct test_expect *e)
{
    const struct explained *x = t->x;

    if (x->server == NULL)
        failed(t, e, "Backend", answer_text(t));
    else if (!pool_has(x->target->pool, e->value))
        failed(t, e, "Backend", x->target->text);
}

/* The query counts where the Test names one. */
static void
try_path(const struct trial *t, const struct test_expect *e)
{
    struct sl_span path = t->x->path;
    const char *mark = path.n > 0 ? memchr(path.at, '?', path.n) : NULL;

    if (t->x->server == NULL) {
        failed(t, e, "Path", answer_text(t));
        return;
    }
    if (mark != NULL && strchr(e->value, '?') == NULL)
        path.n = (size_t)(mark - path.at);
    if (!sl_span_eq(path, sl_span(e->value)))
        failed(t, e, "Path", path);
}

static void
try_status(const struct trial *t, const struct test_expect *e)
{
    if (t->x->is_assumed)
        failed(t, e, "Status",
               sl_span(apr_psprintf(t->c->pool, "a request to %s", t->x->server->address)));
    else if (t->x->r->status != atoi(e->value))
        failed(t, e, "Status", answer_text(t));
}

static void
try_field(const struct trial *t, const struct test_expect *e)
{
    struct sl_span value = sl_fields_joined(&t->x->r->response, e->name);

    if (value.at == NULL)
        failed(t, e, "Header", SL_SPAN("no such field"));
    else if (!sl_span_eq(value, sl_span(e->value)))
        failed(t, e, "Header", value);
}

static void
try_all(const struct trial *t)
{
    const apr_array_header_t *fields = t->test->fields;
    int i;

    if (!t->x->has_ended) {
        config_error(t->c, t->test->place, NULL, "<Test \"%s\">: a hook waits for what only a "
                     "running server can tell", t->test->ask);
        return;
    }
    if (t->test->backend != NULL)
        try_backend(t, t->test->backend);
    if (t->test->path != NULL)
        try_path(t, t->test->path);
    if (t->test->status != NULL)
        try_status(t, t->test->status);
    for (i = 0; fields != NULL && i < fields->nelts; i++)
        try_field(t, APR_ARRAY_IDX(fields, i, struct test_expect *));
}

int
tests_run(struct sl_worker *w)
{
    struct config *c = w->config;
    int i;

    for (i = 0; i < c->tests->nelts; i++) {
        const struct test_section *test = APR_ARRAY_IDX(c->tests, i, struct test_section *);
        struct explain_ask ask = {.what = test->ask};
        const char *err;
        struct explained *x = explain(w, w->pool, &ask, &err);

        if (x == NULL) {
            config_error(c, test->place, NULL, "<Test \"%s\">: %s", test->ask, err);
            continue;
        }
        try_all(&(struct trial){c, test, x});
        explain_end(&x);
    }
    return c->tests->nelts;
}
