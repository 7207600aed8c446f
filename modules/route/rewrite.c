/* The path a backend is asked for: StripPrefix, then each Rewrite on the result of the one
 * before, then the path of the ProxyPass target.  All work on the raw path; the query is
 * kept apart.  Where none of them changes anything, nothing is set, and the client's own
 * bytes go out. */
#include "route.h"

#include <apr_strings.h>

const char *
route_parse_strip(struct sl_cmd *cmd, void **item)
{
    const char *err;

    if (sl_cmd_argc(cmd) != 1)
        return "expected one path";
    if ((err = route_path_check(cmd, sl_cmd_arg(cmd, 0))) != NULL)
        return err;
    *item = apr_pstrdup(sl_cmd_pool(cmd), sl_cmd_arg(cmd, 0));
    return NULL;
}

/* TO apart: what stands before '?' is path, what stands behind it is query. */
static const char *
rewrite_parse_to(struct sl_cmd *cmd, struct rewrite *w, const char *to)
{
    const char *err, *mark = strchr(to, '?');
    const char *path = mark == NULL ? to : apr_pstrndup(sl_cmd_pool(cmd), to, (size_t)(mark - to));

    if (*to != '/' && *to != '$' && strncmp(to, "%{", 2) != 0)
        return sl_cmd_error(cmd, "expected a path that begins with '/', found \"%s\"", to);
    err = sl_cmd_template(cmd, path, w->pattern, SL_PHASE_ROUTED, route_escape_path, &w->to);
    if (err != NULL || mark == NULL)
        return err;
    w->drops_query = mark[1] == '\0';
    return sl_cmd_template(cmd, mark + 1, w->pattern, SL_PHASE_ROUTED, route_escape_path, &w->query);
}

static const struct sl_option rewrite_options[] = {
    {"if", SL_SLOT_COND_ROUTED, offsetof(struct rewrite, condition), NULL, NULL,
     "the condition under which it is done"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

const char *
route_parse_rewrite(struct sl_cmd *cmd, void **item)
{
    struct rewrite *w = apr_pcalloc(sl_cmd_pool(cmd), sizeof *w);
    const char *err;

    w->place = sl_cmd_place(cmd);
    w->scope = sl_cmd_scope(cmd);
    if (sl_cmd_argc(cmd) < 2)
        return "expected a pattern and what to put in the path's place";
    if ((err = sl_cmd_options(cmd, 2, rewrite_options, w)) != NULL)
        return err;
    err = sl_cmd_pattern(cmd, sl_cmd_arg(cmd, 0), &w->pattern);
    if (err == NULL)
        err = rewrite_parse_to(cmd, w, sl_cmd_arg(cmd, 1));
    w->to_text = sl_cmd_arg(cmd, 1);
    *item = w;
    return err;
}

static const char *
pass_place(struct sl_cmd *cmd, struct route_pass *pass)
{
    struct sl_scope *scope = sl_cmd_scope(cmd);
    const struct route_site *site = route_site(sl_cmd_module_data(cmd), scope);
    const char *err, *path = sl_span_dup(sl_cmd_pool(cmd), pass->target->path);
    struct sl_expr *whole = sl_cmd_expr(cmd, path, SL_PHASE_ROUTED, NULL, &err);

    if (whole == NULL)
        return err;
    pass->rank = route_rank(scope);
    pass->place = sl_cmd_place(cmd);
    pass->scope = scope;
    pass->whole = sl_expr_is_constant(whole) ? NULL : whole;
    if (pass->whole != NULL && strchr(path, '%') != NULL) {
        sl_cmd_cure(cmd, "take the path away and use Rewrite");
        return "a path of what a pattern captured has no escapes of its own";
    }
    if (pass->target->path.n > 0 && pass->whole == NULL && site->kind == ROUTE_PATTERN) {
        sl_cmd_cure(cmd, "take the path away and use Rewrite, or say with $1 what the pattern "
                    "captured");
        return "a path replaces the location's prefix, and a LocationMatch has none";
    }
    pass->is_exact = site->kind == ROUTE_EXACT;
    if (site->kind == ROUTE_PREFIX || site->kind == ROUTE_EXACT)
        pass->prefix = route_path_trim(site->path);
    else
        pass->prefix = SL_SPAN("");
    return NULL;
}

const char *
route_parse_pass(struct sl_cmd *cmd, void **item)
{
    struct route_pass *pass = apr_pcalloc(sl_cmd_pool(cmd), sizeof *pass);
    struct sl_target *target;
    const char *err;

    if (sl_cmd_argc(cmd) == 2 && *sl_cmd_arg(cmd, 0) == '/')
        sl_cmd_cure(cmd, "the path is that of the section: <Location \"%s\">, ProxyPass %s, "
                    "</Location>", sl_cmd_arg(cmd, 0), sl_cmd_arg(cmd, 1));
    if (sl_cmd_argc(cmd) != 1)
        return sl_cmd_error(cmd, "expected one target, http://HOST:PORT, unix:/PATH or "
                            "balancer://POOL, found %d words", sl_cmd_argc(cmd));
    if ((err = sl_target_parse(cmd, sl_cmd_arg(cmd, 0), &target)) != NULL)
        return err;
    pass->target = target;
    *item = pass;
    return pass_place(cmd, pass);
}

/* ---- per request ---- */

struct work {
    struct sl_span path, query; /* query.at NULL: none */
    int is_changed;
};

static void
work_strip(struct sl_req *r, struct work *w, struct sl_span prefix)
{
    if (!route_path_is_below(sl_req_path(r), prefix))
        return;
    w->path = route_path_rest(sl_req_pool(r), w->path, sl_req_path(r), prefix);
    if (w->path.n == 0)
        w->path = SL_SPAN("/");
    w->is_changed = 1;
    sl_note(r, "StripPrefix %.*s: the path becomes %.*s", (int)prefix.n, prefix.at, (int)w->path.n,
            w->path.at);
}

/* The new query before the old one. */
static void
work_query(struct sl_req *r, struct work *w, const struct rewrite *rule,
           const struct sl_captures *captures)
{
    struct sl_span added;

    if (rule->drops_query) {
        w->query = (struct sl_span){NULL, 0};
        return;
    }
    added = sl_template_fill(rule->query, captures, r);
    if (w->query.n > 0) {
        struct sl_span parts[] = {added, SL_SPAN("&"), w->query};

        added = sl_spans_join(sl_req_pool(r), parts, 3);
    }
    w->query = added;
}

/* 0, or -1 when a pattern gave up. */
static int
work_rewrite(struct sl_req *r, struct work *w, const apr_array_header_t *rules)
{
    struct sl_captures captures;
    int i;

    for (i = 0; i < rules->nelts; i++) {
        const struct rewrite *rule = APR_ARRAY_IDX(rules, i, struct rewrite *);
        int holds = rule->condition != NULL ? sl_cond_holds(rule->condition, r) : 1, found = 0;

        if (holds > 0)
            found = sl_pattern_match(rule->pattern, w->path, 0, &captures);
        if (holds < 0 || found < 0)
            return -1;
        if (!found) {
            sl_note(r, "%s Rewrite \"%s\": %s", rule->place, sl_pattern_text(rule->pattern),
                    holds ? "does not match" : "its condition does not hold");
            continue;
        }
        if (rule->query != NULL)
            work_query(r, w, rule, &captures);
        w->path = sl_template_fill(rule->to, &captures, r);
        if (w->path.n == 0 || w->path.at[0] != '/') {
            struct sl_span parts[] = {SL_SPAN("/"), w->path};

            w->path = sl_spans_join(sl_req_pool(r), parts, 2);
        }
        w->is_changed = 1;
        sl_note(r, "%s Rewrite \"%s\": the path becomes %.*s", rule->place,
                sl_pattern_text(rule->pattern), (int)w->path.n, w->path.at);
    }
    return 0;
}

/* The target's path takes the place of the location's, or of all with $1 in it; where the path was changed before,
 * the location's is gone, and the target's stands in front. */
static void
work_target(struct sl_req *r, struct work *w, const struct route_pass *pass)
{
    struct sl_span parts[2] = {pass->target->path, w->path};

    if (pass->whole != NULL) {
        w->path = route_escape_decoded(sl_req_pool(r), sl_expr_text(pass->whole, r));
        w->is_changed = 1;
        return;
    }
    if (!w->is_changed && pass->is_exact)
        parts[1] = SL_SPAN("");
    else if (!w->is_changed)
        parts[1] = route_path_rest(sl_req_pool(r), w->path, sl_req_path(r), pass->prefix);
    if (parts[1].n > 0)
        parts[0] = route_path_trim(parts[0]);
    w->path = sl_spans_join(sl_req_pool(r), parts, 2);
    w->is_changed = 1;
}

/* A change may have come to the client's own path. */
static void
work_set(struct sl_req *r, const struct work *w)
{
    struct sl_span query = sl_req_query(r);
    struct sl_span parts[] = {w->path, SL_SPAN("?"), w->query};

    if (sl_span_eq(w->path, sl_req_target_path(r)) && w->query.at == query.at)
        return;
    sl_req_set_upstream_path(r, sl_spans_join(sl_req_pool(r), parts, w->query.at != NULL ? 3 : 1));
    sl_note(r, "the backend is asked for %.*s", (int)w->path.n, w->path.at);
}

enum sl_verdict
route_map_path(struct sl_req *r, const struct route_conf *conf)
{
    struct work w = {sl_req_target_path(r), sl_req_query(r), 0};

    if (w.path.n == 0 || w.path.at[0] != '/') /* OPTIONS *, CONNECT */
        return SL_NEXT;
    if (conf->strip != NULL)
        work_strip(r, &w, sl_span(conf->strip));
    if (route_n(conf->rewrites) > 0 && work_rewrite(r, &w, conf->rewrites) != 0)
        return sl_req_fail(r, 0, &sl_cause_pattern_limit, "Rewrite");
    if (conf->pass != NULL && conf->pass->target->path.n > 0)
        work_target(r, &w, conf->pass);
    if (w.is_changed)
        work_set(r, &w);
    return SL_NEXT;
}
