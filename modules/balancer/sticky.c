/* Clients that stay with a server: by a cookie of ours (cookie=NAME), or by a route that the
 * server's application has put into a value of the request (route=EXPR): the server's name, alone
 * or behind the last '.' (JSESSIONID=24a8.web1).
 *
 * The cookie's value is a hash of the server's name, so it tells nothing and stays the same
 * through reloads.  A server that drains keeps its clients; one that is down, rests, is full or
 * disabled gives them to another, for good: the cookie is set anew. */

#include "balancer.h"
#include "ring.h"
#include "retired.h"
#include "sticky.h"

#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>

#define MARK_LENGTH 16 /* hex digits */

struct sticky_options {
    const char *cookie, *route, *path, *domain, *samesite;
    int is_secure, is_http_only;
    int64_t max_age_ms;
};

struct sticky {
    struct sticky_options options;
    struct sl_expr *route; /* NULL: by cookie */
    const char *attributes;
    _Atomic(struct marks *) marks;
    struct retired *replaced;
};

struct marks {
    struct retired retired; /* first */
    unsigned n;
    char at[][MARK_LENGTH + 1]; /* by index of the server; "": it is gone */
};

static const struct sl_option sticky_options[] = {
    {"cookie", SL_SLOT_TOKEN, offsetof(struct sticky_options, cookie), NULL, NULL,
     "The cookie that names the server"},
    {"route", SL_SLOT_STRING, offsetof(struct sticky_options, route), NULL, NULL,
     "A value of the request that ends with the server's name"},
    {"path", SL_SLOT_STRING, offsetof(struct sticky_options, path), "/", NULL,
     "The cookie's Path"},
    {"domain", SL_SLOT_TOKEN, offsetof(struct sticky_options, domain), NULL, NULL,
     "The cookie's Domain"},
    {"samesite", SL_SLOT_TOKEN, offsetof(struct sticky_options, samesite), "Lax", NULL,
     "The cookie's SameSite: Lax, Strict or None"},
    {"secure", SL_SLOT_FLAG, offsetof(struct sticky_options, is_secure), "off", NULL,
     "The cookie goes over TLS only"},
    {"httponly", SL_SLOT_FLAG, offsetof(struct sticky_options, is_http_only), "on", NULL,
     "Scripts do not see the cookie"},
    {"maxage", SL_SLOT_DURATION, offsetof(struct sticky_options, max_age_ms), "0s", NULL,
     "How long the cookie lives, 0: until the browser ends"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

/* ---- configuration ---- */

static const char *
attributes_make(apr_pool_t *pool, const struct sticky_options *o)
{
    const char *age = o->max_age_ms > 0
        ? apr_psprintf(pool, "; Max-Age=%ld", (long)(o->max_age_ms / 1000)) : "";

    return apr_pstrcat(pool, "; Path=", o->path, o->domain != NULL ? "; Domain=" : "",
                       o->domain != NULL ? o->domain : "", age, o->is_secure ? "; Secure" : "",
                       o->is_http_only ? "; HttpOnly" : "", "; SameSite=", o->samesite, NULL);
}

/* A value that cannot stand in Set-Cookie (RFC 6265, 4.1.1). */
static int
is_attribute(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text <= ' ' || *text >= 0x7f || *text == ';' || *text == ',')
            return 0;
    return 1;
}

static const char *
options_check(struct sl_cmd *cmd, const struct sticky_options *o)
{
    static const char *const words[] = {"Lax", "Strict", "None"};
    unsigned i;

    if ((o->cookie == NULL) == (o->route == NULL))
        return "expected cookie=NAME or route=EXPR";
    if (!is_attribute(o->path) || (o->domain != NULL && !is_attribute(o->domain)))
        return "expected path= and domain= without blanks, ';' and ','";
    for (i = 0; i < 3; i++)
        if (strcasecmp(o->samesite, words[i]) == 0)
            break;
    if (i == 3)
        return sl_cmd_error(cmd, "expected samesite= Lax, Strict or None, found \"%s\"",
                            o->samesite);
    if (i == 2 && !o->is_secure)
        return "samesite=None needs secure: browsers drop such a cookie";
    return NULL;
}

static void
marks_free(struct retired *r)
{
    free(r);
}

static apr_status_t
sticky_forget(void *data)
{
    struct sticky *st = data;

    retired_free_all(&st->replaced, marks_free);
    free(atomic_exchange(&st->marks, NULL));
    return APR_SUCCESS;
}

const char *
sticky_parse_line(struct sl_cmd *cmd, struct sticky **sticky)
{
    struct sticky *st = apr_pcalloc(sl_cmd_pool(cmd), sizeof(*st));
    const char *err;

    st->options = (struct sticky_options){.path = "/", .samesite = "Lax", .is_http_only = 1};
    err = sl_cmd_options(cmd, 0, sticky_options, &st->options);
    if (err == NULL)
        err = options_check(cmd, &st->options);
    if (err != NULL)
        return err;
    if (st->options.route != NULL) {
        st->route = sl_expr_compile(sl_cmd_pool(cmd), st->options.route, SL_PHASE_ROUTED, &err);
        if (st->route == NULL)
            return err;
    }
    st->attributes = attributes_make(sl_cmd_pool(cmd), &st->options);
    apr_pool_cleanup_register(sl_cmd_pool(cmd), st, sticky_forget, apr_pool_cleanup_null);
    *sticky = st;
    return NULL;
}

int
sticky_ready(struct sticky *st, const struct sl_pool *pool)
{
    uint64_t of_pool = ring_hash(pool->name, strlen(pool->name), 0);
    struct marks *marks = calloc(1, sizeof(*marks) + pool->n_servers * sizeof(marks->at[0])), *old;

    if (marks == NULL)
        return -1;
    for (; marks->n < pool->n_servers; marks->n++) {
        const struct sl_server *s = pool->servers[marks->n];
        const char *name = s->name;

        if (!sl_server_is_gone(s))
            snprintf(marks->at[marks->n], MARK_LENGTH + 1, "%016llx",
                     (unsigned long long)ring_hash(name, strlen(name), of_pool));
    }
    old = atomic_exchange_explicit(&st->marks, marks, memory_order_acq_rel);
    retired_add(&st->replaced, old != NULL ? &old->retired : NULL, marks_free);
    return 0;
}

/* ---- what the request says ---- */

static struct sl_span
span_trim(struct sl_span s)
{
    while (s.n > 0 && (s.at[0] == ' ' || s.at[0] == '\t'))
        s = (struct sl_span){s.at + 1, s.n - 1};
    while (s.n > 0 && (s.at[s.n - 1] == ' ' || s.at[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* Takes the first pair off a Cookie field (RFC 6265, 5.4); 1 if it has this name. */
static int
pair_next(struct sl_span *left, struct sl_span name, struct sl_span *value)
{
    const char *end = memchr(left->at, ';', left->n), *is;
    struct sl_span pair = {left->at, end != NULL ? (size_t)(end - left->at) : left->n};

    left->n -= pair.n + (end != NULL);
    left->at += pair.n + (end != NULL);
    is = memchr(pair.at, '=', pair.n);
    if (is == NULL)
        return 0;
    *value = span_trim((struct sl_span){is + 1, pair.n - (size_t)(is + 1 - pair.at)});
    return sl_span_eq(span_trim((struct sl_span){pair.at, (size_t)(is - pair.at)}), name);
}

/* at NULL: absent. */
static struct sl_span
cookie_find(struct sl_req *r, struct sl_span name)
{
    const struct sl_field *f;
    struct sl_span left, value;
    unsigned i;

    for (i = 0; (f = sl_fields_at(sl_req_head(r), i)) != NULL; i++)
        for (left = f->id == SL_F_COOKIE ? f->value : SL_SPAN(""); left.n > 0;)
            if (pair_next(&left, name, &value))
                return value;
    return (struct sl_span){NULL, 0};
}

static struct sl_server *
server_of_mark(const struct sticky *st, const struct sl_pool *pool, struct sl_span mark)
{
    const struct marks *marks = atomic_load_explicit(&st->marks, memory_order_acquire);
    unsigned i;

    for (i = 0; mark.n == MARK_LENGTH && i < marks->n; i++)
        if (memcmp(marks->at[i], mark.at, MARK_LENGTH) == 0)
            return pool->servers[i];
    return NULL;
}

static struct sl_server *
server_of_route(const struct sl_pool *pool, struct sl_span route)
{
    const char *dot = route.n > 0 ? memrchr(route.at, '.', route.n) : NULL;
    struct sl_span tail = route;
    unsigned i;

    if (dot != NULL)
        tail = (struct sl_span){dot + 1, route.n - (size_t)(dot + 1 - route.at)};
    for (i = 0; i < pool->n_servers; i++) {
        struct sl_span name = sl_span(pool->servers[i]->name);

        if (!sl_server_is_gone(pool->servers[i])
            && (sl_span_eq(name, tail) || sl_span_eq(name, route)))
            return pool->servers[i];
    }
    return NULL;
}

/* ---- choosing ---- */

/* Draining servers finish their sessions. */
static int
may_stay(const struct sl_server *s, int64_t now_ms)
{
    uint64_t word = atomic_load_explicit(&s->state->health, memory_order_relaxed);

    return SL_HEALTH_ADMIN(word) != SL_ADMIN_OFF && !sl_server_is_gone(s)
           && (SL_HEALTH_STATE(word) == SL_HEALTH_UP
               || (SL_HEALTH_STATE(word) != SL_HEALTH_DOWN && SL_HEALTH_UNTIL(word) <= now_ms));
}

static void
tell_fallen_over(struct sl_req *r, const struct sl_pool *pool, const struct sl_server *s)
{
    if (sl_log_wants(SL_INFO))
        sl_req_log(r, SL_INFO, "BALANCER0030", "pool %s: its server %s is %s; it goes to another",
                   pool->name, s != NULL ? s->name : "(unknown)",
                   s == NULL ? "gone" : sl_server_is_full(s) ? "busy" : condition_word(s));
}

struct sl_server *
sticky_select(struct sticky *st, struct sl_pool *pool, struct sl_attempt *a)
{
    struct sl_req *r = sl_attempt_req(a);
    struct sl_span said = st->route != NULL ? sl_expr_text(st->route, r)
                                            : cookie_find(r, sl_span(st->options.cookie));
    struct sl_server *s;

    if (said.n == 0)
        return NULL;
    s = st->route != NULL ? server_of_route(pool, said) : server_of_mark(st, pool, said);
    if (s != NULL && !sl_attempt_tried(a, s)
        && may_stay(s, sl_loop_now(sl_attempt_loop(a))) && !sl_server_is_full(s))
        return s;
    tell_fallen_over(r, pool, s);
    return NULL;
}

void
sticky_answer(const struct sticky *st, struct sl_attempt *a)
{
    struct sl_req *r = sl_attempt_req(a);
    const struct marks *marks = atomic_load_explicit(&st->marks, memory_order_acquire);
    const char *mark = marks->at[sl_attempt_server(a)->index];
    struct sl_span name;

    if (st->route != NULL || mark[0] == '\0')
        return;
    name = sl_span(st->options.cookie);
    if (sl_span_eq(cookie_find(r, name), sl_span(mark)))
        return;
    sl_fields_add(sl_attempt_response(a), "Set-Cookie",
                  sl_span(apr_pstrcat(sl_req_pool(r), st->options.cookie, "=", mark,
                                      st->attributes, NULL)));
}
