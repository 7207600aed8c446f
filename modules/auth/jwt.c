/* AuthJWT: signed tokens (RFC 7519 in RFC 7515's compact form).  Nothing of a token is believed
 * before its signature, but which key it names. */
#include "auth.h"

#include <apr_strings.h>

#define CACHED_MAX_MS 300000

struct jwt {
    int is_off;
    const char *place, *realm, *cookie, *user; /* cookie NULL: none */
    struct sl_expr *cookie_value;
    struct auth_file *file;
    struct claims_wanted want;
    int expires; /* index into expires_words */
    int passes;
};

enum { EXPIRES_REQUIRED, EXPIRES_OPTIONAL };
static const char *const expires_words[] = {"required", "optional", NULL};

static const struct sl_option options[] = {
    {"iss", SL_SLOT_STRING, offsetof(struct jwt, want.iss), NULL, NULL, "who must have issued it"},
    {"aud", SL_SLOT_STRING, offsetof(struct jwt, want.aud), NULL, NULL, "whom it must be for"},
    {"leeway", SL_SLOT_DURATION, offsetof(struct jwt, want.leeway_ms), "30s", NULL,
     "how much the clocks may differ"},
    {"exp", SL_SLOT_ENUM, offsetof(struct jwt, expires), "required", expires_words,
     "whether it must say when it expires: required or optional"},
    {"cookie", SL_SLOT_TOKEN, offsetof(struct jwt, cookie), NULL, NULL,
     "where it is looked for when there is no Authorization"},
    {"user", SL_SLOT_STRING, offsetof(struct jwt, user), "sub", NULL,
     "the claim that becomes %{user}"},
    {"realm", SL_SLOT_STRING, offsetof(struct jwt, realm), NULL, NULL, "shown to the client"},
    {"pass", SL_SLOT_FLAG, offsetof(struct jwt, passes), "off", NULL,
     "whether the server gets the token, too"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

int
jwt_is_on(const struct jwt *j)
{
    return j != NULL && !j->is_off;
}

const char *
jwt_line(struct sl_cmd *cmd, void **item)
{
    struct jwt *j = apr_pcalloc(sl_cmd_pool(cmd), sizeof *j);
    const char *err;

    *item = j;
    if (sl_cmd_argc(cmd) == 0)
        return "expected a file of keys (a JSON Web Key Set), or off";
    j->is_off = sl_cmd_argc(cmd) == 1 && strcmp(sl_cmd_arg(cmd, 0), "off") == 0;
    if (j->is_off)
        return NULL;
    j->place = sl_cmd_place(cmd);
    j->user = "sub";
    j->want.leeway_ms = 30000;
    if ((err = sl_cmd_options(cmd, 1, options, j)) != NULL)
        return err;
    if (j->want.leeway_ms < 0)
        j->want.leeway_ms = 0;
    j->want.needs_exp = j->expires == EXPIRES_REQUIRED;
    if (j->realm != NULL && auth_quoted(sl_cmd_pool(cmd), j->realm) == NULL)
        return "expected a realm without control characters";
    if (j->cookie != NULL) {
        const char *value = apr_psprintf(sl_cmd_pool(cmd), "%%{cookie:%s}", j->cookie);

        j->cookie_value = sl_expr_compile(sl_cmd_pool(cmd), value, SL_PHASE_REQUEST, &err);
        if (j->cookie_value == NULL)
            return err;
    }
    return auth_file_read(cmd, sl_cmd_arg(cmd, 0), &jwks_kind, &j->file);
}

/* ---- claims as text ---- */

#define SHOWN "jwt" /* the variable in which subrequests find their client's token */

static struct sl_span
text_of_json(apr_pool_t *pool, const json_t *value)
{
    size_t n = json_dumpb(value, NULL, 0, JSON_ENCODE_ANY | JSON_COMPACT);
    char *to = apr_palloc(pool, n + 1);

    json_dumpb(value, to, n, JSON_ENCODE_ANY | JSON_COMPACT);
    return (struct sl_span){to, n};
}

/* A text as it is, the members of a list with blanks between, anything else as JSON. */
static struct sl_span
claim_text(apr_pool_t *pool, const json_t *value)
{
    struct sl_span text = {NULL, 0};
    const json_t *one;
    size_t i;

    if (value == NULL || json_is_null(value))
        return text;
    if (json_is_string(value))
        return (struct sl_span){json_string_value(value), json_string_length(value)};
    if (!json_is_array(value))
        return text_of_json(pool, value);
    text = SL_SPAN("");
    json_array_foreach(value, i, one)
        text = sl_spans_join(pool, (struct sl_span[]){text, i > 0 ? SL_SPAN(" ") : SL_SPAN(""),
                                                      claim_text(pool, one)}, 3);
    return text;
}

struct sl_span
jwt_variable(struct sl_req *r, struct sl_span arg)
{
    struct auth_req *a = auth_of(r);

    if (a->claims == NULL && sl_req_is_sub(r)) /* what the client has shown is all it has of it */
        a->claims = claims_decode(sl_req_pool(r), sl_var_get(r, SHOWN));
    if (a->claims == NULL)
        return (struct sl_span){NULL, 0};
    return claim_text(sl_req_pool(r), claim_find(a->claims, arg));
}

/* ---- the hooks ---- */

static int
is_bearer(struct sl_span field)
{
    return field.n >= 7 && field.at[6] == ' ' &&
           sl_span_eqi((struct sl_span){field.at, 6}, SL_SPAN("Bearer"));
}

/* RFC 6750, 3: without a token the challenge names no error. */
static const char *
challenge(struct sl_req *r, const struct jwt *j, const char *error, const char *why)
{
    apr_pool_t *pool = sl_req_pool(r);
    const char *realm = j->realm != NULL
                            ? apr_pstrcat(pool, " realm=", auth_quoted(pool, j->realm), NULL) : "";

    if (error == NULL)
        return apr_pstrcat(pool, "Bearer", realm, NULL);
    return apr_pstrcat(pool, "Bearer", realm, *realm != '\0' ? ", " : " ", "error=\"", error,
                       "\", error_description=\"", why, "\"", NULL);
}

const char *
jwt_insufficient(struct sl_req *r, const struct jwt *j)
{
    return challenge(r, j, "insufficient_scope", "more is required here");
}

static enum sl_verdict
deny(struct sl_req *r, const struct jwt *j, const struct sl_cause *cause, const char *error,
     const char *why)
{
    return auth_denied(r, cause, challenge(r, j, error, why),
                       apr_psprintf(sl_req_pool(r), "AuthJWT (%s): %s", j->place, why));
}

/* NULL, or why the signature does not count. */
static const char *
signature_check(struct sl_req *r, const struct jwt *j, struct sl_span text, const struct token *t)
{
    int64_t now = sl_loop_now(sl_req_loop(r));
    const struct auth_contents *keys = auth_file_contents(j->file, sl_req_loop(r));
    struct auth_digest d = auth_digest(j->file, keys->version, text, SL_SPAN(""));
    const char *why;

    if (sl_req_is_dry(r))
        return jwks_verify(keys->parsed, t);
    if (auth_cache_has(&d, now))
        return NULL;
    why = jwks_verify(keys->parsed, t);
    if (why == NULL)
        auth_cache_add(&d, now + CACHED_MAX_MS);
    return why;
}

static enum sl_verdict
token_check(struct sl_req *r, const struct jwt *j, struct sl_span text)
{
    struct auth_req *a = auth_of(r);
    struct token t;
    const char *why = token_parse(sl_req_pool(r), text, &t);

    if (why == NULL)
        why = signature_check(r, j, text, &t);
    if (why == NULL)
        why = claims_check(t.claims, &j->want, sl_loop_wall_us(sl_req_loop(r)));
    if (why != NULL)
        return deny(r, j, &auth_cause_bad_token, "invalid_token", why);
    a->claims = t.claims;
    sl_var_set(r, SHOWN, t.signed_part);
    auth_passed(r, AUTH_JWT, claim_text(sl_req_pool(r), claim_find(t.claims, sl_span(j->user))));
    return SL_NEXT;
}

enum sl_verdict
jwt_access(struct sl_req *r, const void *confp)
{
    const struct jwt *j = ((const struct auth_conf *)confp)->jwt;
    struct sl_span field, text = {NULL, 0};
    unsigned n;

    if (!jwt_is_on(j) || auth_is_over(r))
        return SL_NEXT;
    n = auth_credentials(r, &field);
    if (n > 1)
        return deny(r, j, &auth_cause_two_credentials, "invalid_request",
                    "there is more than one Authorization");
    if (n == 1 && is_bearer(field)) {
        text = (struct sl_span){field.at + 7, field.n - 7};
        while (text.n > 0 && *text.at == ' ') {
            text.at++;
            text.n--;
        }
    } else if (j->cookie != NULL)
        text = sl_expr_text(j->cookie_value, r);
    if (text.at == NULL)
        return deny(r, j, &auth_cause_no_credentials, NULL, "no token came");
    return token_check(r, j, text);
}

/* The cookies of a line but for those of this name. */
static struct sl_span
cookies_without(apr_pool_t *pool, struct sl_span line, const char *name)
{
    char *to = apr_palloc(pool, line.n + 1), *at = to;
    size_t n = strlen(name);

    while (line.n > 0) {
        const char *end = memchr(line.at, ';', line.n);
        struct sl_span one = {line.at, end != NULL ? (size_t)(end - line.at) : line.n};

        line.at += one.n + (end != NULL);
        line.n -= one.n + (end != NULL);
        while (one.n > 0 && *one.at == ' ') {
            one.at++;
            one.n--;
        }
        if (one.n == 0 || (one.n > n && one.at[n] == '=' && memcmp(one.at, name, n) == 0))
            continue;
        if (at > to)
            at = (char *)memcpy(at, "; ", 2) + 2;
        at = (char *)memcpy(at, one.at, one.n) + one.n;
    }
    return (struct sl_span){to, (size_t)(at - to)};
}

static void
cookie_clean(struct sl_req *r, const char *name)
{
    struct sl_fields *f = sl_req_head(r);
    const struct sl_field *x;
    size_t n_left = 0;
    unsigned i;

    if (!sl_fields_has_id(f, SL_F_COOKIE))
        return;
    for (i = 0; (x = sl_fields_at(f, i)) != NULL; i++) {
        struct sl_span rest;

        if (x->id != SL_F_COOKIE)
            continue;
        rest = cookies_without(sl_req_pool(r), x->value, name);
        n_left += rest.n;
        if (rest.n != x->value.n)
            sl_fields_put(f, i, rest);
    }
    if (n_left == 0)
        sl_fields_unset(f, "Cookie");
}

enum sl_verdict
jwt_clean(struct sl_req *r, const void *confp)
{
    const struct jwt *j = ((const struct auth_conf *)confp)->jwt;
    struct sl_span field;

    if (!jwt_is_on(j) || j->passes)
        return SL_NEXT;
    if (auth_credentials(r, &field) > 0 && is_bearer(field))
        sl_fields_unset(sl_req_head(r), "Authorization");
    if (j->cookie != NULL)
        cookie_clean(r, j->cookie);
    return SL_NEXT;
}
