/* How long certificates are good: a warning when 30, 14, 7 and 1 days are left, once each,
 * sluice ctl cert, and a gauge.  Runs on thread 0. */
#include "tls.h"

#include <apr_strings.h>

#include <time.h>

#define LOOK_MS 3600000
#define NAMES_SHOWN 3

static struct sl_timer timer;

/* How urgent it is: 0 not at all, then one more for each of these that is reached. */
static int
urgency(int days)
{
    static const int steps[] = {30, 14, 7, 1, -1};
    int i, n = 0;

    for (i = 0; i < (int)(sizeof steps / sizeof *steps); i++)
        n += days <= steps[i];
    return n;
}

void
tls_cert_is_fresh(struct tls_cert *cert)
{
    cert->told = urgency(tls_pair_days(cert->pair));
}

static void
cert_look(struct tls_cert *c)
{
    int days = tls_pair_days(c->pair), now = urgency(days);

    if (c->why != NULL || now <= c->told)
        return;
    c->told = now;
    if (days < 0)
        sl_log(SL_WARN, "TLS0024", "%s: %s has expired", c->place, c->chain_file);
    else
        sl_log(SL_WARN, "TLS0025", "%s: %s expires in %d day%s", c->place, c->chain_file, days,
               days == 1 ? "" : "s");
}

void
tls_certs_look(void)
{
    struct tls_cert *c;

    for (c = tls_certs(); c != NULL; c = c->next)
        cert_look(c);
    tls_clients_look();
}

static void
look(struct sl_loop *loop, struct sl_timer *t)
{
    tls_certs_look();
    sl_timer_set(loop, t, sl_loop_now(loop) + LOOK_MS);
}

void
tls_certs_ready(struct sl_worker *w)
{
    struct sl_loop *loop = sl_worker_loop(w, 0);

    timer.fn = look;
    sl_timer_set(loop, &timer, sl_loop_now(loop) + LOOK_MS);
}

void
tls_certs_drain(void)
{
    sl_timer_stop(&timer);
}

void
tls_certs_close(void)
{
    sl_timer_unlink(&timer);
}

/* ---- sluice ctl cert ---- */

/* RFC 3339; "" where s is 0. */
static const char *
date_of(apr_pool_t *pool, int64_t s)
{
    char text[32] = "";
    time_t t = (time_t)s;
    struct tm tm;

    if (s != 0)
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
    return apr_pstrdup(pool, text);
}

static const char *
expiry_of(apr_pool_t *pool, const struct tls_cert *c)
{
    struct tm tm;

    return ASN1_TIME_to_tm(X509_get0_notAfter(c->pair->leaf), &tm) == 1 ? date_of(pool, timegm(&tm)) : "";
}

static void
print_text(struct sl_control_call *call, const struct tls_cert *c)
{
    apr_pool_t *pool = sl_control_pool(call);
    const apr_array_header_t *names = c->pair->names;
    int64_t until = tls_stapled_until(c);
    int i;

    sl_control_print(call, "%s: %d days, until %s%s%s%s;", c->chain_file, tls_pair_days(c->pair),
                     expiry_of(pool, c), until != 0 ? ", OCSP response until " : "", date_of(pool, until),
                     c->why != NULL ? ", a placeholder" : "");
    for (i = 0; i < names->nelts && i < NAMES_SHOWN; i++)
        sl_control_print(call, " %s", APR_ARRAY_IDX(names, i, const char *));
    if (names->nelts > NAMES_SHOWN)
        sl_control_print(call, " and %d more", names->nelts - NAMES_SHOWN);
    sl_control_print(call, "\n");
}

static const char *
json_of(apr_pool_t *pool, const char *text)
{
    size_t room = 6 * strlen(text) + 32;
    char *to = apr_palloc(pool, room);

    *sl_json_string(to, to + room - 1, sl_span(text)) = '\0';
    return to;
}

static void
print_json(struct sl_control_call *call, const struct tls_cert *c)
{
    apr_pool_t *pool = sl_control_pool(call);
    const apr_array_header_t *names = c->pair->names;
    int64_t until = tls_stapled_until(c);
    int i;

    sl_control_print(call, "%s{\"file\":%s,\"place\":%s,\"days\":%d,\"expires\":\"%s\",\"ocsp_until\":",
                     c != tls_certs() ? "," : "", json_of(pool, c->chain_file), json_of(pool, c->place),
                     tls_pair_days(c->pair),
                     expiry_of(pool, c));
    sl_control_print(call, "%s,\"placeholder\":%s,\"names\":[",
                     until != 0 ? json_of(pool, date_of(pool, until)) : "null",
                     c->why != NULL ? "true" : "false");
    for (i = 0; i < names->nelts; i++)
        sl_control_print(call, "%s%s", i > 0 ? "," : "",
                         json_of(pool, APR_ARRAY_IDX(names, i, const char *)));
    sl_control_print(call, "]}");
}

static void
run_cert(struct sl_control_call *call, int argc, const char *const *argv)
{
    int is_json = sl_control_wants_json(call);
    const struct tls_cert *c;

    (void)argv;
    if (argc != 0) {
        sl_control_print(call, "usage: ctl cert\n");
        sl_control_end(&call, 2);
        return;
    }
    if (is_json)
        sl_control_print(call, "{\"certificates\":[");
    for (c = tls_certs(); c != NULL; c = c->next)
        if (is_json)
            print_json(call, c);
        else
            print_text(call, c);
    if (is_json)
        sl_control_print(call, "]}\n");
    sl_control_end(&call, 0);
}

const struct sl_control_command tls_cert_command = {
    .usage = "",
    .help = "lists certificates, and how many days they are good for",
    .run = run_cert,
};

/* ---- the gauge ---- */

static void
read_days(struct sl_gauge_sink *to)
{
    const struct tls_cert *c;

    for (c = tls_certs(); c != NULL; c = c->next) {
        struct sl_label labels[] = {{"file", c->chain_file}, {"place", c->place}, {NULL, NULL}};

        sl_gauge_say(to, tls_pair_days(c->pair), labels);
    }
}

const struct sl_gauge tls_cert_gauge = {
    .help = "days until a certificate expires; less than 0: it has",
    .read = read_days,
};
