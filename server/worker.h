/* The serving process: one configuration, N loops, the listeners it got from the master. */
#ifndef WORKER_H
#define WORKER_H

#include "config/config.h"
#include "event/loop.h"
#include "http/head.h"

#include <stdatomic.h>

/* One Listen line as opened; the descriptor is the master's, shared by every generation. */
struct listener {
    const struct listen_conf *conf;
    int fd;
    struct sl_scope *scope; /* the default host's, else global */
    const struct sl_protocol **protocols; /* in the order of Protocols; at least one */
    unsigned n_protocols;
    struct head_limits limits; /* the loosest of all scopes: each request's own are looked at
                                * when it is routed */
};

/* A listener as one thread accepts from it. */
struct acceptor {
    struct io io;
    struct listener *listener;
    struct sl_timer timer; /* ends a pause */
    uint8_t batch;         /* accepts tried at a wake: as many as came of late */
    uint8_t n_full;        /* wakes in a row that took a whole batch */
    int is_paused;
    int is_stopped;
};

enum leaving {
    LEAVING_NOT,
    LEAVING_TO_OTHERS, /* another generation serves: finish at leisure */
    LEAVING_FOR_GOOD,  /* the server stops: idle connections close at once */
};

/* In its own pool.  Thread 0 is the main thread.  What is not atomic is set before the other
 * threads start and read by all of them, where nothing else is said. */
struct sl_worker {
    apr_pool_t *pool;
    struct config *config;
    unsigned n_threads;
    struct sl_loop **loops;
    struct listener *listeners;
    unsigned n_listeners;
    atomic_int leaving;  /* enum leaving; thread 0 sets it */
    int handover_fd;     /* thread 0's; the number never changes, what it leads to may */
    atomic_int handover; /* where idle connections go while leaving; -1: nowhere */
    atomic_llong drain_idle_until; /* loop time; what cannot go is closed then */
    atomic_int n_running; /* threads whose loops run */
    atomic_int n_accepting; /* threads that accept, or will when they run */
    atomic_int listeners_closed; /* by whoever noticed first */
    atomic_long n_conns; /* of all threads, for MaxConnections */
    long max_conns;      /* 0: no limit */
    struct serving_thread *threads; /* worker_threads.c: one for each loop */
    int channel;         /* to the master; -1: none */
    unsigned place;      /* in zones, as the master said */
    unsigned n_takes;    /* thread 0: generations that may hand over to this one */
    int is_standby;      /* thread 0: accepts nothing, may be called back */
    int is_accepted;     /* its configuration has served: its Tests are not asked again */
    int is_service;      /* a daemon, or run by systemd: has its pid file and control socket where
                          * nothing else is said, and more time to stop */
};

/* net/greeting.c.  Takes fd over; `peer` len 0 for a Unix socket. */
void conn_accepted(struct sl_loop *loop, struct listener *listener, int fd,
                   const struct sl_sockaddr *peer);
/* serving.c.  On the loop's thread, while the worker leaves, again and again: idle connections
 * are handed over or closed; busy ones follow when their answer is done. */
void conn_drain_all(struct sl_loop *loop);
/* On the loop's thread: closes every connection at once. */
void conn_close_all(struct sl_loop *loop);
/* Per-thread set-up of the serving layers, before the loop runs. */
void conn_thread_init(struct sl_loop *loop);
/* After the loop ran: closes what is left and frees what conn_thread_init() made. */
void conn_thread_exit(struct sl_loop *loop);
/* Once, before the configuration is read: the built-in protocol, the core's counters. */
void serving_register(void);

/* Reads, opening and creating nothing: for -t and the lists. */
struct sl_worker *worker_for_test(apr_pool_t *pool, const struct config_source *source);
/* What can be checked without opening or creating anything: 0, or -1 with errors. */
int worker_check(struct sl_worker *w);
/* Runs as worker: channel leads to the master; -1: no master (-XX), listeners are opened
 * here.  The exit status. */
int worker_main(const struct config_source *source, int channel, int is_daemon);

#endif
