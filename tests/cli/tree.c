// Shows names, inode numbers and links of all files below the root, in the order in which directories have them; then the same
// of a directory that it has changed.
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void show(const char *path)
{
    DIR *dir = opendir(*path ? path : "/");
    if (!dir)
        err(1, "opendir %s", path);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char below[4096];
        struct stat st;
        snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        if (lstat(below, &st) != 0)
            err(1, "lstat %s", below);
        printf("%s %lu %lu %o %lu %ld\n", below, (unsigned long)entry->d_ino, (unsigned long)st.st_ino, st.st_mode,
               (unsigned long)st.st_nlink, (long)entry->d_off);
        if (S_ISDIR(st.st_mode) && entry->d_name[0] != '.' && st.st_dev == makedev(0, 0x20))
            show(below);
    }
    closedir(dir);
}

int main(void)
{
    show("");
    if (unlink("/etc/a") != 0 || rename("/usr/c", "/etc/c") != 0 || close(creat("/etc/d", 0600)) != 0)
        err(1, "change /etc");
    show("/etc");
    return 0;
}
