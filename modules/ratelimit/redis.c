/* A store in Redis.  A key is its tat, in ms of Redis's own clock, that all machines share; a
 * script adds what was admitted and answers with what is owed.  It expires when it is paid. */
#include "store.h"

#ifdef HAVE_HIREDIS

#include <hiredis/hiredis.h>

#include <errno.h>
#include <stdio.h>

#define MS 1000

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
redis_close(void *c)
{
    redisFree(c);
}

static void *
redis_open(const struct store_address *address, char *why, size_t n)
{
    redisContext *c = redisConnectWithTimeout(address->host, address->port, patience);

    if (redis_greet(c, address, why, n) == 0)
        return c;
    if (c != NULL)
        redisFree(c);
    return NULL;
}

static int
redis_append(redisContext *c, const struct store_zone *zone, const struct store_key *key)
{
    double ticks_a_ms = zone->rate->n, cost = zone->rate->period_ms * key->n / ticks_a_ms;

    return redisAppendCommand(c, "EVAL %s 1 sluice:ratelimit:%s:%016llx %f %f", script,
                              zone->name, (unsigned long long)key->hash, cost,
                              (double)zone->table->most / ticks_a_ms);
}

/* All are sent before the first answer is read: one round trip. */
static int
redis_sync(void *c, const struct store_zone *zone, struct store_key keys[KEYS_ROOM],
           char *why, size_t n)
{
    long long us = 0;
    unsigned i;

    for (i = 0; i < KEYS_ROOM; i++)
        if (keys[i].n != 0 && redis_append(c, zone, &keys[i]) != REDIS_OK)
            return redis_failed(c, why, n);
    for (i = 0; i < KEYS_ROOM; i++) {
        if (keys[i].n == 0)
            continue;
        if (redis_answer(c, &us, why, n) != 0)
            return -1;
        keys[i].ahead = us > 0 ? (uint64_t)us * zone->rate->n / MS : 0;
    }
    return 0;
}

static const struct store_link redis_functions = {redis_open, redis_sync, redis_close};
const struct store_link *const redis_link = &redis_functions;

#else

const struct store_link *const redis_link = NULL;

#endif
