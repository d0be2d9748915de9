/*
 * Shared by the hostile programs: each behaves badly on purpose, in bounded time, and then prints one
 * line "ok NAME ..." and exits 0. They hold natively; under uvm they must do the same, and leave the
 * supervisor alive.
 */
#ifndef HOSTILE_H
#define HOSTILE_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

#define NEED(cond) \
	do { \
		if (!(cond)) { \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #cond, strerror(errno)); \
			fflush(NULL); \
			_exit(1); \
		} \
	} while (0)

static uint64_t random_state = 1;

/* xorshift64*: the same sequence for the same seed everywhere. */
static inline UNUSED uint64_t random_u64(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 2685821657736338717ull;
}

static inline UNUSED unsigned random_below(unsigned n)
{
	return random_u64() % n;
}

static inline UNUSED bool has_option(int argc, char **argv, const char *option)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], option))
			return true;
	return false;
}

static inline UNUSED int reap(pid_t pid)
{
	int status = -1;
	pid_t got;
	do
		got = waitpid(pid, &status, 0);
	while (got == -1 && errno == EINTR);
	NEED(got == pid);
	return status;
}

/* Limits that keep a native run from hurting its machine. */
static inline UNUSED void set_limit(int what, rlim_t value)
{
	struct rlimit lim;
	NEED(getrlimit(what, &lim) == 0);
	if (lim.rlim_max != RLIM_INFINITY && value > lim.rlim_max)
		value = lim.rlim_max;
	lim.rlim_cur = lim.rlim_max = value;
	NEED(setrlimit(what, &lim) == 0);
}
#endif
