// System calls by the functions of a C library, again and again: which of them come in by patched sites is counted.
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 1000 };

// What a call must return.
static void must(int good, const char *what)
{
    if (!good)
        err(1, "%s", what);
}

static void read_a_file(void)
{
    char text[512];
    struct stat status;
    int file = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    must(file >= 0, "open");
    must(fstat(file, &status) == 0, "fstat");
    while (read(file, text, sizeof text) > 0)
        ;
    must(lseek(file, 0, SEEK_SET) == 0, "lseek");
    must(pread(file, text, 4, 1) == 4, "pread");
    must(close(file) == 0, "close");
}

static void change_names(void)
{
    char text[64];
    int file = open("one", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    must(file >= 0, "open for writing");
    must(write(file, "text", 4) == 4, "write");
    must(ftruncate(file, 2) == 0 && fchmod(file, 0644) == 0, "ftruncate and fchmod");
    must(close(file) == 0, "close");
    must(rename("one", "two") == 0, "rename");
    must(symlink("two", "three") == 0, "symlink");
    must(readlink("three", text, sizeof text) == 3, "readlink");
    must(access("three", R_OK) == 0, "access");
    must(unlink("three") == 0 && unlink("two") == 0, "unlink");
    must(mkdir("four", 0700) == 0 && rmdir("four") == 0, "mkdir and rmdir");
}

static void list_a_directory(void)
{
    DIR *directory = opendir("/etc");
    must(directory != NULL, "opendir");
    while (readdir(directory))
        ;
    must(closedir(directory) == 0, "closedir");
}

static void talk_through_a_pipe(void)
{
    char text[8];
    int ends[2];
    must(pipe(ends) == 0, "pipe");
    struct pollfd ready = {.fd = ends[0], .events = POLLIN};
    must(poll(&ready, 1, 0) == 0, "poll");
    must(writev(ends[1], &(struct iovec){"text", 4}, 1) == 4, "writev");
    must(read(ends[0], text, sizeof text) == 4, "read");
    int other = dup(ends[0]);
    must(other >= 0 && fcntl(other, F_GETFD) == 0, "dup and fcntl");
    must(close(other) == 0 && close(ends[0]) == 0 && close(ends[1]) == 0, "close");
}

int main(void)
{
    char place[] = "/tmp/calls.XXXXXX";
    must(mkdtemp(place) && chdir(place) == 0, "a directory of one's own");
    for (int round = 0; round < ROUNDS; round++) {
        sigset_t all, before;
        char cwd[64];
        struct stat status;
        read_a_file();
        change_names();
        list_a_directory();
        talk_through_a_pipe();
        must(stat("/usr/bin", &status) == 0 && stat("/none", &status) == -1, "stat");
        must(getcwd(cwd, sizeof cwd) != NULL, "getcwd");
        sigfillset(&all);
        must(sigprocmask(SIG_BLOCK, &all, &before) == 0, "sigprocmask");
        must(sigprocmask(SIG_SETMASK, &before, NULL) == 0, "sigprocmask");
        must(kill(getpid(), 0) == 0, "kill");
        must(nanosleep(&(struct timespec){0, 1}, NULL) == 0, "nanosleep");
    }
    must(rmdir(place) == 0, "rmdir");
    return 0;
}
