/* Answers that a module gives piece by piece, as fast as the client takes them. */
#ifndef SLUICE_SOURCE_H
#define SLUICE_SOURCE_H

#include "sluice/base.h"
#include "sluice/net.h"

struct sl_source {
    /* There is room: bytes may be given until the flow is FULL.  What is not at hand yet is given
     * when it comes, on the request's loop. */
    void (*want)(struct sl_req *r, void *ctx);
    /* The last call, whatever became of the answer: ctx is the module's again.  r is not to be
     * asked for more. */
    void (*closed)(struct sl_req *r, void *ctx);
};

/* For handler hooks, and access hooks that decide: answers with the fields set before and a body
 * from the source, of `length` bytes, -1: unknown.  want() is called when the hook is over, unless
 * the answer has no body.  SL_DONE. */
enum sl_verdict sl_respond_from(struct sl_req *r, int status, int64_t length,
                                const struct sl_source *source, void *ctx);
/* ROOM: go on.  FULL: it was taken; want() follows.  GONE, and any flow after `ends`: closed()
 * has been called, and r may be freed. */
enum sl_flow sl_source_body(struct sl_req *r, struct sl_data data, int ends);
/* 1: nothing on the way to the client has to see the bytes of the body, so sl_source_file() may
 * give them; ask before each. */
int sl_source_takes_files(const struct sl_req *r);
/* As sl_source_body(), for n > 0 bytes of a file: what the client took of them (*offset and *n are
 * moved on) has left without passing through the process; FULL: want() follows, the rest is to be
 * given again; ROOM with bytes left: the file has no more, or cannot be read.  The pages are read
 * on the loop's thread, so they should be in memory. */
enum sl_flow sl_source_file(struct sl_req *r, int fd, int64_t *offset, size_t *n, int ends);
/* The rest cannot be given: the answer is cut short so that the client can tell.  closed() is
 * called, and r may be freed. */
void sl_source_fail(struct sl_req *r, const struct sl_cause *cause);

#endif
