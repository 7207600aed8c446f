/* Messages for the operator, causes of failures, notes that explain a decision.
 *
 * Every message has a permanent number (SLnnnn for the core, PREFIXnnnn for a module's
 * own), kept when the wording changes and never used twice.  Any thread may log. */
#ifndef SLUICE_LOG_H
#define SLUICE_LOG_H

#include "sluice/base.h"

/* Why a request failed: one row gives the log, the client's answer and the counter
 * their words.  `status` is what the client gets unless sl_req_fail() names another. */
struct sl_cause {
    const char *id;   /* permanent number: SL and four digits */
    const char *name; /* one word for logs and conditions, "connect_refused" */
    int status;
    const char *text; /* a phrase, without full stop */
};

/* The core's causes.  Numbers are permanent; rows are added at the end of a group. */
#define SL_CAUSES(X)                                                                         \
    X(bad_request, "SL0400", 400, "the request does not parse")                              \
    X(bad_framing, "SL0401", 400, "where the request ends is ambiguous")                     \
    X(bad_host, "SL0402", 400, "Host is missing, doubled or malformed")                      \
    X(bad_path, "SL0403", 400, "the request target is malformed")                            \
    X(line_too_long, "SL0404", 414, "the request line is longer than LimitLine")             \
    X(head_too_large, "SL0405", 431, "the request head is larger than LimitHead")            \
    X(too_many_fields, "SL0406", 431, "the request has more fields than LimitFields")        \
    X(body_too_large, "SL0407", 413, "the request body is larger than LimitBody")            \
    X(head_timeout, "SL0408", 408, "the request head did not arrive in time")                \
    X(body_timeout, "SL0409", 408, "the request body did not arrive in time")                \
    X(bad_version, "SL0410", 505, "the HTTP version is not supported")                       \
    X(no_host, "SL0411", 421, "no VirtualHost serves this host")                             \
    X(no_handler, "SL0412", 404, "no module answers for this path")                          \
    X(expectation, "SL0413", 417, "the expectation cannot be met")                           \
    X(bad_chunk, "SL0414", 400, "the chunked request body does not parse")                   \
    X(client_gone, "SL0415", 499, "the client left before its answer was complete")          \
    X(send_timeout, "SL0416", 408, "the client stopped reading its answer")                  \
    X(coding_unknown, "SL0417", 501, "the transfer coding is not supported")                 \
    X(upgrade_refused, "SL0418", 426, "this upgrade is not allowed here")                    \
    X(connect, "SL0419", 501, "CONNECT is for forward proxies")                              \
    X(misdirected, "SL0420", 421, "an https URI was asked for without TLS")                  \
    X(internal, "SL0450", 500, "an internal limit or resource was exhausted")                \
    X(hook_failed, "SL0451", 500, "a module failed without saying why")                      \
    X(condition_limit, "SL0452", 500, "a pattern of a condition needs too many steps")       \
    X(pattern_limit, "SL0453", 500, "a pattern needs too many steps")                        \
    X(connect_failed, "SL0501", 502, "the server refused or reset the connection")           \
    X(connect_timeout, "SL0502", 504, "no connection within ProxyTimeout connect")           \
    X(send_failed, "SL0503", 502, "the server closed while the request was sent")            \
    X(upstream_send_timeout, "SL0504", 504, "the server stopped reading the request")        \
    X(no_response, "SL0505", 502, "the server closed before a response")                     \
    X(first_timeout, "SL0506", 504, "no response within ProxyTimeout first")                 \
    X(bad_response, "SL0507", 502, "the server's response does not parse")                   \
    X(response_too_large, "SL0508", 502, "the server's response head is too large")          \
    X(truncated, "SL0509", 502, "the server closed before the end of its response")          \
    X(idle_timeout, "SL0510", 504, "the server stopped sending")                             \
    X(total_timeout, "SL0511", 504, "the exchange took longer than ProxyTimeout total")      \
    X(no_server, "SL0512", 503, "no server of the pool can be used")                         \
    X(unresolved, "SL0513", 502, "the server's name has no address yet")                     \
    X(bad_response_chunk, "SL0514", 502, "the server's chunked body does not parse")         \
    X(unexpected_upgrade, "SL0515", 502, "the server switched protocols unasked")            \
    X(handshake_failed, "SL0516", 502, "the handshake with the server failed")               \
    X(unwanted_status, "SL0517", 502, "the server's status is one to try elsewhere")

#define SL_CAUSE_DECLARE(name, id, status, text) extern const struct sl_cause sl_cause_##name;
SL_CAUSES(SL_CAUSE_DECLARE)
#undef SL_CAUSE_DECLARE

/* Writes one line to the error log if LogLevel wants `level` of the module whose number `id` is:
 * SL of the core, else the module's name in capitals without underscores, and four digits. */
void sl_log(enum sl_level level, const char *id, const char *fmt, ...) SL_PRINTF(3, 4);

/* The same with the request's id, client and host in front. */
void sl_req_log(struct sl_req *r, enum sl_level level, const char *id, const char *fmt, ...)
    SL_PRINTF(4, 5);

/* Opens a file for appending that is rotated: after a rotation the same descriptor leads to
 * the new file, also in a process that has no rights to it any more.  While logs are opened
 * (SL_ON_OPEN_LOGS) only; path lives as long as the worker.  The descriptor, the caller's to
 * close at worker_exit, or -1 with errno. */
int sl_log_file(const char *path);

/* Whether a line of this level may be written: to spare the work of making one. */
int sl_log_wants(enum sl_level level);

/* Records why a decision fell, for explain and, when the request began at debug level, for the
 * error log.  Costs a test and a branch where nobody asked. */
#define sl_note(r, ...) ((void)(sl_req_is_noting(r) && (sl_req_note((r), __VA_ARGS__), 0)))
void sl_req_note(struct sl_req *r, const char *fmt, ...) SL_PRINTF(2, 3);

#endif
