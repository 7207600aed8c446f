/* Names that were meant: the nearest known one, which stock module brings a directive that no
 * loaded module has, and what the names of other servers' languages are here. */
#include "config/load.h"

#include <apr_strings.h>

#include <ctype.h>

#define NAME_MAX_N 64

static int
is_same_letter(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static unsigned
least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Letters to put in, take away, replace, or change with their neighbour. */
unsigned
sl_name_distance(const char *a, const char *b)
{
    unsigned rows[3][NAME_MAX_N + 1], i, j;
    size_t na = strlen(a), nb = strlen(b);

    if (na > NAME_MAX_N || nb > NAME_MAX_N)
        return NAME_MAX_N;
    for (j = 0; j <= nb; j++)
        rows[0][j] = j;
    for (i = 1; i <= na; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];

        row[0] = i;
        for (j = 1; j <= nb; j++) {
            row[j] = least(least(above[j], row[j - 1]) + 1,
                           above[j - 1] + !is_same_letter(a[i - 1], b[j - 1]));
            if (i > 1 && j > 1 && is_same_letter(a[i - 1], b[j - 2]) &&
                is_same_letter(a[i - 2], b[j - 1]))
                row[j] = least(row[j], two_above[j - 2] + 1);
        }
    }
    return rows[na % 3][nb];
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
    {"dns", " Resolver "},
    {"headers", " Header RequestHeader SecurityHeaders CORS CookieFlags "},
    {"log", " LogFormat AccessLog "},
    {"tls", " TLSCertificate TLSProfile TLSProtocols TLSCiphers TLSTickets TLSStapling "
            "TLSClientCA TLSClientCRL TLSClientDepth TLSClientVerify TLSStrictSNI TLSSessionCache TLSEarlyData "
            "TLSPlaceholder TLSOffload TLSKeyLog ProxyTLS HTTPSRedirect HSTS "},
    {"cache_disk", " CacheDisk Cache CacheKey CacheValid CacheUseStale CacheBypass CacheNoStore "
                   "CacheIgnore CacheMinUses CacheMaxObject CacheLock CacheSlice CachePurge "},
    {"ratelimit", " RateLimitZone RateLimit ConnLimit BandwidthLimit "},
    {"gzip", " Gzip GzipTypes GzipMinSize GzipLevel GzipDecode GzipPrivate "},
    {"brotli", " Brotli BrotliTypes BrotliMinSize BrotliLevel BrotliDecode BrotliPrivate "},
    {"zstd", " Zstd ZstdTypes ZstdMinSize ZstdLevel ZstdDecode ZstdPrivate "},
    {"http2", " HTTP2Streams HTTP2StreamWindow HTTP2ConnectionWindow HTTP2FrameSize "
              "HTTP2HeaderList HTTP2Resets HTTP2ControlFrames HTTP2ServerStreams "},
    {"access", " Allow Deny AccessFile "},
    {"auth", " AuthBasic AuthForward AuthJWT AuthRequire "},
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

static const struct {
    const char *name, *here;
} foreign[] = {
    /* httpd */
    {"ServerName", "<VirtualHost NAME ...>"},
    {"ServerAlias", "<VirtualHost NAME NAME ...>"},
    {"ServerTokens", "ServerHeader on|off|TEXT"},
    {"DocumentRoot", "files are not served: ProxyPass names who has them"},
    {"Directory", "files are not served: <Location PATH> is about paths of URLs"},
    {"CustomLog", "AccessLog FILE [FORMAT]"},
    {"TransferLog", "AccessLog FILE common"},
    {"Proxy", "<Balancer NAME> makes a pool, ProxyPass balancer://NAME leads to it"},
    {"BalancerMember", "Server HOST:PORT in <Balancer NAME>"},
    {"ProxyPassMatch", "ProxyPass in <LocationMatch RE>"},
    {"ProxyPassReverse", "nothing, for ProxyPass does it; ProxyRedirect FROM TO for more"},
    {"ProxyPreserveHost", "ProxyHost preserve, which is the default, or upstream"},
    {"ProxyRequests", "nothing: this is no forward proxy"},
    {"RewriteEngine", "nothing: Rewrite holds where it stands"},
    {"RewriteRule", "Rewrite RE TO, or RedirectMatch STATUS RE TO"},
    {"RedirectPermanent", "Redirect 301 PATH TO"},
    {"RedirectTemp", "Redirect 302 PATH TO"},
    {"IfModule", "nothing: a line whose module is not loaded is an error"},
    {"KeepAlive", "Timeout keepalive=75s, and KeepaliveRequests N"},
    {"KeepAliveTimeout", "Timeout keepalive=75s"},
    {"MaxKeepAliveRequests", "KeepaliveRequests N"},
    {"RequestReadTimeout", "Timeout header=10s body=30s"},
    {"LimitRequestBody", "LimitBody SIZE"},
    {"LimitRequestLine", "LimitLine SIZE"},
    {"LimitRequestFields", "LimitFields N"},
    {"LimitRequestFieldSize", "LimitHead SIZE, for all fields"},
    {"MaxRequestWorkers", "MaxConnections N"},
    {"RemoteIPInternalProxy", "TrustedProxies NET ..."},
    {"RemoteIPTrustedProxy", "TrustedProxies NET ..."},
    {"SSLEngine", "Listen PORT tls, with LoadModule tls"},
    {"SSLCertificateFile", "TLSCertificate CHAIN [KEY]"},
    {"SSLCertificateKeyFile", "TLSCertificate CHAIN [KEY]"},
    {"SSLProtocol", "TLSProtocols TLSv1.2 TLSv1.3"},
    {"SSLCipherSuite", "TLSCiphers NAME:NAME..."},
    {"ErrorDocument", "ErrorPage STATUS ... FILE|URL"},
    {"Require", "Allow NET ... for addresses, AuthRequire CONDITION for users"},
    {"AuthType", "AuthBasic REALM FILE"},
    {"AuthUserFile", "AuthBasic REALM FILE"},
    {"SetEnvIf", "<If CONDITION>, or if=CONDITION behind a line"},
    {"Files", "files are not served: <Location PATH> is about paths of URLs"},
    {"ExpiresActive", "Header set Cache-Control \"max-age=N\""},
    /* nginx */
    {"server", "<VirtualHost NAME ...>, and Listen outside it; a server of a pool stands in "
               "<Balancer NAME>"},
    {"location", "<Location PATH> or <LocationMatch RE>"},
    {"upstream", "<Balancer NAME>"},
    {"server_name", "<VirtualHost NAME ...>"},
    {"http", "nothing: what is outside all sections holds for all"},
    {"events", "MaxConnections N"},
    {"proxy_pass", "ProxyPass http://HOST:PORT or balancer://POOL"},
    {"proxy_set_header", "RequestHeader set NAME VALUE"},
    {"proxy_redirect", "ProxyRedirect on|off|FROM TO"},
    {"proxy_connect_timeout", "ProxyTimeout connect=5s"},
    {"proxy_read_timeout", "ProxyTimeout first=60s idle=60s"},
    {"proxy_send_timeout", "ProxyTimeout send=60s"},
    {"proxy_next_upstream", "Retry on=LIST in <Balancer NAME>"},
    {"add_header", "Header set NAME VALUE [always]"},
    {"access_log", "AccessLog FILE [FORMAT], or AccessLog off"},
    {"log_format", "LogFormat NAME FORMAT"},
    {"error_log", "ErrorLog FILE, and LogLevel LEVEL"},
    {"client_max_body_size", "LimitBody SIZE"},
    {"keepalive_timeout", "Timeout keepalive=75s"},
    {"client_header_timeout", "Timeout header=10s"},
    {"client_body_timeout", "Timeout body=30s"},
    {"set_real_ip_from", "TrustedProxies NET ..."},
    {"worker_processes", "Threads auto|N"},
    {"worker_connections", "MaxConnections N"},
    {"ssl_certificate", "TLSCertificate CHAIN [KEY]"},
    {"ssl_certificate_key", "TLSCertificate CHAIN [KEY]"},
    {"ssl_protocols", "TLSProtocols TLSv1.2 TLSv1.3"},
    {"limit_req", "RateLimit ZONE [burst=N] [nodelay]"},
    {"limit_req_zone", "RateLimitZone NAME key=%{remote_addr} rate=10r/s"},
    {"limit_conn", "ConnLimit N [key=EXPR]"},
    {"limit_conn_zone", "nothing: ConnLimit N key=EXPR has it all"},
    {"proxy_cache", "Cache on"},
    {"proxy_cache_path", "CacheDisk FOLDER size=SIZE"},
    {"proxy_cache_key", "CacheKey EXPR"},
    {"proxy_cache_valid", "CacheValid [STATUS ...] TIME"},
    {"proxy_cache_use_stale", "CacheUseStale error timeout invalid updating 500 ..."},
    {"proxy_cache_background_update", "CacheUseStale updating"},
    {"proxy_cache_lock", "CacheLock on, as it is where nothing is said"},
    {"proxy_cache_bypass", "CacheBypass CONDITION, which does not store either"},
    {"proxy_no_cache", "CacheNoStore CONDITION"},
    {"proxy_cache_min_uses", "CacheMinUses N"},
    {"proxy_cache_methods", "nothing: what GET brings answers GET and HEAD"},
    {"proxy_cache_revalidate", "nothing: what has a validator is validated"},
    {"proxy_cache_purge", "CachePurge NET ..."},
    {"proxy_ignore_headers", "CacheIgnore Cache-Control Expires Set-Cookie Vary"},
    {"slice", "CacheSlice SIZE"},
    {"auth_request", "AuthForward TARGET"},
    {"proxy_http_version", "nothing: it is HTTP/1.1; h2:// and h2c:// in ProxyPass speak HTTP/2"},
    {"proxy_buffering", "nothing: bodies are passed on as they come"},
    {"proxy_ssl_verify", "nothing: servers are verified; ProxyTLS ca=FILE says by whom"},
    {"expires", "Header set Cache-Control \"max-age=N\""},
    {"map", "<If CONDITION>, or if=CONDITION behind a line"},
    {"set", "<If CONDITION>, or if=CONDITION behind a line"},
    {"root", "files are not served: ProxyPass names who has them"},
    {"index", "files are not served: ProxyPass names who has them"},
    {"try_files", "files are not served: ProxyPass names who has them"},
    {"fastcgi_pass", "servers are spoken to by HTTP: ProxyPass http://HOST:PORT"},
    {"uwsgi_pass", "servers are spoken to by HTTP: ProxyPass http://HOST:PORT"},
    /* HAProxy */
    {"global", "nothing: what is outside all sections holds for all"},
    {"defaults", "nothing: what is outside all sections holds for all"},
    {"mode", "nothing: it is HTTP"},
    {"maxconn", "MaxConnections N, and maxconn=N of a Server"},
    {"acl", "<If CONDITION>, or if=CONDITION behind a line"},
    {"use_backend", "ProxyPass balancer://NAME in <Location PATH> or <If CONDITION>"},
    {"option", "HealthCheck uri=PATH in <Balancer NAME> for httpchk; X-Forwarded-For is sent by itself"},
    {"http-check", "HealthCheck uri=PATH expect=LIST in <Balancer NAME>"},
    {"http-request", "RequestHeader, Deny, Redirect or Return, in <If CONDITION> where there is one"},
    {"http-response", "Header ACTION NAME [VALUE]"},
    {"stick-table", "RateLimitZone to count clients, Sticky to keep them with a server"},
    {"bind", "Listen [ADDR:]PORT"},
    {"frontend", "Listen [ADDR:]PORT, and <VirtualHost NAME ...>"},
    {"backend", "<Balancer NAME>"},
    {"balance", "Method roundrobin or leastconn in <Balancer NAME>"},
    {"default_backend", "ProxyPass balancer://NAME"},
};

const char *
foreign_name(const char *name)
{
    size_t i;

    for (i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        if (strcasecmp(foreign[i].name, name) == 0)
            return foreign[i].here;
    return NULL;
}
