/* sluice ctl cache get URL */
#include "cache.h"

#include <apr_strings.h>

struct getting {
    struct store_get get;
    struct store_top variants;
    struct sl_span prefix; /* of their keys, with a line feed at its end */
    struct sl_control_call *call;
    struct sl_fields *fields;  /* of the request that is asked about */
    uint64_t era;              /* of the marker that led to it */
    struct store_object *base; /* held, while its forms are looked for */
    unsigned i, n_forms;       /* of the encoders; printed */
};

/* As store_get(), without being a hit where it is in memory: who looks changes nothing. */
static enum store_answer
getting_look(struct getting *d, struct sl_loop *loop, struct store_object **o)
{
    enum store_answer answer = store_peek(cache_store, d->get.key, o);

    d->get.hash = store_hash(cache_store, d->get.key);
    return answer == STORE_WAIT ? store_get(cache_store, loop, &d->get, o) : answer;
}

static void
say_text(struct sl_control_call *call, const char *name, struct sl_span text)
{
    if (sl_control_wants_json(call))
        sl_control_print(call, "\"%s\": %s, ", name, command_json(call, text));
    else {
        text = command_text(call, text);
        sl_control_print(call, "%-9s %.*s\n", name, (int)text.n, text.at);
    }
}

static void
say_number(struct sl_control_call *call, const char *name, int64_t n, const char *unit)
{
    if (sl_control_wants_json(call))
        sl_control_print(call, "\"%s\": %ld, ", name, (long)n);
    else
        sl_control_print(call, "%-9s %ld%s\n", name, (long)n, unit);
}

static void
get_print_tags(struct sl_control_call *call, const struct meta *m)
{
    const char *sum = "";
    struct sl_field x;
    unsigned i;

    for (i = 0; meta_field(m, i, &x); i++)
        if (is_tag_field(&x))
            sum = apr_pstrcat(sl_control_pool(call), sum, *sum != '\0' ? " " : "",
                              sl_span_dup(sl_control_pool(call), x.value), NULL);
    if (*sum != '\0')
        say_text(call, "tags", sl_span(sum));
}

static void
get_print(struct sl_control_call *call, const struct store_object *o)
{
    static const char *const states[] = {"good", "purged softly", "purged"};
    struct meta m;
    int is_complete;
    int64_t now = apr_time_sec(apr_time_now());

    if (meta_read(o->meta, &m) != 0)
        return;
    say_number(call, "status", m.status, "");
    say_number(call, "size", m.whole > 0 ? m.whole : store_size(o, &is_complete), "");
    if (m.whole > 0)
        say_number(call, "slice", m.slice, "");
    say_number(call, "age", now - m.storing.born, " s");
    say_number(call, "fresh", m.storing.born + m.storing.lifetime - now, " s more");
    say_text(call, "state", sl_span(states[store_state(cache_store, o)]));
    say_number(call, "hits", store_hits(o), "");
    say_text(call, "memory", store_body(o).at != NULL ? SL_SPAN("yes") : SL_SPAN("no"));
    get_print_tags(call, &m);
}

static void
get_print_none(struct sl_control_call *call, struct sl_span key)
{
    const char *why = why_unstorable(key);

    if (sl_control_wants_json(call))
        say_text(call, "key", key);
    else {
        key = command_text(call, key);
        sl_control_print(call, "nothing is stored under %.*s\n", (int)key.n, key.at);
    }
    if (why != NULL)
        say_text(call, "because", sl_span(why));
}

static void
get_ended(struct getting *d, int is_there)
{
    if (sl_control_wants_json(d->call))
        sl_control_print(d->call, "\"stored\": %s}\n", is_there ? "true" : "false");
    sl_control_end(&d->call, is_there ? 0 : 1);
}

static void
form_print(struct getting *d, const struct store_object *o)
{
    const char *coding = sl_provider_name("encoder", d->i - 1);
    struct form form;
    struct meta base;
    int is_complete;
    long size = (long)store_size(o, &is_complete);

    if (meta_read(d->base->meta, &base) != 0 || form_read(o->meta, &form) != 0 ||
        form.body != base.body)
        return;
    if (sl_control_wants_json(d->call))
        sl_control_print(d->call,
                         "%s{\"coding\": \"%s\", \"level\": %d, \"size\": %ld, \"hits\": %u}",
                         d->n_forms == 0 ? "\"forms\": [" : ", ", coding, form.level, size,
                         store_hits(o));
    else
        sl_control_print(d->call, "form      %s, level %d, size %ld, hits %u\n", coding, form.level,
                         size, store_hits(o));
    d->n_forms++;
}

static void
forms_ended(struct getting *d)
{
    if (d->n_forms > 0 && sl_control_wants_json(d->call))
        sl_control_print(d->call, "], ");
    store_drop(&d->base);
    get_ended(d, 1);
}

/* The next of its forms, one a known coding, until the store has to be waited for. */
static void
forms_print(struct sl_loop *loop, struct store_get *get, struct store_object *o)
{
    struct getting *d = (struct getting *)(void *)get;
    enum store_answer answer = STORE_MISS;
    const char *coding;

    while (answer != STORE_WAIT) {
        if (o != NULL) {
            form_print(d, o);
            store_drop(&o);
        }
        if ((coding = sl_provider_name("encoder", d->i++)) == NULL) {
            forms_ended(d);
            return;
        }
        d->get = (struct store_get){
            .key = form_key(sl_control_pool(d->call), d->base->key, coding), .done = forms_print};
        answer = getting_look(d, loop, &o);
    }
}

static void
object_print(struct getting *d, struct sl_loop *loop, struct store_object *o)
{
    get_print(d->call, o);
    d->base = o;
    forms_print(loop, &d->get, NULL);
}

static void
variant_found(struct sl_loop *loop, struct store_get *get, struct store_object *o)
{
    struct getting *d = (struct getting *)(void *)get;
    struct meta m;

    if (o != NULL && meta_read(o->meta, &m) == 0 && m.era == d->era) {
        object_print(d, loop, o);
        return;
    }
    if (o != NULL)
        store_drop(&o);
    if (!sl_control_wants_json(d->call))
        sl_control_print(d->call, "none is stored for these fields\n");
    get_ended(d, 0);
}

/* What a variant's key has behind that of all, "\nFIELD:VALUE" for each field, with one more line feed
 * where the field is not there, in one line. */
static struct sl_span
fields_of_variant(apr_pool_t *pool, struct sl_span rest)
{
    char *text = apr_pstrmemdup(pool, rest.at, rest.n), *state, *field;
    const char *line = "";

    for (field = apr_strtok(text, "\n", &state); field != NULL;
         field = apr_strtok(NULL, "\n", &state))
        line = apr_pstrcat(pool, line, *line != '\0' ? ", " : "", field, NULL);
    return sl_span(line);
}

/* On an offload thread.  Forms and slices of a variant have a slash behind a line feed. */
static int
is_variant(const void *data, const struct store_object *o)
{
    const struct getting *d = data;
    struct sl_span key = o->key;
    size_t n = d->prefix.n;
    struct meta m;

    return key.n > n && memcmp(key.at, d->prefix.at, n) == 0 &&
           memmem(key.at + n - 1, key.n - n + 1, "\n/", 2) == NULL && meta_read(o->meta, &m) == 0 &&
           m.era == d->era;
}

static void
variant_print(struct getting *d, const struct store_object *o, int is_first)
{
    size_t n = d->prefix.n - 1;
    struct sl_span rest = {o->key.at + n, o->key.n - n}, fields, shown;
    struct sl_control_call *call = d->call;
    int is_complete;
    struct meta m;
    long size, age;

    if (meta_read(o->meta, &m) != 0)
        return;
    fields = fields_of_variant(sl_control_pool(call), rest);
    shown = command_text(call, fields);
    size = m.whole > 0 ? (long)m.whole : (long)store_size(o, &is_complete);
    age = (long)(apr_time_sec(apr_time_now()) - m.storing.born);
    if (sl_control_wants_json(call))
        sl_control_print(call, "%s{\"fields\": %s, \"age\": %ld, \"size\": %ld, \"hits\": %u}",
                         is_first ? "" : ", ", command_json(call, fields), age, size, store_hits(o));
    else
        sl_control_print(call, "variant   %.*s: age %ld s, size %ld, hits %u\n", (int)shown.n,
                         shown.at, age, size, store_hits(o));
}

/* Those in memory; then that of a request with the fields, wherever it is. */
static void
variants_print(struct sl_loop *loop, struct store_top *top)
{
    struct getting *d =
        (struct getting *)(void *)((char *)top - offsetof(struct getting, variants));
    struct store_object *o = NULL;
    unsigned i;

    if (sl_control_wants_json(d->call))
        sl_control_print(d->call, "\"in_memory\": [");
    for (i = 0; i < top->n; i++)
        variant_print(d, top->objects[i], i == 0);
    if (sl_control_wants_json(d->call))
        sl_control_print(d->call, "], ");
    if (getting_look(d, loop, &o) != STORE_WAIT)
        variant_found(loop, &d->get, o);
}

static void
variants_get(struct getting *d, struct sl_loop *loop, struct store_object *marked,
             const struct marker *marker)
{
    apr_pool_t *pool = sl_control_pool(d->call);

    say_text(d->call, "variants",
             sl_spans_join(pool, (struct sl_span[]){SL_SPAN("by "), marker->vary}, 2));
    d->era = marker->era;
    d->get = (struct store_get){.key = variant_key_of(pool, d->fields, marked->key, marker->vary),
                                .done = variant_found};
    d->prefix = sl_spans_join(pool, (struct sl_span[]){marked->key, SL_SPAN("\n")}, 2);
    d->variants = (struct store_top){.wants = is_variant, .data = d, .done = variants_print};
    store_drop(&marked);
    if (store_top(cache_store, loop, &d->variants) != 0)
        command_failed(d->call);
}

static void
get_found(struct sl_loop *loop, struct store_get *get, struct store_object *o)
{
    struct getting *d = (struct getting *)(void *)get;
    struct marker marker;

    if (sl_control_wants_json(d->call))
        sl_control_print(d->call, "{");
    if (o == NULL) {
        get_print_none(d->call, get->key);
        get_ended(d, 0);
        return;
    }
    say_text(d->call, "key", o->key);
    if ((o->flags & VARY_MARKER) && marker_read(o->meta, &marker) == 0)
        variants_get(d, loop, o, &marker);
    else
        object_print(d, loop, o);
}

/* -H 'FIELD: VALUE' for each: 0, or -1. */
static int
fields_of_words(struct sl_fields *fields, int argc, const char *const *argv)
{
    struct sl_span name, value;
    const char *colon;

    for (; argc > 0; argc -= 2, argv += 2) {
        if (argc < 2 || strcmp(argv[0], "-H") != 0 || (colon = strchr(argv[1], ':')) == NULL)
            return -1;
        name = (struct sl_span){argv[1], (size_t)(colon - argv[1])};
        value = sl_span(colon + 1 + strspn(colon + 1, " "));
        if (sl_fields_receive(fields, name, value) != 0)
            return -1;
    }
    return 0;
}

void
cache_get_run(struct sl_control_call *call, const char *url, int argc, const char *const *argv)
{
    struct getting *d = apr_pcalloc(sl_control_pool(call), sizeof *d);
    struct store_object *o = NULL;
    const char *err = cache_url_error(sl_control_pool(call), url);

    d->fields = sl_fields_make(sl_control_pool(call));
    if (err == NULL && fields_of_words(d->fields, argc, argv) != 0)
        err = "expected get URL [-H 'FIELD: VALUE']...\n";
    if (err != NULL) {
        sl_control_print(call, "%s", err);
        sl_control_end(&call, 2);
        return;
    }
    d->call = call;
    d->get.key = cache_key_of_url(sl_control_pool(call), sl_span(url));
    d->get.done = get_found;
    if (getting_look(d, sl_loop_self(), &o) != STORE_WAIT)
        get_found(sl_loop_self(), &d->get, o);
}
