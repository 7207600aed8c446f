/* Which host and location a request belongs to, and what is done with it there.
 *
 * A request passes here three times: when its head is read the host is found, at route the
 * location, and as the last handler a redirect, a text or a server answers.  The work is in
 * the other files; this one has the rows. */

/*man
NAME
    mod_route - hosts, locations, and where requests go
DESCRIPTION
    One host wins: an exact name, else the longest *.suffix, else *, else the request is
    answered with 421. Without any VirtualHost everything outside sections serves every
    host; with some, it serves hosts nobody claims if it has a Location, ProxyPass, Return
    or Redirect of its own, outside every If.

    One location wins: an exact path, else the first LocationMatch in file order that
    matches, else the longest prefix. A prefix ends where a segment does: /api matches /api
    and /api/x but not /apix; /api/ matches what lies below. Locations inside a location are
    looked at once that one has won. Matching sees the normalised path: percent-decoded but
    for %2F, dot segments removed, slashes merged. What the backend is asked for are the
    client's own bytes, unless a directive here changes them.

    Ifs are asked once the location is known: those outside sections first, then those of the
    host, then those of the location, each in file order. What holds is laid over the location
    by the rules all sections have (values replace, lists add up), so that the If asked last
    wins. Inside an If stands what may stand in a location, other Ifs included, but no
    location. At most 32 Ifs apply in one place.

    Redirect and RedirectMatch hold before Return and ProxyPass; of those two the one that
    stands in an If, else further inside.

    A condition compares %{variables} with texts in single quotes or bare words: == != < <= >
    >=, =~ and !~ (a pattern), in {GET, HEAD}, in {10.0.0.0/8}, starts_with, ends_with,
    contains; && and || and ! and parentheses join comparisons. Numbers, times (500ms, 10s)
    and true and false stand without quotes. A value that is absent is the empty text ''. A
    text that is compared with a number and is none equals nothing and is neither less nor
    more. Header, RequestHeader, Rewrite and AccessLog take a condition of their own: if=.

    Patterns capture: $1 to $9 are their groups, $<name> is a group (?<name>...) and $0 the
    match; $$ is a dollar sign. So it is in TO of Rewrite and RedirectMatch, and in the value of
    a Header or RequestHeader line, TO of Redirect and the text of Return, where the line's own
    condition, an If or a LocationMatch around it has groups: the nearest that has any counts.
    All of them may hold %{variables}, too; in TO what may not stand in a URL is escaped.
DIRECTIVES
  VirtualHost
    A host: its names, *.suffixes or *.
  Location
    A path and what lies below it; with = before the path, that path alone.
  LocationMatch
    Paths that match a pattern.
  If
    A condition, in double quotes, on what is known when the request is; the directives inside
    hold for requests of which it is true.
  ProxyPass
    Sends requests to a server: HOST:PORT, http://HOST[:PORT], https:// (mod_tls), h2:// and h2c://
    (mod_http2), unix:/PATH; or to a pool, balancer://POOL. A path behind it replaces the prefix of
    the location; with $1 in it, inside an If or LocationMatch with groups, it is the whole path
    that is asked for.
  ProxyTimeout
    How long a server may take: connect= to accept, send= between two writes of the
    request, first= until its response begins, idle= between two reads of the response,
    total= for all of it.
  ProxyHost
    Which Host the server sees: preserve passes the client's, upstream sends the name in
    ProxyPass.
  ProxyUpgrade
    Which protocols clients may switch to: websocket, any or off.
  ProxyBodyHold
    How much of a request body is kept, so that it can be sent again to another server.
  ProxyIntercept
    Statuses between 400 and 599: an answer of a server with one of them is replaced by the
    ErrorPage of that status, else the plain page. Of its fields WWW-Authenticate,
    Proxy-Authenticate, Allow, Retry-After and Content-Range stay, unless the page is a
    redirect.
  ProxyCookie
    Maps what servers write into Set-Cookie: ProxyCookie domain FROM TO replaces a Domain
    that is FROM, whatever its case and with or without a dot before it; an empty TO ("") takes
    the attribute away. ProxyCookie path FROM TO replaces the beginning of a Path that is FROM or
    lies below. Of each kind the first line that fits is applied; nothing else of the cookie is
    touched.
  ProxyRedirect
    Location fields of responses mapped back to what the client sees: on, off, or FROM TO
    for a prefix of your own.
  StripPrefix
    Takes a prefix off the path before it goes to the server.
  Rewrite
    Replaces the path by a pattern: RE TO, with $1 for captured groups. The query is kept.
    Several lines apply in order, each to what the one before left. With if= a line applies
    where its condition holds.
  Redirect
    STATUS PATH TO: sends the client elsewhere when it asks for exactly that path.
  RedirectMatch
    STATUS RE TO: the same for paths that match a pattern.
  Return
    STATUS [TEXT]: answers at once. The text may hold %{variables}, which sluice-core(8)
    lists; for a status between 300 and 399 it is where to go, as in Return 301
    https://example.com%{uri}.
EXAMPLE
    LoadModule route
    Listen 80
    <VirtualHost example.com *.example.com>
        <Location "/api">
            ProxyPass http://10.0.0.1:8080
        </Location>
        <LocationMatch "\.(png|jpg)$">
            ProxyPass http://10.0.0.2:8080
        </LocationMatch>
        <If "%{method} == POST && %{req:X-Beta} == '1'">
            ProxyPass http://10.0.0.3:8080
        </If>
        Redirect 301 /old-page /new-page
    </VirtualHost>
*/
#include "route.h"

/* One process has one configuration; its map is set when it is checked. */
static struct route_map *map;

/* ---- finding ---- */

static const struct route_site *
site_by_pattern(struct sl_req *r, const struct route_site *in, struct sl_span path,
                struct route_trace *trace, int *rc)
{
    struct sl_captures captures;
    int i;

    for (i = 0; i < route_n(in->patterns); i++) {
        const struct route_site *site = APR_ARRAY_IDX(in->patterns, i, struct route_site *);

        *rc = sl_pattern_match(site->pattern, path, 0, &captures);
        if (*rc > 0)
            sl_req_keep_captures(r, site->pattern, &captures);
        if (*rc != 0)
            return site;
        route_trace_tried(trace, site);
    }
    *rc = 0;
    return NULL;
}

/* The location inside a site that wins, NULL when none does; *rc -1: a pattern gave up. */
static const struct route_site *
site_inside(struct sl_req *r, const struct route_site *in, int is_dry, int *rc)
{
    struct sl_span path = sl_req_path(r);
    struct route_trace trace = {NULL};
    struct route_tree_found found;
    const struct route_site *site;

    *rc = 0;
    if (is_dry)
        route_trace_begin(&trace, r, in);
    found = route_tree_look(&in->inside, path, is_dry ? route_trace_saw : NULL, &trace);
    site = found.exact;
    if (site == NULL && in->patterns != NULL)
        site = site_by_pattern(r, in, path, &trace, rc);
    if (site == NULL)
        site = found.prefix;
    if (is_dry)
        route_trace_end(&trace, r, in, site);
    return site;
}

static void __attribute__((noinline))
note_host(struct sl_req *r, const struct route_site *site, struct sl_span by)
{
    struct sl_span host = sl_req_host(r);
    const char *place = sl_scope_place(site->scope);

    if (site->kind == ROUTE_GLOBAL)
        sl_note(r, "no VirtualHost names \"%.*s\": what stands outside serves it", (int)host.n,
                host.at);
    else if (by.at[0] == '*')
        sl_note(r, "%s VirtualHost wins: \"*\" takes the hosts nobody names", place);
    else
        sl_note(r, "%s VirtualHost wins: %s \"%s%.*s\"", place,
                by.at[0] == '.' ? "the longest suffix that fits is" : "it names",
                by.at[0] == '.' ? "*" : "", (int)by.n, by.at);
}

static enum sl_verdict
route_host(struct sl_req *r, const void *conf)
{
    const struct route_site *site;
    struct sl_span by;

    (void)conf;
    if (map->hosts.n == 0 && map->hosts.n_suffixes == 0 && map->hosts.any == NULL)
        return SL_NEXT;
    site = route_hosts_find(&map->hosts, sl_req_host(r), &by);
    if (site == NULL && map->serves_unknown)
        site = &map->global;
    if (site == NULL)
        return sl_req_fail(r, 0, &sl_cause_no_host, NULL);
    if (sl_req_is_noting(r))
        note_host(r, site, by);
    sl_req_enter(r, site->scope);
    return SL_NEXT;
}

/* For transports that are told a name before there is a request. */
static struct sl_scope *
route_scope_of(struct sl_span name)
{
    struct sl_span by;
    const struct route_site *site = map != NULL ? route_hosts_find(&map->hosts, name, &by) : NULL;

    return site != NULL ? site->scope : NULL;
}

static enum sl_verdict
route_location(struct sl_req *r, const void *conf)
{
    const struct route_site *site = route_site(map, sl_req_scope(r)), *inner;
    struct sl_scope *scope;
    int rc, is_noting = sl_req_is_noting(r), is_dry = is_noting && sl_req_is_dry(r);

    (void)conf;
    while (route_site_has_inside(site) &&
           (inner = site_inside(r, site, is_dry, &rc)) != NULL) {
        if (rc < 0)
            return sl_req_fail(r, 0, &sl_cause_pattern_limit, "%s", sl_scope_place(inner->scope));
        if (is_noting && !is_dry) /* else the look-up has told of all */
            sl_note(r, "location: %s", sl_scope_place(inner->scope));
        site = inner;
    }
    scope = site->scope;
    if (site->has_ifs && (scope = sl_scope_overlay(scope, r)) == NULL)
        return SL_FAIL;
    if (scope != sl_req_scope(r))
        sl_req_enter(r, scope);
    return SL_NEXT;
}

/* ---- answering ---- */

static enum sl_verdict
route_answer(struct sl_req *r, const void *confp)
{
    const struct route_conf *conf = confp;
    enum sl_verdict v = SL_NEXT;

    if (conf->redirects != NULL || conf->redirect_matches != NULL)
        v = route_redirect(r, conf);
    if (v != SL_NEXT)
        return v;
    if (conf->answer != NULL && (conf->pass == NULL || conf->answer->rank >= conf->pass->rank))
        return route_return(r, conf->answer);
    if (conf->pass == NULL)
        return SL_NEXT;
    sl_note(r, "%s ProxyPass %.*s", conf->pass->place, (int)conf->pass->target->text.n,
            conf->pass->target->text.at);
    if ((v = route_map_path(r, conf)) != SL_NEXT)
        return v;
    return sl_proxy(r, conf->pass->target, &conf->proxy);
}

static enum sl_verdict
route_response(struct sl_attempt *a, const void *confp)
{
    const struct route_conf *conf = confp;
    const struct sl_fields *f = sl_attempt_response(a);

    if (sl_fields_has_id(f, SL_F_LOCATION) || sl_fields_has_id(f, SL_F_CONTENT_LOCATION))
        route_map_back(a, conf);
    if (sl_fields_has_id(f, SL_F_SET_COOKIE) && route_n(conf->cookies) > 0)
        route_map_cookies(a, conf->cookies);
    return SL_NEXT;
}

/* ---- the configuration ---- */

static int
serves_something(const struct sl_scope *scope)
{
    const struct route_conf *conf = sl_scope_conf(scope, &sl_module_record);

    return conf->pass != NULL || conf->answer != NULL || route_n(conf->redirects) > 0 ||
           route_n(conf->redirect_matches) > 0;
}

static int
route_check(struct sl_worker *w)
{
    const struct sl_scope *scope;
    unsigned i;

    map = sl_worker_module_data(w, &sl_module_record);
    map->global.scope = sl_worker_global(w);
    map->global.kind = ROUTE_GLOBAL;
    map->global.path = SL_SPAN("/");
    map->serves_unknown = route_site_has_inside(&map->global) ||
                          serves_something(map->global.scope);
    for (i = 0; (scope = sl_worker_scope(w, i)) != NULL; i++)
        if (sl_scope_kind(scope) != SL_SCOPE_IF)
            route_site(map, scope)->has_ifs = sl_scope_has_ifs(scope);
    if (sl_worker_is_linting(w))
        route_lint(w, map);
    return 0;
}

static const char *const host_words[] = {"preserve", "upstream", NULL};
static const char *const upgrade_words[] = {"websocket", "any", "off", NULL};

#define PROXY_MS(key, member, init, help)                                                    \
    {key, SL_SLOT_DURATION, offsetof(struct route_conf, proxy.member), init, NULL, help}

static const struct sl_option timeout_options[] = {
    PROXY_MS("connect", connect_ms, "5s", "until the server accepts"),
    PROXY_MS("send", send_ms, "60s", "between two writes of the request"),
    PROXY_MS("first", first_ms, "60s", "until the response begins"),
    PROXY_MS("idle", idle_ms, "60s", "between two reads of the response"),
    PROXY_MS("total", total_ms, "off", "for all of it"),
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

static const struct sl_directive directives[] = {
    SL_PARSED("ProxyPass", struct route_conf, pass, route_parse_pass, SL_IN_ANY, "TARGET",
              "Sends requests to a server or a pool"),
    SL_OPTIONS("ProxyTimeout", timeout_options, SL_IN_ANY,
               "[connect=] [send=] [first=] [idle=] [total=]", "How long a server may take"),
    SL_ENUM("ProxyHost", struct route_conf, proxy.host, "preserve", SL_IN_ANY, host_words,
            "preserve|upstream", "Which Host the server sees"),
    SL_ENUM("ProxyUpgrade", struct route_conf, proxy.upgrade, "websocket", SL_IN_ANY,
            upgrade_words, "websocket|any|off", "Which protocols clients may switch to"),
    SL_SIZE("ProxyBodyHold", struct route_conf, proxy.body_hold, "64k", SL_IN_ANY,
            "How much of a request body is kept for another try"),
    SL_LINES("ProxyIntercept", struct route_conf, proxy.intercept, route_parse_intercept,
             SL_IN_ANY, "STATUS ...", "Answers of servers replaced by pages of our own"),
    SL_LINES("ProxyCookie", struct route_conf, cookies, route_parse_cookie, SL_IN_ANY,
             "domain|path FROM TO", "Domains and paths of cookies mapped back"),
    {"ProxyRedirect", SL_SLOT_LINES, SL_IN_ANY, offsetof(struct route_conf, proxy_redirects), "on",
     "Location fields mapped back", "on|off|FROM TO", route_parse_proxy_redirect, NULL, NULL},
    SL_PARSED("StripPrefix", struct route_conf, strip, route_parse_strip, SL_IN_ANY, "PATH",
              "Takes a prefix off the path"),
    SL_LINES("Rewrite", struct route_conf, rewrites, route_parse_rewrite, SL_IN_ANY,
             "RE TO [if=CONDITION]", "Replaces the path by a pattern"),
    SL_LINES("Redirect", struct route_conf, redirects, route_parse_redirect, SL_IN_ANY,
             "STATUS PATH TO", "Sends the client elsewhere"),
    SL_LINES("RedirectMatch", struct route_conf, redirect_matches, route_parse_redirect_match,
             SL_IN_ANY, "STATUS RE TO", "Sends the client elsewhere by a pattern"),
    SL_PARSED("Return", struct route_conf, answer, route_parse_return, SL_IN_ANY,
              "STATUS [TEXT]", "Answers at once"),
    SL_DIRECTIVES_END,
};

static const struct sl_section sections[] = {
    {.name = "VirtualHost",
     .kind = SL_SECTION_HOST,
     .where = SL_IN_GLOBAL,
     .open = route_open_host,
     .args = "NAME ...",
     .help = "A host and what it serves"},
    {.name = "Location",
     .kind = SL_SECTION_LOCATION,
     .where = SL_IN_ANY,
     .open = route_open_location,
     .args = "[=] PATH",
     .help = "A path and what lies below it"},
    {.name = "LocationMatch",
     .kind = SL_SECTION_LOCATION,
     .where = SL_IN_ANY,
     .open = route_open_location_match,
     .args = "RE",
     .help = "Paths that match a pattern"},
    {.name = "If",
     .kind = SL_SECTION_IF,
     .where = SL_IN_ANY,
     .open = route_open_if,
     .args = "CONDITION",
     .help = "What else holds for requests of the place it stands in"},
    SL_SECTIONS_END,
};

static const struct sl_hook hooks[] = {
    SL_ON_CHECK_CONFIG(route_check),
    SL_ON_HEAD_READ(route_host, SL_LATE, SL_DRY_OK),
    SL_ON_ROUTE(route_location, SL_MIDDLE, SL_DRY_OK),
    SL_ON_HANDLER(route_answer, SL_LATE, SL_DRY_OK),
    SL_ON_UPSTREAM_RESPONSE(route_response, SL_MIDDLE, SL_DRY_OK),
    SL_HOOKS_END,
};

static const struct sl_host_lookup host_lookup = {route_scope_of};

static int
route_init(const struct sl_module *self)
{
    (void)self;
    return sl_provider_register("hosts", "route", &host_lookup);
}

SL_MODULE(route) = {
    .name = "route",
    .flags = SL_MODULE_ALWAYS,
    .conf_size = sizeof(struct route_conf),
    .data_size = sizeof(struct route_map),
    .directives = directives,
    .sections = sections,
    .hooks = hooks,
    .init = route_init,
};
