/* A certificate that comes to its end is warned about at 30, 14, 7 and 1 days, once each. */
#include "unit.h"
#include "tls_doubles.h"

#include "../../modules/tls/expiry.c"

#include <openssl/x509.h>

/* with: server/runtime/span.c modules/tls/cert.c modules/tls/text.c */

/* What is not called here. */
int sl_file_open(const char *path, sl_file_changed_f *f, void *ctx) { (void)path; (void)f; (void)ctx; return -1; }
int tls_sites_build(void) { return 0; }
void tls_staple_renewed(struct tls_cert *cert) { (void)cert; }
void tls_clients_look(void) {}
struct tls_staple_state tls_staple_state(const struct tls_cert *cert) { (void)cert; return (struct tls_staple_state){0}; }
struct sl_loop *sl_worker_loop(struct sl_worker *w, unsigned i) { (void)w; (void)i; return NULL; }
int64_t sl_loop_now(const struct sl_loop *loop) { (void)loop; return 0; }
void sl_timer_set(struct sl_loop *l, struct sl_timer *t, int64_t due) { (void)l; (void)t; (void)due; }
void sl_timer_stop(struct sl_timer *t) { (void)t; }
void sl_timer_unlink(struct sl_timer *t) { (void)t; }
apr_pool_t *sl_control_pool(struct sl_control_call *call) { (void)call; return NULL; }
int sl_control_wants_json(const struct sl_control_call *call) { (void)call; return 0; }
void sl_control_print(struct sl_control_call *call, const char *fmt, ...) { (void)call; (void)fmt; }
void sl_control_end(struct sl_control_call **call, int status) { (void)call; (void)status; }
void sl_gauge_say(struct sl_gauge_sink *to, int64_t value, const struct sl_label *labels) { (void)to; (void)value; (void)labels; }
char *sl_json_string(char *to, char *end, struct sl_span s) { (void)end; (void)s; return to; }

static void
warnings_come_once_each(void **state)
{
    /* clang-format off */
    static const struct { int days; const char *said; } rows[] = {
        {60, ""}, {31, ""}, {30, "TLS0025"}, {30, ""}, {20, ""}, {14, "TLS0025"}, {8, ""},
        {6, "TLS0025"}, {2, ""}, {1, "TLS0025"}, {0, ""}, {-1, "TLS0024"}, {-5, ""},
    };
    /* clang-format on */
    struct tls_cert c = {.chain_file = "x.pem", .place = "conf:1", .pair = tls_pair_placeholder()};
    unsigned i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        said[0] = '\0';
        X509_gmtime_adj(X509_getm_notAfter(c.pair->leaf), rows[i].days * 86400 + 600);
        cert_look(&c);
        assert_string_equal(said, rows[i].said);
    }
    tls_pair_free(c.pair);
    c.pair = tls_pair_placeholder(); /* a new one: all over again */
    tls_cert_is_fresh(&c);
    X509_gmtime_adj(X509_getm_notAfter(c.pair->leaf), 600);
    cert_look(&c);
    assert_string_equal(said, "TLS0025");
    tls_pair_free(c.pair);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(warnings_come_once_each)};

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
