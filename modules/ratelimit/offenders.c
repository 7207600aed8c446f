/* See offenders.h. */
#include "offenders.h"

static uint64_t
check_of(uint64_t hash, const uint64_t text[OFFENDER_WORDS])
{
    uint64_t sum = hash;
    int i;

    for (i = 0; i < OFFENDER_WORDS; i++)
        sum = (sum ^ text[i]) * UINT64_C(0x100000001b3);
    return sum;
}

/* Printable, as it goes to logs and terminals. */
static void
text_words(struct sl_span from, uint64_t text[OFFENDER_WORDS])
{
    char to[OFFENDER_TEXT] = "";
    size_t i;

    for (i = 0; i < from.n && i < sizeof to - 1; i++)
        to[i] = from.at[i] > ' ' && from.at[i] < 0x7f ? from.at[i] : '?';
    memcpy(text, to, sizeof to);
}

static uint64_t
row_text(struct offender *row, uint64_t text[OFFENDER_WORDS])
{
    int i;

    for (i = 0; i < OFFENDER_WORDS; i++)
        text[i] = atomic_load_explicit(&row->text[i], memory_order_relaxed);
    return atomic_load_explicit(&row->check, memory_order_relaxed);
}

static void
row_write(struct offender *row, uint64_t hash, const uint64_t text[OFFENDER_WORDS])
{
    int i;

    for (i = 0; i < OFFENDER_WORDS; i++)
        atomic_store_explicit(&row->text[i], text[i], memory_order_relaxed);
    atomic_store_explicit(&row->check, check_of(hash, text), memory_order_relaxed);
}

/* The row of the key, else the one of its set that was quiet for longest. */
static struct offender *
row_of(const struct offenders *o, uint64_t hash)
{
    struct offender *set = &o->rows[hash % (o->n / OFFENDER_SET) * OFFENDER_SET],
                    *oldest = set;
    int i;

    for (i = 0; i < OFFENDER_SET; i++) {
        if (atomic_load_explicit(&set[i].hash, memory_order_relaxed) == hash)
            return &set[i];
        if (atomic_load_explicit(&set[i].last_ms, memory_order_relaxed) <
            atomic_load_explicit(&oldest->last_ms, memory_order_relaxed))
            oldest = &set[i];
    }
    return oldest;
}

static void
row_take(struct offender *row, uint64_t hash)
{
    uint64_t before = atomic_load_explicit(&row->hash, memory_order_relaxed);

    if (before == hash ||
        !atomic_compare_exchange_strong_explicit(
            &row->hash, &before, hash, memory_order_relaxed, memory_order_relaxed))
        return;
    atomic_store_explicit(&row->n_over, 0, memory_order_relaxed);
    atomic_store_explicit(&row->logged_ms, 0, memory_order_relaxed);
}

static int
row_is_to_log(struct offender *row, int64_t now_ms, int64_t every_ms)
{
    int64_t logged = atomic_load_explicit(&row->logged_ms, memory_order_relaxed);

    return (logged == 0 || now_ms - logged >= every_ms) &&
           atomic_compare_exchange_strong_explicit(&row->logged_ms, &logged, now_ms,
                                                   memory_order_relaxed,
                                                   memory_order_relaxed);
}

int
offenders_note(const struct offenders *o, uint64_t hash, struct sl_span text,
               int64_t now_ms, int64_t every_ms, int64_t *n_over)
{
    uint64_t key = hash != 0 ? hash : 1, words[OFFENDER_WORDS], its[OFFENDER_WORDS];
    struct offender *row = row_of(o, key);

    row_take(row, key);
    text_words(text, words);
    if (row_text(row, its) != check_of(key, words) || memcmp(its, words, sizeof its) != 0)
        row_write(row, key, words);
    *n_over = atomic_fetch_add_explicit(&row->n_over, 1, memory_order_relaxed) + 1;
    atomic_store_explicit(&row->last_ms, now_ms, memory_order_relaxed);
    return row_is_to_log(row, now_ms, every_ms);
}

int
offenders_read(const struct offenders *o, uint32_t i, struct offender_copy *copy)
{
    struct offender *row = &o->rows[i];
    uint64_t text[OFFENDER_WORDS], check = row_text(row, text);

    copy->hash = atomic_load_explicit(&row->hash, memory_order_relaxed);
    copy->n_over = atomic_load_explicit(&row->n_over, memory_order_relaxed);
    copy->last_ms = atomic_load_explicit(&row->last_ms, memory_order_relaxed);
    memcpy(copy->text, text, sizeof copy->text);
    copy->text[sizeof copy->text - 1] = '\0';
    return copy->hash != 0 && check == check_of(copy->hash, text);
}

void
offenders_forget(const struct offenders *o, uint64_t hash)
{
    uint64_t key = hash != 0 ? hash : 1;
    uint32_t i;

    for (i = 0; i < o->n; i++)
        if (hash == 0 ||
            atomic_load_explicit(&o->rows[i].hash, memory_order_relaxed) == key) {
            atomic_store_explicit(&o->rows[i].hash, 0, memory_order_relaxed);
            atomic_store_explicit(&o->rows[i].last_ms, 0, memory_order_relaxed);
        }
}
