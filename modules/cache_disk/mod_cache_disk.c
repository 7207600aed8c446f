/*man
NAME
    mod_cache_disk - answers from what was stored of earlier responses
DESCRIPTION
    A shared cache as RFC 9111 has it: what servers say of their responses is heeded, and what
    they do not say, CacheValid does. Responses are kept on disk and, the hot ones, in memory;
    both are bounded, and what is on disk is there again after a restart, a reload or a
    crash. Requests that miss the same response share one fetch and read it as it comes.

    Answers say how they came about in the field Cache-Status. %{cache_status} is MISS (it was not
    there), HIT, EXPIRED (too old, and fetched anew), REVALIDATED (too old, and the server says that
    it still is good), UPDATING (too old, given while it is fetched anew), STALE (too old, given
    because the server failed or the client takes it) or BYPASS (CacheBypass holds), and
    %{cache_reason} why: of a response that may not be stored, what forbids it, from the second
    request on. In the log with a format of mod_log(8), such as

        LogFormat cache "%h %t \"%r\" %>s %{cache_status} %{cache_reason}"

    stale-while-revalidate and stale-if-error of servers hold (RFC 5861); CacheUseStale is for
    servers that say neither, and gives what is stale for as long as it is stored.

    Where Gzip, Brotli or Zstd are on, too, each response is encoded once: what the encoder made of
    it is stored beside it, by the second request that wants it, and belongs to it in all that
    happens to it. Who gets which, mod_gzip(8) says.

    What is in the cache, and how to make it forget:

        sluice ctl cache stats
        sluice ctl cache hosts
        sluice ctl cache top
        sluice ctl cache get http://example.org/news/1
        sluice ctl cache get http://example.org/ -H 'Accept-Language: de'
        sluice ctl cache purge url http://example.org/news/1
        sluice ctl cache purge prefix http://example.org/news/
        sluice ctl cache purge host example.org
        sluice ctl cache purge tag news
        sluice ctl cache purge all

    stats has all numbers since the start and what part of requests and of bytes was given from
    the cache, hosts those of each host from its first hit on (what was before is with the
    others), top what is asked for most. get says of one response how old and how large it is
    and how long it is fresh; or, where there is none, why the last one was not stored. Where a
    response has variants, it names the fields they differ by, and those in memory (at most 20, the
    most used first), and says this of the one that a request with the fields of -H would get. URLs
    are written as clients ask, with scheme and port; with a CacheKey, get, url and prefix take the
    key. Tags are what servers say in Surrogate-Key, Cache-Tag or xkey (up to 250; with more it is
    not stored; clients do not see these fields). With soft behind it a purge marks as too old
    instead: the next request has it validated, and CacheUseStale may still give it. --json prints
    all but purge for machines, sluice ctl metrics has the sums and what the disk and memory hold,
    and the numbers of hosts, for Prometheus, and sluice ctl explain GET URL what would come of a
    request now.
DIRECTIVES
  CacheDisk
    size= is what the folder may hold (1g), memory= what is kept in memory (64m), objects= how many
    responses the index has room for (one for each 8k of size=); off keeps responses in memory
    alone. The folder is made where there is none, in one that there is. Who starts the server has to
    have the right to write to it: root, where root does, whatever User says. Each server needs one of
    its own, and with another size= it begins empty. Where it cannot be used, or the disk fails or is
    full, the log says so, and responses are kept in memory alone.
  Cache
    On for the responses of this scope to GET and HEAD. Requests with a body, Upgrade, If-Match
    or If-Unmodified-Since go to the server.
  CacheKey
    For responses that are the same for several URLs, or differ by more than the URL:
    %{req:Host}%{uri} leaves the scheme out; %{host} has no port, though servers get it, and some
    put it into links. Where a proxy in TrustedProxies, or with ProxyForwarded off
    anybody, says by X-Forwarded-Proto, X-Forwarded-Host or Forwarded how it was asked, that is part
    of the URL's key, without for= and by=. What is not in the key must not change the response.
    With a CacheKey or CacheBypass, requests whose Connection names fields go past the cache: servers
    do not get these.
  CacheValid
    For responses without Cache-Control and Expires, whose lifetime is then TIME: of these statuses,
    any for all of them, or 200, 301 and 302 where none is named. The inner, later line holds, so a
    line with any stands first. What a server says holds before it, unless CacheIgnore takes that away.
  CacheUseStale
    error, timeout, invalid (a response that does not parse), updating (give the stale one while
    a new one is fetched), or statuses: 500, 502, 503, 504, 403, 404, 429. Words of the scopes
    around add up; off forgets them. Never where the server says must-revalidate,
    proxy-revalidate, no-cache or s-maxage.
  CacheIgnore
    Cache-Control, Expires, Set-Cookie (the cookie is not stored) and Vary of servers; request: what
    clients say in Cache-Control. Words of the scopes around add up; off forgets them.
  CacheBypass
    A request for which it holds goes to the server, and its response is not stored.
  CacheNoStore
    A response for which it holds is given and not stored.
  CacheMinUses
    Until then requests go to the server as without a cache. 1 to 65535; counts are of a process,
    and what is asked for seldom loses them to others.
  CacheMaxObject
    One whose length is not known and that turns out larger is given to those who wait for it, as
    fast as the slowest of them takes it, and not stored; others fetch it for themselves.
  CacheSlice
    Responses larger than SIZE are fetched by Range, a slice at a time, and stored so: a range of a
    video costs no more than the slices it touches, and who jumps ahead does not wait for what lies
    between. Servers must know Range and say a strong ETag or Last-Modified; one that answers with the whole
    is stored as a whole. When the response changes at the server, its slices are forgotten, and an
    answer that is under way is cut. Between 4k and 1g; 1m to 16m are good sizes.
  CacheLock
    Off: each request that misses fetches for itself.
  CachePurge
    Networks whose clients may say PURGE, which elsewhere is a method like others and goes to the
    server: for the URL, in all its variants, or for what the field Purge
    says, which has the words of sluice ctl cache purge: url, prefix, host (those of the request), tag
    NAME or all, and soft behind it: curl -X PURGE -H "Purge: prefix soft" http://example.org/news/.
    It is answered when a crash of the server would not undo it, or says that one would.
EXAMPLE
    LoadModule route
    LoadModule headers
    LoadModule cache_disk
    Listen 80
    CacheDisk /var/cache/sluice size=10g memory=256m
    <Location "/">
        Cache on
        CacheValid 200 1h
        CacheValid 404 10m
        CacheUseStale error timeout updating
        CacheBypass "%{cookie:session} != ''"
        Header set X-Cache-Status %{cache_status}
        ProxyPass http://127.0.0.1:3000
    </Location>
*/
#include "cache.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS 1000

struct store *cache_store;
int cache_keys_are_urls;
int cache_counters[N_COUNTERS];

static struct sl_timer ticker;

/* ---- variables ---- */

static struct sl_span
get_status(struct sl_req *r, struct sl_span arg)
{
    struct visit *v = visit_of(r);

    (void)arg;
    return v != NULL ? sl_span(visit_status(v)) : (struct sl_span){NULL, 0};
}

static struct sl_span
get_reason(struct sl_req *r, struct sl_span arg)
{
    struct visit *v = visit_of(r);

    (void)arg;
    if (v != NULL && v->form.is_taken)
        return sl_span(apr_psprintf(sl_req_pool(r), "%s, its %s form", v->reason,
                                    v->form.encoder->coding));
    return v != NULL ? sl_span(v->reason) : (struct sl_span){NULL, 0};
}

static const struct sl_variable variables[] = {
    {"cache_status", 0, SL_PHASE_RESPONSE, SL_TYPE_STRING, 10, get_status,
     "HIT, MISS, EXPIRED, STALE, UPDATING, REVALIDATED or BYPASS"},
    {"cache_reason", 0, SL_PHASE_RESPONSE, SL_TYPE_STRING, 10, get_reason,
     "why the cache answered so"},
    SL_VARIABLES_END,
};

/* ---- from start to end ---- */

/* Why nothing can be kept in the folder: an errno; 0: something can. */
static int
folder_make(const char *path)
{
    struct stat st;

    if (mkdir(path, 0700) == 0)
        return 0;
    if (errno != EEXIST || stat(path, &st) != 0)
        return errno;
    if (!S_ISDIR(st.st_mode))
        return ENOTDIR;
    return faccessat(AT_FDCWD, path, R_OK | W_OK | X_OK, AT_EACCESS) != 0 ? errno : 0;
}

/* The store says what follows from it. */
static void
folder_complain(const struct cache_data *data, int error)
{
    const char *path = data->options.path;
    char cure[128] = "name a folder on a disk that can be written to";

    if (error == ENOENT)
        snprintf(cure, sizeof cure, "make the folder it lies in");
    else if (error == EACCES || error == EPERM)
        snprintf(cure, sizeof cure,
                 "give it to who starts the server, here user %ld, for example by chown",
                 (long)geteuid());
    else if (error == ENOTDIR)
        snprintf(cure, sizeof cure, "name a folder: a file is there");
    sl_log(SL_WARN, "CACHEDISK0001", "%s: CacheDisk %s: %s; cure: %s", data->place, path,
           strerror(error), cure);
}

/* What sl_loop_now() will say: there is no loop yet. */
static int64_t
now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int
cache_open(struct sl_worker *w)
{
    const struct cache_data *data = sl_worker_module_data(w, &sl_module_record);
    struct store_options options = data->options;
    int error;

    if (data->place == NULL)
        return 0;
    if (data->options.path != NULL && (error = folder_make(data->options.path)) != 0)
        folder_complain(data, error);
    body_names_begin();
    options.now_ms = now_ms();
    cache_store = store_open(&options);
    flights_open(sl_worker_threads(w));
    return cache_store != NULL && hosts_open() == 0 && forgotten_open() == 0 ? 0 : -1;
}

static void
tick(struct sl_loop *loop, struct sl_timer *timer)
{
    store_tick(cache_store, loop, sl_loop_now(loop));
    sl_timer_set(loop, timer, sl_loop_now(loop) + TICK_MS);
}

static int
cache_ready(struct sl_worker *w)
{
    struct sl_loop *loop = sl_worker_loop(w, 0);

    if (cache_store == NULL)
        return 0;
    ticker.fn = tick;
    sl_timer_set(loop, &ticker, sl_loop_now(loop) + 1);
    return 0;
}

static int
cache_exit(struct sl_worker *w)
{
    (void)w;
    makers_close();
    if (cache_store != NULL)
        store_close(&cache_store);
    flights_close();
    return 0;
}

static const struct sl_hook hooks[] = {
    SL_ON_CHECK_CONFIG(cache_check),
    SL_ON_POST_CONFIG(cache_open),
    SL_ON_READY(cache_ready),
    SL_ON_WORKER_EXIT(cache_exit),
    SL_ON_HANDLER(cache_ask, SL_EARLY, SL_DRY_OK),
    SL_ON_RESPONSE(cache_says, SL_EARLY, SL_DRY_OK),
    SL_HOOKS_END,
};

static int
cache_init(const struct sl_module *self)
{
    static const char *const names[N_COUNTERS][2] = {
        {"cache_hits", "answers from the cache"},
        {"cache_misses", "answers that had to be fetched"},
        {"cache_stale", "answers from the cache that were stale"},
        {"cache_revalidated", "answers servers have agreed to"},
        {"cache_bypassed", "requests that went past the cache"},
        {"cache_hit_bytes", "bytes of bodies that clients got from what was stored"},
        {"cache_miss_bytes", "bytes of bodies that had to be fetched"},
        {"cache_stored", "responses that were stored"},
        {"cache_not_storable", "responses that may not be stored"},
        {"cache_encoded", "encoded forms of responses that were stored"},
    };
    int i;

    (void)self;
    for (i = 0; i < N_COUNTERS; i++)
        cache_counters[i] = sl_counter(names[i][0], names[i][1]);
    if (cache_gauges_register() != 0)
        return -1;
    return sl_provider_register("control", "cache", &cache_command);
}

SL_MODULE(cache_disk) = {
    .name = "cache_disk",
    .conf_size = sizeof(struct cache_conf),
    .data_size = sizeof(struct cache_data),
    .directives = cache_directives,
    .hooks = hooks,
    .variables = variables,
    .init = cache_init,
};
