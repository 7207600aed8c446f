/* See overrides.h.  All of it is thread 0's. */
#include "overrides.h"

#include "channel.h"
#include "config/overrides.h"
#include "control_words.h"
#include "runtime/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Asked of the master, not answered yet. */
struct asked {
    struct asked *next;
    unsigned number;
    sl_kept_f *done;
    void *data;
    char text[CHANNEL_TEXT]; /* of the message */
};

static struct {
    int channel;             /* -1: nobody keeps anything */
    const char *why_nowhere; /* then */
    unsigned last_number;
    struct asked *asked;
    struct overrides *kept;  /* the configuration's */
} own = {-1, "the server has only begun to start", 0, NULL, NULL};

/* ---- what modules ask ---- */

const struct sl_override *
sl_override_kept(struct sl_worker *w, unsigned i)
{
    const struct overrides *o = config_overrides(w->config);

    return i < (unsigned)o->all->nelts ? &APR_ARRAY_IDX(o->all, i, struct sl_override) : NULL;
}

void
sl_override_claim(struct sl_worker *w, const struct sl_override *kept, const char *place, int holds)
{
    const struct overrides *o = config_overrides(w->config);

    o->claims[kept - (const struct sl_override *)(const void *)o->all->elts] =
        (struct claim){place, holds};
}

static int
words_add(struct message *m, const char *const *words, unsigned n_words)
{
    size_t n = 0;
    unsigned i;
    int rc = 0;

    for (i = 0; i < n_words && rc == 0; i++)
        rc = control_word_add(m->text, sizeof m->text, &n, words[i]);
    m->n_text = (uint32_t)n;
    return rc;
}

/* NULL: the master will answer; else why it will not. */
static const char *
ask(const char *const *words, unsigned n_words, sl_kept_f *done, void *data)
{
    struct asked *asked;
    struct message m;

    message_make(&m, MSG_KEEP, "");
    m.number = ++own.last_number;
    if (words_add(&m, words, n_words) != 0)
        return "it is too long";
    asked = calloc(1, sizeof *asked);
    if (asked == NULL || channel_try(own.channel, &m, -1) != 0) {
        free(asked);
        return strerror(errno);
    }
    *asked = (struct asked){own.asked, own.last_number, done, data, ""};
    memcpy(asked->text, m.text, sizeof asked->text);
    own.asked = asked;
    return NULL;
}

void
sl_override_keep(const char *owner, const char *key, const char *says, const char *of,
                 sl_kept_f *done, void *data)
{
    const char *const words[] = {owner, key, says, of};
    const char *why = own.why_nowhere;
    enum sl_kept how = SL_KEPT_NOWHERE;

    if (own.channel >= 0) {
        why = ask(words, says != NULL ? 4 : 2, done, data);
        how = SL_KEPT_FAILED;
    }
    if (why != NULL && done != NULL)
        done(data, how, why);
}

/* ---- the master ---- */

void
overrides_begin(struct sl_worker *w)
{
    const char *folder = config_global(w->config)->core->state_dir;
    const char *trouble = config_overrides(w->config)->trouble;

    if (trouble != NULL)
        sl_log(SL_ERROR, "SL0270", "StateDir: %s; without what was said at run time", trouble);
    own.why_nowhere = folder == NULL ? "no StateDir is named" : "there is no master that would";
    own.channel = folder != NULL ? w->channel : -1;
    own.kept = config_overrides(w->config);
}

int
overrides_follow(void)
{
    struct message m;
    int fd = -1;

    if (own.channel < 0 || own.kept->trouble != NULL)
        return 0;
    message_make(&m, MSG_STATE, NULL);
    if (channel_ask(own.channel, &m, &fd) != 0 || m.kind != MSG_STATE)
        return -1;
    if (fd >= 0 || m.number != 0)
        overrides_renew(own.kept, fd);
    if (fd >= 0)
        close(fd);
    return 0;
}

/* What was asked for is on the disk. */
static void
remember(char *text)
{
    struct sl_override o = {.at = (int64_t)time(NULL)};

    o.owner = control_word_next(&text);
    o.key = control_word_next(&text);
    o.says = control_word_next(&text);
    o.of = control_word_next(&text);
    overrides_put(own.kept, &o);
}

void
overrides_answered(unsigned number, const char *why)
{
    struct asked **at = &own.asked, *asked;

    while (*at != NULL && (*at)->number != number)
        at = &(*at)->next;
    asked = *at;
    if (asked == NULL)
        return;
    *at = asked->next;
    if (why[0] == '\0')
        remember(asked->text);
    if (asked->done != NULL)
        asked->done(asked->data, why[0] == '\0' ? SL_KEPT : SL_KEPT_FAILED, why);
    free(asked);
}

int
overrides_are_asked(void)
{
    return own.asked != NULL;
}

void
overrides_close(void)
{
    struct asked *asked;

    while ((asked = own.asked) != NULL) {
        own.asked = asked->next;
        free(asked);
    }
    own.channel = -1;
}
