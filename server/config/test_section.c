/* See test_section.h. */
#include "config/test_section.h"

#include "config/load.h"

static struct test_expect *
expect_make(struct sl_cmd *cmd, int n_words)
{
    struct test_expect *e = apr_pcalloc(sl_cmd_pool(cmd), sizeof *e);

    e->place = sl_cmd_place(cmd);
    if (n_words == 2)
        e->name = sl_cmd_arg(cmd, 0);
    e->value = sl_cmd_arg(cmd, n_words - 1);
    return e;
}

static const char *
backend_parse(struct sl_cmd *cmd, void **item)
{
    *item = expect_make(cmd, 1);
    return sl_cmd_argc(cmd) == 1 ? NULL : "expected the address of a server, as ProxyPass or Server "
                                          "has it";
}

static const char *
path_parse(struct sl_cmd *cmd, void **item)
{
    *item = expect_make(cmd, 1);
    return sl_cmd_argc(cmd) == 1 && sl_cmd_arg(cmd, 0)[0] == '/'
               ? NULL : "expected the path the server is asked for";
}

static const char *
status_parse(struct sl_cmd *cmd, void **item)
{
    const char *word = sl_cmd_arg(cmd, 0);

    *item = expect_make(cmd, 1);
    return word != NULL && sl_cmd_argc(cmd) == 1 && strlen(word) == 3 &&
                   strspn(word, "0123456789") == 3 && word[0] >= '2' && word[0] <= '5'
               ? NULL : "expected a status from 200 to 599";
}

static const char *
field_parse(struct sl_cmd *cmd, void **item)
{
    *item = expect_make(cmd, 2);
    return sl_cmd_argc(cmd) == 2 ? NULL : "expected the name of a field and its value";
}

static const struct sl_directive test_directives[] = {
    SL_PARSED("Backend", struct test_section, backend, backend_parse, SL_IN_GLOBAL, "ADDR",
              "The server that is asked, or one of the pool that is"),
    SL_PARSED("Path", struct test_section, path, path_parse, SL_IN_GLOBAL, "PATH",
              "The path that server is asked for"),
    SL_PARSED("Status", struct test_section, status, status_parse, SL_IN_GLOBAL, "STATUS",
              "The status of an answer that needs no server"),
    SL_LINES("Header", struct test_section, fields, field_parse, SL_IN_GLOBAL, "NAME VALUE",
             "A field of the answer"),
    SL_DIRECTIVES_END,
};

static const char *
section_open(struct sl_cmd *cmd, struct sl_scope *scope)
{
    (void)scope;
    if (sl_cmd_argc(cmd) == 1 && strchr(sl_cmd_arg(cmd, 0), ' ') != NULL)
        return NULL;
    sl_cmd_cure(cmd, "write <Test \"GET http://example.com/\">");
    return "expected a method and a URL, in double quotes";
}

static const char *
section_close(struct sl_cmd *cmd, void *conf)
{
    struct test_section *t = conf;

    if (sl_cmd_argc(cmd) != 1) /* told when it was opened */
        return NULL;
    t->place = sl_cmd_place(cmd);
    t->ask = sl_cmd_arg(cmd, 0);
    APR_ARRAY_PUSH(cmd->c->tests, struct test_section *) = t;
    if (t->backend != NULL || t->path != NULL || t->status != NULL || t->fields != NULL)
        return NULL;
    sl_cmd_cure(cmd, "write Backend ADDR, Path PATH, Status STATUS or Header NAME VALUE inside");
    return "expects nothing";
}

const struct sl_section test_sections[] = {
    {.name = "Test",
     .kind = SL_SECTION_OBJECT,
     .where = SL_IN_GLOBAL,
     .open = section_open,
     .close = section_close,
     .directives = test_directives,
     .conf_size = sizeof(struct test_section),
     .args = "\"METHOD URL\"",
     .help = "What becomes of a request, tried before a configuration is taken"},
    SL_SECTIONS_END,
};
