/* Servers that come and go: what has to follow when they did, and those that the operator adds.
 *
 * Who sits where is the core's (sl_pool_add_seats()); all generations know it, so what was added
 * outlives a reload and a crash; the next start finds it in StateDir. */

#include "balancer.h"
#include "override.h"
#include "server_line.h"
#include "sticky.h"

#include <apr_strings.h>

#define OWNER "added"

/* ---- what follows ---- */

static unsigned
level_least(const struct sl_pool *pool)
{
    unsigned i, least = UINT32_MAX;

    for (i = 0; i < pool->n_servers; i++)
        if (!sl_server_is_gone(pool->servers[i]) && pool->servers[i]->level < least)
            least = pool->servers[i]->level;
    return least;
}

int
members_ready(struct balancer *b)
{
    b->level_least = level_least(b->pool);
    if (b->sticky != NULL && sticky_ready(b->sticky, b->pool) < 0)
        return -1;
    return b->method->ready(b->pool, b->method_data);
}

void
members_changed(struct sl_pool *pool)
{
    overrides_arrived(pool);
    if (members_ready(pool->data) < 0)
        sl_log(SL_ERROR, "BALANCER0041", "pool %s: no memory to share requests anew among its "
               "servers", pool->name);
}

/* ---- Seats ---- */

const char *
seats_parse(struct sl_cmd *cmd, void **item)
{
    struct balancer *b = section_pool;
    struct server_line *line = apr_palloc(sl_cmd_pool(cmd), sizeof(*line));
    const char *n = sl_cmd_arg(cmd, 0), *err = line_once(cmd, &b->seats_at);
    struct sl_seats seats = {.target = NULL};
    struct sl_server *first;
    int64_t number = 0;
    unsigned i;

    *item = b;
    if (err == NULL && (n == NULL || sl_cmd_argc(cmd) > 1))
        err = "expected how many servers may be added";
    if (err == NULL)
        err = sl_parse_slot(sl_cmd_pool(cmd), SL_SLOT_NUMBER, n, &number);
    if (err == NULL && (number < 1 || number > SEATS_MAX))
        err = "expected how many servers may be added, 1 to 1024";
    if (err != NULL)
        return err;
    *line = SERVER_LINE_DEFAULT;
    seats.n = (unsigned)number;
    first = sl_pool_add_seats(sl_cmd_pool(cmd), b->pool, &seats, &err);
    for (i = 0; err == NULL && i < seats.n; i++)
        b->pool->servers[first->index + i]->balancer_data = line;
    return err;
}

/* ---- sluice ctl server add, remove ---- */

static const char *
option_take(apr_pool_t *pool, const char *word, struct server_line *line)
{
    size_t n = strcspn(word, "=");
    const struct sl_option *o = server_options;
    const char *err;

    while (o->key != NULL && !(strlen(o->key) == n && strncmp(o->key, word, n) == 0))
        o++;
    if (o->key == NULL || strcmp(o->key, "resolve") == 0 || strncmp(o->key, "check", 5) == 0)
        return apr_psprintf(pool, "expected weight=, maxconn=, slowstart=, priority=, backup or "
                            "drain, found \"%s\"", word);
    if (word[n] == '\0' && o->type != SL_SLOT_FLAG)
        return apr_psprintf(pool, "expected %s=VALUE", o->key);
    err = sl_parse_slot(pool, o->type, word[n] == '\0' ? "on" : word + n + 1,
                        (char *)line + o->offset);
    return err != NULL ? apr_psprintf(pool, "%s: %s, found \"%s\"", o->key, err, word + n) : NULL;
}

static const char *
options_take(apr_pool_t *pool, int argc, const char *const *argv, struct sl_member *m)
{
    struct server_line line = SERVER_LINE_DEFAULT;
    const char *err = NULL;
    int i;

    for (i = 0; err == NULL && i < argc; i++)
        err = option_take(pool, argv[i], &line);
    if (err == NULL)
        err = line_check(&line, m->address);
    m->weight = (unsigned)line.weight;
    m->level = line_level(&line);
    m->maxconn = line.maxconn > 0 ? (unsigned)line.maxconn : 0;
    m->slowstart_ms = line.slowstart_ms > 0 ? (unsigned)line.slowstart_ms : 0;
    m->flags = (line.is_backup ? SL_SERVER_BACKUP : 0u) | (line.is_drain ? SL_SERVER_DRAIN : 0u);
    return err;
}

static const char *
words_join(apr_pool_t *pool, int argc, const char *const *argv)
{
    const char *text = argv[0];
    int i;

    for (i = 1; i < argc; i++)
        text = apr_pstrcat(pool, text, " ", argv[i], NULL);
    return text;
}

/* POOL NAME ADDRESS [OPTION ...] */
int
run_add(struct sl_control_call *call, int argc, const char *const *argv)
{
    apr_pool_t *pool = sl_control_pool(call);
    struct sl_member m = {.name = NULL};
    struct sl_server *s = NULL;
    struct balancer *b;
    const char *err;

    if (argc < 3)
        return wrong_words(call);
    b = pool_find(argv[0], strlen(argv[0]));
    if (b == NULL) {
        sl_control_print(call, "no pool \"%s\"\n", argv[0]);
        return 1;
    }
    m.name = argv[1];
    m.address = argv[2];
    err = options_take(pool, argc - 3, argv + 3, &m);
    if (err == NULL)
        s = sl_pool_seat(pool, b->pool, &m, &err);
    if (s == NULL) {
        sl_control_print(call, "%s\n", err);
        return 1;
    }
    sl_override_keep(OWNER, apr_pstrcat(pool, argv[0], "/", m.name, NULL),
                     words_join(pool, argc - 2, argv + 2), "Seats", reply_end,
                     said(call, s, apr_psprintf(pool, "add %s", m.address)));
    return LATER;
}

/* POOL/SERVER */
int
run_remove(struct sl_control_call *call, int argc, const char *const *argv)
{
    struct sl_server *s = argc == 1 ? server_find(argv[0]) : NULL;
    const char *err;

    if (argc != 1)
        return wrong_words(call);
    err = s != NULL ? sl_pool_unseat(sl_control_pool(call), s)
                    : "no such server: expected POOL/SERVER, as \"server list\" shows them";
    if (err != NULL) {
        sl_control_print(call, "%s: %s\n", argv[0], err);
        return 1;
    }
    sl_override_keep(OWNER, argv[0], NULL, NULL, reply_end, said(call, s, "remove"));
    override_forget(argv[0], NULL, NULL);
    return LATER;
}

/* ---- those that were there when the server stopped ---- */

/* NULL, or why it is not seated. */
static const char *
member_restore(apr_pool_t *pool, const struct sl_override *o)
{
    char **words, *name = strchr(apr_pstrdup(pool, o->key), '/');
    struct sl_member m = {.name = NULL};
    struct balancer *b;
    const char *err;
    int n = 0;

    if (name == NULL || apr_tokenize_to_argv(o->says, &words, pool) != APR_SUCCESS
        || words[0] == NULL)
        return "expected POOL/NAME, an address and options";
    b = pool_find(o->key, strcspn(o->key, "/"));
    if (b == NULL)
        return "there is no such pool";
    while (words[n] != NULL)
        n++;
    m.name = name + 1;
    m.address = words[0];
    err = options_take(pool, n - 1, (const char *const *)words + 1, &m);
    return err == NULL && sl_pool_seat(pool, b->pool, &m, &err) == NULL ? err : NULL;
}

static const struct sl_server *
line_of_name(const struct sl_pool *pool, const char *name)
{
    unsigned i;

    for (i = 0; i < pool->n_servers; i++)
        if (!(pool->servers[i]->flags & SL_SERVER_SEAT) && strcmp(pool->servers[i]->name, name) == 0)
            return pool->servers[i];
    return NULL;
}

/* Who was added and has a line by now is there once, as the line says. */
static void
members_yield(apr_pool_t *memory, const struct sl_pool *pool)
{
    unsigned i;

    for (i = 0; i < pool->n_servers; i++) {
        struct sl_server *s = pool->servers[i];

        if ((s->flags & SL_SERVER_SEAT) && !sl_server_is_gone(s) && line_of_name(pool, s->name) != NULL
            && sl_pool_unseat(memory, s) == NULL)
            sl_log(SL_NOTICE, "BALANCER0065", "pool %s: server %s has a line in the configuration now; "
                   "what was added at run time leaves", pool->name, s->name);
    }
}

void
members_restore(struct sl_worker *w, apr_pool_t *pool)
{
    static int is_done; /* later the zone knows better */
    const struct sl_override *o;
    const struct sl_server *s;
    struct balancer *b = NULL;
    const char *err;
    unsigned i;

    while (!is_done && (b = balancer_next(b)) != NULL)
        members_yield(pool, b->pool);
    for (i = 0; !is_done && (o = sl_override_kept(w, i)) != NULL; i++) {
        if (strcmp(o->owner, OWNER) != 0)
            continue;
        s = server_find(o->key);
        if (s != NULL && !(s->flags & SL_SERVER_SEAT))
            sl_override_keep(OWNER, o->key, NULL, NULL, NULL, NULL);
        err = s == NULL ? member_restore(pool, o) : NULL;
        if (err != NULL)
            sl_log(SL_WARN, "BALANCER0064", "server %s (%s), which was added at run time, is not there "
                   "again: %s", o->key, o->says, err);
    }
    is_done = 1;
}

void
members_claim(struct sl_worker *w)
{
    const struct sl_override *o;
    struct balancer *b;
    unsigned i;

    for (i = 0; (o = sl_override_kept(w, i)) != NULL; i++) {
        if (strcmp(o->owner, OWNER) != 0)
            continue;
        b = pool_find(o->key, strcspn(o->key, "/"));
        if (b != NULL && b->seats_at != NULL)
            sl_override_claim(w, o, b->seats_at, 1);
    }
}
