/* Seats: records that are read while they are written, and who gets which. */
/* threads */
/* with: server/upstream/address.c */
#include "unit.h"

#include "../../server/upstream/seats.c"

#include <apr_general.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <stdarg.h>

#define SEATS 4
#define ROUNDS 50000

static struct upstream_server all[SEATS];
static struct sl_server *servers[SEATS];
static struct sl_server_state states[SEATS];
static atomic_uint counts[SEATS];
static struct seat_record records[SEATS];
static struct seat_line line;
static struct upstream_pool pool = {.pool = {.name = "p", .servers = servers, .n_servers = SEATS}};
static unsigned n_changes, n_begun, n_warnings;

/* ---- what the core would do ---- */

static void
changed(struct sl_pool *p)
{
    (void)p;
    n_changes++;
}

static const struct sl_pool_owner owner = {.changed = changed};

struct upstream_pool *
pools_first(void)
{
    return &pool;
}

void
set_replace(struct upstream_server *s, struct address_set *set)
{
    free(atomic_exchange(&s->addresses, set));
}

void
server_state_begin(struct sl_server *s, const char *address, int is_new)
{
    (void)s;
    (void)address;
    (void)is_new;
    n_begun++;
}

unsigned
sl_server_active(const struct sl_server *s)
{
    return *s->n_active;
}

void
sl_server_note(struct sl_server *s, int64_t at_us, const char *text)
{
    (void)s;
    (void)at_us;
    (void)text;
}

void
sl_log(enum sl_level level, const char *id, const char *fmt, ...)
{
    (void)id;
    (void)fmt;
    n_warnings += level == SL_WARN;
}

int64_t
sl_loop_now(const struct sl_loop *loop)
{
    (void)loop;
    return 0;
}

void
sl_timer_set(struct sl_loop *loop, struct sl_timer *t, int64_t due_ms)
{
    (void)loop;
    (void)t;
    (void)due_ms;
}

/* ---- seats and answers ---- */

static int
begin(void **state)
{
    unsigned i;

    (void)state;
    memset(records, 0, sizeof records);
    line = (struct seat_line){.target = "app.test:80", .n = SEATS};
    pool.pool.owner = &owner;
    n_changes = n_begun = n_warnings = 0;
    for (i = 0; i < SEATS; i++) {
        free(atomic_exchange(&all[i].addresses, NULL));
        counts[i] = 0;
        all[i].seen = 0;
        all[i].line = &line;
        all[i].pub.name = "?";
        all[i].pub.pool = &pool.pool;
        all[i].pub.index = i;
        all[i].pub.weight = all[i].pub.configured_weight = 5;
        all[i].pub.level = 2;
        all[i].pub.flags = SL_SERVER_SEAT | (i > 0 ? SL_SERVER_GONE : 0);
        all[i].pub.n_active = &counts[i];
        all[i].pub.state = &states[i];
        servers[i] = &all[i].pub;
        seat_open(&all[i], &records[i]);
    }
    return 0;
}

/* "23" leads to 10.0.0.2 and 10.0.0.3. */
static void
answer(const char *digits)
{
    struct sl_found found[16] = {{.weight = 0}};
    struct sl_answer a = {.found = found};

    for (; *digits != '\0'; digits++, a.n++) {
        found[a.n].at.len = sizeof found[a.n].at.u.in;
        found[a.n].at.u.in.sin_family = AF_INET;
        found[a.n].at.u.in.sin_port = htons(80);
        found[a.n].at.u.in.sin_addr.s_addr = htonl(0x0a000000u + (unsigned)(*digits - '0'));
    }
    seats_take(&all[0], &a);
}

/* Who sits, seat by seat: "2.3." */
static const char *
who(void)
{
    static char text[SEATS + 1];
    unsigned i;

    for (i = 0; i < SEATS; i++) {
        const char *name = all[i].pub.name;

        text[i] = sl_server_is_gone(&all[i].pub) ? '.' : name[strlen("10.0.0.")];
    }
    return text;
}

/* As if all had left long ago. */
static void
time_passes(void)
{
    struct seat seat;
    unsigned i;

    for (i = 0; i < SEATS; i++)
        if (seat_read(&records[i], &seat) && seat.state == SEAT_LEFT) {
            seat.left_at -= 10 * REST_MS;
            seat_write(&records[i], &seat);
        }
}

static void
who_stays_keeps_the_seat(void **state)
{
    (void)state;
    assert_string_equal(who(), "....");
    answer("32");
    assert_string_equal(who(), "23..");
    assert_string_equal(all[0].pub.name, "10.0.0.2:80");
    assert_int_equal(all[0].pub.weight, 5);
    assert_int_equal(all[0].pub.level, 2);
    assert_int_equal(n_changes, 1);
    answer("23");
    assert_int_equal(n_changes, 1);
    answer("342");
    assert_string_equal(who(), "234.");
    answer("43");
    assert_string_equal(who(), ".34.");
    answer("432");
    assert_string_equal(who(), "234.");
    answer("22");
    assert_string_equal(who(), "2...");
}

static void
seats_are_given_anew_when_nothing_is_in_flight(void **state)
{
    (void)state;
    answer("1234");
    answer("4");
    answer("45");
    assert_string_equal(who(), "...4"); /* they have just left */
    assert_true(line.waits);
    assert_int_equal(n_warnings, 1);
    time_passes();
    counts[0] = 1;
    answer("45");
    assert_string_equal(who(), ".5.4");
    assert_false(line.waits);
    answer("4567");
    assert_string_equal(who(), ".564");
    counts[0] = 0;
    answer("4567");
    assert_string_equal(who(), "7564");
    assert_int_equal(n_warnings, 2); /* told once while it lasts */
    answer("45678");
    assert_false(line.waits); /* no time helps: there are too few */
}

static void
what_others_wrote_is_taken_over(void **state)
{
    struct seat seat = {.state = SEAT_TAKEN, .name = "10.0.0.9:80", .address = "10.0.0.9:80"};

    (void)state;
    answer("2");
    seat_write(&records[2], &seat);
    assert_true(pool_follow(&pool.pool));
    assert_string_equal(who(), "2.9.");
    seat_write(&records[3], &seat); /* another one wrote at the same time: one of them leaves */
    answer("29");
    assert_string_equal(who(), "2.9.");
}

static void
priorities_are_levels_and_weights_fit(void **state)
{
    struct guest g[] = {{.address = "a", .priority = 20, .weight = 0},
                        {.address = "b", .priority = 5, .weight = 65535},
                        {.address = "c", .priority = 20, .weight = 32768},
                        {.address = "d", .priority = 9, .weight = 1}};

    (void)state;
    guests_level(g, 4);
    guests_weigh(g, 4);
    assert_int_equal(g[0].level, 2);
    assert_int_equal(g[1].level, 0);
    assert_int_equal(g[2].level, 2);
    assert_int_equal(g[3].level, 1);
    assert_int_equal(g[0].weight, 1);
    assert_int_equal(g[1].weight, 256);
    assert_int_equal(g[2].weight, 128);
    assert_int_equal(g[3].weight, 1);
}

/* One address may be in several SRV records. */
static void
of_two_records_the_better_counts(void **state)
{
    struct sl_found found[] = {{.weight = 9, .priority = 7}, {.weight = 3, .priority = 2},
                               {.weight = 4, .priority = 2}, {.weight = 9, .priority = 8}};
    struct sl_answer a = {.found = found, .n = 4};
    struct seat_line service = {.is_service = 1, .n = 4};
    struct guest g[4];
    unsigned i;

    (void)state;
    for (i = 0; i < 4; i++)
        found[i].at.u.in.sin_family = AF_INET;
    assert_int_equal(guests_make(&service, &a, g), 1);
    assert_int_equal(g[0].priority, 2);
    assert_int_equal(g[0].weight, 4);
}

/* ---- records ---- */

static void *
writes(void *arg)
{
    struct seat seat = {.state = SEAT_TAKEN};
    unsigned i;

    (void)arg;
    for (i = 1; i < ROUNDS; i++) {
        seat.weight = i;
        memset(seat.name, 'a' + (int)(i % 26), SEAT_NAME - 1);
        memset(seat.address, 'a' + (int)(i % 26), SEAT_ADDRESS - 1);
        seat_write(&records[0], &seat);
    }
    return NULL;
}

static void
what_is_read_is_whole(void **state)
{
    unsigned i, last = 0, n_read = 0;
    pthread_t thread;
    struct seat seat;

    (void)state;
    assert_int_equal(seat_read(&records[0], &seat), 0);
    assert_int_equal(pthread_create(&thread, NULL, writes, NULL), 0);
    while (last < ROUNDS - 1) {
        if (!seat_read(&records[0], &seat))
            continue;
        n_read++;
        assert_true(seat.weight >= last);
        last = seat.weight;
        for (i = 0; i < SEAT_NAME - 1; i++)
            assert_int_equal(seat.name[i], 'a' + (int)(last % 26));
        assert_int_equal(seat.address[SEAT_ADDRESS - 2], 'a' + (int)(last % 26));
    }
    pthread_join(thread, NULL);
    assert_true(n_read > 0);
}

static void
a_writer_that_died_blocks_nobody(void **state)
{
    struct seat seat = {.state = SEAT_TAKEN, .name = "x"};

    (void)state;
    seat_write(&records[0], &seat);
    atomic_fetch_add(&records[0].version, 1);
    assert_int_equal(seat_read(&records[0], &seat), 0);
    seat_write(&records[0], &seat);
    assert_int_equal(seat_read(&records[0], &seat), 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(who_stays_keeps_the_seat, begin),
        cmocka_unit_test_setup(seats_are_given_anew_when_nothing_is_in_flight, begin),
        cmocka_unit_test_setup(what_others_wrote_is_taken_over, begin),
        cmocka_unit_test(priorities_are_levels_and_weights_fit),
        cmocka_unit_test(of_two_records_the_better_counts),
        cmocka_unit_test_setup(what_is_read_is_whole, begin),
        cmocka_unit_test_setup(a_writer_that_died_blocks_nobody, begin),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);

    begin(NULL);
    return rc;
}
