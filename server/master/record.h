/* What one master leaves to the next, in a memfd: a line that names the format, then records.  A
 * record has a name and a version, and keys with values; descriptors are the numbers they have in
 * both, being one process.
 *
 * A key that is not known is skipped, one that is missing is empty or 0: adding one changes no
 * version.  A record of another name or of a later version than the reader knows is a refusal:
 * something would be lost. */
#ifndef MASTER_RECORD_H
#define MASTER_RECORD_H

#include <stdint.h>
#include <stdio.h>

#define RECORD_FORMAT "sluice-state 1"
#define RECORD_KEYS 64

/* ---- writing; errors are told by records_end() ---- */

struct records_out {
    FILE *f;
    int fd;
    int *fds; /* the descriptors in it */
    int n_fds;
    int is_broken;
};

/* 0, or -1 with errno. */
int records_begin(struct records_out *out);
void record_begin(struct records_out *out, const char *name, int version);
void record_text(struct records_out *out, const char *key, const char *value);
void record_number(struct records_out *out, const char *key, int64_t value);
void record_fd(struct records_out *out, const char *key, int fd);
void record_end(struct records_out *out);
/* All is written: the memfd's descriptor is out->fd.  0, or -1 with errno. */
int records_end(struct records_out *out);
/* Whether the descriptors, the memfd's own among them, survive the next exec. */
void records_pass(const struct records_out *out, int do_pass);
void records_free(struct records_out *out);

/* ---- reading ---- */

struct records_in {
    char *bytes;
    const char *at, *end;
    int is_test; /* the descriptors are not there */
};

/* Strings are those of records_in. */
struct record {
    const char *name;
    int version;
    int is_test;
    int n;
    struct { const char *key, *value; } at[RECORD_KEYS];
};

/* Does not close fd.  NULL, or what is wrong. */
const char *records_open(struct records_in *in, int fd, int is_test);
/* 1: one more; 0: that was all; -1: malformed. */
int records_next(struct records_in *in, struct record *r);
const char *record_get(const struct record *r, const char *key); /* "" */
int64_t record_get_number(const struct record *r, const char *key);
/* -1: there is none.  It does not survive another exec from now on. */
int record_get_fd(const struct record *r, const char *key);
void records_close(struct records_in *in);

#endif
