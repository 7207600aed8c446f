/* What the parts of mod_route share.
 *
 *   sections.c        <VirtualHost>, <Location>, <LocationMatch>: makes sites; <If>
 *   hosts.c           name -> site, by hash
 *   tree.c            path -> site, by a radix tree of prefixes
 *   path.c            raw and normalised paths, prefixes, escapes
 *   rewrite.c         StripPrefix, Rewrite, and the path of a ProxyPass target
 *   explain.c         which locations a look-up passed over, and why
 *   lint.c            what is likely not meant
 *   redirect.c        Redirect, RedirectMatch, Return
 *   proxy_redirect.c  Location fields of responses, mapped back
 *   proxy_answer.c    ProxyIntercept; ProxyCookie: Set-Cookie fields, mapped back
 *
 * All of it is made while the configuration is read, lives as long as that does, and is
 * read-only once requests run. */
#ifndef ROUTE_ROUTE_H
#define ROUTE_ROUTE_H

#include "sluice/module.h"

#pragma GCC visibility push(hidden)

/* ---- paths as a tree (tree.c) ---- */

enum route_tree_kind { ROUTE_TREE_PREFIX, ROUTE_TREE_EXACT };

struct route_tree_node;
struct route_tree {
    struct route_tree_node *root; /* NULL: empty */
};

struct route_tree_found {
    void *exact;  /* the path itself */
    void *prefix; /* the longest prefix that ends where a segment does */
};

/* NULL, or what stands under this path and kind already. */
void *route_tree_put(apr_pool_t *pool, struct route_tree *tree, struct sl_span path,
                     enum route_tree_kind kind, void *value);
/* saw: told of each prefix the path begins with, the shortest first, and whether a segment ends
 * there; NULL: nobody asks. */
typedef void route_tree_saw_f(void *ctx, void *value, int is_segment);
struct route_tree_found route_tree_look(const struct route_tree *tree, struct sl_span path,
                                        route_tree_saw_f *saw, void *ctx);
static inline struct route_tree_found
route_tree_find(const struct route_tree *tree, struct sl_span path)
{
    return route_tree_look(tree, path, NULL, NULL);
}

/* ---- names of hosts (hosts.c) ---- */

struct route_hosts_slot;
struct route_hosts {
    struct route_hosts_slot *slots;
    unsigned n, room;
    unsigned n_suffixes;
    void *any; /* "*" */
};

/* name: lower case; "*", "*.suffix" or a name.  NULL, or what stands there already. */
void *route_hosts_put(apr_pool_t *pool, struct route_hosts *hosts, struct sl_span name,
                      void *value);
/* Exact, else the longest suffix, else "*", else NULL.  *by: the name, ".suffix" or "*" that it
 * was. */
void *route_hosts_find(const struct route_hosts *hosts, struct sl_span name, struct sl_span *by);

/* ---- paths (path.c) ---- */

enum {
    ROUTE_IN_PATH = 1, /* may stand in a path as it is */
    ROUTE_IN_URL = 2,  /* the delimiters of query and fragment */
};

/* Whether a normalised request path can ever be, or begin with, this one: NULL or a phrase. */
const char *route_path_check(struct sl_cmd *cmd, const char *path);
/* Escapes what `allowed` lacks; the same span where nothing is. */
struct sl_span route_escape(apr_pool_t *pool, struct sl_span s, unsigned allowed);
sl_escape_f route_escape_path, route_escape_url; /* ROUTE_IN_PATH; and ROUTE_IN_URL beside it */
/* For what was decoded as normalised paths are: a '%' is one too, but in "%2F".  Decoding the
 * result once, and never twice, gives the text. */
sl_escape_f route_escape_decoded;
/* Whether the normalised path lies at or below the prefix. */
int route_path_is_below(struct sl_span path, struct sl_span prefix);
/* What is left of the raw path behind a prefix of its normalised form: empty, or it begins
 * with a slash. */
struct sl_span route_path_rest(apr_pool_t *pool, struct sl_span raw, struct sl_span path,
                               struct sl_span prefix);

static inline struct sl_span
route_path_trim(struct sl_span path)
{
    if (path.n > 0 && path.at[path.n - 1] == '/')
        path.n--;
    return path;
}

static inline struct sl_span
route_span_from(struct sl_span s, size_t skip)
{
    return (struct sl_span){s.at + skip, s.n - skip};
}

static inline int
route_begins(struct sl_span s, struct sl_span with)
{
    return s.n >= with.n && memcmp(s.at, with.at, with.n) == 0;
}

/* ---- sites: what a section is to routing (sections.c) ---- */

enum route_site_kind { ROUTE_GLOBAL, ROUTE_HOST, ROUTE_PREFIX, ROUTE_EXACT, ROUTE_PATTERN };

struct route_site {
    struct sl_scope *scope;
    enum route_site_kind kind;
    struct sl_span path; /* PREFIX and EXACT; "/" for GLOBAL and HOST */
    struct sl_pattern *pattern;
    struct route_tree inside;     /* locations in this one, by path */
    apr_array_header_t *patterns; /* of struct route_site *, in file order; NULL: none */
    apr_array_header_t *all;      /* the locations in this one, of struct route_site *; NULL: none */
    unsigned index;               /* in the `all` it is in */
    int has_ifs;
};

/* The module's data: one a generation. */
struct route_map {
    struct route_hosts hosts;
    struct route_site global;
    unsigned n_ifs;     /* in file order */
    int serves_unknown; /* hosts without a VirtualHost are the global scope's */
};

const char *route_open_host(struct sl_cmd *cmd, struct sl_scope *scope);
const char *route_open_location(struct sl_cmd *cmd, struct sl_scope *scope);
const char *route_open_location_match(struct sl_cmd *cmd, struct sl_scope *scope);
const char *route_open_if(struct sl_cmd *cmd, struct sl_scope *scope);

/* The site of a scope; of an If: that of the scope around it. */
struct route_site *route_site(struct route_map *map, const struct sl_scope *scope);
static inline int
route_site_has_inside(const struct route_site *site)
{
    return site->inside.root != NULL || site->patterns != NULL;
}

/* ---- what a look-up saw (explain.c) ---- */

/* How far a location came, by its index: written by the look-up itself, in a dry run. */
enum route_seen { ROUTE_SEEN_NOT, ROUTE_SEEN_PART, ROUTE_SEEN_WHOLE, ROUTE_SEEN_TRIED };
struct route_trace {
    unsigned char *seen; /* NULL: nobody asks */
};

void route_trace_begin(struct route_trace *t, struct sl_req *r, const struct route_site *in);
route_tree_saw_f route_trace_saw;
static inline void
route_trace_tried(struct route_trace *t, const struct route_site *site)
{
    if (t->seen != NULL)
        t->seen[site->index] = ROUTE_SEEN_TRIED;
}
/* Notes each location of `in`: the winner, NULL for none, and why the others lost. */
void route_trace_end(const struct route_trace *t, struct sl_req *r, const struct route_site *in,
                     const struct route_site *winner);

/* ---- directives ---- */

/* ProxyPass and Return are both the last word on who answers: of the two, the one of the
 * higher rank holds, which stands further inside, or in an If. */
struct route_pass {
    const struct sl_target *target;
    unsigned rank;
    const char *place;
    const struct sl_scope *scope;
    int is_exact;          /* stands in <Location = PATH> */
    struct sl_span prefix; /* of the location it stands in, without a trailing slash */
    /* The whole path that is asked for, of what a pattern around captured; NULL: the target's
     * path, if it has one, takes the prefix's place. */
    struct sl_expr *whole;
};

struct route_return {
    int status;
    unsigned rank;
    const char *place;
    const struct sl_scope *scope;
    int is_location; /* the text is where to go */
    struct sl_expr *text; /* NULL: none */
};

/* A Redirect or RedirectMatch line. */
struct redirect {
    const char *place;
    const struct sl_scope *scope;
    int status;
    const char *to_text; /* as written */
    struct sl_span path; /* Redirect */
    struct sl_expr *to;
    struct sl_pattern *pattern; /* RedirectMatch */
    struct sl_template *template;
    int may_name_host; /* TO begins with "//" as written */
};

struct rewrite {
    const char *place;
    const struct sl_scope *scope;
    const char *to_text;       /* as written */
    struct sl_cond *condition; /* if=; NULL: none */
    struct sl_pattern *pattern;
    struct sl_template *to;
    struct sl_template *query; /* behind the '?' of TO; NULL: TO has none */
    int drops_query;           /* TO ends with '?' */
};

struct route_conf {
    struct sl_proxy_conf proxy;
    struct route_pass *pass;
    struct route_return *answer;
    const char *strip; /* StripPrefix; NULL: none */
    apr_array_header_t *rewrites;
    apr_array_header_t *redirects;
    apr_array_header_t *redirect_matches;
    apr_array_header_t *proxy_redirects;
    apr_array_header_t *cookies; /* ProxyCookie */
};

static inline int
route_n(const apr_array_header_t *lines)
{
    return lines != NULL ? lines->nelts : 0;
}

unsigned route_rank(const struct sl_scope *scope);

/* For --lint, once the configuration is whole. */
void route_lint(struct sl_worker *w, struct route_map *map);

/* Parse functions, one a directive. */
sl_parse_f route_parse_pass, route_parse_strip, route_parse_rewrite;
sl_parse_f route_parse_redirect, route_parse_redirect_match, route_parse_return;
sl_parse_f route_parse_proxy_redirect, route_parse_intercept, route_parse_cookie;

/* Sets the upstream path where it differs from the client's own bytes. */
enum sl_verdict route_map_path(struct sl_req *r, const struct route_conf *conf);
/* SL_NEXT: no Redirect or RedirectMatch holds. */
enum sl_verdict route_redirect(struct sl_req *r, const struct route_conf *conf);
enum sl_verdict route_return(struct sl_req *r, const struct route_return *answer);
/* Rewrites Location and Content-Location of the attempt's response. */
void route_map_back(struct sl_attempt *a, const struct route_conf *conf);
/* Rewrites Domain and Path in Set-Cookie by the ProxyCookie lines. */
void route_map_cookies(struct sl_attempt *a, const apr_array_header_t *lines);

#pragma GCC visibility pop

#endif
