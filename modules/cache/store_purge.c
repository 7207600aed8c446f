/* Purges, which hold at once and are then written, and lists of what is on disk. */
#include "store_impl.h"

#include <stdlib.h>

#include <xxhash.h>

struct store_hash
store_hash(const struct store *s, struct sl_span key)
{
    XXH128_hash_t h = XXH3_128bits_withSeed(key.at, key.n, store_id(s));

    return (struct store_hash){h.high64, h.low64};
}

/* 0 is none. */
static uint64_t
tag_hash(struct sl_span text, uint64_t seed)
{
    uint64_t tag = XXH3_64bits_withSeed(text.at, text.n, seed);

    return tag != 0 ? tag : 1;
}

uint64_t
store_tag(const struct store *s, struct sl_span tag)
{
    return tag_hash(tag, store_id(s));
}

uint64_t
store_host_tag(const struct store *s, struct sl_span host)
{
    return tag_hash(host, ~store_id(s));
}

enum store_state
store_state(const struct store *s, const struct store_object *o)
{
    return purges_state(&s->purges, o);
}

static void
purge_work(struct sl_offload *job)
{
    struct store_purge *p = (struct store_purge *)((char *)job - offsetof(struct store_purge, job));
    struct store *s = p->store;

    p->is_kept = disk_is_on(s) &&
                 (p->cell_page < 0 ||
                  disk_write_page(s, s->layout.cells_at + (uint64_t)p->cell_page) == 0) &&
                 (p->prefix_page < 0 ||
                  disk_write_page(s, s->layout.prefixes_at + (uint64_t)p->prefix_page) == 0) &&
                 disk_write_page(s, 0) == 0;
}

static void
purge_done(struct sl_loop *loop, struct sl_offload *job)
{
    struct store_purge *p = (struct store_purge *)((char *)job - offsetof(struct store_purge, job));

    p->done(loop, p, p->is_kept);
}

static void
purge_unkept(struct sl_loop *loop, struct sl_mail *mail)
{
    purge_done(loop, (struct sl_offload *)mail);
}

void
store_purge(struct store *s, struct sl_loop *loop, struct store_purge *p)
{
    struct purged changed = {-1, -1};
    int is_soft = p->is_soft != 0;

    switch (p->what) {
    case STORE_PURGE_ALL:
        changed = purge_all(&s->purges, is_soft);
        break;
    case STORE_PURGE_KEY:
        changed = purge_tag(&s->purges, store_key_tag(store_hash(s, p->text)), is_soft);
        break;
    case STORE_PURGE_HOST:
        changed = purge_tag(&s->purges, store_host_tag(s, p->text), is_soft);
        break;
    case STORE_PURGE_TAG:
        changed = purge_tag(&s->purges, store_tag(s, p->text), is_soft);
        break;
    case STORE_PURGE_PREFIX:
        changed = purge_prefix(&s->purges, p->text,
                               p->host.n > 0 ? store_host_tag(s, p->host) : 0, is_soft);
        break;
    }
    p->store = s;
    p->cell_page = changed.cell_page;
    p->prefix_page = changed.prefix_page;
    p->is_kept = 0;
    p->job.work = purge_work;
    p->job.done = purge_done;
    if (sl_offload(loop, &p->job) == 0)
        return;
    p->job.mail.fn = purge_unkept;
    sl_loop_post(loop, &p->job.mail);
}

/* ---- lists ---- */

static void
list_entry(struct store_list *l, uint64_t entry)
{
    struct store *s = l->store;
    struct object *o = NULL;
    uint64_t offset = entry_place(entry) * SEGMENT_UNIT;

    if (object_read(s, offset, entry_bytes_max(entry), READ_WAITING, &o) != READ_OK)
        return;
    l->objects[l->n] = &o->pub;
    l->entries[l->n++] = (struct store_entry){.key = o->pub.key,
                                              .meta = o->pub.meta,
                                              .size = o->size,
                                              .stamp = o->pub.stamp,
                                              .flags = o->pub.flags,
                                              .n_used = entry_used(entry),
                                              .state = purges_state(&s->purges, &o->pub)};
}

static void
list_work(struct sl_offload *job)
{
    struct store_list *l = (struct store_list *)((char *)job - offsetof(struct store_list, job));
    struct store *s = l->store;
    uint64_t n_words = s->index.n_pages * PAGE_WORDS;
    unsigned n_reads = 0;

    disk_load_index(s);
    for (; l->cursor < n_words && n_reads < l->max; l->cursor++) {
        struct page *page = &s->index.pages[l->cursor / PAGE_WORDS];
        uint64_t entry = atomic_load(&page->words[l->cursor % PAGE_WORDS]);

        if (entry != 0) {
            list_entry(l, entry);
            n_reads++;
        }
    }
    if (l->cursor == n_words)
        l->cursor = 0;
}

static void
list_done(struct sl_loop *loop, struct sl_offload *job)
{
    struct store_list *l = (struct store_list *)((char *)job - offsetof(struct store_list, job));
    struct store_object **objects = l->objects;
    struct store_entry *entries = l->entries;
    unsigned i, n = l->n;

    l->done(loop, l, entries, n);
    for (i = 0; i < n; i++)
        store_drop(&objects[i]);
    free(objects);
    free(entries);
}

int
store_list(struct store *s, struct sl_loop *loop, struct store_list *l)
{
    l->store = s;
    l->n = 0;
    l->entries = calloc((size_t)l->max + 1, sizeof *l->entries);
    l->objects = calloc((size_t)l->max + 1, sizeof *l->objects);
    l->job.work = list_work;
    l->job.done = list_done;
    if (l->entries != NULL && l->objects != NULL && disk_is_on(s) &&
        sl_offload(loop, &l->job) == 0)
        return 0;
    free(l->entries);
    free(l->objects);
    return -1;
}

unsigned
store_top(struct store *s, struct store_object **objects, unsigned max)
{
    struct object **to = calloc((size_t)max + 1, sizeof *to);
    unsigned i, n = to != NULL ? memory_top(s->memory, to, max) : 0;

    for (i = 0; i < n; i++)
        objects[i] = &to[i]->pub;
    free(to);
    return n;
}
