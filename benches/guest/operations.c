/*
 * How long one operation takes: the same static program natively and in a guest.
 *
 *   operations --batch MILLISECONDS --batches N [NAME...]
 *
 * prints a line "NAME NANOSECONDS" per operation: the least of N batches, each of as many repetitions as fill
 * that time, and
 *
 *   operations --count N NAME
 *
 * does one so many times and prints nothing. Natively and in a guest the same files of the root are used, and /tmp is an empty tmpfs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NEED(cond) \
	do { \
		if (!(cond)) { \
			fprintf(stderr, "operations: %s:%d: %s: %s\n", __FILE__, __LINE__, #cond, strerror(errno)); \
			exit(1); \
		} \
	} while (0)
#define PRESENT "/etc/passwd"
#define ABSENT "/etc/absent"
#define LARGE "/usr/bin/perl"

enum { SMALL_IO = 4096, LARGE_IO = 65536, PAGE = 4096, REGION = 16 << 20, MOST_THREADS = 2 };

static char buffer[LARGE_IO];
static int file = -1, in[2], out[2];
static pid_t partner;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void reap(pid_t pid)
{
	int status;
	NEED(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
}

static void do_getppid(long count)
{
	while (count--)
		NEED(getppid() >= 0);
}

static void do_clock(long count)
{
	struct timespec t;
	while (count--)
		NEED(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
}

/* As compilers place it: behind the load of a constant. */
static void do_cpuid(long count)
{
	while (count--)
		__asm__ volatile("mov $7, %%eax\n\t xor %%ecx, %%ecx\n\t cpuid" : : : "eax", "ebx", "ecx", "edx", "cc");
}

/* With a prefix, as nobody writes it: it always faults in a guest. */
static void do_cpuid_fault(long count)
{
	while (count--)
		__asm__ volatile("mov $7, %%eax\n\t xor %%ecx, %%ecx\n\t .byte 0x66\n\t cpuid" : : : "eax", "ebx", "ecx", "edx", "cc");
}

static void do_umask(long count)
{
	while (count--)
		umask(022);
}

static void do_stat(long count)
{
	struct stat st;
	while (count--)
		NEED(stat(PRESENT, &st) == 0);
}

static void do_stat_absent(long count)
{
	struct stat st;
	while (count--)
		NEED(stat(ABSENT, &st) == -1);
}

static void do_open(long count)
{
	while (count--) {
		int fd = open(PRESENT, O_RDONLY);
		NEED(fd >= 0 && close(fd) == 0);
	}
}

static void open_large(void)
{
	NEED((file = open(LARGE, O_RDONLY)) >= 0);
}

static void open_scratch(void)
{
	NEED((file = open("/tmp/scratch", O_RDWR | O_CREAT | O_TRUNC, 0600)) >= 0);
	NEED(write(file, buffer, LARGE_IO) == LARGE_IO);
}

static void close_file(void)
{
	NEED(close(file) == 0);
}

static void do_pread(long count)
{
	while (count--)
		NEED(pread(file, buffer, SMALL_IO, SMALL_IO) == SMALL_IO);
}

static void do_pread_large(long count)
{
	while (count--)
		NEED(pread(file, buffer, LARGE_IO, 0) == LARGE_IO);
}

static void do_pwrite(long count)
{
	while (count--)
		NEED(pwrite(file, buffer, SMALL_IO, SMALL_IO) == SMALL_IO);
}

static void open_pipe(void)
{
	NEED(pipe(in) == 0);
}

static void close_pipe(void)
{
	NEED(close(in[0]) == 0 && close(in[1]) == 0);
}

static void do_pipe(long count)
{
	char c = 0;
	while (count--)
		NEED(write(in[1], &c, 1) == 1 && read(in[0], &c, 1) == 1);
}

static cpu_set_t all_cpus;

/* Pin the caller to the nth of the CPUs that it may use. */
static void pin(int nth)
{
	cpu_set_t one;
	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE && !CPU_COUNT(&one); cpu++)
		if (CPU_ISSET(cpu, &all_cpus) && nth-- == 0)
			CPU_SET(cpu, &one);
	NEED(sched_setaffinity(0, sizeof one, &one) == 0);
}

/* Both processes on one CPU: what a hand-over costs, not where the scheduler puts them. */
static void start_partner(void)
{
	char c;
	NEED(sched_getaffinity(0, sizeof all_cpus, &all_cpus) == 0);
	pin(0);
	NEED(pipe(in) == 0 && pipe(out) == 0);
	NEED((partner = fork()) >= 0);
	if (partner == 0) {
		close(in[0]);
		close(out[1]);
		while (read(out[0], &c, 1) == 1)
			NEED(write(in[1], &c, 1) == 1);
		_exit(0);
	}
	NEED(close(in[1]) == 0 && close(out[0]) == 0);
}

static void do_ping_pong(long count)
{
	char c = 0;
	while (count--)
		NEED(write(out[1], &c, 1) == 1 && read(in[0], &c, 1) == 1);
}

static void end_partner(void)
{
	NEED(close(out[1]) == 0 && close(in[0]) == 0);
	reap(partner);
	NEED(sched_setaffinity(0, sizeof all_cpus, &all_cpus) == 0);
}

/*
 * What no virtual kernel of this shape can do without, measured natively. A call that another process answers is at least
 * two words in shared memory: a question and its answer, each with a futex where the other sleeps, or with nothing where
 * both have a CPU and look.
 */
static struct bell {
	_Atomic uint32_t asked, answered;
} *bell;

static void await(_Atomic uint32_t *word, uint32_t past)
{
	while (atomic_load(word) == past)
		syscall(SYS_futex, word, FUTEX_WAIT, past, NULL, NULL, 0);
}

static void await_looking(_Atomic uint32_t *word, uint32_t past)
{
	while (atomic_load(word) == past)
		__builtin_ia32_pause();
}

static void start_answering(int cpu, bool looking)
{
	NEED(sched_getaffinity(0, sizeof all_cpus, &all_cpus) == 0);
	bell = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(bell != MAP_FAILED);
	pin(0);
	NEED((partner = fork()) >= 0);
	if (partner == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin(cpu);
		for (uint32_t turn = 0;; turn++) {
			(looking ? await_looking : await)(&bell->asked, turn);
			atomic_store(&bell->answered, turn + 1);
			if (!looking)
				syscall(SYS_futex, &bell->answered, FUTEX_WAKE, 1, NULL, NULL, 0);
		}
	}
}

static void start_sleeper(void)
{
	start_answering(0, false);
}

static void start_watcher(void)
{
	start_answering(1, true);
}

static void do_hop_asleep(long count)
{
	while (count--) {
		uint32_t turn = atomic_load(&bell->answered);
		atomic_store(&bell->asked, turn + 1);
		syscall(SYS_futex, &bell->asked, FUTEX_WAKE, 1, NULL, NULL, 0);
		await(&bell->answered, turn);
	}
}

static void do_hop_watched(long count)
{
	while (count--) {
		uint32_t turn = atomic_load(&bell->answered);
		atomic_store(&bell->asked, turn + 1);
		await_looking(&bell->answered, turn);
	}
}

static void end_answering(void)
{
	int status;
	NEED(kill(partner, SIGKILL) == 0 && waitpid(partner, &status, 0) == partner);
	NEED(munmap(bell, PAGE) == 0);
	NEED(sched_setaffinity(0, sizeof all_cpus, &all_cpus) == 0);
}

static void answer_trap(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)info;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = 1;
}

/* A call that the filter turns into a signal, answered in its handler: the least for a call whose site is not patched. */
static void start_trapping(void)
{
	struct sigaction action = { .sa_sigaction = answer_trap, .sa_flags = SA_SIGINFO };
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof filter / sizeof filter[0], filter };
	NEED(sigaction(SIGSYS, &action, NULL) == 0);
	NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	NEED(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void do_mmap(long count)
{
	while (count--) {
		char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		NEED(p != MAP_FAILED);
		*(volatile char *)p = 1;
		NEED(munmap(p, PAGE) == 0);
	}
}

static char *region;

static void map_region(void)
{
	region = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(region != MAP_FAILED);
	/* Huge pages would make most touches no fault at all. */
	madvise(region, REGION, MADV_NOHUGEPAGE);
}

static void unmap_region(void)
{
	NEED(munmap(region, REGION) == 0);
}

/* Count is of pages: giving them back costs little beside the faults, and is the same on both sides. */
static void do_touch(long count)
{
	for (long at = 0; at < count; at++) {
		long page = at % (REGION / PAGE);
		if (page == 0)
			NEED(madvise(region, REGION, MADV_DONTNEED) == 0);
		((volatile char *)region)[page * PAGE] = 1;
	}
}

static void do_fork(long count)
{
	while (count--) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(0);
		reap(pid);
	}
}

static const char *nop = "./nop";

static void do_spawn(long count)
{
	char *argv[] = { "nop", NULL }, *envp[] = { NULL };
	while (count--) {
		pid_t pid;
		NEED(posix_spawn(&pid, nop, NULL, NULL, argv, envp) == 0);
		reap(pid);
	}
}

static void *nothing(void *arg)
{
	return arg;
}

static void do_thread(long count)
{
	while (count--) {
		pthread_t thread;
		NEED(pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0);
	}
}

/* A unit is a few hundred dependent instructions in registers. */
static void do_compute(long count)
{
	uint64_t x = count | 1;
	while (count--)
		for (int i = 0; i < 100; i++)
			x = x * 6364136223846793005u + 1442695040888963407u;
	__asm__ volatile("" ::"r"(x));
}

/* A unit is a wake-up of nobody and a small read, each thread with its own word and its own file. */
static void do_futex_mix(long count)
{
	uint32_t word = 0;
	char small[64];
	int fd = open(LARGE, O_RDONLY);
	NEED(fd >= 0);
	while (count--) {
		NEED(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) == 0);
		NEED(pread(fd, small, sizeof small, 4096) == sizeof small);
	}
	NEED(close(fd) == 0);
}

static const struct operation {
	const char *name;
	void (*body)(long count);
	void (*prepare)(void);
	void (*finish)(void);
	int threads; /* the work is divided among so many, 0: no thread is made */
	bool crowd;  /* while a process per further CPU does the same */
} operations[] = {
	{ .name = "getppid", do_getppid },
	{ .name = "cpuid", do_cpuid },
	{ .name = "cpuid-fault", do_cpuid_fault },
	{ .name = "clock_gettime", do_clock },
	{ .name = "umask", do_umask },
	{ .name = "stat", do_stat },
	{ .name = "stat-absent", do_stat_absent },
	{ .name = "stat-crowd", do_stat, .crowd = true },
	{ .name = "stat-absent-crowd", do_stat_absent, .crowd = true },
	{ .name = "open", do_open },
	{ .name = "pread", do_pread, open_large, close_file },
	{ .name = "pwrite", do_pwrite, open_scratch, close_file },
	{ .name = "pread-large", do_pread_large, open_large, close_file },
	{ .name = "pipe", do_pipe, open_pipe, close_pipe },
	{ .name = "ping-pong", do_ping_pong, start_partner, end_partner },
	{ .name = "mmap", do_mmap },
	{ .name = "touch", do_touch, map_region, unmap_region },
	{ .name = "fork", do_fork },
	{ .name = "spawn", do_spawn },
	{ .name = "thread", do_thread },
	{ .name = "compute-1", do_compute, .threads = 1 },
	{ .name = "compute-2", do_compute, .threads = 2 },
	{ .name = "futex-mix-1", do_futex_mix, .threads = 1 },
	{ .name = "futex-mix-2", do_futex_mix, .threads = 2 },
	{ .name = "hop-asleep", do_hop_asleep, start_sleeper, end_answering },
	{ .name = "hop-watched", do_hop_watched, start_watcher, end_answering },
	/* Last: its filter stays. */
	{ .name = "trap", do_getppid, start_trapping },
};

struct share {
	void (*body)(long count);
	long count;
};

static void *work(void *arg)
{
	struct share *share = arg;
	share->body(share->count);
	return NULL;
}

/* The time of count repetitions. */
static double batch(const struct operation *op, long count)
{
	double start = now();
	if (op->threads == 0) {
		op->body(count);
	} else {
		pthread_t threads[MOST_THREADS];
		struct share share = { op->body, count / op->threads };
		for (int i = 0; i < op->threads; i++)
			NEED(pthread_create(&threads[i], NULL, work, &share) == 0);
		for (int i = 0; i < op->threads; i++)
			NEED(pthread_join(threads[i], NULL) == 0);
	}
	return now() - start;
}

/* A process per further CPU that does the same until it is killed. */
static int start_crowd(const struct operation *op, pid_t *crowd, int most)
{
	int count = 0;
	cpu_set_t cpus;
	NEED(sched_getaffinity(0, sizeof cpus, &cpus) == 0);
	for (; count < CPU_COUNT(&cpus) - 1 && count < most; count++) {
		NEED((crowd[count] = fork()) >= 0);
		if (crowd[count] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				op->body(100);
		}
	}
	return count;
}

static double measure(const struct operation *op, double wanted, int batches)
{
	pid_t crowd[64];
	int crowded = op->crowd ? start_crowd(op, crowd, 64) : 0;
	if (op->prepare)
		op->prepare();
	long count = op->threads ? op->threads : 1;
	double least = 0;
	for (int done = 0; done < batches;) {
		double took = batch(op, count);
		if (took < wanted / 2) {
			/* Too short to be measured well: begin again with more. What ran so far has warmed everything up. */
			count *= 2;
			done = 0;
			continue;
		}
		least = done == 0 || took / count < least ? took / count : least;
		done++;
	}
	if (op->finish)
		op->finish();
	for (int i = 0; i < crowded; i++) {
		NEED(kill(crowd[i], SIGKILL) == 0 && waitpid(crowd[i], NULL, 0) == crowd[i]);
	}
	return least;
}

/* For somebody who counts what each does. */
static int repeat(const char *name, long count)
{
	for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
		const struct operation *op = &operations[i];
		if (strcmp(op->name, name))
			continue;
		if (op->prepare)
			op->prepare();
		op->body(count);
		if (op->finish)
			op->finish();
		return 0;
	}
	return 2;
}

static bool is_wanted(const char *name, char **names, int count)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(names[i], name))
			return true;
	return count == 0;
}

int main(int argc, char **argv)
{
	/* Its neighbour, wherever they are mounted. */
	char *slash = strrchr(argv[0], '/'), *path;
	NEED(slash && asprintf(&path, "%.*s/nop", (int)(slash - argv[0]), argv[0]) > 0);
	nop = path;
	if (argc == 4 && !strcmp(argv[1], "--count"))
		return repeat(argv[3], atol(argv[2]));
	NEED(argc >= 5 && !strcmp(argv[1], "--batch") && !strcmp(argv[3], "--batches"));
	double wanted = atof(argv[2]) * 1e6;
	int batches = atoi(argv[4]);
	NEED(wanted > 0 && batches > 0);
	for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
		if (!is_wanted(operations[i].name, argv + 5, argc - 5))
			continue;
		printf("%s %.1f\n", operations[i].name, measure(&operations[i], wanted, batches));
		fflush(stdout);
	}
	return 0;
}
