/* Paths in a radix tree: each node holds bytes that all below it share, so a look-up reads
 * the path once, whatever the number of locations.
 *
 *   /api  /api/v1  /app        "/ap" --+-- "i" [/api] ----- "/v1" [/api/v1]
 *                                      +-- "p" [/app]
 *
 * A prefix counts only where a segment ends: behind its own last slash, before a slash of
 * the path, or at the path's end. */
#include "route.h"

struct route_tree_node {
    struct sl_span label;
    void *exact, *prefix;
    unsigned n, room;                   /* children */
    char *firsts;                       /* the first byte of each child's label */
    struct route_tree_node **children;
};

static struct route_tree_node *
node_make(apr_pool_t *pool, struct sl_span label)
{
    struct route_tree_node *node = apr_pcalloc(pool, sizeof *node);

    node->label = label;
    return node;
}

static void
node_add(apr_pool_t *pool, struct route_tree_node *node, struct route_tree_node *child)
{
    if (node->n == node->room) {
        unsigned room = node->room == 0 ? 2 : node->room * 2;
        char *firsts = apr_palloc(pool, room);
        struct route_tree_node **children = apr_palloc(pool, room * sizeof(*children));

        if (node->n > 0) {
            memcpy(firsts, node->firsts, node->n);
            memcpy(children, node->children, node->n * sizeof(*children));
        }
        node->firsts = firsts;
        node->children = children;
        node->room = room;
    }
    node->firsts[node->n] = child->label.at[0];
    node->children[node->n++] = child;
}

static struct route_tree_node **
node_child(const struct route_tree_node *node, char first)
{
    const char *at = node->n > 0 ? memchr(node->firsts, first, node->n) : NULL;

    return at != NULL ? &node->children[at - node->firsts] : NULL;
}

static size_t
common_length(struct sl_span a, struct sl_span b)
{
    size_t i = 0;

    while (i < a.n && i < b.n && a.at[i] == b.at[i])
        i++;
    return i;
}

/* Cuts the node at *link behind `n` bytes of its label: a new node for those takes its
 * place, with the old one below. */
static void
node_split(apr_pool_t *pool, struct route_tree_node **link, size_t n)
{
    struct route_tree_node *lower = *link;
    struct route_tree_node *upper = node_make(pool, (struct sl_span){lower->label.at, n});

    lower->label = route_span_from(lower->label, n);
    node_add(pool, upper, lower);
    *link = upper;
}

/* The node that ends where `path` does, made if need be. */
static struct route_tree_node *
tree_node(apr_pool_t *pool, struct route_tree *tree, struct sl_span path)
{
    struct route_tree_node **link = &tree->root;

    if (tree->root == NULL)
        tree->root = node_make(pool, path);
    for (;;) {
        struct route_tree_node *node = *link, *child;
        size_t n = common_length(node->label, path);

        if (n < node->label.n) {
            node_split(pool, link, n);
            node = *link;
        }
        path = route_span_from(path, n);
        if (path.n == 0)
            return node;
        link = node_child(node, path.at[0]);
        if (link == NULL) {
            child = node_make(pool, path);
            node_add(pool, node, child);
            return child;
        }
    }
}

void *
route_tree_put(apr_pool_t *pool, struct route_tree *tree, struct sl_span path,
               enum route_tree_kind kind, void *value)
{
    struct sl_span own = {sl_span_dup(pool, path), path.n};
    struct route_tree_node *node = tree_node(pool, tree, own);
    void **place = kind == ROUTE_TREE_EXACT ? &node->exact : &node->prefix;

    if (*place != NULL)
        return *place;
    *place = value;
    return NULL;
}

/* Whether path[0..n), n > 0, ends where a segment does. */
static int
is_boundary(struct sl_span path, size_t n)
{
    return n == path.n || path.at[n] == '/' || path.at[n - 1] == '/';
}

struct route_tree_found
route_tree_look(const struct route_tree *tree, struct sl_span path, route_tree_saw_f *saw,
                void *ctx)
{
    struct route_tree_found found = {NULL, NULL};
    const struct route_tree_node *node = tree->root;
    size_t n = 0; /* bytes of the path that led here */

    while (node != NULL && route_begins(route_span_from(path, n), node->label)) {
        struct route_tree_node **link;

        n += node->label.n;
        if (node->prefix != NULL) {
            int is_segment = is_boundary(path, n);

            if (is_segment)
                found.prefix = node->prefix;
            if (saw != NULL)
                saw(ctx, node->prefix, is_segment);
        }
        if (n == path.n) {
            found.exact = node->exact;
            break;
        }
        link = node_child(node, path.at[n]);
        node = link != NULL ? *link : NULL;
    }
    return found;
}
