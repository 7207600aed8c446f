/* A format is a list of parts, each with a function that writes it straight into the log's
 * buffer.  Text formats take httpd's letters and variables; JSON ones write an object whose
 * numbers are numbers and whose absent values are null. */
#include "format.h"

#include <apr_strings.h>

#include <ctype.h>
#include <stdio.h>
#include <time.h>

struct part;
typedef char *put_f(const struct part *p, struct sl_req *r, char *to, char *end);

struct part {
    put_f *put;
    struct sl_span text; /* a literal, or a name */
    struct sl_expr *expr;
    int is_number;
};

struct format {
    int is_json;
    unsigned n;
    struct part *at;
};

/* ---- pieces ---- */

static char *
put_bytes(char *to, char *end, struct sl_span s)
{
    size_t n = s.n < (size_t)(end - to) ? s.n : (size_t)(end - to);

    if (n > 0)
        memcpy(to, s.at, n);
    return to + n;
}

static char *
put_number(char *to, char *end, int64_t n)
{
    char digits[24], *p = digits + sizeof digits;
    uint64_t u = n < 0 ? (uint64_t)-n : (uint64_t)n;

    do
        *--p = (char)('0' + u % 10);
    while ((u /= 10) > 0);
    if (n < 0)
        *--p = '-';
    return put_bytes(to, end, (struct sl_span){p, (size_t)(digits + sizeof digits - p)});
}

static char *
put_or_dash(char *to, char *end, struct sl_span s)
{
    return s.n == 0 ? put_bytes(to, end, SL_SPAN("-")) : put_escaped(to, end, s);
}

#define PART(name)                                                                           \
    static char *name(const struct part *p, struct sl_req *r, char *to, char *end)

PART(literal)
{
    (void)r;
    return put_bytes(to, end, p->text);
}

PART(client)
{
    (void)p;
    return put_or_dash(to, end, sl_req_client_text(r));
}

PART(dash)
{
    (void)p;
    (void)r;
    return put_bytes(to, end, SL_SPAN("-"));
}

/* Who asked, where a module found out and said so. */
PART(user)
{
    (void)p;
    return put_or_dash(to, end, sl_var_get(r, "user"));
}

/* "[24/Nov/2026:05:51:30 +0000]", made once a second and thread. */
PART(clf_time)
{
    static _Thread_local struct {
        time_t at;
        char text[40];
        size_t n;
    } last;
    time_t t = (time_t)(sl_req_started_us(r) / 1000000);
    struct tm tm;

    (void)p;
    if (t != last.at) {
        gmtime_r(&t, &tm);
        last.n = strftime(last.text, sizeof last.text, "[%d/%b/%Y:%H:%M:%S +0000]", &tm);
        last.at = t;
    }
    return put_bytes(to, end, (struct sl_span){last.text, last.n});
}

static struct sl_span
protocol_text(struct sl_req *r)
{
    return sl_req_version(r) == 10 ? SL_SPAN("HTTP/1.0")
                                   : sl_req_version(r) == 20 ? SL_SPAN("HTTP/2")
                                                             : SL_SPAN("HTTP/1.1");
}

PART(method)
{
    (void)p;
    return put_or_dash(to, end, sl_req_method(r));
}

PART(path)
{
    (void)p;
    return put_or_dash(to, end, sl_req_target_path(r));
}

PART(query)
{
    struct sl_span q = sl_req_query(r);

    (void)p;
    if (q.at == NULL)
        return to;
    to = put_bytes(to, end, SL_SPAN("?"));
    return put_escaped(to, end, q);
}

PART(protocol)
{
    (void)p;
    return put_bytes(to, end, protocol_text(r));
}

PART(request_line)
{
    to = method(p, r, to, end);
    to = put_bytes(to, end, SL_SPAN(" "));
    to = path(p, r, to, end);
    to = query(p, r, to, end);
    to = put_bytes(to, end, SL_SPAN(" "));
    return protocol(p, r, to, end);
}

PART(status)
{
    (void)p;
    return put_number(to, end, sl_req_status(r));
}

PART(bytes)
{
    (void)p;
    return put_number(to, end, sl_req_bytes_sent(r));
}

PART(bytes_or_dash)
{
    return sl_req_bytes_sent(r) > 0 ? bytes(p, r, to, end) : dash(p, r, to, end);
}

PART(elapsed_us)
{
    (void)p;
    return put_number(to, end, sl_req_elapsed_us(r));
}

PART(elapsed_s)
{
    (void)p;
    return put_number(to, end, sl_req_elapsed_us(r) / 1000000);
}

PART(host)
{
    (void)p;
    return put_or_dash(to, end, sl_req_host(r));
}

PART(request_field)
{
    return put_or_dash(to, end, sl_fields_get(sl_req_head(r), p->text.at));
}

PART(response_field)
{
    return put_or_dash(to, end, sl_fields_get(sl_req_response(r), p->text.at));
}

PART(value)
{
    return put_or_dash(to, end, sl_expr_text(p->expr, r));
}

/* ---- text formats ---- */

static const struct {
    char letter;
    put_f *put;
} letters[] = {{'h', client},    {'a', client},       {'l', dash},          {'u', user},
               {'t', clf_time},  {'r', request_line}, {'s', status},        {'b', bytes_or_dash},
               {'B', bytes},     {'O', bytes},        {'D', elapsed_us},    {'T', elapsed_s},
               {'U', path},      {'q', query},        {'m', method},        {'H', protocol},
               {'v', host},      {'V', host}};

static void
push(apr_array_header_t *parts, struct part p)
{
    APR_ARRAY_PUSH(parts, struct part) = p;
}

/* %{NAME}i, %{NAME}o or %{variable}. */
static const char *
take_braces(apr_pool_t *pool, apr_array_header_t *parts, const char **text)
{
    const char *close = strchr(*text, '}'), *err = NULL, *name;
    struct part p = {.put = value};

    if (close == NULL)
        return "expected \"}\" behind \"%{\"";
    name = apr_pstrmemdup(pool, *text + 2, (size_t)(close - *text - 2));
    if (close[1] == 'i' || close[1] == 'o') {
        p.put = close[1] == 'i' ? request_field : response_field;
        p.text = sl_span(name);
        *text = close + 2;
    } else {
        p.expr = sl_expr_compile(pool, apr_psprintf(pool, "%%{%s}", name), SL_PHASE_LOG, &err);
        *text = close + 1;
    }
    push(parts, p);
    return err;
}

static const char *
take_letter(apr_pool_t *pool, apr_array_header_t *parts, const char **text)
{
    const char *at = *text + 1;
    size_t i;

    if (*at == '%') {
        push(parts, (struct part){.put = literal, .text = {at, 1}});
        *text = at + 1;
        return NULL;
    }
    if (*at == '>')
        at++;
    for (i = 0; i < sizeof letters / sizeof letters[0]; i++)
        if (letters[i].letter == *at) {
            push(parts, (struct part){.put = letters[i].put});
            *text = at + 1;
            return NULL;
        }
    return apr_psprintf(pool, "expected one of %%h %%t %%r %%s %%b %%{variable} and the like, "
                        "found \"%%%c\"", *at != '\0' ? *at : ' ');
}

static struct format *
format_of(apr_pool_t *pool, const apr_array_header_t *parts, int is_json)
{
    struct format *f = apr_pcalloc(pool, sizeof *f);

    f->is_json = is_json;
    f->n = (unsigned)parts->nelts;
    f->at = (struct part *)(void *)parts->elts;
    return f;
}

struct format *
format_text(apr_pool_t *pool, const char *text, const char **err)
{
    apr_array_header_t *parts = apr_array_make(pool, 8, sizeof(struct part));

    *err = NULL;
    text = apr_pstrdup(pool, text);
    while (*text != '\0' && *err == NULL) {
        size_t n = strcspn(text, "%");

        if (n > 0)
            push(parts, (struct part){.put = literal, .text = {text, n}});
        text += n;
        if (text[0] == '%')
            *err = text[1] == '{' ? take_braces(pool, parts, &text)
                                  : take_letter(pool, parts, &text);
    }
    return *err == NULL ? format_of(pool, parts, 0) : NULL;
}

/* ---- JSON ---- */

static int
looks_like_number(struct sl_span s)
{
    size_t i, n_dots = 0;

    if (s.n == 0 || s.n > 18 || (s.n > 1 && s.at[0] == '0' && s.at[1] != '.'))
        return 0;
    for (i = 0; i < s.n; i++) {
        if (s.at[i] == '.' && i > 0 && i + 1 < s.n && n_dots++ == 0)
            continue;
        if (!isdigit((unsigned char)s.at[i]))
            return 0;
    }
    return 1;
}

PART(json_value)
{
    struct sl_span s = sl_expr_text(p->expr, r);

    if (s.at == NULL)
        return put_bytes(to, end, SL_SPAN("null"));
    if (p->is_number && looks_like_number(s))
        return put_bytes(to, end, s);
    return sl_json_string(to, end, s);
}

static int
is_number(const struct sl_expr *e)
{
    struct sl_span literal_part, arg;
    const struct sl_variable *v = NULL, *more = NULL;

    return sl_expr_part(e, 0, &literal_part, &v, &arg) && v != NULL &&
           (v->type == SL_TYPE_NUMBER ||
            (v->type == SL_TYPE_TIME && strstr(v->name, "_time") != NULL)) &&
           !sl_expr_part(e, 1, &literal_part, &more, &arg);
}

/* The letters of text formats would be members' text. */
static const char *
json_value_check(apr_pool_t *pool, const char *text)
{
    size_t n = strlen(text);

    if (n == 2 && text[0] == '%' && isalpha((unsigned char)text[1]))
        return apr_psprintf(pool, "expected a value such as %%{bytes_sent}, found \"%s\": the "
                            "letters are for text formats", text);
    if (n > 4 && text[0] == '%' && text[1] == '{' && text[n - 2] == '}' &&
        (text[n - 1] == 'i' || text[n - 1] == 'o') && strchr(text + 1, '%') == NULL)
        return apr_psprintf(pool, "expected %%{%s:%.*s}, found \"%s\": the letters are for text "
                            "formats", text[n - 1] == 'i' ? "req" : "resp", (int)(n - 4), text + 2,
                            text);
    return NULL;
}

struct format *
format_json(apr_pool_t *pool, char *const *pairs, int n, int *bad, const char **err)
{
    apr_array_header_t *parts = apr_array_make(pool, 8, sizeof(struct part));
    int i;

    *err = NULL;
    for (i = 0; i < n; i++) {
        const char *eq = strchr(pairs[i], '=');
        char *name, *end;
        struct part p = {.put = json_value};

        *bad = i;
        if (eq == NULL || eq == pairs[i]) {
            *err = "expected MEMBER=VALUE";
            return NULL;
        }
        if ((*err = json_value_check(pool, eq + 1)) != NULL)
            return NULL;
        p.expr = sl_expr_compile(pool, eq + 1, SL_PHASE_LOG, err);
        if (p.expr == NULL)
            return NULL;
        name = apr_palloc(pool, (size_t)(eq - pairs[i]) * 6 + 16);
        end = sl_json_string(name, name + (size_t)(eq - pairs[i]) * 6 + 16,
                              (struct sl_span){pairs[i], (size_t)(eq - pairs[i])});
        p.text = (struct sl_span){name, (size_t)(end - name)};
        p.is_number = is_number(p.expr);
        push(parts, p);
    }
    return format_of(pool, parts, 1);
}

struct format *
format_builtin(apr_pool_t *pool, const char *name)
{
    static const char *const json[] = {
        "time=%{time}", "request_id=%{request_id}", "client=%{remote_addr}", "method=%{method}",
        "host=%{host}", "uri=%{uri}", "protocol=%{protocol}", "status=%{status}",
        "bytes=%{bytes_sent}", "request_time=%{request_time}", "upstream=%{upstream_addr}",
        "upstream_time=%{upstream_time}", "cause=%{cause}", "referer=%{req:Referer}",
        "user_agent=%{req:User-Agent}"};
    const char *err;
    int bad;

    if (strcmp(name, "common") == 0)
        return format_text(pool, "%h %l %u %t \"%r\" %>s %b", &err);
    if (strcmp(name, "combined") == 0)
        return format_text(pool, "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\"",
                           &err);
    if (strcmp(name, "json") == 0)
        return format_json(pool, (char *const *)(uintptr_t)json, sizeof json / sizeof json[0],
                           &bad, &err);
    return NULL;
}

/* A member that no longer fits is left out whole, so that the object stays valid. */
static char *
json_line(const struct format *f, struct sl_req *r, char *to, char *end)
{
    unsigned i;
    int n_written = 0;

    *to++ = '{';
    for (i = 0; i < f->n; i++) {
        char *begin = to, *limit = end - 4;

        if (limit - to < (ptrdiff_t)f->at[i].text.n + 32)
            break;
        if (n_written > 0)
            *to++ = ',';
        to = put_bytes(to, limit, f->at[i].text);
        *to++ = ':';
        to = f->at[i].put(&f->at[i], r, to, limit);
        if (to > limit - 8) {
            to = begin;
            break;
        }
        n_written++;
    }
    *to++ = '}';
    return to;
}

char *
format_line(const struct format *f, struct sl_req *r, char *to)
{
    char *end = to + LINE_MAX_BYTES - 2;
    unsigned i;

    if (f->is_json)
        to = json_line(f, r, to, end);
    else
        for (i = 0; i < f->n; i++)
            to = f->at[i].put(&f->at[i], r, to, end);
    *to++ = '\n';
    return to;
}
