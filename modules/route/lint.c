/* What is legal here but likely not meant: places no request reaches, patterns that match
 * more than they seem to, redirects that go round.  Run under --lint alone.
 *
 * Whether one pattern covers another cannot be known in general; what is looked at is the
 * text a pattern begins with, and only certain findings are told. */
#include "route.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>

static const struct sl_lint_rule never_reached = {
    "never-reached", "no request gets here: what stands inside has no effect",
    "move it, narrow what takes its requests, or take it away"};
static const struct sl_lint_rule unknown_hosts_only = {
    "unknown-hosts-only",
    "siblings never merge: a request of a host a VirtualHost names does not "
    "look at locations outside of it",
    "put it inside the hosts it is for"};
static const struct sl_lint_rule answers_nothing = {
    "answers-nothing", "each request of this host is answered with 404",
    "give it a ProxyPass, Return, Redirect or Location"};
static const struct sl_lint_rule unanchored = {
    "unanchored-pattern", "it matches anywhere in a path, so also where it was not meant",
    "begin it with ^, or end it with $"};
static const struct sl_lint_rule any_byte = {
    "any-byte-dot", "a dot in a pattern is any byte", "write \\. for a dot"};
static const struct sl_lint_rule goes_round = {
    "redirect-loop", "clients go round until they give up",
    "send them elsewhere, or end the pattern with $"};
static const struct sl_lint_rule decoded_path = {
    "decoded-path",
    "%{path} is decoded: what the client escaped reaches the next server as it "
    "was not sent",
    "use %{uri}, or what a pattern captured: $0, $1"};
static const struct sl_lint_rule no_effect = {"no-effect",
                                              "no path of this location is changed by it",
                                              "compare it with the location's path"};
static const struct sl_lint_rule to_itself = {
    "proxy-loop", "each request comes back in here until connections run out",
    "name the backend's own port"};
static const struct sl_lint_rule any_upgrade = {
    "any-upgrade",
    "a client may switch to protocols in which requests pass unseen, h2c for one",
    "ProxyUpgrade websocket"};

/* ---- what a pattern begins with ---- */

struct shape {
    int is_anchored; /* at its beginning */
    int takes_all;   /* whatever follows the text below */
    char begin[256]; /* literal text; only of use when anchored */
};

static int
is_literal(const char *at)
{
    return apr_isalnum(*at) || (*at != '\0' && strchr("/-_~%", *at) != NULL);
}

static const char *
begin_take(const char *at, struct shape *shape)
{
    size_t n = 0;

    while (n + 1 < sizeof shape->begin) {
        if (at[0] == '\\' && at[1] != '\0' && !apr_isalnum(at[1]))
            at++;
        else if (!is_literal(at))
            break;
        shape->begin[n++] = *at++;
    }
    if (n > 0 && *at != '\0' && strchr("*?+{|", *at) != NULL)
        n--;
    shape->begin[n] = '\0';
    return at;
}

static struct shape
shape_of(const struct sl_pattern *p)
{
    static const char *const everything[] = {"", ".*", ".*$", "(.*)", "(.*)$", "(?:.*)"};
    const char *text = sl_pattern_text(p), *rest;
    struct shape shape = {.is_anchored = *text == '^' && strchr(text, '|') == NULL};
    size_t i;

    rest = begin_take(text + (*text == '^'), &shape);
    for (i = 0; i < sizeof everything / sizeof everything[0]; i++)
        shape.takes_all |= strcmp(rest, everything[i]) == 0;
    if (!shape.is_anchored && strcmp(shape.begin, "/") != 0 && shape.begin[0] != '\0')
        shape.takes_all = 0;
    return shape;
}

/* ---- patterns that match more than they seem to ---- */

static int
has_anchor(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text == '\\' && text[1] != '\0') {
            if (strchr("AzZG", *++text) != NULL)
                return 1;
        } else if (*text == '^' || *text == '$')
            return 1;
    return 0;
}

/* A dot outside of a set, before a letter or digit as before the end of a name; NULL:
 * none. */
static const char *
naked_dot(const char *text)
{
    int is_in_set = 0;

    for (; *text != '\0'; text++)
        if (*text == '\\' && text[1] != '\0')
            text++;
        else if (*text == '[' || *text == ']')
            is_in_set = *text == '[';
        else if (*text == '.' && !is_in_set && apr_isalnum(text[1]))
            return text;
    return NULL;
}

static void
lint_pattern(struct sl_worker *w, const struct sl_pattern *p, const char *place)
{
    const char *text = sl_pattern_text(p), *dot = naked_dot(text);

    if (!has_anchor(text) && strcmp(text, "") != 0)
        sl_lint(w, &unanchored, place, "\"%s\" has neither ^ nor $", text);
    if (dot != NULL)
        sl_lint(w, &any_byte, place, "the dot before \"%s\" is any byte", dot + 1);
}

/* ---- locations ---- */

static const char *
place_of(const struct route_site *site)
{
    return sl_scope_place(site->scope);
}

static int
touches(struct sl_span a, struct sl_span b)
{
    return route_path_is_below(a, b) || route_path_is_below(b, a);
}

/* Whether a request in `around` can have a path of `site`. */
static int
is_possible(const struct route_site *site, const struct route_site *around)
{
    if (site->kind == ROUTE_PATTERN || around->kind == ROUTE_PATTERN)
        return 1;
    if (site->kind == ROUTE_EXACT && around->kind == ROUTE_EXACT)
        return sl_span_eq(site->path, around->path);
    if (site->kind == ROUTE_EXACT)
        return route_path_is_below(site->path, around->path);
    return around->kind == ROUTE_EXACT ? route_path_is_below(around->path, site->path)
                                       : touches(site->path, around->path);
}

/* Whether the pattern, which is asked first, takes every path of the site. */
static int
is_taken_by(const struct route_site *site, const struct route_site *by)
{
    struct shape taker = shape_of(by->pattern), mine;

    if (!taker.takes_all || site->kind == ROUTE_EXACT)
        return 0;
    if (!taker.is_anchored) /* "/", ".*": every path */
        return 1;
    if (site->kind == ROUTE_PREFIX)
        return route_begins(site->path, sl_span(taker.begin));
    mine = shape_of(site->pattern);
    return mine.is_anchored && route_begins(sl_span(mine.begin), sl_span(taker.begin));
}

static void
lint_location(struct sl_worker *w, const struct route_site *site,
              const struct route_site *around)
{
    int i;

    if (!is_possible(site, around)) {
        sl_lint(w, &never_reached, place_of(site),
                "\"%.*s\" does not lie in the location around it, %s",
                (int)site->path.n, site->path.at, place_of(around));
        return;
    }
    for (i = 0; i < route_n(around->patterns); i++) {
        const struct route_site *by =
            APR_ARRAY_IDX(around->patterns, i, struct route_site *);

        if (by == site) /* those behind are asked later */
            return;
        if (is_taken_by(site, by)) {
            sl_lint(w, &never_reached, place_of(site),
                    "the LocationMatch at %s takes all its paths", place_of(by));
            return;
        }
    }
}

static void
lint_site(struct sl_worker *w, const struct route_site *site)
{
    int i;

    if (site->kind == ROUTE_PATTERN && site->pattern == NULL) /* it has an error, and that is told */
        return;
    if (site->kind == ROUTE_PATTERN)
        lint_pattern(w, site->pattern, place_of(site));
    for (i = 0; i < route_n(site->all); i++)
        lint_location(w, APR_ARRAY_IDX(site->all, i, struct route_site *), site);
}

/* ---- hosts ---- */

static void
lint_host(struct sl_worker *w, const struct route_site *site)
{
    const struct route_conf *conf = sl_scope_conf(site->scope, &sl_module_record);

    if (!route_site_has_inside(site) && !site->has_ifs && conf->pass == NULL &&
        conf->answer == NULL && route_n(conf->redirects) == 0 &&
        route_n(conf->redirect_matches) == 0)
        sl_lint(w, &answers_nothing, place_of(site), "nothing in this host answers");
}

/* Locations outside of all hosts. */
static void
lint_outside(struct sl_worker *w, const struct route_map *map)
{
    const struct route_site *any = map->hosts.any;
    int i, has_hosts = map->hosts.n > 0 || map->hosts.n_suffixes > 0 || any != NULL;

    for (i = 0; has_hosts && i < route_n(map->global.all); i++) {
        const struct route_site *site =
            APR_ARRAY_IDX(map->global.all, i, struct route_site *);

        if (any != NULL)
            sl_lint(w, &never_reached, place_of(site),
                    "it stands outside of all hosts, and the "
                    "VirtualHost * at %s takes every host nobody names",
                    place_of(any));
        else
            sl_lint(w, &unknown_hosts_only, place_of(site),
                    "it stands outside of all hosts");
    }
}

/* ---- redirects ---- */

static int
names_decoded_path(const char *text)
{
    return strstr(text, "%{path}") != NULL;
}

/* What a client is sent to, when it is a path of this server that is known by now. */
static int
is_plain_path(const char *to)
{
    return to[0] == '/' && to[1] != '/' && strchr(to, '$') == NULL &&
           strstr(to, "%{") == NULL;
}

static void
lint_redirect(struct sl_worker *w, const struct route_site *site,
              const apr_array_header_t *lines, int at)
{
    const struct redirect *d = APR_ARRAY_IDX(lines, at, struct redirect *);
    struct sl_span to = {d->to_text, strcspn(d->to_text, "?#")};
    int i;

    if ((site->kind == ROUTE_PREFIX && !route_path_is_below(d->path, site->path)) ||
        (site->kind == ROUTE_EXACT && !sl_span_eq(d->path, site->path)))
        sl_lint(w, &never_reached, d->place, "%.*s is no path of this location",
                (int)d->path.n, d->path.at);
    for (i = 0; i < at; i++) {
        const struct redirect *before = APR_ARRAY_IDX(lines, i, struct redirect *);

        if (sl_span_eq(before->path, d->path))
            sl_lint(w, &never_reached, d->place,
                    "the Redirect at %s has that path already", before->place);
    }
    if (sl_span_eq(to, d->path))
        sl_lint(w, &goes_round, d->place, "it sends %.*s to itself", (int)d->path.n,
                d->path.at);
    if (names_decoded_path(d->to_text))
        sl_lint(w, &decoded_path, d->place, "where to go is made of %%{path}");
}

static void
lint_redirect_match(struct sl_worker *w, const struct redirect *d)
{
    struct sl_span to = {d->to_text, strcspn(d->to_text, "?#")};

    lint_pattern(w, d->pattern, d->place);
    if (is_plain_path(d->to_text) && sl_pattern_match(d->pattern, to, 0, NULL) > 0)
        sl_lint(w, &goes_round, d->place, "its pattern matches where it sends to, %s",
                d->to_text);
    if (names_decoded_path(d->to_text))
        sl_lint(w, &decoded_path, d->place, "where to go is made of %%{path}");
}

static void
lint_redirects(struct sl_worker *w, const struct sl_scope *scope,
               const struct route_site *site)
{
    const struct route_conf *conf = sl_scope_conf(scope, &sl_module_record);
    int i;

    for (i = 0; i < route_n(conf->redirects); i++)
        if (APR_ARRAY_IDX(conf->redirects, i, struct redirect *)->scope == scope)
            lint_redirect(w, site, conf->redirects, i);
    for (i = 0; i < route_n(conf->redirect_matches); i++) {
        const struct redirect *d =
            APR_ARRAY_IDX(conf->redirect_matches, i, struct redirect *);

        if (d->scope == scope)
            lint_redirect_match(w, d);
    }
    if (conf->answer != NULL && conf->answer->scope == scope &&
        conf->answer->is_location &&
        names_decoded_path(sl_expr_source(conf->answer->text)))
        sl_lint(w, &decoded_path, conf->answer->place, "where to go is made of %%{path}");
}

/* ---- paths for the backend ---- */

/* Whether a path of the site can begin as the pattern does. */
static int
may_match(const struct route_site *site, const struct sl_pattern *p)
{
    struct shape shape = shape_of(p);
    struct sl_span begin = sl_span(shape.begin), path = site->path;

    if (!shape.is_anchored || (site->kind != ROUTE_PREFIX && site->kind != ROUTE_EXACT))
        return 1;
    return route_begins(begin, path) || route_begins(path, begin) ||
           route_begins(begin, route_path_trim(path));
}

static void
lint_rewrites(struct sl_worker *w, const struct sl_scope *scope,
              const struct route_site *site)
{
    const struct route_conf *conf = sl_scope_conf(scope, &sl_module_record);
    const char *strip_place = sl_scope_said(scope, &sl_module_record, "StripPrefix");
    int i, is_tree = site->kind == ROUTE_PREFIX || site->kind == ROUTE_EXACT;

    if (strip_place != NULL && is_tree && !touches(site->path, sl_span(conf->strip)))
        sl_lint(w, &no_effect, strip_place, "no path in %.*s begins with %s",
                (int)site->path.n, site->path.at, conf->strip);
    for (i = 0; i < route_n(conf->rewrites); i++) {
        const struct rewrite *rule = APR_ARRAY_IDX(conf->rewrites, i, struct rewrite *);

        if (rule->scope != scope)
            continue;
        lint_pattern(w, rule->pattern, rule->place);
        if (i == 0 && conf->strip == NULL && !may_match(site, rule->pattern))
            sl_lint(w, &no_effect, rule->place, "no path in %.*s begins as \"%s\" does",
                    (int)site->path.n, site->path.at, sl_pattern_text(rule->pattern));
        if (names_decoded_path(rule->to_text))
            sl_lint(w, &decoded_path, rule->place, "the path is made of %%{path}");
    }
}

/* ---- targets ---- */

/* "127.0.0.1:8080" -> 8080 where the address is this machine's; 0: it is not, or none is
 * written. */
static int
own_port(struct sl_span authority)
{
    static const char *const names[] = {"127.0.0.1:", "localhost:", "[::1]:"};
    size_t i;

    for (i = 0; i < sizeof names / sizeof names[0]; i++)
        if (route_begins(authority, sl_span(names[i])))
            return atoi(authority.at + strlen(names[i]));
    return 0;
}

static int
listen_port(const char *text)
{
    const char *colon = strrchr(text, ':');

    return *text == 'u' ? 0 : atoi(colon != NULL ? colon + 1 : text);
}

static void
lint_target(struct sl_worker *w, const struct sl_scope *scope)
{
    const struct route_conf *conf = sl_scope_conf(scope, &sl_module_record), *around;
    struct sl_scope *parent = sl_scope_parent(scope);
    struct sl_listen l;
    unsigned i;
    int port;

    if (conf->pass != NULL && conf->pass->scope == scope &&
        (port = own_port(conf->pass->target->authority)) > 0)
        for (i = 0; sl_worker_listen(w, i, &l); i++)
            if (listen_port(l.text) == port)
                sl_lint(w, &to_itself, conf->pass->place,
                        "%.*s is this server itself, %s", (int)conf->pass->target->text.n,
                        conf->pass->target->text.at, l.place);
    around = parent != NULL ? sl_scope_conf(parent, &sl_module_record) : NULL;
    if (conf->proxy.upgrade == SL_UPGRADE_ANY &&
        (around == NULL || around->proxy.upgrade != SL_UPGRADE_ANY))
        sl_lint(w, &any_upgrade, sl_scope_said(scope, &sl_module_record, "ProxyUpgrade"),
                "clients may switch to any protocol");
}

void
route_lint(struct sl_worker *w, struct route_map *map)
{
    const struct sl_scope *scope;
    unsigned i;

    lint_outside(w, map);
    for (i = 0; (scope = sl_worker_scope(w, i)) != NULL; i++) {
        const struct route_site *site = route_site(map, scope);

        if (sl_scope_kind(scope) != SL_SCOPE_IF)
            lint_site(w, site);
        if (sl_scope_kind(scope) == SL_SCOPE_HOST)
            lint_host(w, site);
        lint_redirects(w, scope, site);
        lint_rewrites(w, scope, site);
        lint_target(w, scope);
    }
}
