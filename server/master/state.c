/* The master's state as records, for the master that takes its place: one kind of record for each
 * kind of thing, written and read by two functions that stand together.  What belongs to a
 * generation names it by its id, and comes after it. */
#include "master/state.h"

#include "master/files.h"
#include "master/record.h"

#include <stdlib.h>
#include <string.h>

static const char broken[] = "a record lacks what it needs";

static struct generation *
generation_of(const struct master *ma, const struct record *r)
{
    struct generation *g;
    int64_t id = record_get_number(r, "generation");

    for (g = ma->generations; g != NULL && g->id != id; g = g->next)
        ;
    return g;
}

static void
copy_text(char *to, size_t n, const struct record *r, const char *key)
{
    snprintf(to, n, "%s", record_get(r, key));
}

/* ---- the master itself ---- */

static void
master_write(const struct master *ma, struct records_out *out)
{
    record_begin(out, "master", 1);
    record_text(out, "program", ma->program);
    record_text(out, "control-path", ma->placed[OUTSIDE_CONTROL].path);
    record_fd(out, "control", ma->placed[OUTSIDE_CONTROL].fd);
    record_text(out, "pid-file", ma->placed[OUTSIDE_PID_FILE].path);
    record_fd(out, "pid-file-lock", ma->placed[OUTSIDE_PID_FILE].fd);
    record_text(out, "state-dir", ma->placed[OUTSIDE_STATE_DIR].path);
    record_fd(out, "state-dir-lock", ma->placed[OUTSIDE_STATE_DIR].fd);
    record_number(out, "last-id", ma->last_id);
    record_text(out, "command", ma->upgrade.command);
    record_fd(out, "client", ma->upgrade.client);
    record_end(out);
}

static void
outside_read(struct outside *o, const struct record *r, const char *path, const char *fd)
{
    copy_text(o->path, sizeof o->path, r, path);
    o->fd = record_get_fd(r, fd);
}

static const char *
master_read(struct master *ma, const struct record *r)
{
    copy_text(ma->program, sizeof ma->program, r, "program");
    outside_read(&ma->placed[OUTSIDE_CONTROL], r, "control-path", "control");
    outside_read(&ma->placed[OUTSIDE_PID_FILE], r, "pid-file", "pid-file-lock");
    outside_read(&ma->placed[OUTSIDE_STATE_DIR], r, "state-dir", "state-dir-lock");
    copy_text(ma->upgrade.command, sizeof ma->upgrade.command, r, "command");
    ma->upgrade.client = record_get_fd(r, "client");
    ma->last_id = (unsigned)record_get_number(r, "last-id");
    return ma->program[0] != '\0' ? NULL : broken;
}

/* ---- listeners ---- */

static void
listeners_write(const struct master *ma, struct records_out *out)
{
    int i;

    for (i = 0; i < ma->listeners.n; i++) {
        const struct kept_listener *l = &ma->listeners.at[i];

        if (l->fd < 0)
            continue;
        record_begin(out, "listener", 1);
        record_number(out, "index", i);
        record_number(out, "family", l->family);
        record_number(out, "port", l->port);
        record_text(out, "address", l->address);
        record_fd(out, "socket", l->fd);
        record_end(out);
    }
}

static const char *
listener_read(struct master *ma, const struct record *r)
{
    int64_t i = record_get_number(r, "index");
    struct kept_listener l = {.family = (int)record_get_number(r, "family"),
                              .port = (int)record_get_number(r, "port"),
                              .fd = record_get_fd(r, "socket")};

    if (i < 0 || i >= LISTENERS_MAX || l.fd < 0)
        return broken;
    copy_text(l.address, sizeof l.address, r, "address");
    for (; ma->listeners.n <= i; ma->listeners.n++)
        ma->listeners.at[ma->listeners.n].fd = -1;
    ma->listeners.at[i] = l;
    return NULL;
}

/* ---- generations ---- */

static void
uses_write(const struct generation *g, struct records_out *out)
{
    char text[LISTENERS_MAX * 4 + 1] = "";
    size_t n = 0;
    int i;

    for (i = 0; i < LISTENERS_MAX; i++)
        if (g->uses[i])
            n += (size_t)snprintf(text + n, sizeof text - n, "%d ", i);
    record_text(out, "listeners", text);
}

static const char *
uses_read(struct master *ma, struct generation *g, const struct record *r)
{
    const char *at = record_get(r, "listeners");
    char *end;
    long i;

    for (i = strtol(at, &end, 10); end != at; i = strtol(at, &end, 10)) {
        if (i < 0 || i >= ma->listeners.n || ma->listeners.at[i].fd < 0)
            return broken;
        g->uses[i] = 1;
        ma->listeners.at[i].n_users++;
        at = end;
    }
    return NULL;
}

static void
generations_write(const struct master *ma, struct records_out *out)
{
    const struct generation *g;

    for (g = ma->generations; g != NULL; g = g->next) {
        record_begin(out, "generation", 1);
        record_number(out, "id", g->id);
        record_text(out, "state", generation_state_name(g->state));
        record_number(out, "process", g->pid);
        record_fd(out, "channel", g->channel);
        record_number(out, "channel-version", g->version);
        record_fd(out, "program", g->program);
        record_fd(out, "snapshot", g->snapshot);
        record_number(out, "ready", g->is_ready);
        record_number(out, "started-at", g->started_at);
        record_number(out, "start-at", g->start_at);
        record_number(out, "kill-at", g->kill_at);
        record_number(out, "stop-ms", g->stop_ms);
        record_number(out, "backoff-ms", g->backoff_ms);
        record_number(out, "generations-max", g->generations_max);
        record_number(out, "place", g->place);
        record_text(out, "pid-file", g->pid_file);
        record_text(out, "control", g->control);
        record_text(out, "error-log", g->error_log);
        record_text(out, "state-dir", g->state_dir);
        record_number(out, "log-format", (int64_t)g->log_format);
        uses_write(g, out);
        record_end(out);
    }
}

static void
generation_fill(struct generation *g, const struct record *r)
{
    g->id = (unsigned)record_get_number(r, "id");
    g->state = strcmp(record_get(r, "state"), "serving") == 0 ? GENERATION_SERVING
                                                              : GENERATION_DRAINING;
    g->pid = (pid_t)record_get_number(r, "process");
    g->channel = record_get_fd(r, "channel");
    g->version = (unsigned)record_get_number(r, "channel-version");
    g->program = record_get_fd(r, "program");
    g->snapshot = record_get_fd(r, "snapshot");
    g->is_ready = (int)record_get_number(r, "ready");
    g->started_at = record_get_number(r, "started-at");
    g->start_at = record_get_number(r, "start-at");
    g->kill_at = record_get_number(r, "kill-at");
    g->stop_ms = record_get_number(r, "stop-ms");
    g->backoff_ms = (int)record_get_number(r, "backoff-ms");
    g->generations_max = (int)record_get_number(r, "generations-max");
    g->place = (unsigned)record_get_number(r, "place") % SL_PLACES;
    copy_text(g->pid_file, sizeof g->pid_file, r, "pid-file");
    copy_text(g->control, sizeof g->control, r, "control");
    copy_text(g->error_log, sizeof g->error_log, r, "error-log");
    copy_text(g->state_dir, sizeof g->state_dir, r, "state-dir");
    g->log_format = (int)record_get_number(r, "log-format");
}

static const char *
generation_read(struct master *ma, const struct record *r)
{
    struct generation **at = &ma->generations, *g = calloc(1, sizeof *g);

    if (g == NULL)
        return "there is no memory";
    while (*at != NULL)
        at = &(*at)->next;
    *at = g;
    generation_fill(g, r);
    ma->zones.places |= UINT64_C(1) << g->place;
    if (g->state == GENERATION_SERVING)
        ma->serving = g;
    if (g->version < CHANNEL_OLDEST || g->version > CHANNEL_VERSION)
        return "the workers that serve speak a version of the channel that it does not";
    return g->program >= 0 ? uses_read(ma, g, r) : broken;
}

/* ---- what belongs to generations: modules, files ---- */

static void
modules_write(const struct master *ma, struct records_out *out)
{
    const struct generation *g;
    const struct kept_module *k;

    for (g = ma->generations; g != NULL; g = g->next)
        for (k = g->modules; k != NULL; k = k->next) {
            record_begin(out, "module", 1);
            record_number(out, "generation", g->id);
            record_text(out, "file", k->file);
            record_fd(out, "descriptor", k->fd);
            record_end(out);
        }
}

static const char *
module_read(struct master *ma, const struct record *r)
{
    struct generation *g = generation_of(ma, r);

    return g != NULL && modules_keep(g, record_get(r, "file"), record_get_fd(r, "descriptor")) == 0
               ? NULL : broken;
}

static void
logs_write(const struct master *ma, struct records_out *out)
{
    const struct generation *g;
    int i;

    for (g = ma->generations; g != NULL; g = g->next)
        for (i = 0; i < FILES_MAX; i++) {
            if (g->files[i] == NULL)
                continue;
            record_begin(out, "log-file", 1);
            record_number(out, "generation", g->id);
            record_number(out, "number", i);
            record_text(out, "path", g->files[i]);
            record_end(out);
        }
}

/* Both kinds of files are read as the message they came by. */
static void
file_message(struct message *m, enum message_kind kind, const struct record *r)
{
    message_make(m, kind, record_get(r, "path"));
    m->port = (int32_t)record_get_number(r, "number");
    m->number = kind == MSG_FILE ? m->port : record_get_number(r, "stamp");
}

static const char *
log_read(struct master *ma, const struct record *r)
{
    struct generation *g = generation_of(ma, r);
    struct message m;

    file_message(&m, MSG_FILE, r);
    if (g == NULL)
        return broken;
    generation_keep_file(g, &m);
    return NULL;
}

static void
files_write(const struct master *ma, struct records_out *out)
{
    const struct watched *f;
    const struct file_user *u;

    for (f = ma->files.files; f != NULL; f = f->next)
        for (u = f->owner; u != NULL; u = u->next) {
            record_begin(out, "file", 1);
            record_number(out, "generation", u->g->id);
            record_number(out, "number", u->number);
            record_number(out, "stamp", u->stamp);
            record_text(out, "path", f->path);
            record_end(out);
        }
}

static const char *
file_read(struct master *ma, const struct record *r)
{
    struct generation *g = generation_of(ma, r);
    struct message m;

    file_message(&m, MSG_WATCH, r);
    return g != NULL && files_add(&ma->files, g, &m) == 0 ? NULL : broken;
}

/* ---- zones ---- */

static void
zone_write(const struct kept_zone *z, struct records_out *out)
{
    if (z == NULL)
        return;
    zone_write(z->next, out); /* the oldest first: they are added in front */
    record_begin(out, "zone", 1);
    record_text(out, "name", z->name);
    record_number(out, "layout", z->shape.layout);
    record_number(out, "shared", (int64_t)z->shape.shared);
    record_number(out, "stride", (int64_t)z->shape.stride);
    record_number(out, "fresh", z->is_fresh);
    record_number(out, "users", (int64_t)z->users);
    record_fd(out, "memory", z->fd);
    record_end(out);
}

static void
zones_write(const struct master *ma, struct records_out *out)
{
    zone_write(ma->zones.first, out);
}

static const char *
zone_read(struct master *ma, const struct record *r)
{
    struct zone_shape shape = {record_get(r, "name"), (unsigned)record_get_number(r, "layout"),
                               (uint64_t)record_get_number(r, "shared"),
                               (uint64_t)record_get_number(r, "stride")};
    struct kept_zone z = {.shape = shape, .fd = record_get_fd(r, "memory"),
                          .is_fresh = (int)record_get_number(r, "fresh"),
                          .users = (uint64_t)record_get_number(r, "users")};

    return z.fd >= 0 && zones_take_over(&ma->zones, &z, r->is_test) == 0 ? NULL : broken;
}

/* ---- all of it ---- */

static const struct kind {
    const char *name;
    int version; /* the latest that is known */
    void (*write)(const struct master *ma, struct records_out *out);
    const char *(*read)(struct master *ma, const struct record *r); /* NULL, or what is wrong */
} kinds[] = {
    {"master", 1, master_write, master_read},
    {"listener", 1, listeners_write, listener_read},
    {"generation", 1, generations_write, generation_read},
    {"module", 1, modules_write, module_read},
    {"log-file", 1, logs_write, log_read},
    {"file", 1, files_write, file_read},
    {"zone", 1, zones_write, zone_read},
};

int
state_write(const struct master *ma, struct records_out *out)
{
    size_t i;

    if (records_begin(out) != 0)
        return -1;
    for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        kinds[i].write(ma, out);
    if (records_end(out) == 0)
        return 0;
    records_free(out);
    return -1;
}

static const char *
record_read(struct master *ma, const struct record *r)
{
    size_t i;

    for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].name, r->name) == 0)
            return r->version <= kinds[i].version
                       ? kinds[i].read(ma, r) : "a record is of a later version than it knows";
    return "there is a record it does not know";
}

const char *
state_read(struct master *ma, int fd, int is_test)
{
    struct records_in in;
    struct record r;
    const char *err = records_open(&in, fd, is_test);
    int rc = 0;

    while (err == NULL && (rc = records_next(&in, &r)) > 0)
        err = record_read(ma, &r);
    if (err == NULL && rc < 0)
        err = "the state is malformed";
    if (err == NULL && ma->serving == NULL)
        err = "no generation serves";
    records_close(&in);
    return err;
}
