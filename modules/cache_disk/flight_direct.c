/* A flight whose leader's own request asks the server.
 *
 * Most of what is missed is small, comes in one read, and is waited for by nobody else: then the
 * response is stored as it passes by, and neither a second request is made nor anything looked for
 * that is at hand.  Where it does not come at once, or where others wait for it, so that it must not
 * end with its leader nor be as slow, a subrequest goes on with what the leader has asked. */
#include "flight.h"

/* A plain GET for all of it: the answer to that is also the one that is stored. */
int
is_direct(const struct visit *v)
{
    const uint64_t others =
        sl_field_bit(SL_F_IF_NONE_MATCH) | sl_field_bit(SL_F_IF_MODIFIED_SINCE) |
        sl_field_bit(SL_F_IF_RANGE) | sl_field_bit(SL_F_RANGE) | sl_field_bit(SL_F_EXPECT) |
        sl_field_bit(SL_F_HTTP2_SETTINGS);

    return v->of == NULL && v->found == NULL && v->conf->slice <= 0 &&
           sl_span_eq(sl_req_method(v->r), SL_SPAN("GET")) &&
           !sl_fields_has_any(sl_req_head(v->r), others) &&
           !cache_names_fields(v->r); /* a subrequest is without them */
}

/* 1; 0: it has not come so far that a subrequest could go on. */
static int
direct_moves(struct flight *f)
{
    struct fetch *fetch = fetch_of(f);

    f->sub = sl_subrequest_instead(f->leader->r, &flight_fetcher, fetch);
    if (f->sub == NULL) {
        free(fetch);
        return 0;
    }
    f->fetch = fetch;
    flight_leader_waits(f);
    return 1;
}

/* The response goes on to the leader, whatever becomes of it here. */
static enum result
direct_result(struct flight *f, struct sl_req *r, struct sl_span body)
{
    flight_head_came(f, r);
    if (flight_has_failed(f))
        return FAILED;
    f->size = (int64_t)body.n;
    if (body.at == NULL || flight_tries_to_store(f, r) != NULL || flight_came(f, body) != 0)
        return NOT_STORED;
    flight_commit(f);
    return CAME;
}

static void
direct_head(struct sl_req *r, void *ctx, struct sl_span body)
{
    struct flight *f = ctx;
    enum result result;

    if (body.at == NULL && sl_req_cause(r) == NULL && direct_moves(f))
        return;
    result = direct_result(f, r, body);
    visit_came(f->leader);
    if (result == CAME)
        answer_as_stored(f->leader, f->born);
    flight_settle(f, OVER, result);
    flight_drop(f);
}

static void
direct_shares(struct sl_req *r, void *ctx)
{
    struct flight *f = ctx;

    flight_leader_waits(f);
    flight_start(f, r);
}

static const struct sl_watch watch = {direct_head, direct_shares};

void
direct_start(struct flight *f)
{
    flight_asks(f);
    sl_req_watch(f->leader->r, &watch, f);
}

void
direct_is_shared(struct flight *f)
{
    direct_moves(f);
}

/* Who has joined in this very moment asks for himself. */
void
direct_leave(struct flight *f)
{
    flight_settle(f, OVER, NOT_STORED);
    flight_drop(f);
}
