/* Connections over TLS 1.3 with one small request each, for test/bench/bench and
 * test/bench/handshakes: handshake PORT full|resumed|rsa|cached CLIENTS COUNT SECONDS, until one of
 * the two is reached (0: without this end).  rsa: full, of a host that has another name; cached:
 * resumed by TLS 1.2 without tickets.  Prints how many there were, and how many were not as they
 * should be. */
#include <openssl/ssl.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char request[] = "GET /1024 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
static const char *host = "localhost";
static SSL_SESSION *session;

static int
session_comes(SSL *ssl, SSL_SESSION *fresh)
{
    (void)ssl;
    SSL_SESSION_free(session);
    session = fresh;
    return 1;
}

static SSL_CTX *
context(int resumes, int is_cached)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    int version = is_cached ? TLS1_2_VERSION : TLS1_3_VERSION;

    SSL_CTX_set_min_proto_version(ctx, version);
    SSL_CTX_set_max_proto_version(ctx, version);
    if (is_cached)
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    if (resumes) {
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(ctx, session_comes);
    }
    return ctx;
}

/* 1: a whole answer came, by a handshake of the kind that was wanted. */
static int
visit(SSL_CTX *ctx, int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), wants_resumed = session != NULL, ok = 0, k;
    SSL *ssl = SSL_new(ctx);
    char bytes[16384];
    long n = 0;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    SSL_set_fd(ssl, fd);
    SSL_set_tlsext_host_name(ssl, host);
    if (wants_resumed)
        SSL_set_session(ssl, session);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 && SSL_connect(ssl) == 1 &&
        SSL_write(ssl, request, sizeof request - 1) > 0) {
        while ((k = SSL_read(ssl, bytes, sizeof bytes)) > 0)
            n += k;
        ok = n > 1024 && SSL_session_reused(ssl) == wants_resumed;
    }
    SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* the session stays good */
    SSL_free(ssl);
    close(fd);
    return ok;
}

static void
client(int port, const char *how, long count, long seconds, int to)
{
    int is_cached = strcmp(how, "cached") == 0, resumes = is_cached || strcmp(how, "resumed") == 0;
    SSL_CTX *ctx = context(resumes, is_cached);
    time_t end = time(NULL) + seconds;
    long said[2] = {0, 0};

    if (resumes)
        visit(ctx, port);
    while ((count == 0 || said[0] < count) && (seconds == 0 || time(NULL) < end)) {
        said[0]++;
        said[1] += !visit(ctx, port);
    }
    if (write(to, said, sizeof said) != sizeof said)
        exit(1);
}

int
main(int argc, char **argv)
{
    long clients = argc > 3 ? atol(argv[3]) : 0, n = 0, failed = 0, said[2], i;
    int ends[2];

    if (argc > 2 && strcmp(argv[2], "rsa") == 0)
        host = "rsa.test";
    if (argc != 6 || clients < 1 || pipe(ends) != 0) {
        fprintf(stderr, "handshake PORT full|resumed|rsa|cached CLIENTS COUNT SECONDS\n");
        return 2;
    }
    for (i = 0; i < clients; i++)
        if (fork() == 0) {
            client(atoi(argv[1]), argv[2], atol(argv[4]) / clients, atol(argv[5]), ends[1]);
            return 0;
        }
    close(ends[1]);
    while (read(ends[0], said, sizeof said) == sizeof said) {
        n += said[0];
        failed += said[1];
    }
    while (wait(NULL) > 0)
        ;
    printf("%ld requests in handshakes, %ld failed\n", n, failed);
    return 0;
}
