/* What ProxyPass is given: [SCHEME://]HOST[:PORT][/path], unix:/path, or a scheme of a
 * provider, such as balancer://NAME[/path].
 *
 * Everything that could mean two things is an error: a bare word without a port (a host or
 * a pool?), a query, user names, a path that is no valid path.  The errors say what to
 * write instead, and which module speaks a scheme that none of the loaded ones knows. */

#include "runtime/span.h"
#include "upstream/pool.h"

#include "sluice/provider.h"

#include <apr_strings.h>

#define SCHEME_MAX 32

/* Schemes of modules that come with the server. */
static const struct scheme_module {
    const char *scheme;
    const char *module;
} scheme_modules[] = {
    {"balancer", "balancer"}, {"https", "tls"}, {"h2", "http2"}, {"h2c", "http2"},
};

/* "https://host" -> "https" in `name`, the length of "https://"; 0: there is no scheme. */
static size_t
scheme_split(const char *text, char *name)
{
    size_t i, n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                               "0123456789+.-_");

    if (n == 0 || n >= SCHEME_MAX || strncmp(text + n, "://", 3) != 0)
        return 0;
    for (i = 0; i < n; i++)
        name[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] + ('a' - 'A') : text[i]);
    name[n] = '\0';
    return n + 3;
}

static const char *
known_schemes(apr_pool_t *pool)
{
    static const char *const groups[] = {"target", "upstream_protocol", "transport"};
    const char *list = "http://, unix:/";
    const char *name;
    unsigned g, i;

    for (g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
        for (i = 0; (name = sl_provider_name(groups[g], i)) != NULL; i++)
            list = apr_psprintf(pool, "%s, %s://", list,
                                g == 2 && strcmp(name, "tls") == 0 ? "https" : name);
    return list;
}

static const char *
scheme_needs(struct sl_cmd *cmd, const char *name, const char *module)
{
    sl_cmd_cure(cmd, "LoadModule %s", module);
    return sl_cmd_error(cmd, "%s:// needs the module %s, which is not loaded", name, module);
}

static const char *
scheme_unknown(struct sl_cmd *cmd, const char *name)
{
    size_t i;

    for (i = 0; i < sizeof(scheme_modules) / sizeof(scheme_modules[0]); i++)
        if (strcmp(name, scheme_modules[i].scheme) == 0)
            return scheme_needs(cmd, name, scheme_modules[i].module);
    return sl_cmd_error(cmd, "%s:// is no known scheme; known are %s", name,
                        known_schemes(sl_cmd_pool(cmd)));
}

/* h2 is HTTP/2 over TLS, as https is HTTP/1.1 over it. */
static const char *
scheme_find(struct sl_cmd *cmd, const char *name, struct sl_scheme *scheme)
{
    int is_tls = strcmp(name, "https") == 0 || strcmp(name, "h2") == 0;

    scheme->name = apr_pstrdup(sl_cmd_pool(cmd), name);
    scheme->default_port = is_tls ? 443 : 80;
    if (strcmp(name, "http") == 0)
        return NULL;
    if (strcmp(name, "https") != 0)
        scheme->protocol = sl_provider_find("upstream_protocol", name);
    if (is_tls || scheme->protocol == NULL)
        scheme->transport = sl_provider_find("transport", is_tls ? "tls" : name);
    if (scheme->protocol == NULL && (scheme->transport == NULL || strcmp(name, "h2") == 0))
        return scheme_unknown(cmd, name);
    if (is_tls && scheme->transport == NULL)
        return scheme_needs(cmd, name, "tls");
    return NULL;
}

const char *
sl_scheme_parse(struct sl_cmd *cmd, const char *text, struct sl_scheme *scheme,
                const char **rest)
{
    char name[SCHEME_MAX];
    size_t n = scheme_split(text, name);

    memset(scheme, 0, sizeof(*scheme));
    scheme->name = "http";
    *rest = text + n;
    if (n == 0)
        return NULL;
    if (strncmp(*rest, "unix:", 5) == 0) {
        sl_cmd_cure(cmd, "%s", *rest);
        return "a Unix socket is written without a scheme";
    }
    return scheme_find(cmd, name, scheme);
}

/* The path goes into request lines as it stands (RFC 3986, 3.3). */
static const char *
path_check(const char *path)
{
    const char *c;

    for (c = path; *c != '\0'; c++) {
        if (*c == '?' || *c == '#')
            return "a target has no query or fragment; Rewrite can add a query";
        if (*c <= ' ' || *c >= 0x7f || *c == '"' || *c == '<' || *c == '>')
            return "a byte in the path must be percent-encoded";
        if (*c == '%' && !(hex_digit(c[1]) >= 0 && hex_digit(c[2]) >= 0))
            return "expected two hexadecimal digits behind '%' in the path";
    }
    return NULL;
}

/* A word alone might be meant as a host or as a pool: ask, do not guess. */
static const char *
bare_check(struct sl_cmd *cmd, const char *text, const char *authority)
{
    if (authority[0] == '[' || strchr(authority, ':') != NULL)
        return NULL;
    sl_cmd_cure(cmd, "http://%s is that host at port 80, balancer://%s a pool", text, text);
    return sl_cmd_error(cmd, "expected HOST:PORT, found \"%s\"", text);
}

static const char *
target_direct(struct sl_cmd *cmd, struct sl_target *t, const char *text)
{
    struct sl_scheme scheme;
    const char *rest, *authority, *path, *err = sl_scheme_parse(cmd, text, &scheme, &rest);
    int is_unix = strncmp(rest, "unix:", 5) == 0;

    if (err != NULL)
        return err;
    path = is_unix ? "" : rest + strcspn(rest, "/?#");
    authority = is_unix ? rest
                        : apr_pstrndup(sl_cmd_pool(cmd), rest, (apr_size_t)(path - rest));
    if (strchr(authority, '@') != NULL && !is_unix)
        return "a target has no user name or password";
    if (rest == text && !is_unix)
        err = bare_check(cmd, text, authority);
    if (err == NULL)
        err = path_check(path);
    if (err == NULL)
        t->pool = pool_direct(sl_cmd_pool(cmd), &scheme, authority, &err);
    if (err != NULL)
        return err;
    t->path = sl_span(path);
    t->authority = is_unix ? SL_SPAN("localhost") : sl_span(authority);
    return NULL;
}

static const char *
target_provided(struct sl_cmd *cmd, struct sl_target *t, const char *rest,
                const struct sl_target_provider *provider)
{
    const char *path = rest + strcspn(rest, "/?#");
    const char *err = path_check(path);

    if (err != NULL)
        return err;
    t->path = sl_span(path);
    return provider->find(cmd, apr_pstrndup(sl_cmd_pool(cmd), rest, (apr_size_t)(path - rest)),
                          &t->pool);
}

const char *
sl_target_parse(struct sl_cmd *cmd, const char *text, struct sl_target **target)
{
    const struct sl_target_provider *provider = NULL;
    struct sl_target *t = apr_pcalloc(sl_cmd_pool(cmd), sizeof(*t));
    char name[SCHEME_MAX];
    size_t n = scheme_split(text, name);
    const char *err;

    text = apr_pstrdup(sl_cmd_pool(cmd), text);
    t->text = sl_span(text);
    if (n > 0)
        provider = sl_provider_find("target", name);
    err = provider != NULL ? target_provided(cmd, t, text + n, provider)
                           : target_direct(cmd, t, text);
    if (err == NULL)
        *target = t;
    return err;
}
