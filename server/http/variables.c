/* The core's variables, and all variables by name. */
#include "http/variables.h"

#include "config/load.h"
#include "http/request.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <time.h>

#define VARIABLES_MAX 256

static const struct sl_variable *known[VARIABLES_MAX];
static unsigned n_known;

const struct sl_variable *
variable_find(struct sl_span name)
{
    unsigned i;

    for (i = 0; i < n_known; i++)
        if (sl_span_eq(sl_span(known[i]->name), name))
            return known[i];
    return NULL;
}

/* What other servers call them, and what is guessed. */
static const char *const aliases[][2] = {
    {"request_uri", "uri"},           {"url", "uri"},
    {"document_uri", "path"},         {"args", "query"},
    {"query_string", "query"},        {"http_host", "host"},
    {"server_name", "host"},          {"http_user_agent", "req:User-Agent"},
    {"user_agent", "req:User-Agent"}, {"User-Agent", "req:User-Agent"},
    {"http_referer", "req:Referer"},  {"referer", "req:Referer"},
    {"http_cookie", "cookie:NAME"},   {"request_method", "method"},
    {"server_protocol", "protocol"},  {"body_bytes_sent", "bytes_sent"},
    {"bytes", "bytes_sent"},          {"client", "remote_addr"},
    {"client_ip", "remote_addr"},     {"remote_host", "remote_addr"},
    {"time_local", "time_clf"},       {"time_iso8601", "time"},
    {"upstream", "upstream_addr"},    {"upstream_response_time", "upstream_time"},
    {"duration", "request_time"},
};

const char *
variable_nearest(const char *name)
{
    const char *best = NULL;
    unsigned i, least = 3;

    for (i = 0; i < sizeof aliases / sizeof aliases[0]; i++)
        if (strcasecmp(aliases[i][0], name) == 0)
            return aliases[i][1];

    for (i = 0; i < n_known; i++) {
        unsigned d = sl_name_distance(known[i]->name, name);

        if (d < least) {
            least = d;
            best = known[i]->name;
        }
    }
    return best;
}

int
variables_add(const char *module, const struct sl_variable *rows, size_t stride)
{
    const char *at = (const char *)rows;

    if (strcmp(module, "core") == 0)
        n_known = 0; /* a new configuration is being read */
    for (;; at += stride) {
        const struct sl_variable *v = (const struct sl_variable *)(const void *)at;

        if (v->name == NULL)
            return 0;
        if (n_known == VARIABLES_MAX || variable_find(sl_span(v->name)) != NULL)
            return -1;
        known[n_known++] = v;
    }
}

/* ---- text of numbers and times ---- */

static const struct sl_span absent = {NULL, 0};

static struct sl_span
number_text(struct sl_req *r, int64_t n)
{
    char *to = apr_palloc(r->pool, 24);

    return (struct sl_span){to, (size_t)apr_snprintf(to, 24, "%" APR_INT64_T_FMT, n)};
}

/* "0.012" */
static struct sl_span
seconds_text(struct sl_req *r, int64_t us)
{
    char *to = apr_palloc(r->pool, 32);
    int n;

    if (us < 0)
        return absent;
    n = apr_snprintf(to, 32, "%" APR_INT64_T_FMT ".%03d", us / 1000000,
                     (int)(us % 1000000 / 1000));
    return (struct sl_span){to, (size_t)n};
}

/* ---- the rows' functions ---- */

#define GETTER(name)                                                                         \
    static struct sl_span get_##name(struct sl_req *r, struct sl_span arg)

GETTER(remote_addr)
{
    (void)arg;
    return sl_req_client_text(r);
}

GETTER(remote_port)
{
    const struct sl_sockaddr *a = &r->conn->peer;

    (void)arg;
    if (a->len == 0)
        return absent;
    return number_text(r, ntohs(a->u.sa.sa_family == AF_INET ? a->u.in.sin_port
                                                             : a->u.in6.sin6_port));
}

GETTER(host)
{
    (void)arg;
    return r->host;
}

GETTER(path)
{
    (void)arg;
    return r->match;
}

GETTER(query)
{
    (void)arg;
    return r->query;
}

GETTER(uri)
{
    (void)arg;
    return req_uri(r);
}

GETTER(arg)
{
    return r->query.n > 0 ? pair_find(r->query, '&', arg) : absent;
}

/* In any of its lines: servers join them, though clients should not write several (RFC 6265, 5.4). */
GETTER(cookie)
{
    struct sl_span value = absent;
    const struct sl_field *x;
    unsigned i = 0;

    while (fields_may_have(&r->head, SL_F_COOKIE) && value.at == NULL &&
           (x = sl_fields_next(&r->head, &i)) != NULL)
        if (x->id == SL_F_COOKIE)
            value = pair_find(x->value, ';', arg);
    return value;
}

GETTER(req)
{
    return sl_fields_joined(&r->head, sl_span_dup(r->pool, arg));
}

GETTER(resp)
{
    return sl_fields_joined(&r->response, sl_span_dup(r->pool, arg));
}

GETTER(method)
{
    (void)arg;
    return r->method;
}

GETTER(scheme)
{
    (void)arg;
    return sl_req_scheme(r);
}

GETTER(protocol)
{
    (void)arg;
    return r->version == 10 ? SL_SPAN("HTTP/1.0")
                            : r->version == 20 ? SL_SPAN("HTTP/2") : SL_SPAN("HTTP/1.1");
}

GETTER(status)
{
    (void)arg;
    return r->status > 0 ? number_text(r, r->status) : absent;
}

GETTER(bytes_sent)
{
    (void)arg;
    return number_text(r, r->bytes_sent);
}

GETTER(upstream_addr)
{
    (void)arg;
    return r->server != NULL ? sl_span(r->server->address) : absent;
}

GETTER(upstream_time)
{
    (void)arg;
    return seconds_text(r, r->upstream_us);
}

GETTER(request_time)
{
    (void)arg;
    return seconds_text(r, sl_req_elapsed_us(r));
}

GETTER(request_id)
{
    (void)arg;
    return sl_req_id(r);
}

GETTER(time)
{
    char *to = apr_palloc(r->pool, 32);
    time_t t = (time_t)(r->started_us / 1000000);
    struct tm tm;
    size_t n;

    (void)arg;
    gmtime_r(&t, &tm);
    n = strftime(to, 32, "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)apr_snprintf(to + n, 32 - n, ".%03dZ", (int)(r->started_us % 1000000 / 1000));
    return (struct sl_span){to, n};
}

GETTER(time_clf)
{
    static _Thread_local struct {
        time_t at;
        char text[32];
        size_t n;
    } last;
    time_t t = (time_t)(r->started_us / 1000000);
    struct tm tm;

    (void)arg;
    if (t != last.at) {
        gmtime_r(&t, &tm);
        last.n = strftime(last.text, sizeof last.text, "%d/%b/%Y:%H:%M:%S +0000", &tm);
        last.at = t;
    }
    return (struct sl_span){apr_pstrmemdup(r->pool, last.text, last.n), last.n};
}

GETTER(env)
{
    (void)r;
    return sl_span(getenv(sl_span_dup(r->pool, arg)));
}

GETTER(cause)
{
    (void)arg;
    return r->cause != NULL ? sl_span(r->cause->name) : absent;
}

#define ROW(name, arg, phase, type, cost, help)                                              \
    {#name, arg, SL_PHASE_##phase, SL_TYPE_##type, cost, get_##name, help}

const struct sl_variable core_variables[] = {
    ROW(remote_addr, 0, REQUEST, ADDRESS, 5, "the client's address, trusted proxies looked through"),
    ROW(remote_port, 0, CONNECTION, NUMBER, 60, "the peer's port"),
    ROW(host, 0, REQUEST, STRING, 1, "the host asked for, lower case, no port"),
    ROW(path, 0, REQUEST, STRING, 1, "the normalised path"),
    ROW(query, 0, REQUEST, STRING, 1, "what stands behind the first question mark"),
    ROW(uri, 0, REQUEST, STRING, 1, "path and query as the client wrote them"),
    ROW(arg, 1, REQUEST, STRING, 20, "one argument of the query, as it stands"),
    ROW(req, 1, REQUEST, STRING, 30, "a field of the request"),
    ROW(resp, 1, RESPONSE, STRING, 30, "a field of the response"),
    ROW(cookie, 1, REQUEST, STRING, 40, "one cookie of the request"),
    ROW(method, 0, REQUEST, STRING, 1, "the method"),
    ROW(scheme, 0, CONNECTION, STRING, 2, "the scheme, http or https"),
    ROW(protocol, 0, REQUEST, STRING, 1, "HTTP/1.1 and the like"),
    ROW(status, 0, RESPONSE, NUMBER, 40, "the status of the answer"),
    ROW(bytes_sent, 0, LOG, NUMBER, 40, "bytes of the answer's body"),
    ROW(upstream_addr, 0, RESPONSE, STRING, 2, "the server of the last attempt"),
    ROW(upstream_time, 0, LOG, TIME, 60, "seconds the last attempt took"),
    ROW(request_time, 0, LOG, TIME, 60, "seconds since the request's head was read"),
    ROW(request_id, 0, REQUEST, STRING, 40, "16 hexadecimal digits, one of a kind"),
    ROW(time, 0, REQUEST, STRING, 300, "when the request began, ISO 8601"),
    ROW(time_clf, 0, REQUEST, STRING, 20, "when the request began, as in the common log format"),
    ROW(env, 1, CONNECTION, STRING, 100, "a variable of the server's environment"),
    ROW(cause, 0, LOG, STRING, 1, "why the request failed, in one word"),
    SL_VARIABLES_END,
};
