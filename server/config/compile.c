/* Hook lists: for each scope and hook point, who runs there, in order.  Early before middle
 * before late; inside, what was declared with `after`, else the order of loading. */
#include "config/load.h"

#include "runtime/loader.h"
#include "runtime/crash.h"

#include <apr_strings.h>

#define CALLS_MAX 256

static int
is_active(const struct sl_scope *scope, const struct loaded_module *m)
{
    return scope == NULL || scope_raw(scope, m)->is_active;
}

static struct hook_call
call_of(const struct sl_scope *scope, const struct loaded_module *m, const struct sl_hook *hook)
{
    struct hook_call call = {.hook = hook, .module = m};

    if (hook->on_conn != NULL)
        call.fn.on_conn = hook->on_conn;
    else if (hook->on_attempt != NULL)
        call.fn.on_attempt = hook->on_attempt;
    else
        call.fn.on_req = hook->on_req;
    call.conf = scope != NULL ? scope->conf[m->index] : NULL;
    return call;
}

static unsigned
gather(const struct config *c, const struct sl_scope *scope, enum sl_hook_point point,
       struct hook_call *calls)
{
    unsigned n = 0, order, j;
    int i;

    for (order = SL_EARLY; order <= SL_LATE; order++)
        for (i = 0; i < c->modules->nelts; i++) {
            const struct loaded_module *m = config_module(c, i);
            const struct sl_hook *h;

            if (!is_active(scope, m))
                continue;
            for (j = 0; (h = hook_row(m, j)) != NULL && n < CALLS_MAX; j++)
                if (h->point == point && h->order == (enum sl_order)order)
                    calls[n++] = call_of(scope, m, h);
        }
    return n;
}

static int
is_among(const char *names, const char *name)
{
    size_t n = strlen(name), word;

    for (; *names != '\0'; names += word) {
        names += strspn(names, " ");
        word = strcspn(names, " ");
        if (word == n && memcmp(names, name, n) == 0)
            return 1;
    }
    return 0;
}

/* Whether calls[i] waits for one that stands behind it. */
static unsigned
blocker_of(const struct hook_call *calls, unsigned n, unsigned i)
{
    unsigned j;

    if (calls[i].hook->after != NULL)
        for (j = i + 1; j < n && calls[j].hook->order == calls[i].hook->order; j++)
            if (is_among(calls[i].hook->after, calls[j].module->name))
                return j;
    return n;
}

static int
settle_after(struct hook_call *calls, unsigned n)
{
    unsigned i, j, moves = 0;

    for (i = 0; i < n;) {
        struct hook_call call = calls[i];

        if ((j = blocker_of(calls, n, i)) == n) {
            i++;
            continue;
        }
        if (++moves > n * n)
            return -1;
        memmove(&calls[i], &calls[i + 1], (j - i) * sizeof *calls);
        calls[j] = call;
    }
    return 0;
}

int
hooks_in_order(const struct config *c, const struct sl_scope *scope, enum sl_hook_point point,
               struct hook_call *calls, unsigned *n)
{
    *n = gather(c, scope, point, calls);
    return settle_after(calls, *n);
}

void
compile_scope(const struct config *c, apr_pool_t *pool, struct sl_scope *s)
{
    struct hook_call calls[CALLS_MAX];
    unsigned point, n;

    for (point = SL_HOOK_PRE_CONNECTION; point < SL_HOOK_COUNT; point++) {
        hooks_in_order(c, s, (enum sl_hook_point)point, calls, &n);
        s->lists[point].n = n;
        s->lists[point].at = n > 0 ? apr_pmemdup(pool, calls, n * sizeof *calls) : NULL;
    }
}

static void
find_circles(struct config *c)
{
    struct hook_call calls[CALLS_MAX];
    unsigned point, n;

    for (point = SL_HOOK_PRE_CONNECTION; point < SL_HOOK_COUNT; point++)
        if (hooks_in_order(c, config_global(c), (enum sl_hook_point)point, calls, &n) != 0)
            config_error(c, NULL, NULL, "the hooks at %s wait for each other in a circle",
                         hook_point_name((enum sl_hook_point)point));
}

void
config_compile(struct config *c)
{
    int i;

    find_circles(c);
    for (i = 0; i < c->scopes->nelts; i++)
        compile_scope(c, c->pool, APR_ARRAY_IDX(c->scopes, i, struct sl_scope *));
}

static int
hook_failed(struct config *c, const char *module, enum sl_hook_point point)
{
    crash_place.call = NULL;
    config_error(c, NULL, NULL, "mod_%s failed at %s", module,
                 hook_point_name(point));
    return -1;
}

int
config_run_worker_hooks(struct config *c, enum sl_hook_point point, struct sl_worker *w)
{
    struct hook_call calls[CALLS_MAX];
    unsigned n, i;

    hooks_in_order(c, NULL, point, calls, &n);
    for (i = 0; i < n; i++) {
        const char *module = calls[i].module->name;

        if (calls[i].hook->on_worker == NULL)
            continue;
        crash_place = (struct crash_place){&calls[i], NULL, NULL};
        if (calls[i].hook->on_worker(w) != 0)
            return hook_failed(c, module, point);
    }
    crash_place.call = NULL;
    return 0;
}

int
config_run_thread_hooks(struct config *c, struct sl_worker *w, struct sl_loop *loop)
{
    struct hook_call calls[CALLS_MAX];
    unsigned n, i;

    hooks_in_order(c, NULL, SL_HOOK_THREAD_INIT, calls, &n);
    for (i = 0; i < n; i++)
        if (calls[i].hook->on_thread != NULL && calls[i].hook->on_thread(w, loop) != 0)
            return hook_failed(c, calls[i].module->name, SL_HOOK_THREAD_INIT);
    return 0;
}

const char *
hook_point_name(enum sl_hook_point point)
{
    static const char *const names[SL_HOOK_COUNT] = {
        "pre_config", "check_config", "post_config", "open_logs", "worker_init", "thread_init",
        "ready", "drain", "worker_exit", "pre_connection", "close_connection", "created",
        "head_read", "route", "access", "fixup", "handler", "select_server",
        "upstream_request", "upstream_response", "upstream_done", "response", "log"};

    return names[point];
}
