/* One line is one edit: an action, a name, a value compiled when the configuration is read.
 * A request hook edits what the server will see, a response hook what the client will see.
 *
 * Framing and hop-by-hop fields belong to the core and are refused here, and a value that
 * would split a message is left out: sl_fields_set() refuses its bytes. */

/*man
NAME
    mod_headers - changes header fields of requests and responses
DESCRIPTION
    Sets, adds, removes and edits fields on their way in and out. Lines of enclosing scopes
    add up: a field set for the whole server still holds in a location that sets another.
    Values may hold %{variables}, which sluice-core(8) lists; %h and $host are text.

    Actions: set (replaces every line of the name), add (one more line), append (to the
    last line, behind a comma), merge (append unless it is a member already), setifempty,
    unset, edit PATTERN REPLACEMENT (the first match of each line; $1 and $<name> are captured
    groups, $0 the match, $$ a dollar sign) and edit* (all matches). A dollar sign in the value
    of a variable is just that. A request or response whose field needs too many steps of a
    pattern fails.

    A line that ends with if=CONDITION acts where the condition holds (mod_route has the
    language). What its =~ captured, else what the nearest If or LocationMatch with groups did,
    is $1 to $9 and $<name> in the value of set, add, append, merge and setifempty, and $$ a
    dollar sign there.
DIRECTIVES
  Header
    Changes the response. Without the word always it acts on responses below 400, with it
    on all, those the proxy makes itself included.
  RequestHeader
    Changes the request before it goes to the server.
  SecurityHeaders
    basic sets X-Content-Type-Options, X-Frame-Options (SAMEORIGIN) and Referrer-Policy;
    strict, for sites that load nothing from elsewhere, has a stricter Referrer-Policy,
    DENY, Permissions-Policy, Cross-Origin-Opener-Policy, Cross-Origin-Resource-Policy and a
    Content-Security-Policy beside. A field the server has set stays. Both take away what tells
    of the server: Server, X-Powered-By, X-AspNet-Version, X-AspNetMvc-Version, X-Generator and
    X-Runtime. On all responses; Header lines act after it. HTTPS has a line of its own, HSTS
    of mod_tls.
  CORS
    CORS off, or CORS ORIGIN ... [methods=LIST] [headers=LIST] [expose=LIST] [max_age=TIME]
    [credentials]: pages of these origins may read the answers. An origin is
    https://app.example.com, with *. before the host any name below it, or * for everybody.
    Preflights are answered before access control sees them, for they carry no password; one
    of another origin gets 403. methods= defaults to GET,HEAD,POST, headers= (fields of
    requests; * is any) to Content-Type, max_age= to 10m; expose= names the fields of responses
    a page may read. credentials lets cookies be sent, and needs origins by name. What a server
    says of it itself is replaced. The inner line holds, outer ones do not add up.
  CookieFlags
    CookieFlags [secure] [httponly] [samesite=lax|strict|none] [only=NAMES] [except=NAMES]:
    attributes that passing cookies lack; what a cookie has itself stays.
EXAMPLE
    LoadModule route
    LoadModule headers
    Listen 80
    SecurityHeaders basic
    CookieFlags secure httponly samesite=lax except=theme
    CORS https://app.example.com methods=GET,PUT headers=Content-Type,X-Token credentials
    Header set X-Frame-Options DENY
    Header edit Location "^http:" "https:"
    Header set Cache-Control no-store if="%{status} >= 400 || %{path} starts_with /private/"
    RequestHeader set X-Client %{remote_addr}
    RequestHeader unset X-Debug
    ProxyPass http://127.0.0.1:3000
*/

#include "headers.h"

#include <apr_strings.h>

#include <strings.h>

#define EDITED_MAX 65536 /* bytes of one edited value */

enum action { SET, ADD, APPEND, MERGE, SETIFEMPTY, UNSET, EDIT, EDIT_ALL };
static const char *const action_words[] = {"set",        "add",   "append", "merge",
                                           "setifempty", "unset", "edit",   "edit*", NULL};

struct edit {
    enum action action;
    int always;
    const char *name;
    struct sl_expr *value;     /* NULL: unset, edits */
    struct sl_pattern *pattern; /* edits */
    struct sl_template *with;   /* edits */
    const char *place;
    struct sl_cond *condition; /* if=; NULL: none */
};

/* ---- the configuration ---- */

/* What says where a message ends, or who speaks next, is the core's. */
static const char *
name_check(struct sl_cmd *cmd, const char *name)
{
    if (sl_field_is_framing(sl_field_id(sl_span(name))))
        return sl_cmd_error(cmd, "expected a field that is not part of the framing, found \"%s\"",
                            name);
    return NULL;
}

static const char *
options_take(struct sl_cmd *cmd, struct edit *e, int is_request)
{
    enum sl_phase phase = is_request ? SL_PHASE_ROUTED : SL_PHASE_RESPONSE;
    const char *err;
    int i = e->action == UNSET ? 2 : e->action < EDIT ? 3 : 4;

    for (; i < sl_cmd_argc(cmd); i++) {
        const char *word = sl_cmd_arg(cmd, i);

        if (strcmp(word, "always") == 0 && !is_request)
            e->always = 1;
        else if (strncmp(word, "if=", 3) != 0 || e->condition != NULL)
            return is_request ? "expected nothing or one if=CONDITION behind the value"
                              : "expected nothing, always or one if=CONDITION behind the value";
        else if ((err = sl_cmd_cond(cmd, word + 3, phase, &e->condition)) != NULL)
            return sl_cmd_error(cmd, "if: %s", err);
    }
    return NULL;
}

static const char *
edit_parse(struct sl_cmd *cmd, void **item, int is_request)
{
    struct edit *e = apr_pcalloc(sl_cmd_pool(cmd), sizeof *e);
    const char *word = sl_cmd_arg(cmd, 0), *value, *err = NULL;
    enum sl_phase phase = is_request ? SL_PHASE_ROUTED : SL_PHASE_RESPONSE;
    int i, next = 2;

    for (i = 0; word != NULL && action_words[i] != NULL; i++)
        if (strcasecmp(word, action_words[i]) == 0)
            break;
    if (word == NULL || action_words[i] == NULL)
        return "expected set, add, append, merge, setifempty, unset, edit or edit*";
    e->action = (enum action)i;
    e->place = sl_cmd_place(cmd);
    e->name = sl_cmd_arg(cmd, 1);
    if (e->name == NULL)
        return "expected the name of a field";
    if (sl_parse_slot(sl_cmd_pool(cmd), SL_SLOT_TOKEN, e->name, &e->name) != NULL)
        return "expected the name of a field";
    if ((err = name_check(cmd, e->name)) != NULL)
        return err;
    if ((err = options_take(cmd, e, is_request)) != NULL)
        return err;
    if (e->action == EDIT || e->action == EDIT_ALL) {
        if (sl_cmd_arg(cmd, 2) == NULL)
            return "expected a pattern and a replacement";
        if ((err = sl_cmd_pattern(cmd, sl_cmd_arg(cmd, next++), &e->pattern)) != NULL)
            return err;
        value = sl_cmd_arg(cmd, next++);
        if (value == NULL)
            return "expected a replacement behind the pattern";
        if ((err = sl_cmd_template(cmd, value, e->pattern, phase, NULL, &e->with)) != NULL)
            return err;
    } else if (e->action != UNSET) {
        value = sl_cmd_arg(cmd, next++);
        if (value == NULL || strncmp(value, "if=", 3) == 0)
            return "expected a value";
        e->value = sl_cmd_expr(cmd, value, phase, e->condition, &err);
        if (e->value == NULL)
            return err;
    }
    *item = e;
    return NULL;
}

static const char *
header_parse(struct sl_cmd *cmd, void **item)
{
    return edit_parse(cmd, item, 0);
}

static const char *
request_header_parse(struct sl_cmd *cmd, void **item)
{
    return edit_parse(cmd, item, 1);
}

/* ---- the edits ---- */

/* The worse, the greater. */
enum outcome {
    APPLIED,
    NOT_A_VALUE, /* it holds bytes no field may have, or too many */
    GAVE_UP,     /* a pattern needs too many steps */
};

static enum outcome
outcome_of(int rc)
{
    return rc == 0 ? APPLIED : NOT_A_VALUE;
}

/* A value that grows in a pool. */
struct growing {
    apr_pool_t *pool;
    char *at;
    size_t n, room;
    int is_over; /* more than EDITED_MAX: what is there is not all */
};

static void
grow(struct growing *g, struct sl_span s)
{
    if (g->n + s.n > EDITED_MAX)
        g->is_over = 1;
    if (g->is_over || s.n == 0)
        return;
    if (g->n + s.n > g->room) {
        char *before = g->at;

        g->room = 2 * (g->n + s.n);
        g->at = apr_palloc(g->pool, g->room);
        if (g->n > 0)
            memcpy(g->at, before, g->n);
    }
    memcpy(g->at + g->n, s.at, s.n);
    g->n += s.n;
}

/* *value with matches replaced; as it was when nothing matches. */
static enum outcome
replace(struct sl_req *r, const struct edit *e, struct sl_span *value)
{
    struct growing out = {.pool = sl_req_pool(r)};
    struct sl_captures captures;
    size_t from = 0;
    int found, is_changed = 0;

    if (value->at == NULL)
        *value = SL_SPAN("");
    while ((found = sl_pattern_match(e->pattern, *value, from, &captures)) > 0) {
        struct sl_span match = captures.group[0];
        size_t start = (size_t)(match.at - value->at);

        grow(&out, (struct sl_span){value->at + from, start - from});
        grow(&out, sl_template_fill(e->with, &captures, r));
        if (out.is_over)
            return NOT_A_VALUE;
        is_changed = 1;
        from = start + match.n;
        if (e->action == EDIT)
            break;
        if (match.n == 0 && from == value->n)
            break;
        if (match.n == 0) { /* one byte on */
            grow(&out, (struct sl_span){value->at + from, 1});
            from++;
        }
    }
    if (found < 0)
        return GAVE_UP;
    if (!is_changed)
        return APPLIED;
    grow(&out, (struct sl_span){value->at + from, value->n - from});
    *value = (struct sl_span){out.at != NULL ? out.at : "", out.n};
    return out.is_over ? NOT_A_VALUE : APPLIED;
}

static enum outcome
edit_lines(struct sl_req *r, const struct edit *e, struct sl_fields *f)
{
    struct sl_span name = sl_span(e->name), value;
    enum outcome all = APPLIED, one;
    const struct sl_field *x;
    unsigned i;

    for (i = 0; (x = sl_fields_at(f, i)) != NULL && all != GAVE_UP; i++) {
        if (!sl_span_eqi(x->name, name))
            continue;
        value = x->value;
        one = replace(r, e, &value);
        if (one == APPLIED && value.at != x->value.at && sl_fields_put(f, i, value) != 0)
            one = NOT_A_VALUE;
        if (one == NOT_A_VALUE) /* what was to be edited away shall not stay for that */
            sl_fields_put(f, i, SL_SPAN(""));
        all = one > all ? one : all;
    }
    return all;
}

/* Whether a comma-separated list has this member. */
static int
is_member(struct sl_span list, struct sl_span member)
{
    struct sl_span one;

    while (sl_list_next(&list, &one))
        if (sl_span_eqi(one, member))
            return 1;
    return 0;
}

static int
append(struct sl_req *r, const struct edit *e, struct sl_fields *f, struct sl_span value)
{
    struct sl_span name = sl_span(e->name);
    const struct sl_field *x;
    unsigned i, last = 0;
    int found = 0;

    for (i = 0; (x = sl_fields_at(f, i)) != NULL; i++) {
        if (!sl_span_eqi(x->name, name))
            continue;
        found = 1;
        last = i;
        if (e->action == MERGE && is_member(x->value, value))
            return 0;
    }
    if (!found)
        return sl_fields_add(f, e->name, value);
    x = sl_fields_at(f, last);
    if (value.n == 0)
        return 0;
    value = sl_spans_join(sl_req_pool(r), (struct sl_span[]){x->value, SL_SPAN(", "), value}, 3);
    return sl_fields_put(f, last, value);
}

/* Nothing rather than what the other side said: the line is there to replace it. */
static int
set(const struct edit *e, struct sl_fields *f, struct sl_span value)
{
    int rc = sl_fields_set(f, e->name, value);

    if (rc != 0)
        sl_fields_unset(f, e->name);
    return rc;
}

static enum outcome
apply(struct sl_req *r, const struct edit *e, struct sl_fields *f)
{
    struct sl_span value = {NULL, 0};

    if (e->value != NULL)
        value = sl_expr_text(e->value, r);
    switch (e->action) {
    case SET:
        return outcome_of(set(e, f, value));
    case ADD:
        return outcome_of(sl_fields_add(f, e->name, value));
    case APPEND:
    case MERGE:
        return outcome_of(append(r, e, f, value));
    case SETIFEMPTY:
        return sl_fields_get(f, e->name).n > 0 ? APPLIED
                                               : outcome_of(sl_fields_set(f, e->name, value));
    case UNSET:
        sl_fields_unset(f, e->name);
        return APPLIED;
    case EDIT:
    case EDIT_ALL:
        return edit_lines(r, e, f);
    }
    return APPLIED;
}

/* Fields may be what a server trusts: a line whose condition or pattern cannot be decided
 * fails the request. */
static enum sl_verdict
apply_all(struct sl_req *r, const apr_array_header_t *edits, struct sl_fields *f, int is_error)
{
    enum outcome outcome;
    int i, holds;

    for (i = 0; edits != NULL && i < edits->nelts; i++) {
        const struct edit *e = APR_ARRAY_IDX(edits, i, struct edit *);

        if (is_error && !e->always)
            continue;
        holds = e->condition != NULL ? sl_cond_holds(e->condition, r) : 1;
        if (holds < 0)
            return sl_req_fail(r, 0, &sl_cause_condition_limit, "%s", e->place);
        if (!holds)
            continue;
        outcome = apply(r, e, f);
        if (outcome == GAVE_UP)
            return sl_req_fail(r, 0, &sl_cause_pattern_limit, "%s", e->place);
        if (outcome == NOT_A_VALUE)
            sl_req_log(r, SL_WARN, "HEADERS0001",
                       "%s: the value for %s holds bytes no field may have, or too many; %s",
                       e->place, e->name, e->action == SET                                ? "left out"
                       : e->action == EDIT || e->action == EDIT_ALL ? "emptied"
                                                                    : "left as it was");
        else
            sl_note(r, "%s: %s %s", e->place, action_words[e->action], e->name);
    }
    return SL_NEXT;
}

static enum sl_verdict
headers_request(struct sl_req *r, const void *confp)
{
    const struct headers_conf *conf = confp;

    return apply_all(r, conf->request, sl_req_head(r), 0);
}

static enum sl_verdict
headers_preflight(struct sl_req *r, const void *confp)
{
    const struct headers_conf *conf = confp;

    return conf->cors != NULL ? cors_preflight(r, conf->cors) : SL_NEXT;
}

static enum sl_verdict
headers_response(struct sl_req *r, const void *confp)
{
    const struct headers_conf *conf = confp;

    if (conf->security != SECURITY_OFF)
        security_apply(r, (enum security)conf->security);
    if (conf->cors != NULL)
        cors_response(r, conf->cors);
    if (conf->cookies != NULL)
        cookie_flags_apply(r, conf->cookies);
    return apply_all(r, conf->response, sl_req_response(r), sl_req_status(r) >= 400);
}

static const struct sl_directive directives[] = {
    SL_LINES("Header", struct headers_conf, response, header_parse, SL_IN_ANY,
             "ACTION NAME [VALUE] [always] [if=CONDITION]", "Changes a field of the response"),
    SL_LINES("RequestHeader", struct headers_conf, request, request_header_parse, SL_IN_ANY,
             "ACTION NAME [VALUE] [if=CONDITION]", "Changes a field of the request"),
    SL_ENUM("SecurityHeaders", struct headers_conf, security, "off", SL_IN_ANY, security_words,
            "off|basic|strict", "Fields against common attacks, and none that tell of the server"),
    SL_PARSED("CORS", struct headers_conf, cors, cors_parse, SL_IN_ANY,
              "off|ORIGIN ... [OPTION ...]",
              "Which pages of other origins may read the answers; by default none"),
    SL_LINES("CookieFlags", struct headers_conf, cookies, cookie_flags_parse, SL_IN_ANY,
             "[secure] [httponly] [samesite=lax|strict|none] [only=NAMES] [except=NAMES]",
             "Adds attributes to passing cookies"),
    SL_DIRECTIVES_END,
};
static const struct sl_hook hooks[] = {
    SL_ON_ACCESS(headers_preflight, SL_EARLY, SL_DRY_OK),
    SL_ON_FIXUP(headers_request, SL_MIDDLE, SL_DRY_OK),
    SL_ON_RESPONSE(headers_response, SL_MIDDLE, SL_DRY_OK),
    SL_HOOKS_END,
};
SL_MODULE(headers) = {
    .name = "headers",
    .conf_size = sizeof(struct headers_conf),
    .directives = directives,
    .hooks = hooks,
};
