/* What it costs to ask whether an address is in a set of networks (mod_access), for growing sets:
 * nanoseconds a question, the median of 9 rounds, and bytes of the set.  Addresses are drawn at
 * random, half of them from the set, so that each question finds other nodes than the last, and
 * which one comes next hangs on the answer, so that no two are worked on at once.
 *
 *     networks                                        times (docs/performance.md has how to build)
 *     valgrind --tool=callgrind networks 100000 0     instructions of access_tree_has() */
#include "../../modules/access/tree.c"

#include <stdio.h>
#include <time.h>

#define N_ASKED (1 << 18)
#define ROUNDS 9

enum kind { V4_NETWORKS, V4_ADDRESSES, V6_NETWORKS, V6_ADDRESSES, N_KINDS };
static const char *const kinds[] = {"IPv4 /16 to /24", "IPv4 addresses", "IPv6 /32 to /64", "IPv6 addresses"};

static uint64_t
draw(void)
{
    static uint64_t x = 88172645463325252u; /* xorshift64 */

    x ^= x << 13;
    x ^= x >> 7;
    return x ^= x << 17;
}

static struct access_network
network(enum kind kind)
{
    int is_v6 = kind >= V6_NETWORKS;
    struct access_network net = {{draw(), draw(), is_v6}, is_v6 ? 128 : 32};

    if (kind == V4_NETWORKS)
        net.bits = 16 + (unsigned)(draw() % 9);
    else if (kind == V6_NETWORKS)
        net.bits = 32 + (unsigned)(draw() % 33);
    if (is_v6) /* 2000::/3 */
        net.at.high = net.at.high >> 3 | (uint64_t)1 << 61;
    address_cut(&net.at, net.bits);
    return net;
}

static int
compare(const void *a, const void *b)
{
    double d = *(const double *)a - *(const double *)b;

    return d < 0 ? -1 : d > 0;
}

static double
round_ns(const struct access_tree *tree, const struct access_address *asked, unsigned *n_in)
{
    struct timespec from, to;
    unsigned last = 0;
    size_t i;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    for (i = 0; i < N_ASKED - 1; i++) {
        last = (unsigned)access_tree_has(tree, &asked[i + last]);
        *n_in += last;
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    return ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / N_ASKED;
}

static void
measure(enum kind kind, size_t n)
{
    struct access_network *nets = malloc(n * sizeof *nets);
    struct access_address *asked = malloc(N_ASKED * sizeof *asked);
    struct access_tree *tree;
    double ns[ROUNDS];
    unsigned n_in = 0;
    size_t i;

    for (i = 0; i < n; i++)
        nets[i] = network(kind);
    for (i = 0; i < N_ASKED; i++)
        asked[i] = i % 2 ? nets[draw() % n].at : network(kind).at;
    tree = access_tree_make(nets, n);
    for (i = 0; i < ROUNDS; i++)
        ns[i] = round_ns(tree, asked, &n_in);
    qsort(ns, ROUNDS, sizeof ns[0], compare);
    printf("%-16s %8lu networks %6.1f ns (%.1f to %.1f), %5.1f bytes a network, %.2f of them found\n",
           kinds[kind], (unsigned long)n, ns[ROUNDS / 2], ns[0], ns[ROUNDS - 1],
           (double)tree->n_nodes * sizeof(struct node) / (double)n, (double)n_in / ROUNDS / N_ASKED);
    access_tree_free(&tree);
    free(nets);
    free(asked);
}

int
main(int argc, char **argv)
{
    static const size_t sizes[] = {10, 1000, 100000, 1000000};
    unsigned kind, i;

    if (argc == 3) {
        measure((enum kind)atoi(argv[2]), (size_t)atol(argv[1]));
        return 0;
    }
    for (kind = 0; kind < N_KINDS; kind++)
        for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            measure((enum kind)kind, sizes[i]);
    return 0;
}
