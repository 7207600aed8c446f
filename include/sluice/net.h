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
enum { SL_HANDSHAKE_EARLY = 2 };
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
    /* No more will be written: the peer is to know that this is the end. */
    void (*shutdown)(struct sl_conn *c);
    /* The connection is about to be closed: free what open() made.  Without shutdown()
     * before it the end may be a cut, and the peer must be able to tell. */
    void (*close)(struct sl_conn *c);
    /* The application protocol agreed on (ALPN); NULL: none. */
    const char *(*alpn)(struct sl_conn *c);
    /* What both sides have to agree on before the protocol begins: called until it is done,
     * whenever bytes have come or there is room.  1 done, 0 goes on, -1 failed (the transport
     * has said why).  SL_HANDSHAKE_EARLY: it goes on, but its client has sent what can be read, and
     * answers can be written; where nothing has to be read to know the protocol, that begins, and
     * this is called again before its ready().  NULL: nothing. */
    int (*handshake)(struct sl_conn *c);
    /* ServerTLS and its like: takes the options of the line for the servers of a pool.  NULL
     * or a phrase.  NULL: there are none. */
    const char *(*server_options)(struct sl_cmd *cmd, struct sl_pool *pool);
    int is_secure; /* requests over it have the scheme https */
};

int sl_conn_fd(const struct sl_conn *c);
struct sl_span sl_conn_peer_text(struct sl_conn *c); /* address without port */
/* Whether the log may have a line, at SL_INFO, about a failure of this client's: of those that anybody
 * can cause as often as he likes each client has one a minute.  The others are counted and told of
 * when it is over, with the last one's cause. */
int sl_conn_failure_has_line(struct sl_conn *c, const char *why);
/* Of a client's connection: the default host of its listener, else global; and the protocols
 * that listener speaks, the preferred one first, NULL past the last; of a connection to a server
 * the one its pool speaks. */
struct sl_scope *sl_conn_scope(const struct sl_conn *c);
const char *sl_conn_protocol_name(const struct sl_conn *c, unsigned i);
/* Of a connection to a server: that server. */
struct sl_server *sl_conn_server(const struct sl_conn *c);
struct sl_loop *sl_conn_loop(const struct sl_conn *c);
const struct sl_transport *sl_conn_transport(const struct sl_conn *c); /* NULL: plain */
void **sl_conn_transport_data(struct sl_conn *c);
void **sl_conn_protocol_data(struct sl_conn *c);
/* A pool that ends with the connection; made when first asked for. */
apr_pool_t *sl_conn_pool(struct sl_conn *c);
/* The transport's functions, readiness kept: what a protocol reads and writes with. */
ssize_t sl_conn_read(struct sl_conn *c, void *to, size_t n);
ssize_t sl_conn_writev(struct sl_conn *c, const struct iovec *iov, int n);
/* For transports: the socket itself.  AGAIN without a call to the kernel where nothing has come
 * since the last one. */
ssize_t sl_conn_raw_read(struct sl_conn *c, void *to, size_t n);
ssize_t sl_conn_raw_writev(struct sl_conn *c, const struct iovec *iov, int n);
/* For transports, while they write: these are the last bytes, and shutdown() follows.  What it has to
 * say may leave with them. */
int sl_conn_ends(const struct sl_conn *c);
/* Calls the protocol's ready() with SL_TIMEOUT after ms; -1: never. */
void sl_conn_timeout(struct sl_conn *c, int64_t ms);
/* Calls the protocol's ready() once more, in this turn of the loop or the next: what many calls
 * have left to write leaves in one. */
void sl_conn_again(struct sl_conn *c);
/* Ends it: frees the connection after this turn; the caller's pointer becomes NULL. */
void sl_conn_close(struct sl_conn **c);

enum { SL_READABLE = 1, SL_WRITABLE = 2, SL_TIMEOUT = 4, SL_HANGUP = 8 };

/* What flow-controlled calls say: taken, and there is room; taken, wait for the wake-up
 * call before sending more; the other side is gone. */
enum sl_flow { SL_FLOW_ROOM, SL_FLOW_FULL, SL_FLOW_GONE };

/* Which host serves a name (lower case): provider group "hosts", for transports that are told
 * a name before there is a request (SNI).  NULL: none does.  Any thread. */
struct sl_host_lookup {
    struct sl_scope *(*find)(struct sl_span name);
};

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
    /* The same, out of a file; SL_IO_EOF: it has no more, or its disk fails.  May take less and
     * be asked for the rest at once. */
    ssize_t (*file)(struct sl_req *r, int fd, int64_t offset, size_t n);
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
/* Before sl_req_start(): the client asks to go on with another protocol, by the means of its own
 * (RFC 8441).  As if it stood in Upgrade: where that is allowed the server is asked, and its 101
 * makes a tunnel of the request's body and the answer's. */
void sl_req_ask_upgrade(struct sl_req *r, struct sl_span to);
/* body: content length, 0 none, -1 unknown. */
void sl_req_start(struct sl_req *r, int64_t body);
/* Before sl_req_start(): the bytes of the head, for LimitHead. */
void sl_req_set_head_size(struct sl_req *r, unsigned n);
/* Instead of that: it is answered with what the cause says, its hooks do not run. */
void sl_req_start_refused(struct sl_req *r, const struct sl_cause *cause);
enum sl_flow sl_req_body(struct sl_req *r, struct sl_data data, int ends);
void sl_req_trailers(struct sl_req *r, struct sl_fields *fields); /* ends the body */
/* The body will not come to its end: what runs is cancelled, and the cause is the answer where
 * none has begun. */
void sl_req_abort(struct sl_req *r, const struct sl_cause *cause);
void sl_req_writable(struct sl_req *r); /* room again after SL_FLOW_FULL */
void sl_req_gone(struct sl_req *r);     /* the client left; r may be freed by this call */
/* The protocol is done with a request whose answer is complete: r is freed. */
void sl_req_finish(struct sl_req **r);
/* Of the answer's body, -1: unknown; and what its Server field says where no module or server has
 * set one, at NULL: there is to be none. */
int64_t sl_req_length(const struct sl_req *r);
struct sl_span sl_req_server_name(const struct sl_req *r);

/* What Timeout, KeepaliveRequests and the limits of a scope say; ms and counts -1: none. */
struct sl_client_terms {
    int64_t header_ms, body_ms, send_ms, keepalive_ms;
    int64_t min_rate;           /* of request bodies, bytes in 1000 s; 0: none */
    int64_t keepalive_requests;
    int64_t limit_head, limit_fields;
};
void sl_scope_terms(const struct sl_scope *scope, struct sl_client_terms *to);
/* limit_head and limit_fields as the loosest of any scope have them: what may be taken in before
 * the request's own are known. */
void sl_conn_limits(const struct sl_conn *c, struct sl_client_terms *to);

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
    /* Whether the connection has room for another attempt beside those it has.  NULL: it carries
     * one at a time.  Where it is set, the timer and the end of the connection are as follows:
     * attempts have times of their own, and the core sets the connection's while no attempt is on
     * it; ready() with SL_TIMEOUT then ends it.  cancel() and sl_attempt_end() end the attempt and
     * never the connection, and nothing that may close it is called while start(), body() or
     * cancel() is on the stack. */
    int (*room)(struct sl_conn *c);
    /* In a dry run, instead of start(): the head that would be sent, as lines that end with CRLF, the
     * first one a request line; empty: it does not fit.  NULL: it is that of HTTP/1. */
    struct sl_span (*explain)(struct sl_attempt *a, apr_pool_t *pool);
};

#endif
