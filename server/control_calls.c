/* See control_calls.h, and sluice/control.h for modules.
 *
 *   reading -> running -> writing -> gone
 *         \-> a mistake: writing
 *
 * The loop watches a call while it reads or writes, and then its own events and its timer are all
 * that ends it.  While it runs it is the module's: only sl_control_end() goes on.  No step waits,
 * so a client that is slow or gone holds up nobody. */
#include "control_calls.h"

#include "config/load.h"
#include "control_words.h"
#include "master/state.h"
#include "runtime/crash.h"

#include "sluice/control.h"
#include "sluice/provider.h"

#include <apr_strings.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GROUP "control"
#define CALLS_MAX 64
#define READ_MS 1000
#define WRITE_MS 10000
#define ANSWER_MIN (16u << 10)
#define ANSWER_MAX (4u << 20)
#define LAST_WORDS 128 /* of an answer: that it is cut, and its status */

struct sl_control_call {
    struct io io; /* first: what the loop gives back */
    struct sl_timer timer; /* patience with the client */
    struct sl_loop *loop;
    struct sl_control_call *next;
    apr_pool_t *pool; /* this struct is in it */
    int is_watched;
    int is_json, is_cut;
    char *line;   /* CONTROL_LINE_MAX bytes */
    char *answer; /* room bytes, and LAST_WORDS */
    size_t n_line, n_answer, room, n_sent;
};

static struct sl_control_call *calls; /* thread 0's */

/* ---- beginning and end ---- */

static void
call_unwatch(struct sl_control_call *call)
{
    if (call->is_watched)
        loop_unwatch(call->loop, &call->io);
    call->is_watched = 0;
    sl_timer_unlink(&call->timer);
}

static void
call_free(struct sl_control_call **callp)
{
    struct sl_control_call *call = *callp, **at = &calls;
    apr_pool_t *pool = call->pool;

    *callp = NULL;
    while (*at != call)
        at = &(*at)->next;
    *at = call->next;
    call_unwatch(call);
    close(call->io.fd);
    loop_pool_give(call->loop, &pool);
}

static void
call_late(struct sl_loop *loop, struct sl_timer *timer)
{
    struct sl_control_call *call = (struct sl_control_call *)(void *)(
        (char *)timer - offsetof(struct sl_control_call, timer));

    (void)loop;
    call_free(&call);
}

static struct sl_control_call *
call_new(struct sl_loop *loop, int fd)
{
    apr_pool_t *pool = loop_pool_take(loop);
    struct sl_control_call *call = apr_pcalloc(pool, sizeof *call);

    call->io.fd = fd;
    call->timer.fn = call_late;
    call->loop = loop;
    call->pool = pool;
    call->line = apr_palloc(pool, CONTROL_LINE_MAX);
    call->room = ANSWER_MIN;
    call->answer = apr_palloc(pool, call->room + LAST_WORDS);
    call->next = calls;
    calls = call;
    return call;
}

/* The client has ms for what comes next, which on_ready does. */
static void
call_watch(struct sl_control_call *call, int64_t ms,
           void (*on_ready)(struct sl_loop *, struct io *, unsigned))
{
    call->io.on_ready = on_ready;
    if (call->is_watched)
        return;
    sl_timer_set(call->loop, &call->timer, call->loop->now_ms + ms);
    call->is_watched = loop_watch(call->loop, &call->io) == 0;
    if (!call->is_watched) /* nothing but the timer would end it */
        call_free(&call);
}

/* ---- writing ---- */

static void
call_write(struct sl_loop *loop, struct io *io, unsigned what)
{
    struct sl_control_call *call = (struct sl_control_call *)(void *)io;
    ssize_t k = 0;

    (void)loop;
    (void)what;
    while (call->n_sent < call->n_answer &&
           (k = send(io->fd, call->answer + call->n_sent, call->n_answer - call->n_sent,
                     MSG_NOSIGNAL | MSG_DONTWAIT)) > 0)
        call->n_sent += (size_t)k;
    if (k < 0 && errno == EAGAIN)
        call_watch(call, WRITE_MS, call_write);
    else
        call_free(&call);
}

/* Its last line; there is room for these words. */
static void
answer_end(struct sl_control_call *call, int status)
{
    char *to = call->answer + call->n_answer;
    int is_open = call->n_answer > 0 && to[-1] != '\n';

    call->n_answer += (size_t)snprintf(to, LAST_WORDS, "%s%sexit %d\n", is_open ? "\n" : "",
                                       call->is_cut ? "(the answer is too long: its end is missing)\n"
                                                    : "",
                                       call->is_cut && status == 0 ? 1 : status);
}

/* ---- what modules say ---- */

apr_pool_t *
sl_control_pool(struct sl_control_call *call)
{
    return call->pool;
}

int
sl_control_wants_json(const struct sl_control_call *call)
{
    return call->is_json;
}

/* Room for n bytes more, if there may be so many. */
static void
answer_grow(struct sl_control_call *call, size_t n)
{
    size_t room = call->room;
    char *more;

    while (room < ANSWER_MAX && room - call->n_answer < n)
        room *= 2;
    if (room == call->room)
        return;
    more = apr_palloc(call->pool, room + LAST_WORDS);
    memcpy(more, call->answer, call->n_answer);
    call->answer = more;
    call->room = room;
}

void
sl_control_print(struct sl_control_call *call, const char *fmt, ...)
{
    size_t room = call->room - call->n_answer;
    va_list args, again;
    int n;

    va_start(args, fmt);
    va_copy(again, args);
    n = vsnprintf(call->answer + call->n_answer, room, fmt, args);
    if (n >= 0 && (size_t)n >= room) {
        answer_grow(call, (size_t)n + 1);
        room = call->room - call->n_answer;
        n = vsnprintf(call->answer + call->n_answer, room, fmt, again);
    }
    va_end(again);
    va_end(args);
    if (n < 0 || room == 0)
        return;
    call->is_cut |= (size_t)n >= room;
    call->n_answer += (size_t)n >= room ? room - 1 : (size_t)n;
}

void
sl_control_end(struct sl_control_call **callp, int status)
{
    struct sl_control_call *call = *callp;

    *callp = NULL;
    SL_ASSERT(sl_loop_self() == call->loop);
    answer_end(call, status);
    call_write(call->loop, &call->io, 0);
}

/* ---- running ---- */

static const char *
command_name(unsigned i)
{
    unsigned n = 0;

    while (commands_name(n) != NULL && n < i)
        n++;
    return n == i && commands_name(n) != NULL ? commands_name(n) : sl_provider_name(GROUP, i - n);
}

static void
call_unknown(struct sl_control_call *call, const char *name)
{
    unsigned i, distance = (unsigned)strlen(name) / 3 + 1;
    const char *near = NULL, *known;

    for (i = 0; (known = command_name(i)) != NULL; i++)
        if (sl_name_distance(known, name) < distance) {
            distance = sl_name_distance(known, name);
            near = known;
        }
    sl_control_print(call, "there is no command \"%.100s\"; ", name);
    if (near != NULL)
        sl_control_print(call, "did you mean %s? ", near);
    sl_control_print(call, "expected ");
    for (i = 0; (known = command_name(i)) != NULL; i++)
        sl_control_print(call, "%s%s", i == 0 ? "" : command_name(i + 1) == NULL ? " or " : ", ",
                         known);
    sl_control_print(call, "\n");
    sl_control_end(&call, 2);
}

/* The master has printed its own. */
static void
call_help(struct sl_control_call *call)
{
    const char *name;
    unsigned i;

    for (i = 0; (name = sl_provider_name(GROUP, i)) != NULL; i++) {
        const struct sl_control_command *c = sl_provider_find(GROUP, name);

        sl_control_print(call, "%s%s%s\n    %s\n", name, c->usage[0] != '\0' ? " " : "", c->usage,
                         c->help);
    }
    sl_control_end(&call, 0);
}

static int
call_words(struct sl_control_call *call, const char **words)
{
    char *at = call->line, *word;
    int n = 0;

    while ((word = control_word_next(&at)) != NULL)
        if (strcmp(word, "--json") == 0)
            call->is_json = 1;
        else
            words[n++] = word;
    return n;
}

static void
call_run(struct sl_control_call *call)
{
    const char **words = apr_palloc(call->pool, (call->n_line / 2 + 2) * sizeof *words);
    int n = call_words(call, words);
    const char *name = n > 0 ? words[0] : "";
    const struct sl_control_command *command = sl_provider_find(GROUP, name);

    call_unwatch(call);
    if (strcmp(name, "help") == 0)
        call_help(call);
    else if (command == NULL)
        call_unknown(call, name);
    else {
        crash_place = (struct crash_place){.command = name};
        command->run(call, n - 1, words + 1);
        crash_place.command = NULL;
    }
}

/* ---- reading ---- */

/* -1: no more is to be had, *error why. */
static int
call_fill(struct sl_control_call *call, int *error)
{
    size_t room = CONTROL_LINE_MAX - 1 - call->n_line;
    ssize_t k = room > 0 ? recv(call->io.fd, call->line + call->n_line, room, MSG_DONTWAIT) : -1;

    *error = room == 0 ? EMSGSIZE : k < 0 ? errno : EPIPE;
    if (k > 0)
        call->n_line += (size_t)k;
    return k > 0 ? 0 : -1;
}

static void
call_read(struct sl_loop *loop, struct io *io, unsigned what)
{
    struct sl_control_call *call = (struct sl_control_call *)(void *)io;
    int rc = 0, error = 0;

    (void)loop;
    (void)what;
    while (rc == 0 && memchr(call->line, '\n', call->n_line) == NULL)
        rc = call_fill(call, &error);
    call->line[call->n_line] = '\0';
    if (rc == 0)
        call_run(call);
    else if (error == EAGAIN)
        call_watch(call, READ_MS, call_read);
    else if (error == EMSGSIZE) {
        call_unwatch(call);
        sl_control_print(call, "expected less than %d KiB\n", CONTROL_LINE_MAX / 1024);
        sl_control_end(&call, 2);
    } else
        call_free(&call);
}

static unsigned
calls_alive(void)
{
    const struct sl_control_call *call;
    unsigned n = 0;

    for (call = calls; call != NULL; call = call->next)
        n++;
    return n;
}

void
control_call_take(struct sl_loop *loop, const char *text, int fd)
{
    struct sl_control_call *call;

    if (fd < 0)
        return;
    call = call_new(loop, fd);
    if (calls_alive() > CALLS_MAX) {
        sl_control_print(call, "%d commands are under way: try again\n", CALLS_MAX);
        sl_control_end(&call, 1);
        return;
    }
    call->n_line = strlen(text);
    memcpy(call->line, text, call->n_line);
    call_read(loop, &call->io, 0);
}

void
control_calls_close(void)
{
    while (calls != NULL) {
        struct sl_control_call *call = calls;

        call_unwatch(call);
        if (call->n_sent == 0) {
            sl_control_print(call, "the generation ended before the command did\n");
            answer_end(call, 1);
            send(call->io.fd, call->answer, call->n_answer, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
        call_free(&call);
    }
}
