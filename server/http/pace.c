/* How fast the body of a request is read (sl_req_pace_body).  While it is held, the protocol was
 * told that there is no room, and who wants more waits for the timer. */
#include "http/request.h"

struct req_pace {
    struct sl_timer timer;
    struct sl_req *r;
    sl_pace_f *pace;
    void *ctx;
    uint8_t is_held;
    uint8_t is_wanted; /* while it is held */
};

static void
pace_over(struct sl_loop *loop, struct sl_timer *timer)
{
    struct req_pace *p = (struct req_pace *)timer;

    (void)loop;
    p->is_held = 0;
    if (p->is_wanted)
        p->r->protocol->want(p->r);
}

static void
pace_hold(struct req_pace *p, int64_t ms, uint8_t is_wanted)
{
    p->is_held = 1;
    p->is_wanted = is_wanted;
    sl_timer_set(p->r->loop, &p->timer, p->r->loop->now_ms + ms);
}

void
sl_req_pace_body(struct sl_req *r, sl_pace_f *pace, void *ctx)
{
    struct req_pace *p = apr_pcalloc(r->pool, sizeof *p);
    int64_t ms;

    SL_ASSERT(r->pace == NULL && (r->flags & REQ_ANSWERED) == 0);
    p->timer.fn = pace_over;
    p->r = r;
    p->pace = pace;
    p->ctx = ctx;
    r->pace = p;
    if ((ms = pace(r, ctx, 0)) > 0)
        pace_hold(p, ms, 0);
}

void
req_want(struct sl_req *r)
{
    if (r->pace != NULL && r->pace->is_held)
        r->pace->is_wanted = 1;
    else
        r->protocol->want(r);
}

enum sl_flow
pace_body(struct sl_req *r, size_t n, int ends, enum sl_flow flow)
{
    struct req_pace *p = r->pace;
    int64_t ms;

    if (p == NULL || flow == SL_FLOW_GONE)
        return flow;
    ms = p->pace(r, p->ctx, n); /* the last piece counts, too: others may share the rate */
    if (ms <= 0 || ends)
        return flow;
    pace_hold(p, ms, flow == SL_FLOW_ROOM);
    return SL_FLOW_FULL;
}

void
pace_drop(struct sl_req *r)
{
    if (r->pace != NULL)
        sl_timer_unlink(&r->pace->timer);
}
