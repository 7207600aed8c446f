/* What is to be forgotten: sluice ctl cache purge, the method PURGE, and methods that change what
 * they are for. */
#include "cache.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>

#define WORDS_MAX 4
#define WORDS_HELP "expected purge all, or url, prefix, host or tag and a text; soft behind it " \
                   "marks stale\n"

/* ---- what is meant ---- */

/* As hosts of requests are. */
static struct sl_span
in_lower_case(apr_pool_t *pool, struct sl_span text)
{
    char *low = sl_span_dup(pool, text);
    size_t i;

    for (i = 0; i < text.n; i++)
        low[i] = (char)apr_tolower(low[i]);
    return (struct sl_span){low, text.n};
}

static struct sl_span
host_of_url(apr_pool_t *pool, struct sl_span url)
{
    const char *text = sl_span_dup(pool, url), *host = strstr(text, "://");
    size_t n;

    if (host == NULL)
        return SL_SPAN("");
    host += 3;
    n = *host == '[' ? strcspn(host, "]/") : strcspn(host, ":/");
    n += host[n] == ']';
    return (struct sl_span){host, n};
}

/* NULL, or what is wrong with a URL: a purge of what nothing can be stored under would say that it
 * has purged. */
const char *
cache_url_error(apr_pool_t *pool, const char *url)
{
    const char *host = strstr(url, "://");

    if (!cache_keys_are_urls || (host != NULL && host > url && strchr("/?", host[3]) == NULL))
        return NULL;
    return apr_psprintf(
        pool, "expected a URL with scheme and host, such as http://example.org/a, found \"%s\"\n", url);
}

static const char *
host_error(apr_pool_t *pool, const char *host)
{
    size_t n = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/");

    if (n == strlen(host))
        return NULL;
    return apr_psprintf(
        pool, "expected the name of a host, without scheme and port, found \"%s\"\n", host);
}

/* NULL, or what is wrong with the words. */
static const char *
purge_words(apr_pool_t *pool, struct store_purge *p, int argc, const char *const *argv)
{
    const char *what = argc > 0 ? argv[0] : "", *err = NULL;
    struct sl_span text = sl_span(argc > 1 ? argv[1] : "");

    p->is_soft = argc > 1 && strcmp(argv[argc - 1], "soft") == 0;
    if (strcmp(what, "all") == 0) {
        p->what = STORE_PURGE_ALL;
        return argc - p->is_soft == 1 ? NULL : WORDS_HELP;
    }
    if (argc - p->is_soft != 2 || text.n == 0)
        return WORDS_HELP;
    if (strcmp(what, "tag") == 0) {
        p->what = STORE_PURGE_TAG;
        p->text = text;
    } else if (strcmp(what, "host") == 0) {
        err = host_error(pool, text.at);
        p->what = STORE_PURGE_HOST;
        p->text = in_lower_case(pool, text);
    } else if (strcmp(what, "url") == 0) {
        err = cache_url_error(pool, text.at);
        p->what = STORE_PURGE_KEY;
        p->text = cache_key_of_url(pool, text);
    } else if (strcmp(what, "prefix") == 0) {
        err = cache_url_error(pool, text.at);
        p->what = STORE_PURGE_PREFIX;
        p->text = cache_key_of_url(pool, text);
        p->host = host_of_url(pool, p->text);
    } else
        return WORDS_HELP;
    return err;
}

/* ---- sluice ctl cache purge ---- */

/* What who asked for it is told. */
static const char *
purged_text(int is_kept)
{
    return is_kept || !store_has_folder(cache_store)
               ? "purged\n" : "purged (not on disk yet: a crash would bring it back)\n";
}

struct purging {
    struct store_purge purge;
    struct sl_control_call *call;
};

static void
purge_done(struct sl_loop *loop, struct store_purge *p, int is_kept)
{
    struct purging *d = (struct purging *)(void *)p;

    (void)loop;
    sl_control_print(d->call, "%s", purged_text(is_kept));
    sl_control_end(&d->call, 0);
}

void
cache_purge_run(struct sl_control_call *call, int argc, const char *const *argv)
{
    struct purging *d = apr_pcalloc(sl_control_pool(call), sizeof *d);
    const char *err;

    d->call = call;
    d->purge.done = purge_done;
    if ((err = purge_words(sl_control_pool(call), &d->purge, argc, argv)) != NULL) {
        sl_control_print(call, "%s", err);
        sl_control_end(&call, 2);
        return;
    }
    store_purge(cache_store, sl_loop_self(), &d->purge);
}

/* ---- the method PURGE ---- */

/* Flights first: what comes of one before the store forgets goes with the rest. */
static void
forget(struct sl_req *r, struct sl_span key, struct store_forget *f)
{
    flights_forget(key);
    store_invalidate(cache_store, sl_req_loop(r), key, f);
}

/* It is answered when the disk has it, so that a crash would not bring back what was purged, and
 * outlives a client that is gone before. */
struct asked {
    struct store_purge purge;
    struct store_forget forget;
    struct sl_req *r; /* NULL: gone */
    struct sl_token token;
};

static apr_status_t
asked_left(void *data)
{
    struct asked *a = data;

    a->r = NULL;
    return APR_SUCCESS;
}

static void
asked_end(struct asked *a, int is_kept)
{
    if (a->r != NULL) {
        apr_pool_cleanup_kill(sl_req_pool(a->r), a, asked_left);
        *purged_at(a->r) = is_kept ? PURGED : PURGED_NOT_KEPT;
    }
    sl_req_resume(a->token, SL_RETRY);
    kept_free(a->purge.text);
    kept_free(a->purge.host);
    free(a);
}

static void
asked_purged(struct sl_loop *loop, struct store_purge *p, int is_kept)
{
    (void)loop;
    asked_end((struct asked *)(void *)((char *)p - offsetof(struct asked, purge)), is_kept);
}

static void
asked_forgotten(struct sl_loop *loop, struct store_forget *f, int is_kept)
{
    (void)loop;
    asked_end((struct asked *)(void *)((char *)f - offsetof(struct asked, forget)), is_kept);
}

static struct asked *
asked_begin(struct sl_req *r, struct store_purge p)
{
    struct asked *a = malloc(sizeof *a);

    SL_ASSERT(a != NULL);
    *a = (struct asked){
        .purge = p, .forget.done = asked_forgotten, .r = r, .token = sl_req_suspend(r)};
    apr_pool_cleanup_register(sl_req_pool(r), a, asked_left, apr_pool_cleanup_null);
    a->purge.done = asked_purged;
    a->purge.text = kept(p.text);
    a->purge.host = kept(p.host);
    return a;
}

/* The words of the field Purge are those of sluice ctl cache purge, with the URL or the host of the
 * request itself; how many there are. */
static int
field_words(struct sl_req *r, const struct cache_conf *conf, struct sl_span field,
            const char **argv)
{
    apr_pool_t *pool = sl_req_pool(r);
    char *last, *key = sl_span_dup(pool, cache_key(r, conf));
    const char *word = apr_strtok(sl_span_dup(pool, field), " ", &last);
    int n = 0;

    key[strcspn(key, "\n")] = '\0'; /* in whatever way it was asked for */
    if (word == NULL || strcmp(word, "soft") == 0)
        argv[n++] = "url";
    else
        argv[n++] = word;
    if (strcmp(argv[0], "host") == 0)
        argv[n++] = sl_span_dup(pool, sl_req_host(r));
    else if (strcmp(argv[0], "url") == 0 || strcmp(argv[0], "prefix") == 0)
        argv[n++] = key;
    if (word == argv[0])
        word = apr_strtok(NULL, " ", &last);
    for (; word != NULL && n < WORDS_MAX; word = apr_strtok(NULL, " ", &last))
        argv[n++] = word;
    return n;
}

/* NULL: it is under way; else what is wrong with the words. */
static const char *
purge_asked(struct sl_req *r, const struct cache_conf *conf)
{
    struct sl_span field = sl_fields_get(sl_req_head(r), "Purge");
    struct store_purge p = {0};
    const char *argv[WORDS_MAX], *err;

    if (field.at == NULL) {
        forget(r, cache_key(r, conf), &asked_begin(r, p)->forget);
        return NULL;
    }
    if ((err = purge_words(sl_req_pool(r), &p, field_words(r, conf, field, argv), argv)) != NULL)
        return err;
    store_purge(cache_store, sl_req_loop(r), &asked_begin(r, p)->purge);
    return NULL;
}

enum sl_verdict
cache_purge(struct sl_req *r, const struct cache_conf *conf)
{
    enum purged purged = *purged_at(r);
    const char *err;

    if (!sl_networks_has(conf->purge, sl_req_client(r)))
        return sl_respond(r, 403, NULL, SL_SPAN(""));
    if (purged == NOT_PURGED && !sl_req_is_dry(r) && cache_store != NULL) {
        if ((err = purge_asked(r, conf)) != NULL)
            return sl_respond(r, 400, "text/plain", sl_span(err));
        return SL_WAIT;
    }
    return sl_respond(r, 200, "text/plain", sl_span(purged_text(purged != PURGED_NOT_KEPT)));
}

/* ---- RFC 9111, 4.4 ---- */

/* Location and Content-Location of the same origin: what stands there has changed, too. */
static void
invalidate_field(struct sl_req *r, enum sl_field_id id)
{
    struct sl_span key = cache_key_of_reference(r, sl_fields_get_id(sl_req_response(r), id));

    if (key.at != NULL)
        forget(r, key, NULL);
}

void
cache_invalidate(struct sl_req *r, const struct cache_conf *conf)
{
    if (!policy_invalidates(sl_req_method(r), sl_req_status(r)) || sl_req_server(r) == NULL)
        return;
    forget(r, cache_key(r, conf), NULL);
    invalidate_field(r, SL_F_LOCATION);
    invalidate_field(r, SL_F_CONTENT_LOCATION);
}
