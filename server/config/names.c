/* Names that were meant: the nearest known one, and which stock module brings a directive
 * that no loaded module has. */
#include "config/load.h"

#include <apr_strings.h>

#include <ctype.h>

#define NAME_MAX_N 64

unsigned
sl_name_distance(const char *a, const char *b)
{
    unsigned row[NAME_MAX_N + 1], i, j, diagonal, up;
    size_t na = strlen(a), nb = strlen(b);

    if (na > NAME_MAX_N || nb > NAME_MAX_N)
        return NAME_MAX_N;
    for (j = 0; j <= nb; j++)
        row[j] = j;
    for (i = 1; i <= na; i++) {
        diagonal = row[0];
        row[0] = i;
        for (j = 1; j <= nb; j++) {
            unsigned same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            unsigned best = diagonal + !same;

            up = row[j];
            if (up + 1 < best)
                best = up + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = up;
            row[j] = best;
        }
    }
    return row[nb];
}

static void
nearer(const char *name, const char *typed, const char **best, unsigned *distance)
{
    unsigned d = sl_name_distance(name, typed);

    if (d < *distance) {
        *distance = d;
        *best = name;
    }
}

const char *
nearest_directive(const struct config *c, const char *typed)
{
    const char *best = NULL;
    unsigned distance = (unsigned)strlen(typed) / 3 + 1, j;
    int i;

    for (i = 0; i < c->modules->nelts; i++) {
        const struct loaded_module *m = config_module(c, i);
        const struct sl_directive *d;
        const struct sl_section *s;

        for (j = 0; (d = directive_row(m, m->module->directives, j)) != NULL; j++)
            nearer(d->name, typed, &best, &distance);
        for (j = 0; (s = section_row(m, j)) != NULL; j++)
            nearer(s->name, typed, &best, &distance);
    }
    return best;
}

static const struct {
    const char *module;
    const char *names;
} stock[] = {
    {"route", " VirtualHost Location LocationMatch If ProxyPass ProxyTimeout ProxyHost "
              "ProxyUpgrade ProxyBodyHold ProxyIntercept ProxyRedirect ProxyCookie StripPrefix "
              "Rewrite Redirect RedirectMatch Return "},
    {"balancer", " Balancer "},
    {"headers", " Header RequestHeader SecurityHeaders CORS CookieFlags "},
    {"log", " LogFormat AccessLog "},
    {"tls", " TLSCertificate TLSProfile TLSProtocols TLSCiphers TLSTickets TLSStapling "
            "TLSClientCA TLSClientVerify TLSEarlyData TLSPlaceholder TLSKeyLog HTTPSRedirect HSTS "},
    {"cache_disk", " CacheDisk Cache CacheKey CacheValid CacheUseStale CacheBypass CacheNoStore "
                   "CacheIgnore CacheMinUses CacheMaxObject CacheLock CacheSlice CachePurge "},
    {"ratelimit", " RateLimitZone RateLimit ConnLimit BandwidthLimit "},
    {"gzip", " Gzip GzipTypes GzipMinSize GzipLevel "},
    {"brotli", " Brotli BrotliTypes BrotliMinSize BrotliLevel "},
    {"zstd", " Zstd ZstdTypes ZstdMinSize ZstdLevel "},
    {"access", " Allow Deny AccessFile Satisfy "},
    {"auth", " AuthBasic AuthForward AuthJWT "},
    {"status", " Status "},
};

const char *
stock_module_of(const char *directive)
{
    char word[NAME_MAX_N + 3];
    size_t i;

    if (strlen(directive) > NAME_MAX_N)
        return NULL;
    apr_snprintf(word, sizeof word, " %s ", directive);
    for (i = 0; i < sizeof stock / sizeof stock[0]; i++)
        if (strcasestr(stock[i].names, word) != NULL)
            return stock[i].module;
    return NULL;
}
