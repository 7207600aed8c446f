/* ErrorPage. */
#include "config/core_conf.h"

#include "config/load.h"
#include "http/head.h"

#include <apr_strings.h>

#include <sys/stat.h>

#define PAGE_MAX 262144

static const char *
type_of(const char *file)
{
    static const struct { const char *suffix, *type; } types[] = {
        {"html", "text/html"}, {"htm", "text/html"}, {"xhtml", "application/xhtml+xml"},
        {"txt", "text/plain"}, {"json", "application/json"}, {"xml", "application/xml"},
        {"svg", "image/svg+xml"}, {"png", "image/png"}, {"jpg", "image/jpeg"},
        {"jpeg", "image/jpeg"}, {"gif", "image/gif"}, {"webp", "image/webp"}};
    const char *dot = strrchr(file, '.');
    unsigned i;

    for (i = 0; dot != NULL && i < sizeof types / sizeof types[0]; i++)
        if (strcasecmp(dot + 1, types[i].suffix) == 0)
            return types[i].type;
    return "text/plain";
}

/* What begins with a slash is where to go.  Who meant a file is told. */
static const char *
location_parse(struct sl_cmd *cmd, const char *word, struct error_page *page)
{
    struct stat st;

    if (!is_field_value(sl_span(word)) || strpbrk(word, " \t\"<>") != NULL)
        return "expected a URL without blanks, quotes and control bytes";
    if (*word == '/' && stat(word, &st) == 0 && S_ISREG(st.st_mode)) {
        sl_cmd_cure(cmd, "write file:%s for the page that is in the file", word);
        return sl_cmd_error(cmd, "found \"%s\", which would be a redirect to that path, but there "
                            "is a file of that name", word);
    }
    page->location = sl_span(apr_pstrdup(sl_cmd_pool(cmd), word));
    return NULL;
}

const char *
error_page_parse(struct sl_cmd *cmd, void **item)
{
    struct error_page *page = apr_pcalloc(sl_cmd_pool(cmd), sizeof *page);
    int i, n = sl_cmd_argc(cmd);
    const char *err, *word;

    *item = page;
    if (n < 2)
        return "expected one status or more, then a file or a URL";
    for (i = 0; i < n - 1; i++)
        if ((err = sl_cmd_status(cmd, i, &page->of)) != NULL)
            return err;
    word = sl_cmd_arg(cmd, n - 1);
    if (*word == '/' || strncasecmp(word, "http://", 7) == 0 || strncasecmp(word, "https://", 8) == 0)
        return location_parse(cmd, word, page);
    if (strncmp(word, "file:", 5) == 0)
        word += 5;
    page->type = type_of(word);
    return sl_cmd_file(cmd, word, PAGE_MAX, &page->body);
}
