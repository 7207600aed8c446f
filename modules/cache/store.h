/* The store of mod_cache_disk: objects by key, in memory and on disk, without any knowledge of
 * HTTP.
 *
 * On disk there are two files in one folder: "objects", cut into segments that are written in
 * sequence, and "index".  Both have fixed sizes and one descriptor each.  All generations work
 * on one index, in a zone; "index" is its copy, written every second, and what was appended
 * after the last copy is read again from the segments.  What an index says is a hint: an object
 * is given only when its record has the right store, segment sequence, hash, key and checksums.
 *
 * In memory there is a tier of whole small objects, of this process: while a generation drains,
 * there are two.  Objects up to STORE_INLINE are in one piece and can be there; of larger ones
 * only the head is, and the body is given as stretches of the file.
 *
 * Threads: everything runs on a loop's thread and never blocks, unless it says otherwise; what
 * would block goes to sl_offload().  Objects may be held and read on any loop.  A writer belongs
 * to the loop that opened it.
 *
 * Variants are the caller's business: each is an object with a key of its own, and what stands
 * under the primary key tells by its flags and meta how to make it. */
#ifndef CACHE_STORE_H
#define CACHE_STORE_H

#include "sluice/base.h"
#include "sluice/loop.h"
#include "sluice/net.h"

#include <stdlib.h>
#include <string.h>

/* Zeros, free()'s; NULL: no memory.  The C library's calloc() goes past what its thread freed
 * lately, which each miss pays several times. */
static inline void *
store_zeros(size_t n)
{
    void *at = malloc(n);

    __asm__("" : "+r"(at)); /* compilers would make calloc() of it */
    return at != NULL ? memset(at, 0, n) : NULL;
}

#define STORE_INLINE (256 * 1024) /* bytes of a body that stands in one piece beside its head */
#define STORE_KEY_MAX (16 * 1024)
#define STORE_META_MAX (128 * 1024)
#define STORE_TAGS_MAX 256
#define STORE_SIZE_MAX (INT64_C(16) << 30) /* of a body */
#define STORE_DISK_MIN (16 << 20)
#define STORE_OBJECT_MIN 128 /* what the least object takes on disk */
#define STORE_DISK_MAX (INT64_C(8) << 40)
#define STORE_PREFIX_MAX 240 /* bytes of a prefix; a longer one is cut, and purges more */

struct store;
struct store_writer;
struct store_bytes;

struct store_options {
    const char *path;      /* the folder, which must exist; NULL: in memory only */
    uint64_t disk_size;    /* bytes of "objects", at least STORE_DISK_MIN */
    uint64_t memory_size;  /* bytes of the memory tier, heads and keys included; 0: none */
    uint64_t max_objects;  /* what the index has room for; 0: one for each 8 KiB of disk_size */
    int64_t now_ms;        /* of the clock that ticks go by: disks may fail before the first */
};

/* ---- life ---- */

/* In post_config, with the rights to open the files.  What is wrong with the disk is said in the
 * log, and the store goes on in memory.  NULL, with a message, only without memory. */
struct store *store_open(const struct store_options *options);
/* From ready on, once a second on one loop: copies the index to disk, reads it after a start,
 * takes over from a generation that had another size, tries a disk again that failed. */
void store_tick(struct store *s, struct sl_loop *loop, int64_t now_ms);
/* Nothing of the store is in use any more (no object held, no call under way): what is queued
 * is written, the index copied; blocks.  worker_exit. */
void store_close(struct store **s);

/* ---- keys, tags ---- */

/* 128 bits of a key; the same in all processes that use the store, and hard to guess. */
struct store_hash {
    uint64_t hi, lo;
};
struct store_hash store_hash(const struct store *s, struct sl_span key);
/* What a tag, a host and a key are as an object's tags: no two kinds have one in common.  The number
 * of cells purges know is limited (64,512): a purge of one takes along what shares its cell, which
 * costs a fetch. */
uint64_t store_tag(const struct store *s, struct sl_span tag);
uint64_t store_host_tag(const struct store *s, struct sl_span host);
static inline uint64_t
store_key_tag(struct store_hash key)
{
    return key.hi != 0 ? key.hi : 1; /* 0 is none */
}

/* ---- objects ---- */

/* An object that is held: complete, or still arriving.  Its fields are the caller's to read as
 * long as it is held. */
struct store_object {
    struct sl_span key, meta; /* meta: the caller's own, as it was given */
    const uint64_t *tags;
    uint32_t n_tags, flags; /* flags: the caller's */
    uint64_t stamp;         /* when it was asked for: store_stamp() */
};
void store_hold(struct store_object *o);
void store_drop(struct store_object **o);
/* Bytes of the body so far; *is_complete: that is all.  -1: its writer gave up, or the disk. */
int64_t store_size(const struct store_object *o, int *is_complete);
/* 0: something else has come to stand where its body was on disk; it may have been moved before. */
int store_stands(const struct store *s, const struct store_object *o);
/* Times it was found since it came into this process's memory. */
unsigned store_hits(const struct store_object *o);
/* The body, if all of it lies in memory, as long as the object is held; else at NULL. */
struct sl_span store_body(const struct store_object *o);

/* What purges say of an object: a load for each of its tags. */
enum store_state {
    STORE_GOOD,
    STORE_SOFT, /* purged softly: to be used as if it were stale */
    STORE_GONE, /* purged: not to be used */
};
enum store_state store_state(const struct store *s, const struct store_object *o);

/* ---- finding ---- */

enum store_answer {
    STORE_HIT,
    STORE_MISS,
    STORE_WAIT, /* done() will be called, once */
};
struct store_pending;
struct store_get {
    /* the caller's; lasts until done() or store_get_cancel() */
    struct sl_span key;
    struct store_hash hash; /* of the key */
    /* found: NULL at a miss, else held for the callee. */
    void (*done)(struct sl_loop *loop, struct store_get *g, struct store_object *found);
    /* the store's: of what was found; then what is its own */
    enum store_state state;
    struct store *store;
    struct store_object *found;
    struct store_pending *pending; /* NULL: done() will not be called */
};
/* Sends for what a look-up of it touches first, while the caller does something else. */
void store_send_for(const struct store *s, struct store_hash hash);
/* Never gives what is STORE_GONE.  STORE_HIT: *found is held for the caller; done() is not
 * called.  A hit in memory makes no system call and takes no lock. */
enum store_answer store_get(struct store *s, struct sl_loop *loop, struct store_get *g,
                            struct store_object **found);
/* Of one that waits: done() will not be called. */
void store_get_cancel(struct store_get *g);
/* What memory has of a key and its hash, held, or NULL; no hit is counted. */
struct store_object *store_at_hand(struct store *s, struct store_hash hash, struct sl_span key);
/* The same, and whether the disk may have it: STORE_WAIT. */
enum store_answer store_peek(struct store *s, struct sl_span key, struct store_object **found);

/* ---- bodies ---- */

/* Bytes in memory (at), or in a file: n of fd from offset on, for sendfile or splice, whose
 * checksum has been found right.  fd is the store's.  What a piece points at stays as it is
 * until store_piece_drop(), for which its object must still be held. */
struct store_piece {
    const char *at; /* NULL: in the file */
    size_t n;
    int fd;
    int64_t offset;
    struct store_bytes *hold; /* the store's, as is the next */
    struct store *store;
};
void store_piece_drop(struct store_piece *piece);

enum store_io {
    STORE_IO_OK,
    STORE_IO_END,    /* `from` is the end of the complete body */
    STORE_IO_BROKEN, /* there will be no more: writer gave up, disk error, checksum wrong */
    STORE_IO_WAIT,
};
/* A stretch of a body in "objects", the store's own; good as long as its segment has seq. */
struct store_extent {
    uint64_t offset, seq, check;
    uint32_t n, reserved;
};
enum store_how { STORE_MEMORY, STORE_FILE }; /* STORE_FILE: either */
struct store_read {
    /* the caller's, until done() or store_read_cancel() */
    struct store_object *object; /* held by the caller */
    uint64_t from;
    enum store_how how;
    void (*done)(struct sl_loop *loop, struct store_read *r, enum store_io io);
    /* what came of it, the caller's to drop: the bytes from `from` on that are at hand, which
     * is at least one; of memory at most STORE_INLINE */
    struct store_piece piece;
    /* the store's */
    struct sl_offload job;
    struct store_read *next;
    struct store_extent extent;
    int is_waiting;
    enum store_io io;
};
/* STORE_IO_WAIT: done() will be called, once, when there are more bytes, the end or a failure:
 * of an object that arrives, as soon as they are appended, on whichever loop. */
enum store_io store_read(struct store *s, struct sl_loop *loop, struct store_read *r);
/* 1: done() will not be called.  0: it will be, because the disk is at work or the mail is under
 * way, and *r has to last until then. */
int store_read_cancel(struct store_read *r);

/* One who reads an object that arrives and is not to be cut: what he has not read stays for him,
 * also of a body that is relayed.  All others hold, and may find it BROKEN. */
struct store_reader {
    /* the store's */
    struct store_object *object; /* held; NULL: it is complete */
    struct store_reader *next;
    uint64_t least;
};
/* From the first byte on.  0, or -1: it is relayed already, and its beginning gone. */
int store_reader_add(struct store_object *o, struct store_reader *reader);
/* He will not ask for what is before `least` any more. */
void store_reader_move(struct store_reader *reader, uint64_t least);
/* Also of one that was not added, but is zero. */
void store_reader_remove(struct store_reader *reader);

/* ---- storing ---- */

/* The moment a purge is compared with: what was asked for before a purge falls to it, even when
 * it comes afterwards.  Taken when the request is sent to the server. */
uint64_t store_stamp(const struct store *s);

struct store_new {
    struct sl_span key, meta; /* copied */
    const struct store_hash *hash; /* of the key, where that is known; else NULL */
    const uint64_t *tags;     /* copied; that of the host among them */
    uint32_t n_tags, flags;
    uint64_t stamp;
    int64_t size; /* of the body; -1: not known yet */
    void *data;
    /* There is room again after SL_FLOW_FULL. */
    void (*room)(struct sl_loop *loop, void *data);
};
/* 0: it cannot be stored, too large for what there is. */
int store_takes(const struct store *s, const struct store_new *n);
/* An object whose body, of STORE_INLINE at most, is there at once, held, and found by nobody before
 * store_keep().  NULL: the store does not take it, or no memory. */
struct store_object *store_whole(struct store *s, const struct store_new *n, struct sl_span body);
/* As store_commit(). */
void store_keep(struct store *s, struct sl_loop *loop, struct store_object *o);
/* NULL: the store does not take it, or no memory.  Nothing can be found under the key before
 * store_commit(), but the object can be read by those who were handed it. */
struct store_writer *store_writer_open(struct store *s, struct sl_loop *loop,
                                       const struct store_new *n);
/* The object that arrives; hold it to keep it past the writer's end. */
struct store_object *store_writer_object(struct store_writer *w);
/* Where the next bytes will stand, and room for how many of them; NULL: nowhere yet. */
char *store_room(const struct store_writer *w, size_t *n);
/* Copies the bytes, unless they stand in store_room() already; they can be read at once.  FULL: they
 * were taken, the disk or who reads is behind, room() will be called.  A body that becomes too
 * large, or that the disk fails to take, is relayed from then on.  GONE: nobody reads what is
 * relayed, it is more than was said, or there is no memory; the writer is to be aborted. */
enum sl_flow store_append(struct store_writer *w, const char *at, size_t n);
/* The body will not be stored: it is relayed, in a bounded stretch of memory, to the readers there
 * are, as fast as the slowest of them. */
void store_relay(struct store_writer *w);
enum store_relayed { STORE_NOT_RELAYED, STORE_IS_TOO_LARGE, STORE_DISK_FAILS };
enum store_relayed store_is_relayed(const struct store_writer *w); /* and why */
/* The body is whole: from now on, unless it was relayed, the object is found under its key, in
 * memory at once where it has room there, and on disk when it has been written.  What was under
 * the key before is replaced.  A body shorter than the size said is an abort.  Takes the writer. */
void store_commit(struct store_writer **w);
/* The body is whole for those who read it, and found by nobody.  Takes the writer. */
void store_forgo(struct store_writer **w);
/* Readers get STORE_IO_BROKEN.  Takes the writer. */
void store_abort(struct store_writer **w);
/* Another meta, flags and tags for a body that stays (a 304, RFC 9111, 4.3.4); n->size is not
 * looked at, n->key is the object's.  Gives the new object, held, or NULL: nothing changed. */
struct store_object *store_update(struct store *s, struct sl_loop *loop, struct store_object *o,
                                  const struct store_new *n);

/* ---- purging ---- */

/* Who waits until what he had forgotten is on disk. */
struct store_forget {
    /* the caller's, until done() */
    void (*done)(struct sl_loop *loop, struct store_forget *f, int is_kept); /* as of a purge */
    /* the store's */
    struct sl_mail mail;
    struct sl_loop *loop;
    struct store_forget *next;
    int is_kept;
};
/* Forgets what is under the key, in all processes; also after a crash, once it is on disk.  f NULL:
 * nobody waits for that. */
void store_invalidate(struct store *s, struct sl_loop *loop, struct sl_span key,
                      struct store_forget *f);

enum store_purge_what {
    STORE_PURGE_ALL,
    STORE_PURGE_KEY,    /* what carries the tag of this key */
    STORE_PURGE_HOST,
    STORE_PURGE_TAG,
    STORE_PURGE_PREFIX, /* keys that begin with text */
};
struct store_purge {
    /* the caller's, until done() */
    enum store_purge_what what;
    struct sl_span text;
    struct sl_span host; /* PREFIX: of all with the prefix; may be empty */
    int is_soft;
    /* It holds from store_purge() on; is_kept: it is on disk, too, and survives a crash. */
    void (*done)(struct sl_loop *loop, struct store_purge *p, int is_kept);
    /* the store's */
    struct sl_offload job;
    struct store *store;
    int cell_page, prefix_page, is_kept;
};
/* O(1) whatever is stored.  A prefix costs each look-up of an older object one comparison; 56
 * prefixes are remembered, and the oldest becomes a purge of its host (without one: of all)
 * as of its time when another comes. */
void store_purge(struct store *s, struct sl_loop *loop, struct store_purge *p);

/* ---- looking ---- */

struct store_stats {
    /* all generations */
    uint64_t disk_objects, disk_bytes, disk_size, index_bytes, index_objects_max;
    uint64_t n_evicted;   /* objects whose segment was reused */
    uint64_t n_relocated; /* objects that were written again because they were in use */
    uint64_t n_displaced; /* objects that left a full part of the index */
    uint64_t n_written, n_disk_reads, n_bad_records, n_disk_errors;
    uint64_t n_segments, n_segments_free;
    /* this process */
    uint64_t memory_objects, memory_bytes, memory_size, n_memory_evicted;
    uint64_t n_unwritten;   /* objects that were not written: the disk was behind, full or off */
    uint64_t queued_bytes;
    const char *disk; /* "in use", "off", or why not */
};
void store_stats(struct store *s, struct store_stats *stats);

/* Whether it was given a folder, usable or not. */
int store_has_folder(const struct store *s);

/* The most used of the memory tier, for which an offload thread looks at all of it. */
#define STORE_TOP_MAX 20u
struct store_top {
    /* the caller's, until done() */
    int (*wants)(const void *data, const struct store_object *o); /* on that thread; NULL: all */
    const void *data;
    /* The objects are the store's and gone after the call. */
    void (*done)(struct sl_loop *loop, struct store_top *top);
    /* the store's */
    struct store_object *objects[STORE_TOP_MAX];
    unsigned n;
    struct sl_offload job;
    struct store *store;
};
/* 0, or -1: done() will not be called. */
int store_top(struct store *s, struct sl_loop *loop, struct store_top *top);

#endif
