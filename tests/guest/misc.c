/* The rest: uname(2), sysinfo(2), getrandom(2), getcpu(2), inotify(7), personality(2), posix message queues. */
#include "check.h"
#include <mqueue.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/sendfile.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/random.h>
#include <sys/sysinfo.h>
#include <sys/timerfd.h>
#include <sys/utsname.h>
#include <sys/xattr.h>

CHECK(uname_fields)
{
	struct utsname u;
	char host[65];
	OK(uname(&u));
	STREQ(u.sysname, "Linux");
	STREQ(u.machine, "x86_64");
	EXPECT(atoi(u.release) >= 5);
	EXPECT(u.version[0]);
	OK(gethostname(host, sizeof host));
	STREQ(host, u.nodename);
}

CHECK(sethostname_as_root)
{
	struct utsname u;
	if (!has_capability(CAP_SYS_ADMIN))
		SKIP("needs CAP_SYS_ADMIN");
	OK(uname(&u));
	/* Only a name space of its own may get another name; else the old one is set again. */
	const char *name = syscall(SYS_unshare, 0x04000000) == 0 ? "new-name" : u.nodename;
	OK(sethostname(name, strlen(name)));
	char host[65];
	OK(gethostname(host, sizeof host));
	STREQ(host, name);
	ERR(sethostname("x", 65), EINVAL);
	ERR(sethostname("x", -1), EINVAL);
	ERR(sethostname(BAD_PTR, 5), EFAULT);
}

CHECK(sysinfo_fields)
{
	struct sysinfo si;
	OK(sysinfo(&si));
	EXPECT(si.uptime >= 0);
	EXPECT(si.mem_unit >= 1);
	EXPECT(si.totalram > 0 && si.freeram <= si.totalram);
	EXPECT(si.procs >= 1);
}

CHECK(getrandom_flags)
{
	unsigned char a[64] = { 0 }, b[64] = { 0 };
	EQ(getrandom(a, 64, 0), 64);
	EQ(getrandom(b, 64, GRND_NONBLOCK), 64);
	EXPECT(memcmp(a, b, 64));
	EQ(getrandom(a, 16, GRND_RANDOM), 16);
	EQ(getrandom(a, 0, 0), 0);
	ERR(getrandom(a, 8, 0x100), EINVAL);
	ERR(getrandom(a, 8, GRND_RANDOM | 4), EINVAL);
	static char big[100000];
	EQ(getrandom(big, sizeof big, 0), sizeof big);
}

CHECK(getcpu_matches_affinity)
{
	unsigned cpu = 9999, node = 9999;
	cpu_set_t set;
	OK(syscall(SYS_getcpu, &cpu, &node, NULL));
	OK(sched_getaffinity(0, sizeof set, &set));
	EXPECT(CPU_ISSET(cpu, &set));
	EXPECT(sched_getcpu() >= 0);
	OK(syscall(SYS_getcpu, NULL, NULL, NULL));
}

CHECK(personality_reads_and_sets)
{
	int before = personality(0xffffffff);
	EQ(personality(ADDR_NO_RANDOMIZE), before);
	EQ(personality(0xffffffff), ADDR_NO_RANDOMIZE);
	CHILD(pid) EQ(personality(0xffffffff), ADDR_NO_RANDOMIZE);
	REAP(pid);
}

static struct inotify_event *next_event(int fd)
{
	static char buf[4096] __attribute__((aligned(8)));
	static ssize_t have, at;
	if (at >= have) {
		have = OK(read(fd, buf, sizeof buf));
		at = 0;
	}
	struct inotify_event *e = (struct inotify_event *)(buf + at);
	at += sizeof *e + e->len;
	return e;
}

static void expect_event(int fd, int wd, uint32_t mask, const char *name)
{
	struct inotify_event *e = next_event(fd);
	EQ(e->wd, wd);
	EQ(e->mask, mask);
	STREQ(e->len ? e->name : "", name);
}

CHECK(inotify_file_events)
{
	int fd = OK(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	OK(mkdir("d", 0755));
	int wd = OK(inotify_add_watch(fd, "d", IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_DELETE | IN_ATTRIB));
	int f = OK(open("d/f", O_WRONLY | O_CREAT, 0600));
	EQ(write(f, "x", 1), 1);
	OK(close(f));
	OK(chmod("d/f", 0644));
	OK(unlink("d/f"));
	OK(mkdir("d/sub", 0755));
	expect_event(fd, wd, IN_CREATE, "f");
	expect_event(fd, wd, IN_MODIFY, "f");
	expect_event(fd, wd, IN_CLOSE_WRITE, "f");
	expect_event(fd, wd, IN_ATTRIB, "f");
	expect_event(fd, wd, IN_DELETE, "f");
	expect_event(fd, wd, IN_CREATE | IN_ISDIR, "sub");
	char c[64];
	ERR(read(fd, c, sizeof c), EAGAIN);
}

CHECK(inotify_rename_cookies)
{
	int fd = OK(inotify_init1(0));
	write_file("a", "");
	int wd = OK(inotify_add_watch(fd, ".", IN_MOVE));
	OK(rename("a", "b"));
	struct inotify_event *e = next_event(fd);
	uint32_t cookie = e->cookie;
	EQ(e->mask, IN_MOVED_FROM);
	EQ(e->wd, wd);
	STREQ(e->name, "a");
	e = next_event(fd);
	EQ(e->mask, IN_MOVED_TO);
	EQ(e->cookie, cookie);
	STREQ(e->name, "b");
}

CHECK(inotify_self_events_and_removal)
{
	int fd = OK(inotify_init1(0));
	write_file("f", "");
	int wd = OK(inotify_add_watch(fd, "f", IN_DELETE_SELF | IN_OPEN));
	EQ(inotify_add_watch(fd, "f", IN_DELETE_SELF), wd);
	OK(unlink("f"));
	expect_event(fd, wd, IN_DELETE_SELF, "");
	expect_event(fd, wd, IN_IGNORED, "");
	ERR(inotify_rm_watch(fd, wd), EINVAL);
	wd = OK(inotify_add_watch(fd, ".", IN_CREATE));
	OK(inotify_rm_watch(fd, wd));
	expect_event(fd, wd, IN_IGNORED, "");
}

enum { SELF_EVENTS = IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF };

CHECK(inotify_watches_last_as_long_as_the_file)
{
	int fd = OK(inotify_init1(IN_NONBLOCK)), f = OK(open("f", O_RDWR | O_CREAT, 0600));
	OK(link("f", "other"));
	int wd = OK(inotify_add_watch(fd, "f", SELF_EVENTS));
	OK(unlink("other"));
	expect_event(fd, wd, IN_ATTRIB, "");
	OK(unlink("f"));
	EQ(write(f, "x", 1), 1);
	expect_event(fd, wd, IN_ATTRIB, "");
	expect_event(fd, wd, IN_MODIFY, "");
	char c[64];
	ERR(read(fd, c, sizeof c), EAGAIN);
	OK(close(f));
	expect_event(fd, wd, IN_CLOSE_WRITE, "");
	expect_event(fd, wd, IN_DELETE_SELF, "");
	expect_event(fd, wd, IN_IGNORED, "");

	OK(mkdir("d", 0755));
	OK(chdir("d"));
	wd = OK(inotify_add_watch(fd, ".", IN_DELETE_SELF | IN_ATTRIB));
	OK(rmdir("../d"));
	ERR(read(fd, c, sizeof c), EAGAIN);
	OK(chdir(".."));
	expect_event(fd, wd, IN_DELETE_SELF, "");
	expect_event(fd, wd, IN_IGNORED, "");
}

CHECK(inotify_of_replaced_files)
{
	int fd = OK(inotify_init1(IN_NONBLOCK)), f = OK(open("f", O_RDWR | O_CREAT, 0600));
	write_file("new", "");
	int new = OK(inotify_add_watch(fd, "new", SELF_EVENTS)), wd = OK(inotify_add_watch(fd, "f", SELF_EVENTS));
	OK(rename("new", "f"));
	expect_event(fd, wd, IN_ATTRIB, "");
	expect_event(fd, new, IN_MOVE_SELF, "");
	char c[64];
	ERR(read(fd, c, sizeof c), EAGAIN);
	OK(close(f));
	expect_event(fd, wd, IN_CLOSE_WRITE, "");
	expect_event(fd, wd, IN_DELETE_SELF, "");
	expect_event(fd, wd, IN_IGNORED, "");
}

CHECK(inotify_of_files_without_names)
{
	char name[64], c[64];
	int fd = OK(inotify_init1(IN_NONBLOCK)), f = OK(open(".", O_TMPFILE | O_RDWR, 0600));
	snprintf(name, sizeof name, "/proc/self/fd/%d", f);
	int wd = OK(inotify_add_watch(fd, name, SELF_EVENTS));
	OK(close(f));
	expect_event(fd, wd, IN_CLOSE_WRITE, "");
	expect_event(fd, wd, IN_DELETE_SELF, "");
	expect_event(fd, wd, IN_IGNORED, "");

	/* What was mapped once does not hold a file. */
	f = OK(open("f", O_RDWR | O_CREAT, 0600));
	void *p = OK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, f, 0));
	OK(close(f));
	OK(munmap(p, 4096));
	wd = OK(inotify_add_watch(fd, "f", SELF_EVENTS));
	OK(unlink("f"));
	expect_event(fd, wd, IN_ATTRIB, "");
	expect_event(fd, wd, IN_DELETE_SELF, "");
	expect_event(fd, wd, IN_IGNORED, "");
	ERR(read(fd, c, sizeof c), EAGAIN);
}

CHECK(inotify_of_transfers)
{
	int in = OK(open("in", O_RDWR | O_CREAT, 0600)), out = OK(open("out", O_RDWR | O_CREAT, 0600));
	int p[2], fd = OK(inotify_init1(IN_NONBLOCK));
	EQ(write(in, "abcdef", 6), 6);
	OK(pipe(p));
	int from = OK(inotify_add_watch(fd, "in", IN_ACCESS | IN_MODIFY));
	int to = OK(inotify_add_watch(fd, "out", IN_ACCESS | IN_MODIFY));
	off_t at = 0;
	loff_t off = 0;
	EQ(sendfile(out, in, &at, 3), 3);
	expect_event(fd, from, IN_ACCESS, "");
	expect_event(fd, to, IN_MODIFY, "");
	EQ(copy_file_range(in, &off, out, NULL, 3, 0), 3);
	expect_event(fd, from, IN_ACCESS, "");
	expect_event(fd, to, IN_MODIFY, "");
	EQ(splice(in, &off, p[1], NULL, 3, 0), 3);
	expect_event(fd, from, IN_ACCESS, "");
	EQ(splice(p[0], NULL, out, NULL, 3, 0), 3);
	expect_event(fd, to, IN_MODIFY, "");
	char c[64];
	EQ(sendfile(out, in, NULL, 3), 0);
	ERR(read(fd, c, sizeof c), EAGAIN);
}

CHECK(inotify_errors)
{
	int fd = OK(inotify_init1(0));
	write_file("f", "");
	ERR(inotify_init1(1), EINVAL);
	ERR(inotify_add_watch(fd, "none", IN_CREATE), ENOENT);
	ERR(inotify_add_watch(fd, "f", 0), EINVAL);
	ERR(inotify_add_watch(fd, "f", IN_CREATE | IN_ONLYDIR), ENOTDIR);
	ERR(inotify_add_watch(0, "f", IN_CREATE), EINVAL);
	ERR(inotify_rm_watch(fd, 99), EINVAL);
	ERR(inotify_add_watch(fd, BAD_PTR, IN_CREATE), EFAULT);
}

CHECK(inotify_instances_of_a_user_are_limited)
{
	need_root();
	char limit[16];
	read_file("/proc/sys/fs/inotify/max_user_instances", limit, sizeof limit);
	CHILD(pid) {
		int made = 0, fd, last = -1;
		OK(setresuid(54321, 54321, 54321));
		while ((fd = inotify_init1(0)) >= 0) {
			last = fd;
			made++;
		}
		EQ(errno, EMFILE);
		EXPECT(made > 0 && made <= atoi(limit));
		OK(close(last));
		OK(inotify_init1(0));
	}
	REAP(pid);
}

CHECK(inotify_wakes_poll)
{
	int fd = OK(inotify_init1(0));
	OK(inotify_add_watch(fd, ".", IN_CREATE));
	CHILD(pid) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		EQ(poll(&p, 1, -1), 1);
		EQ(p.revents, POLLIN);
	}
	await_state(pid, 'S');
	write_file("new", "");
	REAP(pid);
}

CHECK(membarrier_and_rseq_do_not_crash)
{
	long r = syscall(SYS_membarrier, 0, 0, 0);
	EXPECT(r >= 0 || errno == ENOSYS);
	ERR(syscall(SYS_membarrier, 1 << 30, 0, 0), errno == ENOSYS ? ENOSYS : EINVAL);
}

CHECK(posix_message_queue)
{
	char name[64], buf[64];
	unsigned priority;
	struct mq_attr attr = { .mq_maxmsg = 4, .mq_msgsize = 64 };
	snprintf(name, sizeof name, "/uvm-%d", getpid());
	mqd_t q = OK(mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &attr));
	OK(mq_send(q, "low", 4, 1));
	OK(mq_send(q, "high", 5, 9));
	EQ(mq_receive(q, buf, sizeof buf, &priority), 5);
	EQ(priority, 9);
	STREQ(buf, "high");
	ERR(mq_receive(q, buf, 3, NULL), EMSGSIZE);
	EQ(mq_receive(q, buf, sizeof buf, NULL), 4);
	ERR(mq_receive(q, buf, sizeof buf, NULL), EAGAIN);
	for (int i = 0; i < 4; i++)
		OK(mq_send(q, "x", 1, 0));
	ERR(mq_send(q, "x", 1, 0), EAGAIN);
	OK(mq_unlink(name));
	ERR(mq_unlink(name), ENOENT);
}

CHECK(cpuid_and_rdtsc_run)
{
	unsigned a = 0, b, c = 0, d;
	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	EXPECT(a >= 1);
	uint64_t t0 = __builtin_ia32_rdtsc(), t1 = __builtin_ia32_rdtsc();
	EXPECT(t1 >= t0);
	unsigned aux;
	EXPECT(__builtin_ia32_rdtscp(&aux) >= t1);
}

CHECK(capabilities_of_sysconf)
{
	EQ(sysconf(_SC_PAGESIZE), 4096);
	EXPECT(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
	EXPECT(sysconf(_SC_NPROCESSORS_CONF) >= sysconf(_SC_NPROCESSORS_ONLN));
	EXPECT(sysconf(_SC_PHYS_PAGES) > 100);
	EXPECT(sysconf(_SC_OPEN_MAX) >= 20);
	EXPECT(sysconf(_SC_ARG_MAX) >= 131072);
	EQ(sysconf(_SC_IOV_MAX), 1024);
}

CHECK(sync_and_vhangup)
{
	sync();
	if (!has_capability(CAP_SYS_TTY_CONFIG))
		ERR(vhangup(), EPERM);
}

CHECK(shell_pipeline)
{
	char buf[64];
	CHILD(pid) {
		execl("/bin/sh", "sh", "-c", "for i in 1 2 3; do echo $i; done | while read x; do echo $((x * x)); done > out", NULL);
		_exit(99);
	}
	REAP(pid);
	read_file("out", buf, sizeof buf);
	STREQ(buf, "1\n4\n9\n");
}

CHECK(posix_shared_memory)
{
	char name[64];
	snprintf(name, sizeof name, "/uvm-%d", getpid());
	int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd == -1 && (errno == ENOENT || errno == EACCES || errno == ENOSYS))
		SKIP("no /dev/shm here");
	OK(fd);
	OK(ftruncate(fd, 4096));
	char *p = OK((char *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	CHILD(pid) {
		char *q = OK((char *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, OK(shm_open(name, O_RDWR, 0)), 0));
		strcpy(q, "shared");
	}
	REAP(pid);
	STREQ(p, "shared");
	OK(shm_unlink(name));
	ERR(shm_unlink(name), ENOENT);
}

/* Descriptors without a file type: neither regular files nor anything else. */
CHECK(objects_are_no_regular_files)
{
	int plain = OK(open("plain", O_RDWR | O_CREAT, 0600));
	EQ(write(plain, "text", 4), 4);
	int objects[] = {
		OK(eventfd(0, 0)), OK(epoll_create1(0)), OK(timerfd_create(CLOCK_MONOTONIC, 0)), OK(inotify_init1(0)),
	};
	char byte;
	for (size_t i = 0; i < sizeof objects / sizeof *objects; i++) {
		int fd = objects[i];
		EQ(lseek(fd, 0, SEEK_SET), 0);
		EQ(lseek(fd, 7, SEEK_CUR), 0);
		EQ(lseek(fd, -1, SEEK_END), 0);
		ERR(lseek(fd, 0, 99), EINVAL);
		ERR(copy_file_range(fd, NULL, plain, NULL, 4, 0), EINVAL);
		ERR(sync_file_range(fd, 0, 0, 0), ESPIPE);
		ERR(readahead(fd, 0, 1), EINVAL);
		ERR(fgetxattr(fd, "user.x", &byte, 1), ENODATA);
		ERR(fsetxattr(fd, "user.x", "v", 1, 0), EPERM);
	}
	ERR(ioctl(objects[0], FIOASYNC, &(int){ 1 }), ENOTTY);
	EQ(fcntl(objects[0], F_GETFL) & O_ASYNC, 0);
	int memfd = OK(memfd_create("x", 0)), left;
	EQ(write(memfd, "abc", 3), 3);
	EQ(lseek(memfd, 1, SEEK_SET), 1);
	OK(ioctl(memfd, FIONREAD, &left));
	EQ(left, 2);
	int ends[2];
	OK(pipe(ends));
	ERR(fcntl(ends[0], F_SETOWN, 0x3fffffff), ESRCH);
	OK(fcntl(ends[0], F_SETOWN, getpid()));
	EQ(fcntl(ends[0], F_GETOWN), getpid());
	struct f_owner_ex owner = { F_OWNER_PGRP, INT_MIN };
	ERR(fcntl(ends[0], F_SETOWN_EX, &owner), ESRCH);
	owner.pid = 0x3fffffff;
	ERR(fcntl(ends[0], F_SETOWN_EX, &owner), ESRCH);
	owner.pid = getpgrp();
	OK(fcntl(ends[0], F_SETOWN_EX, &owner));
	owner = (struct f_owner_ex){ 0 };
	OK(fcntl(ends[0], F_GETOWN_EX, &owner));
	EQ(owner.type, F_OWNER_PGRP);
	EQ(owner.pid, getpgrp());
}

CHECK(attribute_names_come_before_files)
{
	char byte, long_name[300] = "user.";
	memset(long_name + 5, 'a', 290);
	ERR(getxattr("nowhere", "", &byte, 1), ERANGE);
	ERR(getxattr("nowhere", long_name, &byte, 1), ERANGE);
	ERR(getxattr("nowhere", (char *)1, &byte, 1), EFAULT);
	ERR(removexattr("nowhere", ""), ERANGE);
	ERR(fgetxattr(99, "", &byte, 1), ERANGE);
	ERR(fremovexattr(99, (char *)1), EFAULT);
	ERR(fsetxattr(99, "user.x", &byte, 1, 99), EINVAL);
	ERR(getxattr("nowhere", "user.x", &byte, 1), ENOENT);
	ERR(fgetxattr(99, "user.x", &byte, 1), EBADF);
}
