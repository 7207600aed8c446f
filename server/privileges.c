/* See privileges.h. */
#include "privileges.h"

#include "sluice/log.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static const struct passwd *
user_default(void)
{
    const struct passwd *p = getpwnam("www-data");

    return p != NULL ? p : getpwnam("nobody");
}

int
privileges_drop(const char *user, const char *group)
{
    const struct passwd *p;
    const struct group *g = group != NULL ? getgrnam(group) : NULL;
    gid_t gid;

    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (geteuid() != 0)
        return 0;
    p = user != NULL ? getpwnam(user) : user_default();
    if (p == NULL || (group != NULL && g == NULL)) {
        sl_log(SL_ERROR, "SL0220", "%s %s does not exist", p == NULL ? "User" : "Group",
               p == NULL ? (user != NULL ? user : "nobody") : group);
        return -1;
    }
    if (user == NULL)
        sl_log(SL_INFO, "SL0221", "no User is named: the worker becomes %s", p->pw_name);
    gid = g != NULL ? g->gr_gid : p->pw_gid;
    if (p->pw_uid == 0)
        return 0;
    if (initgroups(p->pw_name, gid) != 0 || setresgid(gid, gid, gid) != 0 ||
        setresuid(p->pw_uid, p->pw_uid, p->pw_uid) != 0) {
        sl_log(SL_ERROR, "SL0222", "cannot become %s: %s", p->pw_name, strerror(errno));
        return -1;
    }
    return 0;
}

void
descriptors_raise(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur == r.rlim_max)
        return;
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
}
