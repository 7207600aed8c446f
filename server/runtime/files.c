/* See files.h.  Written before the threads start, read by thread 0 afterwards. */
#include "runtime/files.h"

#include "channel.h"
#include "runtime/append.h"
#include "runtime/dry.h"

#include "sluice/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ERROR_LOG 0 /* the master writes there too, and knows it by this number */

static struct {
    const char *path;
    int fd;
} files[FILES_MAX];
static unsigned n_files = ERROR_LOG + 1;

void
files_keep_error_log(const char *path, int fd)
{
    files[ERROR_LOG].path = path;
    files[ERROR_LOG].fd = fd;
}

int
sl_log_file(const char *path)
{
    int fd;

    if (dry_run_refuses("sl_log_file()")) {
        errno = EPERM;
        return -1;
    }
    if (n_files == FILES_MAX || strlen(path) >= CHANNEL_TEXT) {
        errno = n_files == FILES_MAX ? EMFILE : ENAMETOOLONG;
        return -1;
    }
    fd = append_open(path);
    if (fd < 0)
        return -1;
    files[n_files].path = path;
    files[n_files++].fd = fd;
    return fd;
}

int
files_announce(int channel)
{
    struct message m;
    unsigned i;

    for (i = 0; i < n_files; i++) {
        if (files[i].path == NULL)
            continue;
        message_make(&m, MSG_FILE, files[i].path);
        m.number = i;
        if (channel_send(channel, &m, -1) != 0)
            return -1;
    }
    return 0;
}

void
files_replace(unsigned number, int fd)
{
    if (number < n_files && fd >= 0 && files[number].path != NULL &&
        dup3(fd, files[number].fd, O_CLOEXEC) < 0)
        sl_log(SL_ERROR, "SL0321", "%s: the rotated file cannot be taken: %s", files[number].path,
               strerror(errno));
    if (fd >= 0)
        close(fd);
}
