/* Segments: whose they are, appending to them, and using them again.
 *
 * A process appends to one segment that it has claimed, by its flushing job alone, so records
 * stand one after the other without holes.  What is appended counts when `fill` has moved past
 * it; the index is told last.  A segment that its process left, or died over, is gone on with
 * from its fill by the next who needs one.
 *
 * When the last free segment was claimed, the oldest full one is reclaimed: its records leave
 * the index, but for those in use, which are appended anew: a quarter of a segment, and none that
 * is larger than three quarters.
 * Then it is free, and its bytes still as they were; they are overwritten by who claims it, with
 * another seq, and only while no process has it pinned: who reads pins first and then looks at
 * the seq, who claims changes the seq first and then looks at the pins.  What sendfile took from it
 * and clients have not, nobody can pin: see file_renew(). */
#include "store_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#define TURN_ONE (UINT64_C(1) << 16)
#define APPENDS_AT_ONCE 64u
#define PART_ROOM_MIN 8 /* a segment with less than an eighth free is full */
#define PAGE 4096u /* of the system's page cache, mostly */
#define RELOCATE_SHARE 4

static const char zeroes[PAGE];

/* ---- states ---- */

/* seq 0: stays. */
static uint64_t
word_next(const struct store *s, uint64_t word, enum segment_state state, uint64_t seq)
{
    uint64_t turn = (word + TURN_ONE) & UINT64_C(0xff0000);

    return (seq != 0 ? seq : word_seq(word)) << 24 | turn | (uint64_t)s->slots->mine << 8 | state;
}

static int
segment_turn(struct store *s, uint64_t segment, uint64_t *word, enum segment_state to,
             uint64_t seq)
{
    uint64_t next = word_next(s, *word, to, seq);

    if (!atomic_compare_exchange_strong(&segment_words(s, segment)[0], word, next))
        return 0;
    *word = next;
    page_is_changed(segment_page(s, segment));
    return 1;
}

static enum segment_state
state_when_left(const struct store *s, uint64_t segment)
{
    uint64_t room = s->layout.segment_size - atomic_load(segment_fill(s, segment));

    return room > s->layout.segment_size / PART_ROOM_MIN ? SEGMENT_PART : SEGMENT_FULL;
}

/* to: what it is for the next who looks. */
static void
current_leave(struct store *s, enum segment_state to)
{
    uint64_t word = segment_word(s, (uint64_t)s->current);

    segment_turn(s, (uint64_t)s->current, &word, to, 0);
    s->current = -1;
}

void
segment_give_up(struct store *s)
{
    if (s->current >= 0)
        current_leave(s, state_when_left(s, (uint64_t)s->current));
}

void
segments_adopt(struct store *s, int mine)
{
    uint64_t i;

    for (i = 0; i < s->layout.n_segments; i++) {
        uint64_t word = segment_word(s, i);
        unsigned place = word_place(word);
        int is_left = place == s->slots->mine ? mine : !(sl_places_others() >> place & 1);

        if (is_left && (word_state(word) == SEGMENT_OPEN || word_state(word) == SEGMENT_RECLAIM))
            segment_turn(s, i, &word, state_when_left(s, i), 0);
    }
}

/* ---- pins ---- */

static _Atomic(uint32_t) *
pins_of(const struct store *s, unsigned place, uint64_t segment)
{
    return (_Atomic(uint32_t) *)sl_slot(s->slots, place) + segment;
}

int
segment_holds(const struct store *s, uint64_t offset, uint64_t seq)
{
    uint64_t segment = offset / s->layout.segment_size;

    return segment < s->layout.n_segments && word_seq(segment_word(s, segment)) == seq;
}

int
segment_pin(struct store *s, uint64_t offset, uint64_t seq)
{
    uint64_t segment = offset / s->layout.segment_size;

    if (segment >= s->layout.n_segments)
        return 0;
    atomic_fetch_add(pins_of(s, s->slots->mine, segment), 1);
    if (segment_holds(s, offset, seq))
        return 1;
    segment_unpin(s, offset);
    return 0;
}

void
segment_unpin(struct store *s, uint64_t offset)
{
    atomic_fetch_sub(pins_of(s, s->slots->mine, offset / s->layout.segment_size), 1);
}

static int
is_pinned(const struct store *s, uint64_t segment)
{
    uint64_t others = sl_places_others();
    unsigned place;

    for (place = 0; place < SL_PLACES; place++)
        if ((place == s->slots->mine || (others >> place & 1)) &&
            atomic_load(pins_of(s, place, segment)) > 0)
            return 1;
    return 0;
}

/* ---- reusing ---- */

/* Appends the n chunks anew that begin with extents[0], as one record: 0, or -1. */
static int
relocate_run(struct store *s, struct store_hash hash, struct store_extent *extents, uint32_t n)
{
    struct store_bytes *bytes[SEGMENT_RUN] = {NULL};
    struct record_header head;
    struct append a, *one = &a;
    uint32_t i;
    int rc = -1;

    append_begin(&a, (char *)&head, sizeof head);
    for (i = 0; i < n && (bytes[i] = extent_read(s, &extents[i])) != NULL; i++)
        append_add(&a, bytes[i]->at, extents[i].n);
    head = chunk_header(hash, (uint32_t)(append_size(&a) - a.n_head));
    if (i == n && segment_append(s, &one, 1) == 1) {
        for (i = 0; i < n; i++)
            extents[i] = append_extent(&a, i);
        rc = 0;
    }
    for (i = 0; i < n; i++)
        bytes_drop(&bytes[i]);
    return rc;
}

/* Gives where the chunks of the body stand now: 0, or -1. */
static int
relocate_body(struct store *s, const struct object *o, struct store_extent *extents)
{
    uint32_t i, n;

    for (i = 0; i < o->n_extents; i += n) {
        n = o->n_extents - i < s->layout.run ? o->n_extents - i : s->layout.run;
        memcpy(extents + i, o->extents + i, n * sizeof *extents);
        if (relocate_run(s, o->hash, extents + i, n) != 0)
            return -1;
    }
    return 0;
}

static int
relocate_head(struct store *s, const struct object *o, const struct store_extent *extents,
              uint64_t from)
{
    struct record r = object_record(o);
    struct store_bytes *head = bytes_new(record_head_size(&r));
    struct append a, *one = &a;
    int is_done = 0;

    if (head == NULL)
        return 0;
    r.extents = extents;
    record_encode(head->at, &r, store_id(s));
    append_begin(&a, head->at, head->size);
    if (r.h.n_inline > 0)
        append_add(&a, o->body_at, r.h.n_inline);
    if (segment_append(s, &one, 1) == 1)
        is_done = index_move(&s->index, o->hash, from / SEGMENT_UNIT,
                             entry_make(o->hash, a.offset, append_size(&a)));
    bytes_drop(&head);
    return is_done;
}

/* Appends an object that is in use anew, and lets the index lead there; from: where it is. */
static int
relocate(struct store *s, const struct object *o, uint64_t from)
{
    struct store_extent *extents = calloc((size_t)o->n_extents + 1, sizeof *extents);
    int is_done = extents != NULL && relocate_body(s, o, extents) == 0 &&
                  relocate_head(s, o, extents, from);

    free(extents);
    return is_done;
}

/* Whether the entry's object is used: the memory tier knows of hits the index does not. */
static int
is_used(struct store *s, struct store_hash hash, uint64_t entry)
{
    struct object *o;
    int is_hit;

    if (entry_used(entry) > 0)
        return 1;
    o = memory_find(s->memory, hash);
    if (o == NULL)
        return 0;
    is_hit = store_hits(&o->pub) > 0;
    object_drop(&o);
    return is_hit;
}

/* The record leaves its segment; *left: bytes that may still be appended anew, which the last
 * object may exceed. */
static void
reclaim_record(struct store *s, const struct walked *r, int64_t *left)
{
    uint64_t found[INDEX_FOUND_MAX];
    unsigned i, n = index_find(&s->index, r->hash, found);

    for (i = 0; i < n; i++) {
        uint64_t offset = entry_place(found[i]) * SEGMENT_UNIT;
        int is_here = offset == r->offset, is_relocated = 0;
        struct object *o = NULL;

        /* a chunk takes its whole object along, wherever the head is */
        if (!is_here && r->kind != RECORD_CHUNK)
            continue;
        if (*left > 0 && is_used(s, r->hash, found[i]) &&
            object_read(s, offset, entry_bytes_max(found[i]), READ_WAITING, &o) == READ_OK &&
            o->size <= s->layout.segment_size / 4 * 3 && object_is_whole(s, o) &&
            purges_state(&s->purges, &o->pub) != STORE_GONE) {
            is_relocated = relocate(s, o, offset);
            *left -= (int64_t)(o->size + object_head_size(o));
        }
        if (o != NULL)
            object_drop(&o);
        if (is_relocated)
            count(&s->head->n_relocated, 1);
        else if (is_here && index_drop(&s->index, r->hash, entry_place(found[i])))
            count(&s->head->n_evicted, 1);
    }
}

/* The full segment of the lowest seq, else one with room. */
static int64_t
victim(const struct store *s, uint64_t *word)
{
    int64_t best = -1;
    uint64_t i;
    int is_part = 1;

    for (i = 0; i < s->layout.n_segments; i++) {
        uint64_t w = segment_word(s, i);

        if ((word_state(w) != SEGMENT_FULL && word_state(w) != SEGMENT_PART) || is_pinned(s, i))
            continue;
        if (best < 0 || (word_state(w) == SEGMENT_PART) < is_part ||
            ((word_state(w) == SEGMENT_PART) == is_part && word_seq(w) < word_seq(*word))) {
            best = (int64_t)i;
            *word = w;
            is_part = word_state(w) == SEGMENT_PART;
        }
    }
    return best;
}

static int
reclaim(struct store *s)
{
    int64_t left = (int64_t)(s->layout.segment_size / RELOCATE_SHARE), segment;
    uint64_t word = 0, fill;
    struct walked r;
    struct walk w;

    segment = victim(s, &word);
    if (segment < 0 || !segment_turn(s, (uint64_t)segment, &word, SEGMENT_RECLAIM, 0))
        return -1;
    disk_load_index(s);
    fill = atomic_load(segment_fill(s, (uint64_t)segment));
    s->is_reclaiming = 1;
    if (walk_open(&w, s, (uint64_t)segment, 0, fill) == 0) {
        while (walk_next(&w, &r))
            reclaim_record(s, &r, &left);
        walk_close(&w);
    }
    s->is_reclaiming = 0;
    segment_turn(s, (uint64_t)segment, &word, SEGMENT_FREE, 0);
    return 0;
}

/* ---- claiming ---- */

/* Pages that no socket has are written over as they are: the system need not make others. */
static int
has_room(struct store *s, uint64_t segment)
{
    uint64_t size = s->layout.segment_size;

    if (atomic_load(segment_given(s, segment)) == 0)
        return 1;
    if (file_renew(s->fd_objects, segment * size, size) != 0) {
        s->claim_error = errno;
        if (errno == ENOSPC || errno == EDQUOT)
            disk_is_full(s);
        return 0;
    }
    atomic_store(segment_given(s, segment), 0);
    return 1;
}

/* A free segment becomes an empty one.  It is not OPEN before: how far it was filled is not to be
 * taken for how far the index on disk knows it now. */
static int
claim_free(struct store *s, uint64_t segment, uint64_t word)
{
    uint64_t seq = atomic_fetch_add(super_word(s, SUPER_NEXT_SEQ), 1);

    if (!segment_turn(s, segment, &word, SEGMENT_RECLAIM, seq))
        return 0;
    atomic_store(segment_fill(s, segment), SEGMENT_UNIT);
    atomic_store(&segment_words(s, segment)[2], 0);
    /* when it cannot be had, nothing is lost: no entry led there */
    if (is_pinned(s, segment) || !has_room(s, segment)) {
        segment_turn(s, segment, &word, SEGMENT_FREE, 0);
        return 0;
    }
    return segment_turn(s, segment, &word, SEGMENT_OPEN, 0);
}

/* The first in a state, to append to; -1: none. */
static int64_t
claim(struct store *s, enum segment_state from)
{
    uint64_t i;

    for (i = 0; i < s->layout.n_segments; i++) {
        uint64_t word = segment_word(s, i);

        if (word_state(word) == from &&
            (from == SEGMENT_FREE ? claim_free(s, i, word)
                                  : segment_turn(s, i, &word, SEGMENT_OPEN, 0)))
            return (int64_t)i;
    }
    return -1;
}

static int
has_free(const struct store *s)
{
    uint64_t i;

    for (i = 0; i < s->layout.n_segments; i++)
        if (word_state(segment_word(s, i)) == SEGMENT_FREE)
            return 1;
    return 0;
}

static int64_t
claim_any(struct store *s)
{
    int64_t segment;

    s->claim_error = EBUSY;
    segment = claim(s, SEGMENT_PART);
    if (segment < 0)
        segment = claim(s, SEGMENT_FREE);
    if (segment < 0 && reclaim(s) == 0)
        segment = claim(s, SEGMENT_FREE);
    return segment;
}

/* Another segment to append to, which the disk knows of before anything stands in it. */
static int
segment_next(struct store *s)
{
    if (s->is_reclaiming)
        return -1;
    if (s->current >= 0) /* it has no room for the record at hand */
        current_leave(s, SEGMENT_FULL);
    s->current = claim_any(s);
    if (s->current < 0) {
        errno = s->claim_error;
        if (errno == EBUSY)
            disk_failed(s, "every segment is being read or written", 0);
        else
            disk_failed(s, "cannot write objects", 1);
        return -1;
    }
    if (disk_write_page(s, 1 + (uint64_t)s->current / SEGMENTS_A_PAGE) != 0) {
        segment_give_up(s);
        return -1;
    }
    if (!has_free(s))
        reclaim(s);
    return 0;
}

/* ---- appending ---- */

static int
write_all(int fd, struct iovec *iov, int n, uint64_t offset)
{
    while (n > 0) {
        ssize_t put = pwritev(fd, iov, n, (off_t)offset);

        if (put < 0 && errno == EINTR)
            continue;
        if (put == 0)
            errno = ENOSPC;
        if (put <= 0)
            return -1;
        offset += (uint64_t)put;
        for (; n > 0 && (size_t)put >= iov->iov_len; n--)
            put -= (ssize_t)iov++->iov_len;
        if (n > 0) {
            iov->iov_base = (char *)iov->iov_base + put;
            iov->iov_len -= (size_t)put;
        }
    }
    return 0;
}

static struct iovec
iov_of(const void *at, size_t n)
{
    return (struct iovec){(void *)(uintptr_t)at, n};
}

/* Of what is written next, in the current segment. */
static struct record_place
place_next(struct store *s)
{
    return (struct record_place){word_seq(segment_word(s, (uint64_t)s->current)),
                                 atomic_fetch_add(super_word(s, SUPER_ORDER), 1) + 1};
}

/* Finishes a record that is to stand at offset and gives its parts: how many. */
static int
append_place(struct store *s, struct append *a, uint64_t offset, struct record_place place,
             size_t padding, struct iovec *iov)
{
    unsigned i;
    int n = 0;

    a->offset = offset;
    a->seq = place.seq;
    iov[n++] = iov_of(a->head, a->n_head);
    for (i = 0; i < a->n_parts; i++) {
        struct append_part *part = &a->body[i];

        part->check = body_checksum(part->at, part->n, store_id(s));
        if (i == 0 && part->at == a->head + a->n_head)
            iov[0].iov_len += part->n;
        else
            iov[n++] = iov_of(part->at, part->n);
    }
    record_place(a->head, a->n_head, place, a->n_parts == 1 ? a->body[0].check : 0, store_id(s));
    if (padding > 0)
        iov[n++] = iov_of(zeroes, padding);
    return n;
}

/* Writes n parts, with room for one more, where the current segment is filled so far, which it
 * then is up to `to`. */
static int
segment_put(struct store *s, struct iovec *iov, int n, uint64_t fill, uint64_t to)
{
    uint64_t segment = (uint64_t)s->current;

    /* what a dead process had appended beyond its fill ends here for those who walk; and of a page
     * that is written to its end, what it had need not be read */
    if (to < s->layout.segment_size)
        iov[n++] = iov_of(zeroes, PAGE - to % PAGE);
    if (write_all(s->fd_objects, iov, n, segment * s->layout.segment_size + fill) != 0) {
        disk_failed(s, "cannot write objects", 1);
        return -1;
    }
    atomic_store(segment_fill(s, segment), to);
    return 0;
}

/* Writes as many as have room in the current segment: how many, -1 after an error. */
static int
append_here(struct store *s, struct append *const a[], unsigned n)
{
    struct iovec iov[(SEGMENT_RUN + 2) * APPENDS_AT_ONCE + 1];
    uint64_t begin = (uint64_t)s->current * s->layout.segment_size;
    uint64_t fill = atomic_load(segment_fill(s, (uint64_t)s->current)), to = fill;
    struct record_place place = place_next(s);
    unsigned i;
    int n_iov = 0;

    for (i = 0; i < n && i < APPENDS_AT_ONCE; i++) {
        uint64_t bytes = append_size(a[i]), size = segment_units(bytes) * SEGMENT_UNIT;

        SL_ASSERT(size <= s->layout.segment_size - SEGMENT_UNIT);
        if (to + size > s->layout.segment_size)
            break;
        n_iov += append_place(s, a[i], begin + to, place, size - bytes, iov + n_iov);
        to += size;
    }
    if (i == 0)
        return 0;
    return segment_put(s, iov, n_iov, fill, to) == 0 ? (int)i : -1;
}

unsigned
segment_append(struct store *s, struct append *const a[], unsigned n)
{
    unsigned done = 0;

    while (done < n) {
        int put = s->current >= 0 ? append_here(s, a + done, n - done) : 0;

        if (put < 0 || (put == 0 && segment_next(s) != 0))
            break;
        done += (unsigned)put;
    }
    return done;
}

/* The records from `from` on that have room in the current segment, with their list: how many, -1
 * after an error. */
static int
stretch_here(struct store *s, struct stretch *t, unsigned from)
{
    struct iovec iov[3];
    uint64_t begin = (uint64_t)s->current * s->layout.segment_size;
    uint64_t fill = atomic_load(segment_fill(s, (uint64_t)s->current));
    struct record_place place = place_next(s);
    unsigned n = stretch_fit(t, from, s->layout.segment_size - fill), i;
    size_t n_list = stretch_list_size(n);
    uint64_t to = fill + n_list;
    int n_iov = 0;

    if (n == 0)
        return 0;
    for (i = from; i < from + n; i++) {
        struct stretch_record *r = &t->records[i];

        r->offset = begin + to;
        record_place(t->bytes + r->at, r->n_head, place, r->check, store_id(s));
        to += segment_units(r->n) * SEGMENT_UNIT;
    }
    if (n_list > 0)
        iov[n_iov++] = iov_of(stretch_list(t, from, n, place, store_id(s)), n_list);
    iov[n_iov++] = iov_of(t->bytes + t->records[from].at, to - fill - n_list);
    return segment_put(s, iov, n_iov, fill, to) == 0 ? (int)n : -1;
}

unsigned
segment_append_stretch(struct store *s, struct stretch *t)
{
    unsigned done = 0;

    while (done < t->n) {
        int put = s->current >= 0 ? stretch_here(s, t, done) : 0;

        if (put < 0 || (put == 0 && segment_next(s) != 0))
            break;
        done += (unsigned)put;
    }
    return done;
}

/* ---- after a start ---- */

static void
replay_record(struct store *s, const struct walked *r)
{
    switch (r->kind) {
    case RECORD_HEAD:
        index_put(&s->index, r->hash, entry_make(r->hash, r->offset, r->n));
        break;
    case RECORD_TOMB:
        index_forget(&s->index, r->hash);
        break;
    case RECORD_CHUNK:
    case RECORD_LIST:
        break;
    }
}

/* One of the segments that are read. */
struct replay {
    uint64_t segment, word;
    struct walk walk;
    struct walked next;
    int has_next;
};

/* 0: no memory. */
static int
replay_open(struct replay *r, struct store *s, uint64_t segment)
{
    uint64_t indexed = atomic_load(&segment_words(s, segment)[2]);

    *r = (struct replay){.segment = segment, .word = segment_word(s, segment)};
    if (walk_open(&r->walk, s, segment, indexed, s->layout.segment_size) != 0)
        return 0;
    r->has_next = walk_next(&r->walk, &r->next);
    return 1;
}

static void
replay_end(struct replay *r, struct store *s)
{
    atomic_store(segment_fill(s, r->segment), r->walk.at - r->segment * s->layout.segment_size);
    segment_turn(s, r->segment, &r->word, state_when_left(s, r->segment), 0);
}

/* Of an earlier version's records, which have no order, those of the older segment come first. */
static int
is_before(const struct replay *a, const struct replay *b)
{
    return a->next.order != b->next.order ? a->next.order < b->next.order
                                          : word_seq(a->word) < word_seq(b->word);
}

/* The one whose next record was written first; NULL: all have been read. */
static struct replay *
replay_first(struct replay *replays, uint64_t n)
{
    struct replay *first = NULL, *r;

    for (r = replays; r < replays + n; r++)
        if (r->has_next && (first == NULL || is_before(r, first)))
            first = r;
    return first;
}

/* Whether the index on disk is older than a segment's use, so that it has none of its records. */
static int
is_used_since(const struct store *s, uint64_t segment)
{
    return word_state(segment_word(s, segment)) == SEGMENT_REPLAY &&
           atomic_load(&segment_words(s, segment)[2]) == 0;
}

/* What an entry led to was there before the segment became free, or was used again. */
static int
is_of_before(const void *data, uint64_t place)
{
    const struct store *s = data;
    uint64_t segment = place * SEGMENT_UNIT / s->layout.segment_size;

    return segment >= s->layout.n_segments ||
           word_state(segment_word(s, segment)) == SEGMENT_FREE || is_used_since(s, segment);
}

/* What there was before is known, as far as it still is. */
static void
index_prepare(struct store *s, const struct replay *replays, uint64_t n)
{
    uint64_t i;

    for (i = 0; i < n && !replays[i].has_next && !is_used_since(s, replays[i].segment); i++)
        ;
    if (i == n) /* nothing was written later */
        return;
    disk_load_index(s);
    index_drop_where(&s->index, is_of_before, s);
}

/* In the order it was written, so that what came later holds: a process goes on with a segment that
 * is older than the one it leaves, and several write at a time. */
static void
replays_merge(struct store *s, struct replay *replays, uint64_t n)
{
    _Atomic(uint64_t) *latest = super_word(s, SUPER_ORDER);
    struct replay *r;

    index_prepare(s, replays, n);
    r = replay_first(replays, n);
    for (; r != NULL; r = replay_first(replays, n)) {
        replay_record(s, &r->next);
        if (r->next.order > atomic_load(latest))
            atomic_store(latest, r->next.order);
        r->has_next = walk_next(&r->walk, &r->next);
    }
}

static uint64_t
n_to_replay(const struct store *s)
{
    uint64_t i, n = 0;

    for (i = 0; i < s->layout.n_segments; i++)
        n += word_state(segment_word(s, i)) == SEGMENT_REPLAY;
    return n;
}

void
segments_replay(struct store *s)
{
    uint64_t n = n_to_replay(s), n_open = 0, i;
    struct replay *replays = n > 0 ? calloc(n, sizeof *replays) : NULL;

    for (i = 0; replays != NULL && i < s->layout.n_segments && n_open < n; i++)
        if (word_state(segment_word(s, i)) == SEGMENT_REPLAY &&
            replay_open(&replays[n_open++], s, i) == 0) {
            n = 0; /* the next tick tries again */
            n_open--;
        }
    if (n > 0 && replays != NULL) {
        replays_merge(s, replays, n_open);
        for (i = 0; i < n_open; i++)
            replay_end(&replays[i], s);
    }
    for (i = 0; i < n_open; i++)
        walk_close(&replays[i].walk);
    free(replays);
}
