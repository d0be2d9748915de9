/*
 * Shared by the attack programs: each attacks what the seccomp platform keeps in a guest's address space, or a way
 * into the host's kernel, in bounded time, and then prints one line "ok NAME ...". Where there is no such region
 * (natively, on the ptrace platform) what needs it is left out.
 *
 *   NAME [--canary PATH]
 *
 * PATH names a file of the host that the guest's root does not have. The runner looks after it.
 *
 * Every attack runs in a process of its own, may end in any way, and must be possible to end from outside. A sibling
 * process does ordinary things meanwhile and must not notice.
 */
#ifndef ATTACK_H
#define ATTACK_H
#include "../hostile/hostile.h"
#include <setjmp.h>
#include <stdatomic.h>
#include <time.h>

/* As in guest-runtime's `abi`. */
#define PLATFORM_BASE 0x7fff00000000ul
#define RUNTIME_MAX (1ul << 20)
#define FACTS_BASE 0x7fff08000000ul
#define SHARED_BASE 0x7fff10000000ul
#define SHARED_STRIDE 0x11000ul
#define PRIVATE_BASE 0x7fff40000000ul
#define PRIVATE_STRIDE 0x10000ul

#define PAGE 4096ul
/* An attack that has not ended by itself after this long is ended. */
enum { PATIENCE_MS = 250 };
/* Attacks at the same time. */
enum { AT_ONCE = 8 };
/* Something that does not even end then has broken the promise. */
enum { HANG_SECONDS = 60 };
/* What an attack exits with when the host did for it what it must not do. */
enum { BREACH = 42 };

static const char *attack_name, *canary = "/no-canary";

static sigjmp_buf probe_jump;

static void probe_fault(int sig)
{
	siglongjmp(probe_jump, sig);
}

static void on_faults(void (*handler)(int))
{
	struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_NODEFER };
	static const int faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS };
	for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
		NEED(sigaction(faults[i], &sa, NULL) == 0);
}

/* Whether a byte can be read, found out by reading it: the kernel would not tell. */
static bool is_readable(uint64_t at)
{
	volatile bool readable = false;
	on_faults(probe_fault);
	if (sigsetjmp(probe_jump, 1) == 0) {
		(void)*(volatile char *)at;
		readable = true;
	}
	on_faults(SIG_DFL);
	return readable;
}

static bool is_in_maps(uint64_t at)
{
	char line[512];
	unsigned long from, to;
	bool found = false;
	FILE *maps = fopen("/proc/self/maps", "r");
	NEED(maps);
	while (fgets(line, sizeof line, maps))
		if (sscanf(line, "%lx-%lx", &from, &to) == 2 && from <= at && at < to)
			found = true;
	fclose(maps);
	return found;
}

/* Whether the region is there. Natively something of the kernel's may lie there by chance, but /proc tells of that. */
static bool find_platform(void)
{
	return !is_in_maps(PLATFORM_BASE) && is_readable(PLATFORM_BASE) && is_readable(SHARED_BASE);
}

static struct {
	atomic_long turns;
	atomic_int stop;
} *shared;

/* Of its own: an attacker who forges the flags of its open may have the right to cut the file short that it opens. */
static char sibling_file[64];

static pid_t sibling, own_pid;
static uid_t own_uid;

/* Ordinary work: its own memory, who it is, a file, a pipe, a child. */
static void sibling_turn(int *p, const char *expected, size_t length)
{
	char text[256];
	for (int i = 0; i < 4; i++)
		NEED(getpid() == own_pid && getuid() == own_uid);
	int fd = open(sibling_file, O_RDONLY);
	NEED(fd >= 0 && read(fd, text, length) == (ssize_t)length && memcmp(text, expected, length) == 0);
	NEED(close(fd) == 0);
	NEED(write(p[1], "x", 1) == 1 && read(p[0], text, 1) == 1 && text[0] == 'x');
	if (shared->turns % 64 == 0) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(7);
		NEED(WEXITSTATUS(reap(pid)) == 7);
	}
	/* It only watches: what is attacked shall have the CPU. */
	struct timespec pause = { 0, 300000 };
	nanosleep(&pause, NULL);
}

/* As fork(2): a process that does not outlive the one that makes it, which may be killed at any moment. */
static pid_t fork_tied(void)
{
	pid_t parent = getpid(), pid = fork();
	NEED(pid >= 0);
	if (pid == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent))
		_exit(0);
	return pid;
}

static void start_sibling(void)
{
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(shared != MAP_FAILED);
	sibling = fork_tied();
	if (sibling > 0)
		return;
	own_pid = getpid();
	own_uid = getuid();
	static char pattern[1 << 16];
	static const char expected[] = "nobody else knows it";
	ssize_t length = sizeof expected;
	snprintf(sibling_file, sizeof sibling_file, "/tmp/sibling.%d", own_pid);
	int p[2], fd = open(sibling_file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	NEED(write(fd, expected, length) == length && close(fd) == 0 && pipe(p) == 0);
	memset(pattern, 0x5a, sizeof pattern);
	while (!shared->stop) {
		sibling_turn(p, expected, length);
		for (size_t i = 0; i < sizeof pattern; i++)
			NEED(pattern[i] == 0x5a);
		shared->turns++;
	}
	unlink(sibling_file);
	_exit(0);
}

/* It is alive, it gets on, and its memory is whole. */
static void check_sibling(void)
{
	long before = shared->turns;
	time_t start = time(NULL);
	while (shared->turns < before + 2) {
		int status;
		if (waitpid(sibling, &status, WNOHANG) != 0) {
			fprintf(stderr, "%s: the sibling has ended with %#x\n", attack_name, status);
			_exit(1);
		}
		NEED(time(NULL) - start < HANG_SECONDS);
		usleep(1000);
	}
}

/* Reaps the process; one that does not end by itself within so many milliseconds is killed, and must end then. */
static int settle_within(pid_t pid, long patience)
{
	struct timespec start, now, pause = { 0, 200000 };
	bool killed = false;
	int status;
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (;;) {
		pid_t got = waitpid(pid, &status, WNOHANG);
		NEED(got >= 0);
		if (got == pid)
			return status;
		clock_gettime(CLOCK_MONOTONIC, &now);
		long ms = (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000;
		if (ms > patience && !killed) {
			NEED(kill(pid, SIGKILL) == 0);
			killed = true;
		}
		if (ms > patience + HANG_SECONDS * 1000) {
			fprintf(stderr, "%s: process %d does not end\n", attack_name, (int)pid);
			_exit(1);
		}
		nanosleep(&pause, NULL);
	}
}

static UNUSED int settle(pid_t pid)
{
	return settle_within(pid, PATIENCE_MS);
}

/* Starts an attack in a process of its own. */
static pid_t start_attack(void (*attack)(uint64_t arg), uint64_t arg)
{
	pid_t pid = fork_tied();
	if (pid == 0) {
		attack(arg);
		_exit(0);
	}
	return pid;
}

static void must_be_harmless(int status, const char *what, uint64_t arg)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == BREACH) {
		fprintf(stderr, "%s: the host did it: %s %#lx\n", attack_name, what, (unsigned long)arg);
		_exit(1);
	}
}

/* An attack from its start to its end, whichever that is; its status. */
static UNUSED int try_attack(const char *what, void (*attack)(uint64_t arg), uint64_t arg)
{
	int status = settle(start_attack(attack, arg));
	must_be_harmless(status, what, arg);
	return status;
}

/* The attack with each of the arguments, several at once: ending those that hang takes its time. */
static UNUSED void try_all(const char *what, void (*attack)(uint64_t arg), uint64_t count)
{
	pid_t running[AT_ONCE];
	for (uint64_t first = 0; first < count; first += AT_ONCE) {
		uint64_t now = count - first < AT_ONCE ? count - first : AT_ONCE;
		for (uint64_t i = 0; i < now; i++)
			running[i] = start_attack(attack, first + i);
		for (uint64_t i = 0; i < now; i++)
			must_be_harmless(settle(running[i]), what, first + i);
	}
}

/* The same for one that ends by itself, however long it takes. */
static UNUSED int finish_attack(const char *what, void (*attack)(uint64_t arg), uint64_t arg)
{
	int status = settle_within(start_attack(attack, arg), HANG_SECONDS * 1000);
	must_be_harmless(status, what, arg);
	return status;
}

/* Whether the region can be attacked. */
static bool begin(int argc, char **argv, const char *name)
{
	attack_name = name;
	for (int i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], "--canary"))
			canary = argv[i + 1];
	set_limit(RLIMIT_CORE, 0);
	start_sibling();
	check_sibling();
	return find_platform();
}

static int end(bool platform)
{
	check_sibling();
	shared->stop = 1;
	NEED(reap(sibling) == 0);
	printf("ok %s%s\n", attack_name, platform ? "" : ": no platform region");
	return 0;
}
#endif
