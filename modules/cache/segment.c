/* Records of a segment. */
#include "segment.h"

#include "checksum.h"

static size_t
head_size(const struct record_header *h)
{
    return sizeof *h + sizeof(uint64_t) * (size_t)h->n_tags +
           sizeof(struct store_extent) * (size_t)h->n_extents + h->n_key + h->n_meta;
}

size_t
record_head_size(const struct record *r)
{
    return head_size(&r->h);
}

/* The checksum of a head, in whose place the store's id and what follows the header count. */
static uint64_t
head_checksum(const char *at, size_t n, uint64_t store_id)
{
    struct record_header h;

    memcpy(&h, at, sizeof h);
    h.head_check = store_id ^ (n > sizeof h ? checksum(at + sizeof h, n - sizeof h) : 0);
    return checksum(&h, sizeof h);
}

uint64_t
body_checksum(const char *at, size_t n, uint64_t store_id)
{
    return checksum(at, n) ^ store_id;
}

static int
limits_hold(const struct record_header *h)
{
    uint32_t parts = h->kind == RECORD_CHUNK ? SEGMENT_RUN : 1;

    return h->n_key <= STORE_KEY_MAX && h->n_meta <= STORE_META_MAX &&
           h->n_tags <= STORE_TAGS_MAX && h->n_extents <= SEGMENT_EXTENTS_MAX &&
           h->n_inline <= parts * STORE_INLINE && h->size <= (uint64_t)STORE_SIZE_MAX;
}

/* Whether the parts of the body add up to it. */
static int
parts_agree(const struct record *r)
{
    uint64_t sum = r->h.n_inline;
    uint32_t i;

    if (r->h.kind == RECORD_CHUNK || r->h.kind == RECORD_LIST)
        return r->h.n_key == 0 && r->h.n_meta == 0 && r->h.n_tags == 0 && r->h.n_extents == 0 &&
               r->h.n_inline > 0 &&
               (r->h.kind == RECORD_CHUNK || r->h.n_inline % sizeof(struct record_listed) == 0);
    if (r->h.n_key == 0 || (r->h.n_extents > 0 && r->h.n_inline > 0))
        return 0;
    for (i = 0; i < r->h.n_extents; i++) {
        const struct store_extent *e = &r->extents[i];
        int is_last = i + 1 == r->h.n_extents;

        /* all but the last are full, so that a place in the body gives its extent */
        if (e->n == 0 || e->n > STORE_INLINE || (!is_last && e->n != STORE_INLINE))
            return 0;
        sum += e->n;
    }
    return sum == r->h.size;
}

static void
record_point(struct record *r, const char *at)
{
    const char *to = at + sizeof r->h;

    r->tags = (const uint64_t *)(const void *)to;
    to += sizeof(uint64_t) * (size_t)r->h.n_tags;
    r->extents = (const struct store_extent *)(const void *)to;
    to += sizeof(struct store_extent) * (size_t)r->h.n_extents;
    r->key = (struct sl_span){to, r->h.n_key};
    r->meta = (struct sl_span){to + r->h.n_key, r->h.n_meta};
}

enum record_found
record_decode(const char *at, size_t n, uint64_t store_id, struct record *r)
{
    r->n_head = sizeof r->h;
    if (n < sizeof r->h)
        return RECORD_MORE;
    memcpy(&r->h, at, sizeof r->h);
    if (r->h.magic != SEGMENT_MAGIC || r->h.version != SEGMENT_VERSION ||
        r->h.kind < RECORD_HEAD || r->h.kind > RECORD_LIST || !limits_hold(&r->h))
        return RECORD_BAD;
    r->n_head = head_size(&r->h);
    if (n < r->n_head)
        return RECORD_MORE;
    if (head_checksum(at, r->n_head, store_id) != r->h.head_check)
        return RECORD_BAD;
    record_point(r, at);
    return parts_agree(r) ? RECORD_OK : RECORD_BAD;
}

struct record
record_write(char *to, const struct record *r)
{
    struct record out = {.h = r->h, .n_head = head_size(&r->h)};

    out.h.magic = SEGMENT_MAGIC;
    out.h.version = SEGMENT_VERSION;
    memcpy(to, &out.h, sizeof out.h);
    record_point(&out, to);
    if (r->h.n_tags > 0)
        memcpy(to + sizeof out.h, r->tags, sizeof(uint64_t) * (size_t)r->h.n_tags);
    if (r->h.n_extents > 0)
        memcpy(to + sizeof out.h + sizeof(uint64_t) * (size_t)r->h.n_tags, r->extents,
               sizeof(struct store_extent) * (size_t)r->h.n_extents);
    if (r->h.n_key > 0)
        memcpy(to + (out.key.at - to), r->key.at, r->key.n);
    if (r->h.n_meta > 0)
        memcpy(to + (out.meta.at - to), r->meta.at, r->meta.n);
    return out;
}

void
record_encode(char *to, const struct record *r, uint64_t store_id)
{
    record_write(to, r);
    record_place(to, head_size(&r->h), (struct record_place){r->h.seq, r->h.order},
                 r->h.body_check, store_id);
}

void
record_place(char *head, size_t n_head, struct record_place place, uint64_t body_check,
             uint64_t store_id)
{
    struct record_header h;

    memcpy(&h, head, sizeof h);
    h.seq = place.seq;
    h.order = place.order;
    h.body_check = body_check;
    memcpy(head, &h, sizeof h);
    h.head_check = head_checksum(head, n_head, store_id);
    memcpy(head + offsetof(struct record_header, head_check), &h.head_check, sizeof h.head_check);
}
