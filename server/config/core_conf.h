/* The core's own directives, bound like a module's. */
#ifndef CONFIG_CORE_CONF_H
#define CONFIG_CORE_CONF_H

#include "sluice/module.h"

enum { FORWARDED_ON, FORWARDED_OFF, FORWARDED_RFC7239 };
enum { SATISFY_ALL, SATISFY_ANY };

/* One Listen line. */
struct listen_conf {
    const char *text; /* as written, for messages */
    const char *place;
    int family; /* AF_INET, AF_INET6, AF_UNIX */
    struct sl_sockaddr addr;
    const char *path; /* AF_UNIX */
    int port;
    int backlog;
    const struct sl_transport *transport; /* NULL: plain */
    int wants_proxy_header;
};

/* An ErrorPage line. */
struct error_page {
    struct sl_statuses of;
    struct sl_span location; /* n 0: the page is body */
    const char *type;
    struct sl_span body;
};

/* ErrorLog. */
struct error_log_conf {
    const char *where; /* "stderr", "syslog" or a file */
    int format;        /* enum log_format */
    struct log_sink *sink; /* of hosts with a log of their own, once it is open; else NULL */
};

struct core_conf {
    apr_array_header_t *unused; /* of rows carried out while the text is read */
    /* G */
    const char *user, *group, *pid_file, *control_socket, *state_dir;
    int64_t threads; /* 0: auto */
    apr_array_header_t *listen; /* of struct listen_conf * */
    int64_t max_connections, stop_timeout, drain_idle, generations_max;
    /* G H */
    struct error_log_conf *error_log;    /* never NULL once merged */
    const struct log_levels *log_levels; /* never NULL once merged */
    int64_t header_ms, body_ms, send_ms, keepalive_ms; /* Timeout */
    int64_t min_rate;                                  /* bytes in 1000 s, 0: none */
    int64_t keepalive_requests;                        /* -1: unlimited */
    apr_array_header_t *protocols;                     /* of const char * */
    /* G H L */
    int64_t limit_line, limit_head, limit_fields, limit_body; /* -1: unlimited */
    struct sl_networks *trusted;
    int forwarded;
    int satisfy;
    int abort_on_close;
    const char *server_header; /* on, off or a text */
    apr_array_header_t *error_pages; /* of struct error_page * */
};

extern const struct sl_module core_module;

/* error_page_conf.c */
sl_parse_f error_page_parse;
/* log_conf.c */
sl_parse_f error_log_parse, log_level_parse;
/* The defaults that are no words. */
void core_conf_init(struct core_conf *core);

#endif
