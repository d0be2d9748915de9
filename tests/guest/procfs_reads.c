/* How /proc is read: in pieces, from the middle, while it changes, and by others. */
#include "check.h"

CHECK(small_reads_give_the_same_text)
{
	static char small[65536], text[65536];
	size_t have = 0;
	int fd = OK(open("/proc/self/limits", O_RDONLY));
	ssize_t n;
	while ((n = OK(read(fd, small + have, 7))) > 0)
		have += n;
	small[have] = 0;
	read_file("/proc/self/limits", text, sizeof text);
	STREQ(small, text);
	EQ(lseek(fd, 0, SEEK_SET), 0);
	EQ(read(fd, small, 5), 5);
	MEMEQ(small, text, 5);
}

CHECK(first_read_from_the_middle)
{
	char whole[64] = { 0 }, part[8] = { 0 };
	read_file("/proc/self/limits", whole, sizeof whole);
	EQ(pread(OK(open("/proc/self/limits", O_RDONLY)), part, 4, 6), 4);
	MEMEQ(part, whole + 6, 4);
	int fd = OK(open("/proc/self/limits", O_RDONLY));
	EQ(lseek(fd, 3, SEEK_SET), 3);
	EQ(read(fd, part, 4), 4);
	MEMEQ(part, whole + 3, 4);
	EQ(pread(fd, part, 4, 1 << 20), 0);
}

/* Calls each() with every number in a directory, through a buffer as small as CPython's for closing descriptors. */
static void for_each_number(const char *path, void (*each)(int dir, int number))
{
	char buf[280] __attribute__((aligned(8)));
	int dir = OK(open(path, O_RDONLY | O_DIRECTORY));
	long n;
	while ((n = OK(syscall(SYS_getdents64, dir, buf, sizeof buf))) > 0)
		for (long at = 0; at < n; at += ((struct dirent64 *)(buf + at))->d_reclen)
			each(dir, atoi(((struct dirent64 *)(buf + at))->d_name));
}

static void close_one(int dir, int fd)
{
	if (fd >= 100 && fd < 200 && fd != dir)
		OK(close(fd));
}

CHECK(descriptors_closed_while_they_are_listed)
{
	for (int fd = 100; fd < 200; fd++)
		OK(dup2(0, fd));
	for_each_number("/proc/self/fd", close_one);
	for (int fd = 100; fd < 200; fd++)
		ERR(fcntl(fd, F_GETFD), EBADF);
}

static pid_t children[40];
static int seen;

static void reap_one(int dir UNUSED, int pid)
{
	for (size_t i = 0; i < sizeof children / sizeof *children; i++)
		if (pid == children[i]) {
			seen++;
			OK(kill(pid, SIGKILL));
			OK(waitpid(pid, NULL, 0));
		}
}

CHECK(processes_reaped_while_they_are_listed)
{
	struct gate go = gate_new();
	for (size_t i = 0; i < sizeof children / sizeof *children; i++) {
		CHILD(pid) gate_wait(go);
		children[i] = pid;
	}
	for_each_number("/proc", reap_one);
	EQ(seen, sizeof children / sizeof *children);
}

CHECK(places_in_a_listing_can_be_gone_back_to)
{
	OK(dup2(0, 150));
	OK(dup2(0, 151));
	DIR *d = opendir("/proc/self/fd");
	STREQ(readdir(d)->d_name, ".");
	STREQ(readdir(d)->d_name, "..");
	while (strcmp(readdir(d)->d_name, "150"))
		;
	long after = telldir(d);
	OK(close(150));
	seekdir(d, after);
	STREQ(readdir(d)->d_name, "151");
	rewinddir(d);
	STREQ(readdir(d)->d_name, ".");
	closedir(d);
}

static const char *const MEMORY_FILES[] = { "auxv", "environ", "maps", "smaps", "smaps_rollup" };
enum { N_MEMORY_FILES = sizeof MEMORY_FILES / sizeof *MEMORY_FILES };

static int open_of(pid_t pid, const char *name)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	return open(path, O_RDONLY);
}

CHECK(other_users_secrets)
{
	need_root();
	char path[64], buf[8];
	pid_t self = getpid();
	CHILD(pid) {
		OK(setresuid(1001, 1001, 1001));
		for (int i = 0; i < N_MEMORY_FILES; i++)
			ERR(open_of(self, MEMORY_FILES[i]), EACCES);
		snprintf(path, sizeof path, "/proc/%d/exe", self);
		ERR(readlink(path, buf, 8), EACCES);
		ERR(open_of(self, "fd"), EACCES);
		ERR(open_of(self, "mem"), EACCES);
		OK(open_of(self, "stat"));
	}
	REAP(pid);
}

CHECK(secrets_of_a_process_that_is_not_dumpable)
{
	need_root();
	static const char *const others[] = { "io", "personality", "stack" };
	char byte;
	CHILD(pid) {
		OK(setresgid(1001, 1001, 1001));
		OK(setresuid(1001, 1001, 1001));
		OK(prctl(PR_SET_DUMPABLE, 0));
		pid_t self = getpid();
		CHILD(asker) {
			OK(prctl(PR_SET_DUMPABLE, 1));
			for (int i = 0; i < N_MEMORY_FILES; i++)
				ERR(open_of(self, MEMORY_FILES[i]), EACCES);
			for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
				int fd = open_of(self, others[i]);
				EQ(fd >= 0 ? read(fd, &byte, 1) : -1, -1);
			}
			OK(open_of(self, "status"));
		}
		REAP(asker);
		OK(open_of(self, "maps"));
	}
	REAP(pid);
}

/* An address space that is gone; Linux keeps its auxv, which is no secret, and has an error for smaps_rollup. */
static const char *const EMPTIED[] = { "environ", "maps", "smaps" };
enum { N_EMPTIED = sizeof EMPTIED / sizeof *EMPTIED };

CHECK(memory_files_show_only_the_program_they_were_opened_of)
{
	char text[64];
	CHILD(pid) {
		for (int i = 0; i < N_EMPTIED; i++)
			OK(dup2(OK(open_of(getpid(), EMPTIED[i])), 3 + i));
		execl("/bin/sh", "sh", "-c", "(cat <&3; cat <&4; cat <&5; echo end) >seen", NULL);
		_exit(99);
	}
	REAP(pid);
	read_file("seen", text, sizeof text);
	STREQ(text, "end\n");
}

CHECK(memory_files_of_a_zombie_are_empty)
{
	char byte;
	int before[N_EMPTIED];
	struct gate go = gate_new();
	CHILD(pid) gate_wait(go);
	for (int i = 0; i < N_EMPTIED; i++)
		before[i] = OK(open_of(pid, EMPTIED[i]));
	gate_open(go);
	await_state(pid, 'Z');
	for (int i = 0; i < N_EMPTIED; i++)
		EQ(read(before[i], &byte, 1), 0);
	REAP(pid);
}
