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

CHECK(other_users_secrets)
{
	need_root();
	char path[64], buf[8];
	pid_t self = getpid();
	CHILD(pid) {
		OK(setresuid(1001, 1001, 1001));
		snprintf(path, sizeof path, "/proc/%d/environ", self);
		ERR(open(path, O_RDONLY), EACCES);
		snprintf(path, sizeof path, "/proc/%d/exe", self);
		ERR(readlink(path, buf, 8), EACCES);
		snprintf(path, sizeof path, "/proc/%d/fd", self);
		ERR(open(path, O_RDONLY), EACCES);
		snprintf(path, sizeof path, "/proc/%d/mem", self);
		ERR(open(path, O_RDONLY), EACCES);
		snprintf(path, sizeof path, "/proc/%d/stat", self);
		OK(open(path, O_RDONLY));
	}
	REAP(pid);
}
