/* mod_access: networks as text, files of them, and the tree against a naive search. */
#include "unit.h"

#include "../../modules/access/tree.c"
#include "../../modules/access/text.c"

#include <stdio.h>

#define N_NETS 3000

static struct access_address
address(const char *text)
{
    struct access_network net;

    assert_true(access_network_parse(sl_span(text), &net));
    return net.at;
}

static void
networks_as_text(void **state)
{
    static const struct {
        const char *text;
        int bits; /* -1: no network */
        const char *first;
    } table[] = {
        {"10.0.0.0/8", 8, "10.0.0.0"},
        {"10.1.2.3/8", 8, "10.0.0.0"},
        {"10.1.2.3", 32, "10.1.2.3"},
        {"10.1.2.3/32", 32, "10.1.2.3"},
        {"255.255.255.255/0", 0, "0.0.0.0"},
        {"2001:db8::/32", 32, "2001:db8::"},
        {"2001:db8:ffff::1/33", 33, "2001:db8:8000::"},
        {"2001:db8::1", 128, "2001:db8::1"},
        {"2001:db8::ffff/127", 127, "2001:db8::fffe"},
        {"2001:db8:1:2:ff::/65", 65, "2001:db8:1:2::"},
        {"::/0", 0, "::"},
        {"::ffff:10.0.0.1", 32, "10.0.0.1"},
        {"::ffff:10.9.9.9/104", 8, "10.0.0.0"},
        {"::ffff:0:0/96", 0, "0.0.0.0"},
        {"", -1, NULL},
        {"/8", -1, NULL},
        {"10.0.0.0/", -1, NULL},
        {"10.0.0.0/33", -1, NULL},
        {"10.0.0.0/-1", -1, NULL},
        {"10.0.0.0/+8", -1, NULL},
        {"10.0.0.0/8 ", -1, NULL},
        {"10.0.0.0/0008", -1, NULL},
        {"10.0.0.0/8/8", -1, NULL},
        {"10.0.0/8", -1, NULL},
        {"010.0.0.1", -1, NULL},
        {"10.0.0.0.0", -1, NULL},
        {"2001:db8::/129", -1, NULL},
        {"2001:db8::/4294967296", -1, NULL},
        {"[::1]", -1, NULL},
        {"fe80::1%eth0", -1, NULL},
        {"localhost", -1, NULL},
        {"all", -1, NULL},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc", -1, NULL},
    };
    struct access_network net;
    unsigned i;

    (void)state;
    for (i = 0; i < sizeof table / sizeof table[0]; i++) {
        int is_one = access_network_parse(sl_span(table[i].text), &net);

        if (is_one != (table[i].bits >= 0) || (is_one && (int)net.bits != table[i].bits))
            fail_msg("%s: %d, %u", table[i].text, is_one, net.bits);
        if (is_one) {
            struct access_address first = address(table[i].first);

            assert_true(net.at.high == first.high && net.at.low == first.low &&
                        net.at.is_v6 == first.is_v6);
        }
    }
    assert_false(access_network_parse((struct sl_span){"10.0.0.1\0/8", 11}, &net));
    assert_true(access_network_parse((struct sl_span){"10.0.0.1/8garbage", 10}, &net));
}

static void
sockets_addresses(void **state)
{
    struct sl_sockaddr s = {0};
    struct access_address a, ten = address("10.0.0.1"), six = address("2001:db8::1");

    (void)state;
    assert_false(access_address_of(&s, &a));
    s.len = sizeof s.u.in;
    s.u.in.sin_family = AF_INET;
    inet_pton(AF_INET, "10.0.0.1", &s.u.in.sin_addr);
    assert_true(access_address_of(&s, &a) && a.high == ten.high && !a.is_v6);
    s.len = sizeof s.u.in6;
    s.u.in6.sin6_family = AF_INET6;
    inet_pton(AF_INET6, "::ffff:10.0.0.1", &s.u.in6.sin6_addr);
    assert_true(access_address_of(&s, &a) && a.high == ten.high && a.low == 0 && !a.is_v6);
    inet_pton(AF_INET6, "2001:db8::1", &s.u.in6.sin6_addr);
    assert_true(access_address_of(&s, &a) && a.high == six.high && a.low == six.low && a.is_v6);
    s.u.sa.sa_family = AF_UNIX;
    assert_false(access_address_of(&s, &a));
}

static void
the_tree_by_hand(void **state)
{
    static const struct {
        const char *text, *in, *out; /* words with blanks between */
    } table[] = {
        {"", "", "0.0.0.0 10.0.0.1 :: 2001:db8::1"},
        {"0.0.0.0/0", "0.0.0.0 10.0.0.1 255.255.255.255 ::ffff:1.2.3.4", ":: ::1 2001:db8::1"},
        {"::/0", ":: 2001:db8::1 ffff:ffff::", "0.0.0.0 10.0.0.1 ::ffff:1.2.3.4"},
        {"10.0.0.1", "10.0.0.1", "10.0.0.0 10.0.0.2 11.0.0.1 ::a00:1"},
        {"10.0.0.0/8", "10.0.0.0 10.255.255.255", "9.255.255.255 11.0.0.0 0a00::"},
        {"10.0.0.0/7", "10.0.0.0 11.255.255.255", "9.255.255.255 12.0.0.0"},
        {"10.0.0.0/8\n10.1.0.0/16\n10.0.0.0/8", "10.0.0.0 10.1.0.0 10.255.0.1", "11.1.0.0"},
        {"10.0.0.0/31\n10.0.0.2/31\n10.0.0.4", "10.0.0.0 10.0.0.3 10.0.0.4", "10.0.0.5 9.255.255.255"},
        {"2001:db8::/32\n2001:db9::/48", "2001:db8:ffff::1 2001:db9::1", "2001:db9:1:: 2001:dba::"},
        {"2001:db8::1\n2001:db8::2", "2001:db8::1 2001:db8::2", "2001:db8:: 2001:db8::3 2001:db8:1::1"},
        {"2001:db8::/64\n2001:db8:0:1::/65", "2001:db8::f 2001:db8:0:1::f", "2001:db8:0:1:8000::"},
        {"::1", "::1", ":: ::2 0.0.0.1"},
    };
    struct access_address a;
    unsigned i, line;
    size_t n;

    (void)state;
    for (i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct sl_span word;
        struct access_tree *tree = access_text_parse(sl_span(table[i].text), &n, &line, &word);
        int is_in;

        assert_non_null(tree);
        for (is_in = 0; is_in < 2; is_in++) {
            char copy[256], *at = copy, *one;

            snprintf(copy, sizeof copy, "%s", is_in ? table[i].in : table[i].out);
            while ((one = strsep(&at, " ")) != NULL && *one != '\0') {
                a = address(one);
                if (access_tree_has(tree, &a) != is_in)
                    fail_msg("%s in {%s}: not %d", one, table[i].text, is_in);
            }
        }
        access_tree_free(&tree);
        assert_null(tree);
    }
}

/* Addresses that share long beginnings, so that networks meet. */
static struct access_address
random_address(int is_v6)
{
    static const uint64_t masks[] = {0, 0xff, 0xff00ff, 0xffffffff, UINT64_MAX};
    struct access_address a = {0x20010db800000000u, 0, is_v6};

    a.high ^= ((uint64_t)rand() << 32 ^ (uint64_t)rand()) & masks[rand() % 5];
    a.low ^= ((uint64_t)rand() << 33 ^ (uint64_t)rand() << 2) & masks[rand() % 5];
    if (rand() % 4 == 0)
        a.high ^= (uint64_t)rand() << 33;
    if (!is_v6) {
        a.high &= UINT64_MAX << 32;
        a.low = 0;
        a.high ^= (uint64_t)(rand() & 0xffff) << 32;
    }
    return a;
}

static int
naive_has(const struct access_network *nets, size_t n, const struct access_address *a)
{
    struct access_address cut;
    size_t i;

    for (i = 0; i < n; i++) {
        cut = *a;
        address_cut(&cut, nets[i].bits);
        if (cut.is_v6 == nets[i].at.is_v6 && cut.high == nets[i].at.high && cut.low == nets[i].at.low)
            return 1;
    }
    return 0;
}

static void
the_tree_against_a_naive_search(void **state)
{
    static struct access_network nets[N_NETS], sorted[N_NETS];
    unsigned round, n_in = 0, n_out = 0;
    size_t i, n;

    (void)state;
    srand(7);
    for (round = 0; round < 40; round++) {
        struct access_tree *tree;

        n = (size_t)(rand() % (round < 30 ? 40 : N_NETS));
        for (i = 0; i < n; i++) {
            nets[i].at = random_address(rand() % 2);
            nets[i].bits = (unsigned)(rand() % 4 ? (nets[i].at.is_v6 ? 100 : 24) + rand() % 9
                                                 : 8 + rand() % (nets[i].at.is_v6 ? 121 : 25));
            address_cut(&nets[i].at, nets[i].bits);
        }
        memcpy(sorted, nets, sizeof nets);
        tree = access_tree_make(sorted, n);
        assert_true(tree->n_nodes <= 2 * n + 2);
        for (i = 0; i < 2000; i++) {
            struct access_address a = random_address(rand() % 2);
            int has;

            if (n > 0 && i % 2 == 0) { /* at, or just beside, one that is there */
                a = nets[(size_t)rand() % n].at;
                a.low ^= a.is_v6 ? (uint64_t)rand() % 3 : 0;
                a.high ^= a.is_v6 ? 0 : (uint64_t)(rand() % 3) << 32;
            }
            has = naive_has(nets, n, &a);
            n_in += has != 0;
            n_out += has == 0;
            assert_int_equal(access_tree_has(tree, &a), has);
        }
        access_tree_free(&tree);
    }
    assert_true(n_in > 10000 && n_out > 10000);
}

static void
files_of_networks(void **state)
{
    static const struct {
        const char *text;
        size_t n;
        unsigned line; /* of the first bad one; 0: none */
        const char *word;
    } table[] = {
        {"", 0, 0, NULL},
        {"\n\n", 0, 0, NULL},
        {"# none\n; none", 0, 0, NULL},
        {"10.0.0.0/8", 1, 0, NULL},
        {"10.0.0.0/8\n\n 2001:db8::/32\t# ours\r\n", 2, 0, NULL},
        {"1.10.16.0/20 ; SBL256894\n1.19.0.0/16;\n", 2, 0, NULL},
        {"10.0.0.0/8\n10.0.0.0/8\n", 2, 0, NULL},
        {"10.0.0.0/8\nx y # z\n10.0.0.0/33\n", 0, 2, "x y"},
        {"\n\n10.0.0.0/8 10.0.0.0/9", 0, 3, "10.0.0.0/8 10.0.0.0/9"},
        {"10.0.0.0/8\n10.0.", 0, 2, "10.0."},
        {"all", 0, 1, "all"},
    };
    unsigned i, line;

    (void)state;
    for (i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct sl_span word = {"", 0};
        size_t n = 0;
        struct access_tree *tree = access_text_parse(sl_span(table[i].text), &n, &line, &word);

        assert_int_equal(tree != NULL, table[i].line == 0);
        assert_int_equal(line, table[i].line);
        if (tree == NULL)
            assert_true(sl_span_eq(word, sl_span(table[i].word)));
        else
            assert_int_equal(n, table[i].n);
        access_tree_free(&tree);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_as_text),
        cmocka_unit_test(sockets_addresses),
        cmocka_unit_test(the_tree_by_hand),
        cmocka_unit_test(the_tree_against_a_naive_search),
        cmocka_unit_test(files_of_networks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
