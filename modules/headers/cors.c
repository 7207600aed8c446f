/* CORS: which pages of other origins a browser lets read the answers (the Fetch standard, 3.2).
 * The proxy is the authority where it is configured: what a server says of it is replaced. */
#include "headers.h"

#include <apr_lib.h>
#include <apr_strings.h>

struct cors {
    int is_on;
    int allows_all;              /* the origin "*" */
    apr_array_header_t *origins; /* of struct sl_span, lower case; the host may begin with "*." */
    const char *methods, *headers, *expose; /* lists with commas */
    int64_t max_age_ms;
    int credentials;
    const char *max_age; /* in seconds */
    int echoes_headers;  /* headers=*: whatever is asked for */
};

static const struct sl_option cors_options[] = {
    {"methods", SL_SLOT_STRING, offsetof(struct cors, methods), "GET,HEAD,POST", NULL,
     "methods other than these are refused by browsers"},
    {"headers", SL_SLOT_STRING, offsetof(struct cors, headers), "Content-Type", NULL,
     "fields of requests beside the harmless ones; * is any"},
    {"expose", SL_SLOT_STRING, offsetof(struct cors, expose), NULL, NULL,
     "fields of responses a page may read"},
    {"max_age", SL_SLOT_DURATION, offsetof(struct cors, max_age_ms), "10m", NULL,
     "how long a browser remembers a preflight"},
    {"credentials", SL_SLOT_FLAG, offsetof(struct cors, credentials), "off", NULL,
     "cookies and passwords may be sent"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

/* ---- the configuration ---- */

/* scheme://host[:port], nothing behind it (RFC 6454, 6.2). */
static int
is_origin(const char *text)
{
    const char *host = strstr(text, "://"), *at;

    if (host == NULL || host == text)
        return 0;
    for (at = text; at < host; at++)
        if (!apr_isalnum(*at) && strchr("+-.", *at) == NULL)
            return 0;
    host += 3;
    if (strncmp(host, "*.", 2) == 0)
        host += 2;
    if (*host == '\0')
        return 0;
    for (at = host; *at != '\0'; at++)
        if (!apr_isalnum(*at) && strchr("-._:[]", *at) == NULL)
            return 0;
    return 1;
}

static const char *
origin_add(struct sl_cmd *cmd, struct cors *cors, const char *text)
{
    char *low = apr_pstrdup(sl_cmd_pool(cmd), text);

    if (strcmp(text, "*") == 0) {
        cors->allows_all = 1;
        return NULL;
    }
    if (!is_origin(text)) {
        sl_cmd_cure(cmd, "an origin has a scheme, a host and no path: https://app.example.com, "
                         "https://*.example.com, or * for all");
        return sl_cmd_error(cmd, "expected an origin, found \"%s\"", text);
    }
    for (char *at = low; *at != '\0'; at++)
        *at = (char)apr_tolower(*at);
    APR_ARRAY_PUSH(cors->origins, struct sl_span) = sl_span(low);
    return NULL;
}

static const char *
names_check(struct sl_cmd *cmd, const char *key, const char *list)
{
    struct sl_span rest = sl_span(list), name;
    const char *token;

    while (list[0] != '\0' && sl_list_next(&rest, &name)) {
        const char *text = sl_span_dup(sl_cmd_pool(cmd), name);

        if (sl_parse_slot(sl_cmd_pool(cmd), SL_SLOT_TOKEN, text, &token) != NULL)
            return sl_cmd_error(cmd, "expected names with commas between in %s=, found \"%s\"",
                                key, list);
    }
    return NULL;
}

static const char *
cors_finish(struct sl_cmd *cmd, struct cors *cors)
{
    const char *err;

    if (cors->allows_all && cors->credentials) {
        sl_cmd_cure(cmd, "name the origins that may act as the user");
        return "expected origins by name with credentials: with *, any page could act as the user";
    }
    if ((err = names_check(cmd, "methods", cors->methods)) != NULL ||
        (err = names_check(cmd, "headers", cors->headers)) != NULL ||
        (err = names_check(cmd, "expose", cors->expose)) != NULL)
        return err;
    cors->echoes_headers = strcmp(cors->headers, "*") == 0;
    if (cors->max_age_ms < 0)
        return "expected max_age= as a time";
    cors->max_age = apr_psprintf(sl_cmd_pool(cmd), "%ld", (long)(cors->max_age_ms / 1000));
    return NULL;
}

const char *
cors_parse(struct sl_cmd *cmd, void **item)
{
    struct cors *cors = apr_pcalloc(sl_cmd_pool(cmd), sizeof *cors);
    const char *word, *err;
    int i;

    *cors = (struct cors){.methods = "GET,HEAD,POST",
                          .headers = "Content-Type",
                          .expose = "",
                          .max_age_ms = 600000};
    *item = cors;
    if (sl_cmd_argc(cmd) == 1 && strcmp(sl_cmd_arg(cmd, 0), "off") == 0)
        return NULL;
    cors->is_on = 1;
    cors->origins = apr_array_make(sl_cmd_pool(cmd), 4, sizeof(struct sl_span));
    for (i = 0; (word = sl_cmd_arg(cmd, i)) != NULL; i++) {
        if (strchr(word, '=') != NULL || strcmp(word, "credentials") == 0)
            break;
        if ((err = origin_add(cmd, cors, word)) != NULL)
            return err;
    }
    if (i == 0)
        return "expected origins before the options";
    if ((err = sl_cmd_options(cmd, i, cors_options, cors)) != NULL)
        return err;
    return cors_finish(cmd, cors);
}

/* ---- requests ---- */

/* What a host's labels have: nothing that could begin another part of a URL. */
static int
is_labels(struct sl_span text)
{
    size_t i;

    for (i = 0; i < text.n; i++)
        if (!apr_isalnum(text.at[i]) && memchr("-._", text.at[i], 3) == NULL)
            return 0;
    return 1;
}

static int
origin_matches(struct sl_span pattern, struct sl_span origin)
{
    const char *star = memchr(pattern.at, '*', pattern.n);
    struct sl_span scheme, domain; /* "https://", ".example.com" */

    if (star == NULL)
        return sl_span_eqi(pattern, origin);
    scheme = (struct sl_span){pattern.at, (size_t)(star - pattern.at)};
    domain = (struct sl_span){star + 1, pattern.n - scheme.n - 1};
    if (origin.n <= scheme.n + domain.n)
        return 0;
    return sl_span_eqi((struct sl_span){origin.at, scheme.n}, scheme) &&
           sl_span_eqi((struct sl_span){origin.at + origin.n - domain.n, domain.n}, domain) &&
           is_labels((struct sl_span){origin.at + scheme.n, origin.n - scheme.n - domain.n});
}

static int
origin_is_allowed(const struct cors *cors, struct sl_span origin)
{
    int i;

    if (cors->allows_all)
        return 1;
    for (i = 0; i < cors->origins->nelts; i++)
        if (origin_matches(APR_ARRAY_IDX(cors->origins, i, struct sl_span), origin))
            return 1;
    return 0;
}

static void
vary_merge(struct sl_req *r, const char *member)
{
    struct sl_fields *f = sl_req_response(r);
    struct sl_span parts[] = {sl_fields_joined(f, "Vary"), SL_SPAN(", "), sl_span(member)};

    if (sl_fields_lists(f, SL_F_VARY, member) || sl_fields_lists(f, SL_F_VARY, "*"))
        return;
    sl_fields_set(f, "Vary", parts[0].n > 0 ? sl_spans_join(sl_req_pool(r), parts, 3) : parts[2]);
}

/* The origin as it came: browsers compare bytes. */
static void
allow_origin(struct sl_req *r, const struct cors *cors, struct sl_span origin)
{
    struct sl_fields *f = sl_req_response(r);

    sl_fields_set(f, "Access-Control-Allow-Origin", cors->allows_all ? SL_SPAN("*") : origin);
    if (cors->credentials)
        sl_fields_set(f, "Access-Control-Allow-Credentials", SL_SPAN("true"));
}

static void
preflight_allow(struct sl_req *r, const struct cors *cors, struct sl_span origin)
{
    struct sl_fields *f = sl_req_response(r);
    struct sl_span asked = sl_fields_joined(sl_req_head(r), "Access-Control-Request-Headers");
    struct sl_span headers = cors->echoes_headers ? asked : sl_span(cors->headers);

    allow_origin(r, cors, origin);
    sl_fields_set(f, "Access-Control-Allow-Methods", sl_span(cors->methods));
    if (headers.n > 0)
        sl_fields_set(f, "Access-Control-Allow-Headers", headers);
    sl_fields_set(f, "Access-Control-Max-Age", sl_span(cors->max_age));
}

static int
is_preflight(struct sl_req *r)
{
    return sl_span_eq(sl_req_method(r), SL_SPAN("OPTIONS")) &&
           sl_fields_get_id(sl_req_head(r), SL_F_ORIGIN).n > 0 &&
           sl_fields_get(sl_req_head(r), "Access-Control-Request-Method").n > 0;
}

enum sl_verdict
cors_preflight(struct sl_req *r, const struct cors *cors)
{
    struct sl_span origin = sl_fields_get_id(sl_req_head(r), SL_F_ORIGIN);

    if (!cors->is_on || !is_preflight(r))
        return SL_NEXT;
    vary_merge(r, "Access-Control-Request-Method");
    vary_merge(r, "Access-Control-Request-Headers");
    if (!origin_is_allowed(cors, origin)) {
        sl_note(r, "CORS: origin %.*s is not allowed", (int)origin.n, origin.at);
        return sl_respond(r, 403, "text/plain", SL_SPAN("this origin is not allowed\n"));
    }
    preflight_allow(r, cors, origin);
    sl_note(r, "CORS: preflight answered");
    return sl_respond(r, 204, NULL, SL_SPAN(""));
}

/* Ours: what a cache holds of a server's has no server either, but is never for a preflight. */
static int
is_preflight_answer(struct sl_req *r)
{
    return is_preflight(r) && sl_req_server(r) == NULL &&
           sl_fields_get(sl_req_response(r), "Access-Control-Allow-Methods").at != NULL;
}

void
cors_response(struct sl_req *r, const struct cors *cors)
{
    struct sl_fields *f = sl_req_response(r);
    struct sl_span origin = sl_fields_get_id(sl_req_head(r), SL_F_ORIGIN);

    if (!cors->is_on)
        return;
    if (!cors->allows_all)
        vary_merge(r, "Origin"); /* a cache must not give one origin's answer to another */
    if (is_preflight_answer(r))
        return;
    sl_fields_unset(f, "Access-Control-Allow-Origin");
    sl_fields_unset(f, "Access-Control-Allow-Credentials");
    if (origin.n == 0 || !origin_is_allowed(cors, origin))
        return;
    allow_origin(r, cors, origin);
    if (cors->expose[0] != '\0')
        sl_fields_set(f, "Access-Control-Expose-Headers", sl_span(cors->expose));
}
