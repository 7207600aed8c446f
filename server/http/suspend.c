/* Suspension by token: a request waits for something, anybody who has the token may wake
 * it, from any thread, and a token of a request that is gone does nothing.
 *
 * A token is a slot of the loop's table and the stamp the slot had when it was given: the
 * stamp changes when the slot is used again.  The table is touched on its own thread only;
 * resuming from elsewhere is a message. */
#include "http/request.h"

#include <stdlib.h>

struct request_slots {
    struct slot {
        struct sl_req *r;
        uint32_t stamp;
        uint32_t next_free;
    } *at;
    uint32_t n, room;
    uint32_t free; /* 0: none; slot 0 is never used */
};

struct resume_mail {
    struct sl_mail mail;
    struct sl_token token;
    enum sl_verdict verdict;
};

void
req_tokens_init(struct sl_loop *loop)
{
    loop->tokens = calloc(1, sizeof *loop->tokens);
    SL_ASSERT(loop->tokens != NULL);
    loop->tokens->n = 1;
}

void
req_tokens_close(struct sl_loop *loop)
{
    free(loop->tokens->at);
    free(loop->tokens);
}

static uint32_t
slot_take(struct request_slots *t)
{
    uint32_t i = t->free;

    if (i != 0) {
        t->free = t->at[i].next_free;
        return i;
    }
    if (t->n >= t->room) {
        t->room = t->room == 0 ? 64 : 2 * t->room;
        t->at = realloc(t->at, t->room * sizeof *t->at);
        SL_ASSERT(t->at != NULL);
    }
    t->at[t->n] = (struct slot){NULL, 0, 0};
    return t->n++;
}

struct sl_token
sl_req_suspend(struct sl_req *r)
{
    struct request_slots *t = r->loop->tokens;

    if (r->flags & REQ_DRY) { /* its loop never runs: nobody wakes it */
        r->flags |= REQ_WAITING;
        return (struct sl_token){NULL, 0, 0};
    }
    if (r->token_slot == 0) {
        r->token_slot = slot_take(t);
        t->at[r->token_slot].r = r;
    }
    t->at[r->token_slot].stamp++;
    r->flags |= REQ_WAITING;
    return (struct sl_token){r->loop, r->token_slot, t->at[r->token_slot].stamp};
}

void
req_token_drop(struct sl_req *r)
{
    struct request_slots *t = r->loop->tokens;

    if (r->token_slot == 0)
        return;
    t->at[r->token_slot].stamp++;
    t->at[r->token_slot].r = NULL;
    t->at[r->token_slot].next_free = t->free;
    t->free = r->token_slot;
    r->token_slot = 0;
}

static void
req_wake(struct sl_req *r, enum sl_verdict verdict)
{
    r->flags &= ~(unsigned)REQ_WAITING;
    r->loop->tokens->at[r->token_slot].stamp++;
    if (verdict == SL_DONE)
        r->hook = (uint16_t)r->list->n;
    else if (verdict == SL_RETRY)
        r->hook--;
    if (r->flags & REQ_IN_RESPONSE) {
        answer_resume(r);
        return;
    }
    if (verdict == SL_FAIL)
        sl_req_fail(r, 0, &sl_cause_hook_failed, NULL);
    if (r->flags & REQ_ANSWERED)
        req_settle(r);
    else
        req_run(r);
}

static void
resume_deliver(struct sl_loop *loop, struct sl_mail *mail)
{
    struct resume_mail *m = (struct resume_mail *)mail;
    struct sl_token token = m->token;
    enum sl_verdict verdict = m->verdict;
    struct slot *s = &loop->tokens->at[token.slot];

    free(m);
    if (s->r != NULL && s->stamp == token.stamp)
        req_wake(s->r, verdict);
}

void
sl_req_resume(struct sl_token token, enum sl_verdict verdict)
{
    struct resume_mail *m;

    if (token.loop == NULL)
        return;
    m = malloc(sizeof *m);
    SL_ASSERT(m != NULL);
    *m = (struct resume_mail){{NULL, resume_deliver}, token, verdict};
    sl_loop_post(token.loop, &m->mail);
}
