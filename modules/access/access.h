/* mod_access: who may ask.  tree.c is a set of networks, text.c reads one from a file's text,
 * file.c keeps the files of AccessFile up to date, mod_access.c has the lines and decides. */
#ifndef ACCESS_H
#define ACCESS_H

#include "sluice/module.h"

#include <stdatomic.h>

/* ---- sets of networks (tree.c, text.c): pure ---- */

/* An address as 128 bits, the first one on top; IPv4 is the first 32 of them.  An IPv6-mapped
 * IPv4 address (RFC 4291, 2.5.5.2) is an IPv4 address. */
struct access_address {
    uint64_t high, low;
    int is_v6;
};

/* The first `bits` of the address; those behind are zero. */
struct access_network {
    struct access_address at;
    unsigned bits;
};

/* "10.0.0.0/8", "2001:db8::/32", an address alone: 1 when it is one.  What stands behind the
 * prefix is cleared. */
int access_network_parse(struct sl_span text, struct access_network *net);
/* 0: the address is of neither family, a Unix socket's. */
int access_address_of(const struct sl_sockaddr *addr, struct access_address *to);

/* Immutable: any thread may ask. */
struct access_tree;
/* Sorts `nets`.  The caller's, to free; NULL: no memory. */
struct access_tree *access_tree_make(struct access_network *nets, size_t n);
void access_tree_free(struct access_tree **tree);
int access_tree_has(const struct access_tree *tree, const struct access_address *addr);

/* A network a line; "#" and ";" begin comments.  The tree with *n networks; NULL: *line is the
 * number of the first line that is none, and *word what stands there (0: no memory). */
struct access_tree *access_text_parse(struct sl_span text, size_t *n, unsigned *line,
                                      struct sl_span *word);

/* ---- files (file.c) ---- */

#define ACCESS_FILE_MAX (64 << 20)

struct access_file;
/* The file a line names, one for all lines that name it.  NULL or a phrase. */
const char *access_file_get(struct sl_cmd *cmd, const char *name, struct access_file **file);
int access_file_has(const struct access_file *f, const struct access_address *addr);
/* Has all of the generation watched: 0. */
int access_files_watch(struct sl_worker *w);

/* The module's data, one a generation. */
struct access_data {
    struct access_file *files;
};

#endif
