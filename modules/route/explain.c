/* Which locations lost, and why: read off what the look-up saw on its way.  Nothing is compared
 * here: a location the look-up never came to is one the path does not begin with. */
#include "route.h"

void
route_trace_begin(struct route_trace *t, struct sl_req *r, const struct route_site *in)
{
    t->seen = apr_pcalloc(sl_req_pool(r), (size_t)route_n(in->all) + 1);
}

void
route_trace_saw(void *ctx, void *value, int is_segment)
{
    struct route_trace *t = ctx;
    const struct route_site *site = value;

    t->seen[site->index] = is_segment ? ROUTE_SEEN_WHOLE : ROUTE_SEEN_PART;
}

static const char *
why_it_won(const struct route_site *site)
{
    if (site->kind == ROUTE_EXACT)
        return "wins: it is the path";
    return site->kind == ROUTE_PATTERN ? "wins: the first LocationMatch that matches"
                                       : "wins: the longest prefix";
}

static const char *
why_a_prefix_lost(enum route_seen seen, const struct route_site *winner)
{
    switch (seen) {
    case ROUTE_SEEN_NOT:
    case ROUTE_SEEN_TRIED:
        return "loses: the path does not begin with it";
    case ROUTE_SEEN_PART:
        return "loses: the path begins with it, but not where a segment ends";
    case ROUTE_SEEN_WHOLE:
        break;
    }
    if (winner->kind == ROUTE_EXACT)
        return "loses: an exact path wins over prefixes";
    return winner->kind == ROUTE_PATTERN ? "loses: a LocationMatch wins over prefixes"
                                         : "loses: a longer prefix wins";
}

static const char *
why_it_lost(const struct route_site *site, enum route_seen seen, const struct route_site *winner)
{
    if (site->kind == ROUTE_EXACT)
        return "loses: it is not the path";
    if (site->kind != ROUTE_PATTERN)
        return why_a_prefix_lost(seen, winner);
    if (seen == ROUTE_SEEN_TRIED)
        return "loses: it does not match";
    return winner->kind == ROUTE_EXACT ? "loses: not asked, an exact path wins over patterns"
                                       : "loses: not asked, one before it matches";
}

void
route_trace_end(const struct route_trace *t, struct sl_req *r, const struct route_site *in,
                const struct route_site *winner)
{
    int i;

    for (i = 0; i < route_n(in->all); i++) {
        const struct route_site *site = APR_ARRAY_IDX(in->all, i, struct route_site *);
        int is_pattern = site->kind == ROUTE_PATTERN;
        struct sl_span text = is_pattern ? sl_span(sl_pattern_text(site->pattern)) : site->path;

        sl_note(r, "%s Location%s %s\"%.*s\" %s", sl_scope_place(site->scope),
                is_pattern ? "Match" : "", site->kind == ROUTE_EXACT ? "= " : "",
                (int)text.n, text.at,
                site == winner ? why_it_won(site)
                               : why_it_lost(site, (enum route_seen)t->seen[site->index], winner));
    }
}
