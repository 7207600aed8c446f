/* See policy.h. */
#include "policy.h"

#include "structured.h"

#define HEURISTIC_PART 10           /* of the time since Last-Modified (RFC 9111, 4.2.2) */
#define HEURISTIC_MAX (24 * 60 * 60)
#define CLOCK_SLACK 60 /* seconds that a clock is set back without being noticed */

/* ---- requests ---- */

int
policy_may_answer(struct sl_span method, int has_body, int is_for_server)
{
    return (sl_span_eq(method, SL_SPAN("GET")) || sl_span_eq(method, SL_SPAN("HEAD"))) &&
           !has_body && !is_for_server;
}

/* RFC 9110, 9.2.1. */
static int
is_safe(struct sl_span method)
{
    static const struct sl_span safe[] = {{"GET", 3}, {"HEAD", 4}, {"OPTIONS", 7}, {"TRACE", 5}};
    size_t i;

    for (i = 0; i < sizeof safe / sizeof safe[0]; i++)
        if (sl_span_eq(method, safe[i]))
            return 1;
    return 0;
}

int
policy_invalidates(struct sl_span method, int status)
{
    return status >= 200 && status < 400 && !is_safe(method);
}

/* ---- storing ---- */

/* RFC 9110, 15.1, without 206: parts are not stored. */
static int
is_heuristic(int status)
{
    switch (status) {
    case 200: case 203: case 204: case 300: case 301: case 308:
    case 404: case 405: case 410: case 414: case 501:
        return 1;
    default:
        return 0;
    }
}

/* What is asked of a cache that stores them is known, and kept (RFC 9111, 3). */
static int
is_understood(int status)
{
    switch (status) {
    case 302: case 303: case 307:
    case 400: case 402: case 403: case 406: case 408: case 409: case 411: case 412: case 413:
    case 415: case 416: case 417: case 421: case 422: case 425: case 426: case 451:
    case 500: case 502: case 503: case 504: case 505:
        return 1;
    default:
        return is_heuristic(status);
    }
}

/* RFC 6585, 3 to 6: what is wrong with one client is not for others. */
static int
is_of_one_client(int status)
{
    return status == 401 || status == 407 || status == 428 || status == 429 || status == 431 ||
           status == 511;
}

/* If the server says for how long; an error that is not known is one of its class. */
static int
is_storable(int status)
{
    return is_understood(status) ||
           (status >= 400 && status < 600 && !is_of_one_client(status));
}

/* RFC 9111, 4.2.3; of several values in Age the first counts (5.1). */
static int64_t
initial_age(const struct response_facts *f, int64_t date)
{
    struct sl_span ages = f->age, first;
    int64_t apparent = f->received_at - date, age = CC_ABSENT, delay;

    if (ages.n > 0 && sl_list_next(&ages, &first))
        age = delta_seconds(first);
    if (apparent < 0)
        apparent = 0;
    if (age == CC_ABSENT)
        age = 0;
    delay = f->received_at > f->asked_at ? f->received_at - f->asked_at : 0;
    return apparent > age + delay ? apparent : age + delay;
}

/* RFC 9213, 2.2: the targeted field takes the place of Cache-Control and Expires, if it says
 * anything and is a Dictionary (2.1). */
static int
is_targeted(const struct response_facts *f)
{
    return (f->ignore & IGNORE_CACHE_CONTROL) == 0 && f->cdn_cache_control.n > 0 &&
           is_dictionary(f->cdn_cache_control);
}

/* CC_ABSENT: the server says nothing.  A date that does not parse, "0" above all, is in the past
 * (RFC 9111, 5.3).  Expires and Date are of the same clock, right or wrong (4.2.1). */
static int64_t
lifetime_said(const struct response_facts *f, const struct cache_control *cc, int64_t date)
{
    if (cc->s_maxage != CC_ABSENT)
        return cc->s_maxage;
    if (cc->max_age != CC_ABSENT)
        return cc->max_age;
    if (f->expires.at != NULL && (f->ignore & IGNORE_EXPIRES) == 0 && !is_targeted(f)) {
        int64_t expires = http_date(f->expires);

        return expires > date ? expires - date : 0;
    }
    return CC_ABSENT;
}

static int64_t
lifetime_guessed(const struct response_facts *f, int64_t date)
{
    int64_t modified = http_date(f->last_modified), seconds;

    if (!is_heuristic(f->status) || modified == CC_ABSENT || modified > date)
        return CC_ABSENT;
    seconds = (date - modified) / HEURISTIC_PART;
    return seconds < HEURISTIC_MAX ? seconds : HEURISTIC_MAX;
}

static struct cache_control
control_of(const struct response_facts *f)
{
    struct sl_span none = {NULL, 0};
    struct cache_control cc;

    if (f->ignore & IGNORE_CACHE_CONTROL)
        return cache_control_parse(none);
    if (is_targeted(f))
        return cache_control_parse(f->cdn_cache_control);
    cc = cache_control_parse(f->cache_control);
    if (f->cache_control.at == NULL && sl_span_eqi(f->pragma, SL_SPAN("no-cache")))
        cc.flags |= CC_NO_CACHE; /* nobody must, and a server that says so means it */
    return cc;
}

static int
varies_on_all(struct sl_span vary)
{
    struct sl_span one;

    while (sl_list_next(&vary, &one))
        if (sl_span_eq(one, SL_SPAN("*")))
            return 1;
    return 0;
}

/* RFC 9111, 3: NULL, or why not. */
static const char *
refusal(const struct response_facts *f, const struct cache_control *cc)
{
    if (f->request_is_no_store)
        return "the request says no-store";
    if (f->status < 200 || f->status == 206 || f->status == 304)
        return "its status is of a part or an interim answer";
    if (!is_storable(f->status) && f->valid == CC_ABSENT)
        return "its status is not stored";
    if ((cc->flags & (CC_NO_STORE | CC_MUST_UNDERSTAND)) == CC_NO_STORE)
        return "the server says no-store";
    if ((cc->flags & CC_MUST_UNDERSTAND) && !is_understood(f->status)) /* 5.2.2.3 */
        return "the server says must-understand, and its status is not known";
    if (cc->flags & CC_PRIVATE)
        return "the server says private";
    if (f->has_authorization && cc->s_maxage == CC_ABSENT &&
        (cc->flags & (CC_PUBLIC | CC_MUST_REVALIDATE)) == 0)
        return "the request has Authorization, and the server does not say public";
    if (f->has_set_cookie && (f->ignore & IGNORE_SET_COOKIE) == 0)
        return "it sets a cookie";
    if (f->vary.n > 0 && (f->ignore & IGNORE_VARY) == 0 && varies_on_all(f->vary))
        return "it varies on everything";
    return NULL;
}

/* s-maxage forbids stale use, too (RFC 9111, 5.2.2.10), but for what the server says in the same
 * breath. */
static enum strictness
strictness_of(const struct cache_control *cc)
{
    if (cc->flags & (CC_NO_CACHE | CC_MUST_REVALIDATE | CC_PROXY_REVALIDATE))
        return STRICT;
    return cc->s_maxage != CC_ABSENT ? AS_SAID : LENIENT;
}

const char *
policy_store(const struct response_facts *f, struct storing *s)
{
    struct cache_control cc = control_of(f);
    const char *refused = refusal(f, &cc);
    int64_t date = http_date(f->date), lifetime;

    s->date = date;
    if (date == CC_ABSENT || date > f->received_at)
        date = f->received_at;
    s->born = f->received_at - initial_age(f, date);
    if (refused != NULL)
        return refused;
    lifetime = lifetime_said(f, &cc, s->date != CC_ABSENT ? s->date : date);
    if (lifetime == CC_ABSENT)
        lifetime = f->valid;
    if (lifetime == CC_ABSENT)
        lifetime = lifetime_guessed(f, date);
    if (lifetime == CC_ABSENT)
        return "the server does not say how long it is good, and no CacheValid does";
    s->lifetime = lifetime > 0 ? lifetime : 0;
    s->while_revalidate = cc.stale_while_revalidate;
    s->if_error = cc.stale_if_error;
    s->is_always_asked = (cc.flags & CC_NO_CACHE) != 0;
    s->strict = strictness_of(&cc);
    return NULL;
}

/* ---- using ---- */

static int
is_within(int64_t limit, int64_t late)
{
    return limit != CC_ABSENT && late <= limit;
}

/* max-stale (RFC 9111, 5.2.1.2): a client that takes what is stale. */
static int
client_takes_stale(const struct cache_control *cc, int64_t late)
{
    return (cc->flags & CC_MAX_STALE_ANY) != 0 || is_within(cc->max_stale, late);
}

/* What the client wants fresher than the server does: NULL, or why it is to be validated. */
static const char *
client_refuses(const struct use_facts *f, const struct cache_control *cc, int64_t age)
{
    if ((cc->flags & CC_NO_CACHE) ||
        (f->cache_control.at == NULL && sl_span_eqi(f->pragma, SL_SPAN("no-cache"))))
        return "the client says no-cache";
    if (cc->max_age != CC_ABSENT && age > cc->max_age)
        return "it is older than the client wants";
    if (cc->min_fresh != CC_ABSENT && f->stored.lifetime - age < cc->min_fresh)
        return "it is not fresh for as long as the client wants";
    return NULL;
}

struct using
policy_use(const struct use_facts *f)
{
    struct sl_span none = {NULL, 0};
    struct cache_control cc =
        cache_control_parse(f->ignore & IGNORE_REQUEST ? none : f->cache_control);
    const struct storing *s = &f->stored;
    struct using u = {.use = USE_VALIDATE};
    int64_t late;
    const char *refused;

    u.age = f->now > s->born ? f->now - s->born : 0;
    if (s->born > f->now + CLOCK_SLACK) /* the clock was set back: nobody knows how old it is */
        u.age = s->lifetime;
    late = u.age - s->lifetime;
    u.is_stale = late >= 0 || f->is_soft;
    if (f->is_soft && late < 0)
        late = 0;
    u.may_on_error = (s->strict != STRICT && is_within(s->if_error, late)) || /* RFC 5861, 4 */
                     (s->strict == LENIENT && is_within(cc.stale_if_error, late));
    refused = f->ignore & IGNORE_REQUEST ? NULL : client_refuses(f, &cc, u.age);
    if (s->is_always_asked)
        u.reason = "the server says no-cache";
    else if (refused != NULL) {
        u.reason = refused;
        u.is_refused = !u.is_stale;
    } else if (!u.is_stale) {
        u.use = USE_FRESH;
        u.reason = "fresh";
    } else if (s->strict == STRICT)
        u.reason = "stale, and must be validated";
    else if (is_within(s->while_revalidate, late) ||
             (s->strict == LENIENT && f->serves_stale_updating)) {
        u.use = USE_STALE_UPDATE;
        u.reason = f->is_soft ? "purged softly, given while it is updated"
                              : "stale, given while it is updated";
    } else if (s->strict == AS_SAID)
        u.reason = "stale, and must be validated";
    else if (!f->is_soft && client_takes_stale(&cc, late)) {
        u.use = USE_FRESH;
        u.reason = "stale, which the client accepts";
    } else
        u.reason = f->is_soft ? "purged softly" : "stale";
    return u;
}

enum miss
policy_miss(struct sl_span cache_control, unsigned ignore)
{
    unsigned said = cache_control.n > 0 && (ignore & IGNORE_REQUEST) == 0
                        ? cache_control_parse(cache_control).flags : 0;

    if (said & CC_ONLY_IF_CACHED)
        return MISS_ABSENT; /* RFC 9111, 5.2.1.7 */
    return said & CC_NO_STORE ? MISS_PASS : MISS_FETCH;
}

int
policy_is_error(int status)
{
    return status == 500 || status == 502 || status == 503 || status == 504;
}

/* ---- conditions ---- */

static struct sl_span
opaque(struct sl_span etag)
{
    if (etag.n >= 2 && etag.at[0] == 'W' && etag.at[1] == '/')
        return (struct sl_span){etag.at + 2, etag.n - 2};
    return etag;
}

static int
is_weak(struct sl_span etag)
{
    return etag.n >= 2 && etag.at[0] == 'W' && etag.at[1] == '/';
}

int
policy_etag_matches(struct sl_span a, struct sl_span b)
{
    return sl_span_eq(opaque(a), opaque(b));
}

/* Weakly also where the 304's is strong: one stored response was asked about, and servers that
 * compress weaken the tag of what they send, not that of the 304. */
int
policy_agrees(const struct validators *fresh, const struct validators *stored)
{
    if (fresh->etag.n > 0)
        return stored->etag.n == 0 || policy_etag_matches(fresh->etag, stored->etag);
    return fresh->last_modified.n == 0 || stored->last_modified.n == 0 ||
           http_date(fresh->last_modified) == http_date(stored->last_modified);
}

/* The next entity-tag of a list: commas may stand in it (RFC 9110, 8.8.3). */
static int
etag_next(struct sl_span *rest, struct sl_span *etag)
{
    size_t at = 0, begin;

    while (at < rest->n && (rest->at[at] == ',' || rest->at[at] == ' ' || rest->at[at] == '\t'))
        at++;
    begin = at;
    if (at < rest->n && rest->at[at] == 'W')
        at += 2;
    if (at < rest->n && rest->at[at] == '"')
        for (at++; at < rest->n && rest->at[at] != '"'; at++)
            ;
    while (at < rest->n && rest->at[at] != ',')
        at++;
    if (at > rest->n)
        at = rest->n;
    *etag = (struct sl_span){rest->at + begin, at - begin};
    while (etag->n > 0 && (etag->at[etag->n - 1] == ' ' || etag->at[etag->n - 1] == '\t'))
        etag->n--;
    *rest = (struct sl_span){rest->at + at, rest->n - at};
    return etag->n > 0;
}

/* By the weak comparison (RFC 9110, 13.1.2). */
static int
etag_listed(struct sl_span list, struct sl_span etag)
{
    struct sl_span one;

    if (sl_span_eq(list, SL_SPAN("*")))
        return 1;
    while (etag.n > 0 && etag_next(&list, &one))
        if (policy_etag_matches(one, etag))
            return 1;
    return 0;
}

int
policy_not_modified(const struct condition_facts *f)
{
    int64_t since, modified;

    if (f->if_none_match.at != NULL)
        return etag_listed(f->if_none_match, f->etag);
    if (f->if_modified_since.at == NULL)
        return 0;
    since = http_date(f->if_modified_since);
    modified = http_date(f->last_modified);
    if (modified == CC_ABSENT)
        modified = f->date; /* RFC 9111, 4.3.2 */
    return since != CC_ABSENT && modified != CC_ABSENT && modified <= since;
}

int
policy_range_holds(struct sl_span if_range, struct sl_span etag, struct sl_span last_modified,
                   int64_t date)
{
    if (if_range.at == NULL)
        return 1;
    if (if_range.n > 0 && (if_range.at[0] == '"' || is_weak(if_range)))
        return !is_weak(if_range) && sl_span_eq(if_range, etag);
    return last_modified.n > 0 && sl_span_eq(if_range, last_modified) &&
           http_date(last_modified) < date;
}

/* ---- ranges ---- */

/* Digits at *at, which moves on; -1: there is none, or more than any body has. */
static int64_t
number_at(struct sl_span s, size_t *at)
{
    int64_t n = 0;
    size_t begin = *at;

    for (; *at < s.n && s.at[*at] >= '0' && s.at[*at] <= '9'; ++*at) {
        if (n > INT64_MAX / 10 - 1)
            n = INT64_MAX / 10 - 1;
        n = n * 10 + (s.at[*at] - '0');
    }
    return *at > begin ? n : -1;
}

/* "first-last", "first-" or "-suffix": 1; 0: it cannot be satisfied; -1: it is none. */
static int
range_parse(struct sl_span s, int64_t size, struct range *range)
{
    size_t at = 0;
    int64_t first = number_at(s, &at), last;

    if (at >= s.n || s.at[at++] != '-')
        return -1;
    last = number_at(s, &at);
    if (at != s.n || (first < 0 && last < 0) || (first >= 0 && last >= 0 && last < first))
        return -1;
    if (first < 0) {
        first = last < size ? size - last : 0;
        last = last == 0 ? -1 : size - 1;
    } else if (last < 0 || last >= size)
        last = size - 1;
    *range = (struct range){first, last - first + 1};
    return first < size && range->n > 0;
}

/* Many small or overlapping ranges are an attack, not a wish (RFC 9110, 14.2). */
static int
ranges_are_sane(const struct range *ranges, int n, int64_t size)
{
    int64_t sum = 0;
    int i;

    for (i = 0; i < n; i++)
        sum += ranges[i].n;
    return sum <= size;
}

int
policy_ranges(struct sl_span field, int64_t size, struct range *ranges)
{
    struct sl_span one;
    int n = 0, rc, n_asked = 0;

    if (field.n < 6 || !sl_span_eqi((struct sl_span){field.at, 6}, SL_SPAN("bytes=")))
        return 0;
    field = (struct sl_span){field.at + 6, field.n - 6};
    while (sl_list_next(&field, &one)) {
        if (one.n == 0)
            continue;
        if (++n_asked > RANGES_MAX)
            return 0;
        rc = range_parse(one, size, &ranges[n]);
        if (rc < 0)
            return 0;
        n += rc;
    }
    if (n_asked == 0)
        return 0;
    if (n == 0)
        return -1;
    return ranges_are_sane(ranges, n, size) ? n : 0;
}

int
policy_content_range(struct sl_span field, struct content_range *r)
{
    size_t at = 6;

    if (field.n < at || !sl_span_eqi((struct sl_span){field.at, at}, SL_SPAN("bytes ")))
        return -1;
    r->first = number_at(field, &at);
    if (r->first < 0 || at >= field.n || field.at[at++] != '-')
        return -1;
    r->last = number_at(field, &at);
    if (r->last < r->first || at >= field.n || field.at[at++] != '/')
        return -1;
    r->whole = number_at(field, &at);
    return at == field.n && r->last < r->whole ? 0 : -1;
}

struct sl_span
policy_strong_validator(struct sl_span etag, struct sl_span last_modified, int64_t date)
{
    int64_t modified = http_date(last_modified);

    if (etag.n > 0 && !is_weak(etag))
        return etag;
    return modified != CC_ABSENT && modified <= date - 60 ? last_modified
                                                          : (struct sl_span){NULL, 0};
}
