/* mod_route's trees against a naive search, and its table of hosts. */
/* with: server/runtime/span.c */
#include "unit.h"

#include "../../modules/route/tree.c"
#include "../../modules/route/hosts.c"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdio.h>

#define N 300

static apr_pool_t *pool;

static char *
random_path(void)
{
    static const char *const words[] = {"a", "ab", "abc", "b", "app", "apple"};
    char *p = apr_pstrdup(pool, "/");
    int n = rand() % 4;

    while (n-- > 0)
        p = apr_pstrcat(pool, p, words[rand() % 6], rand() % 4 ? "/" : "", NULL);
    return p;
}

static int
covers(const char *prefix, const char *path)
{
    size_t n = strlen(prefix);

    if (strncmp(prefix, path, n) != 0)
        return 0;
    return path[n] == '\0' || path[n] == '/' || prefix[n - 1] == '/';
}

static void
the_longest_prefix_wins(void **state)
{
    struct route_tree tree = {NULL};
    char *prefixes[N];
    unsigned i, k, n = 0;

    (void)state;
    srand(3);
    for (i = 0; i < N; i++) {
        prefixes[n] = random_path();
        if (route_tree_put(pool, &tree, sl_span(prefixes[n]), ROUTE_TREE_PREFIX, prefixes[n]) == NULL)
            n++;
    }
    for (i = 0; i < 5000; i++) {
        char *path = random_path(), *best = NULL;
        struct route_tree_found found = route_tree_find(&tree, sl_span(path));

        for (k = 0; k < n; k++)
            if (covers(prefixes[k], path) && (best == NULL || strlen(prefixes[k]) > strlen(best)))
                best = prefixes[k];
        if (best == NULL)
            assert_null(found.prefix);
        else
            assert_string_equal((char *)found.prefix, best);
    }
}

static void
hosts_exact_then_longest_suffix(void **state)
{
    static const char *const names[] = {"a.test", "*.test", "*.b.test", "*"};
    static const struct { const char *host, *who; } table[] = {
        {"a.test", "a.test"}, {"x.test", "*.test"}, {"x.b.test", "*.b.test"}, {"y.x.b.test", "*.b.test"},
        {"b.test", "*.test"}, {"test", "*"}, {"", "*"}};
    struct route_hosts hosts;
    struct sl_span by;
    char name[32];
    unsigned i;

    (void)state;
    memset(&hosts, 0, sizeof hosts);
    for (i = 0; i < 4; i++)
        assert_null(route_hosts_put(pool, &hosts, sl_span(names[i]), (void *)(uintptr_t)names[i]));
    for (i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "h%u.example", i);
        assert_null(route_hosts_put(pool, &hosts, sl_span(apr_pstrdup(pool, name)), &hosts));
    }
    for (i = 0; i < sizeof table / sizeof table[0]; i++) {
        assert_string_equal((char *)route_hosts_find(&hosts, sl_span(table[i].host), &by),
                            table[i].who);
        assert_memory_equal(by.at, table[i].who + (by.at[0] == '.'), by.n);
    }
    assert_ptr_equal(route_hosts_find(&hosts, sl_span("h777.example"), &by), &hosts);
    assert_int_equal(by.n, strlen("h777.example"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_longest_prefix_wins),
                                       cmocka_unit_test(hosts_exact_then_longest_suffix)};
    int rc;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    apr_pool_destroy(pool);
    apr_terminate();
    return rc;
}
