/* A protocol of a third party, towards servers: the one mod_lines speaks to clients, as the
 * scheme uplines://.  What another protocol than HTTP/1 needs of the seam: the head of an
 * attempt, bodies both ways with flow control, connections kept and reused, failures. */
#include "sluice/module.h"

#include <stdio.h>
#include <stdlib.h>

enum up_state { UP_STATUS, UP_SIZE, UP_DATA };

struct up {
    struct sl_attempt *a; /* NULL: idle */
    enum up_state state;
    size_t left; /* of the part that is read */
    int is_full; /* the receiver of the response has no room */
    char in[16384];
    size_t n_in;
    char *out; /* not yet written */
    size_t n_out, room;
};

/* NULL once the connection is closed, which any call into the attempt may do. */
static struct up *
up_of(struct sl_conn *c)
{
    return *sl_conn_protocol_data(c);
}

/* ---- the request ---- */

static enum sl_flow
up_flush(struct sl_conn *c)
{
    struct up *u = up_of(c);

    while (u->n_out > 0) {
        struct iovec iov = {u->out, u->n_out};
        ssize_t k = sl_conn_writev(c, &iov, 1);

        if (k == SL_IO_ERROR)
            return SL_FLOW_GONE;
        if (k == SL_IO_AGAIN)
            return SL_FLOW_FULL;
        u->n_out -= (size_t)k;
        memmove(u->out, u->out + k, u->n_out);
    }
    return SL_FLOW_ROOM;
}

static enum sl_flow
up_put(struct sl_conn *c, const char *at, size_t n)
{
    struct up *u = up_of(c);

    if (u->n_out + n > u->room) {
        u->room = 2 * (u->n_out + n);
        u->out = realloc(u->out, u->room);
    }
    memcpy(u->out + u->n_out, at, n);
    u->n_out += n;
    return up_flush(c);
}

static enum sl_flow
up_start(struct sl_attempt *a, struct sl_conn *c)
{
    struct up *u = up_of(c);
    struct sl_span method = sl_attempt_method(a), path = sl_attempt_path(a);
    struct sl_span host = sl_fields_get_id(sl_attempt_head(a), SL_F_HOST);
    char line[2048];
    int n;

    if (sl_attempt_body_length(a) < 0) /* the line tells the length in advance */
        return SL_FLOW_GONE;
    n = snprintf(line, sizeof line, "%.*s %.*s %.*s %lld\n", (int)method.n, method.at,
                 (int)host.n, host.at, (int)path.n, path.at,
                 (long long)sl_attempt_body_length(a));
    if (n >= (int)sizeof line)
        return SL_FLOW_GONE;
    *sl_attempt_protocol_data(a) = c;
    u->a = a;
    u->state = UP_STATUS;
    u->is_full = 0;
    return up_put(c, line, (size_t)n);
}

static enum sl_flow
up_body(struct sl_attempt *a, struct sl_data data, int ends)
{
    (void)ends;
    return up_put(*sl_attempt_protocol_data(a), data.at, data.n);
}

static enum sl_flow
up_trailers(struct sl_attempt *a, struct sl_fields *fields)
{
    (void)a;
    (void)fields;
    return SL_FLOW_ROOM;
}

/* ---- the response ---- */

/* A line that begins what follows: 0 when it is not there yet. */
static int
up_line(struct up *u, char line[32])
{
    char *end = memchr(u->in, '\n', u->n_in);
    size_t n = end != NULL ? (size_t)(end - u->in) + 1 : 0;

    if (n == 0 || n > 31)
        return 0;
    memcpy(line, u->in, n - 1);
    line[n - 1] = '\0';
    u->n_in -= n;
    memmove(u->in, u->in + n, u->n_in);
    return 1;
}

static void
up_end(struct sl_conn *c)
{
    struct sl_attempt *a = up_of(c)->a;

    up_of(c)->a = NULL;
    sl_attempt_end(a, 1);
}

static enum sl_flow
up_size(struct sl_conn *c, const char *line)
{
    struct up *u = up_of(c);

    if (line[0] == 'c') {
        sl_attempt_fail(u->a, &sl_cause_truncated);
        return SL_FLOW_GONE;
    }
    u->left = strtoul(line, NULL, 10);
    u->state = UP_DATA;
    if (u->left > 0)
        return SL_FLOW_ROOM;
    up_end(c);
    return SL_FLOW_GONE;
}

static enum sl_flow
up_data(struct up *u)
{
    char part[sizeof u->in];
    size_t n = u->n_in < u->left ? u->n_in : u->left;

    memcpy(part, u->in, n);
    u->n_in -= n;
    memmove(u->in, u->in + n, u->n_in);
    u->left -= n;
    if (u->left == 0)
        u->state = UP_SIZE;
    return sl_attempt_body(u->a, (struct sl_data){part, n, NULL});
}

/* Gives out what is buffered: 0 when more is needed, or nothing is wanted. */
static int
up_step(struct sl_conn *c)
{
    struct up *u = up_of(c);
    enum sl_flow flow;
    char line[32];

    if (u->state == UP_DATA ? u->n_in == 0 : !up_line(u, line))
        return 0;
    switch (u->state) {
    case UP_STATUS:
        u->state = UP_SIZE;
        if (atoi(line) < 200) {
            sl_attempt_fail(u->a, &sl_cause_bad_response);
            return 0;
        }
        flow = sl_attempt_head_done(u->a, atoi(line), -1);
        break;
    case UP_SIZE:
        flow = up_size(c, line);
        break;
    case UP_DATA:
    default:
        flow = up_data(u);
        break;
    }
    if (flow == SL_FLOW_FULL && up_of(c) != NULL)
        u->is_full = 1;
    return flow == SL_FLOW_ROOM;
}

static void
up_read(struct sl_conn *c)
{
    while (up_of(c) != NULL && up_of(c)->a != NULL && !up_of(c)->is_full) {
        struct up *u = up_of(c);
        ssize_t k;

        if (up_step(c))
            continue;
        if (up_of(c) == NULL || u->a == NULL || u->is_full)
            return;
        k = sl_conn_read(c, u->in + u->n_in, sizeof u->in - u->n_in);
        if (k == SL_IO_AGAIN)
            return;
        if (k <= 0) {
            sl_attempt_fail(u->a, &sl_cause_no_response);
            return;
        }
        u->n_in += (size_t)k;
    }
}

static void
up_want(struct sl_attempt *a)
{
    struct sl_conn *c = *sl_attempt_protocol_data(a);

    if (!up_of(c)->is_full)
        return;
    up_of(c)->is_full = 0;
    up_read(c);
}

/* ---- the connection ---- */

static void
up_open(struct sl_conn *c)
{
    *sl_conn_protocol_data(c) = calloc(1, sizeof(struct up));
}

static void
up_ready(struct sl_conn *c, unsigned what)
{
    struct up *u = up_of(c);

    if (u->a == NULL) {
        if (what & (SL_TIMEOUT | SL_READABLE | SL_HANGUP))
            sl_conn_close(&c);
        return;
    }
    if (what & SL_TIMEOUT) {
        sl_attempt_late(u->a);
        return;
    }
    if (u->n_out > 0 && up_flush(c) == SL_FLOW_ROOM)
        sl_attempt_writable(u->a);
    up_read(c);
}

static void
up_closed(struct sl_conn *c)
{
    struct up *u = up_of(c);

    *sl_conn_protocol_data(c) = NULL;
    free(u->out);
    free(u);
}

static void
up_cancel(struct sl_attempt *a, struct sl_conn *c)
{
    (void)a;
    sl_conn_close(&c);
}

static const struct sl_upstream_protocol uplines = {
    .name = "uplines",
    .open = up_open,
    .ready = up_ready,
    .closed = up_closed,
    .start = up_start,
    .body = up_body,
    .trailers = up_trailers,
    .want = up_want,
    .cancel = up_cancel,
};

static int
uplines_init(const struct sl_module *self)
{
    (void)self;
    return sl_provider_register("upstream_protocol", "uplines", &uplines);
}

SL_MODULE(uplines) = {.name = "uplines", .init = uplines_init};
