/* The lines of mod_cache_disk, and what is made of them when all are read. */
#include "cache.h"

#include "sluice/lint.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <stdlib.h>

#define MEMORY_DEFAULT (64 << 20)

/* ---- CacheDisk ---- */

struct disk_options {
    int64_t size, memory, objects;
};

static const struct sl_option disk_options[] = {
    {"size", SL_SLOT_SIZE, offsetof(struct disk_options, size), "1g", NULL, "bytes on disk"},
    {"memory", SL_SLOT_SIZE, offsetof(struct disk_options, memory), "64m", NULL, "bytes in memory"},
    {"objects", SL_SLOT_NUMBER, offsetof(struct disk_options, objects), "0", NULL,
     "responses the index has room for; 0: one for each 8 KiB of size"},
    {NULL, SL_SLOT_FLAG, 0, NULL, NULL, NULL},
};

static const char *
disk_parse(struct sl_cmd *cmd, void **item)
{
    struct cache_data *data = sl_cmd_module_data(cmd);
    struct disk_options o = {INT64_C(1) << 30, MEMORY_DEFAULT, 0};
    const char *path = sl_cmd_arg(cmd, 0), *err;

    *item = data;
    data->place = sl_cmd_place(cmd);
    if (path == NULL || (*path != '/' && strcmp(path, "off") != 0))
        return "expected the absolute path of a folder, or off";
    if ((err = sl_cmd_options(cmd, 1, disk_options, &o)) != NULL)
        return err;
    if (o.size < STORE_DISK_MIN || o.size > STORE_DISK_MAX)
        return sl_cmd_error(cmd, "expected size= between %dm and %ldt", STORE_DISK_MIN >> 20,
                            (long)(STORE_DISK_MAX >> 40));
    if (o.objects > o.size / STORE_OBJECT_MIN)
        return sl_cmd_error(cmd, "expected objects= up to %" PRId64 ", one for each %d bytes of size=",
                            o.size / STORE_OBJECT_MIN, STORE_OBJECT_MIN);
    if (o.memory < 0)
        return "expected memory= as a size";
    data->options = (struct store_options){
        .path = strcmp(path, "off") == 0 ? NULL : apr_pstrdup(sl_cmd_pool(cmd), path),
        .disk_size = (uint64_t)o.size,
        .memory_size = (uint64_t)o.memory,
        .max_objects = (uint64_t)o.objects,
    };
    return NULL;
}

/* ---- CacheValid ---- */

static const char *
valid_status(struct sl_cmd *cmd, const char *word, struct valid *valid)
{
    char *end;
    long status = strtol(word, &end, 10), i;

    if (strcmp(word, "any") == 0) {
        for (i = 200; i < 600; i++)
            valid->of[(i - 100) / 8] |= (unsigned char)(1 << (i - 100) % 8);
        return NULL;
    }
    if (*end != '\0' || status < 200 || status > 599)
        return sl_cmd_error(cmd, "expected a status between 200 and 599, or any, found \"%s\"",
                            word);
    valid->of[(status - 100) / 8] |= (unsigned char)(1 << (status - 100) % 8);
    return NULL;
}

static const char *
valid_parse(struct sl_cmd *cmd, void **item)
{
    struct valid *valid = apr_pcalloc(sl_cmd_pool(cmd), sizeof *valid);
    int i, n = sl_cmd_argc(cmd);
    int64_t ms = 0;
    const char *err = NULL, *time = sl_cmd_arg(cmd, n - 1);

    *item = valid;
    if (sl_parse_slot(sl_cmd_pool(cmd), SL_SLOT_DURATION, time, &ms) != NULL || ms < 0)
        return sl_cmd_error(cmd, "expected a time such as 10m at the end, found \"%s\"", time);
    valid->seconds = ms / 1000;
    for (i = 0; i < n - 1 && err == NULL; i++)
        err = valid_status(cmd, sl_cmd_arg(cmd, i), valid);
    if (n == 1 && err == NULL) { /* as nginx has it */
        valid_status(cmd, "200", valid);
        valid_status(cmd, "301", valid);
        valid_status(cmd, "302", valid);
    }
    return err;
}

/* The last line that names the status holds: inner ones stand behind outer ones. */
int64_t
valid_seconds(const struct cache_conf *conf, int status)
{
    int i;

    for (i = conf->valid != NULL ? conf->valid->nelts - 1 : -1; i >= 0; i--) {
        const struct valid *valid = APR_ARRAY_IDX(conf->valid, i, struct valid *);

        if (valid->of[(status - 100) / 8] >> (status - 100) % 8 & 1)
            return valid->seconds;
    }
    return CC_ABSENT;
}

/* ---- words that are bits ---- */

struct word {
    const char *name;
    unsigned bit;
};
static const struct word stale_words[] = {
    {"error", STALE_ERROR}, {"timeout", STALE_TIMEOUT}, {"invalid", STALE_INVALID},
    {"updating", STALE_UPDATING}, {"500", STALE_500}, {"502", STALE_502}, {"503", STALE_503},
    {"504", STALE_504}, {"403", STALE_403}, {"404", STALE_404}, {"429", STALE_429}, {"off", 0},
    {NULL, 0},
};
static const struct word ignore_words[] = {
    {"Cache-Control", IGNORE_CACHE_CONTROL}, {"Expires", IGNORE_EXPIRES},
    {"Set-Cookie", IGNORE_SET_COOKIE}, {"Vary", IGNORE_VARY}, {"request", IGNORE_REQUEST},
    {"off", 0}, {NULL, 0},
};

/* What a scope has from one around it is an error there. */
static const char *
said_at(const struct sl_scope *scope, const char *name)
{
    return sl_scope_said(scope, &sl_module_record, name);
}

static void
words_take(struct sl_worker *w, const struct sl_scope *scope, const char *name,
           const apr_array_header_t *list, const struct word *words, unsigned *bits)
{
    const char *place = said_at(scope, name), *known = "";
    const struct word *word;
    int i;

    for (word = words; word->name != NULL; word++)
        known = apr_pstrcat(sl_worker_pool(w), known, word == words ? "" : ", ", word->name, NULL);
    for (i = 0; list != NULL && i < list->nelts; i++) {
        struct sl_span text = sl_span(APR_ARRAY_IDX(list, i, const char *));

        for (word = words; word->name != NULL && !sl_span_eqi(text, sl_span(word->name)); word++)
            ;
        if (word->name == NULL && place != NULL)
            sl_worker_config_error(w, place, "%s: expected %s, found \"%s\"", name, known, text.at);
        *bits = word->name != NULL && word->bit == 0 ? 0 : *bits | word->bit; /* off: from here on */
    }
}

static void
numbers_check(struct sl_worker *w, const struct sl_scope *scope, const struct cache_conf *conf)
{
    const char *slice = said_at(scope, "CacheSlice"), *uses = said_at(scope, "CacheMinUses");

    if (slice != NULL && conf->slice >= 0 && (conf->slice < SLICE_MIN || conf->slice > SLICE_MAX))
        sl_worker_config_error(w, slice, "CacheSlice: expected off, or %dk to %dm, such as 1m",
                               SLICE_MIN >> 10, SLICE_MAX >> 20);
    if (uses != NULL && (conf->min_uses < 1 || conf->min_uses > MIN_USES_MAX))
        sl_worker_config_error(w, uses, "CacheMinUses: expected 1 to %d, found %" PRId64, MIN_USES_MAX,
                               conf->min_uses);
}

static const struct sl_lint_rule unused_cache = {
    "unused-cache", "it takes room on disk and in memory, and no response is kept there",
    "write \"Cache on\" where responses should be stored, or take it away"};

int
cache_check(struct sl_worker *w)
{
    const struct cache_data *data = sl_worker_module_data(w, &sl_module_record);
    const char *used_at = NULL;
    struct sl_scope *scope;
    unsigned i;

    cache_keys_are_urls = 1;
    for (i = 0; (scope = sl_worker_scope(w, i)) != NULL; i++) {
        struct cache_conf *conf = (void *)(uintptr_t)sl_scope_conf(scope, &sl_module_record);

        cache_keys_are_urls &= conf->key == NULL;
        if (conf->is_on && used_at == NULL)
            used_at = said_at(scope, "Cache");
        words_take(w, scope, "CacheUseStale", conf->stale_words, stale_words, &conf->stale);
        words_take(w, scope, "CacheIgnore", conf->ignore_words, ignore_words, &conf->ignore);
        numbers_check(w, scope, conf);
    }
    if (used_at == NULL && data->place != NULL)
        sl_lint(w, &unused_cache, data->place, "no line says \"Cache on\"");
    if (used_at != NULL && data->place == NULL)
        sl_worker_config_error(w, used_at, "Cache: no CacheDisk line says where responses are kept\n"
                               "    cure: write \"CacheDisk /var/cache/sluice size=1g memory=64m\" outside all "
                               "sections, or \"CacheDisk off\" to keep them in memory alone");
    return 0;
}

const struct sl_directive cache_directives[] = {
    {"CacheDisk", SL_SLOT_PARSED, SL_IN_GLOBAL, offsetof(struct cache_conf, disk), NULL,
     "Where responses are kept, and how much of them", "FOLDER|off [size=] [memory=] [objects=]",
     disk_parse, NULL, NULL},
    SL_FLAG("Cache", struct cache_conf, is_on, "off", SL_IN_ANY,
            "Stores responses, and answers from the store"),
    SL_EXPR("CacheKey", struct cache_conf, key, NULL, SL_IN_ANY,
            "Under what a response is stored; by default the URL"),
    SL_LINES("CacheValid", struct cache_conf, valid, valid_parse, SL_IN_ANY,
             "[STATUS|any ...] TIME",
             "How long responses are fresh that do not say so themselves"),
    SL_LIST("CacheUseStale", struct cache_conf, stale_words, NULL, SL_IN_ANY,
            "When a stale response is better than none"),
    SL_LIST("CacheIgnore", struct cache_conf, ignore_words, NULL, SL_IN_ANY,
            "What servers and clients say that is not heeded"),
    SL_COND("CacheBypass", struct cache_conf, bypass, ROUTED, SL_IN_ANY,
            "Requests that go past the cache"),
    SL_COND("CacheNoStore", struct cache_conf, no_store, RESPONSE, SL_IN_ANY,
            "Responses that are not stored"),
    SL_NUMBER("CacheMinUses", struct cache_conf, min_uses, "1", SL_IN_ANY,
              "How often a response is asked for before it is stored"),
    SL_SIZE("CacheMaxObject", struct cache_conf, max_object, "unlimited", SL_IN_ANY,
            "Larger responses are not stored"),
    SL_SIZE("CacheSlice", struct cache_conf, slice, "off", SL_IN_ANY,
            "Large responses are fetched and stored in slices of so many bytes"),
    SL_FLAG("CacheLock", struct cache_conf, is_locked, "on", SL_IN_ANY,
            "One fetch for all who ask for the same"),
    SL_NETS("CachePurge", struct cache_conf, purge, NULL, SL_IN_ANY,
            "Who may purge by the method PURGE"),
    SL_DIRECTIVES_END,
};
