/* Records, as they stand one after the other in a segment: pure functions over bytes.
 *
 *     | header | tags | extents | key | meta | body (inline) | padding to SEGMENT_UNIT |
 *
 * A HEAD is an object; its body is inline, or in CHUNKs before it that its extents name.  A CHUNK
 * has up to SEGMENT_RUN of them without anything between, which one sendfile can give.  A TOMB
 * says that the key was forgotten.  A LIST says what the records behind it are, `size` bytes of them,
 * so that who walks need not look at each.  Numbers are the machine's own: a file of another kind of
 * machine has another magic.  Checksums have the store's id in them, so that what another store
 * left in the file is no record. */
#ifndef CACHE_SEGMENT_H
#define CACHE_SEGMENT_H

#include "store.h"

#define SEGMENT_UNIT ((unsigned)STORE_OBJECT_MIN)
#define SEGMENT_MAGIC 0x53634f31u
#define SEGMENT_VERSION 3
#define SEGMENT_RUN 4u
#define SEGMENT_EXTENTS_MAX ((uint32_t)(STORE_SIZE_MAX / STORE_INLINE))
/* The longest head, whose extents outweigh all else, and what any record may come to. */
#define SEGMENT_HEAD_MAX                                                                     \
    (sizeof(struct record_header) + 8u * STORE_TAGS_MAX +                                    \
     sizeof(struct store_extent) * SEGMENT_EXTENTS_MAX + STORE_KEY_MAX + STORE_META_MAX)

enum record_kind { RECORD_HEAD = 1, RECORD_CHUNK, RECORD_TOMB, RECORD_LIST };

/* The inline part of a LIST is an array of these. */
struct record_listed {
    struct store_hash hash;
    uint32_t n; /* bytes of the record, without padding */
    uint32_t kind;
};

struct record_header {
    uint32_t magic;
    uint16_t version;
    uint8_t kind, reserved;
    uint64_t seq; /* of the segment it was written to */
    struct store_hash hash;
    uint64_t stamp;
    uint64_t size;       /* of the whole body */
    uint64_t body_check; /* of the inline part, if it is one */
    uint64_t head_check; /* of the whole head, the store's id standing in for this */
    uint32_t n_key, n_meta, n_tags, n_extents;
    uint32_t n_inline, flags;
    uint64_t order; /* of two records of a key in different segments the higher one is later */
};

/* What a record says; everything points into its bytes. */
struct record {
    struct record_header h;
    const uint64_t *tags;
    const struct store_extent *extents;
    struct sl_span key, meta;
    size_t n_head; /* bytes before the inline body */
};

static inline uint64_t
segment_units(uint64_t bytes)
{
    return (bytes + SEGMENT_UNIT - 1) / SEGMENT_UNIT;
}

static inline uint64_t
record_size(const struct record *r)
{
    return (r->n_head + r->h.n_inline + SEGMENT_UNIT - 1) / SEGMENT_UNIT * SEGMENT_UNIT;
}

enum record_found {
    RECORD_OK,   /* the head is whole and right; its inline body is not looked at */
    RECORD_MORE, /* r->n_head bytes are needed */
    RECORD_BAD,
};
/* `at` is aligned to 8. */
enum record_found record_decode(const char *at, size_t n, uint64_t store_id, struct record *r);
uint64_t body_checksum(const char *at, size_t n, uint64_t store_id);
static inline int
record_body_is_good(const struct record *r, const char *body, uint64_t store_id)
{
    return r->h.n_inline == 0 || body_checksum(body, r->h.n_inline, store_id) == r->h.body_check;
}

/* How long the head of such a record is; the lengths of r->h are set. */
size_t record_head_size(const struct record *r);
/* Writes the head of r to `to`, which has room for record_head_size(); what is in r->h beside
 * the magic, version and head_check is the caller's.  Gives r as it stands there. */
struct record record_write(char *to, const struct record *r);
/* The same with its checksum. */
void record_encode(char *to, const struct record *r, uint64_t store_id);
/* Where and when a record is written. */
struct record_place {
    uint64_t seq, order;
};
/* Gives a head that stands complete in memory its place and the checksum of its body. */
void record_place(char *head, size_t n_head, struct record_place place, uint64_t body_check,
                  uint64_t store_id);

#endif
