/* Stretches: records that wait to be written, as they will stand, and the lists of what is written
 * together. */
#include "store_impl.h"

#define LISTED_LEAST 8

static size_t
padded(size_t n)
{
    return (size_t)segment_units(n) * SEGMENT_UNIT;
}

static size_t
object_record_size(const struct object *o)
{
    return object_head_size(o) + (o->body_at != NULL ? (size_t)o->size : 0);
}

size_t
stretch_object_size(const struct object *o)
{
    return padded(object_record_size(o));
}

size_t
stretch_tomb_size(const struct record *r)
{
    return padded(record_head_size(r));
}

/* Where a record of n bytes goes; its padding is there. */
static char *
stretch_add(struct stretch *t, size_t n, struct stretch_record r)
{
    char *at = t->bytes + t->n_bytes;
    size_t size = padded(n);

    SL_ASSERT(stretch_has_room(t, size));
    r.at = t->n_bytes;
    r.n = (uint32_t)n;
    t->records[t->n++] = r;
    t->n_bytes += (uint32_t)size;
    memset(at + n, 0, size - n);
    return at;
}

void
stretch_add_object(struct stretch *t, const struct object *o, uint64_t body_check)
{
    size_t n_head = object_head_size(o), n = object_record_size(o);
    char *to = stretch_add(t, n,
                           (struct stretch_record){.hash = o->hash,
                                                   .change = o->change,
                                                   .check = body_check,
                                                   .n_head = (uint32_t)n_head});

    if (o->body_at == o->head->at + n_head) {
        memcpy(to, o->head->at, n);
        return;
    }
    memcpy(to, o->head->at, n_head);
    if (n > n_head)
        memcpy(to + n_head, o->body_at, n - n_head);
}

void
stretch_add_tomb(struct stretch *t, const struct record *r)
{
    size_t n = record_head_size(r);

    record_write(stretch_add(t, n,
                             (struct stretch_record){
                                 .hash = r->h.hash, .n_head = (uint32_t)n, .is_tomb = 1}),
                 r);
}

/* ---- lists ---- */

size_t
stretch_list_size(unsigned n)
{
    return n < LISTED_LEAST ? 0
                            : padded(sizeof(struct record_header) + n * sizeof(struct record_listed));
}

unsigned
stretch_fit(const struct stretch *t, unsigned from, uint64_t room)
{
    uint64_t sum = 0;
    unsigned n;

    for (n = 0; from + n < t->n; n++) {
        sum += padded(t->records[from + n].n);
        if (stretch_list_size(n + 1) + sum > room)
            break;
    }
    return n;
}

const char *
stretch_list(struct stretch *t, unsigned from, unsigned n, struct record_place place,
             uint64_t store_id)
{
    struct record_listed *listed = (void *)(t->list + sizeof(struct record_header));
    struct record list = {.h = {.kind = RECORD_LIST, .n_inline = n * (uint32_t)sizeof *listed}};
    size_t n_list = sizeof list.h + list.h.n_inline;
    unsigned i;

    for (i = 0; i < n; i++) {
        const struct stretch_record *r = &t->records[from + i];

        listed[i] = (struct record_listed){r->hash, r->n, r->is_tomb ? RECORD_TOMB : RECORD_HEAD};
        list.h.size += padded(r->n);
    }
    record_write(t->list, &list);
    record_place(t->list, sizeof list.h, place,
                 body_checksum((const char *)listed, list.h.n_inline, store_id), store_id);
    memset(t->list + n_list, 0, padded(n_list) - n_list);
    return t->list;
}
