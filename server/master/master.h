/* The supervisor: owns the listening sockets, the control socket and the generations; loads
 * no module, serves nothing. */
#ifndef MASTER_H
#define MASTER_H

#define CONTROL_DEFAULT "/run/sluice.sock"
#define PID_FILE_DEFAULT "/run/sluice.pid"

/* Starts the worker (this very program, with these arguments and --worker FD) and watches
 * over it until it is told to stop.  file is the configuration its workers read, NULL: none
 * (--listen).  is_daemon: returns in the starting process as soon as
 * clients are served, or have failed to be; the master goes on by itself.  The exit status. */
int master_main(char **worker_argv, int n_argv, const char *file, int is_daemon);
/* Executed by a master in its own place: goes on where it was, with its state from fd, and reloads.
 * The exit status. */
int master_take_over(char **worker_argv, int n_argv, const char *file, int fd);
/* The test before that, in a process of its own: prints whether this program could.  The exit
 * status. */
int upgrade_test(int fd);

#endif
