#include "check_http.h"

#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>

#define STATUS_LINE_LEAST 12 /* "HTTP/1.1 200" */

static int
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "200" or "200-399". */
static int
range_parse(const char **text, struct check_range *range)
{
    char *end;

    if (!is_digit(**text))
        return -1;
    range->first = range->last = (int)strtol(*text, &end, 10);
    if (*end == '-' && is_digit(end[1]))
        range->last = (int)strtol(end + 1, &end, 10);
    *text = end;
    return range->first >= 100 && range->last <= 599 && range->first <= range->last ? 0 : -1;
}

const char *
check_ranges_parse(const char *text, struct check_ranges *ranges)
{
    for (ranges->n = 0; ranges->n < sizeof(ranges->at) / sizeof(ranges->at[0]); text++) {
        if (range_parse(&text, &ranges->at[ranges->n++]) != 0)
            break;
        if (*text == '\0')
            return NULL;
        if (*text != ',')
            break;
    }
    return "expected expect= statuses or ranges of them with commas, at most eight: 200-399,404";
}

/* Host: as said, else the server's address, as a client would write it (RFC 9112, 3.2). */
const char *
check_request(apr_pool_t *pool, const struct check_conf *conf, const struct sl_server *s)
{
    const char *host = conf->host != NULL ? conf->host
                       : strncmp(s->address, "unix:", 5) == 0 ? "localhost" : s->address;

    return apr_psprintf(pool, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: sluice-check\r\n"
                        "Accept: */*\r\nConnection: close\r\n\r\n",
                        conf->method, conf->uri, host);
}

/* -1: that is no status line (RFC 9112, 4). */
static int
status_of(const char *bytes)
{
    if (memcmp(bytes, "HTTP/1.", 7) != 0 || !is_digit(bytes[7]) || bytes[8] != ' ' ||
        !is_digit(bytes[9]) || !is_digit(bytes[10]) || !is_digit(bytes[11]))
        return -1;
    return (bytes[9] - '0') * 100 + (bytes[10] - '0') * 10 + bytes[11] - '0';
}

static int
ranges_have(const struct check_ranges *ranges, int status)
{
    unsigned i;

    for (i = 0; i < ranges->n; i++)
        if (status >= ranges->at[i].first && status <= ranges->at[i].last)
            return 1;
    return 0;
}

static enum check_verdict
body_verdict(const struct check_conf *conf, const char *bytes, size_t n, int is_all, char *why,
             size_t why_size)
{
    const char *body = memmem(bytes, n, "\r\n\r\n", 4);

    if (body != NULL
        && memmem(body, n - (size_t)(body - bytes), conf->body, strlen(conf->body)) != NULL) {
        snprintf(why, why_size, "status and body as expected");
        return CHECK_GOOD;
    }
    snprintf(why, why_size, "the body is without what is expected");
    return is_all ? CHECK_BAD : CHECK_MORE;
}

enum check_verdict
check_answer(const struct check_conf *conf, const char *bytes, size_t n, int is_all, char *why,
             size_t why_size)
{
    int status;

    if (n < STATUS_LINE_LEAST) {
        snprintf(why, why_size, n == 0 ? "closed without an answer" : "no HTTP answer");
        return is_all ? CHECK_BAD : CHECK_MORE;
    }
    status = status_of(bytes);
    if (status < 0) {
        snprintf(why, why_size, "no HTTP answer");
        return CHECK_BAD;
    }
    snprintf(why, why_size, "status %d", status);
    if (!ranges_have(conf->ranges, status))
        return CHECK_BAD;
    return conf->body == NULL ? CHECK_GOOD : body_verdict(conf, bytes, n, is_all, why, why_size);
}
