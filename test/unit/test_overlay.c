/* Ifs: which sets hold, in which order they are laid over a scope, and threads that make
 * the same sets at the same time. */
/* threads */
/* with: server/[!m]*.c server/metrics.c server/config/[a-z]*.c server/event/[a-z]*.c server/http/[a-z]*.c server/master/[a-z]*.c server/net/[a-z]*.c server/runtime/[a-z]*.c server/upstream/[a-z]*.c */
#include "unit.h"

#include "config/load.h"
#include "http/request.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <pthread.h>

#define THREADS 4
#define IFS 10

static apr_pool_t *pool;
static struct sl_req request;

static struct config *
config_load_text(const char *text)
{
    struct config_source source = {
        .text = text, .name = "t", .module_dir = "/nonexistent"};

    return config_load(pool, &source);
}

static unsigned
limit_body_mark(const struct config *c)
{
    const struct sl_directive *row, *rows = core_module.directives;
    unsigned i;

    for (i = 0; (row = directive_row(config_module(c, 0), rows, i)) != NULL; i++)
        if (strcmp(row->name, "LimitBody") == 0)
            return slots_first(config_module(c, 0), rows, row);
    fail();
    return 0;
}

/* <If condition> with LimitBody in it, as reading one would leave it. */
static struct sl_scope *
add_if(struct config *c, struct sl_scope *parent, const char *condition, int64_t limit)
{
    struct sl_scope *s = apr_pcalloc(pool, sizeof *s);
    struct raw_conf *raw;
    const char *err;

    s->kind = SL_SCOPE_IF;
    s->parent = parent;
    s->index = (unsigned)c->scopes->nelts;
    s->place = "t:1";
    s->raw = apr_pcalloc(pool, sizeof *raw);
    s->conf = apr_pcalloc(pool, sizeof(void *));
    s->condition = sl_cond_compile(pool, condition, SL_PHASE_REQUEST, &err);
    assert_non_null(s->condition);
    raw = scope_raw(s, config_module(c, 0));
    raw->own = apr_pcalloc(pool, sizeof(struct core_conf));
    raw->marks = apr_pcalloc(pool, 200 * sizeof *raw->marks);
    ((struct core_conf *)raw->own)->limit_body = limit;
    ((struct core_conf *)raw->own)->limit_line = limit + 1;
    raw->marks[limit_body_mark(c)].place = "t:2";
    APR_ARRAY_PUSH(c->scopes, struct sl_scope *) = s;
    return s;
}

static void
ifs_overlay(void **state)
{
    struct config *c = config_load_text("LimitBody 1\n");
    struct sl_scope *global = config_global(c), *both, *inner, *first;

    (void)state;
    assert_false(sl_scope_has_ifs(global));
    assert_ptr_equal(sl_scope_overlay(global, &request), global);
    first = add_if(c, global, "%{req:X} == x", 10);
    add_if(c, first, "%{req:Y} == 1", 20); /* inside the first */
    add_if(c, global, "%{req:Z} == 1", 30);
    config_merge(c);
    config_compile(c);
    config_overlays(c);
    assert_true(sl_scope_has_ifs(global));
    assert_ptr_equal(sl_scope_overlay(global, &request), global);
    sl_fields_add(&request.head, "Y", SL_SPAN("1"));
    assert_ptr_equal(sl_scope_overlay(global, &request), global);
    sl_fields_add(&request.head, "X", SL_SPAN("x"));
    inner = sl_scope_overlay(global, &request);
    assert_ptr_not_equal(inner, global);
    assert_int_equal(inner->core->limit_body, 20);
    assert_int_equal(inner->core->limit_line, global->core->limit_line);
    assert_ptr_equal(sl_scope_overlay(global, &request), inner);
    sl_fields_add(&request.head, "Z", SL_SPAN("1"));
    both = sl_scope_overlay(global, &request);
    assert_int_equal(both->core->limit_body, 20); /* further inside is last */
    sl_fields_unset(&request.head, "Y");
    assert_int_equal(sl_scope_overlay(global, &request)->core->limit_body, 30);
    sl_fields_unset(&request.head, "Z");
    assert_int_equal(sl_scope_overlay(global, &request)->core->limit_body, 10);
    assert_int_equal(global->core->limit_body, 1);
    sl_fields_unset(&request.head, "X");
}

static void
ifs_are_counted(void **state)
{
    struct config *c = config_load_text("");
    int i;

    (void)state;
    for (i = 0; i < 33; i++)
        add_if(c, config_global(c), "%{req:X} == x", i);
    config_merge(c);
    config_compile(c);
    config_overlays(c);
    assert_int_equal(c->errors->nelts, 1);
    assert_non_null(
        strstr(APR_ARRAY_IDX(c->errors, 0, struct config_error).text, "at most 32 Ifs"));
}

/* ---- threads ---- */

struct asking {
    pthread_t thread;
    struct sl_scope *scope, *got[1 << IFS];
    apr_pool_t *pool;
};

static void
ask(struct asking *a, unsigned set)
{
    struct sl_req r;
    char name[2] = "A";

    memset(&r, 0, sizeof r);
    r.pool = r.head.pool = a->pool;
    for (; name[0] < 'A' + IFS; name[0]++)
        if (set >> (name[0] - 'A') & 1)
            sl_fields_add(&r.head, apr_pstrdup(r.pool, name), SL_SPAN("1"));
    a->got[set] = sl_scope_overlay(a->scope, &r);
}

static void *
ask_all(void *data)
{
    struct asking *a = data;
    unsigned set;

    for (set = 0; set < 1 << IFS; set++)
        ask(a, set);
    return NULL;
}

static void
threads_share_what_they_make(void **state)
{
    static struct asking all[THREADS];
    struct config *c = config_load_text("LimitBody 1000\n");
    char text[] = "%{req:A} == 1";
    unsigned i, set, last;

    (void)state;
    for (i = 0; i < IFS; i++, text[6]++)
        add_if(c, config_global(c), text, i);
    config_merge(c);
    config_compile(c);
    config_overlays(c);
    for (i = 0; i < THREADS; i++) {
        all[i].scope = config_global(c);
        apr_pool_create_unmanaged_ex(&all[i].pool, NULL, NULL);
        assert_int_equal(pthread_create(&all[i].thread, NULL, ask_all, &all[i]), 0);
    }
    for (i = 0; i < THREADS; i++)
        pthread_join(all[i].thread, NULL);
    for (set = 0; set < 1 << IFS; set++) {
        for (last = IFS; last > 0 && (set >> (last - 1) & 1) == 0; last--)
            ;
        assert_int_equal(all[0].got[set]->core->limit_body,
                         last > 0 ? (int)last - 1 : 1000);
        for (i = 1; i < THREADS; i++)
            assert_ptr_equal(all[i].got[set], all[0].got[set]);
    }
    for (i = 0; i < THREADS; i++)
        apr_pool_destroy(all[i].pool);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ifs_overlay),
                                       cmocka_unit_test(ifs_are_counted),
                                       cmocka_unit_test(threads_share_what_they_make)};
    int rc;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    request.pool = request.head.pool = pool;
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    apr_pool_destroy(pool);
    apr_terminate();
    return rc;
}
