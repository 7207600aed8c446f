/* See overrides.h. */
#include "master/overrides.h"

#include "control_words.h"
#include "runtime/log.h"
#include "runtime/override_file.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The index of the override; -1: there is none. */
static int
find(const apr_array_header_t *all, const struct sl_override *o)
{
    int i;

    for (i = 0; i < all->nelts; i++) {
        const struct sl_override *at = &APR_ARRAY_IDX(all, i, struct sl_override);

        if (strcmp(at->owner, o->owner) == 0 && strcmp(at->key, o->key) == 0)
            return i;
    }
    return -1;
}

/* o, with says NULL nothing, in place of what there was of its owner and key.  1: that changes
 * something. */
static int
put(apr_array_header_t *all, const struct sl_override *o)
{
    int i = find(all, o);
    struct sl_override *at;

    if (o->says == NULL && i < 0)
        return 0;
    at = i >= 0 ? &APR_ARRAY_IDX(all, i, struct sl_override) : apr_array_push(all);
    if (o->says == NULL) {
        *at = APR_ARRAY_IDX(all, all->nelts - 1, struct sl_override);
        apr_array_pop(all);
        return 1;
    }
    if (i >= 0 && strcmp(at->says, o->says) == 0 && strcmp(at->of, o->of) == 0)
        return 0;
    *at = *o;
    return 1;
}

/* NULL, or why it is not kept. */
static const char *
keep(apr_pool_t *pool, const char *folder, const struct sl_override *o)
{
    const char *why;
    apr_array_header_t *all = overrides_read(pool, folder, &why);

    if (all == NULL)
        return why;
    if (all->nelts >= OVERRIDES_MOST && o->says != NULL && find(all, o) < 0)
        return "there are too many";
    return put(all, o) ? overrides_write(pool, folder, all) : NULL;
}

/* "OWNER KEY [SAYS OF]", as control_words.h has it; the text is written into. */
static const char *
keep_message(apr_pool_t *pool, const struct generation *g, char *text)
{
    struct sl_override o = {.at = (int64_t)time(NULL)};

    o.owner = control_word_next(&text);
    o.key = control_word_next(&text);
    o.says = control_word_next(&text);
    o.of = control_word_next(&text);
    if (o.key == NULL || (o.says != NULL && o.of == NULL))
        return "the worker asks for something else";
    return g->state_dir[0] != '\0' ? keep(pool, g->state_dir, &o) : "no StateDir is named";
}

/* A command may have been on its way to the generation before when the next one took over. */
static int
is_heard(const struct master *ma, const struct generation *g)
{
    return g->is_ready && ma->serving != NULL && strcmp(g->state_dir, ma->serving->state_dir) == 0;
}

void
overrides_answer(const struct master *ma, const struct generation *g, const struct message *asked)
{
    struct message text = *asked, answer;
    const char *why = "another generation serves";
    apr_pool_t *pool;

    apr_pool_create(&pool, NULL);
    if (is_heard(ma, g))
        why = keep_message(pool, g, text.text);
    if (why != NULL)
        sl_log(SL_ERROR, "SL0271", "what was said at run time is not kept: %s", why);
    message_make(&answer, MSG_KEPT, why);
    answer.number = asked->number;
    generation_try(g, &answer, -1);
    apr_pool_destroy(pool);
}

void
overrides_lend(const struct generation *g)
{
    int fd = overrides_open(g->state_dir);

    generation_say(g, MSG_STATE, fd < 0 && errno == ENOENT, fd);
    if (fd >= 0)
        close(fd);
}
