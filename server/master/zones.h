/* The master's zones: it makes them, lends them to the generations that ask, clears the slot of
 * a process that died and lets go of what no generation uses.  It looks into two of them:
 * "processes", which it alone writes, and "counters", to print them; what it finds there was
 * written by workers and is not trusted. */
#ifndef MASTER_ZONES_H
#define MASTER_ZONES_H

#include "channel.h"
#include "runtime/zone.h"

struct generation;
struct master;

/* Memory of one shape.  Two of the same name have another layout or size. */
struct kept_zone {
    struct kept_zone *next;
    struct zone_shape shape;
    char name[ZONE_NAME];
    int fd;
    int is_fresh;   /* no process that uses it has been ready */
    uint64_t users; /* the places of generations */
};

struct zones {
    struct kept_zone *first; /* newest first */
    unsigned n;
    uint64_t places;             /* taken by a generation, from its beginning to its end */
    struct processes *processes; /* a zone's memory; NULL: nobody has asked for it */
};

/* A place for a generation, until zones_release() or, when none came about, zones_place_give();
 * -1: all are taken. */
int zones_place_take(struct zones *zs);
void zones_place_give(struct zones *zs, unsigned place);
/* One that the master before had: its shape, descriptor and users; in a test there is no
 * descriptor.  0 or -1. */
int zones_take_over(struct zones *zs, const struct kept_zone *from, int is_test);
/* Answers MSG_ZONE. */
void zones_answer(struct zones *zs, const struct generation *g, const struct message *asked);
/* g is ready: what it uses is filled. */
void zones_filled(struct zones *zs, const struct generation *g);
/* The process of g has died: what it counted is no more. */
void zones_process_ended(struct zones *zs, const struct generation *g);
/* g has ended: its place is free, and what nobody else uses is given back. */
void zones_release(struct zones *zs, const struct generation *g);

/* "ctl zones" and "ctl counters": the answer, without its end. */
void zones_print(const struct master *ma, int client);
void counters_print(const struct master *ma, int client);

#endif
