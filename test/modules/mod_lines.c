/* A protocol of a third party, towards clients: a request is a line "METHOD HOST PATH", the
 * body of "PUT HOST PATH N" follows in N bytes; an answer is a line "STATUS", then parts of
 * "N\n" and N bytes, then "0\n" (or "cut\n").  What another protocol than HTTP/1 needs of the
 * seam: requests made by hand, bodies pushed with flow control, answers in pieces. */
#include "sluice/module.h"

#include <stdio.h>
#include <stdlib.h>

struct lines {
    char in[65536];
    size_t n_in;
    struct sl_req *r;
    size_t body_left;
    int wants;
    char *out; /* not yet written */
    size_t n_out, room;
    int ended;
    int is_reading;
};

static struct lines *
lines_of(struct sl_conn *c)
{
    return *sl_conn_protocol_data(c);
}

static void lines_work(struct sl_conn *c);
static void lines_read(struct sl_conn *c);

/* ---- writing ---- */

static enum sl_flow
lines_flush(struct sl_conn *c)
{
    struct lines *l = lines_of(c);

    while (l->n_out > 0) {
        struct iovec iov = {l->out, l->n_out};
        ssize_t k = sl_conn_writev(c, &iov, 1);

        if (k == SL_IO_ERROR)
            return SL_FLOW_GONE;
        if (k == SL_IO_AGAIN)
            return SL_FLOW_FULL;
        l->n_out -= (size_t)k;
        memmove(l->out, l->out + k, l->n_out);
    }
    return SL_FLOW_ROOM;
}

static enum sl_flow
lines_put(struct sl_conn *c, const char *at, size_t n)
{
    struct lines *l = lines_of(c);

    if (l->n_out + n > l->room) {
        l->room = 2 * (l->n_out + n);
        l->out = realloc(l->out, l->room);
    }
    memcpy(l->out + l->n_out, at, n);
    l->n_out += n;
    return lines_flush(c);
}

static enum sl_flow
lines_head(struct sl_req *r, int ends)
{
    char line[64];
    int n = snprintf(line, sizeof line, "%d\n%s", sl_req_status(r), ends ? "0\n" : "");

    return lines_put(sl_req_conn(r), line, (size_t)n);
}

static enum sl_flow
lines_interim(struct sl_req *r, int status, struct sl_fields *fields)
{
    (void)r;
    (void)status;
    (void)fields;
    return SL_FLOW_ROOM;
}

static enum sl_flow
lines_body(struct sl_req *r, struct sl_data data, int ends)
{
    char line[32];
    enum sl_flow flow = SL_FLOW_ROOM;

    if (data.n > 0) {
        lines_put(sl_req_conn(r), line, (size_t)snprintf(line, sizeof line, "%zu\n", data.n));
        flow = lines_put(sl_req_conn(r), data.at, data.n);
    }
    return ends ? lines_put(sl_req_conn(r), "0\n", 2) : flow;
}

static enum sl_flow
lines_trailers(struct sl_req *r, struct sl_fields *fields)
{
    (void)fields;
    return lines_put(sl_req_conn(r), "0\n", 2);
}

static void
lines_reset(struct sl_req *r)
{
    lines_put(sl_req_conn(r), "cut\n", 4);
}

static void
lines_next(struct sl_conn *c)
{
    struct lines *l = lines_of(c);

    l->ended = 0;
    sl_req_finish(&l->r);
    lines_work(c);
}

static void
lines_ended(struct sl_req *r)
{
    struct lines *l = lines_of(sl_req_conn(r));

    l->ended = 1;
    if (l->n_out == 0)
        lines_next(sl_req_conn(r));
}

/* ---- reading ---- */

static void
lines_take(struct lines *l, size_t n)
{
    l->n_in -= n;
    memmove(l->in, l->in + n, l->n_in);
}

static void
lines_push_body(struct sl_conn *c)
{
    struct lines *l = lines_of(c);

    while (l->r != NULL && l->wants && l->body_left > 0 && l->n_in > 0) {
        size_t n = l->n_in < l->body_left ? l->n_in : l->body_left;
        enum sl_flow flow;

        l->body_left -= n;
        flow = sl_req_body(l->r, (struct sl_data){l->in, n, NULL}, l->body_left == 0);
        lines_take(l, n);
        if (flow != SL_FLOW_ROOM)
            l->wants = 0;
    }
}

static void
lines_want(struct sl_req *r)
{
    lines_of(sl_req_conn(r))->wants = 1;
    lines_push_body(sl_req_conn(r));
    lines_read(sl_req_conn(r));
}

static void
lines_begin(struct sl_conn *c, size_t n_line)
{
    struct lines *l = lines_of(c);
    char *method = calloc(1, 64), *host = calloc(1, 256), *path = calloc(1, 1024);
    unsigned long n = 0;
    struct sl_req *r = sl_req_new(c, sl_provider_find("protocol", "lines"));

    l->in[n_line - 1] = '\0';
    sscanf(l->in, "%63s %255s %1023s %lu", method, host, path, &n);
    lines_take(l, n_line);
    l->r = r;
    l->body_left = n;
    l->wants = 0;
    sl_req_set_line(r, sl_span(sl_span_dup(sl_req_pool(r), sl_span(method))),
                    sl_span(sl_span_dup(sl_req_pool(r), sl_span(path))), 11);
    sl_fields_add(sl_req_head(r), "Host", sl_span(sl_span_dup(sl_req_pool(r), sl_span(host))));
    free(method);
    free(host);
    free(path);
    sl_req_start(r, n > 0 ? -1 : 0);
}

static void
lines_work(struct sl_conn *c)
{
    struct lines *l = lines_of(c);
    const char *end;

    while (l->r == NULL && (end = memchr(l->in, '\n', l->n_in)) != NULL)
        lines_begin(c, (size_t)(end - l->in) + 1);
    lines_push_body(c);
}

static void
lines_ready(struct sl_conn *c, unsigned what)
{
    struct lines *l = lines_of(c);

    if (what & SL_TIMEOUT)
        return;
    if (l->n_out > 0 && lines_flush(c) == SL_FLOW_ROOM && l->r != NULL) {
        if (l->ended)
            lines_next(c);
        else
            sl_req_writable(l->r);
    }
    lines_read(c);
}

static void
lines_read(struct sl_conn *c)
{
    struct lines *l = lines_of(c);

    if (l->is_reading)
        return;
    l->is_reading = 1;
    for (;;) {
        ssize_t k = l->n_in == sizeof l->in
                        ? SL_IO_AGAIN : sl_conn_read(c, l->in + l->n_in, sizeof l->in - l->n_in);

        if (k == SL_IO_AGAIN)
            break;
        if (k <= 0) {
            sl_conn_close(&c);
            return;
        }
        l->n_in += (size_t)k;
        lines_work(c);
    }
    l->is_reading = 0;
}

static void
lines_open(struct sl_conn *c, struct sl_data first)
{
    struct lines *l = calloc(1, sizeof *l);

    *sl_conn_protocol_data(c) = l;
    sl_conn_timeout(c, -1);
    if (first.n > 0)
        memcpy(l->in, first.at, first.n);
    l->n_in = first.n;
    lines_work(c);
}

static void
lines_drain(struct sl_conn *c)
{
    if (lines_of(c)->r == NULL)
        sl_conn_close(&c);
}

static void
lines_closed(struct sl_conn *c)
{
    struct lines *l = lines_of(c);
    struct sl_req *r = l->r;

    l->r = NULL;
    if (r != NULL)
        sl_req_gone(r);
    free(l->out);
    free(l);
}

/* Its requests never have a version. */
static int
lines_sniff(const char *bytes, size_t n)
{
    const char *end = memchr(bytes, '\n', n);

    if (end == NULL)
        return n > 1024 ? 0 : -1;
    return end[-1] != '\r';
}

static const struct sl_protocol lines = {
    .name = "lines",
    .sniff = lines_sniff,
    .open = lines_open,
    .ready = lines_ready,
    .drain = lines_drain,
    .closed = lines_closed,
    .head = lines_head,
    .interim = lines_interim,
    .body = lines_body,
    .trailers = lines_trailers,
    .reset = lines_reset,
    .want = lines_want,
    .ended = lines_ended,
};

static int
lines_init(const struct sl_module *self)
{
    (void)self;
    return sl_provider_register("protocol", "lines", &lines);
}

SL_MODULE(lines) = {.name = "lines", .init = lines_init};
