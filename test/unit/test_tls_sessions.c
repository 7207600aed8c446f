/* The cache of sessions: what is kept, who makes place, and who holds a set. */
#include "unit.h"

#include "../../modules/tls/sessions.c"

#include <pthread.h>

/* threads */
/* with: server/runtime/span.c */
/* libs: openssl */

/* What the rest of the file asks: not called here. */
const struct sl_module sl_module_record = {.name = "tls"};
void *sl_zone(const char *n, unsigned l, size_t s, int *f) { (void)n; (void)l; (void)s; (void)f; return NULL; }
int sl_counter(const char *name, const char *help) { (void)name; (void)help; return 0; }
void sl_count(struct sl_loop *l, int counter, int64_t by) { (void)l; (void)counter; (void)by; }
struct sl_loop *sl_conn_loop(const struct sl_conn *c) { (void)c; return NULL; }
const char *sl_cmd_arg(const struct sl_cmd *cmd, int i) { (void)cmd; (void)i; return NULL; }

#define NOW 5000000

static struct set sets[4];
static const struct sessions table = {sets, 4};

/* Of set b, the n-th. */
static const unsigned char *
id_of(uint32_t b, uint32_t n)
{
    static _Thread_local unsigned char id[ID];

    memcpy(id, &b, sizeof b);
    memcpy(id + 4, &n, sizeof n);
    return id;
}

static int
put(uint32_t b, uint32_t n, int64_t life_s, int64_t now)
{
    return sessions_put(&table, id_of(b, n), life_s, (const unsigned char *)&n, sizeof n, now);
}

static int
has(uint32_t b, uint32_t n, int64_t now)
{
    unsigned char der[DER_MAX];

    return sessions_get(&table, id_of(b, n), der, now) == sizeof n && memcmp(der, &n, sizeof n) == 0;
}

static int
afresh(void **state)
{
    (void)state;
    memset(sets, 0, sizeof sets);
    return 0;
}

static void
test_until_its_end(void **state)
{
    (void)state;
    assert_false(has(1, 1, NOW));
    assert_int_equal(put(1, 1, 60, NOW), 1);
    assert_true(has(1, 1, NOW + 59999));
    assert_false(has(1, 2, NOW));
    assert_false(has(1, 1, NOW + 60000));
    assert_int_equal(put(1, 2, INT64_MAX / 2, NOW), 1);
    assert_false(has(1, 2, NOW + LIFE_MAX_S * INT64_C(1000)));
    assert_false(has(1, 1, NOW + 60000));
}

static void
test_what_is_too_long(void **state)
{
    unsigned char der[DER_MAX + 1] = {0}, got[DER_MAX];

    (void)state;
    assert_int_equal(sessions_put(&table, id_of(1, 1), 60, der, DER_MAX + 1, NOW), 0);
    assert_int_equal(sessions_put(&table, id_of(1, 1), 60, der, DER_MAX, NOW), 1);
    assert_int_equal(sessions_get(&table, id_of(1, 1), got, NOW), DER_MAX);
}

static void
test_the_oldest_makes_place(void **state)
{
    uint32_t i;

    (void)state;
    for (i = 0; i < WAYS; i++)
        assert_int_equal(put(2, i, 60, NOW + i * 1000), 1);
    assert_int_equal(put(2, 100, 60, NOW + 20000), 2);
    assert_false(has(2, 0, NOW + 20000));
    for (i = 1; i < WAYS; i++)
        assert_true(has(2, i, NOW + 20000));
    sessions_forget(&table, id_of(2, 7), NOW + 20000);
    assert_false(has(2, 7, NOW + 20000));
    assert_int_equal(put(2, 101, 60, NOW + 20000), 1); /* where that one was */
    assert_int_equal(put(2, 102, 60, NOW + 62000), 1); /* where one was that has ended */
    assert_int_equal(sets[2].entries[2].der[0], 0); /* of another that has nothing is left */
}

static void
test_the_oldest_within_a_second(void **state)
{
    uint32_t i;

    (void)state;
    for (i = 0; i < 2 * WAYS; i++)
        put(2, i, 60, NOW + i);
    for (i = 0; i < 2 * WAYS; i++)
        assert_int_equal(has(2, i, NOW + i), i >= WAYS);
}

static void
test_a_holder_that_died(void **state)
{
    (void)state;
    assert_int_equal(put(3, 1, 60, NOW), 1);
    atomic_store(&sets[3].taken_ms, NOW);
    assert_false(has(3, 1, NOW + 500));
    assert_int_equal(put(3, 2, 60, NOW + DEAD_MS), 0);
    assert_true(has(3, 1, NOW + DEAD_MS + 1));
    set_give(&sets[3], NOW); /* it lives after all: the set is not its own any more */
    assert_true(has(3, 1, NOW + DEAD_MS + 1));
    atomic_store(&sets[3].entries[0].n, 0); /* where it stood it was writing */
    assert_false(has(3, 1, NOW + DEAD_MS + 1));
}

static void *
many(void *data)
{
    uint32_t i, *n_bad = data;
    unsigned char der[DER_MAX], got[DER_MAX];

    for (i = 0; i < 30000; i++) {
        uint32_t n = i % 40;

        memset(der, (int)n, sizeof der);
        if (i % 3 == 0)
            sessions_put(&table, id_of(n, n), 60, der, sizeof der, NOW);
        else if (i % 7 == 0)
            sessions_forget(&table, id_of(n, n), NOW);
        else if (sessions_get(&table, id_of(n, n), got, NOW) > 0)
            *n_bad += memcmp(der, got, sizeof der) != 0;
    }
    return NULL;
}

static void
test_threads(void **state)
{
    pthread_t threads[4];
    uint32_t n_bad[4] = {0};
    unsigned i;

    (void)state;
    for (i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, many, &n_bad[i]), 0);
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(n_bad[0] + n_bad[1] + n_bad[2] + n_bad[3], 0);
    for (i = 0; i < 4; i++)
        assert_int_equal(atomic_load(&sets[i].taken_ms), 0);
}

/* What does not stand for itself is no session: half of one, or that of another client. */
static void
test_what_is_read(void **state)
{
    unsigned char der[DER_MAX], *to = der, id[ID] = {1, 2, 3}, other[ID] = {4};
    SSL_SESSION *session = SSL_SESSION_new(), *read;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    SSL *ssl = SSL_new(ctx);
    int n;

    (void)state;
    assert_int_equal(SSL_SESSION_set_protocol_version(session, TLS1_2_VERSION), 1);
    assert_int_equal(SSL_SESSION_set_cipher(session, sk_SSL_CIPHER_value(SSL_get_ciphers(ssl), 0)), 1);
    assert_int_equal(SSL_SESSION_set1_master_key(session, der, 48), 1);
    assert_int_equal(SSL_SESSION_set1_id(session, id, ID), 1);
    n = i2d_SSL_SESSION(session, &to);
    assert_true(n > 0);
    read = session_read(der, (size_t)n, id);
    assert_non_null(read);
    SSL_SESSION_free(read);
    assert_null(session_read(der, (size_t)n, other));
    assert_null(session_read(der, (size_t)n / 2, id));
    assert_int_equal(ERR_peek_error(), 0); /* or the handshake would seem to have failed */
    SSL_SESSION_free(session);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_until_its_end, afresh),
        cmocka_unit_test_setup(test_what_is_too_long, afresh),
        cmocka_unit_test_setup(test_the_oldest_makes_place, afresh),
        cmocka_unit_test_setup(test_the_oldest_within_a_second, afresh),
        cmocka_unit_test_setup(test_a_holder_that_died, afresh),
        cmocka_unit_test_setup(test_threads, afresh),
        cmocka_unit_test_setup(test_what_is_read, afresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
