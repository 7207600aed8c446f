/* Who asks: passwords, tokens, and a server that is asked.  This file has the rows, and what the
 * methods have in common; auth.h says who does what. */

/*man
NAME
    mod_auth - asks who clients are: by password, by token, by another server
DESCRIPTION
    Each of AuthBasic, AuthJWT and AuthForward wants to know who asks, and has an opinion on who
    may pass. Where several hold, and beside what others say of access (Allow and Deny), Satisfy
    says whether all must agree, which is the default, or any is enough.

    Whoever asked is %{user} from then on: in fields (RequestHeader set X-User %{user}), in
    conditions that are asked behind the access phase, and in logs, where it is the %u of
    the formats common and combined. The claims of a token are %{jwt:NAME}; %{jwt:a.b} is
    member b of claim a. A list is given as its members with blanks between.

    What was meant for this server is not passed on: Authorization, where it has the scheme
    that was looked for, and a token's cookie are taken out of the request, unless the option
    pass says otherwise. Where answers differ by user, a cache needs %{user} in its key.

    Files are read while the server has its rights, and again when they change; one that does
    not parse is told in the log, and what it held before stays.

    Passwords and tokens in clear can be read by whoever listens: HTTPSRedirect is for that.
    sluice -E shows what would be asked; it verifies tokens, but no passwords, and asks no
    server.
DIRECTIVES
  AuthBasic
    AuthBasic REALM FILE [cache=TIME] [pass]: users and passwords as htpasswd keeps them, one
    USER:HASH a line, the hash by bcrypt (htpasswd -B) or another method of libcrypt, by
    apr1 or, for what is left of old times, by SHA. To verify one takes the more time the
    better the method is, as much for an unknown user as for a known one, and holds up no
    other request; a password that was right is not verified again for cache=,
    5 minutes by default, unless the file changes. Of more than 256 requests that wait for
    this the others are answered with 503. Wrong passwords are not remembered: RateLimit is
    for those who guess. "AuthBasic off" asks nobody.
  AuthJWT
    AuthJWT FILE [OPTION ...]: tokens of Authorization: Bearer, signed by a key of FILE, a
    JSON Web Key Set. Keys of RSA are for RS256 alone, of the curve P-256 for ES256, Ed25519
    for EdDSA, and secrets (oct) for HS256: a token that says otherwise is refused. One that
    names no key (kid) is tried with the first eight of its algorithm. A token must not have expired
    nor be too young (exp, nbf), with leeway= for clocks that differ, 30 seconds by default;
    exp=optional takes tokens that never expire. iss= and aud= say who must have issued it,
    and for whom. cookie=NAME is where it is looked for when there is no Bearer. user=CLAIM
    becomes %{user}, by default sub. realm= is shown to the client. A refusal says why, as
    RFC 6750 has it. "AuthJWT off" wants no token.
  AuthForward
    AuthForward TARGET [OPTION ...]: a server is asked for each request, by GET with the
    target's path, the client's fields (send=NAME,NAME: those alone), and
    X-Forwarded-Method, -Uri, -Host and -For. 2xx lets the request through, with the fields
    copy=NAME,NAME of that answer in place of whatever the client sent under these names;
    user=NAME is the field that becomes %{user}. 401, 403 and redirects are the client's
    answer, with the fields answer=NAME,NAME (by default WWW-Authenticate, Location,
    Set-Cookie, Cache-Control and Retry-After) and a body of at most 64k. Anything else is a
    failure: 502, or 503 where no answer came within timeout=, 10 seconds by default.
    "AuthForward off" asks nobody.
  AuthRequire
    A condition on who asked, that must hold: 403 otherwise. Of several lines all must. It
    is asked once a method knows the client, and not of those who pass without one.
VARIABLES
    %{user} and %{jwt:NAME} are absent until the access phase has found out who asks.
EXAMPLE
    LoadModule route
    LoadModule headers
    LoadModule auth
    Listen 80
    <Location "/admin/">
        AuthBasic "Staff" /etc/sluice/htpasswd
        AuthRequire "%{user} in {alice, bob}"
        RequestHeader set X-User %{user}
    </Location>
    <Location "/api/">
        AuthJWT /etc/sluice/jwks.json iss=https://login.example.com aud=api
        AuthRequire "%{jwt:scope} contains 'read'"
    </Location>
    <Location "/app/">
        AuthForward http://127.0.0.1:4180/oauth2/auth copy=X-Auth-Request-User
    </Location>
    ProxyPass http://127.0.0.1:3000
*/
#include "auth.h"

#include <apr_strings.h>

#define CAUSE(word, number, code, says)                                                      \
    const struct sl_cause auth_cause_##word = {number, #word, code, says}
CAUSE(no_credentials, "AUTH0010", 401, "the client does not say who it is");
CAUSE(bad_credentials, "AUTH0011", 401, "the client is not who it says");
CAUSE(forbidden, "AUTH0012", 403, "this user may not do that");
CAUSE(busy, "AUTH0013", 503, "too many passwords wait to be verified");
CAUSE(bad_token, "AUTH0014", 401, "the token is not valid");
CAUSE(two_credentials, "AUTH0015", 400, "the client says more than once who it is");
CAUSE(refused, "AUTH0016", 403, "the server that was asked refuses the client");
CAUSE(unasked, "AUTH0017", 503, "the server that decides on access gave no answer");
CAUSE(unclear, "AUTH0018", 502, "the server that decides on access gave no answer of use");

struct requirement {
    struct sl_cond *condition;
    const char *place;
};

/* ---- what methods have in common ---- */

struct auth_req *
auth_of(struct sl_req *r)
{
    return sl_req_data(r, &sl_module_record, sizeof(struct auth_req));
}

unsigned
auth_credentials(struct sl_req *r, struct sl_span *field)
{
    const struct sl_field *x;
    unsigned i, n = 0;

    *field = (struct sl_span){NULL, 0};
    if (!sl_fields_has_id(sl_req_head(r), SL_F_AUTHORIZATION))
        return 0;
    for (i = 0; (x = sl_fields_at(sl_req_head(r), i)) != NULL; i++)
        if (x->id == SL_F_AUTHORIZATION && n++ == 0)
            *field = x->value;
    return n;
}

const char *
auth_quoted(apr_pool_t *pool, const char *text)
{
    char *to = apr_palloc(pool, 2 * strlen(text) + 3), *at = to;

    *at++ = '"';
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 127)
            return NULL;
        if (*text == '"' || *text == '\\')
            *at++ = '\\';
        *at++ = *text;
    }
    *at++ = '"';
    *at = '\0';
    return to;
}

apr_array_header_t *
auth_field_names(struct sl_cmd *cmd, const char *text, const char **err)
{
    apr_array_header_t *names = apr_array_make(sl_cmd_pool(cmd), 4, sizeof(const char *));
    struct sl_span list = sl_span(text), one;
    const char *name;

    while (list.n > 0 && sl_list_next(&list, &one)) {
        name = sl_span_dup(sl_cmd_pool(cmd), one);
        if (sl_parse_slot(sl_cmd_pool(cmd), SL_SLOT_TOKEN, name, &name) != NULL ||
            sl_field_is_framing(sl_field_id(one))) {
            *err = sl_cmd_error(cmd, "expected names of fields with commas between, found \"%s\"",
                                name);
            return NULL;
        }
        APR_ARRAY_PUSH(names, const char *) = name;
    }
    return names;
}

void
auth_passed(struct sl_req *r, enum auth_method method, struct sl_span user)
{
    static const char *const names[] = {"", "AuthBasic", "AuthJWT", "AuthForward"};

    auth_of(r)->passed = method;
    if (user.at != NULL)
        sl_var_set(r, "user", user);
    sl_note(r, "%s: the user is %.*s", names[method], user.at != NULL ? (int)user.n : 1,
            user.at != NULL ? user.at : "-");
}

int
auth_is_over(struct sl_req *r)
{
    if (!sl_access_needs_one(r))
        return 0;
    return sl_access_is_settled(r) || auth_of(r)->passed != AUTH_NONE;
}

struct denial {
    const struct sl_cause *cause;
    const char *challenge, *why;
};

static enum sl_verdict
deny(struct sl_req *r, void *ctx)
{
    const struct denial *d = ctx;

    auth_of(r)->challenge = d->challenge;
    return sl_req_fail(r, 0, d->cause, "%s", d->why);
}

enum sl_verdict
auth_denied(struct sl_req *r, const struct sl_cause *cause, const char *challenge, const char *why)
{
    struct denial *d = apr_palloc(sl_req_pool(r), sizeof *d);

    *d = (struct denial){cause, challenge, why};
    sl_note(r, "%s: %s", cause->text, why);
    return sl_access_denied(r, deny, d);
}

/* ---- hooks ---- */

/* The methods have spoken. */
static enum sl_verdict
auth_decide(struct sl_req *r, const void *confp)
{
    const struct auth_conf *conf = confp;
    enum auth_method passed = auth_of(r)->passed;
    int i, holds;

    if (passed == AUTH_NONE)
        return SL_NEXT;
    for (i = 0; conf->require != NULL && i < conf->require->nelts; i++) {
        const struct requirement *q = APR_ARRAY_IDX(conf->require, i, const struct requirement *);

        holds = sl_cond_holds(q->condition, r);
        if (holds < 0)
            return sl_req_fail(r, 0, &sl_cause_condition_limit, "%s", q->place);
        if (!holds)
            return auth_denied(r, &auth_cause_forbidden,
                               passed == AUTH_JWT ? jwt_insufficient(r, conf->jwt) : NULL,
                               apr_psprintf(sl_req_pool(r), "AuthRequire %s (%s)",
                                            sl_cond_source(q->condition), q->place));
    }
    return sl_access_granted(r);
}

/* RFC 9110, 11.6.1: on whatever page the client gets. */
static enum sl_verdict
auth_response(struct sl_req *r, const void *confp)
{
    const char *challenge = auth_of(r)->challenge;
    int status = sl_req_status(r);

    (void)confp;
    if (challenge != NULL && (status == 400 || status == 401 || status == 403))
        sl_fields_set(sl_req_response(r), "WWW-Authenticate", sl_span(challenge));
    if (sl_req_cause(r) == &auth_cause_busy && status == auth_cause_busy.status)
        sl_fields_set(sl_req_response(r), "Retry-After", SL_SPAN("1"));
    return SL_NEXT;
}

static const char *
require_line(struct sl_cmd *cmd, void **item)
{
    struct requirement *q = apr_pcalloc(sl_cmd_pool(cmd), sizeof *q);

    *item = q;
    q->place = sl_cmd_place(cmd);
    if (sl_cmd_argc(cmd) != 1)
        return "expected one condition, in quotes";
    return sl_cmd_cond(cmd, sl_cmd_arg(cmd, 0), SL_PHASE_ROUTED, &q->condition);
}

/* A requirement that nobody is held to looks like one that holds. */
static int
auth_check(struct sl_worker *w)
{
    struct sl_scope *s;
    unsigned i;

    for (i = 0; (s = sl_worker_scope(w, i)) != NULL; i++) {
        const struct auth_conf *conf = sl_scope_conf(s, &sl_module_record);

        if (conf->require == NULL || conf->require->nelts == 0 || basic_is_on(conf->basic) ||
            jwt_is_on(conf->jwt) || forward_is_on(conf->forward))
            continue;
        sl_worker_config_error(w, sl_scope_kind(s) == SL_SCOPE_GLOBAL
                                      ? APR_ARRAY_IDX(conf->require, 0, struct requirement *)->place
                                      : sl_scope_place(s),
                               "AuthRequire: expected AuthBasic, AuthJWT or AuthForward beside it, "
                               "which say who asks; \"AuthRequire -\" forgets those of the sections "
                               "around");
    }
    return 0;
}

static int
auth_begin(struct sl_worker *w)
{
    auth_files_watch(w);
    return 0;
}

static int
auth_thread(struct sl_worker *w, struct sl_loop *loop)
{
    (void)w;
    if (sl_loop_index(loop) == 0)
        verify_open(loop);
    return 0;
}

static int
auth_exit(struct sl_worker *w)
{
    (void)w;
    verify_close();
    return 0;
}

static const struct sl_directive directives[] = {
    SL_PARSED("AuthBasic", struct auth_conf, basic, basic_line, SL_IN_ANY,
              "off|REALM FILE [cache=TIME] [pass]", "Clients show a name and a password"),
    SL_PARSED("AuthJWT", struct auth_conf, jwt, jwt_line, SL_IN_ANY,
              "off|FILE [iss=] [aud=] [leeway=] [exp=] [cookie=] [user=] [realm=] [pass]",
              "Clients show a signed token"),
    SL_PARSED("AuthForward", struct auth_conf, forward, forward_line, SL_IN_ANY,
              "off|TARGET [send=] [copy=] [answer=] [user=] [timeout=]",
              "Another server is asked who may pass"),
    SL_LINES("AuthRequire", struct auth_conf, require, require_line, SL_IN_ANY, "CONDITION",
             "What must hold of who asked"),
    SL_DIRECTIVES_END,
};

static const struct sl_hook hooks[] = {
    SL_ON_CHECK_CONFIG(auth_check),
    SL_ON_POST_CONFIG(auth_begin),
    SL_ON_THREAD_INIT(auth_thread),
    SL_ON_WORKER_EXIT(auth_exit),
    SL_ON_ACCESS(basic_ask, SL_LATE, SL_DRY_OK),
    SL_ON_ACCESS(basic_answered, SL_LATE, SL_DRY_OK),
    SL_ON_ACCESS(jwt_access, SL_LATE, SL_DRY_OK),
    SL_ON_ACCESS(forward_ask, SL_LATE, SL_DRY_OK),
    SL_ON_ACCESS(forward_answered, SL_LATE, SL_DRY_OK),
    SL_ON_ACCESS(auth_decide, SL_LATE, SL_DRY_OK),
    SL_ON_FIXUP(basic_clean, SL_EARLY, SL_DRY_OK),
    SL_ON_FIXUP(jwt_clean, SL_EARLY, SL_DRY_OK),
    SL_ON_RESPONSE(auth_response, SL_EARLY, SL_DRY_OK),
    SL_HOOKS_END,
};

static const struct sl_variable variables[] = {
    {"user", 0, SL_PHASE_ROUTED, SL_TYPE_STRING, 20, NULL, "who asked, once mod_auth knows"},
    {"jwt", 1, SL_PHASE_ROUTED, SL_TYPE_STRING, 200, jwt_variable, "a claim of the client's token"},
    SL_VARIABLES_END,
};

SL_MODULE(auth) = {
    .name = "auth",
    .conf_size = sizeof(struct auth_conf),
    .directives = directives,
    .hooks = hooks,
    .variables = variables,
};
