/* The request inside the core: its memory, its phases, and its answer on the way out.
 *
 *   created -> head_read -> route -> access -> fixup -> handler -> (answer) -> log
 *
 * Every phase but the answer is a list of hooks run by one driver, req_run().  The answer
 * comes from a source: sl_respond(), sl_req_fail() or an exchange.  A request is settled
 * when its source is done and no code of the request is on the stack: only then is its
 * protocol told (ended), and only then may it be freed. */
#ifndef HTTP_REQUEST_H
#define HTTP_REQUEST_H

#include "http/fields.h"
#include "net/conn.h"

#define REQ_MAGIC 0x2e9b71d4u

enum req_flag {
    REQ_RUNNING = 1,       /* req_run() is on the stack */
    REQ_WAITING = 2,       /* a hook is suspended */
    REQ_ANSWERED = 4,      /* a source was chosen */
    REQ_HEAD_GIVEN = 8,    /* the response head went to the protocol */
    REQ_SOURCE_DONE = 16,  /* nothing more will come from the source */
    REQ_ENDS_GIVEN = 32,   /* the protocol was told the end of the body */
    REQ_SETTLED = 64,      /* the protocol was told that the source is done */
    REQ_FAILED = 128,      /* sl_req_fail() chose the answer */
    REQ_CUT = 256,         /* the answer was cut short */
    REQ_NOTING = SL_REQ_NOTING, /* notes are kept */
    REQ_DRY = SL_REQ_DRY,       /* explain */
    REQ_GONE = 2048,       /* the client left */
    REQ_BODY_DONE = 4096,  /* the request body was read to its end */
    REQ_NO_REUSE = 8192,   /* the connection must not be used again */
    REQ_UPGRADED = 16384,  /* the answer is 101: a tunnel follows */
    REQ_IN_RESPONSE = 32768, /* response hooks are suspended */
    REQ_SOURCE_ENDED = 65536, /* the source gave the end; filters may still hold bytes */
    REQ_IN_RESPONSE_HOOK = 131072, /* a response hook is on the stack */
    REQ_ENTERED = 262144, /* a module chose its scope */
    REQ_SUB = 524288,     /* of the server's own: subrequest.c */
};

/* In the order of use: what is touched again when the response arrives lies together at the
 * beginning.  Until then others had their turn, and the cache. */
struct sl_req {
    /* struct sl_req_public */
    unsigned magic;
    unsigned flags;
    apr_pool_t *pool;
    struct sl_loop *loop;
    struct sl_conn *conn;
    /* the rest is the core's */
    const struct sl_protocol *protocol;
    void *protocol_data;
    struct sl_scope *scope;
    const struct hook_list *list; /* of the phase being run */
    uint16_t phase;               /* enum sl_hook_point */
    uint16_t hook;
    uint16_t watch_hook; /* the one behind that which watches */
    int version;
    int status;
    int page_of;       /* the status whose ErrorPage is elsewhere, which the answer says; 0 */
    int failed_status; /* a response hook failed the request: the page for this is sent; 0 */
    struct sl_exchange *exchange;
    const struct sl_source *source; /* a module answers; NULL: not, or no more */
    const struct sl_watch *watch; /* who looks at the answer before all others; NULL: nobody */
    void *watch_ctx;
    struct sl_filter *filters;
    struct req_pace *pace;       /* of the request's body; NULL: as fast as it comes */
    struct sl_buf *head_buf;     /* holds the request head */
    struct sl_buf *response_buf; /* holds the response head */
    struct sl_fields response;
    struct sl_span reason; /* at NULL: the status's own */
    int64_t length;        /* of the response body, -1: unknown */
    int64_t bytes_sent;
    int64_t upstream_us;
    struct sl_span method;
    uint32_t token_slot; /* 0: none */
    unsigned head_size;  /* bytes of the request head, 0: its protocol does not count them */
    /* the rest is of no use any more when the server's response is there, but to hooks */
    struct sl_fields head;
    struct sl_span target;        /* as it came */
    struct sl_span path;          /* raw */
    struct sl_span query;         /* at NULL: none */
    struct sl_span authority;     /* as it came */
    struct sl_span host;          /* lower case, no port */
    struct sl_span match;         /* normalised path; at NULL: not made yet */
    struct sl_span upstream_path; /* at NULL: the client's own */
    int64_t body_length;          /* of the request body, -1: unknown */
    int64_t body_seen;
    int64_t started_us;
    const struct sl_cause *cause;
    const struct sl_server *server;
    void *vars;                /* http/variables.c */
    void *captures;            /* config/captures.c */
    struct req_access *access; /* access.c; NULL: no opinion is kept */
    struct req_data *data;     /* of modules */
    struct req_note *notes, **notes_end;
    struct sl_span client_text; /* at NULL: not known yet, as client */
    const char *id;             /* NULL: not made yet */
    struct sl_encoded *encoded; /* what the source has beside it; NULL: nothing */
    void *source_ctx;
    struct sl_span respond_body;
    struct sl_sockaddr client;
};

enum req_note_kind {
    NOTE_WHY,      /* sl_note() */
    NOTE_LOGGED,   /* what a real request would have written to the error log */
    NOTE_LEFT_OUT, /* a hook that a dry run does not call */
};
struct req_note {
    struct req_note *next;
    enum req_note_kind kind;
    const struct hook_call *by; /* whose hook said so; NULL: the core */
    const char *text;
};

/* request.c: the driver; and the one place that tells the protocol that all is done. */
void req_run(struct sl_req *r);
/* From the hooks of this point on; of one behind the handler's: from the answer on. */
void req_run_from(struct sl_req *r, enum sl_hook_point point);
void req_settle(struct sl_req *r);
/* The request is refused before its hooks ran. */
void req_refuse(struct sl_req *r, const struct sl_cause *cause);
/* Path and query as the client wrote them. */
struct sl_span req_uri(const struct sl_req *r);
/* Cancels what runs and answers with the cause, if no answer has begun. */
void req_abort(struct sl_req *r, const struct sl_cause *cause);
/* http/variables.c keeps its list here. */
void **request_vars(struct sl_req *r);
/* req_api.c: `text` lives as long as the request. */
void req_note_add(struct sl_req *r, enum req_note_kind kind, const struct hook_call *by,
                  const char *text);
void req_tokens_init(struct sl_loop *loop);
void req_tokens_close(struct sl_loop *loop);
void req_token_drop(struct sl_req *r);

/* access.c: behind the access phase, where opinions are kept.  1: the request goes on. */
int access_settle(struct sl_req *r);

/* answer.c: what sources call.  head: status, response fields and length are set; runs the
 * response hooks.  SL_FLOW_FULL: wait for exchange_want(). */
enum sl_flow answer_head(struct sl_req *r);
/* data.n 0 and no end: send what is held back. */
enum sl_flow answer_body(struct sl_req *r, struct sl_data data, int ends);
/* Past the filters. */
enum sl_flow answer_last(struct sl_req *r, struct sl_data data, int ends);
enum sl_flow answer_trailers(struct sl_req *r, struct sl_fields *fields);
/* Of a whole body, known before its head leaves. */
void answer_set_length(struct sl_req *r, int64_t length);
enum sl_flow answer_interim(struct sl_req *r, int status, struct sl_fields *fields);
/* Whether the body may leave for the client's socket unseen: no filter, no transport. */
int answer_may_bypass(const struct sl_req *r);
/* After answer_head() said SL_FLOW_GONE and the source is no more: the page of the response
 * hook that failed, or the answer is cut. */
void answer_instead(struct sl_req *r);
/* The source cannot finish what it began. */
void answer_cut(struct sl_req *r, const struct sl_cause *cause);
/* Whether an answer to this request with this status has a body (RFC 9110, 6.4.1). */
int answer_has_body(const struct sl_req *r);
/* The page of a failure, or the bare status. */
void answer_error(struct sl_req *r, int status, const struct sl_cause *cause);
const char *status_reason(int status);
/* In place of a response that was taken but not given: the page of its status, with the fields
 * of it that a client needs to act on that status. */
void answer_replaced(struct sl_req *r);

/* A source has been set: the head, then what it gives. */
void answer_from_source(struct sl_req *r);

/* source.c: there is room for more; may free r. */
void source_want(struct sl_req *r);
/* Nothing is wanted from it any more, if there is one. */
void source_drop(struct sl_req *r);

/* subrequest.c: where the next bytes of its body may be read to, and how many; NULL: anywhere, as
 * of any other request. */
char *subrequest_room(const struct sl_req *r, size_t *n);
/* watch.c: the answer has come; r, or the subrequest that goes on in its place. */
struct sl_req *watch_tell(struct sl_req *r);
/* The request cannot be watched: SL_WAIT, or SL_FAIL if it was not suspended. */
enum sl_verdict watch_refuse(struct sl_req *r);

/* subrequest.c */
void subrequest_has_room(struct sl_req *r);
void subrequest_unlink(struct sl_req *r);
/* Those that hooks have asked for, which are over now. */
void subrequests_begin(struct sl_loop *loop);
/* The loop ends: those under way are told. */
void subrequests_close(struct sl_loop *loop);

/* config/captures.c: `to` gets what patterns have captured in `from`. */
void captures_copy(struct sl_req *to, const struct sl_req *from);
/* config/expr.c: the same for what sl_var_set() gave it. */
void vars_copy(struct sl_req *to, struct sl_req *from);

/* error_page.c: NULL: the plain page. */
const struct error_page *error_page_find(const struct sl_req *r, int status);
/* After response hooks were suspended. */
void answer_resume(struct sl_req *r);

/* filter.c */
enum sl_flow filters_body(struct sl_req *r, struct sl_data data, int ends);
void filters_drop(struct sl_req *r);
/* Whether one holds bytes that are still to come. */
int filters_wait(const struct sl_req *r);
/* The protocol has room: 1 when a filter waited for that, who goes on, and may free r. */
int filters_room(struct sl_req *r);

/* pace.c: more of the request's body is wanted; how a piece went that was passed on. */
void req_want(struct sl_req *r);
enum sl_flow pace_body(struct sl_req *r, size_t n, int ends, enum sl_flow flow);
void pace_drop(struct sl_req *r);

/* forwarded.c: X-Forwarded-*, Forwarded, Via (ARCHITECTURE: the core's, always there). */
void forwarded_add(struct sl_req *r, struct sl_fields *to);
/* Whether what the peer says of who asked is believed (TrustedProxies). */
int sl_req_peer_is_trusted(const struct sl_req *r);

/* runtime/hooks.c */
enum sl_verdict hooks_run_conn(struct sl_conn *c, enum sl_hook_point point);
/* *began: hook_clock() when the hook before it ended, or the list was begun; moved on. */
enum sl_verdict hook_call_req(const struct hook_call *call, struct sl_req *r, uint64_t *began);
uint64_t hook_clock(void);
/* Runs a list that may not be suspended. */
enum sl_verdict hooks_call_attempt(const struct hook_list *list, struct sl_attempt *a);
static inline enum sl_verdict
hooks_run_attempt(const struct sl_scope *scope, enum sl_hook_point point, struct sl_attempt *a)
{
    const struct hook_list *list = &scope->lists[point];

    return list->n == 0 ? SL_NEXT : hooks_call_attempt(list, a);
}

void serving_thread_init(struct sl_loop *loop);

#endif
