/* CookieFlags: attributes that passing cookies lack (RFC 6265, 4.1.2; RFC 6265bis for SameSite).
 * What a server has said itself stays. */
#include "headers.h"

enum same_site { SAME_SITE_LEAVE, SAME_SITE_LAX, SAME_SITE_STRICT, SAME_SITE_NONE };
static const char *const same_site_words[] = {"leave", "lax", "strict", "none", NULL};
static const char *const same_site_values[] = {"", "; SameSite=Lax", "; SameSite=Strict",
                                               "; SameSite=None"};

struct cookie_flags {
    int secure, httponly;
    int same_site;
    const char *only, *except; /* names with commas between; NULL: not said */
};

static const struct sl_option cookie_options[] = {
    {"secure", SL_SLOT_FLAG, offsetof(struct cookie_flags, secure), "off", NULL,
     "sent over TLS alone"},
    {"httponly", SL_SLOT_FLAG, offsetof(struct cookie_flags, httponly), "off", NULL,
     "hidden from scripts"},
    {"samesite", SL_SLOT_ENUM, offsetof(struct cookie_flags, same_site), "leave", same_site_words,
     "sent with requests of other sites' pages: lax, strict or none"},
    {"only", SL_SLOT_STRING, offsetof(struct cookie_flags, only), NULL, NULL,
     "cookies of these names"},
    {"except", SL_SLOT_STRING, offsetof(struct cookie_flags, except), NULL, NULL, "all but these"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

const char *
cookie_flags_parse(struct sl_cmd *cmd, void **item)
{
    struct cookie_flags *flags = apr_pcalloc(sl_cmd_pool(cmd), sizeof *flags);
    const char *err = sl_cmd_options(cmd, 0, cookie_options, flags);

    *item = flags;
    if (err != NULL)
        return err;
    if (!flags->secure && !flags->httponly && flags->same_site == SAME_SITE_LEAVE)
        return "expected secure, httponly or samesite=";
    if (flags->same_site == SAME_SITE_NONE && !flags->secure) {
        sl_cmd_cure(cmd, "CookieFlags secure samesite=none");
        return "expected secure beside samesite=none: browsers drop such cookies without it";
    }
    return NULL;
}

static struct sl_span
trimmed(struct sl_span s)
{
    while (s.n > 0 && (*s.at == ' ' || *s.at == '\t')) {
        s.at++;
        s.n--;
    }
    while (s.n > 0 && (s.at[s.n - 1] == ' ' || s.at[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* What stands before the next `mark`, which is stepped over; all when there is none. */
static struct sl_span
cut(struct sl_span *rest, char mark)
{
    const char *end = memchr(rest->at, mark, rest->n);
    size_t n = end != NULL ? (size_t)(end - rest->at) : rest->n;
    struct sl_span piece = {rest->at, n};

    rest->at += n + (end != NULL);
    rest->n -= n + (end != NULL);
    return trimmed(piece);
}

static int
has_attribute(struct sl_span cookie, struct sl_span name)
{
    struct sl_span attribute;

    cut(&cookie, ';'); /* name and value of the cookie itself */
    while (cookie.n > 0) {
        attribute = cut(&cookie, ';');
        if (sl_span_eqi(cut(&attribute, '='), name))
            return 1;
    }
    return 0;
}

static int
is_named(const char *names, struct sl_span name)
{
    struct sl_span rest = sl_span(names), one;

    while (sl_list_next(&rest, &one))
        if (sl_span_eq(one, name))
            return 1;
    return 0;
}

static int
is_meant(const struct cookie_flags *flags, struct sl_span cookie)
{
    struct sl_span name = cut(&cookie, '=');

    if (flags->only != NULL && !is_named(flags->only, name))
        return 0;
    return flags->except == NULL || !is_named(flags->except, name);
}

static struct sl_span
flagged(apr_pool_t *pool, const struct cookie_flags *flags, struct sl_span cookie)
{
    struct sl_span parts[4];
    unsigned n = 0;

    parts[n++] = cookie;
    if (flags->secure && !has_attribute(cookie, SL_SPAN("Secure")))
        parts[n++] = SL_SPAN("; Secure");
    if (flags->httponly && !has_attribute(cookie, SL_SPAN("HttpOnly")))
        parts[n++] = SL_SPAN("; HttpOnly");
    if (flags->same_site != SAME_SITE_LEAVE && !has_attribute(cookie, SL_SPAN("SameSite")))
        parts[n++] = sl_span(same_site_values[flags->same_site]);
    return n > 1 ? sl_spans_join(pool, parts, n) : cookie;
}

static void
line_apply(struct sl_req *r, const struct cookie_flags *flags)
{
    struct sl_fields *f = sl_req_response(r);
    const struct sl_field *x;
    struct sl_span value;
    unsigned i;

    for (i = 0; (x = sl_fields_at(f, i)) != NULL; i++) {
        if (x->id != SL_F_SET_COOKIE || !is_meant(flags, x->value))
            continue;
        value = flagged(sl_req_pool(r), flags, x->value);
        if (value.at != x->value.at)
            sl_fields_put(f, i, value);
    }
}

void
cookie_flags_apply(struct sl_req *r, const apr_array_header_t *lines)
{
    int i;

    if (!sl_fields_has_id(sl_req_response(r), SL_F_SET_COOKIE))
        return;
    for (i = 0; i < lines->nelts; i++)
        line_apply(r, APR_ARRAY_IDX(lines, i, struct cookie_flags *));
    sl_note(r, "CookieFlags");
}
