/* One parser a type of slot, used by every directive and option of that type. */
#include "config/load.h"

#include "http/head.h"

#include <apr_strings.h>

#include <ctype.h>
#include <stdlib.h>

size_t
slot_size(enum sl_slot type)
{
    switch (type) {
    case SL_SLOT_FLAG:
    case SL_SLOT_ENUM:
        return sizeof(int);
    case SL_SLOT_NUMBER:
    case SL_SLOT_SIZE:
    case SL_SLOT_DURATION:
    case SL_SLOT_RATE:
        return sizeof(int64_t);
    case SL_SLOT_STRING:
    case SL_SLOT_TOKEN:
    case SL_SLOT_LIST:
    case SL_SLOT_NETS:
    case SL_SLOT_EXPR:
    case SL_SLOT_LINES:
    case SL_SLOT_RULES:
    case SL_SLOT_PARSED:
    case SL_SLOT_COND_REQUEST:
    case SL_SLOT_COND_ROUTED:
    case SL_SLOT_COND_RESPONSE:
    case SL_SLOT_COND_LOG:
        return sizeof(void *);
    case SL_SLOT_OPTIONS:
        return 0;
    }
    return 0;
}

int
slot_is_list(enum sl_slot type)
{
    return type == SL_SLOT_LIST || type == SL_SLOT_NETS || type == SL_SLOT_LINES;
}

int
slot_is_cond(enum sl_slot type, enum sl_phase *phase)
{
    switch (type) {
    case SL_SLOT_COND_REQUEST:
        *phase = SL_PHASE_REQUEST;
        return 1;
    case SL_SLOT_COND_ROUTED:
        *phase = SL_PHASE_ROUTED;
        return 1;
    case SL_SLOT_COND_RESPONSE:
        *phase = SL_PHASE_RESPONSE;
        return 1;
    case SL_SLOT_COND_LOG:
        *phase = SL_PHASE_LOG;
        return 1;
    default: /* every other type */
        return 0;
    }
}

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit size_units[] = {
    {"", 1}, {"k", 1024}, {"m", 1048576}, {"g", 1073741824}, {NULL, 0}};
static const struct unit time_units[] = {{"ms", 1},       {"s", 1000},       {"m", 60000},
                                         {"h", 3600000}, {"d", 86400000}, {NULL, 0}};

/* Digits and one unit; -1 when it is something else or too large. */
static int64_t
parse_units(const char *text, const struct unit *units)
{
    char *end;
    unsigned long long n;

    if (!isdigit((unsigned char)*text) || strlen(text) > 18)
        return -1;
    n = strtoull(text, &end, 10);
    for (; units->name != NULL; units++)
        if (strcasecmp(end, units->name) == 0)
            return n > (unsigned long long)(INT64_MAX / units->factor)
                       ? -1 : (int64_t)n * units->factor;
    return -1;
}

static const char *
parse_flag(const char *text, int *slot)
{
    if (strcasecmp(text, "on") == 0)
        *slot = 1;
    else if (strcasecmp(text, "off") == 0)
        *slot = 0;
    else
        return "expected \"on\" or \"off\"";
    return NULL;
}

static int
means_none(const char *text)
{
    return strcasecmp(text, "unlimited") == 0 || strcasecmp(text, "off") == 0;
}

static const char *
parse_count(const char *text, const struct unit *units, const char *expected, int64_t *slot)
{
    *slot = means_none(text) ? -1 : parse_units(text, units);
    return *slot >= 0 || means_none(text) ? NULL : expected;
}

/* What can only be bytes needs no "/s": 16k; nothing is 0 or off. */
static const char *
with_second(apr_pool_t *pool, const char *text)
{
    size_t n = strlen(text);

    if (strcmp(text, "0") == 0 || strcasecmp(text, "off") == 0)
        return "0/s";
    return n > 1 && strchr(text, '/') == NULL && strchr("kmgKMG", text[n - 1]) != NULL
               ? apr_pstrcat(pool, text, "/s", NULL) : text;
}

/* 10r/s, 600r/m, 1k/s: per 1000 seconds. */
static const char *
parse_rate(apr_pool_t *pool, const char *word, int64_t *slot)
{
    static const char expected[] = "expected a rate such as 10r/s, 600r/m or 1k/s";
    const char *text = with_second(pool, word), *slash = strchr(text, '/');
    char *amount;
    size_t n;
    int64_t value;

    if (slash == NULL || slash == text || slash[1] == '\0' || slash[2] != '\0')
        return expected;
    amount = apr_pstrmemdup(pool, text, (size_t)(slash - text));
    n = strlen(amount);
    if (n > 1 && amount[n - 1] == 'r')
        amount[n - 1] = '\0';
    value = parse_units(amount, size_units);
    if (value < 0 || value > INT64_MAX / 1000)
        return expected;
    switch (slash[1]) {
    case 's':
        *slot = value * 1000;
        return NULL;
    case 'm':
        *slot = value * 1000 / 60;
        return NULL;
    case 'h':
        *slot = value * 1000 / 3600;
        return NULL;
    default:
        return expected;
    }
}

static const char *
parse_enum(apr_pool_t *pool, const char *const *words, const char *text, int *slot)
{
    const char *all = "";
    int i;

    for (i = 0; words != NULL && words[i] != NULL; i++) {
        if (strcasecmp(words[i], text) == 0) {
            *slot = i;
            return NULL;
        }
        all = apr_pstrcat(pool, all, i > 0 ? ", " : "", words[i], NULL);
    }
    return apr_psprintf(pool, "expected one of %s", all);
}

static const char *
parse_list_word(apr_pool_t *pool, const char *text, apr_array_header_t **slot)
{
    if (*slot == NULL)
        *slot = apr_array_make(pool, 4, sizeof(const char *));
    APR_ARRAY_PUSH(*slot, const char *) = apr_pstrdup(pool, text);
    return NULL;
}

static const char *
parse_expr(apr_pool_t *pool, const char *text, struct sl_expr **slot)
{
    const char *err = NULL;

    *slot = sl_expr_compile(pool, text, SL_PHASE_LOG, &err);
    return *slot != NULL ? NULL : err;
}

static const char *
parse_cond(apr_pool_t *pool, enum sl_slot type, const char *text, struct sl_cond **slot)
{
    enum sl_phase phase = SL_PHASE_LOG;
    const char *err = NULL;

    slot_is_cond(type, &phase);
    *slot = sl_cond_compile(pool, text, phase, &err);
    return err;
}

const char *
slot_parse(apr_pool_t *pool, enum sl_slot type, const char *const *words, const char *text,
           void *slot)
{
    switch (type) {
    case SL_SLOT_FLAG:
        return parse_flag(text, slot);
    case SL_SLOT_NUMBER:
        return parse_count(text, size_units, "expected a number, 0 or more", slot);
    case SL_SLOT_SIZE:
        return parse_count(text, size_units, "expected a size such as 512, 16k, 10m or 1g", slot);
    case SL_SLOT_DURATION:
        return parse_count(text, time_units, "expected a time such as 500ms, 10s, 5m, 2h or 1d",
                           slot);
    case SL_SLOT_RATE:
        return parse_rate(pool, text, slot);
    case SL_SLOT_TOKEN:
        if (!is_token(sl_span(text)))
            return "expected a token: letters, digits and -_.!#$%&'*+^`|~";
        *(const char **)slot = apr_pstrdup(pool, text);
        return NULL;
    case SL_SLOT_STRING:
        *(const char **)slot = apr_pstrdup(pool, text);
        return NULL;
    case SL_SLOT_ENUM:
        return parse_enum(pool, words, text, slot);
    case SL_SLOT_LIST:
        return parse_list_word(pool, text, slot);
    case SL_SLOT_NETS:
        return networks_add(pool, slot, text);
    case SL_SLOT_EXPR:
        return parse_expr(pool, text, slot);
    case SL_SLOT_COND_REQUEST:
    case SL_SLOT_COND_ROUTED:
    case SL_SLOT_COND_RESPONSE:
    case SL_SLOT_COND_LOG:
        return parse_cond(pool, type, text, slot);
    case SL_SLOT_OPTIONS:
    case SL_SLOT_LINES:
    case SL_SLOT_RULES:
    case SL_SLOT_PARSED:
        return "cannot be written as one word";
    }
    return NULL;
}

const char *
sl_parse_slot(apr_pool_t *pool, enum sl_slot type, const char *text, void *slot)
{
    return slot_parse(pool, type, NULL, text, slot);
}

/* ---- marks: one for a row, one more for each of its options ---- */

static unsigned
row_marks(const struct sl_directive *row)
{
    unsigned n = 0;

    if (row->type != SL_SLOT_OPTIONS)
        return 1;
    while (row->options[n].key != NULL)
        n++;
    return n;
}

unsigned
slots_first(const struct loaded_module *m, const struct sl_directive *rows,
            const struct sl_directive *row)
{
    const struct sl_directive *r;
    unsigned i, n = 0;

    for (i = 0; (r = directive_row(m, rows, i)) != NULL && r != row; i++)
        n += row_marks(r);
    return n;
}

unsigned
slots_count(const struct loaded_module *m, const struct sl_directive *rows)
{
    return slots_first(m, rows, NULL);
}

static const char *
slots_init_words(apr_pool_t *pool, enum sl_slot type, const char *const *words, const char *init,
                 void *slot)
{
    char *copy = apr_pstrdup(pool, init), *last = NULL, *word;
    const char *err = NULL;

    if (!slot_is_list(type))
        return slot_parse(pool, type, words, init, slot);
    for (word = apr_strtok(copy, " ", &last); word != NULL && err == NULL;
         word = apr_strtok(NULL, " ", &last))
        err = slot_parse(pool, type, words, word, slot);
    return err;
}

const char *
slots_init(apr_pool_t *pool, const struct loaded_module *m, const struct sl_directive *rows,
           void *conf)
{
    const struct sl_directive *r;
    const struct sl_option *o;
    const char *err = NULL;
    unsigned i;

    for (i = 0; (r = directive_row(m, rows, i)) != NULL && err == NULL; i++) {
        if (r->type == SL_SLOT_OPTIONS) {
            for (o = r->options; o->key != NULL && err == NULL; o++)
                if (o->init != NULL)
                    err = slots_init_words(pool, o->type, o->words, o->init,
                                           (char *)conf + o->offset);
        } else if (r->init != NULL && r->type != SL_SLOT_LINES && r->type != SL_SLOT_RULES &&
                   r->type != SL_SLOT_PARSED)
            err = slots_init_words(pool, r->type, r->words, r->init, (char *)conf + r->offset);
    }
    return err;
}

/* ---- a line's arguments ---- */

static const char *
set_once(struct sl_cmd *cmd, struct mark *mark)
{
    if (mark->place != NULL)
        return sl_cmd_error(cmd, "is set twice in this scope: first at %s", mark->place);
    mark->place = cmd->line->place;
    return NULL;
}

static const char *
found(struct sl_cmd *cmd, const char *expected)
{
    const char *word = cmd->line->words[cmd->blame];

    return expected == NULL || strncmp(expected, "expected", 8) != 0 || strstr(expected, "found")
               ? expected : sl_cmd_error(cmd, "%s, found \"%s\"", expected, word);
}

static const char *
set_options(struct sl_cmd *cmd, void *own, struct mark *marks)
{
    struct option_sink sink = {cmd->row->options, own, marks};

    if (sl_cmd_argc(cmd) == 0)
        return sl_cmd_error(cmd, "expected %s", cmd->row->args);
    return cmd_options(cmd, 0, &sink);
}

static const char *
add_item(struct sl_cmd *cmd, apr_array_header_t **slot, struct mark *mark)
{
    void *item = NULL;
    const char *err = cmd->row->parse(cmd, &item);

    if (err != NULL)
        return err;
    if (mark->place == NULL)
        mark->place = cmd->line->place;
    if (*slot == NULL)
        *slot = apr_array_make(cmd->c->pool, 4, sizeof(void *));
    APR_ARRAY_PUSH(*slot, void *) = item;
    return NULL;
}

static const char *
set_lines(struct sl_cmd *cmd, apr_array_header_t **slot, struct mark *mark)
{
    if (sl_cmd_argc(cmd) > 0 && strcmp(sl_cmd_arg(cmd, 0), "-") == 0) {
        mark->restarts = 1;
        *slot = NULL;
        mark->place = cmd->line->place;
        cmd->first++;
        if (sl_cmd_argc(cmd) == 0)
            return NULL;
    }
    return add_item(cmd, slot, mark);
}

static const char *
set_list(struct sl_cmd *cmd, void *slot, struct mark *mark)
{
    const char *err = NULL;
    int i = 0;

    if (sl_cmd_argc(cmd) == 0)
        return sl_cmd_error(cmd, "expected %s", cmd->row->args);
    if (strcmp(sl_cmd_arg(cmd, 0), "-") == 0) {
        mark->restarts = 1;
        *(void **)slot = NULL;
        i++;
    }
    mark->place = cmd->line->place;
    for (; i < sl_cmd_argc(cmd) && err == NULL; i++)
        err = slot_parse(cmd->c->pool, cmd->row->type, NULL, sl_cmd_arg(cmd, i), slot);
    return found(cmd, err);
}

/* Whether its values are likely to have blanks. */
static int
is_formula(enum sl_slot type)
{
    enum sl_phase phase;

    return type == SL_SLOT_EXPR || slot_is_cond(type, &phase);
}

static const char *
set_scalar(struct sl_cmd *cmd, void *slot, struct mark *mark)
{
    const char *err;

    if (sl_cmd_argc(cmd) != 1) {
        cmd->blame = sl_cmd_argc(cmd) == 0 ? 0 : cmd->first + 1;
        if (sl_cmd_argc(cmd) > 1 && is_formula(cmd->row->type))
            sl_cmd_cure(cmd, "put all of it in one pair of double quotes");
        return sl_cmd_error(cmd, "expected one argument, %s, found %d", cmd->row->args,
                            sl_cmd_argc(cmd));
    }
    if ((err = set_once(cmd, mark)) != NULL)
        return err;
    err = cmd_slot(cmd, cmd->row->type, cmd->row->words, sl_cmd_arg(cmd, 0), slot);
    if (err == NULL && cmd->row->parse != NULL)
        err = cmd->row->parse(cmd, slot);
    return found(cmd, err);
}

/* Whether the syntax of a row has anything outside brackets. */
static int
asks_for_words(const char *args)
{
    int depth = 0;

    for (; args != NULL && *args != '\0'; args++) {
        if (depth == 0 && *args != ' ' && *args != '[')
            return 1;
        depth += (*args == '[') - (*args == ']');
    }
    return 0;
}

static const char *
set_slot(struct sl_cmd *cmd, void *own, struct mark *mark)
{
    void *slot = (char *)own + cmd->row->offset;
    const char *err;

    if (sl_cmd_argc(cmd) == 0 && asks_for_words(cmd->row->args))
        return sl_cmd_error(cmd, "expected %s, found nothing", cmd->row->args);
    switch (cmd->row->type) {
    case SL_SLOT_OPTIONS:
        return set_options(cmd, own, mark);
    case SL_SLOT_LINES:
        return found(cmd, set_lines(cmd, slot, mark));
    case SL_SLOT_RULES:
        return found(cmd, add_item(cmd, slot, mark));
    case SL_SLOT_PARSED:
        if ((err = set_once(cmd, mark)) != NULL)
            return err;
        return found(cmd, cmd->row->parse(cmd, slot));
    case SL_SLOT_LIST:
    case SL_SLOT_NETS:
        return set_list(cmd, slot, mark);
    case SL_SLOT_FLAG:
    case SL_SLOT_NUMBER:
    case SL_SLOT_SIZE:
    case SL_SLOT_DURATION:
    case SL_SLOT_RATE:
    case SL_SLOT_STRING:
    case SL_SLOT_TOKEN:
    case SL_SLOT_ENUM:
    case SL_SLOT_EXPR:
    case SL_SLOT_COND_REQUEST:
    case SL_SLOT_COND_ROUTED:
    case SL_SLOT_COND_RESPONSE:
    case SL_SLOT_COND_LOG:
        return set_scalar(cmd, slot, mark);
    }
    return NULL;
}

const char *
slots_set(struct sl_cmd *cmd, const struct sl_directive *rows, void *own, struct mark *marks)
{
    struct mark *mark = &marks[slots_first(cmd->module, rows, cmd->row)];
    int first = cmd->first;
    const char *err = set_slot(cmd, own, mark);

    if (err == NULL && cmd->row->type != SL_SLOT_OPTIONS)
        mark_say(cmd, mark, first);
    if (err != NULL && mark->place == cmd->line->place) /* the next is no second, but the first */
        mark->place = NULL;
    return err;
}
