/* What flights are, for the files that fly them.
 *
 *     flight.c        the table: who joins, settles, leaves
 *     flight_kept.c   their memory
 *     flight_direct.c the leader's own request to the server, while that is all there is to it
 *     flight_fetch.c  the request to the server, and what comes of it
 *     flight_store.c  what of it is stored, and what a 304 changes
 *     flight_slice.c  those that ask for a slice of a response
 *     flight_relay.c  what is not stored, passed on to who began
 *     flight_result.c what has come of it, for each who waited
 *     lately.c        what lately could not be stored, or was forgotten
 *
 *   direct -> over                        what comes, small, is there at once, and is stored
 *   direct -> asking                      or not, or others wait for it by then
 *   asking -> over                        as above, and those who wait are told
 *   asking -> arriving -> over            what comes is stored, and all read it from the store
 *         \-> relayed -> over             it may not be stored: it goes to who began the flight
 *         \-> over                        it failed, or the server has agreed to what is stored
 *
 * What arrives may turn out not to be stored, too large or for a disk that fails: the store then
 * relays it to those who have joined, and nobody joins any more.
 *
 * A flight belongs to the loop it was begun on; those who wait may be on any.  The table, the
 * waiters and the users are under the lock of their bucket, which is taken at a miss only and
 * for a few instructions; what a flight has found out is written before it is settled, and only
 * read afterwards. */
#ifndef CACHE_FLIGHT_H
#define CACHE_FLIGHT_H

#include "cache.h"

enum state { DIRECT, ASKING, ARRIVING, RELAYED, OVER };
enum result { CAME, AGREED, NOT_STORED, FAILED };

/* How long the next go past the cache. */
#define UNSTORABLE_MS 10000

/* Whose a subrequest is: the flight that began it may hand it over. */
struct fetch {
    struct flight *flight;
};

struct flight {
    struct flight *next; /* of the bucket */
    struct store_hash hash, primary_hash;
    struct sl_loop *loop;
    const struct cache_conf *conf;
    struct sl_span key, primary; /* behind it, maybe one; key: what is looked for */
    enum state state;
    enum result result;      /* settled: neither DIRECT nor ASKING any more */
    int is_listed;           /* in the table */
    int is_small;            /* its memory is of the size that is kept */
    int is_background;
    int is_personal; /* the server knows who asks */
    int is_turned;   /* what comes is not stored after all */
    atomic_uint n_refs;
    unsigned n_users, n_waiters;
    struct visit *waiters;
    struct visit *leader;    /* who began it, while it waits or is relayed to; the loop's */
    int leader_reads;        /* the leader has become a source's request */
    struct sl_req *sub;      /* NULL: over, or handed over; the loop's */
    struct fetch *fetch;     /* with sub */
    struct store_new *coming; /* to be stored, nothing of it is there yet; sub's; NULL: no such */
    struct store_writer *writer;
    struct store_object *object, *base; /* held: what comes, what is to be validated */
    int64_t asked_at, size, n; /* n: bytes so far; size -1: not said */
    uint64_t stamp;
    uint64_t begun;       /* by the clock of what was forgotten */
    struct marker marker; /* of what is looked for; its vary behind it, n 0: there was none */
    int64_t slice, from; /* slice > 0: so many bytes are asked for, from there on */
    int is_slice;        /* of this response: */
    int64_t whole, date;
    struct sl_span sliced, etag, modified; /* copies; sliced: under what its head is stored */
    int status;
    const struct sl_cause *cause;
    int64_t born;        /* of what is coming: when the server made it */
    struct sl_mail mail; /* nobody wants it any more */
    struct sl_mail wanted; /* it is DIRECT, and somebody has joined */
};

/* ---- flight.c ---- */

/* One that asks, with copies of these; primary: of key, if it is the same.  Its hashes are the
 * caller's to set. */
struct flight *flight_make(struct sl_span key, struct sl_span primary, const struct marker *marker);

/* Its result is known: who waits may ask for it.  What still arrives can be joined. */
void flight_settle(struct flight *f, enum state state, enum result result);
/* Nobody joins it any more, and nothing more comes. */
void flight_over(struct flight *f);
/* Nobody joins it any more: it is not stored after all. */
void flight_close(struct flight *f);
void flight_drop(struct flight *f);
/* `to`, a new one, goes on with what f has asked for, and can be joined. */
void flight_hand_over(struct flight *f, struct flight *to);
/* It was direct, and has a subrequest: the leader waits like all others. */
void flight_leader_waits(struct flight *f);

/* ---- flight_kept.c ---- */

/* Zeroes, with room for so many bytes of texts behind. */
struct flight *flight_alloc(size_t n_texts);
void flight_free(struct flight *f);

/* ---- flight_direct.c ---- */

/* Whether the visit's own request may be its flight's. */
int is_direct(const struct visit *v);
void direct_start(struct flight *f);
/* Somebody else waits for it: it gets a life of its own. */
void direct_is_shared(struct flight *f);
/* Its leader has left, before anything came. */
void direct_leave(struct flight *f);

/* ---- flight_fetch.c ---- */

extern const struct sl_subrequest_owner flight_fetcher; /* of a fetch */
struct fetch *fetch_of(struct flight *f);
/* From now on the server is asked. */
void flight_asks(struct flight *f);
/* The head has come. */
void flight_head_came(struct flight *f, struct sl_req *r);
/* It is none to be stored, nor to be given where something stale may be. */
int flight_has_failed(const struct flight *f);
/* What comes is not stored: counts it, notes why with r, and the next go past the cache
 * for so long, but where the reason is one client's alone. */
void flight_refuses(struct flight *f, struct sl_req *r, int64_t ms, const char *why);
/* As flight_store(), and what follows from that it is not. */
const char *flight_tries_to_store(struct flight *f, struct sl_req *r);

/* The writer is to be aborted.  Nobody joins what is broken: who saw that may ask again before all
 * are told. */
void flight_breaks_off(struct flight *f);
void flight_start(struct flight *f, struct sl_req *client);
/* Its end before the time: nobody wants it. */
void flight_cancel(struct flight *f);

/* ---- flight_store.c ---- */

/* Sets what is coming.  NULL, or why it is not stored. */
const char *flight_store(struct flight *f, struct sl_req *sub);
extern const char key_is_too_long[]; /* one of these reasons; see flight_refuses() */
/* What is coming is to be read while it comes: opens the writer.  0, or -1: no memory. */
int flight_arrives(struct flight *f);
/* What is coming has come, all of it.  0, or -1: no memory. */
int flight_came(struct flight *f, struct sl_span body);
/* The server agrees to what is stored, and says more about it (RFC 9111, 4.3.4). */
enum sl_flow flight_agree(struct flight *f, struct sl_req *sub);
/* The body is there.  One whose key was forgotten since it was asked for is given to those who
 * read it, and not kept; so is one that was relayed. */
void flight_commit(struct flight *f);

/* Opens the writer for the head of a response in slices; NULL, or why it is not stored. */
const char *slices_store(struct flight *f, struct sl_req *sub);
int slice_store(struct flight *f, struct sl_req *sub); /* opens the writer: 0, or -1 */

/* ---- flight_slice.c ---- */

void slice_begin(struct flight *f, const struct visit *v);
void slice_ask(struct flight *f);
/* Whether the first slice is all there is; then it is made a whole response. */
int slice_is_all(struct flight *f, struct sl_req *sub);
/* The head has come: of the first slice of a response, of a further one. */
enum sl_flow slices_begin(struct flight *f, struct sl_req *sub);
enum sl_flow slice_head(struct flight *f, struct sl_req *sub);

/* ---- flight_relay.c ---- */

/* Nobody may have it but who asked for it first. */
enum sl_flow flight_relays(struct flight *f, enum result result);
enum sl_flow flight_relay_body(struct flight *f, struct sl_data data, int ends);
void flight_relay_failed(struct flight *f, const struct sl_cause *cause);

/* ---- lately.c ---- */

/* By the clock of what was forgotten. */
uint64_t forgets_now(void);
int is_forgotten(const struct flight *f);
/* For so long, whoever asks for it goes past the cache.  why: it lasts as long as the process. */
void unstorable_learn(const struct flight *f, struct sl_req *sub, int64_t ms, const char *why);

#endif
