/* A set of networks as a radix tree with 64 ways a node, where bits that decide nothing are
 * skipped: a node has 40 bytes, and 100,000 networks are some four nodes deep.
 *
 *     node, at = 8           the next 6 bits of the address choose one of 64 slots:
 *     has   0100...0001      every address of the slot is in the set
 *     kids  0000...0110      part of them are: the node kids[first + how many bits are before]
 *
 * A way down looks at no skipped bit: it ends at a slot of `has`, whose node's prefix then is
 * compared as a whole, or nowhere. */
#include "access.h"

#include <apr_lib.h>

#include <arpa/inet.h>
#include <stdlib.h>

#define WAY_BITS 6
#define LAST_AT (128 - WAY_BITS) /* where the last node's bits begin */

struct node {
    uint64_t high, low; /* what the addresses below have in common */
    uint64_t has, kids; /* no slot is in both */
    uint32_t first;     /* of its kids, which stand side by side */
    uint32_t at;        /* bits of the prefix: where its own begin */
};

/* nodes[0] is the root for IPv4, nodes[1] the one for IPv6. */
struct access_tree {
    uint32_t n_nodes;
    struct node nodes[];
};

/* ---- bits ---- */

/* Those behind the first `bits` cleared. */
static void
address_cut(struct access_address *a, unsigned bits)
{
    a->high &= bits >= 64 ? UINT64_MAX : ~(UINT64_MAX >> bits);
    a->low &= bits >= 128 ? UINT64_MAX : bits <= 64 ? 0 : ~(UINT64_MAX >> (bits - 64));
}

/* The slot of a node whose bits begin at `at`. */
static inline unsigned
slot_of(uint64_t high, uint64_t low, unsigned at)
{
    if (at >= 64)
        return (unsigned)(low << (at - 64) >> (64 - WAY_BITS));
    if (at <= 64 - WAY_BITS)
        return (unsigned)(high << at >> (64 - WAY_BITS));
    return (unsigned)((high << at | low >> (64 - at)) >> (64 - WAY_BITS));
}

/* How many bits they begin with alike. */
static unsigned
bits_alike(const struct access_address *a, const struct access_address *b)
{
    if (a->high != b->high)
        return (unsigned)__builtin_clzll(a->high ^ b->high);
    return a->low != b->low ? 64 + (unsigned)__builtin_clzll(a->low ^ b->low) : 128;
}

static inline int
node_is_above(const struct node *n, const struct access_address *a)
{
    if (n->at <= 64)
        return n->at == 0 || (n->high ^ a->high) >> (64 - n->at) == 0;
    return n->high == a->high && (n->low ^ a->low) >> (128 - n->at) == 0;
}

/* ---- asking ---- */

int
access_tree_has(const struct access_tree *tree, const struct access_address *a)
{
    const struct node *n = &tree->nodes[a->is_v6];

    for (;;) {
        uint64_t bit = (uint64_t)1 << slot_of(a->high, a->low, n->at);

        if (n->has & bit)
            return node_is_above(n, a);
        if ((n->kids & bit) == 0)
            return 0;
        n = &tree->nodes[n->first + (unsigned)__builtin_popcountll(n->kids & (bit - 1))];
    }
}

/* ---- making ---- */

/* By family and address; of equal ones the larger network first. */
static int
network_compare(const void *pa, const void *pb)
{
    const struct access_network *a = pa, *b = pb;

    if (a->at.is_v6 != b->at.is_v6)
        return a->at.is_v6 - b->at.is_v6;
    if (a->at.high != b->at.high)
        return a->at.high < b->at.high ? -1 : 1;
    if (a->at.low != b->at.low)
        return a->at.low < b->at.low ? -1 : 1;
    return a->bits < b->bits ? -1 : a->bits > b->bits;
}

static int
network_holds(const struct access_network *outer, const struct access_network *inner)
{
    return outer->at.is_v6 == inner->at.is_v6 && outer->bits <= inner->bits &&
           bits_alike(&outer->at, &inner->at) >= outer->bits;
}

/* Sorted, without those another one holds: how many are left.  No two of them overlap. */
static size_t
networks_tidy(struct access_network *nets, size_t n)
{
    size_t i, k = 0;

    if (n > 1)
        qsort(nets, n, sizeof nets[0], network_compare);
    for (i = 0; i < n; i++)
        if (k == 0 || !network_holds(&nets[k - 1], &nets[i]))
            nets[k++] = nets[i];
    return k;
}

/* How many of the sorted networks are in the slot of the first. */
static size_t
slot_run(const struct access_network *nets, size_t n, unsigned at)
{
    unsigned slot = slot_of(nets[0].at.high, nets[0].at.low, at);
    size_t k = 1;

    while (k < n && slot_of(nets[k].at.high, nets[k].at.low, at) == slot)
        k++;
    return k;
}

/* The slots a network takes that ends within the node's bits. */
static uint64_t
slots_of(const struct access_network *net, unsigned at)
{
    unsigned n = 1u << (at + WAY_BITS - net->bits);
    uint64_t ones = n == 64 ? UINT64_MAX : ((uint64_t)1 << n) - 1;

    return ones << slot_of(net->at.high, net->at.low, at);
}

/* As many bits as they all have in common are skipped. */
static void
node_place(struct node *node, const struct access_network *nets, size_t n)
{
    struct access_address prefix = nets[0].at;
    unsigned alike = n > 1 ? bits_alike(&nets[0].at, &nets[n - 1].at) : nets[0].bits;

    node->at = alike < LAST_AT ? alike : LAST_AT;
    address_cut(&prefix, node->at);
    node->high = prefix.high;
    node->low = prefix.low;
}

/* Fills the node with these networks, n > 0.  A level is 6 bits or more: it goes 22 deep. */
static void
node_fill(struct access_tree *tree, struct node *node, const struct access_network *nets, size_t n)
{
    unsigned n_kids = 0, at;
    size_t i, run;

    node_place(node, nets, n);
    at = node->at;
    for (i = 0; i < n; i += run) {
        run = slot_run(nets + i, n - i, at);
        if (nets[i].bits <= at + WAY_BITS) {
            node->has |= slots_of(&nets[i], at);
            continue;
        }
        node->kids |= (uint64_t)1 << slot_of(nets[i].at.high, nets[i].at.low, at);
        n_kids++;
    }
    node->first = tree->n_nodes;
    tree->n_nodes += n_kids;
    for (i = 0, n_kids = 0; i < n; i += run) {
        run = slot_run(nets + i, n - i, at);
        if (nets[i].bits > at + WAY_BITS)
            node_fill(tree, &tree->nodes[node->first + n_kids++], nets + i, run);
    }
}

/* A node parts its networks, or has but one: with the two roots there are less than 2 n + 2. */
struct access_tree *
access_tree_make(struct access_network *nets, size_t n_given)
{
    size_t n = networks_tidy(nets, n_given), n_v4 = 0;
    struct access_tree *tree = calloc(1, sizeof *tree + (2 * n + 2) * sizeof tree->nodes[0]);
    struct access_tree *fit;

    if (tree == NULL)
        return NULL;
    while (n_v4 < n && !nets[n_v4].at.is_v6)
        n_v4++;
    tree->n_nodes = 2;
    if (n_v4 > 0)
        node_fill(tree, &tree->nodes[0], nets, n_v4);
    if (n > n_v4)
        node_fill(tree, &tree->nodes[1], nets + n_v4, n - n_v4);
    fit = realloc(tree, sizeof *tree + tree->n_nodes * sizeof tree->nodes[0]);
    return fit != NULL ? fit : tree;
}

void
access_tree_free(struct access_tree **tree)
{
    free(*tree);
    *tree = NULL;
}

/* ---- addresses ---- */

static uint64_t
big_endian(const unsigned char *p)
{
    uint64_t x = 0;
    int i;

    for (i = 0; i < 8; i++)
        x = x << 8 | p[i];
    return x;
}

static void
address_v4(const unsigned char in4[4], struct access_address *to)
{
    uint64_t x = (uint64_t)in4[0] << 24 | (uint64_t)in4[1] << 16 | (uint64_t)in4[2] << 8 | in4[3];

    *to = (struct access_address){x << 32, 0, 0};
}

static int
is_mapped(const unsigned char in6[16])
{
    static const unsigned char before[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

    return memcmp(in6, before, sizeof before) == 0;
}

static void
address_v6(const unsigned char in6[16], struct access_address *to)
{
    if (is_mapped(in6))
        address_v4(in6 + 12, to);
    else
        *to = (struct access_address){big_endian(in6), big_endian(in6 + 8), 1};
}

int
access_address_of(const struct sl_sockaddr *addr, struct access_address *to)
{
    if (addr->len == 0)
        return 0;
    if (addr->u.sa.sa_family == AF_INET)
        address_v4((const unsigned char *)&addr->u.in.sin_addr, to);
    else if (addr->u.sa.sa_family == AF_INET6)
        address_v6(addr->u.in6.sin6_addr.s6_addr, to);
    else
        return 0;
    return 1;
}

/* At most `max`; -1 when it is no number or more. */
static int
bits_parse(struct sl_span text, int max)
{
    int bits = 0;
    size_t i;

    if (text.n == 0 || text.n > 3)
        return -1;
    for (i = 0; i < text.n; i++) {
        if (!apr_isdigit(text.at[i]))
            return -1;
        bits = bits * 10 + text.at[i] - '0';
    }
    return bits <= max ? bits : -1;
}

int
access_network_parse(struct sl_span text, struct access_network *net)
{
    const char *slash = memchr(text.at, '/', text.n);
    size_t n = slash != NULL ? (size_t)(slash - text.at) : text.n;
    unsigned char in[16];
    char host[INET6_ADDRSTRLEN];
    int bits, width, is_v6;

    if (n >= sizeof host || memchr(text.at, '\0', n) != NULL)
        return 0;
    memcpy(host, text.at, n);
    host[n] = '\0';
    is_v6 = strchr(host, ':') != NULL;
    width = is_v6 ? 128 : 32;
    if (inet_pton(is_v6 ? AF_INET6 : AF_INET, host, in) != 1)
        return 0;
    bits = slash != NULL ? bits_parse((struct sl_span){slash + 1, text.n - n - 1}, width) : width;
    if (bits < 0)
        return 0;
    if (is_v6 && bits >= 96 && is_mapped(in)) {
        address_v4(in + 12, &net->at);
        bits -= 96;
    } else if (is_v6)
        net->at = (struct access_address){big_endian(in), big_endian(in + 8), 1};
    else
        address_v4(in, &net->at);
    net->bits = (unsigned)bits;
    address_cut(&net->at, net->bits);
    return 1;
}
