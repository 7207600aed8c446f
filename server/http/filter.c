/* Body filters: see include/sluice/filter.h.
 *
 * Bytes are pushed from filter to filter and out by the last.  A filter that waits keeps
 * the source stopped: its input is held here and shown again when it resumes.  How full the
 * client is, the last write says; that answer is handed back to the source. */
#include "http/request.h"

#include "sluice/filter.h"
#include "net/buf.h"
#include "upstream/exchange.h"

#include <apr_buckets.h>
#include <apr_strings.h>

/* Input of a filter that waits, in order. */
struct filter_input {
    struct filter_input *next;
    struct sl_data data;
    int ends;
};

struct sl_filter {
    struct sl_filter *next;
    const struct sl_filter_type *type;
    void *ctx;
    struct sl_req *r;
    struct filter_input *held, **held_end;
    uint8_t is_waiting;
    uint8_t wants_room; /* resumed when the receiver has room */
};

/* What the last write said, for the call that is running. */
struct filter_result {
    enum sl_flow flow;
    int has_failed;
};
static _Thread_local struct filter_result *result; /* a resumed filter may run inside another */

/* ---- a bucket that holds a network buffer ---- */

struct buf_bucket {
    apr_bucket_refcount refcount; /* first */
    struct sl_buf *buf;
    const char *at;
};

static void
buf_bucket_destroy(void *data)
{
    struct buf_bucket *b = data;

    if (apr_bucket_shared_destroy(data)) {
        sl_buf_drop(&b->buf);
        apr_bucket_free(b);
    }
}

static apr_status_t
buf_bucket_read(apr_bucket *e, const char **at, apr_size_t *n, apr_read_type_e block)
{
    const struct buf_bucket *b = e->data;

    (void)block;
    *at = b->at + e->start;
    *n = e->length;
    return APR_SUCCESS;
}

static const apr_bucket_type_t buf_bucket_type = {
    "SLBUF",
    5,
    APR_BUCKET_DATA,
    buf_bucket_destroy,
    buf_bucket_read,
    apr_bucket_setaside_noop,
    apr_bucket_shared_split,
    apr_bucket_shared_copy,
};

static apr_bucket *
buf_bucket_make(struct sl_data d, apr_bucket_alloc_t *list)
{
    struct buf_bucket *b = apr_bucket_alloc(sizeof *b, list);
    apr_bucket *e = apr_bucket_alloc(sizeof *e, list);

    APR_BUCKET_INIT(e);
    e->free = apr_bucket_free;
    e->list = list;
    sl_buf_hold(d.buf);
    b->buf = d.buf;
    b->at = d.at;
    e = apr_bucket_shared_make(e, b, 0, d.n);
    e->type = &buf_bucket_type;
    return e;
}

static apr_bucket_alloc_t *
filter_buckets(struct sl_filter *f)
{
    struct sl_loop *loop = f->r->loop;

    if (loop->buckets == NULL)
        loop->buckets = apr_bucket_alloc_create_ex(loop->allocator);
    return loop->buckets;
}

/* ---- passing on ---- */

static void filter_feed(struct sl_filter *f, struct sl_data data, int ends);

static void
filter_out(struct sl_req *r, struct sl_data data, int ends)
{
    enum sl_flow flow = answer_last(r, data, ends);

    if (flow > result->flow)
        result->flow = flow;
}

static void
filter_next(struct sl_filter *f, struct sl_data data, int ends)
{
    if (f->next != NULL)
        filter_feed(f->next, data, ends);
    else
        filter_out(f->r, data, ends);
}

static void
filter_append(struct sl_filter *f, struct filter_input *in)
{
    in->next = NULL;
    *f->held_end = in;
    f->held_end = &in->next;
}

static void
filter_hold(struct sl_filter *f, struct sl_data data, int ends)
{
    struct filter_input *in = apr_palloc(f->r->pool, sizeof *in);

    *in = (struct filter_input){NULL, data, ends};
    if (data.buf != NULL)
        sl_buf_hold(data.buf);
    else if (data.n > 0)
        in->data.at = apr_pmemdup(f->r->pool, data.at, data.n);
    filter_append(f, in);
}

static void
filter_waits(struct sl_filter *f)
{
    f->is_waiting = 1;
    result->flow = SL_FLOW_FULL;
}

static enum sl_verdict
filter_feed_brigade(struct sl_filter *f, struct sl_data data, int ends)
{
    apr_bucket_alloc_t *list = filter_buckets(f);
    apr_bucket_brigade *bb = apr_brigade_create(f->r->pool, list);
    enum sl_verdict v;

    if (data.n > 0 && data.buf != NULL)
        APR_BRIGADE_INSERT_TAIL(bb, buf_bucket_make(data, list));
    else if (data.n > 0)
        APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_heap_create(data.at, data.n, NULL, list));
    APR_BRIGADE_INSERT_TAIL(bb, ends ? apr_bucket_eos_create(list)
                                     : apr_bucket_flush_create(list));
    v = f->type->brigade(f, bb);
    apr_brigade_destroy(bb);
    return v;
}

/* A read that filled its buffer left more to be read at once. */
static int
filled_its_buffer(struct sl_data data)
{
    return data.buf != NULL && data.at + data.n == data.buf->bytes + data.buf->size;
}

/* A push is flushed: a source pushes what it has when it has no more for now. */
static enum sl_verdict
filter_run(struct sl_filter *f, struct sl_data data, int ends)
{
    unsigned flags = ends ? SL_FILTER_END : filled_its_buffer(data) ? SL_FILTER_MORE : SL_FILTER_FLUSH;
    enum sl_verdict v;

    f->wants_room = 0;
    v = f->type->bytes != NULL ? f->type->bytes(f, data.at, data.n, flags)
                               : filter_feed_brigade(f, data, ends);
    if (v == SL_WAIT)
        filter_waits(f);
    if (v != SL_FAIL)
        return v;
    sl_req_log(f->r, SL_ERROR, "SL0463", "filter %s failed", f->type->name);
    if (f->r->cause == NULL)
        f->r->cause = &sl_cause_hook_failed;
    result->has_failed = 1;
    return v;
}

static void
filter_feed(struct sl_filter *f, struct sl_data data, int ends)
{
    if (result->has_failed)
        return;
    if (f->is_waiting) /* the filter before it had more to pass on */
        result->flow = SL_FLOW_FULL;
    if (f->is_waiting || filter_run(f, data, ends) == SL_WAIT)
        filter_hold(f, data, ends);
}

static struct sl_filter *
filter_waiting(const struct sl_req *r)
{
    struct sl_filter *f;

    for (f = r->filters; f != NULL; f = f->next)
        if (f->is_waiting)
            return f;
    return NULL;
}

int
filters_wait(const struct sl_req *r)
{
    return (r->flags & REQ_CUT) == 0 && filter_waiting(r) != NULL;
}

/* A filter that kept the end for itself does not keep the client waiting. */
static enum sl_flow
filters_result(struct sl_req *r, int ends)
{
    if (result->has_failed)
        return SL_FLOW_GONE;
    if (ends && (r->flags & REQ_ENDS_GIVEN) == 0 && filter_waiting(r) == NULL)
        filter_out(r, (struct sl_data){NULL, 0, NULL}, 1);
    return result->flow;
}

enum sl_flow
filters_body(struct sl_req *r, struct sl_data data, int ends)
{
    struct sl_filter *waiting = filter_waiting(r);
    struct filter_result own = {SL_FLOW_ROOM, 0}, *outer = result;
    enum sl_flow flow;

    if (waiting != NULL && data.n == 0 && !ends)
        return SL_FLOW_FULL;
    result = &own;
    filter_feed(r->filters, data, ends);
    flow = filters_result(r, ends);
    result = outer;
    return flow;
}

void
filters_drop(struct sl_req *r)
{
    struct sl_filter *f;

    for (f = r->filters; f != NULL; f = f->next)
        for (; f->held != NULL; f->held = f->held->next)
            if (f->held->data.buf != NULL)
                sl_buf_drop(&f->held->data.buf);
    r->filters = NULL;
}

/* ---- what filters ask ---- */

void
sl_filter_add(struct sl_req *r, const struct sl_filter_type *type, void *ctx, int keeps_length)
{
    struct sl_filter **end = &r->filters, *f = apr_pcalloc(r->pool, sizeof *f);

    SL_ASSERT((r->flags & REQ_HEAD_GIVEN) == 0 && (type->bytes == NULL) != (type->brigade == NULL));
    while (*end != NULL)
        end = &(*end)->next;
    f->type = type;
    f->ctx = ctx;
    f->r = r;
    f->held_end = &f->held;
    sl_note(r, "the body passes the filter %s", type->name);
    *end = f;
    if (!keeps_length) {
        fields_unset_id(&r->response, SL_F_CONTENT_LENGTH);
        r->length = -1;
    }
}

void *
sl_filter_ctx(const struct sl_filter *f)
{
    return f->ctx;
}

struct sl_req *
sl_filter_req(const struct sl_filter *f)
{
    return f->r;
}

enum sl_verdict
sl_filter_write(struct sl_filter *f, const char *at, size_t n, unsigned flags)
{
    filter_next(f, (struct sl_data){at, n, NULL}, (flags & SL_FILTER_END) != 0);
    return result->has_failed ? SL_FAIL : SL_NEXT;
}

static void
filter_pass_bucket(struct sl_filter *f, apr_bucket *e)
{
    const char *at;
    apr_size_t n = 0;

    if (APR_BUCKET_IS_EOS(e))
        filter_next(f, (struct sl_data){NULL, 0, NULL}, 1);
    else if (e->type == &buf_bucket_type) {
        const struct buf_bucket *b = e->data;

        filter_next(f, (struct sl_data){b->at + e->start, e->length, b->buf}, 0);
    } else if (!APR_BUCKET_IS_METADATA(e) &&
               apr_bucket_read(e, &at, &n, APR_BLOCK_READ) == APR_SUCCESS && n > 0)
        filter_next(f, (struct sl_data){at, n, NULL}, 0);
}

enum sl_verdict
sl_filter_pass(struct sl_filter *f, apr_bucket_brigade *bb)
{
    while (!APR_BRIGADE_EMPTY(bb)) {
        apr_bucket *e = APR_BRIGADE_FIRST(bb);

        filter_pass_bucket(f, e);
        apr_bucket_delete(e);
    }
    return result->has_failed ? SL_FAIL : SL_NEXT;
}

/* What was held, again, from the first: until it waits once more, with the rest still held. */
static void
filter_replay(struct sl_filter *f, int *ends)
{
    struct filter_input *in;

    f->is_waiting = 0;
    while ((in = f->held) != NULL && !result->has_failed) {
        if (filter_run(f, in->data, in->ends) == SL_WAIT)
            return;
        *ends |= in->ends;
        f->held = in->next;
        if (f->held == NULL)
            f->held_end = &f->held;
        if (in->data.buf != NULL)
            sl_buf_drop(&in->data.buf);
    }
}

int
sl_filter_waits_for_room(struct sl_filter *f)
{
    f->wants_room = result->flow == SL_FLOW_FULL && !result->has_failed;
    return f->wants_room;
}

static struct sl_filter *
filter_for_room(const struct sl_req *r)
{
    struct sl_filter *f;

    for (f = r->filters; f != NULL; f = f->next)
        if (f->is_waiting && f->wants_room)
            return f;
    return NULL;
}

int
filters_room(struct sl_req *r)
{
    struct sl_filter *f = filter_for_room(r);

    if (f != NULL)
        sl_filter_resume(f);
    return f != NULL;
}

void
sl_filter_resume(struct sl_filter *f)
{
    struct sl_req *r = f->r;
    struct filter_result own = {SL_FLOW_ROOM, 0}, *outer = result;
    enum sl_flow flow;
    int ends = 0;

    if (!f->is_waiting)
        return;
    result = &own;
    do {
        filter_replay(f, &ends);
        flow = filters_result(r, ends);
        f = flow == SL_FLOW_ROOM ? filter_for_room(r) : NULL; /* it waited for the one resumed */
    } while (f != NULL);
    result = outer;
    if (flow == SL_FLOW_GONE && r->exchange != NULL) {
        attempt_client_gone((struct sl_attempt *)r->exchange);
        return;
    }
    if (flow == SL_FLOW_GONE)
        answer_cut(r, &sl_cause_client_gone);
    if (r->exchange != NULL && flow == SL_FLOW_ROOM)
        exchange_want(r->exchange);
    else if (r->source != NULL && flow == SL_FLOW_ROOM)
        source_want(r);
    else
        req_settle(r);
}
