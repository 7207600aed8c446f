/* The state of a master as records: what is written is read, what is cut short or foreign is
 * refused. */
#include "unit.h"

#include "../../server/master/record.c"

static void
written(struct records_out *out, int version)
{
    assert_int_equal(records_begin(out), 0);
    record_begin(out, "first", version);
    record_text(out, "text", "a b\n\tc");
    record_text(out, "empty", "");
    record_number(out, "number", -5000000000);
    record_fd(out, "none", -1);
    record_end(out);
    record_begin(out, "second", 7);
    record_end(out);
}

static void
reads_what_was_written(void **state)
{
    struct records_out out;
    struct records_in in;
    struct record r;

    (void)state;
    written(&out, 1);
    assert_int_equal(records_end(&out), 0);
    assert_null(records_open(&in, out.fd, 0));
    assert_int_equal(records_next(&in, &r), 1);
    assert_string_equal(r.name, "first");
    assert_int_equal(r.version, 1);
    assert_string_equal(record_get(&r, "text"), "a b\n\tc");
    assert_string_equal(record_get(&r, "empty"), "");
    assert_string_equal(record_get(&r, "unknown"), "");
    assert_true(record_get_number(&r, "number") == -5000000000);
    assert_int_equal(record_get_number(&r, "unknown"), 0);
    assert_int_equal(record_get_fd(&r, "none"), -1);
    assert_int_equal(record_get_fd(&r, "unknown"), -1);
    assert_int_equal(records_next(&in, &r), 1);
    assert_string_equal(r.name, "second");
    assert_int_equal(r.n, 0);
    assert_int_equal(records_next(&in, &r), 0);
    records_close(&in);
    records_free(&out);
}

/* Descriptors survive an exec when they are told to, and only then. */
static void
passes_descriptors(void **state)
{
    struct records_out out;
    struct records_in in;
    struct record r;
    int fd = memfd_create("x", MFD_CLOEXEC);

    (void)state;
    assert_int_equal(records_begin(&out), 0);
    record_begin(&out, "one", 1);
    record_fd(&out, "fd", fd);
    record_fd(&out, "gone", 1000);
    record_end(&out);
    assert_int_equal(records_end(&out), 0);
    records_pass(&out, 1);
    assert_int_equal(fcntl(fd, F_GETFD), 0);
    assert_int_equal(fcntl(out.fd, F_GETFD), 0);
    assert_null(records_open(&in, out.fd, 0));
    assert_int_equal(records_next(&in, &r), 1);
    assert_int_equal(record_get_fd(&r, "fd"), fd);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(record_get_fd(&r, "gone"), -1);
    records_close(&in);
    assert_null(records_open(&in, out.fd, 1));
    assert_int_equal(records_next(&in, &r), 1);
    assert_int_equal(record_get_fd(&r, "gone"), 1000); /* a test has only the numbers */
    records_close(&in);
    records_pass(&out, 0);
    assert_int_equal(fcntl(out.fd, F_GETFD), FD_CLOEXEC);
    records_free(&out);
    close(fd);
}

static void
refuses_what_is_cut_short(void **state)
{
    struct records_out out;
    struct stat st;

    (void)state;
    written(&out, 1);
    assert_int_equal(records_end(&out), 0);
    assert_int_equal(fstat(out.fd, &st), 0);
    for (off_t n = st.st_size - 1; n >= 0; n--) {
        struct records_in in;
        struct record r;
        int n_read = 0, rc = 0;

        assert_int_equal(ftruncate(out.fd, n), 0);
        if (records_open(&in, out.fd, 0) == NULL)
            while ((rc = records_next(&in, &r)) > 0)
                n_read++;
        assert_true(rc == -1 || n_read < 2);
        records_close(&in);
    }
    records_free(&out);
}

static void
refuses_another_format(void **state)
{
    struct records_out out;
    struct records_in in;

    (void)state;
    written(&out, 1);
    assert_int_equal(records_end(&out), 0);
    assert_int_equal(pwrite(out.fd, "X", 1, 0), 1);
    assert_non_null(records_open(&in, out.fd, 0));
    records_close(&in);
    records_free(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_was_written),
        cmocka_unit_test(passes_descriptors),
        cmocka_unit_test(refuses_what_is_cut_short),
        cmocka_unit_test(refuses_another_format),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
