/* Which hellos are new: the memory that copies are known by. */
#include "unit.h"

#include "../../modules/tls/early.c"

#include <pthread.h>

/* with: server/runtime/span.c */

/* What the rest of the file asks: not called here. */
const struct sl_module sl_module_record = {.name = "tls"};
const struct sl_cause sl_cause_internal = {"SL0450", "internal", 500, ""};
void *sl_zone(const char *n, unsigned l, size_t s, int *f) { (void)n; (void)l; (void)s; (void)f; return NULL; }
int tls_tickets_are_new(void) { return 1; }
void sl_timer_set(struct sl_loop *l, struct sl_timer *t, int64_t d) { (void)l; (void)t; (void)d; }
void sl_timer_stop(struct sl_timer *t) { (void)t; }
void sl_timer_unlink(struct sl_timer *t) { (void)t; }
void sl_conn_close(struct sl_conn **c) { (void)c; }
void sl_req_resume(struct sl_token t, enum sl_verdict v) { (void)t; (void)v; }
void sl_req_note(struct sl_req *r, const char *fmt, ...) { (void)r; (void)fmt; }
void sl_log(enum sl_level l, const char *id, const char *fmt, ...) { (void)l; (void)id; (void)fmt; }
void sl_scope_terms(const struct sl_scope *s, struct sl_client_terms *t) { (void)s; (void)t; }
int64_t sl_loop_now(const struct sl_loop *l) { (void)l; return 0; }
struct sl_loop *sl_conn_loop(const struct sl_conn *c) { (void)c; return NULL; }
struct sl_scope *sl_conn_scope(const struct sl_conn *c) { (void)c; return NULL; }
struct sl_span sl_conn_peer_text(struct sl_conn *c) { (void)c; return SL_SPAN(""); }
int sl_conn_failure_has_line(struct sl_conn *c, const char *why) { (void)c; (void)why; return 0; }
struct sl_span sl_req_method(const struct sl_req *r) { (void)r; return SL_SPAN(""); }
struct sl_fields *sl_req_head(struct sl_req *r) { (void)r; return NULL; }
int sl_req_has_body(const struct sl_req *r) { (void)r; return 0; }
void *sl_req_data(struct sl_req *r, const struct sl_module *m, size_t n) { (void)r; (void)m; (void)n; return NULL; }
struct sl_token sl_req_suspend(struct sl_req *r) { (void)r; return (struct sl_token){NULL, 0, 0}; }
int sl_fields_has_id(const struct sl_fields *f, enum sl_field_id i) { (void)f; (void)i; return 0; }
int sl_fields_set(struct sl_fields *f, const char *n, struct sl_span v) { (void)f; (void)n; (void)v; return 0; }
enum sl_verdict
sl_req_fail(struct sl_req *r, int status, const struct sl_cause *cause, const char *fmt, ...)
{
    (void)r;
    (void)status;
    (void)cause;
    (void)fmt;
    return SL_FAIL;
}

static struct hello_zone memory;

/* A hello of bucket b, the n-th. */
static const unsigned char *
hello(uint32_t b, uint32_t n)
{
    static _Thread_local unsigned char random[32];

    memcpy(random, &b, sizeof b);
    memcpy(random + 4, &n, sizeof n);
    return random;
}

static void
test_once(void **state)
{
    (void)state;
    memset(&memory, 0, sizeof memory);
    assert_true(hello_is_new(&memory, hello(1, 7), 100));
    assert_false(hello_is_new(&memory, hello(1, 7), 100));
    assert_false(hello_is_new(&memory, hello(1, 7), 100 + WINDOW_S - 1));
    assert_true(hello_is_new(&memory, hello(1, 8), 100));
    assert_true(hello_is_new(&memory, hello(2, 7), 100));
}

/* OpenSSL takes none that is older than 10 s, and some rounding. */
_Static_assert(WINDOW_S > 12, "longer than that");

static void
test_what_does_not_fit_is_not_taken(void **state)
{
    uint32_t i;

    (void)state;
    memset(&memory, 0, sizeof memory);
    for (i = 0; i < BUCKET_SLOTS; i++)
        assert_true(hello_is_new(&memory, hello(5, i + 1), 50 + i / 4));
    assert_false(hello_is_new(&memory, hello(5, 100), 52));
    assert_true(hello_is_new(&memory, hello(5, 101), 50 + WINDOW_S)); /* four have gone */
    assert_false(hello_is_new(&memory, hello(5, 8), 50 + WINDOW_S));  /* this one has not */
}

static atomic_int n_taken;

static void *
many(void *unused)
{
    uint32_t i;

    (void)unused;
    for (i = 1; i <= 20000; i++)
        atomic_fetch_add(&n_taken, hello_is_new(&memory, hello(i, i), 10 + i / 5000));
    return NULL;
}

/* Never twice, whoever else asks. */
static void
test_threads(void **state)
{
    pthread_t threads[4];
    unsigned i;

    (void)state;
    memset(&memory, 0, sizeof memory);
    for (i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, many, NULL), 0);
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_true(atomic_load(&n_taken) > 0 && atomic_load(&n_taken) <= 20000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_once),
        cmocka_unit_test(test_what_does_not_fit_is_not_taken),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
