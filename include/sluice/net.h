/* Connections, buffers, and the seam below and above them: a transport moves bytes, a
 * protocol gives them meaning.  TLS is a transport, HTTP/2 is a protocol; both are modules
 * like any other. */
#ifndef SLUICE_NET_H
#define SLUICE_NET_H

#include "sluice/base.h"
#include "sluice/req.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

/* An address of the families we speak; smaller than sockaddr_storage. */
struct sl_sockaddr {
    socklen_t len;
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } u;
};

/* A reference-counted buffer of one thread. */
struct sl_buf;
void sl_buf_hold(struct sl_buf *buf);
void sl_buf_drop(struct sl_buf **buf);

/* Bytes on their way.  buf: who owns them; hold it to keep them past the call.  NULL: copy
 * what you keep. */
struct sl_data {
    const char *at;
    size_t n;
    struct sl_buf *buf;
};

/* What reading and writing say beside a count of bytes. */
enum { SL_IO_EOF = 0, SL_IO_AGAIN = -1, SL_IO_ERROR = -2 };

/* Moves bytes of one connection.  Provider group "transport"; a listener names it
 * (Listen 443 tls).  All functions run on the connection's thread and never block. */
struct sl_transport {
    const char *name;
    /* Before the first byte.  server: 1 for an accepted connection, 0 for one we opened.
     * Keeps its state by sl_conn_transport_data().  0 or -1. */
    int (*open)(struct sl_conn *c, int server);
    ssize_t (*read)(struct sl_conn *c, void *to, size_t n);
    ssize_t (*writev)(struct sl_conn *c, const struct iovec *iov, int n);
    /* Bytes read from the socket and not yet handed out: count as readiness. */
    int (*pending)(struct sl_conn *c);
    /* Whether the descriptor carries the plain bytes. */
    int (*can_splice)(struct sl_conn *c);
    /* No more will be written. */
    void (*shutdown)(struct sl_conn *c);
    /* The connection is about to be closed: free what open() made. */
    void (*close)(struct sl_conn *c);
    /* The application protocol agreed on (ALPN); NULL: none. */
    const char *(*alpn)(struct sl_conn *c);
};

int sl_conn_fd(const struct sl_conn *c);
struct sl_loop *sl_conn_loop(const struct sl_conn *c);
void **sl_conn_transport_data(struct sl_conn *c);
void **sl_conn_protocol_data(struct sl_conn *c);
/* A pool that ends with the connection; made when first asked for. */
apr_pool_t *sl_conn_pool(struct sl_conn *c);
/* The transport's functions, readiness kept: what a protocol reads and writes with. */
ssize_t sl_conn_read(struct sl_conn *c, void *to, size_t n);
ssize_t sl_conn_writev(struct sl_conn *c, const struct iovec *iov, int n);
/* For transports: the socket itself. */
ssize_t sl_conn_raw_read(struct sl_conn *c, void *to, size_t n);
ssize_t sl_conn_raw_writev(struct sl_conn *c, const struct iovec *iov, int n);
/* Calls the protocol's ready() with SL_TIMEOUT after ms; -1: never. */
void sl_conn_timeout(struct sl_conn *c, int64_t ms);
/* Ends it: frees the connection after this turn; the caller's pointer becomes NULL. */
void sl_conn_close(struct sl_conn **c);

enum { SL_READABLE = 1, SL_WRITABLE = 2, SL_TIMEOUT = 4, SL_HANGUP = 8 };

/* What flow-controlled calls say: taken, and there is room; taken, wait for the wake-up
 * call before sending more; the other side is gone. */
enum sl_flow { SL_FLOW_ROOM, SL_FLOW_FULL, SL_FLOW_GONE };

/* A protocol towards clients.  Provider group "protocol"; directive Protocols names those
 * a listener speaks, the first that sniff() recognises is used, else the last. */
struct sl_protocol {
    const char *name;
    /* By the first bytes: 1 mine, 0 not, -1 too few to tell.  NULL: never by sniffing; alone
     * on its listener such a protocol may speak before its client does. */
    int (*sniff)(const char *bytes, size_t n);
    void (*open)(struct sl_conn *c, struct sl_data first); /* `first`: bytes sniffed */
    void (*ready)(struct sl_conn *c, unsigned what);
    /* Finish what runs, take nothing new, close; said again until the connection is gone. */
    void (*drain)(struct sl_conn *c);
    void (*closed)(struct sl_conn *c); /* free what open() made */
    /* The answer to one request. */
    enum sl_flow (*head)(struct sl_req *r, int ends); /* status and fields of r; 1: no body */
    enum sl_flow (*interim)(struct sl_req *r, int status, struct sl_fields *fields);
    /* A head may be held back until body() or trailers(); data.n 0 and not ends: let go. */
    enum sl_flow (*body)(struct sl_req *r, struct sl_data data, int ends);
    enum sl_flow (*trailers)(struct sl_req *r, struct sl_fields *fields); /* ends the answer */
    void (*reset)(struct sl_req *r); /* cut the answer short so that the client can tell */
    void (*want)(struct sl_req *r);  /* the reader of the request body has room again */
    /* The last call for r: its source is done.  sl_req_finish() it now or when written. */
    void (*ended)(struct sl_req *r);
    /* Moves up to n body bytes out of a pipe to the client, unseen: how many, or SL_IO_*
     * (AGAIN: sl_req_writable() follows).  NULL: bodies must be handed over. */
    ssize_t (*splice)(struct sl_req *r, int pipe, size_t n);
    /* 1: no byte of the answer has left, and what was given of it is forgotten: another answer
     * takes its place.  NULL: never. */
    int (*take_back)(struct sl_req *r);
};

/* What a protocol tells the core.  A request is made for a connection, filled in through
 * its setters and sl_fields_add(sl_req_head(r)), then started; its hooks run from there. */
struct sl_req *sl_req_new(struct sl_conn *c, const struct sl_protocol *protocol);
void **sl_req_protocol_data(struct sl_req *r);
/* 0, or -1 when the target is malformed or wants TLS: sl_req_start() answers 400 or 421. */
int sl_req_set_line(struct sl_req *r, struct sl_span method, struct sl_span target, int version);
/* body: content length, 0 none, -1 unknown. */
void sl_req_start(struct sl_req *r, int64_t body);
enum sl_flow sl_req_body(struct sl_req *r, struct sl_data data, int ends);
void sl_req_trailers(struct sl_req *r, struct sl_fields *fields); /* ends the body */
void sl_req_writable(struct sl_req *r); /* room again after SL_FLOW_FULL */
void sl_req_gone(struct sl_req *r);     /* the client left; r may be freed by this call */
/* The protocol is done with a request whose answer is complete: r is freed. */
void sl_req_finish(struct sl_req **r);

/* A protocol towards servers.  Provider group "upstream_protocol", found by the scheme of
 * a target (h2c://).
 *
 * Any call of sl_attempt_*() may end the attempt and close its connection, which closed()
 * hears of.  A closed connection's memory stays to the end of the loop's turn, so a
 * protocol that clears sl_conn_protocol_data() in closed() can ask for it afterwards.  One
 * that sl_attempt_end() kept for reuse closes itself when anything but start() happens. */
struct sl_upstream_protocol {
    const char *name;
    void (*open)(struct sl_conn *c);
    void (*ready)(struct sl_conn *c, unsigned what);
    void (*closed)(struct sl_conn *c);
    /* One attempt on a connection.  start(): send the head sl_attempt_head() gives. */
    enum sl_flow (*start)(struct sl_attempt *a, struct sl_conn *c);
    enum sl_flow (*body)(struct sl_attempt *a, struct sl_data data, int ends);
    enum sl_flow (*trailers)(struct sl_attempt *a, struct sl_fields *fields);
    void (*want)(struct sl_attempt *a);   /* the reader of the response has room again */
    /* Nobody wants the response any more; a connection that carries one attempt at a time
     * is closed.  Also after sl_attempt_end() of one that is not reused, and after a start()
     * or body() that failed. */
    void (*cancel)(struct sl_attempt *a, struct sl_conn *c);
};

#endif
