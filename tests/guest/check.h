/*
 * A small harness for guest tests: a program is a list of named checks, each of which runs in a
 * forked child of its own, in a fresh empty directory, under a hang guard.
 *
 *   CHECK(name) { EQ(dup2(0, 9), 9); ERR(close(99), EBADF); }
 *
 * PROG runs every check, PROG NAME... runs some, PROG --list names them. One line per check:
 *   ok NAME | not ok NAME: file:line: expression: values | skip NAME: reason
 * The exit status is 1 when any check failed. A reason that starts with "cpu:" means that the
 * processor lacks something; any other skip happens only where a privilege is missing.
 */
#ifndef CHECK_H
#define CHECK_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
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
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Checks hand bad arguments to calls on purpose. */
#pragma GCC diagnostic ignored "-Wnonnull"
#pragma GCC diagnostic ignored "-Wrestrict"
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#pragma GCC diagnostic ignored "-Wstringop-overread"

struct check {
	const char *name;
	void (*run)(void);
	int line;
	struct check *next;
};

static struct check *check_list;
static int check_report = -1; /* where a child writes its verdict */
static pid_t check_child;
enum { CHECK_HANG_SECS = 20 };

/* Constructors may run in any order: keep the list in source order. */
static inline void check_register(struct check *c)
{
	struct check **at = &check_list;
	while (*at && (*at)->line < c->line)
		at = &(*at)->next;
	c->next = *at;
	*at = c;
}

#define CHECK(id) \
	static void check_##id(void); \
	__attribute__((constructor)) static void check_add_##id(void) \
	{ \
		static struct check c = { #id, check_##id, __LINE__, 0 }; \
		check_register(&c); \
	} \
	static void check_##id(void)

/* Ends the calling process (child or grandchild of the runner) with a verdict. */
__attribute__((noreturn, format(printf, 2, 3))) static inline void check_verdict(char kind, const char *fmt, ...)
{
	char line[512];
	va_list ap;
	line[0] = kind;
	va_start(ap, fmt);
	int n = vsnprintf(line + 1, sizeof line - 2, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof line - 3)
		n = sizeof line - 3;
	line[n + 1] = '\n';
	ssize_t ignored = write(check_report, line, n + 2);
	(void)ignored;
	_exit(kind == 'S' ? 0 : 1);
}

static inline const char *check_errno_name(int e)
{
	const char *name = strerrorname_np(e);
	return name ? name : "?";
}

#define FAIL(...) check_fail(__FILE__, __LINE__, __VA_ARGS__)
#define check_fail(file, line, fmt, ...) \
	check_verdict('F', "%s:%d: " fmt, check_base(file), line, ##__VA_ARGS__)
#define SKIP(...) check_verdict('S', __VA_ARGS__)

static inline const char *check_base(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

#define EXPECT(cond) \
	do { \
		if (!(cond)) \
			FAIL("%s", #cond); \
	} while (0)

/* glibc declares raise() and others as leaf functions, but handlers do change this file's variables. */
#define COMPILER_BARRIER() __asm__ volatile("" ::: "memory")

#define CMP(a, op, b) \
	do { \
		long long va_ = (long long)(a); \
		int err_ = errno; \
		COMPILER_BARRIER(); \
		long long vb_ = (long long)(b); \
		if (!(va_ op vb_)) \
			FAIL("%s " #op " %s: %lld, %lld, errno %s", #a, #b, va_, vb_, check_errno_name(err_)); \
	} while (0)
#define EQ(a, b) CMP(a, ==, b)
#define NE(a, b) CMP(a, !=, b)

/* The call fails (-1 or a pointer of all ones) with this errno. */
#define ERR(call, want) \
	do { \
		errno = 0; \
		long long v_ = (long long)(call); \
		int err_ = errno; \
		COMPILER_BARRIER(); \
		if (v_ != -1) \
			FAIL("%s: got %lld, want %s", #call, v_, #want); \
		if (err_ != (want)) \
			FAIL("%s: errno %s, want %s", #call, check_errno_name(err_), #want); \
	} while (0)

/* The call succeeds; its value. */
#define OK(call) \
	({ \
		errno = 0; \
		__auto_type v_ = (call); \
		COMPILER_BARRIER(); \
		if ((long long)v_ == -1) \
			FAIL("%s: %s", #call, check_errno_name(errno)); \
		v_; \
	})

#define STREQ(a, b) \
	do { \
		const char *va_ = (a), *vb_ = (b); \
		if (strcmp(va_, vb_)) \
			FAIL("%s == %s: \"%.100s\", \"%.100s\"", #a, #b, va_, vb_); \
	} while (0)
#define MEMEQ(a, b, n) \
	do { \
		if (memcmp(a, b, n)) \
			FAIL("%s and %s differ", #a, #b); \
	} while (0)

#define UNUSED __attribute__((unused))

/* Runs the block that follows in a child, which then exits 0; the pid is in VAR. */
#define CHILD(var) \
	pid_t var = OK(fork()); \
	for (; var == 0; _exit(0))

static inline UNUSED bool has_capability(int cap)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = { 0 };
	return syscall(SYS_capget, &h, d) == 0 && (d[cap / 32].effective & 1u << cap % 32);
}

/* Root with what containers usually leave it, not just the number 0. */
static inline UNUSED bool is_root(void)
{
	static const int caps[] = { CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL, CAP_SETGID,
				    CAP_SETUID, CAP_SETPCAP, CAP_SYS_CHROOT, CAP_MKNOD };
	for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++)
		if (!has_capability(caps[i]))
			return false;
	return geteuid() == 0;
}

/* For a check that a run without privileges cannot make. */
static inline UNUSED void need_root(void)
{
	if (!is_root())
		SKIP("needs root");
}

static inline UNUSED int wait_status(pid_t pid)
{
	int status = -1;
	pid_t got;
	do
		got = waitpid(pid, &status, 0);
	while (got == -1 && errno == EINTR);
	EQ(got, pid);
	return status;
}

/* The exit code of a child, or 128 + the signal that ended it. */
static inline UNUSED int wait_exit(pid_t pid)
{
	int status = wait_status(pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* A child that ran its expectations in CHILD ended well. */
#define REAP(pid) EQ(wait_exit(pid), 0)

/* A one-byte hand-over between processes or threads. */
struct gate {
	int fd[2];
};

static inline UNUSED struct gate gate_new(void)
{
	struct gate g;
	OK(pipe2(g.fd, O_CLOEXEC));
	return g;
}

static inline UNUSED void gate_open(struct gate g)
{
	ssize_t n;
	do
		n = write(g.fd[1], "x", 1);
	while (n == -1 && errno == EINTR);
	EQ(n, 1);
}

static inline UNUSED void gate_wait(struct gate g)
{
	char c;
	ssize_t n;
	do
		n = read(g.fd[0], &c, 1);
	while (n == -1 && errno == EINTR);
	EQ(n, 1);
}

static inline UNUSED ssize_t read_file(const char *path, char *buf, size_t size)
{
	int fd = OK(open(path, O_RDONLY | O_CLOEXEC));
	size_t have = 0;
	ssize_t n;
	while (have < size - 1 && (n = OK(read(fd, buf + have, size - 1 - have))) > 0)
		have += n;
	buf[have] = 0;
	close(fd);
	return have;
}

static inline UNUSED void write_file(const char *path, const char *text)
{
	int fd = OK(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
	EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	OK(close(fd));
}

/* The state letter of a task as /proc shows it; 0 when it is gone. */
static inline UNUSED char task_state(pid_t tgid, pid_t tid)
{
	char path[64], buf[512];
	snprintf(path, sizeof path, "/proc/%d/task/%d/stat", tgid, tid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, buf, sizeof buf - 1);
	close(fd);
	if (n <= 0)
		return 0;
	buf[n] = 0;
	char *paren = strrchr(buf, ')');
	return paren && paren[1] ? paren[2] : 0;
}

/* Returns once the task sits in this state (S: blocked in a call, T: stopped, Z: zombie). */
static inline UNUSED void await_task_state(pid_t tgid, pid_t tid, char state)
{
	while (task_state(tgid, tid) != state)
		sched_yield();
}

static inline UNUSED void await_state(pid_t pid, char state)
{
	await_task_state(pid, pid, state);
}

static inline UNUSED void on_signal_flags(int sig, void (*handler)(int), int flags)
{
	struct sigaction sa = { .sa_handler = handler, .sa_flags = flags };
	sigemptyset(&sa.sa_mask);
	OK(sigaction(sig, &sa, NULL));
}

static inline UNUSED void on_siginfo(int sig, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags };
	sigemptyset(&sa.sa_mask);
	OK(sigaction(sig, &sa, NULL));
}

static inline UNUSED sigset_t sigset_of(int sig)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, sig);
	return set;
}

static inline UNUSED void block_signal(int sig)
{
	sigset_t set = sigset_of(sig);
	OK(sigprocmask(SIG_BLOCK, &set, NULL));
}

/* Two pages of which the second one cannot be touched; the address of the border. */
static inline UNUSED char *page_border(void)
{
	char *p = OK(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	OK(mprotect(p + 4096, 4096, PROT_NONE));
	return p + 4096;
}

/* Never mapped, in user space. */
#define BAD_PTR ((void *)8)
/* Not even a user address. */
#define KERNEL_PTR ((void *)0xffff800000000000ull)

static void check_on_hang(int sig)
{
	(void)sig;
	kill(check_child, SIGKILL);
}

static void check_remove_tree(int dir, const char *name)
{
	if (unlinkat(dir, name, 0) == 0 || unlinkat(dir, name, AT_REMOVEDIR) == 0)
		return;
	fchmodat(dir, name, 0700, 0);
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			check_remove_tree(fd, e->d_name);
	if (d)
		closedir(d);
	unlinkat(dir, name, AT_REMOVEDIR);
}

/* Reads the first verdict and drops the rest (a failed grandchild makes its parent fail too). */
static bool check_read_verdict(int fd, char *line, size_t size)
{
	ssize_t n = read(fd, line, size - 1);
	line[n > 0 ? n : 0] = 0;
	line[strcspn(line, "\n")] = 0;
	return n > 0;
}

static bool check_run(struct check *c, int dir)
{
	int report[2];
	char line[600];
	if (pipe2(report, O_CLOEXEC | O_NONBLOCK) || mkdirat(dir, c->name, 0755)) {
		printf("not ok %s: cannot prepare: %s\n", c->name, strerror(errno));
		return false;
	}
	fflush(stdout);
	check_child = fork();
	if (check_child == 0) {
		setpgid(0, 0);
		signal(SIGALRM, SIG_DFL);
		check_report = fcntl(report[1], F_DUPFD_CLOEXEC, 60);
		close(report[0]);
		close(report[1]);
		if (fchdir(dir) || chdir(c->name))
			FAIL("cannot enter its directory");
		close(dir);
		c->run();
		_exit(0);
	}
	alarm(CHECK_HANG_SECS);
	int status = 0;
	pid_t got;
	do
		got = waitpid(check_child, &status, 0);
	while (got == -1 && errno == EINTR);
	bool hung = alarm(0) == 0;
	kill(-check_child, SIGKILL);
	bool said = check_read_verdict(report[0], line, sizeof line);
	close(report[0]);
	close(report[1]);
	check_remove_tree(dir, c->name);
	if (said && line[0] == 'S') {
		printf("skip %s: %s\n", c->name, line + 1);
		return true;
	}
	if (said)
		printf("not ok %s: %s\n", c->name, line + 1);
	else if (hung)
		printf("not ok %s: hangs\n", c->name);
	else if (got == -1)
		printf("not ok %s: waitpid: %s\n", c->name, strerror(errno));
	else if (WIFSIGNALED(status))
		printf("not ok %s: ended by signal %d\n", c->name, WTERMSIG(status));
	else if (WEXITSTATUS(status))
		printf("not ok %s: exit status %d\n", c->name, WEXITSTATUS(status));
	else
		printf("ok %s\n", c->name);
	return !said && !hung && got != -1 && status == 0;
}

static bool check_wanted(struct check *c, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], c->name))
			return true;
	return argc < 2;
}

/* A program may act as its own exec target: argv[1] starts with "@". */
static int (*check_exec_entry)(int argc, char **argv) UNUSED;

int main(int argc, char **argv)
{
	bool all_ok = true;
	if (argc > 1 && argv[1][0] == '@' && check_exec_entry)
		return check_exec_entry(argc, argv);
	if (argc > 1 && !strcmp(argv[1], "--list")) {
		for (struct check *c = check_list; c; c = c->next)
			puts(c->name);
		return 0;
	}
	/* Whatever the caller left ignored or blocked must not change what the checks see. */
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* All 64, raw: glibc's posix_spawn ignores its two internal ones in the child. */
	const uint64_t default_action[4] = { 0 };
	for (int sig = 1; sig <= 64; sig++)
		syscall(SYS_rt_sigaction, sig, default_action, NULL, 8);
	on_signal_flags(SIGALRM, check_on_hang, 0);
	umask(022);
	struct rlimit core;
	if (getrlimit(RLIMIT_CORE, &core) == 0) {
		core.rlim_cur = 0;
		setrlimit(RLIMIT_CORE, &core);
	}

	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/uvm-guest-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (!mkdtemp(path) || chmod(path, 0755)) {
		printf("not ok setup: %s: %s\n", path, strerror(errno));
		return 1;
	}
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (struct check *c = check_list; c; c = c->next)
		if (check_wanted(c, argc, argv) && !check_run(c, dir))
			all_ok = false;
	close(dir);
	rmdir(path);
	return all_ok ? 0 : 1;
}
#endif
