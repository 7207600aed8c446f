/* What the parts of the store share.
 *
 *     store.c           opening, the tick, looking
 *     store_disk.c      files, pages on disk, what a start finds there
 *     store_segments.c  whose a segment is, appending, reusing
 *     store_walk.c      what stands in a segment
 *     store_read.c      finding objects, bodies
 *     store_write.c     writers, updates, forgetting
 *     store_arriving.c  objects that arrive, and who reads them
 *     store_stretch.c   records that wait to be written, as they will stand
 *     store_queue.c     what waits to be written, by one offload job of the process
 *     store_purge.c     purges, and what is used most */
#ifndef CACHE_STORE_IMPL_H
#define CACHE_STORE_IMPL_H

#include "index.h"
#include "memory.h"
#include "segment.h"
#include "store.h"
#include "tag.h"

#include "sluice/log.h"
#include "sluice/zone.h"

#define STORE_FILES_VERSION 5
/* The zone's own, behind that of the files: generations that share the zone share those. */
#define ZONE_LAYOUT (100 * STORE_FILES_VERSION + 1)
#define N_CHANGES 65536
#define N_COMING 1024

/* The words of the first page.  clock, all and the latest prefix are tag.h's. */
enum {
    SUPER_VERSION,
    SUPER_DISK_SIZE,
    SUPER_SEGMENT_SIZE,
    SUPER_INDEX_PAGES,
    SUPER_STORE_ID, /* seeds hashes, too; 0: not known yet */
    SUPER_STARTS,   /* the clock of purges and the order of writes go on from starts << 32 */
    SUPER_NEXT_SEQ,
    SUPER_CLOCK,
    SUPER_ALL_HARD,
    SUPER_ALL_SOFT,
    SUPER_PREFIX_LATEST,
    SUPER_ORDER /* of the latest write */
};

/* A segment has four words.
 *
 *     state    seq (40 bits) | turn (8) | place (8) | enum segment_state (8)
 *     fill     bytes appended and published, SEGMENT_UNIT of them never used
 *     indexed  on disk only: so far the index on disk knew its records when it was copied
 *     given    in the zone only: 0: no socket was given pages of it since they were made */
#define SEGMENT_WORDS 4
#define SEGMENTS_A_PAGE (PAGE_WORDS / SEGMENT_WORDS)
enum segment_state {
    SEGMENT_FREE,    /* nothing in the index leads to it; may still be read where it is pinned */
    SEGMENT_OPEN,    /* its place's process appends */
    SEGMENT_PART,    /* nobody appends, and there is room */
    SEGMENT_FULL,
    SEGMENT_RECLAIM, /* its place's process takes its records out of the index, or makes it empty */
    SEGMENT_REPLAY,  /* a start has to read what was appended last */
};

struct layout {
    uint64_t segment_size, n_segments;
    uint64_t segment_pages, index_pages;
    uint64_t cells_at, prefixes_at, index_at, n_pages; /* in pages */
    unsigned run; /* chunks of a body that are written as one record: 1 to SEGMENT_RUN */
};

/* The beginning of the zone. */
struct zone_head {
    _Atomic(uint64_t) group;    /* stands for all processes that share the zone, in file locks */
    _Atomic(uint64_t) is_ready; /* the pages before the index's are what they are on disk */
    _Atomic(uint64_t) n_objects, n_displaced, n_evicted, n_relocated, n_written, n_disk_reads,
        n_bad_records, n_disk_errors;
    _Atomic(uint64_t) n_loaded; /* pages of the index that were read, in their order */
    /* By hash: moves on when what is under a key is replaced or forgotten, so that other
     * processes' memory and reads under way notice.  Some keys share one; that costs a read. */
    _Atomic(uint64_t) changes[N_CHANGES];
};

enum disk_state {
    DISK_NONE,  /* no folder, or it cannot be used */
    DISK_WAITS, /* others use it: they have another size, or are another server */
    DISK_ON,
    DISK_RESTS, /* an error; tried again */
};

struct queued {
    pthread_mutex_t lock;
    struct op *first, **last;
    struct stretch *open;   /* the last op's, with room; NULL: another kind of op is last */
    struct stretch *spare;  /* written */
    unsigned n_spare;
    _Atomic(uint64_t) bytes; /* changed under the lock */
    int is_running;         /* the job was started */
    int is_timed;           /* it will be */
    int is_urgent;          /* something in the queue is not to wait for that */
    struct sl_loop *loop;   /* whose the timer is */
    struct sl_timer timer;
    struct sl_mail mail;    /* to it: set the timer */
};

struct store {
    struct store_options options;
    char *path;
    struct layout layout;
    struct zone_head *head;
    struct page *pages;
    const struct sl_slots *slots; /* a slot: pins of segments, uint32_t each */
    struct purges purges;
    struct index index;
    struct memory *memory;
    int fd_objects, fd_index;
    int gives_files;  /* bodies may be sent from the file itself */
    int counts_pages; /* the system tells how much of them it has at hand */
    _Atomic(int) disk; /* enum disk_state */
    _Atomic(int64_t) now_ms, rests_until_ms;
    _Atomic(int64_t) failure_said_ms, full_said_ms, damage_said_ms; /* when the log heard of it */
    _Atomic(uint64_t) n_unwritten;
    /* bodies in chunks that are committed and not published yet, by their hashes */
    _Atomic(uint32_t) coming[N_COMING];
    struct queued queued;
    struct sl_offload flush_job, tick_job;
    int is_ticking;
    /* what the process appends to; the flushing job's alone */
    int64_t current; /* -1: none */
    int is_reclaiming, claim_error; /* why a segment was not to be had, EBUSY: it is in use */
    int is_closing; /* loops run no more */
};

/* Words of the pages. */
static inline _Atomic(uint64_t) *
super_word(const struct store *s, unsigned word)
{
    return &s->pages[0].words[word];
}
static inline uint64_t
store_id(const struct store *s)
{
    return atomic_load_explicit(super_word(s, SUPER_STORE_ID), memory_order_relaxed);
}
static inline struct page *
segment_page(const struct store *s, uint64_t segment)
{
    return &s->pages[1 + segment / SEGMENTS_A_PAGE];
}
static inline _Atomic(uint64_t) *
segment_words(const struct store *s, uint64_t segment)
{
    return &segment_page(s, segment)->words[segment % SEGMENTS_A_PAGE * SEGMENT_WORDS];
}
static inline enum segment_state
word_state(uint64_t word)
{
    return (enum segment_state)(word & 0xff);
}
static inline unsigned
word_place(uint64_t word)
{
    return (unsigned)(word >> 8) & 0xff;
}
static inline uint64_t
word_seq(uint64_t word)
{
    return word >> 24;
}
static inline uint64_t
segment_word(const struct store *s, uint64_t segment)
{
    return atomic_load(&segment_words(s, segment)[0]);
}
static inline _Atomic(uint64_t) *
segment_fill(const struct store *s, uint64_t segment)
{
    return &segment_words(s, segment)[1];
}
static inline _Atomic(uint64_t) *
segment_given(const struct store *s, uint64_t segment)
{
    return &segment_words(s, segment)[3];
}
static inline _Atomic(uint64_t) *
change_of(const struct store *s, struct store_hash hash)
{
    return &s->head->changes[hash.lo % N_CHANGES];
}
static inline _Atomic(uint32_t) *
coming_of(struct store *s, struct store_hash hash)
{
    return &s->coming[hash.lo % N_COMING];
}
static inline int
disk_is_on(const struct store *s)
{
    return atomic_load_explicit(&s->disk, memory_order_acquire) == DISK_ON;
}
/* What the index has leads somewhere, now or when the disk has rested. */
static inline int
index_is_used(const struct store *s)
{
    return disk_is_on(s) || atomic_load(&s->disk) == DISK_RESTS;
}
static inline int
key_is(const struct object *o, struct sl_span key)
{
    return sl_span_eq(o->pub.key, key);
}
static inline void
count(_Atomic(uint64_t) *counter, uint64_t by)
{
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

/* Sends for what the index and the table of changes have of a hash; who goes through records does so
 * for the one that is so far ahead. */
#define SEND_AHEAD 8u
static inline void
disk_send_for(const struct store *s, struct store_hash hash)
{
    __builtin_prefetch(change_of(s, hash));
    index_send_for(&s->index, hash);
}

/* ---- store_disk.c ---- */
void layout_of(const struct store_options *options, struct layout *l);
/* Opens the files; says in the log what is wrong. */
void disk_open(struct store *s);
/* Takes the files for this group of processes and reads the tables; blocks.  Also later, when
 * those who had them are gone. */
void disk_start(struct store *s);
void disk_try_again(struct store *s); /* of the tick: files that others had may be free */
void disk_close(struct store *s);
/* All of these block. */
int disk_write_page(struct store *s, uint64_t page);
void disk_load_index_page(struct store *s, uint64_t index_page);
void disk_load_index(struct store *s);
void disk_copy_tables(struct store *s);
/* errno is said in the log, not too often, and the disk rests if `rests`. */
void disk_failed(struct store *s, const char *what, int rests);
/* It has less room than the store may take. */
void disk_is_full(struct store *s);
/* What was read is not what was written. */
void disk_is_damaged(struct store *s, const char *what);
int file_room(int fd, uint64_t from, uint64_t n);
/* The same of what may have been written before; those who are still sent that get it as it was, if
 * the file system can part with pages. */
int file_renew(int fd, uint64_t from, uint64_t n);
/* 0, or -1 with errno; a file that ends early is EIO. */
int disk_read(struct store *s, void *to, size_t n, uint64_t offset);
ssize_t disk_read_now(struct store *s, void *to, size_t n, uint64_t offset);

/* ---- store_stretch.c ---- */
/* Records one behind the other as they will stand in a segment.  They are copied here when their
 * objects come: then the bytes are in the processor's caches, and the objects need not stay. */
#define STRETCH_BYTES (1024 * 1024)
#define STRETCH_RECORDS 2048u
#define STRETCH_RECORD_MAX (16 * 1024) /* longer ones are written from where they are */
#define STRETCH_LIST_MAX                                                                     \
    (sizeof(struct record_header) + STRETCH_RECORDS * sizeof(struct record_listed) +         \
     SEGMENT_UNIT)
struct stretch {
    struct stretch *next;
    struct store_forget *forgets; /* who waits for its tombs */
    unsigned n;
    uint32_t n_bytes;
    struct stretch_record {
        struct store_hash hash;
        uint64_t change; /* of the object */
        uint64_t check;  /* of its body */
        uint64_t offset; /* where it came to stand */
        uint32_t at, n_head, n;
        int is_tomb;
    } records[STRETCH_RECORDS];
    _Alignas(64) char list[STRETCH_LIST_MAX];
    _Alignas(64) char bytes[STRETCH_BYTES];
};
static inline int
stretch_has_room(const struct stretch *t, size_t n)
{
    return t->n < STRETCH_RECORDS && n <= STRETCH_BYTES - t->n_bytes;
}
/* What it takes of the stretch. */
size_t stretch_object_size(const struct object *o);
size_t stretch_tomb_size(const struct record *r);
/* Both have room. */
void stretch_add_object(struct stretch *t, const struct object *o, uint64_t body_check);
void stretch_add_tomb(struct stretch *t, const struct record *r);
/* How many records from `from` on, with their list in front of them, have room in so many bytes. */
unsigned stretch_fit(const struct stretch *t, unsigned from, uint64_t room);
/* What the list of n records takes; few have none: 0. */
size_t stretch_list_size(unsigned n);
/* The list, with its padding, as it will stand; the stretch's. */
const char *stretch_list(struct stretch *t, unsigned from, unsigned n, struct record_place place,
                         uint64_t store_id);

/* ---- store_walk.c ---- */
struct walk {
    struct store *s;
    uint64_t at, end; /* offsets in the file */
    uint64_t seq;
    char *window; /* aligned */
    size_t size, have;
    uint64_t window_at;
    uint64_t step; /* the last, in bytes */
    uint64_t order; /* of the list */
    const struct record_listed *listed; /* in the window */
    unsigned n_listed;
};
struct walked {
    struct store_hash hash;
    enum record_kind kind; /* no LIST */
    uint64_t offset;       /* in the file */
    uint64_t order;
    size_t n;
};
/* The segment's records from `from` to `to`, bytes in it, that its seq is in: 0, or -1: no memory. */
int walk_open(struct walk *w, struct store *s, uint64_t segment, uint64_t from, uint64_t to);
/* The next one; 0: no more, and w->at is where they end. */
int walk_next(struct walk *w, struct walked *to);
void walk_close(struct walk *w);

/* ---- store_segments.c ---- */
struct append {
    char *head; /* encoded; gets its seq and checksums here */
    size_t n_head;
    struct append_part {
        const char *at;
        size_t n;
        uint64_t check;
    } body[SEGMENT_RUN];
    unsigned n_parts;
    uint64_t offset, seq; /* where it came to stand */
};
/* The rest of *a need not be set. */
static inline void
append_begin(struct append *a, char *head, size_t n_head)
{
    a->head = head;
    a->n_head = n_head;
    a->n_parts = 0;
}
static inline void
append_add(struct append *a, const char *at, size_t n)
{
    a->body[a->n_parts++] = (struct append_part){at, n, 0};
}
static inline size_t
append_size(const struct append *a)
{
    size_t n = a->n_head;
    unsigned i;

    for (i = 0; i < a->n_parts; i++)
        n += a->body[i].n;
    return n;
}
/* Where a part of a CHUNK's came to stand; all before it are full. */
static inline struct store_extent
append_extent(const struct append *a, unsigned part)
{
    return (struct store_extent){a->offset + a->n_head + (uint64_t)part * STORE_INLINE, a->seq,
                                 a->body[part].check, (uint32_t)a->body[part].n, 0};
}
/* Writes records one after the other; blocks; the flushing job's alone.  How many were written:
 * less than n after an error. */
unsigned segment_append(struct store *s, struct append *const a[], unsigned n);
/* The same with a stretch, whose records learn where they stand. */
unsigned segment_append_stretch(struct store *s, struct stretch *t);
/* Gives up the segment the process appends to. */
void segment_give_up(struct store *s);
/* Segments of processes that are dead; mine: of an earlier one at this process's place, too. */
void segments_adopt(struct store *s, int mine);
/* What was appended after the index on disk, in the order it was; blocks. */
void segments_replay(struct store *s);
/* 1: its bytes stay until segment_unpin(). */
int segment_pin(struct store *s, uint64_t offset, uint64_t seq);
void segment_unpin(struct store *s, uint64_t offset);
int segment_holds(const struct store *s, uint64_t offset, uint64_t seq);

/* ---- store_read.c ---- */
enum read_found { READ_OK, READ_WRONG, READ_GONE, READ_ERROR, READ_LATER };
enum read_when { READ_WAITING, READ_NOW }; /* READ_NOW: READ_LATER rather than wait for the disk */
/* The object whose record is at offset, held, its checksums right; n_hint: what it has at most. */
enum read_found object_read(struct store *s, uint64_t offset, uint64_t n_hint,
                            enum read_when when, struct object **found);
/* All of the body is there. */
int object_is_whole(const struct store *s, const struct object *o);
/* The bytes of an extent, checked; blocks. */
struct store_bytes *extent_read(struct store *s, const struct store_extent *e);

/* ---- store_write.c ---- */
void writer_has_room(struct store_writer *w, struct sl_loop *loop);
/* From now on it is what its key has.  0: it is not, for change_of() its hash is not `from` any more. */
int object_publish(struct store *s, struct object *o, uint64_t from);
/* What arrived in chunks is published, or will not be. */
void object_came(struct store *s, const struct object *arrived);
/* It is not found: nor is what its key had when all of it had come. */
void object_lost(struct store *s, const struct object *arrived);
/* Tells who waits for it, on his loop. */
void forgotten(struct store_forget *f, int is_kept);

/* ---- store_arriving.c ---- */
struct chunk {
    struct store_bytes *bytes; /* NULL: to be read from its extent, or gone */
    uint32_t n;
    uint8_t is_written, is_gone; /* gone: relayed, and behind all who read */
    struct store_extent extent;
};
struct arriving {
    pthread_mutex_t lock;
    struct chunk *chunks;
    uint32_t n_chunks, n_room;
    uint32_t first; /* the number of chunks[0]: those before it were relayed */
    uint64_t n;     /* bytes so far */
    int is_complete, is_broken, disk_failed;
    struct store_read *waiting, **last_waiting;
    struct store_writer *writer; /* its loop's alone; NULL: ended */
    _Atomic(uint32_t) n_unwritten; /* chunks in the queue */
    /* readers that must not be cut, and what is relayed to them */
    struct store_reader *readers;
    int is_relayed, is_full, is_posted;
    uint64_t relayed_from; /* so far it may be on disk */
    uint32_t n_gone;
    struct object *object; /* whose this is */
    struct sl_loop *loop;  /* the writer's */
    struct sl_mail mail;   /* to it: there is room; holds the object */
};
struct arriving *arriving_new(struct object *o, struct sl_loop *loop); /* NULL: no memory */
/* What store_read() does while the lock of it is not needed for long. */
/* Of a stretch whose bytes were `checked` before, or have to be. */
enum store_io read_extent(struct store *s, struct store_read *r, const struct store_extent *e,
                          int checked);
enum store_io arriving_read(struct store *s, struct store_read *r);
int arriving_cancel(struct store_read *r);
/* Of the writer. */
int arriving_begin_chunk(struct arriving *a, size_t size); /* 0, or -1: no memory */
/* Other bytes for the last chunk, taken over. */
void arriving_replace(struct arriving *a, struct chunk *c, struct store_bytes *bytes);
void arriving_grown(struct arriving *a, size_t n);
int arriving_disk_failed(struct arriving *a);
void arriving_relay(struct arriving *a, uint32_t n_queued); /* so many chunks may be on disk */
enum sl_flow arriving_flow(struct arriving *a); /* relayed; GONE: nobody reads it */
void arriving_end(struct arriving *a, int is_complete);
/* Of the flushing job. */
void arriving_written(struct arriving *a, uint32_t chunk, const struct store_extent *e);
void arriving_not_written(struct arriving *a);
/* What arrived in chunks, all of them written, as the complete object that is found from now
 * on, held; NULL: not all were written, or no memory. */
struct object *arriving_finish(struct store *s, struct object *arrived);

/* ---- store_queue.c ---- */
enum op_kind { OP_STRETCH, OP_HEAD, OP_CHUNK, OP_FINISH };
struct op {
    struct op *next;
    enum op_kind kind;
    struct object *object; /* held; NULL: of a STRETCH */
    struct stretch *stretch;
    uint32_t chunk; /* the first of its run */
    struct sl_mail mail; /* CHUNK: to the writer */
    struct sl_loop *loop;
    struct store_bytes *held[SEGMENT_RUN]; /* CHUNK: its bytes */
    struct append append; /* from here on it is not zeroed */
    struct record_header chunk_head;
};
/* All zeroes but for its kind and its object, held anew; NULL: no memory. */
struct op *op_new(enum op_kind kind, struct object *o);
void op_free(struct op *op);
/* Takes the op, which is written at once; 0: the queue is too long, or the disk is not there, and the
 * op is the caller's. */
int queue_add(struct store *s, struct sl_loop *loop, struct op *op);
/* The object's record, by copy where it is small: written in a moment, or at once.  0: it is not taken. */
enum queue_when { QUEUE_SOON, QUEUE_NOW };
int queue_object(struct store *s, struct sl_loop *loop, struct object *o, enum queue_when when);
/* f is told when it is written, if it is not NULL; 0: it will not be. */
int queue_tomb(struct store *s, struct sl_loop *loop, const struct record *r,
               struct store_forget *f);
/* It may have no room for what comes next. */
int queue_is_long(const struct store *s);
/* An object was published, and the disk does not get it. */
void head_not_written(struct store *s, struct store_hash hash);
/* Starts the job if there is something to do and none at work. */
void queue_kick(struct store *s, struct sl_loop *loop);
/* Writes all of it here and now; blocks. */
void queue_drain(struct store *s);
void queue_open(struct store *s);
void queue_close(struct store *s);

/* What a record of the object says, but for the magic, its seq and checksums. */
struct record object_record(const struct object *o);
struct record_header chunk_header(struct store_hash hash, uint32_t n);
/* The object a record with these parts is, not yet on disk, held; body and its bytes are held
 * anew.  NULL: no memory. */
struct object *object_make(struct store *s, const struct record *r, struct store_bytes *body,
                           const char *body_at);

#endif
