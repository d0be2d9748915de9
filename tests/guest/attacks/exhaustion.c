/*
 * Runs out of address space, mappings and descriptors in the middle of fork, exec, mmap and open: each gives its errno, and
 * everything works again when there is room.
 */
#include "attack.h"
#include <spawn.h>

enum { FILES = 700, MAPPINGS = 70000 };

/* A program that ends with 0 at once: this one. */
static const char *self;

static int spawn_self(void)
{
	char *const argv[] = { "attack", "--nothing", NULL };
	pid_t pid;
	int error = posix_spawn(&pid, self, NULL, NULL, argv, NULL);
	if (error == 0 && reap(pid) != 0)
		return -1;
	return error;
}

static void *nothing(void *arg)
{
	return arg;
}

/* Everything that needs room somewhere; errors are welcome, anything else is not. */
static void try_everything(void)
{
	pthread_t thread;
	int p[2], fd = open("/etc/passwd", O_RDONLY);
	char c;
	if (fd >= 0) {
		NEED(read(fd, &c, 1) == 1);
		void *map = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
		if (map != MAP_FAILED)
			NEED(*(char *)map == c && munmap(map, PAGE) == 0);
		NEED(close(fd) == 0);
	}
	if (pipe(p) == 0)
		NEED(write(p[1], "x", 1) == 1 && read(p[0], &c, 1) == 1 && close(p[0]) == 0 && close(p[1]) == 0);
	pid_t pid = fork();
	if (pid == 0)
		_exit(getppid() > 0 ? 0 : 1);
	if (pid > 0)
		NEED(reap(pid) == 0);
	spawn_self();
	if (pthread_create(&thread, NULL, nothing, NULL) == 0)
		NEED(pthread_join(thread, NULL) == 0);
	NEED(getppid() > 0);
}

static void must_all_work(void)
{
	pthread_t thread;
	int p[2];
	NEED(pipe(p) == 0 && close(p[0]) == 0 && close(p[1]) == 0);
	NEED(close(open("/etc/passwd", O_RDONLY)) == 0);
	NEED(spawn_self() == 0);
	NEED(pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0);
}

static void limited_address_space(uint64_t room)
{
	char line[256];
	unsigned long size = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	struct rlimit old, now;
	NEED(f && fgets(line, sizeof line, f) && sscanf(line, "%lu", &size) == 1 && getrlimit(RLIMIT_AS, &old) == 0);
	fclose(f);
	now = old;
	now.rlim_cur = (size + room) * PAGE;
	NEED(setrlimit(RLIMIT_AS, &now) == 0);
	NEED(mmap(NULL, (room + 1) * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == ENOMEM);
	for (int i = 0; i < 3; i++)
		try_everything();
	NEED(setrlimit(RLIMIT_AS, &old) == 0);
	must_all_work();
}

/* Truly all of it: reserved in ever smaller pieces until not a page is left. */
static void no_address_space(uint64_t arg)
{
	enum { MOST = 4096 };
	static struct {
		void *at;
		size_t length;
	} pieces[MOST];
	int count = 0;
	(void)arg;
	for (size_t length = 1ul << 46; length >= PAGE && count < MOST;) {
		void *at = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (at == MAP_FAILED) {
			length /= 2;
			continue;
		}
		pieces[count].at = at;
		pieces[count++].length = length;
	}
	for (int i = 0; i < 3; i++)
		try_everything();
	/* Code that has not run yet, with no room beside it for anything. */
	while (count > 0) {
		count--;
		NEED(munmap(pieces[count].at, pieces[count].length) == 0);
	}
	must_all_work();
}

/* As many mappings as the host gives one process: each page's protection differs from its neighbour's. */
static void no_mappings(uint64_t arg)
{
	size_t length = 2ul * MAPPINGS * PAGE;
	char *region = mmap(NULL, length, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	bool full = false;
	(void)arg;
	NEED(region != MAP_FAILED);
	for (size_t at = 0; at < length && !full; at += 2 * PAGE)
		full = mprotect(region + at, PAGE, PROT_NONE) != 0;
	NEED(!full || errno == ENOMEM);
	for (int i = 0; i < 3; i++)
		try_everything();
	NEED(munmap(region, length) == 0);
	must_all_work();
}

static void no_descriptors(uint64_t limit)
{
	struct rlimit old, now;
	int count = 0, fd;
	NEED(getrlimit(RLIMIT_NOFILE, &old) == 0);
	now = old;
	now.rlim_cur = limit;
	NEED(setrlimit(RLIMIT_NOFILE, &now) == 0);
	while ((fd = open("/etc/passwd", O_RDONLY)) >= 0)
		count++;
	NEED(errno == EMFILE && count > 0);
	for (int i = 0; i < 3; i++)
		try_everything();
	for (fd = 3; fd < (int)limit; fd++)
		close(fd);
	NEED(setrlimit(RLIMIT_NOFILE, &old) == 0);
	must_all_work();
}

/* More files in use at once than any table of handed-in descriptors holds, each read and mapped again and again. */
static void many_files(uint64_t arg)
{
	static int fds[FILES];
	struct rlimit limit;
	char want[16], got[16];
	(void)arg;
	NEED(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = limit.rlim_max;
	NEED(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	for (int i = 0; i < FILES; i++) {
		NEED((fds[i] = open("/etc/passwd", O_RDONLY)) >= 0);
		for (int k = 0; k < 5; k++)
			NEED(pread(fds[i], i + k ? got : want, 8, 0) == 8 && (i + k == 0 || !memcmp(got, want, 8)));
	}
	pid_t pid = fork();
	for (int i = 0; i < FILES; i++)
		NEED(pread(fds[i], got, 8, 0) == 8 && !memcmp(got, want, 8) && close(fds[i]) == 0);
	if (pid == 0)
		_exit(0);
	NEED(pid > 0 && reap(pid) == 0);
	must_all_work();
}

int main(int argc, char **argv)
{
	static const uint64_t rooms[] = { 0, 1, 8, 64, 600, 2500 };
	if (has_option(argc, argv, "--nothing"))
		return 0;
	self = argv[0];
	bool platform = begin(argc, argv, "exhaustion");
	for (size_t i = 0; i < sizeof rooms / sizeof rooms[0]; i++)
		NEED(finish_attack("limited address space", limited_address_space, rooms[i]) == 0);
	for (uint64_t limit = 4; limit < 12; limit++)
		NEED(finish_attack("descriptors", no_descriptors, limit) == 0);
	NEED(finish_attack("descriptors", no_descriptors, 200) == 0);
	NEED(finish_attack("many files", many_files, 0) == 0);
	NEED(finish_attack("mappings", no_mappings, 0) == 0);
	NEED(finish_attack("address space", no_address_space, 0) == 0);
	return end(platform);
}
