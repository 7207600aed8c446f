/* Limits: of requests in a time, of requests at once, of bytes in a time. */

/*man
NAME
    mod_ratelimit - limits how many requests come, how many are under way, and how fast bodies go
DESCRIPTION
    A RateLimitZone says what is counted and how often it may come; RateLimit has a host or a
    location take part in it. ConnLimit limits how many requests of a key are under way at
    once, BandwidthLimit how many bytes a second a body has. Each may stand several times, and
    then all hold; lines add up from outer to inner scopes.

    A key is any text with variables: an address, a field, a cookie, a path, or several
    together. A request for which it is empty is not limited. %{remote_addr} in a key is a
    network: an IPv4 address (ipv4=32) or an IPv6 network of 64 bits (ipv6=64), because a
    client has that many to choose from.

    A refused request gets 429 and, of a RateLimit, Retry-After with the seconds after which
    one more would be admitted; it costs the client nothing, in no zone. The log has one line
    for each key and minute, ctl counters has the sums. Requests in shadow are counted and
    logged, but not refused.

    Memory: a zone is as large as size= says, whatever comes; 8 bytes are a key, so that 10m
    hold a million. When it is full, the key whose debt is the smallest is forgotten. Zones
    live through reloads and crashes; one whose size or rate has changed begins afresh, and
    the log says so. Two of a million keys may share their count. Each process has room for
    131,072 keys of one ConnLimit under way; requests beyond are not counted, which
    connlimit_uncounted in ctl counters shows.

    sluice ctl limit top ZONE [N] lists the keys that went over a RateLimitZone or ConnLimit
    (by its name or key), those with the most refused requests first. ctl limit show ZONE KEY
    says what a key owes or has under way, show ZONE how many keys have a debt. ctl limit clear
    ZONE [KEY] forgets one key or all: who was shut out may come again. With --json, top and
    show are JSON.
DIRECTIVES
  RateLimitZone
    A zone: RateLimitZone NAME key=EXPR rate=RATE [OPTION ...]. rate= is 10r/s, 600r/m, 50r/h
    or 1000r/d, up to a million; 600r/m and 10r/s are the same. size= is its memory (10m).
    ipv4= and ipv6= are the lengths of networks in key= (32 and 64). log= is how often a key
    over the limit is logged (60s). store=redis://[:PASSWORD@]HOST[:PORT][/DB] has machines
    with the same line hold one limit, where the server was built with hiredis. Each decides by
    its own zone and tells Redis every 20 ms what it admitted; the answer is what all have. So
    a burst may be larger by what each admits until it is answered, at least one request, and
    that is owed: the rate holds on average, up to 64 requests of a key beyond the burst.
    When Redis does not answer within 250 ms, the limit is that of this machine alone, no
    request waits, and the log says so.
  RateLimit
    Limits requests by the rate of a zone: RateLimit ZONE [OPTION ...]. Without options, a
    request that comes sooner than the rate allows is refused. burst=N admits N requests ahead
    of their time. Those wait for it; with nodelay they go on at once, with delay=N the first
    N of them do. status= is the answer to a refused request (429). fields tells clients in
    RateLimit-Policy and RateLimit what is left to them. shadow refuses and delays nothing.
    if=CONDITION says where the limit holds, except=NET,NET who is exempt. A request counts
    once in a zone, by the innermost line that holds for it.
  ConnLimit
    How many requests of a key are under way at once: ConnLimit N [OPTION ...]. key= is what is
    counted (%{remote_addr}). Lines of the same key share their counts, and a request counts
    once; name= gives lines a count of their own. status=, shadow, if=, except=, ipv4= and
    ipv6= are as above.
  BandwidthLimit
    How fast bodies are sent: BandwidthLimit RATE [OPTION ...], RATE in bytes a second (100k,
    2m). Each body has that rate for itself; with key=, all of one key share it. upload limits
    bodies of requests instead of those of responses. They are read in pieces of at most 64k, and
    those who share a rate wait for what they owe together: each may be a piece ahead of it. What
    is owed beyond 128 s is forgiven, so that the rate holds on average where it has at least 512
    bytes a second for each that is under way. after=SIZE is free in each body. if=, except=,
    ipv4= and ipv6= are as above. A tunnel (101) is limited on its way up only.
EXAMPLE
    LoadModule route
    LoadModule ratelimit
    Listen 80
    RateLimitZone api key=%{remote_addr} rate=10r/s
    RateLimitZone login key="%{remote_addr} %{path}" rate=5r/m size=1m
    <Location "/api/">
        RateLimit api burst=20 nodelay fields
        ConnLimit 10
    </Location>
    <Location "/login">
        RateLimit login burst=2 nodelay if="%{method} == POST" except=10.0.0.0/8
    </Location>
    <Location "/files/">
        BandwidthLimit 500k after=1m
        BandwidthLimit 2m key=%{remote_addr}
        BandwidthLimit 1m upload
    </Location>
    ProxyPass http://127.0.0.1:3000
*/

#include "ratelimit.h"

static int
ratelimit_check(struct sl_worker *w)
{
    limits_check(w);
    zones_lint(w);
    return 0;
}

static int
ratelimit_open(struct sl_worker *w)
{
    (void)w;
    if (zones_open_all() != 0 || conns_open_all() != 0 || widths_open_all() != 0)
        return -1;
    return 0;
}

static int
ratelimit_begin(struct sl_worker *w)
{
    return zones_open_stores(sl_worker_threads(w));
}

static int
ratelimit_exit(struct sl_worker *w)
{
    (void)w;
    zones_close_stores();
    return 0;
}

static int
ratelimit_init(const struct sl_module *self)
{
    (void)self;
    if (limit_init() != 0 || conn_init() != 0 ||
        sl_provider_register("control", "limit", &limit_command) != 0)
        return -1;
    return 0;
}

/* What is refused at once comes first; a request may wait for its turn only at the end. */
static enum sl_verdict
ratelimit_access(struct sl_req *r, const void *confp)
{
    const struct ratelimit_conf *conf = confp;

    if ((conf->conns != NULL && conn_access(r, conf->conns) != SL_NEXT) ||
        (conf->widths != NULL && width_request(r, conf->widths) != SL_NEXT))
        return SL_FAIL;
    return conf->limits != NULL ? limit_access(r, conf->limits) : SL_NEXT;
}

static const struct sl_directive directives[] = {
    SL_LINES("RateLimitZone", struct ratelimit_conf, zones, zone_parse, SL_IN_GLOBAL,
             "NAME key=EXPR rate=RATE [size=SIZE] [ipv4=BITS] [ipv6=BITS] [log=TIME] "
             "[store=URL]",
             "Names what is counted and how often it may come"),
    SL_LINES("RateLimit", struct ratelimit_conf, limits, limit_parse, SL_IN_ANY,
             "ZONE [burst=N] [nodelay] [delay=N] [fields] [shadow] [status=STATUS] "
             "[if=CONDITION] "
             "[except=NETS]",
             "Limits requests by the rate of a zone"),
    SL_LINES("ConnLimit", struct ratelimit_conf, conns, conn_parse, SL_IN_ANY,
             "N [key=EXPR] [name=NAME] [ipv4=BITS] [ipv6=BITS] [shadow] [status=STATUS] "
             "[if=CONDITION] [except=NETS]",
             "Limits how many requests of a key are under way"),
    SL_LINES("BandwidthLimit", struct ratelimit_conf, widths, width_parse, SL_IN_ANY,
             "RATE [key=EXPR] [upload] [after=SIZE] [ipv4=BITS] [ipv6=BITS] "
             "[if=CONDITION] [except=NETS]",
             "Limits how fast bodies are sent, or read"),
    SL_DIRECTIVES_END,
};

/* Bytes are counted as they leave: behind what encodes them. */
#define BEHIND_ENCODERS "gzip brotli zstd"

static const struct sl_hook hooks[] = {
    SL_ON_CHECK_CONFIG(ratelimit_check),
    SL_ON_POST_CONFIG(ratelimit_open),
    SL_ON_WORKER_INIT(ratelimit_begin),
    SL_ON_WORKER_EXIT(ratelimit_exit),
    SL_ON_ACCESS(ratelimit_access, SL_EARLY, SL_DRY_OK),
    SL_ON_RESPONSE(answer_fields, SL_EARLY, SL_DRY_OK),
    {SL_HOOK_RESPONSE, SL_LATE, SL_DRY_OK, "width_response", BEHIND_ENCODERS, NULL, NULL,
     NULL, width_response, NULL},
    SL_HOOKS_END,
};
SL_MODULE(ratelimit) = {
    .name = "ratelimit",
    .conf_size = sizeof(struct ratelimit_conf),
    .directives = directives,
    .hooks = hooks,
    .init = ratelimit_init,
};
