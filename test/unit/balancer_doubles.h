/* What the core answers to a balance method where there is none: nobody else picks, nothing was
 * tried, a Method line has one word.  The includer has a pool, `memory`. */
#ifndef BALANCER_DOUBLES_H
#define BALANCER_DOUBLES_H

unsigned
sl_server_active(const struct sl_server *s)
{
    return atomic_load_explicit(s->n_active, memory_order_relaxed);
}

unsigned
sl_server_active_elsewhere(const struct sl_server *s)
{
    (void)s;
    return 0;
}

uint64_t
sl_places_others(void)
{
    return 0;
}

int
sl_attempt_tried(const struct sl_attempt *a, const struct sl_server *s)
{
    (void)a;
    (void)s;
    return 0;
}

struct sl_req *
sl_attempt_req(struct sl_attempt *a)
{
    return (struct sl_req *)a;
}

void
sl_random_bytes(void *to, size_t n)
{
    memset(to, 42, n);
}

apr_pool_t *
sl_cmd_pool(const struct sl_cmd *cmd)
{
    (void)cmd;
    return memory;
}

int
sl_cmd_argc(const struct sl_cmd *cmd)
{
    (void)cmd;
    return 1;
}

const char *
sl_cmd_arg(const struct sl_cmd *cmd, int i)
{
    (void)cmd;
    (void)i;
    return "%{path}";
}

void
sl_cmd_cure(struct sl_cmd *cmd, const char *fmt, ...)
{
    (void)cmd;
    (void)fmt;
}

const char *
sl_cmd_options(struct sl_cmd *cmd, int from, const struct sl_option *options, void *conf)
{
    (void)cmd;
    (void)from;
    (void)options;
    (void)conf;
    return NULL;
}

struct sl_expr *
sl_expr_compile(apr_pool_t *p, const char *text, enum sl_phase phase, const char **err)
{
    (void)text;
    (void)phase;
    *err = NULL;
    return apr_palloc(p, 1);
}

#endif
