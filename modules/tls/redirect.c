/* HTTPSRedirect sends clients that come in clear to the same place by HTTPS; HSTS tells those
 * that came by HTTPS to stay there. */
#include "tls.h"

#include <apr_strings.h>

#include <stdlib.h>

struct tls_redirect {
    int is_on;
    int64_t port; /* 443: not written */
};

struct tls_hsts {
    struct sl_span value; /* n 0: none */
};

static const struct sl_option redirect_options[] = {
    {"port", SL_SLOT_NUMBER, offsetof(struct tls_redirect, port), "443", NULL, "where HTTPS is spoken"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

const char *
tls_redirect_parse(struct sl_cmd *cmd, void **item)
{
    struct tls_redirect *d = apr_pcalloc(sl_cmd_pool(cmd), sizeof *d);
    const char *word = sl_cmd_arg(cmd, 0), *err;

    d->port = 443;
    *item = d;
    if (word == NULL || (strcmp(word, "on") != 0 && strcmp(word, "off") != 0))
        return sl_cmd_error(cmd, "expected on or off, found \"%s\"", word != NULL ? word : "");
    d->is_on = strcmp(word, "on") == 0;
    if ((err = sl_cmd_options(cmd, 1, redirect_options, d)) != NULL)
        return err;
    return d->port >= 1 && d->port <= 65535 ? NULL : "expected port= between 1 and 65535";
}

/* A method that must not change is kept by 308 (RFC 9110, 15.4.9). */
enum sl_verdict
tls_redirect(struct sl_req *r, const struct tls_redirect *d)
{
    struct sl_span host = sl_req_host(r), path = sl_req_target_path(r), query = sl_req_query(r);
    struct sl_span method = sl_req_method(r);
    char port[16] = "";

    if (!d->is_on || sl_req_is_tls(r))
        return SL_NEXT;
    if (host.n == 0)
        return sl_req_fail(r, 0, &sl_cause_bad_host, "HTTPSRedirect needs a host to send to");
    if (d->port != 443)
        apr_snprintf(port, sizeof port, ":%d", (int)d->port);
    if (path.n == 0 || path.at[0] != '/')
        path = SL_SPAN("/");
    sl_fields_set(sl_req_response(r), "Location",
                  sl_span(apr_psprintf(sl_req_pool(r), "https://%.*s%s%.*s%s%.*s", (int)host.n, host.at,
                                       port, (int)path.n, path.at, query.at != NULL ? "?" : "",
                                       (int)query.n, query.at != NULL ? query.at : "")));
    sl_note(r, "HTTPSRedirect");
    return sl_respond(r, sl_span_eq(method, SL_SPAN("GET")) || sl_span_eq(method, SL_SPAN("HEAD"))
                             ? 301 : 308, NULL, SL_SPAN(""));
}

/* ---- HSTS ---- */

const char *
tls_hsts_parse(struct sl_cmd *cmd, void **item)
{
    struct tls_hsts *h = apr_pcalloc(sl_cmd_pool(cmd), sizeof *h);
    const char *word = sl_cmd_arg(cmd, 0), *more = "";
    int64_t ms = (int64_t)365 * 86400 * 1000;
    int i;

    *item = h;
    if (word == NULL)
        return "expected on, off or a time, then subdomains and preload";
    if (strcmp(word, "off") == 0)
        return sl_cmd_argc(cmd) == 1 ? NULL : "off stands alone";
    if (strcmp(word, "on") != 0 &&
        (sl_parse_slot(sl_cmd_pool(cmd), SL_SLOT_DURATION, word, &ms) != NULL || ms < 0))
        return sl_cmd_error(cmd, "expected on, off or a time such as 365d, found \"%s\"", word);
    for (i = 1; (word = sl_cmd_arg(cmd, i)) != NULL; i++) {
        if (strcmp(word, "subdomains") == 0)
            more = apr_pstrcat(sl_cmd_pool(cmd), more, "; includeSubDomains", NULL);
        else if (strcmp(word, "preload") == 0)
            more = apr_pstrcat(sl_cmd_pool(cmd), more, "; preload", NULL);
        else
            return sl_cmd_error(cmd, "expected subdomains or preload, found \"%s\"", word);
    }
    h->value = sl_span(apr_psprintf(sl_cmd_pool(cmd), "max-age=%" APR_INT64_T_FMT "%s",
                                    (apr_int64_t)(ms / 1000), more));
    return NULL;
}

/* Only over TLS: in clear it would be anybody's word (RFC 6797, 7.2). */
enum sl_verdict
tls_hsts_response(struct sl_req *r, const void *confp)
{
    const struct tls_hsts *h = ((const struct tls_conf *)confp)->hsts;

    if (h != NULL && h->value.n > 0 && sl_req_is_tls(r))
        sl_fields_set(sl_req_response(r), "Strict-Transport-Security", h->value);
    return SL_NEXT;
}
