/* Verifying: the cache under threads; each question once, bounded, and who waits. */
/* threads */
#include "unit.h"
#include "panic_double.h"

#include "../../modules/auth/verify.c"

#include <pthread.h>

/* with: server/runtime/random.c */
/* libs: jansson libcrypto */

/* ---- the server, as far as verifying needs it ---- */

static struct auth_contents contents = {.version = 1};
static int n_verified, n_woken, n_offloaded, offload_is_full;
static int64_t now = 1000;
static struct sl_offload *offloaded[8];
static apr_status_t (*cleanups[600])(void *);
static void *cleanup_args[600];
static unsigned n_cleanups;

void
sl_loop_post(struct sl_loop *loop, struct sl_mail *mail)
{
    mail->fn(loop, mail);
}

int64_t
sl_loop_now(const struct sl_loop *loop)
{
    (void)loop;
    return now;
}

int
sl_offload(struct sl_loop *loop, struct sl_offload *job)
{
    (void)loop;
    if (offload_is_full)
        return -1;
    assert_in_range(n_offloaded, 0, RUNNING_MAX - 1);
    offloaded[n_offloaded++] = job;
    return 0;
}

struct sl_token
sl_req_suspend(struct sl_req *r)
{
    (void)r;
    return (struct sl_token){NULL, 0, 0};
}

void
sl_req_resume(struct sl_token token, enum sl_verdict verdict)
{
    (void)token;
    assert_int_equal(verdict, SL_NEXT);
    n_woken++;
}

struct auth_contents *
auth_file_contents(const struct auth_file *f, const struct sl_loop *loop)
{
    (void)f;
    (void)loop;
    return &contents;
}

void
auth_contents_hold(struct auth_contents *c)
{
    c->n_holders++;
}

void
auth_contents_drop(struct auth_contents **c)
{
    (*c)->n_holders--;
    *c = NULL;
}

const char *
passwords_hash(const struct passwords *p, struct sl_span user, int *is_known)
{
    (void)p;
    *is_known = sl_span_eq(user, SL_SPAN("bob"));
    return "right";
}

int
password_is(const char *password, const char *hash)
{
    n_verified++;
    return strcmp(password, hash) == 0;
}

/* verification_make() hangs its cleanup on the request's pool. */
void
apr_pool_cleanup_register(apr_pool_t *p, const void *data, apr_status_t (*plain)(void *),
                          apr_status_t (*child)(void *))
{
    (void)p;
    (void)child;
    cleanups[n_cleanups] = plain;
    cleanup_args[n_cleanups++] = (void *)(uintptr_t)data;
}

apr_status_t
apr_pool_cleanup_null(void *data)
{
    (void)data;
    return APR_SUCCESS;
}

/* ---- what is done with it ---- */

static struct verification *
ask(const char *user, const char *password)
{
    static struct sl_req_public r;

    return verification_begin((struct sl_req *)(void *)&r, NULL, sl_span(user), sl_span(password),
                              500);
}

static void
requests_end(void)
{
    while (n_cleanups > 0) {
        n_cleanups--;
        cleanups[n_cleanups](cleanup_args[n_cleanups]);
    }
}

/* All that is under way is verified, and its mail arrives. */
static void
all_done(void)
{
    while (n_offloaded > 0) {
        struct sl_offload *job = offloaded[0];

        memmove(offloaded, offloaded + 1, sizeof offloaded - sizeof offloaded[0]);
        n_offloaded--;
        job->work(job);
        job->done(NULL, job);
    }
}

static int
set_up(void **state)
{
    (void)state;
    verify_open(NULL);
    memset(cache, 0, sizeof cache);
    n_verified = n_woken = 0;
    offload_is_full = 0;
    contents.version = 1;
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    requests_end();
    return contents.n_holders == 0 && n_waiting == 0 && n_running == 0 ? 0 : -1;
}

static void
each_question_once(void **state)
{
    struct verification *v[5];

    (void)state;
    v[0] = ask("bob", "right");
    v[1] = ask("bob", "wrong");
    v[2] = ask("eve", "right"); /* queued */
    v[3] = ask("bob", "right");
    v[4] = ask("eve", "right");
    assert_int_equal(n_offloaded, 2);
    all_done();
    assert_int_equal(n_verified, 3);
    assert_int_equal(n_woken, 5);
    assert_int_equal(verification_outcome(v[0]), AUTH_RIGHT);
    assert_int_equal(verification_outcome(v[1]), AUTH_WRONG);
    assert_int_equal(verification_outcome(v[2]), AUTH_WRONG);
    assert_int_equal(verification_outcome(v[3]), AUTH_RIGHT);
    assert_int_equal(verification_outcome(v[4]), AUTH_WRONG);
}

static int
is_cached(const char *user, const char *password)
{
    struct auth_digest d = auth_digest(NULL, contents.version, sl_span(user), sl_span(password));

    return auth_cache_has(&d, now);
}

static void
right_answers_are_remembered_for_a_while(void **state)
{
    (void)state;
    ask("bob", "right");
    ask("bob", "wrong");
    ask("eve", "right");
    all_done();
    assert_true(is_cached("bob", "right"));
    assert_false(is_cached("bobr", "ight"));
    assert_false(is_cached("bob", "wrong"));
    assert_false(is_cached("eve", "right"));
    assert_int_equal(verification_outcome(ask("bob", "right")), AUTH_RIGHT);
    assert_int_equal(n_verified, 3);
    contents.version = 2;
    assert_false(is_cached("bob", "right"));
    contents.version = 1;
    now += 499;
    assert_true(is_cached("bob", "right"));
    now++;
    assert_false(is_cached("bob", "right"));
}

static void
too_many_wait(void **state)
{
    unsigned i;

    (void)state;
    for (i = 0; i < WAITING_MAX; i++)
        ask("bob", "wrong");
    assert_int_equal(verification_outcome(ask("bob", "right")), AUTH_BUSY);
    assert_int_equal(n_woken, 1);
    all_done();
    assert_int_equal(n_verified, 1);
    assert_int_equal(n_woken, WAITING_MAX + 1);
    ask("bob", "right");
    all_done();
}

static void
without_a_thread_nobody_passes(void **state)
{
    struct verification *v;

    (void)state;
    offload_is_full = 1;
    v = ask("bob", "right");
    assert_int_equal(n_woken, 1);
    assert_int_equal(verification_outcome(v), AUTH_WRONG);
}

static void
requests_that_left(void **state)
{
    (void)state;
    ask("bob", "right");
    ask("bob", "right");
    requests_end();
    all_done();
    assert_true(is_cached("bob", "right"));
}

static void
what_is_left_at_the_end(void **state)
{
    unsigned i;

    (void)state;
    for (i = 0; i < 5; i++)
        ask("bob", (const char *[]){"a", "b", "c", "d", "d"}[i]);
    verify_close();
    n_offloaded = 0;
    n_running = n_waiting = 0;
}

#define N 20000

/* Nobody is found right who was not, whatever the threads do; who is asked for right after is. */
static void *
cache_thread(void *arg)
{
    const char *name = arg;
    unsigned i, n_missed = 0;

    for (i = 0; i < N; i++) {
        char password[16];
        struct auth_digest d, other;

        snprintf(password, sizeof password, "%u", i);
        d = auth_digest(NULL, 1, sl_span(name), sl_span(password));
        other = auth_digest(NULL, 1, SL_SPAN("nobody"), sl_span(password));
        auth_cache_add(&d, 2000 + i);
        n_missed += !auth_cache_has(&d, 1000);
        if (auth_cache_has(&other, 1000))
            return "found";
    }
    return n_missed > N / 100 ? "missed" : NULL;
}

static void
cache_under_threads(void **state)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    pthread_t threads[4];
    void *rc;
    unsigned i;

    (void)state;
    for (i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, cache_thread, (void *)(uintptr_t)names[i]);
    for (i = 0; i < 4; i++) {
        pthread_join(threads[i], &rc);
        assert_null(rc);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_question_once),
        TEST(right_answers_are_remembered_for_a_while),
        TEST(too_many_wait),
        TEST(without_a_thread_nobody_passes),
        TEST(requests_that_left),
        TEST(what_is_left_at_the_end),
        TEST(cache_under_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
