/* What stands in a segment: records one by one, or as the LIST in front of those that were written
 * together says.  Whose list is right need not be looked at: what the index leads to is checked when it
 * is read. */
#include "store_impl.h"

#include <stdlib.h>

#define WINDOW (64 * 1024)
#define GLANCE (8 * 1024) /* behind what was passed over */

int
walk_open(struct walk *w, struct store *s, uint64_t segment, uint64_t from, uint64_t to)
{
    uint64_t begin = segment * s->layout.segment_size;

    *w = (struct walk){.s = s,
                       .at = begin + (from > SEGMENT_UNIT ? from : SEGMENT_UNIT),
                       .end = begin + to,
                       .seq = word_seq(segment_word(s, segment)),
                       .size = WINDOW,
                       .window = malloc(WINDOW)};
    return w->window != NULL ? 0 : -1;
}

void
walk_close(struct walk *w)
{
    free(w->window);
}

/* How much is read for n bytes.  What there is beyond comes along, but among long steps most of it would
 * be bodies. */
static size_t
walk_reads(const struct walk *w, size_t n)
{
    size_t want = w->step >= WINDOW / 2 ? GLANCE : w->size;
    uint64_t left = w->end - w->at;

    want = want > n ? want : n;
    return want < left ? want : (size_t)left;
}

/* Makes n bytes from w->at on be in the window. */
static int
walk_see(struct walk *w, size_t n)
{
    size_t want;

    if (w->at >= w->window_at && w->at + n <= w->window_at + w->have)
        return 0;
    if (n > w->end - w->at || n > SEGMENT_HEAD_MAX)
        return -1;
    if (n > w->size) {
        char *larger = realloc(w->window, n);

        if (larger == NULL)
            return -1;
        w->window = larger;
        w->size = n;
    }
    want = walk_reads(w, n);
    w->window_at = w->at;
    w->have = 0;
    if (disk_read(w->s, w->window, want, w->at) != 0)
        return -1;
    w->have = want;
    return 0;
}

static const char *
walk_seen(const struct walk *w)
{
    return w->window + (w->at - w->window_at);
}

/* 1: there is one more, at w->at. */
static int
walk_record(struct walk *w, struct record *r)
{
    size_t n = sizeof r->h;
    enum record_found found = RECORD_MORE;

    while (found == RECORD_MORE && w->at < w->end && walk_see(w, n) == 0) {
        found = record_decode(walk_seen(w), w->have - (size_t)(w->at - w->window_at),
                              store_id(w->s), r);
        n = r->n_head;
    }
    return found == RECORD_OK && r->h.seq == w->seq && record_size(r) <= w->end - w->at;
}

/* What they take of the segment; 0: something is wrong with them. */
static uint64_t
listed_size(const struct record_listed *listed, unsigned n)
{
    uint64_t sum = 0;
    unsigned i;

    for (i = 0; i < n; i++) {
        if ((listed[i].kind != RECORD_HEAD && listed[i].kind != RECORD_TOMB) ||
            listed[i].n < sizeof(struct record_header))
            return 0;
        sum += segment_units(listed[i].n) * SEGMENT_UNIT;
    }
    return sum;
}

/* The list at w->at is passed; behind it stands what it says, or if it is not right, records. */
static void
walk_list(struct walk *w, const struct record *list)
{
    const struct record_listed *listed;
    unsigned n = list->h.n_inline / (unsigned)sizeof *listed;

    if (walk_see(w, list->n_head + list->h.n_inline) == 0) {
        listed = (const void *)(walk_seen(w) + list->n_head);
        if (record_body_is_good(list, (const char *)listed, store_id(w->s)) &&
            list->h.size <= w->end - w->at - record_size(list) &&
            listed_size(listed, n) == list->h.size) {
            w->listed = listed;
            w->n_listed = n;
            w->order = list->h.order;
            w->step = list->h.size;
        }
    }
    w->at += record_size(list);
}

static void
walk_listed(struct walk *w, struct walked *to)
{
    if (w->n_listed > SEND_AHEAD)
        disk_send_for(w->s, w->listed[SEND_AHEAD].hash);
    *to = (struct walked){w->listed->hash, (enum record_kind)w->listed->kind, w->at, w->order,
                          w->listed->n};
    w->at += segment_units(w->listed->n) * SEGMENT_UNIT;
    w->listed++;
    w->n_listed--;
}

int
walk_next(struct walk *w, struct walked *to)
{
    struct record r;

    while (w->n_listed == 0) {
        if (!walk_record(w, &r))
            return 0;
        if (r.h.kind == RECORD_LIST) {
            walk_list(w, &r);
            continue;
        }
        *to = (struct walked){r.h.hash, (enum record_kind)r.h.kind, w->at, r.h.order,
                              r.n_head + r.h.n_inline};
        w->step = record_size(&r);
        w->at += w->step;
        return 1;
    }
    walk_listed(w, to);
    return 1;
}
