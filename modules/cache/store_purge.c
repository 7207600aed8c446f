/* Purges, which hold at once and are then written, and what is used most. */
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

/* ---- looking ---- */

int
store_has_folder(const struct store *s)
{
    return s->path != NULL;
}

static void
top_work(struct sl_offload *job)
{
    struct store_top *top = (struct store_top *)((char *)job - offsetof(struct store_top, job));
    struct object *objects[STORE_TOP_MAX];
    unsigned i;

    top->n = memory_top(top->store->memory, top->wants, top->data, objects, STORE_TOP_MAX);
    for (i = 0; i < top->n; i++)
        top->objects[i] = &objects[i]->pub;
}

static void
top_done(struct sl_loop *loop, struct sl_offload *job)
{
    struct store_top *top = (struct store_top *)((char *)job - offsetof(struct store_top, job));
    struct store_object *objects[STORE_TOP_MAX];
    unsigned i, n = top->n;

    memcpy(objects, top->objects, sizeof objects);
    top->done(loop, top);
    for (i = 0; i < n; i++)
        store_drop(&objects[i]);
}

int
store_top(struct store *s, struct sl_loop *loop, struct store_top *top)
{
    top->store = s;
    top->job.work = top_work;
    top->job.done = top_done;
    return sl_offload(loop, &top->job);
}
