/* stdin, stdout and stderr of a daemon. */
#ifndef RUNTIME_STREAMS_H
#define RUNTIME_STREAMS_H

/* From now on they lead nowhere, `first` and those after it; their numbers stay taken. */
void streams_close(int first);

#endif
