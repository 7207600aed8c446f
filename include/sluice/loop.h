/* Threads, timers, mail between threads, and work that would block.
 *
 * A worker has N loops, one a thread.  An object belongs to one loop; code of another
 * thread reaches it by posting.  Times are milliseconds of the monotonic clock, read once
 * a wake: sl_loop_now() costs a load. */
#ifndef SLUICE_LOOP_H
#define SLUICE_LOOP_H

#include "sluice/base.h"

struct sl_loop *sl_loop_self(void);           /* NULL on a thread that is no loop */
unsigned sl_loop_index(const struct sl_loop *loop); /* 0 .. n-1 */
int64_t sl_loop_now(const struct sl_loop *loop);    /* ms, monotonic */
int64_t sl_loop_wall_us(const struct sl_loop *loop); /* us since the epoch, of this wake */
struct sl_span sl_loop_http_date(struct sl_loop *loop); /* RFC 9110, 5.6.7, of this second */

/* A message: embedded in the sender's own memory, which must last until fn has run on the
 * other thread.  Any thread; never blocks; order of one sender is kept. */
struct sl_mail {
    struct sl_mail *next;
    void (*fn)(struct sl_loop *loop, struct sl_mail *mail);
};
void sl_loop_post(struct sl_loop *loop, struct sl_mail *mail);

/* A timer: embedded, zeroed before first use, touched on its loop's thread only.  Setting
 * one again is O(1) and mostly a store; it fires once, at or up to 64 ms after its time,
 * and may be set again from fn. */
struct sl_timer {
    struct sl_timer *next, **prev; /* where it is linked; prev NULL: nowhere */
    int64_t due;                   /* ms; INT64_MAX: never */
    int64_t filed;                 /* ms: the tick it is filed under: the one that ends at due, or
                                    * an earlier one */
    void (*fn)(struct sl_loop *loop, struct sl_timer *timer);
};
void sl_timer_set(struct sl_loop *loop, struct sl_timer *t, int64_t due_ms);
void sl_timer_stop(struct sl_timer *t);   /* will not fire; cheap, may stay filed */
void sl_timer_unlink(struct sl_timer *t); /* will not be touched again: before freeing */

/* Runs work() on one of the few offload threads, then done() on the loop it was called
 * from.  The struct is embedded in the caller's own memory.  0, or -1 when the queue is
 * full, or the loop ends. */
struct sl_offload {
    struct sl_mail mail;
    struct sl_loop *loop;
    void (*work)(struct sl_offload *job);
    void (*done)(struct sl_loop *loop, struct sl_offload *job);
};
int sl_offload(struct sl_loop *loop, struct sl_offload *job);

/* From the kernel. */
void sl_random_bytes(void *to, size_t n);

#endif
