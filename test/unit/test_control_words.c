/* The words of a command: whatever is written is read again. */
#include "unit.h"

#include "../../server/control_words.c"

static void
words_come_back(void **state)
{
    static const char *const words[] = {"top", "", "a b", "%", "%41", "100%", "\n", "\x7f", "\xc3\xa4", "--json"};
    char line[256];
    char *at = line, *word;
    size_t n = 0, i;

    (void)state;
    for (i = 0; i < sizeof words / sizeof words[0]; i++)
        assert_int_equal(control_word_add(line, sizeof line, &n, words[i]), 0);
    assert_int_equal(strlen(line), n);
    assert_null(strpbrk(line, "\n\x7f"));
    for (i = 0; i < sizeof words / sizeof words[0]; i++) {
        word = control_word_next(&at);
        assert_non_null(word);
        assert_string_equal(word, words[i]);
    }
    assert_null(control_word_next(&at));
}

static void
what_is_no_escape_is_text(void **state)
{
    char line[] = "  a%4 %zz%41%\nb ";
    char *at = line;

    (void)state;
    assert_string_equal(control_word_next(&at), "a%4");
    assert_string_equal(control_word_next(&at), "%zzA%");
    assert_string_equal(control_word_next(&at), "b");
    assert_null(control_word_next(&at));
}

static void
a_full_line_stays_as_it_was(void **state)
{
    char line[8] = "";
    size_t n = 0;

    (void)state;
    assert_int_equal(control_word_add(line, sizeof line, &n, "abc"), 0);
    assert_int_equal(control_word_add(line, sizeof line, &n, "defg"), -1);
    assert_int_equal(control_word_add(line, sizeof line, &n, "% "), -1);
    assert_int_equal(control_word_add(line, sizeof line, &n, "%d"), -1);
    assert_string_equal(line, "abc");
    assert_int_equal(control_word_add(line, sizeof line, &n, "def"), 0);
    assert_string_equal(line, "abc def");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_come_back),
        cmocka_unit_test(what_is_no_escape_is_text),
        cmocka_unit_test(a_full_line_stays_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
