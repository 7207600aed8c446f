/* The supervisor: owns the listening sockets and the worker, serves nothing. */
#ifndef MASTER_H
#define MASTER_H

/* Starts the worker (this very program, with these arguments and --worker FD) and watches
 * over it until it is told to stop.  The exit status. */
int master_main(char **worker_argv, int n_argv);

#endif
