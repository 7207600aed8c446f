/* A store in Redis.  A key is its tat, in ms of Redis's own clock, that all machines share; a
 * script adds what was admitted and answers with what is owed.  It expires when it is paid.
 *
 * Redis keeps scripts by their SHA-1, and may forget them; then it says so, has done nothing, and
 * gets the text, which it keeps. */
#include "store.h"

#ifdef HAVE_HIREDIS

#include <hiredis/hiredis.h>

#include <apr_sha1.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MS 1000
#define UNTOLD UINT64_MAX /* of a key's debt: Redis has not got to know what was admitted */

/* KEYS[1], the cost and the largest debt in ms; the debt in microseconds.  The time of one call is
 * the same in all of the script. */
static const char script[] = "local t = redis.call('TIME') "
                             "local now = t[1] * 1000 + t[2] / 1000 "
                             "local tat = tonumber(redis.call('GET', KEYS[1]) or '0') "
                             "if tat < now then tat = now end "
                             "tat = math.min(tat + ARGV[1], now + ARGV[2]) "
                             "redis.call('SET', KEYS[1], string.format('%.4f', tat), "
                             "'PX', math.ceil(tat - now) + 1000) "
                             "return math.ceil((tat - now) * 1000)";

static const struct timeval patience = {STORE_TIMEOUT_MS / MS,
                                        STORE_TIMEOUT_MS % MS * 1000};

struct redis {
    redisContext *c;
    char name[2 * APR_SHA1_DIGESTSIZE + 1]; /* the script's */
};

static int
redis_failed(const redisContext *c, char *why, size_t n)
{
    snprintf(why, n, "%s",
             c == NULL                                   ? "no memory"
             : c->err == REDIS_ERR_IO && errno == EAGAIN ? "no answer in time"
                                                         : c->errstr);
    return -1;
}

/* The answer to one command: 0 with an integer in *number, or -1. */
static int
redis_answer(redisContext *c, long long *number, char *why, size_t n)
{
    void *got = NULL;
    const redisReply *reply;
    int rc = 0;

    if (redisGetReply(c, &got) != REDIS_OK)
        return redis_failed(c, why, n);
    reply = got;
    *number = reply->integer;
    if (reply->type == REDIS_REPLY_ERROR) {
        snprintf(why, n, "%s", reply->str);
        rc = -1;
    }
    freeReplyObject(got);
    return rc;
}

static int
redis_greet(redisContext *c, const struct store_address *address, char *why, size_t n)
{
    long long ignored;

    if (c == NULL || c->err != 0 || redisSetTimeout(c, patience) != REDIS_OK)
        return redis_failed(c, why, n);
    if (address->password != NULL &&
        (redisAppendCommand(c, "AUTH %s", address->password) != REDIS_OK ||
         redis_answer(c, &ignored, why, n) != 0))
        return -1;
    if (redisAppendCommand(c, "SELECT %d", address->db) != REDIS_OK)
        return redis_failed(c, why, n);
    return redis_answer(c, &ignored, why, n);
}

static void
redis_close(void *link)
{
    struct redis *l = link;

    if (l->c != NULL)
        redisFree(l->c);
    free(l);
}

static void
script_name(char name[2 * APR_SHA1_DIGESTSIZE + 1])
{
    unsigned char digest[APR_SHA1_DIGESTSIZE];
    apr_sha1_ctx_t sha;
    unsigned i;

    apr_sha1_init(&sha);
    apr_sha1_update(&sha, script, sizeof script - 1);
    apr_sha1_final(digest, &sha);
    for (i = 0; i < sizeof digest; i++)
        snprintf(name + 2 * i, 3, "%02x", digest[i]);
}

static void *
redis_open(const struct store_address *address, char *why, size_t n)
{
    struct redis *l = calloc(1, sizeof *l);

    SL_ASSERT(l != NULL);
    script_name(l->name);
    l->c = redisConnectWithTimeout(address->host, address->port, patience);
    if (redis_greet(l->c, address, why, n) == 0)
        return l;
    redis_close(l);
    return NULL;
}

static int
redis_append(const struct redis *l, const struct store_zone *zone, const struct store_key *key,
             int by_text)
{
    double ticks_a_ms = zone->rate->n, cost = zone->rate->period_ms * key->n / ticks_a_ms;

    return redisAppendCommand(l->c, "%s %s 1 sluice:ratelimit:%s:%016llx %f %f",
                              by_text ? "EVAL" : "EVALSHA", by_text ? script : l->name,
                              zone->name, (unsigned long long)key->hash, cost,
                              (double)zone->table->most / ticks_a_ms);
}

static int
is_untold(const struct store_key *key)
{
    return key->n != 0 && key->ahead == UNTOLD;
}

/* All that is untold is sent before the first answer is read: one round trip.  1: the script was
 * not there, and some are untold still. */
static int
redis_tell(struct redis *l, const struct store_zone *zone, struct store_key keys[KEYS_ROOM],
           int by_text, char *why, size_t n)
{
    int rc = 0;
    unsigned i;

    for (i = 0; i < KEYS_ROOM; i++)
        if (is_untold(&keys[i]) && redis_append(l, zone, &keys[i], by_text) != REDIS_OK)
            return redis_failed(l->c, why, n);
    for (i = 0; i < KEYS_ROOM; i++) {
        long long us = 0;

        if (!is_untold(&keys[i]))
            continue;
        if (redis_answer(l->c, &us, why, n) == 0)
            keys[i].ahead = us > 0 ? (uint64_t)us * zone->rate->n / MS : 0;
        else if (!by_text && strncmp(why, "NOSCRIPT", 8) == 0)
            rc = 1;
        else
            return -1;
    }
    return rc;
}

static int
redis_sync(void *link, const struct store_zone *zone, struct store_key keys[KEYS_ROOM],
           char *why, size_t n)
{
    unsigned i;
    int rc;

    for (i = 0; i < KEYS_ROOM; i++)
        keys[i].ahead = UNTOLD;
    rc = redis_tell(link, zone, keys, 0, why, n);
    return rc == 1 ? redis_tell(link, zone, keys, 1, why, n) : rc;
}

static const struct store_link redis_functions = {redis_open, redis_sync, redis_close};
const struct store_link *const redis_link = &redis_functions;

#else

const struct store_link *const redis_link = NULL;

#endif
