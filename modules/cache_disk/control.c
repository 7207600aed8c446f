/* See control.h. */
#include "control.h"

#include <apr_date.h>
#include <apr_lib.h>

static int
is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Servers write semicolons, too, and what then follows is likely to forbid something. */
static int
ends_member(char c)
{
    return c == ',' || c == ';';
}

/* ---- one member: NAME, NAME=TOKEN or NAME="TEXT" ---- */

static size_t
name_end(struct sl_span s, size_t at)
{
    while (at < s.n && s.at[at] != '=' && !ends_member(s.at[at]) && !is_blank(s.at[at]))
        at++;
    return at;
}

static size_t
token_end(struct sl_span s, size_t at)
{
    while (at < s.n && !ends_member(s.at[at]) && !is_blank(s.at[at]))
        at++;
    return at;
}

/* Behind the closing quote; a text that does not end hides nothing of what follows. */
static size_t
quoted_end(struct sl_span s, size_t begin)
{
    size_t at;

    for (at = begin + 1; at < s.n && s.at[at] != '"'; at++)
        if (s.at[at] == '\\')
            at++;
    return at < s.n ? at + 1 : token_end(s, begin);
}

/* Takes the next member off *rest; 0: there is none. */
static int
member_next(struct sl_span *rest, struct sl_span *name, struct sl_span *value)
{
    struct sl_span s = *rest;
    size_t at = 0, end;

    while (at < s.n && (is_blank(s.at[at]) || ends_member(s.at[at])))
        at++;
    if (at == s.n)
        return 0;
    end = name_end(s, at);
    *name = (struct sl_span){s.at + at, end - at};
    *value = (struct sl_span){NULL, 0};
    if (end < s.n && s.at[end] == '=') {
        at = end + 1;
        end = at < s.n && s.at[at] == '"' ? quoted_end(s, at) : token_end(s, at);
        *value = (struct sl_span){s.at + at, end - at};
        if (value->n >= 2 && value->at[0] == '"' && value->at[value->n - 1] == '"')
            *value = (struct sl_span){value->at + 1, value->n - 2};
    }
    while (end < s.n && !ends_member(s.at[end]))
        end++;
    *rest = (struct sl_span){s.at + end, s.n - end};
    return 1;
}

/* ---- the members that count ---- */

#define NAME(text) {text, sizeof text - 1}
#define TIME(x) offsetof(struct cache_control, x)

static const struct {
    struct sl_span name;
    unsigned flag;
    size_t time; /* TIME, 0: it is none; with a flag, the flag is for one without a value */
} members[] = {
    {NAME("no-store"), CC_NO_STORE, 0},
    {NAME("no-cache"), CC_NO_CACHE, 0},
    {NAME("private"), CC_PRIVATE, 0},
    {NAME("public"), CC_PUBLIC, 0},
    {NAME("must-revalidate"), CC_MUST_REVALIDATE, 0},
    {NAME("proxy-revalidate"), CC_PROXY_REVALIDATE, 0},
    {NAME("no-transform"), CC_NO_TRANSFORM, 0},
    {NAME("only-if-cached"), CC_ONLY_IF_CACHED, 0},
    {NAME("must-understand"), CC_MUST_UNDERSTAND, 0},
    {NAME("immutable"), CC_IMMUTABLE, 0},
    {NAME("max-age"), 0, TIME(max_age)},
    {NAME("s-maxage"), 0, TIME(s_maxage)},
    {NAME("max-stale"), CC_MAX_STALE_ANY, TIME(max_stale)},
    {NAME("min-fresh"), 0, TIME(min_fresh)},
    {NAME("stale-while-revalidate"), 0, TIME(stale_while_revalidate)},
    {NAME("stale-if-error"), 0, TIME(stale_if_error)},
};

int64_t
delta_seconds(struct sl_span text)
{
    int64_t seconds = 0;
    size_t i;

    if (text.n == 0)
        return CC_ABSENT;
    for (i = 0; i < text.n; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return CC_ABSENT;
        seconds = seconds * 10 + (text.at[i] - '0');
        if (seconds > CC_SECONDS_MAX)
            seconds = CC_SECONDS_MAX;
    }
    return seconds;
}

static void
time_take(int64_t *slot, struct sl_span value)
{
    int64_t seconds = delta_seconds(value);

    if (seconds == CC_ABSENT || (*slot != CC_ABSENT && *slot != seconds))
        seconds = 0;
    *slot = seconds;
}

static void
member_take(struct cache_control *cc, struct sl_span name, struct sl_span value)
{
    size_t i;

    for (i = 0; i < sizeof members / sizeof members[0]; i++)
        if (name.n == members[i].name.n && sl_span_eqi(name, members[i].name))
            break;
    if (i == sizeof members / sizeof members[0])
        return;
    if (members[i].time == 0 || (members[i].flag != 0 && value.at == NULL))
        cc->flags |= members[i].flag;
    else
        time_take((int64_t *)(void *)((char *)cc + members[i].time), value);
}

struct cache_control
cache_control_parse(struct sl_span field)
{
    struct cache_control cc = {0, CC_ABSENT, CC_ABSENT, CC_ABSENT, CC_ABSENT, CC_ABSENT, CC_ABSENT};
    struct sl_span name, value;

    while (member_next(&field, &name, &value))
        member_take(&cc, name, value);
    return cc;
}

/* ---- dates ---- */

/* Nothing stands behind the time but the zone, which is GMT (RFC 9110, 5.6.7; RFC 9111, 4.2), or the
 * year of asctime's form: what apr does not look at. */
static int
ends_as_date(struct sl_span s)
{
    const char *colon = memchr(s.at, ':', s.n), *end = s.at + s.n;
    size_t n = colon != NULL ? (size_t)(end - colon) : 0;

    if (n == sizeof ":46:40 2001" - 1)
        return end[-5] == ' ' && memchr(s.at, ',', s.n) == NULL;
    return n == sizeof ":46:40 GMT" - 1 &&
           sl_span_eqi((struct sl_span){end - 4, 4}, SL_SPAN(" GMT"));
}

/* Case does not count (RFC 9111, 4.2), but for apr. */
static void
date_copy(char *to, struct sl_span s)
{
    int is_inside = 0;
    size_t i;

    for (i = 0; i < s.n; i++) {
        to[i] = (char)(is_inside ? apr_tolower(s.at[i]) : apr_toupper(s.at[i]));
        is_inside = apr_isalpha(s.at[i]);
    }
    to[i] = '\0';
}

/* Most dates a thread is asked about are of this second, and so the last one's. */
int64_t
http_date(struct sl_span text)
{
    static _Thread_local struct {
        size_t n;
        int64_t date;
        char text[64];
    } last;
    char copy[sizeof last.text];
    apr_time_t t;

    if (text.n == 0)
        return CC_ABSENT;
    if (text.n == last.n && memcmp(last.text, text.at, text.n) == 0)
        return last.date;
    if (text.n >= sizeof last.text || memchr(text.at, '\0', text.n) != NULL || !ends_as_date(text))
        return CC_ABSENT;
    last.n = text.n;
    memcpy(last.text, text.at, text.n);
    date_copy(copy, text);
    t = apr_date_parse_http(copy);
    last.date = t > 0 ? (int64_t)apr_time_sec(t) : CC_ABSENT;
    return last.date;
}
