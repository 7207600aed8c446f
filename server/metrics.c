/* sluice ctl metrics: counters and gauges, as Prometheus reads them or as JSON.  The worker that serves
 * prints them: counters are of all generations, gauges its own. */
#include "metrics.h"

#include "sluice/control.h"
#include "sluice/gauge.h"
#include "sluice/provider.h"
#include "sluice/zone.h"

#include <apr_lib.h>
#include <apr_strings.h>

#define GROUP "gauge"
#define PREFIX "sluice_"

struct sl_gauge_sink {
    struct sl_control_call *call;
    const char *name;
    unsigned n_said; /* by all gauges */
};

/* ---- for Prometheus ---- */

/* Names are of letters, digits and _ there. */
static const char *
text_name(apr_pool_t *pool, const char *name)
{
    char *text = apr_pstrcat(pool, PREFIX, name, NULL), *at;

    for (at = text; *at != '\0'; at++)
        if (!apr_isalnum(*at))
            *at = '_';
    return text;
}

static void
text_head(struct sl_control_call *call, const char *name, const char *type, const char *help)
{
    name = text_name(sl_control_pool(call), name);
    sl_control_print(call, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static const char *
text_value(apr_pool_t *pool, const char *value)
{
    char *text = apr_palloc(pool, 2 * strlen(value) + 1), *to = text;

    for (; *value != '\0'; value++) {
        if (*value == '\\' || *value == '"' || *value == '\n')
            *to++ = '\\';
        *to++ = *value == '\n' ? 'n' : *value;
    }
    *to = '\0';
    return text;
}

static void
text_say(const struct sl_gauge_sink *to, int64_t value, const struct sl_label *labels)
{
    apr_pool_t *pool = sl_control_pool(to->call);
    const struct sl_label *l;

    sl_control_print(to->call, "%s", text_name(pool, to->name));
    for (l = labels; l != NULL && l->name != NULL; l++)
        sl_control_print(to->call, "%s%s=\"%s\"", l == labels ? "{" : ",", l->name,
                         text_value(pool, l->value));
    sl_control_print(to->call, "%s %lld\n", labels != NULL ? "}" : "", (long long)value);
}

/* ---- JSON ---- */

static const char *
json_of(apr_pool_t *pool, const char *text)
{
    size_t room = 6 * strlen(text) + 32;
    char *to = apr_palloc(pool, room);

    *sl_json_string(to, to + room - 1, sl_span(text)) = '\0';
    return to;
}

static void
json_say(const struct sl_gauge_sink *to, int64_t value, const struct sl_label *labels)
{
    apr_pool_t *pool = sl_control_pool(to->call);
    const struct sl_label *l;

    sl_control_print(to->call, "%s\n{\"name\":%s,\"labels\":{", to->n_said > 0 ? "," : "",
                     json_of(pool, to->name));
    for (l = labels; l != NULL && l->name != NULL; l++)
        sl_control_print(to->call, "%s%s:%s", l == labels ? "" : ",", json_of(pool, l->name),
                         json_of(pool, l->value));
    sl_control_print(to->call, "},\"value\":%lld}", (long long)value);
}

/* ---- both ---- */

void
sl_gauge_say(struct sl_gauge_sink *to, int64_t value, const struct sl_label *labels)
{
    if (sl_control_wants_json(to->call))
        json_say(to, value, labels);
    else
        text_say(to, value, labels);
    to->n_said++;
}

static void
print_counters(struct sl_control_call *call)
{
    int i, is_json = sl_control_wants_json(call);
    const char *name;

    for (i = 0; (name = sl_counter_name(i)) != NULL; i++)
        if (is_json)
            sl_control_print(call, "%s\n%s:%lld", i > 0 ? "," : "", json_of(sl_control_pool(call), name),
                             (long long)sl_counter_sum(i));
        else {
            text_head(call, name, "counter", sl_counter_help(i));
            sl_control_print(call, "%s %lld\n", text_name(sl_control_pool(call), name),
                             (long long)sl_counter_sum(i));
        }
}

static void
print_gauges(struct sl_control_call *call)
{
    struct sl_gauge_sink to = {.call = call};
    const struct sl_gauge *gauge;
    unsigned i;

    for (i = 0; (to.name = sl_provider_name(GROUP, i)) != NULL; i++) {
        gauge = sl_provider_find(GROUP, to.name);
        if (!sl_control_wants_json(call))
            text_head(call, to.name, "gauge", gauge->help);
        gauge->read(&to);
    }
}

static void
metrics_run(struct sl_control_call *call, int argc, const char *const *argv)
{
    int is_json = sl_control_wants_json(call);

    (void)argv;
    if (argc != 0) {
        sl_control_print(call, "usage: ctl metrics\n");
        sl_control_end(&call, 2);
        return;
    }
    sl_control_print(call, "%s", is_json ? "{\"counters\":{" : "");
    print_counters(call);
    sl_control_print(call, "%s", is_json ? "},\n\"gauges\":[" : "");
    print_gauges(call);
    sl_control_print(call, "%s", is_json ? "]}\n" : "");
    sl_control_end(&call, 0);
}

static const struct sl_control_command command = {
    "", "prints counters and gauges, as Prometheus reads them", metrics_run};

void
metrics_register(void)
{
    sl_provider_register("control", "metrics", &command);
}
