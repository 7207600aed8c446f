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
    Values may hold %{variables}.

    Actions: set (replaces every line of the name), add (one more line), append (to the
    last line, behind a comma), merge (append unless it is a member already), setifempty,
    unset, edit PATTERN REPLACEMENT (the first match of each line; $1 is a captured group)
    and edit* (all matches).
DIRECTIVES
  Header
    Changes the response. Without the word always it acts on responses below 400, with it
    on all, those the proxy makes itself included.
  RequestHeader
    Changes the request before it goes to the server.
EXAMPLE
    Header set X-Frame-Options "SAMEORIGIN"
    Header edit Set-Cookie "$" "; Secure"
    RequestHeader set X-Client %{remote_addr}
    RequestHeader unset X-Debug
*/

#include "sluice/module.h"

#include <apr_strings.h>

#include <strings.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define MATCH_LIMIT 100000

enum action { SET, ADD, APPEND, MERGE, SETIFEMPTY, UNSET, EDIT, EDIT_ALL };
static const char *const action_words[] = {"set",        "add",   "append", "merge",
                                           "setifempty", "unset", "edit",   "edit*", NULL};

struct edit {
    enum action action;
    int always;
    const char *name;
    struct sl_expr *value; /* NULL: unset */
    pcre2_code *pattern;   /* edits */
    const char *place;
};

struct headers_conf {
    apr_array_header_t *request, *response; /* of struct edit * */
};

/* ---- the configuration ---- */

/* What says where a message ends, or who speaks next, is the core's. */
static const char *
name_check(struct sl_cmd *cmd, const char *name)
{
    static const enum sl_field_id ours[] = {SL_F_CONTENT_LENGTH, SL_F_TRANSFER_ENCODING,
                                            SL_F_CONNECTION,     SL_F_KEEP_ALIVE,
                                            SL_F_TE,             SL_F_UPGRADE,
                                            SL_F_TRAILER};
    enum sl_field_id id = sl_field_id(sl_span(name));
    size_t i;

    for (i = 0; i < sizeof ours / sizeof ours[0]; i++)
        if (id == ours[i])
            return sl_cmd_error(cmd, "expected a field that is not part of the framing, found "
                                "\"%s\"", name);
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
options_take(struct sl_cmd *cmd, int i, struct edit *e, int is_request)
{
    for (; i < sl_cmd_argc(cmd); i++) {
        const char *word = sl_cmd_arg(cmd, i);

        if (strcmp(word, "always") == 0 && !is_request)
            e->always = 1;
        else if (strncmp(word, "if=", 3) == 0)
            return "conditions are not in this version";
        else
            return is_request ? "expected nothing behind the value"
                              : "expected always or nothing behind the value";
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
    if (e->action == EDIT || e->action == EDIT_ALL) {
        if (sl_cmd_arg(cmd, 2) == NULL)
            return "expected a pattern and a replacement";
        if ((err = pattern_make(cmd, sl_cmd_arg(cmd, next++), &e->pattern)) != NULL)
            return err;
    }
    if (e->action != UNSET) {
        value = sl_cmd_arg(cmd, next++);
        if (value == NULL)
            return "expected a value";
        e->value = sl_expr_compile(sl_cmd_pool(cmd), value, phase, &err);
        if (e->value == NULL)
            return err;
    }
    *item = e;
    return options_take(cmd, next, e, is_request);
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

/* $0 to $9 of the last match. */
static char *
put_replacement(char *to, struct sl_span with, const char *subject, int n_groups)
{
    const size_t *at = pcre2_get_ovector_pointer(match);
    size_t i;

    for (i = 0; i < with.n; i++) {
        int group = with.at[i] == '$' && i + 1 < with.n ? with.at[i + 1] - '0' : -1;

        if (group < 0 || group > 9) {
            *to++ = with.at[i];
            continue;
        }
        i++;
        if (group < n_groups && at[2 * group] != PCRE2_UNSET) {
            size_t n = at[2 * group + 1] - at[2 * group];

            memcpy(to, subject + at[2 * group], n);
            to += n;
        }
    }
    return to;
}

/* The value with matches replaced; as it was when nothing matches. */
static struct sl_span
edited(apr_pool_t *pool, const struct edit *e, struct sl_span value, struct sl_span with)
{
    size_t from = 0, room = 0, *at;
    char *out = NULL, *to = NULL;
    int n;

    if (match == NULL) {
        match = pcre2_match_data_create(10, NULL);
        limits = pcre2_match_context_create(NULL);
        if (limits != NULL)
            pcre2_set_match_limit(limits, MATCH_LIMIT);
    }
    while (match != NULL && from <= value.n &&
           (n = pcre2_match(e->pattern, (PCRE2_SPTR)value.at, value.n, from, 0, match,
                            limits)) > 0) {
        at = pcre2_get_ovector_pointer(match);
        if (out == NULL) {
            room = (value.n + 1) * 2 + (value.n + 1) * (with.n + 9 * value.n);
            room = room > 65536 ? 65536 : room;
            to = out = apr_palloc(pool, room);
        }
        if ((size_t)(to - out) + (at[0] - from) + with.n + 10 * value.n + value.n > room)
            return value; /* grown beyond all measure: left as it was */
        memcpy(to, value.at + from, at[0] - from);
        to = put_replacement(to + (at[0] - from), with, value.at, n);
        from = at[1];
        if (e->action == EDIT)
            break;
        if (at[1] == at[0]) { /* an empty match: one byte on */
            if (from < value.n)
                *to++ = value.at[from];
            from++;
        }
    }
    if (out == NULL)
        return value;
    if (from < value.n) {
        memcpy(to, value.at + from, value.n - from);
        to += value.n - from;
    }
    return (struct sl_span){out, (size_t)(to - out)};
}

static int
edit_lines(struct sl_req *r, const struct edit *e, struct sl_fields *f, struct sl_span with)
{
    struct sl_span name = sl_span(e->name);
    const struct sl_field *x;
    unsigned i;
    int rc = 0;

    for (i = 0; (x = sl_fields_at(f, i)) != NULL; i++)
        if (sl_span_eqi(x->name, name))
            rc |= sl_fields_put(f, i, edited(sl_req_pool(r), e, x->value, with));
    return rc;
}

/* Whether a comma-separated list has this member. */
static int
is_member(struct sl_span list, struct sl_span member)
{
    const char *p = list.at, *end = list.at + list.n, *comma, *stop;

    for (; p < end; p = comma + 1) {
        comma = memchr(p, ',', (size_t)(end - p));
        comma = comma != NULL ? comma : end;
        while (p < comma && *p == ' ')
            p++;
        for (stop = comma; stop > p && stop[-1] == ' '; stop--)
            ;
        if (sl_span_eqi((struct sl_span){p, (size_t)(stop - p)}, member))
            return 1;
    }
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
    return sl_fields_put(f, last,
                         sl_span(apr_psprintf(sl_req_pool(r), "%.*s, %.*s", (int)x->value.n,
                                              x->value.at, (int)value.n, value.at)));
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
        return edit_lines(r, e, f, value);
    }
    return 0;
}

static void
apply_all(struct sl_req *r, const apr_array_header_t *edits, struct sl_fields *f, int is_error)
{
    int i;

    for (i = 0; edits != NULL && i < edits->nelts; i++) {
        const struct edit *e = APR_ARRAY_IDX(edits, i, struct edit *);

        if (is_error && !e->always)
            continue;
        if (apply(r, e, f) != 0)
            sl_req_log(r, SL_WARN, "HEADERS0001",
                       "%s: the value for %s holds bytes no field may have; left as it was",
                       e->place, e->name);
        else
            sl_note(r, "%s: %s %s", e->place, action_words[e->action], e->name);
    }
}

static enum sl_verdict
headers_request(struct sl_req *r, const void *confp)
{
    const struct headers_conf *conf = confp;

    apply_all(r, conf->request, sl_req_head(r), 0);
    return SL_NEXT;
}

static enum sl_verdict
headers_response(struct sl_req *r, const void *confp)
{
    const struct headers_conf *conf = confp;

    apply_all(r, conf->response, sl_req_response(r), sl_req_status(r) >= 400);
    return SL_NEXT;
}

static const struct sl_directive directives[] = {
    SL_LINES("Header", struct headers_conf, response, header_parse, SL_IN_ANY,
             "ACTION NAME [VALUE] [always]", "Changes a field of the response"),
    SL_LINES("RequestHeader", struct headers_conf, request, request_header_parse, SL_IN_ANY,
             "ACTION NAME [VALUE]", "Changes a field of the request"),
    SL_DIRECTIVES_END,
};
static const struct sl_hook hooks[] = {
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
