/* Under what a response is stored: the URL, or what CacheKey says; and, where it varies, what the
 * request says in the fields it varies by.  And the tags by which it is purged. */
#include "cache.h"
#include "reference.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>

struct sl_span
kept(struct sl_span s)
{
    char *copy = malloc(s.n + 1);

    SL_ASSERT(copy != NULL);
    if (s.n > 0)
        memcpy(copy, s.at, s.n);
    copy[s.n] = '\0';
    return (struct sl_span){copy, s.n};
}

void
kept_free(struct sl_span s)
{
    free((char *)(uintptr_t)s.at);
}

/* ---- what is said of how it was asked ---- */

/* Whether the peer says any of it, and that reaches the server. */
static int
says_how(struct sl_req *r)
{
    return sl_fields_has_any(sl_req_head(r), sl_field_bit(SL_F_X_FORWARDED_PROTO) |
                                                 sl_field_bit(SL_F_X_FORWARDED_HOST) |
                                                 sl_field_bit(SL_F_FORWARDED)) &&
           sl_req_passes_forwarded(r);
}

/* In all lines of the name; at NULL: nothing. */
static struct sl_span
said(struct sl_req *r, enum sl_field_id id)
{
    return sl_fields_joined_id(sl_req_head(r), id);
}

/* Of X-Forwarded-Proto; n 0: it is none, and must not become the beginning of a URL. */
static struct sl_span
scheme_said(struct sl_span proto)
{
    if (sl_span_eqi(proto, SL_SPAN("https")))
        return SL_SPAN("https");
    return sl_span_eqi(proto, SL_SPAN("http")) ? SL_SPAN("http") : SL_SPAN("");
}

struct sl_span
cache_scheme(struct sl_req *r)
{
    struct sl_span scheme = {NULL, 0};

    if (says_how(r))
        scheme = scheme_said(said(r, SL_F_X_FORWARDED_PROTO));
    return scheme.n > 0 ? scheme : sl_req_scheme(r);
}

/* Behind the pair that begins here: a semicolon, a comma, or the end (RFC 7239, 4). */
static size_t
pair_end(struct sl_span field, size_t at)
{
    int is_quoted = 0;

    for (; at < field.n && (is_quoted || (field.at[at] != ';' && field.at[at] != ',')); at++)
        if (field.at[at] == '"')
            is_quoted = !is_quoted;
        else if (field.at[at] == '\\' && is_quoted)
            at++;
    return at < field.n ? at : field.n;
}

static int
says_who(struct sl_span pair)
{
    const char *end = pair.n > 0 ? memchr(pair.at, '=', pair.n) : NULL;
    struct sl_span name = {pair.at, end != NULL ? (size_t)(end - pair.at) : 0};

    return sl_span_eqi(name, SL_SPAN("for")) || sl_span_eqi(name, SL_SPAN("by"));
}

/* Forwarded without for= and by=, which differ from client to client. */
static struct sl_span
forwarded_how(apr_pool_t *pool, struct sl_span field)
{
    char *to = apr_palloc(pool, field.n + 1);
    size_t at, end, n = 0;

    for (at = 0; at < field.n; at = end + 1) {
        while (at < field.n && field.at[at] == ' ')
            at++;
        end = pair_end(field, at);
        if (!says_who((struct sl_span){field.at + at, end - at})) {
            memcpy(to + n, field.at + at, end - at);
            n += end - at;
        }
        to[n++] = end < field.n ? field.at[end] : ';';
    }
    while (n > 0 && (to[n - 1] == ';' || to[n - 1] == ','))
        n--;
    return (struct sl_span){to, n};
}

/* No field's name begins with a slash: it is no variant's key. */
struct sl_span
cache_key_beside(struct sl_req *r)
{
    struct sl_span proto, host, forwarded, parts[6];
    unsigned n = 0;

    if (!says_how(r))
        return SL_SPAN("");
    proto = said(r, SL_F_X_FORWARDED_PROTO);
    host = said(r, SL_F_X_FORWARDED_HOST);
    forwarded = said(r, SL_F_FORWARDED);
    if (proto.at != NULL && scheme_said(proto).n == 0) {
        parts[n++] = SL_SPAN("\n//proto:");
        parts[n++] = proto;
    }
    if (host.at != NULL && !sl_span_eqi(host, sl_req_authority(r))) {
        parts[n++] = SL_SPAN("\n//host:");
        parts[n++] = host;
    }
    if (forwarded.n > 0)
        forwarded = forwarded_how(sl_req_pool(r), forwarded);
    if (forwarded.n > 0) {
        parts[n++] = SL_SPAN("\n//forwarded:");
        parts[n++] = forwarded;
    }
    return n > 0 ? sl_spans_join(sl_req_pool(r), parts, n) : SL_SPAN("");
}

/* ---- keys ---- */

/* What stands behind the host as the client named it: a colon and the port, if anything. */
static struct sl_span
port_of(struct sl_req *r)
{
    struct sl_span authority = sl_req_authority(r);
    size_t n = sl_req_host(r).n;

    return authority.n > n ? (struct sl_span){authority.at + n, authority.n - n} : SL_SPAN("");
}

static struct sl_span
path_and_query(const struct sl_req *r)
{
    struct sl_span path = sl_req_target_path(r), query = sl_req_query(r);

    if (query.at != NULL)
        path.n = (size_t)(query.at + query.n - path.at);
    return path;
}

/* scheme://host/path?query, the host in lower case and with its port as it came. */
static struct sl_span
url_of(struct sl_req *r)
{
    int is_told = says_how(r);
    struct sl_span parts[] = {is_told ? cache_scheme(r) : sl_req_scheme(r), SL_SPAN("://"),
                              sl_req_host(r), port_of(r), path_and_query(r),
                              is_told ? cache_key_beside(r) : SL_SPAN("")};

    return sl_spans_join(sl_req_pool(r), parts, sizeof parts / sizeof parts[0]);
}

/* Line feeds belong to variant_key(): with one of its own, as a decoded path may have it, a key
 * would be that of another's variant.  It is written as in a URL. */
static struct sl_span
without_feeds(apr_pool_t *pool, struct sl_span key)
{
    char *to;
    size_t i, n = 0;

    if (key.n == 0 || memchr(key.at, '\n', key.n) == NULL)
        return key;
    to = apr_palloc(pool, 3 * key.n);
    for (i = 0; i < key.n; i++)
        if (key.at[i] == '\n') {
            memcpy(to + n, "%0A", 3);
            n += 3;
        } else
            to[n++] = key.at[i];
    return (struct sl_span){to, n};
}

int
cache_names_fields(struct sl_req *r)
{
    struct sl_span options = sl_fields_joined_id(sl_req_head(r), SL_F_CONNECTION);

    return options.n > 0 && !sl_span_eqi(options, SL_SPAN("keep-alive")) &&
           !sl_span_eqi(options, SL_SPAN("close"));
}

struct sl_span
cache_key(struct sl_req *r, const struct cache_conf *conf)
{
    return conf->key != NULL ? without_feeds(sl_req_pool(r), sl_expr_text(conf->key, r))
                             : url_of(r);
}

struct sl_span
cache_key_of_url(apr_pool_t *pool, struct sl_span url)
{
    char *copy = sl_span_dup(pool, url), *begin = strstr(copy, "://"), *end, *at;

    if (begin == NULL)
        return (struct sl_span){copy, url.n};
    end = begin + 3 + strcspn(begin + 3, "/?");
    for (at = copy; at < end; at++)
        *at = (char)apr_tolower(*at);
    if (*at == '\0')
        return sl_span(apr_pstrcat(pool, copy, "/", NULL));
    return (struct sl_span){copy, url.n};
}

struct sl_span
cache_key_of_reference(struct sl_req *r, struct sl_span reference)
{
    struct reference_base base = {cache_scheme(r), sl_req_host(r), port_of(r),
                                  sl_req_target_path(r)};
    struct sl_span url = reference_resolve(sl_req_pool(r), &base, reference);

    return url.at != NULL
               ? sl_spans_join(sl_req_pool(r), (struct sl_span[]){url, cache_key_beside(r)}, 2)
               : url;
}

/* ---- variants ---- */

static const struct sl_span known[] = {{"br", 2}, {"gzip", 4}, {"zstd", 4}, {"deflate", 7}};
#define N_KNOWN (sizeof known / sizeof known[0])

static int
is_known(struct sl_span member)
{
    static const struct sl_span others[] = {{"x-gzip", 6}, {"identity", 8}, {"*", 1}};
    const char *end = member.n > 0 ? memchr(member.at, ';', member.n) : NULL;
    size_t i;

    if (end != NULL)
        member.n = (size_t)(end - member.at);
    while (member.n > 0 && (member.at[member.n - 1] == ' ' || member.at[member.n - 1] == '\t'))
        member.n--;
    for (i = 0; i < N_KNOWN; i++)
        if (sl_span_eqi(member, known[i]))
            return 1;
    for (i = 0; i < sizeof others / sizeof others[0]; i++)
        if (sl_span_eqi(member, others[i]))
            return 1;
    return member.n == 0;
}

/* Whether a server may make more of it than which codings of ours are taken: another one, or that
 * an answer without any is refused. */
static int
says_more(struct sl_span field)
{
    struct sl_span rest = field, member;

    while (sl_list_next(&rest, &member))
        if (!is_known(member))
            return 1;
    return field.n > 0 && sl_encoding_quality(field, SL_SPAN("identity")) == 0;
}

/* Codings servers know, in one order and without weights: what browsers write in many ways. */
static struct sl_span
accept_encoding(apr_pool_t *pool, struct sl_fields *fields)
{
    struct sl_span field = sl_fields_joined_id(fields, SL_F_ACCEPT_ENCODING);
    struct sl_span parts[2 * N_KNOWN];
    unsigned i, n = 0;

    if (field.at == NULL || says_more(field))
        return field; /* absent, any coding is taken (RFC 9110, 12.5.3) */
    for (i = 0; i < N_KNOWN; i++)
        if (sl_encoding_quality(field, known[i]) > 0) {
            parts[n++] = known[i];
            parts[n++] = SL_SPAN(",");
        }
    return n > 0 ? sl_spans_join(pool, parts, n) : SL_SPAN("");
}

/* What the server is told beside what the client says: it may be what the answer differs by. */
static struct sl_span
own_part(struct sl_req *r, struct sl_span name)
{
    switch (sl_field_id(name)) {
    case SL_F_X_FORWARDED_FOR:
    case SL_F_X_REAL_IP:
    case SL_F_FORWARDED:
        return sl_req_client_text(r);
    case SL_F_X_FORWARDED_PROTO:
        return sl_req_scheme(r);
    case SL_F_X_FORWARDED_HOST:
        return sl_req_authority(r);
    default:
        return (struct sl_span){NULL, 0};
    }
}

static void
part_add(apr_array_header_t *parts, struct sl_span part)
{
    APR_ARRAY_PUSH(parts, struct sl_span) = part;
}

/* r: whose fields they are, or NULL. */
static struct sl_span
variant_join(apr_pool_t *pool, struct sl_fields *fields, struct sl_req *r, struct sl_span key,
             struct sl_span vary)
{
    apr_array_header_t *parts = apr_array_make(pool, 16, sizeof(struct sl_span));
    struct sl_span name, value;

    part_add(parts, key);
    while (sl_list_next(&vary, &name)) {
        value = sl_span_eqi(name, SL_SPAN("Accept-Encoding"))
                    ? accept_encoding(pool, fields)
                    : sl_fields_joined(fields, sl_span_dup(pool, name));
        /* No field has a line feed: nothing a client sends runs into the next value. */
        part_add(parts, SL_SPAN("\n"));
        part_add(parts, name);
        part_add(parts, SL_SPAN(":"));
        if (r != NULL)
            part_add(parts, own_part(r, name));
        part_add(parts, value);
        if (value.at == NULL)
            part_add(parts, SL_SPAN("\n"));
    }
    return sl_spans_join(pool, (struct sl_span *)(void *)parts->elts, (unsigned)parts->nelts);
}

struct sl_span
variant_key(struct sl_req *r, struct sl_span key, struct sl_span vary)
{
    return variant_join(sl_req_pool(r), sl_req_head(r), r, key, vary);
}

struct sl_span
variant_key_of(apr_pool_t *pool, struct sl_fields *fields, struct sl_span key, struct sl_span vary)
{
    return variant_join(pool, fields, NULL, key, vary);
}

/* ---- slices ---- */

/* No field's name begins with a slash: it is not that of a variant.  Not in the request's pool: a
 * long answer makes as many as it has slices. */
struct sl_span
slice_key(struct sl_span key, uint64_t slices, int64_t i)
{
    char end[48], *at;
    int n = apr_snprintf(end, sizeof end, "\n/%lx/%ld", (unsigned long)slices, (long)i);

    at = malloc(key.n + (size_t)n + 1);
    SL_ASSERT(at != NULL);
    memcpy(at, key.at, key.n);
    memcpy(at + key.n, end, (size_t)n + 1);
    return (struct sl_span){at, key.n + (size_t)n};
}

/* ---- tags ---- */

#define N_OWN_TAGS 2

static void
tags_of_field(struct store_new *to, struct sl_span field, uint64_t *tags)
{
    size_t at = 0, begin;

    while (at < field.n && to->n_tags <= STORE_TAGS_MAX) {
        while (at < field.n && (field.at[at] == ' ' || field.at[at] == ','))
            at++;
        for (begin = at; at < field.n && field.at[at] != ' ' && field.at[at] != ','; at++)
            ;
        if (at > begin && to->n_tags++ < STORE_TAGS_MAX)
            tags[to->n_tags - 1] =
                store_tag(cache_store, (struct sl_span){field.at + begin, at - begin});
    }
}

static const struct sl_span tag_fields[] = {{"Surrogate-Key", 13}, {"Cache-Tag", 9}, {"xkey", 4}};
#define N_TAG_FIELDS (sizeof tag_fields / sizeof tag_fields[0])

int
is_tag_name(struct sl_span name)
{
    size_t i;

    for (i = 0; i < N_TAG_FIELDS; i++)
        if (name.n == tag_fields[i].n && sl_span_eqi(name, tag_fields[i]))
            return 1;
    return 0;
}

static int
has_tag_fields(const struct sl_fields *fields)
{
    struct sl_field_lines lines = sl_fields_lines(fields);
    const struct sl_field *x, *end = lines.at + lines.n;

    for (x = lines.at; x < end; x++)
        if (is_tag_field(x))
            return 1;
    return 0;
}

void
tag_fields_drop(struct sl_fields *fields)
{
    size_t k;

    if (has_tag_fields(fields))
        for (k = 0; k < N_TAG_FIELDS; k++)
            sl_fields_unset(fields, tag_fields[k].at);
}

/* A purge of a URL takes all that is stored for it, in whatever way it was asked for. */
static uint64_t
url_tag(struct sl_span key, struct store_hash hash)
{
    const char *end = key.n > 0 ? memchr(key.at, '\n', key.n) : NULL;

    if (end != NULL)
        hash = store_hash(cache_store, (struct sl_span){key.at, (size_t)(end - key.at)});
    return store_key_tag(hash);
}

void
cache_tags(struct store_new *n, struct sl_req *r, struct sl_span key, struct store_hash hash)
{
    int has_more = has_tag_fields(sl_req_response(r));
    size_t room = has_more ? STORE_TAGS_MAX : N_OWN_TAGS;
    uint64_t *tags = apr_palloc(sl_req_pool(r), room * sizeof *tags);
    const struct sl_field *x;
    unsigned i;

    tags[0] = url_tag(key, hash);
    tags[1] = store_host_tag(cache_store, sl_req_host(r));
    n->tags = tags;
    n->n_tags = N_OWN_TAGS;
    for (i = 0; has_more && (x = sl_fields_at(sl_req_response(r), i)) != NULL; i++)
        if (is_tag_field(x))
            tags_of_field(n, x->value, tags);
}
