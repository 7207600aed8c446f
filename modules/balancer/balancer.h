/* mod_balancer's own: a pool as configured, and who has a part in it.
 *
 *   mod_balancer.c  the pools by name, the section, the checks of the whole
 *   server_line.c   the Server line
 *   directives.c    the other lines of a section
 *   share.c         which server gets an attempt, what is retried, what an outcome means
 *   condition.c     how servers fare: who rests after failures, what is told of it
 *   health.c        the states a server may be in, as a pure function; window.c: failures of late
 *   check.c         health checks; check_http.c: what is asked and what is a good answer
 *   knock.c         whether a server is there again after a rest
 *   queue.c         requests that wait for a server with room
 *   sticky.c        clients that stay with a server
 *   members.c       servers that come and go: what follows, and sluice ctl server add and remove
 *   control.c       what the operator asks and says: sluice ctl server; override.c: how long it
 *                   holds
 *   roundrobin.c, leastconn.c, random2.c (ewma, too), hash.c (iphash, too), first.c
 *                   the methods; turns.c and ring.c are what they pick from */
#ifndef BALANCER_H
#define BALANCER_H

#include "health.h"

#include "sluice/module.h"

/* What Retry on= names; statuses are a set of their own. */
enum { RETRY_CONNECT = 1, RETRY_ERROR = 2, RETRY_TIMEOUT = 4 };
#define RETRY_MAX_DEFAULT 2

#define LEVEL_MAX 99     /* of priority= */
#define LEVEL_BACKUP 100 /* is added for a backup */

struct queue;  /* queue.c */
struct sticky; /* sticky.c */

/* HealthCheck; times in ms. */
struct check_conf {
    int is_tcp;
    const char *uri, *host, *expect, *body, *method;
    int64_t interval_ms, fast_ms, timeout_ms, rise, fall;
    struct check_ranges *ranges; /* expect, parsed */
};

/* Eject. */
struct eject_conf {
    int64_t window_ms, errors, ratio, samples, panic;
};

struct balancer {
    struct balancer *next;
    struct sl_pool *pool; /* pool->data is this */
    struct sl_pool_owner owner;
    const char *used_at;    /* file:line of the first balancer://NAME; NULL: none yet */
    const char *defined_at; /* file:line of <Balancer NAME>; NULL: none yet */
    /* each may be written once */
    const char *method_at, *keepalive_at, *retry_at, *check_at, *eject_at, *queue_at, *sticky_at,
        *seats_at;
    unsigned n_server_lines; /* right or wrong */
    const struct sl_balance_method *method;
    void *method_data;
    atomic_uint level_least; /* of its servers */
    unsigned retry_on;
    unsigned retry_max; /* attempts beyond the first */
    struct sl_statuses retry_statuses;
    int64_t retry_deadline_ms; /* -1: none */
    int64_t retry_budget;      /* retries a hundred requests may cause; -1: no limit */
    _Atomic(int64_t) budget;   /* what is left of it, in hundredths of a retry */
    struct check_conf check;
    struct health_rules rules;
    struct eject_conf eject;
    _Atomic(int64_t) panic_told_at; /* ms, monotonic */
    struct queue *queue;            /* NULL: nobody waits */
    struct sticky *sticky;          /* NULL: none */
    int64_t *said_at; /* override.c's, by index of the server: seconds since the epoch; 0: nobody
                       * knows */
};

/* The lines of one section; the pool itself is filled in as they are read. */
struct balancer_conf {
    apr_array_header_t *servers;
    void *method, *keepalive, *retry, *check, *eject, *queue, *sticky, *tls,
        *send_proxy, *seats;
};

/* mod_balancer.c: all pools that are defined, one after the other. */
struct balancer *balancer_next(const struct balancer *after);

/* directives.c and server_line.c: the lines, and the pool of the section being read, NULL outside
 * of one. */
extern const struct sl_directive balancer_directives[];
extern struct balancer *section_pool;
sl_parse_f server_parse;
/* NAME and the arguments behind it: NULL or a phrase. */
const char *method_set(struct sl_cmd *cmd, struct balancer *b, const char *name);
/* A line that may stand once in a section: *place is where it stood first. */
const char *line_once(struct sl_cmd *cmd, const char **place);

/* share.c: what a pool's owner does, by what is configured. */
void share_own(struct balancer *b);
/* The first server that comes into question, from the one with index `from` on; NULL: none. */
static inline struct sl_server *
choice_any(const struct sl_choice *choice, const struct sl_pool *pool, unsigned from)
{
    unsigned i, at = from;

    for (i = 0; i < pool->n_servers; i++, at = at + 1 < pool->n_servers ? at + 1 : 0)
        if (sl_choice_has(choice, pool->servers[at]))
            return pool->servers[at];
    return NULL;
}

/* condition.c.  evidence: a phrase.  health_tell(): 1 if the event changed anything. */
struct moment {
    int64_t now_ms, wall_us;
};
static inline struct moment
moment_of(const struct sl_loop *loop)
{
    return (struct moment){sl_loop_now(loop), sl_loop_wall_us(loop)};
}
int health_tell(struct sl_server *s, enum health_event event, const char *evidence,
                struct moment at);
/* An attempt is over: well (cause NULL, but the status may be one of a failure) or not. */
void condition_attempt(struct sl_server *s, const struct sl_cause *cause, int status, int is_probe,
                       struct moment at);
/* Which of RETRY_* a failure is. */
unsigned cause_class(const struct sl_cause *cause);
/* A word for the state: "up", "resting", "probed", "down", "drained", "disabled", "leaving". */
const char *condition_word(const struct sl_server *s);

/* check.c: begins and ends with the generation that serves. */
void checks_start(struct sl_worker *w);
void checks_stop(void);

/* knock.c: a probe has begun; what comes of it is told to the server's health. */
void knock(struct sl_server *s, struct sl_loop *loop);

/* members.c: Seats N; servers have come or gone; sluice ctl server add and remove, with the words
 * behind those: exit statuses, or LATER. */
sl_parse_f seats_parse;
void members_changed(struct sl_pool *pool);
int members_ready(struct balancer *b); /* 0, or -1: no memory */
/* What StateDir has of them: seated again after a start, and for -T. */
void members_restore(struct sl_worker *w, apr_pool_t *pool);
void members_claim(struct sl_worker *w);
int run_add(struct sl_control_call *call, int argc, const char *const *argv);
int run_remove(struct sl_control_call *call, int argc, const char *const *argv);

/* control.c.  The names of a pool and POOL/SERVER; of several servers of one name, which two lines or
 * a server that leaves make possible, the one that is there. */
struct balancer *pool_find(const char *name, size_t n);
struct sl_server *server_find(const char *text);
/* It is a server of its pool, or finishes what it has in flight. */
int server_is_shown(const struct sl_server *s);
/* In place of an exit status: the call is ended, or will be. */
#define LATER (-1)
/* The operator has said it of the server: kept in its history, and logged.  What ends the call once
 * it is known whether it is kept: a sl_kept_f with its data. */
struct reply;
struct reply *said(struct sl_control_call *call, struct sl_server *s, const char *what);
void reply_end(void *reply, enum sl_kept how, const char *why);
extern const struct sl_control_command server_command;
/* Says how the command is written: 2, its exit status. */
int wrong_words(struct sl_control_call *call);

extern const struct sl_balance_method roundrobin_method;
extern const struct sl_balance_method leastconn_method;
extern const struct sl_balance_method random2_method;
extern const struct sl_balance_method ewma_method;
extern const struct sl_balance_method hash_method;
extern const struct sl_balance_method iphash_method;
extern const struct sl_balance_method first_method;

#endif
