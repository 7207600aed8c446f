/* What a module may do that is easily taken ill: it fails or waits in a response hook, changes
 * fields that say where a message ends, filters that want their bytes again and again, a
 * worker that takes its time to start, and a transport, "ahead", that reads all the socket
 * has and hands it out in small pieces, as TLS does with its records. */
#include "sluice/module.h"

#include <stdlib.h>
#include <unistd.h>

#define AHEAD_BYTES 65536
#define AHEAD_PIECE 16
#define ROUNDS 20000    /* of a filter that waits */
#define RESPONSE_MS 700 /* a response hook waits */

struct faults_conf {
    const char *response; /* fail, frame, wait */
    const char *hold;     /* worker_init: as long as this file is there */
    int request, filter;
};

/* ---- hooks of requests ---- */

/* Says in X-Refused how many changes were not allowed. */
static void
fields_reframe(struct sl_req *r, struct sl_fields *f)
{
    static const char refused[] = "0123456789";
    int n = 0;

    sl_fields_unset(f, "Content-Length");
    sl_fields_unset(f, "Transfer-Encoding");
    n += sl_fields_set(f, "Content-Length", SL_SPAN("1")) != 0;
    n += sl_fields_add(f, "Transfer-Encoding", SL_SPAN("chunked")) != 0;
    n += sl_fields_set(f, "Connection", SL_SPAN("X-Secret")) != 0;
    (void)r;
    sl_fields_set(f, "X-Refused", (struct sl_span){refused + n, 1});
}

static enum sl_verdict
faults_fixup(struct sl_req *r, const void *confp)
{
    const struct faults_conf *conf = confp;

    if (conf->request)
        fields_reframe(r, sl_req_head(r));
    return SL_NEXT;
}

struct waiting {
    struct sl_timer timer; /* first: rang() relies on it */
    struct sl_token token;
};

static void
rang(struct sl_loop *loop, struct sl_timer *timer)
{
    struct waiting *w = (struct waiting *)(void *)timer;

    (void)loop;
    sl_req_resume(w->token, SL_NEXT);
    free(w);
}

static enum sl_verdict
response_waits(struct sl_req *r)
{
    int *seen = sl_req_data(r, &sl_module_record, sizeof *seen);
    struct waiting *w;

    if ((*seen)++ > 0)
        return SL_NEXT;
    w = calloc(1, sizeof *w);
    w->token = sl_req_suspend(r);
    w->timer.fn = rang;
    sl_timer_set(sl_req_loop(r), &w->timer, sl_loop_now(sl_req_loop(r)) + RESPONSE_MS);
    return SL_WAIT;
}

/* ---- a filter that wants its bytes shown again, ROUNDS times ---- */

struct again {
    struct sl_mail mail; /* first: came() relies on it */
    struct sl_filter *f;
    int n;
};

static void
came(struct sl_loop *loop, struct sl_mail *mail)
{
    (void)loop;
    sl_filter_resume(((struct again *)(void *)mail)->f);
}

static enum sl_verdict
again(struct sl_filter *f, const char *at, size_t n, unsigned flags)
{
    struct again *a = sl_filter_ctx(f);

    if (n == 0 || a->n++ >= ROUNDS)
        return sl_filter_write(f, at, n, flags);
    a->f = f;
    a->mail.fn = came;
    sl_loop_post(sl_req_loop(sl_filter_req(f)), &a->mail);
    return SL_WAIT;
}

static const struct sl_filter_type again_type = {"again", again, NULL};

static enum sl_verdict
faults_response(struct sl_req *r, const void *confp)
{
    const struct faults_conf *conf = confp;
    const char *what = conf->response != NULL ? conf->response : "";

    if (conf->filter)
        sl_filter_add(r, &again_type, apr_pcalloc(sl_req_pool(r), sizeof(struct again)), 1);
    if (strcmp(what, "fail") == 0)
        return sl_req_fail(r, 503, &sl_cause_hook_failed, "as told");
    if (strcmp(what, "frame") == 0)
        fields_reframe(r, sl_req_response(r));
    return strcmp(what, "wait") == 0 ? response_waits(r) : SL_NEXT;
}

/* ---- a start that takes its time ---- */

static int
faults_init(struct sl_worker *w)
{
    const struct faults_conf *conf = sl_scope_conf(sl_worker_global(w), &sl_module_record);

    while (conf != NULL && conf->hold != NULL && access(conf->hold, F_OK) == 0)
        usleep(10000);
    return 0;
}

/* ---- a transport that reads ahead ---- */

struct ahead {
    char bytes[AHEAD_BYTES];
    size_t begin, end;
};

static int
ahead_open(struct sl_conn *c, int server)
{
    (void)server;
    *sl_conn_transport_data(c) = calloc(1, sizeof(struct ahead));
    return *sl_conn_transport_data(c) != NULL ? 0 : -1;
}

static ssize_t
ahead_fill(struct sl_conn *c, struct ahead *a)
{
    ssize_t k = SL_IO_AGAIN;

    a->begin = a->end = 0;
    while (a->end < sizeof a->bytes) {
        k = sl_conn_raw_read(c, a->bytes + a->end, sizeof a->bytes - a->end);
        if (k <= 0)
            break;
        a->end += (size_t)k;
    }
    return a->end > 0 ? 1 : k;
}

static ssize_t
ahead_read(struct sl_conn *c, void *to, size_t n)
{
    struct ahead *a = *sl_conn_transport_data(c);
    ssize_t k = a->begin < a->end ? 1 : ahead_fill(c, a);

    if (k <= 0)
        return k;
    n = n < AHEAD_PIECE ? n : AHEAD_PIECE;
    n = n < a->end - a->begin ? n : a->end - a->begin;
    memcpy(to, a->bytes + a->begin, n);
    a->begin += n;
    return (ssize_t)n;
}

static ssize_t
ahead_writev(struct sl_conn *c, const struct iovec *iov, int n)
{
    return sl_conn_raw_writev(c, iov, n);
}

static int
ahead_pending(struct sl_conn *c)
{
    const struct ahead *a = *sl_conn_transport_data(c);

    return a->begin < a->end;
}

static int
ahead_can_splice(struct sl_conn *c)
{
    (void)c;
    return 0;
}

static void
ahead_shutdown(struct sl_conn *c)
{
    shutdown(sl_conn_fd(c), SHUT_WR);
}

static void
ahead_close(struct sl_conn *c)
{
    free(*sl_conn_transport_data(c));
    *sl_conn_transport_data(c) = NULL;
}

static const struct sl_transport ahead = {
    .name = "ahead",
    .open = ahead_open,
    .read = ahead_read,
    .writev = ahead_writev,
    .pending = ahead_pending,
    .can_splice = ahead_can_splice,
    .shutdown = ahead_shutdown,
    .close = ahead_close,
};

static int
faults_loaded(const struct sl_module *self)
{
    (void)self;
    return sl_provider_register("transport", "ahead", &ahead);
}

static const struct sl_directive directives[] = {
    SL_STRING("FaultsResponse", struct faults_conf, response, NULL, SL_IN_ANY, "fail, frame, wait"),
    SL_STRING("FaultsHold", struct faults_conf, hold, NULL, SL_IN_GLOBAL, "Starts without FILE"),
    SL_FLAG("FaultsRequest", struct faults_conf, request, "off", SL_IN_ANY, "Changes framing"),
    SL_FLAG("FaultsFilter", struct faults_conf, filter, "off", SL_IN_ANY, "Waits often"),
    SL_DIRECTIVES_END,
};
static const struct sl_hook hooks[] = {
    SL_ON_WORKER_INIT(faults_init),
    SL_ON_FIXUP(faults_fixup, SL_EARLY, 0),
    SL_ON_RESPONSE(faults_response, SL_EARLY, 0),
    SL_HOOKS_END,
};
SL_MODULE(faults) = {
    .name = "faults",
    .conf_size = sizeof(struct faults_conf),
    .directives = directives,
    .hooks = hooks,
    .init = faults_loaded,
};
