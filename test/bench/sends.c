/* What the sender's thread takes for a MiB of a file that is in the page cache, over loopback: by
 * sendfile, from mapped pages, and read and written.
 *
 *     cc -O2 -std=gnu11 -D_GNU_SOURCE test/bench/sends.c -o sends && ./sends
 *
 * In turn, round by round; the reader is another process. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MIB (1024 * 1024)
#define SIZE (64 * MIB)
#define PIECE MIB            /* what one call is given */
#define BUFFER (256 * 1024)  /* what is read at a time */
#define ROUNDS 15
#define N_WAYS 3

static int file, to;
static char *mapped, buffer[BUFFER];

static void
must(int is_true, const char *what)
{
    if (is_true)
        return;
    perror(what);
    exit(1);
}

static void
write_all(const char *at, size_t n)
{
    while (n > 0) {
        ssize_t put = write(to, at, n);

        must(put > 0, "write");
        at += put;
        n -= (size_t)put;
    }
}

static void
by_sendfile(off_t from)
{
    off_t end = from + PIECE;

    while (from < end)
        must(sendfile(to, file, &from, (size_t)(end - from)) > 0, "sendfile");
}

static void
from_mapped(off_t from)
{
    write_all(mapped + from, PIECE);
}

static void
read_and_written(off_t from)
{
    off_t at;

    for (at = from; at < from + PIECE; at += BUFFER) {
        must(pread(file, buffer, BUFFER, at) == BUFFER, "pread");
        write_all(buffer, BUFFER);
    }
}

static const struct {
    const char *name;
    void (*send)(off_t from);
} ways[N_WAYS] = {{"sendfile", by_sendfile}, {"mapped", from_mapped}, {"read", read_and_written}};

static double
cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double
round_of(unsigned way)
{
    double began = cpu_us();
    off_t at;

    for (at = 0; at < SIZE; at += PIECE)
        ways[way].send(at);
    return (cpu_us() - began) / (SIZE / MIB);
}

static void
file_make(void)
{
    size_t at;

    file = open("/var/tmp", O_TMPFILE | O_RDWR, 0600);
    must(file >= 0, "/var/tmp");
    for (at = 0; at < SIZE; at += BUFFER)
        must(pwrite(file, buffer, BUFFER, (off_t)at) == BUFFER, "pwrite");
    mapped = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, file, 0);
    must(mapped != MAP_FAILED, "mmap");
}

/* The reader ends when the socket does. */
static void
reader_start(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0), from;

    must(bind(listener, (struct sockaddr *)&at, n) == 0 && listen(listener, 1) == 0, "listen");
    getsockname(listener, (struct sockaddr *)&at, &n);
    if (fork() == 0) {
        from = socket(AF_INET, SOCK_STREAM, 0);
        must(connect(from, (struct sockaddr *)&at, n) == 0, "connect");
        while (read(from, buffer, BUFFER) > 0)
            ;
        _exit(0);
    }
    to = accept(listener, NULL, NULL);
    must(to >= 0, "accept");
    close(listener);
}

static int
by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

int
main(void)
{
    double us[N_WAYS][ROUNDS], part[N_WAYS][ROUNDS];
    unsigned r, w;

    file_make();
    reader_start();
    for (w = 0; w < N_WAYS; w++)
        round_of(w);
    for (r = 0; r < ROUNDS; r++) {
        for (w = 0; w < N_WAYS; w++)
            us[w][r] = round_of(w);
        for (w = 0; w < N_WAYS; w++)
            part[w][r] = us[0][r] / us[w][r];
    }
    for (w = 0; w < N_WAYS; w++) {
        qsort(us[w], ROUNDS, sizeof us[w][0], by_value);
        qsort(part[w], ROUNDS, sizeof part[w][0], by_value);
        printf("%-9s %6.1f us a MiB; sendfile takes %.2f (%.2f to %.2f) of it\n", ways[w].name,
               us[w][ROUNDS / 2], part[w][ROUNDS / 2], part[w][0], part[w][ROUNDS - 1]);
    }
    return 0;
}
