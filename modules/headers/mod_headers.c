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
    unset, edit PATTERN REPLACEMENT (the first match of each line; $1 is a captured group, $0
    the match, $$ a dollar sign) and edit* (all matches). A dollar sign in the value of a
    variable is just that.

    A line that ends with if=CONDITION acts where the condition holds (mod_route has the
    language). What its =~ captured is $1 to $9 in the value of set, add, append, merge and
    setifempty, and $$ a dollar sign there.
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
    Content-Security-Policy beside. A field the server has set stays. Both take away what tells of the
    server: Server, X-Powered-By, X-AspNet-Version, X-AspNetMvc-Version, X-Generator and
    X-Runtime. On all responses; Header lines act after it. HTTPS has a line of its own, HSTS
    of mod_tls.
  CORS
    CORS off, or CORS ORIGIN ... [methods=LIST] [headers=LIST] [expose=LIST] [max_age=TIME]
    [credentials]: pages of these origins may read the answers. An origin is
    https://app.example.com, with *. before the host any name below it, or * for everybody.
    Preflights are answered before access control sees them, for they carry no password; one
    of another origin gets 403. methods= defaults to GET,HEAD,POST, headers= (fields of
    requests; * is any) to Content-Type, max_age= to 10m; expose= names the fields of responses a page may
    read. credentials lets cookies be sent, and needs origins by name. What a server says of
    it itself is replaced. The inner line holds, outer ones do not add up.
  CookieFlags
    CookieFlags [secure] [httponly] [samesite=lax|strict|none] [only=NAMES] [except=NAMES]:
    attributes that passing cookies lack; what a cookie has itself stays.
EXAMPLE
    SecurityHeaders basic
    CookieFlags secure httponly samesite=lax except=theme
    CORS https://app.example.com methods=GET,PUT headers=Content-Type,X-Token credentials
    Header set X-Frame-Options "SAMEORIGIN"
    Header edit Set-Cookie "$" "; Secure"
    Header set Cache-Control no-store if="%{status} >= 400 || %{path} starts_with /private/"
    RequestHeader set X-Client %{remote_addr}
    RequestHeader unset X-Debug
*/

#include "headers.h"

#include <apr_strings.h>

#include <strings.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define MATCH_LIMIT 100000
#define GROUPS_MAX 10
#define EDITED_MAX 65536 /* bytes of one edited value */

enum action { SET, ADD, APPEND, MERGE, SETIFEMPTY, UNSET, EDIT, EDIT_ALL };
static const char *const action_words[] = {"set",        "add",   "append", "merge",
                                           "setifempty", "unset", "edit",   "edit*", NULL};

/* Of the replacement of an edit. */
struct part {
    struct sl_expr *text; /* NULL: the group */
    int group;
};

struct edit {
    enum action action;
    int always;
    const char *name;
    struct sl_expr *value;     /* NULL: unset, edits */
    pcre2_code *pattern;       /* edits */
    apr_array_header_t *parts; /* edits: of struct part */
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

static apr_status_t
pattern_free(void *pattern)
{
    pcre2_code_free(pattern);
    return APR_SUCCESS;
}

static const char *
pattern_make(struct sl_cmd *cmd, const char *text, pcre2_code **pattern)
{
    int code;
    size_t at;
    unsigned char why[128];

    *pattern = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, 0, &code, &at, NULL);
    if (*pattern == NULL) {
        pcre2_get_error_message(code, why, sizeof why);
        return sl_cmd_error(cmd, "expected a pattern, found \"%s\": %s at byte %d", text,
                            (const char *)why, (int)at);
    }
    apr_pool_cleanup_register(sl_cmd_pool(cmd), *pattern, pattern_free, apr_pool_cleanup_null);
    pcre2_jit_compile(*pattern, PCRE2_JIT_COMPLETE);
    return NULL;
}

static const char *
part_add(struct sl_cmd *cmd, struct edit *e, const char *text, size_t n, enum sl_phase phase)
{
    const char *err = NULL;
    struct part part = {NULL, 0};

    if (n == 0)
        return NULL;
    part.text = sl_expr_compile(sl_cmd_pool(cmd), apr_pstrmemdup(sl_cmd_pool(cmd), text, n), phase,
                                &err);
    APR_ARRAY_PUSH(e->parts, struct part) = part;
    return part.text != NULL ? NULL : err;
}

/* The next '$' that is not part of a %{variable}; the end when there is none. */
static const char *
dollar_next(const char *at)
{
    const char *close;

    for (; *at != '\0' && *at != '$'; at++)
        if (at[0] == '%' && at[1] == '{' && (close = strchr(at, '}')) != NULL)
            at = close;
    return at;
}

/* Groups stand in the configuration alone: a value of a variable is never read as one. */
static const char *
replacement_make(struct sl_cmd *cmd, struct edit *e, const char *text, enum sl_phase phase)
{
    const char *at = text, *dollar, *err;
    uint32_t n_groups = 0;
    int group;

    pcre2_pattern_info(e->pattern, PCRE2_INFO_CAPTURECOUNT, &n_groups);
    e->parts = apr_array_make(sl_cmd_pool(cmd), 4, sizeof(struct part));
    for (; *(dollar = dollar_next(at)) == '$'; at = dollar + 2) {
        group = dollar[1] - '0';
        if (dollar[1] == '$' || group < 0 || group > 9) { /* "$$", or just a dollar sign */
            if ((err = part_add(cmd, e, at, (size_t)(dollar + 1 - at), phase)) != NULL)
                return err;
            dollar -= dollar[1] != '$';
            continue;
        }
        if ((uint32_t)group > n_groups)
            return sl_cmd_error(cmd, "\"%s\" uses $%d, but the pattern has %u group%s", text, group,
                                (unsigned)n_groups, n_groups == 1 ? "" : "s");
        if ((err = part_add(cmd, e, at, (size_t)(dollar - at), phase)) != NULL)
            return err;
        APR_ARRAY_PUSH(e->parts, struct part) = (struct part){NULL, group};
    }
    return part_add(cmd, e, at, strlen(at), phase);
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
        if ((err = pattern_make(cmd, sl_cmd_arg(cmd, next++), &e->pattern)) != NULL)
            return err;
        value = sl_cmd_arg(cmd, next++);
        if (value == NULL)
            return "expected a replacement behind the pattern";
        if ((err = replacement_make(cmd, e, value, phase)) != NULL)
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

static _Thread_local pcre2_match_data *match;
static _Thread_local pcre2_match_context *limits;

static void __attribute__((destructor))
match_free(void)
{
    pcre2_match_data_free(match);
    pcre2_match_context_free(limits);
    match = NULL;
    limits = NULL;
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

/* $0 to $9 of the last match. */
static struct sl_span
matched(const char *subject, int group, int n_groups)
{
    const size_t *at = pcre2_get_ovector_pointer(match);

    if (group >= n_groups || at[2 * group] == PCRE2_UNSET || at[2 * group] > at[2 * group + 1])
        return SL_SPAN("");
    return (struct sl_span){subject + at[2 * group], at[2 * group + 1] - at[2 * group]};
}

static int
match_at(const struct edit *e, struct sl_span value, size_t from)
{
    int n;

    if (match == NULL) {
        match = pcre2_match_data_create(GROUPS_MAX, NULL);
        limits = pcre2_match_context_create(NULL);
        if (limits != NULL)
            pcre2_set_match_limit(limits, MATCH_LIMIT);
    }
    if (match == NULL || from > value.n)
        return -1;
    n = pcre2_match(e->pattern, (PCRE2_SPTR)value.at, value.n, from, 0, match, limits);
    return n == 0 ? GROUPS_MAX : n; /* 0: more groups than are asked for */
}

/* The value with matches replaced by `with`, the texts of e->parts; as it was when nothing
 * matches.  at NULL: it grew beyond all measure. */
static struct sl_span
edited(apr_pool_t *pool, const struct edit *e, struct sl_span value, const struct sl_span *with)
{
    struct growing out = {.pool = pool};
    size_t from = 0;
    int n, i, is_empty;

    if ((n = match_at(e, value, 0)) < 0)
        return value;
    for (; n > 0; n = match_at(e, value, from)) {
        const size_t *at = pcre2_get_ovector_pointer(match);

        grow(&out, (struct sl_span){value.at + from, at[0] - from});
        for (i = 0; i < e->parts->nelts; i++) {
            const struct part *part = &APR_ARRAY_IDX(e->parts, i, struct part);

            grow(&out, part->text != NULL ? with[i] : matched(value.at, part->group, n));
        }
        is_empty = at[1] == at[0];
        from = at[1];
        if (e->action == EDIT)
            break;
        if (is_empty) { /* one byte on */
            if (from < value.n)
                grow(&out, (struct sl_span){value.at + from, 1});
            from++;
        }
    }
    if (from < value.n)
        grow(&out, (struct sl_span){value.at + from, value.n - from});
    return out.is_over ? (struct sl_span){NULL, 0} : (struct sl_span){out.at != NULL ? out.at : "", out.n};
}

static int
edit_lines(struct sl_req *r, const struct edit *e, struct sl_fields *f)
{
    struct sl_span name = sl_span(e->name), value;
    struct sl_span *with = apr_palloc(sl_req_pool(r), (size_t)(e->parts->nelts + 1) * sizeof *with);
    const struct sl_field *x;
    unsigned i;
    int rc = 0, k;

    for (k = 0; k < e->parts->nelts; k++) {
        const struct part *part = &APR_ARRAY_IDX(e->parts, k, struct part);

        with[k] = part->text != NULL ? sl_expr_text(part->text, r) : SL_SPAN("");
    }
    for (i = 0; (x = sl_fields_at(f, i)) != NULL; i++) {
        if (!sl_span_eqi(x->name, name))
            continue;
        value = edited(sl_req_pool(r), e, x->value, with);
        rc |= value.at != NULL ? sl_fields_put(f, i, value) : -1;
    }
    return rc;
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
    return sl_fields_put(f, last,
                         sl_spans_join(sl_req_pool(r), (struct sl_span[]){x->value, SL_SPAN(", "), value},
                                       3));
}

static int
apply(struct sl_req *r, const struct edit *e, struct sl_fields *f)
{
    struct sl_span value = {NULL, 0};

    if (e->value != NULL)
        value = sl_expr_text(e->value, r);
    switch (e->action) {
    case SET:
        return sl_fields_set(f, e->name, value);
    case ADD:
        return sl_fields_add(f, e->name, value);
    case APPEND:
    case MERGE:
        return append(r, e, f, value);
    case SETIFEMPTY:
        return sl_fields_get(f, e->name).n > 0 ? 0 : sl_fields_set(f, e->name, value);
    case UNSET:
        sl_fields_unset(f, e->name);
        return 0;
    case EDIT:
    case EDIT_ALL:
        return edit_lines(r, e, f);
    }
    return 0;
}

/* Fields may be what a server trusts: a line whose condition cannot be decided fails the
 * request. */
static enum sl_verdict
apply_all(struct sl_req *r, const apr_array_header_t *edits, struct sl_fields *f, int is_error)
{
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
        if (apply(r, e, f) != 0)
            sl_req_log(r, SL_WARN, "HEADERS0001",
                       "%s: the value for %s holds bytes no field may have, or too many; left as it "
                       "was",
                       e->place, e->name);
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
    SL_PARSED("CORS", struct headers_conf, cors, cors_parse, SL_IN_ANY, "off|ORIGIN ... [OPTION ...]",
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
