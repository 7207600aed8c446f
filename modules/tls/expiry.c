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
print_stapling(struct sl_control_call *call, const struct tls_staple_state *s)
{
    apr_pool_t *pool = sl_control_pool(call);

    if (s->source == NULL)
        return;
    if (s->until_s != 0)
        sl_control_print(call, "    OCSP response: %s %s, %s %s",
                         strcmp(s->source, "file") == 0 ? "read" : "fetched", date_of(pool, s->asked_s),
                         s->until_s > time(NULL) ? "good until" : "over since", date_of(pool, s->until_s));
    else
        sl_control_print(call, "    OCSP response: none%s", s->is_revoked ? ", the certificate is revoked" : "");
    if (s->due_s != 0)
        sl_control_print(call, "; next asked for %s", date_of(pool, s->due_s));
    if (s->failure != NULL)
        sl_control_print(call, "; last failure %s: %s", date_of(pool, s->failed_s), s->failure);
    if (s->n_failed > 1)
        sl_control_print(call, ", %u in a row", s->n_failed);
    sl_control_print(call, "\n");
}

static void
print_text(struct sl_control_call *call, const struct tls_cert *c)
{
    const apr_array_header_t *names = c->pair->names;
    struct tls_staple_state stapled = tls_staple_state(c);
    int i;

    sl_control_print(call, "%s: %d days, until %s%s;", c->chain_file, tls_pair_days(c->pair),
                     expiry_of(sl_control_pool(call), c), c->why != NULL ? ", a placeholder" : "");
    for (i = 0; i < names->nelts && i < NAMES_SHOWN; i++)
        sl_control_print(call, " %s", APR_ARRAY_IDX(names, i, const char *));
    if (names->nelts > NAMES_SHOWN)
        sl_control_print(call, " and %d more", names->nelts - NAMES_SHOWN);
    sl_control_print(call, "\n");
    print_stapling(call, &stapled);
}

static const char *
json_of(apr_pool_t *pool, const char *text)
{
    size_t room = 6 * strlen(text) + 32;
    char *to = apr_palloc(pool, room);

    *sl_json_string(to, to + room - 1, sl_span(text)) = '\0';
    return to;
}

static const char *
json_date(apr_pool_t *pool, int64_t s)
{
    return s != 0 ? apr_psprintf(pool, "\"%s\"", date_of(pool, s)) : "null";
}

static void
json_stapling(struct sl_control_call *call, const struct tls_staple_state *s)
{
    apr_pool_t *pool = sl_control_pool(call);

    if (s->source == NULL) {
        sl_control_print(call, "null");
        return;
    }
    sl_control_print(call, "{\"source\":\"%s\",\"fetched\":%s,\"until\":%s,\"next\":%s,\"revoked\":%s,",
                     s->source, json_date(pool, s->asked_s), json_date(pool, s->until_s),
                     json_date(pool, s->due_s), s->is_revoked ? "true" : "false");
    sl_control_print(call, "\"failures\":%u,\"failed\":%s,\"failure\":%s}", s->n_failed,
                     json_date(pool, s->failed_s), s->failure != NULL ? json_of(pool, s->failure) : "null");
}

static void
print_json(struct sl_control_call *call, const struct tls_cert *c)
{
    apr_pool_t *pool = sl_control_pool(call);
    const apr_array_header_t *names = c->pair->names;
    struct tls_staple_state stapled = tls_staple_state(c);
    int i;

    sl_control_print(call, "%s{\"file\":%s,\"place\":%s,\"days\":%d,\"expires\":\"%s\",\"stapling\":",
                     c != tls_certs() ? "," : "", json_of(pool, c->chain_file), json_of(pool, c->place),
                     tls_pair_days(c->pair), expiry_of(pool, c));
    json_stapling(call, &stapled);
    sl_control_print(call, ",\"placeholder\":%s,\"names\":[", c->why != NULL ? "true" : "false");
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
    .help = "lists certificates, how many days they are good for, and their OCSP responses",
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
