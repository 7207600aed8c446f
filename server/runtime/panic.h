/* What cannot be gone on from. */
#ifndef RUNTIME_PANIC_H
#define RUNTIME_PANIC_H

/* For APR's pools: out of memory ends the process with a report. */
int pool_exhausted(int error);

#endif
