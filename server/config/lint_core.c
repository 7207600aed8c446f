/* What the core finds: in its own directives, in conditions, in patterns, and in lines of
 * any module that are said twice. */
#include "config/lint.h"
#include "config/load.h"
#include "runtime/address.h"

#include <apr_lib.h>
#include <apr_strings.h>

static const struct sl_lint_rule trusts_everyone = {
    "trusts-everyone",
    "any client can say which address it has, and so pass access rules, limits and logs",
    "name the proxies in front of this server: TrustedProxies 10.0.0.7"};
static const struct sl_lint_rule no_time_limit = {
    "no-time-limit",
    "a client that is slow on purpose holds its connection as long as it likes",
    "give it a time, minutes if need be"};
static const struct sl_lint_rule log_lost = {
    "log-lost",
    "a daemon has no terminal: what it writes to stderr once it serves is lost",
    "write \"ErrorLog /var/log/sluice/error.log\""};
static const struct sl_lint_rule relative_path = {
    "relative-path",
    "it means another file when the server is started from another folder",
    "write the whole path"};
static const struct sl_lint_rule runs_as_root = {
    "runs-as-root",
    "a flaw in the server or in a module then has every right on this machine",
    "take a user of its own: User www-data"};
static const struct sl_lint_rule repeated_line = {
    "repeated-line", "it adds up, and so it is done twice", "take one of them away"};
static const struct sl_lint_rule never_equal = {
    "never-equal", "the comparison gives the same answer for every request",
    "compare with what the variable holds; sluice -L lists the variables"};
static const struct sl_lint_rule pattern_gives_up = {
    "endless-pattern", "a request that holds such a text is answered with 500",
    "let only one repetition match any given byte: [^/]+ in place of .+, no (a+)+"};

/* ---- the core's own directives ---- */

/* Where an option of one of the core's rows was set in this very scope; NULL: nowhere. */
static const char *
option_place(const struct config *c, const struct sl_scope *scope, const char *name,
             const char *key)
{
    const struct loaded_module *core = config_module(c, 0);
    const struct mark *marks = scope_raw(scope, core)->marks;
    const struct sl_directive *row;
    unsigned i, k;

    for (i = 0; marks != NULL && (row = directive_row(core, core->module->directives, i));
         i++)
        for (k = 0; strcmp(row->name, name) == 0 && row->options[k].key != NULL; k++)
            if (strcmp(row->options[k].key, key) == 0)
                return marks[slots_first(core, core->module->directives, row) + k].place;
    return NULL;
}

static void
lint_times(struct config *c, const struct sl_scope *scope)
{
    const struct core_conf *core = scope->core;
    const struct {
        const char *key;
        int64_t ms;
    } times[] = {
        {"header", core->header_ms}, {"body", core->body_ms}, {"send", core->send_ms}};
    size_t i;

    for (i = 0; i < sizeof times / sizeof times[0]; i++) {
        const char *place = option_place(c, scope, "Timeout", times[i].key);

        if (place != NULL && times[i].ms <= 0)
            lint_found(c, &no_time_limit, place, "Timeout %s= has no limit",
                       times[i].key);
    }
}

static int
trusts(const struct sl_networks *nets, const char *address)
{
    struct sl_sockaddr addr;

    return address_parse_host(sl_span(address), &addr) && sl_networks_has(nets, &addr);
}

/* Two of the addresses that are kept for examples, far apart. */
static void
lint_trusted(struct config *c, const struct sl_scope *scope)
{
    const char *place = core_place(c, scope, "TrustedProxies");
    const struct sl_networks *nets = scope->core->trusted;

    if (place == NULL || nets == NULL)
        return;
    if ((trusts(nets, "198.51.100.1") && trusts(nets, "1.1.1.1")) ||
        (trusts(nets, "2001:db8::1") && trusts(nets, "fd00::1")))
        lint_found(c, &trusts_everyone, place, "TrustedProxies holds every address");
}

static void
lint_paths(struct config *c)
{
    const struct sl_scope *global = config_global(c);
    const struct core_conf *core = global->core;
    const struct {
        const char *name, *path;
    } paths[] = {{"ErrorLog", core->error_log->where},
                 {"PidFile", core->pid_file},
                 {"ControlSocket", core->control_socket}};
    size_t i;

    for (i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        const char *path = paths[i].path, *place = core_place(c, global, paths[i].name);

        if (place != NULL && *path != '/' && strcmp(path, "stderr") != 0 &&
            strcmp(path, "syslog") != 0)
            lint_found(c, &relative_path, place,
                       "%s %s is relative to where the server is started", paths[i].name,
                       path);
    }
}

static void
lint_global(struct config *c)
{
    const struct sl_scope *global = config_global(c);

    if (core_place(c, global, "PidFile") != NULL &&
        core_place(c, global, "ErrorLog") == NULL)
        lint_found(c, &log_lost, core_place(c, global, "PidFile"),
                   "a PidFile is for daemons, but no ErrorLog says where messages go");
    if (global->core->user != NULL && strcmp(global->core->user, "root") == 0)
        lint_found(c, &runs_as_root, core_place(c, global, "User"),
                   "requests are served as root");
    lint_paths(c);
}

/* ---- lines said twice ---- */

static void
lint_mark(struct config *c, const struct sl_directive *row, const struct mark *mark)
{
    const struct said *a, *b;

    for (a = mark->said; a != NULL; a = a->next)
        for (b = mark->said; b != a; b = b->next)
            if (strcmp(a->text, b->text) == 0) {
                lint_found(c, &repeated_line, a->place, "%s %s is said already at %s",
                           row->name, a->text, b->place);
                break;
            }
}

static void
lint_rows(struct config *c, const struct loaded_module *m,
          const struct sl_directive *rows, const struct mark *marks)
{
    const struct sl_directive *row;
    unsigned i;

    for (i = 0; marks != NULL && (row = directive_row(m, rows, i)) != NULL; i++)
        if (row->type == SL_SLOT_LINES)
            lint_mark(c, row, &marks[slots_first(m, rows, row)]);
}

static void
lint_repeats(struct config *c)
{
    int i, k;

    for (i = 0; i < c->scopes->nelts; i++)
        for (k = 0; k < c->modules->nelts; k++) {
            const struct loaded_module *m = config_module(c, k);

            lint_rows(
                c, m, m->module->directives,
                scope_raw(APR_ARRAY_IDX(c->scopes, i, struct sl_scope *), m)->marks);
        }
    for (i = 0; i < c->objects->nelts; i++) {
        const struct object_section *o =
            &APR_ARRAY_IDX(c->objects, i, struct object_section);

        lint_rows(c, o->module, o->section->directives, o->marks);
    }
}

/* ---- conditions ---- */

static int
has_upper(const char *text)
{
    for (; *text != '\0'; text++)
        if (apr_isupper(*text))
            return 1;
    return 0;
}

static int
has_lower(const char *text)
{
    for (; *text != '\0'; text++)
        if (apr_islower(*text))
            return 1;
    return 0;
}

/* Why no value of the variable has this text in it; NULL: one may. */
static const char *
impossible(const char *variable, const char *text)
{
    if (strcmp(variable, "%{host}") == 0 && has_upper(text))
        return "is lower-case";
    if (strcmp(variable, "%{host}") == 0 && strchr(text, ':') != NULL &&
        strchr(text, '.') != NULL)
        return "has no port";
    if (strcmp(variable, "%{method}") == 0 && has_lower(text) && !has_upper(text))
        return "is upper-case, as clients send it";
    if (strcmp(variable, "%{scheme}") == 0 &&
        (has_upper(text) || strchr(text, ':') != NULL))
        return "is http or https";
    if (strcmp(variable, "%{path}") == 0 && strchr(text, '?') != NULL)
        return "has no query; that is %{query}";
    if (strcmp(variable, "%{path}") == 0 && strstr(text, "//") != NULL)
        return "has its slashes merged";
    return NULL;
}

static void
lint_comparison(struct config *c, const char *place, const struct cond_node *node)
{
    const struct cond_word *variable = &node->left, *text = node->right;
    unsigned i, n = node->n_right;
    const char *why;

    if (node->op == COND_TRUE || node->op == COND_MATCH || node->op == COND_NO_MATCH)
        return;
    if (variable->kind != COND_VARIABLE && n == 1) {
        variable = node->right;
        text = &node->left;
    }
    for (i = 0; i < n && variable->kind == COND_VARIABLE; i++)
        if (text[i].kind != COND_VARIABLE &&
            (why = impossible(variable->text, text[i].text)) != NULL)
            lint_found(c, &never_equal, place, "%s is compared with '%s', but it %s",
                       variable->text, text[i].text, why);
}

static void
lint_cond(struct config *c, const char *place, const struct cond_node *node)
{
    unsigned i;

    if (node->n_inner == 0)
        lint_comparison(c, place, node);
    for (i = 0; i < node->n_inner; i++)
        lint_cond(c, place, node->inner[i]);
}

static void
lint_patterns(struct config *c)
{
    int i;

    for (i = 0; i < c->lint->patterns->nelts; i++) {
        const struct lint_pattern *p =
            &APR_ARRAY_IDX(c->lint->patterns, i, struct lint_pattern);
        const char *text = lint_pattern_gives_up(c->pool, p->pattern);

        if (text != NULL)
            lint_found(c, &pattern_gives_up, p->place, "\"%s\" gives up on %s",
                       sl_pattern_text(p->pattern), text);
    }
}

void
lint_core(struct config *c)
{
    int i;

    for (i = 0; i < c->scopes->nelts; i++) {
        const struct sl_scope *scope = APR_ARRAY_IDX(c->scopes, i, struct sl_scope *);

        lint_times(c, scope);
        lint_trusted(c, scope);
    }
    lint_global(c);
    lint_repeats(c);
    for (i = 0; i < c->lint->conds->nelts; i++) {
        const struct lint_cond *x = &APR_ARRAY_IDX(c->lint->conds, i, struct lint_cond);

        lint_cond(c, x->place, x->cond->root);
    }
    lint_patterns(c);
}
