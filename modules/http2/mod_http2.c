/* HTTP/2: the protocol of clients' and servers' connections.  This file has the rows; http2.h says
 * who does what. */

/*man
NAME
    mod_http2 - HTTP/2 towards clients and servers
DESCRIPTION
    "Protocols h2 http/1.1" speaks HTTP/2 with clients: over TLS with those that ask for it
    (ALPN), in clear with those that begin with it. To all other modules a stream is a request
    like any other. What clients say of priorities (RFC 9218) decides whose answer leaves
    first; WebSockets over HTTP/2 (RFC 8441) reach servers as those of HTTP/1.1.

    h2://HOST in ProxyPass or Server speaks it with servers over TLS, h2c:// in clear: gRPC
    needs one of these. Several requests share a connection. WebSockets of clients, over either
    version, go to servers that offer RFC 8441; the answer is 502 (cause no_tunnel) where they
    do not.

    Timeout, KeepaliveRequests, LimitHead, LimitFields and LimitBody hold as for HTTP/1.1. The
    directives below are of the host that is the listener's default, its first; those for
    servers of the place outside every section.

    A reload or stop tells clients by GOAWAY; what they have asked is answered.
DIRECTIVES
  HTTP2Streams
    How many requests a client may have under way on a connection.
  HTTP2StreamWindow
    How many bytes of one body a peer may send that nobody has taken yet, from 64k to 2047m.
  HTTP2ConnectionWindow
    How many of all bodies of a connection: it bounds the memory a connection may cost.
    Requests whose bodies nobody takes hold up the others when it is full.
  HTTP2FrameSize
    The largest frame a peer may send, from 16k to 16383k.
  HTTP2HeaderList
    What all fields of a head may take, each with 32 bytes beside its own; it is told to
    peers. Requests with more are answered with 431.
  HTTP2Resets
    How many streams a client may have undone in a row, by a reset or by what is malformed;
    a tenth of it is forgotten each second. One more ends the connection
    (ENHANCE_YOUR_CALM).
  HTTP2ControlFrames
    The same for frames that carry nothing: PING, SETTINGS, PRIORITY, empty DATA, and
    WINDOW_UPDATE beyond what the answers explain.
  HTTP2ServerStreams
    How many requests share a connection to a server; servers that allow fewer get fewer.
EXAMPLE
    LoadModule route
    LoadModule tls
    LoadModule http2
    Listen 443 tls
    Protocols h2 http/1.1
    TLSCertificate /etc/ssl/site.pem
    <Location "/shop.Orders/">
        ProxyPass h2c://127.0.0.1:50051
    </Location>
*/
#include "http2.h"

int count_connections, count_resets, count_abuse, count_errors, count_goaways;
const struct http2_conf *http2_global;

#define WINDOW_LEAST 65535
#define WINDOW_MOST 2147483647
#define FRAME_LEAST 16384
#define FRAME_MOST 16777215

static const char *
number_check(struct sl_cmd *cmd, void **slot)
{
    int64_t n = *(int64_t *)(void *)slot;

    (void)cmd;
    return n >= 1 && n <= 100000 ? NULL : "expected a number from 1 to 100000";
}

static const char *
frame_check(struct sl_cmd *cmd, void **slot)
{
    int64_t n = *(int64_t *)(void *)slot;

    (void)cmd;
    return n >= FRAME_LEAST && n <= FRAME_MOST ? NULL : "expected a size from 16k to 16383k";
}

static const char *
list_check(struct sl_cmd *cmd, void **slot)
{
    int64_t n = *(int64_t *)(void *)slot;

    (void)cmd;
    return n >= 1024 && n <= 1048576 ? NULL : "expected a size from 1k to 1m";
}

static const char *
window_check(struct sl_cmd *cmd, void **slot)
{
    int64_t n = *(int64_t *)(void *)slot;

    (void)cmd;
    return n >= WINDOW_LEAST && n <= WINDOW_MOST ? NULL : "expected a size from 64k to 2047m";
}

#define HOST (SL_IN_GLOBAL | SL_IN_HOST)

static const struct sl_directive directives[] = {
    {"HTTP2Streams", SL_SLOT_NUMBER, HOST, SL_AT(struct http2_conf, streams, int64_t), "128",
     "How many requests a client may have under way on a connection", "N", number_check, NULL, NULL},
    {"HTTP2StreamWindow", SL_SLOT_SIZE, HOST, SL_AT(struct http2_conf, stream_window, int64_t), "64k",
     "How much of one body a peer may send that nobody has taken yet", "SIZE", window_check, NULL, NULL},
    {"HTTP2ConnectionWindow", SL_SLOT_SIZE, HOST, SL_AT(struct http2_conf, connection_window, int64_t), "1m",
     "How much of all bodies of a connection", "SIZE", window_check, NULL, NULL},
    {"HTTP2FrameSize", SL_SLOT_SIZE, HOST, SL_AT(struct http2_conf, frame, int64_t), "16k",
     "The largest frame a peer may send", "SIZE", frame_check, NULL, NULL},
    {"HTTP2HeaderList", SL_SLOT_SIZE, HOST, SL_AT(struct http2_conf, header_list, int64_t), "64k",
     "What all fields of a head may take", "SIZE", list_check, NULL, NULL},
    SL_NUMBER("HTTP2Resets", struct http2_conf, resets, "200", HOST,
              "How many streams a client may have undone in a row"),
    SL_NUMBER("HTTP2ControlFrames", struct http2_conf, control_frames, "1000", HOST,
              "How many frames that carry nothing a client may send in a row"),
    {"HTTP2ServerStreams", SL_SLOT_NUMBER, SL_IN_GLOBAL, SL_AT(struct http2_conf, server_streams, int64_t), "100",
     "How many requests share a connection to a server", "N", number_check, NULL, NULL},
    SL_DIRECTIVES_END,
};

static int
http2_worker_init(struct sl_worker *w)
{
    http2_global = sl_scope_conf(sl_worker_global(w), &sl_module_record);
    return session_threads_make(w) != 0 ? -1 : http2_fields_threads_make(w);
}

static const struct sl_hook hooks[] = {
    SL_ON_WORKER_INIT(http2_worker_init),
    SL_HOOKS_END,
};

static int
http2_init(const struct sl_module *self)
{
    (void)self;
    count_connections = sl_counter("http2_connections", "Connections of clients that speak HTTP/2");
    count_resets = sl_counter("http2_resets", "Requests over HTTP/2 that were undone by a reset");
    count_abuse =
        sl_counter("http2_abuse", "Connections closed for floods of resets or control frames");
    count_errors = sl_counter("http2_errors", "Connections closed for an error of the client's");
    count_goaways = sl_counter("http2_server_goaways", "GOAWAY frames from servers");
    if (http2_server_init() != 0 || http2_client_init() != 0 ||
        sl_provider_register("protocol", "h2", &http2_server) != 0 ||
        sl_provider_register("upstream_protocol", "h2", &http2_client) != 0)
        return -1;
    return sl_provider_register("upstream_protocol", "h2c", &http2_client_clear);
}

SL_MODULE(http2) = {
    .name = "http2",
    .conf_size = sizeof(struct http2_conf),
    .directives = directives,
    .hooks = hooks,
    .init = http2_init,
};
