/* Who sits where: see sl_pool_add_seats() in sluice/upstream.h.
 *
 * A seat's record is in the zone "servers" and the same for all generations.  The generation that
 * serves writes it; all others take over what stands there within a second.  It is read and
 * written without a lock: a version, odd while it is written, and a sum over what was read tell
 * whether it is whole. */
#ifndef UPSTREAM_SEATS_H
#define UPSTREAM_SEATS_H

#include "upstream/pool.h"

#include "sluice/resolver.h"

#define SEAT_NAME 96
#define SEAT_NAME_OF_LINE 40 /* the rest is for an address */
#define SEAT_ADDRESS 112     /* "unix:" and 107 bytes */
#define SEAT_KEY 512         /* of a line's name, its target and a number */

enum seat_state { SEAT_FREE, SEAT_TAKEN, SEAT_LEFT };

struct seat {
    int64_t left_at; /* ms, monotonic */
    uint32_t state;  /* enum seat_state */
    uint32_t weight; /* 0: the line's */
    uint32_t level;  /* above the line's */
    uint32_t maxconn, slowstart_ms, flags; /* the operator's seats */
    char name[SEAT_NAME], address[SEAT_ADDRESS];
};

#define SEAT_WORDS (sizeof(struct seat) / 8)
_Static_assert(sizeof(struct seat) % 8 == 0, "records are written word by word");

struct seat_record {
    _Atomic(uint64_t) version; /* 0: never written */
    _Atomic(uint64_t) sum;
    _Atomic(uint64_t) words[SEAT_WORDS];
};

/* The seats of one line. */
struct seat_line {
    const char *name;   /* NAME=; NULL: none */
    const char *target; /* as written; NULL: the operator's */
    int is_service;
    unsigned first, n;           /* by index in the pool */
    unsigned level, weight;      /* as configured, known when the zone is */
    unsigned n_without;          /* found, and no seat was left; told once */
    int waits;                   /* for seats that were left a moment ago, and will do */
};

/* What is whole in a record: 1.  0: nothing, or it is being written. */
int seat_read(const struct seat_record *r, struct seat *seat);
void seat_write(struct seat_record *r, const struct seat *seat);

/* In the zone, for server_share(): what the seat is called there, into the caller's memory. */
void seat_key(const struct upstream_server *s, char *to, size_t n);
/* Its place is known: what stands in the record holds; before requests run. */
void seat_open(struct upstream_server *s, struct seat_record *record);

/* What the name of a line leads to, now.  Thread 0. */
void seats_take(struct upstream_server *first, const struct sl_answer *answer);
unsigned seats_n_taken(const struct upstream_server *first);
/* Keeps up with what others write, from now on; does nothing where no pool has seats. */
void seats_follow(struct sl_loop *loop);
/* Whether this generation says who sits: from its start until it drains, and again when it comes
 * back. */
void seats_lead(int leads);
int seats_leads(void);

/* Between shared.c and seats.c: another server has the state from now on, or, unless it is new, the
 * one of this address is back. */
void server_state_begin(struct sl_server *s, const char *address, int is_new);

#endif
