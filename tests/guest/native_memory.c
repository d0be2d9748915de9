/*
 * Own-memory calls, each from one site and often: what a program's first calls of a site get, and the later ones, which
 * may be answered in another way, must be the same.
 */
#include "check.h"
#include <pthread.h>
#include <sys/time.h>

enum { PAGE = 4096, OFTEN = 300 };

static long raw(long nr, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

/* The one site of all that follows. */
static __attribute__((noinline)) long call(long nr, long a, long b, long c, long d)
{
	return raw(nr, a, b, c, d, -1, 0);
}

static long map(long addr, long len, int prot, int flags)
{
	return call(SYS_mmap, addr, len, prot, flags);
}

static char *pages(int n)
{
	long at = map(0, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
	if (at < 0)
		FAIL("mmap: %s", strerror(-at));
	return (char *)at;
}

static void warm_up(void)
{
	for (int i = 0; i < OFTEN; i++) {
		char *p = pages(1);
		*p = 1;
		EQ(call(SYS_munmap, (long)p, PAGE, 0, 0), 0);
	}
}

/* How /proc/self/maps shows the page at AT: "rw-p" and the like; "" where nothing is mapped. */
static const char *shown(void *at)
{
	static char access[8];
	char line[512];
	unsigned long start, end;
	FILE *maps = fopen("/proc/self/maps", "r");
	if (!maps)
		FAIL("no /proc/self/maps");
	char found[8] = "";
	while (fgets(line, sizeof line, maps))
		if (sscanf(line, "%lx-%lx %7s", &start, &end, access) == 3 && (unsigned long)at >= start &&
		    (unsigned long)at < end)
			strcpy(found, access);
	fclose(maps);
	return strcpy(access, found);
}

CHECK(the_map_is_shown)
{
	warm_up();
	char *p = pages(3);
	STREQ(shown(p), "rw-p");
	EQ(call(SYS_mprotect, (long)p + PAGE, PAGE, PROT_READ, 0), 0);
	STREQ(shown(p + PAGE), "r--p");
	STREQ(shown(p + 2 * PAGE), "rw-p");
	EQ(call(SYS_munmap, (long)p, PAGE, 0, 0), 0);
	STREQ(shown(p), "");
	STREQ(shown(p + PAGE), "r--p");
}

CHECK(errors_stay_the_same)
{
	for (int i = 0; i < 20; i++) {
		char *p = pages(2);
		EQ(map(0, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS), -EINVAL);
		EQ(map(0, 1L << 62, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS), -ENOMEM);
		EQ(map(0, 1L << 47, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS), -ENOMEM);
		EQ(map(0, PAGE, PROT_READ, MAP_ANONYMOUS), -EINVAL);
		EQ(map(0, PAGE, PROT_READ, MAP_PRIVATE), -EBADF);
		EQ(map((long)p + 1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED), -EINVAL);
		EQ(raw(SYS_mmap, 0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 1), -EINVAL);
		EQ(call(SYS_munmap, (long)p + 1, PAGE, 0, 0), -EINVAL);
		EQ(call(SYS_munmap, (long)p, 0, 0, 0), -EINVAL);
		EQ(call(SYS_munmap, 1L << 62, PAGE, 0, 0), -EINVAL);
		EQ(call(SYS_mprotect, (long)p + 1, PAGE, PROT_READ, 0), -EINVAL);
		EQ(call(SYS_mprotect, (long)p, 0, PROT_READ, 0), 0);
		EQ(call(SYS_mprotect, (long)p, -1L, PROT_READ, 0), -ENOMEM);
		EQ(call(SYS_mprotect, (long)p, PAGE, 0x100, 0), -EINVAL);
		EQ(call(SYS_madvise, (long)p + 1, PAGE, MADV_DONTNEED, 0), -EINVAL);
		EQ(call(SYS_madvise, (long)p, PAGE, 1000, 0), -EINVAL);
		EQ(call(SYS_mremap, (long)p + 1, PAGE, PAGE, 0), -EINVAL);
		EQ(call(SYS_mremap, (long)p, PAGE, 0, 0), -EINVAL);
		EQ(call(SYS_mremap, (long)p, PAGE, PAGE, 64), -EINVAL);
		EQ(call(SYS_mremap, (long)p, PAGE, 3 * PAGE, 0), -ENOMEM);
		EQ(call(SYS_munmap, (long)p, 2 * PAGE, 0, 0), 0);
		EQ(call(SYS_mprotect, (long)p, PAGE, PROT_READ, 0), -ENOMEM);
		EQ(call(SYS_madvise, (long)p, PAGE, MADV_DONTNEED, 0), -ENOMEM);
		EQ(call(SYS_mremap, (long)p, PAGE, 2 * PAGE, MREMAP_MAYMOVE), -EFAULT);
	}
}

CHECK(contents_follow)
{
	warm_up();
	for (int i = 0; i < 20; i++) {
		char *p = pages(2);
		strcpy(p, "first");
		strcpy(p + PAGE, "second");
		long moved = call(SYS_mremap, (long)p, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
		EXPECT(moved > 0);
		p = (char *)moved;
		STREQ(p, "first");
		STREQ(p + PAGE, "second");
		EQ(p[63 * PAGE], 0);
		EQ(call(SYS_madvise, (long)p, PAGE, MADV_DONTNEED, 0), 0);
		EQ(*p, 0);
		STREQ(p + PAGE, "second");
		EQ(call(SYS_mremap, (long)p, 64 * PAGE, PAGE, 0), moved);
		STREQ(shown(p + PAGE), "");
		EQ(call(SYS_munmap, moved, PAGE, 0, 0), 0);
	}
}

/* Below what programs are given there is room for a hint, and it is taken. */
CHECK(hints)
{
	warm_up();
	char *p = pages(8);
	EQ(call(SYS_munmap, (long)p, 8 * PAGE, 0, 0), 0);
	EQ(map((long)p + 2 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS), (long)p + 2 * PAGE);
	long other = map((long)p + 2 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
	EXPECT(other > 0 && other != (long)p + 2 * PAGE);
	long low = map(8, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
	EXPECT(low >= 0x10000 && low % PAGE == 0);
}

static void limit(int resource, rlim_t bytes)
{
	struct rlimit both;
	OK(getrlimit(resource, &both));
	both.rlim_cur = bytes;
	OK(setrlimit(resource, &both));
}

/* Bytes of /proc/self/statm's first (all) or sixth (data) field. */
static long used(int field)
{
	char text[256];
	read_file("/proc/self/statm", text, sizeof text);
	char *at = text;
	long value = 0;
	for (int i = 0; i < field; i++)
		value = strtol(at, &at, 10);
	return value * PAGE;
}

enum { MIB = 1 << 20 };

CHECK(address_space_is_limited_before_and_after)
{
	for (int round = 0; round < 2; round++) {
		limit(RLIMIT_AS, used(1) + 8 * MIB);
		EQ(map(0, 64 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS), -ENOMEM);
		long at = map(0, 4 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
		EXPECT(at > 0);
		EQ(call(SYS_mremap, at, 4 * MIB, 64 * MIB, MREMAP_MAYMOVE), -ENOMEM);
		limit(RLIMIT_AS, RLIM_INFINITY);
		warm_up();
	}
}

CHECK(data_is_limited_when_patched)
{
	warm_up();
	limit(RLIMIT_DATA, used(6) + 8 * MIB);
	EQ(map(0, 64 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS), -ENOMEM);
	long at = map(0, 64 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
	EXPECT(at > 0);
	at = map(0, 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
	EXPECT(at > 0);
	EQ(call(SYS_mremap, at, 4 * MIB, 64 * MIB, MREMAP_MAYMOVE), -ENOMEM);
}

/* Limits are inherited, and can be set for another process. */
CHECK(limits_of_children_and_from_outside)
{
	warm_up();
	struct gate ready = gate_new(), set = gate_new();
	CHILD(outside)
	{
		EXPECT(map(0, 64 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS) > 0);
		gate_open(ready);
		gate_wait(set);
		EQ(map(0, 64 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS), -ENOMEM);
	}
	gate_wait(ready);
	struct rlimit tight = { 16 * MIB, RLIM_INFINITY };
	OK(prlimit(outside, RLIMIT_AS, &tight, NULL));
	gate_open(set);
	REAP(outside);
	limit(RLIMIT_AS, used(1) + 8 * MIB);
	CHILD(inherits)
	{
		EQ(map(0, 64 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS), -ENOMEM);
	}
	REAP(inherits);
}

/* What is unmapped is locked no more, which makes room for other pages. */
CHECK(what_is_locked_is_counted)
{
	if (geteuid() == 0)
		OK(setresuid(1000, 1000, 1000));
	warm_up();
	limit(RLIMIT_MEMLOCK, 4 * PAGE);
	char *p = pages(4), *q = pages(2);
	EQ(call(SYS_mlock, (long)p, 4 * PAGE, 0, 0), 0);
	EQ(call(SYS_mlock, (long)q, 2 * PAGE, 0, 0), -ENOMEM);
	EQ(call(SYS_munmap, (long)p, 2 * PAGE, 0, 0), 0);
	EQ(call(SYS_mlock, (long)q, 2 * PAGE, 0, 0), 0);
	EQ(call(SYS_munmap, (long)q, 2 * PAGE, 0, 0), 0);
	EQ(syscall(SYS_mlockall, MCL_FUTURE), 0);
	pages(2);
	EQ(map(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS), -EAGAIN);
}

/* The code of this very program, and of what was called most, is taken away. */
CHECK(text_can_be_changed_and_go)
{
	warm_up();
	char *text = (char *)((long)call & -PAGE);
	EQ(call(SYS_mprotect, (long)text, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, 0), 0);
	STREQ(shown(text), "rwxp");
	warm_up();
	EQ(call(SYS_mprotect, (long)text, PAGE, PROT_READ | PROT_EXEC, 0), 0);
	warm_up();
	CHILD(without)
	{
		/* Nothing is there to come back to. */
		call(SYS_munmap, (long)text, PAGE, 0, 0);
		_exit(1);
	}
	EQ(wait_exit(without), 128 + SIGSEGV);
	CHILD(unreadable)
	{
		call(SYS_mprotect, (long)text, PAGE, PROT_NONE, 0);
		_exit(1);
	}
	EQ(wait_exit(unreadable), 128 + SIGSEGV);
	warm_up();
}

/* Code that is made, run, thrown away and made again at the same place. */
CHECK(code_made_at_run_time)
{
	static const unsigned char code[] = { 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3 };
	pid_t self = getpid();
	warm_up();
	for (int i = 0; i < 40; i++) {
		char *p = pages(1);
		memcpy(p, code, sizeof code);
		EQ(call(SYS_mprotect, (long)p, PAGE, PROT_READ | PROT_EXEC, 0), 0);
		for (int n = 0; n < 20; n++)
			EQ(((int (*)(void))p)(), self);
		EQ(call(SYS_mprotect, (long)p, PAGE, PROT_READ | PROT_WRITE, 0), 0);
		memset(p, 0xcc, PAGE);
		EQ(call(SYS_munmap, (long)p, PAGE, 0, 0), 0);
	}
}

static void *maps_much(void *arg)
{
	for (int i = 0; i < 2000; i++) {
		char *p = pages(2);
		p[PAGE] = 1;
		EQ(call(SYS_munmap, (long)p, PAGE, 0, 0), 0);
		EQ(p[PAGE], 1);
		EQ(call(SYS_munmap, (long)p + PAGE, PAGE, 0, 0), 0);
	}
	return arg;
}

CHECK(threads_and_forks_at_once)
{
	pthread_t threads[3];
	for (int i = 0; i < 3; i++)
		EQ(pthread_create(&threads[i], NULL, maps_much, NULL), 0);
	for (int i = 0; i < 20; i++) {
		CHILD(child)
			warm_up();
		REAP(child);
	}
	for (int i = 0; i < 3; i++)
		EQ(pthread_join(threads[i], NULL), 0);
}

/* A read into memory that another thread takes away gives EFAULT or what was there, and no more. */
static void *takes_away(void *arg)
{
	char **at = arg;
	for (int i = 0; i < 500; i++) {
		char *p = pages(1);
		__atomic_store_n(at, p, __ATOMIC_SEQ_CST);
		sched_yield();
		EQ(call(SYS_munmap, (long)p, PAGE, 0, 0), 0);
	}
	__atomic_store_n(at, NULL, __ATOMIC_SEQ_CST);
	return NULL;
}

CHECK(memory_that_goes_during_a_call)
{
	static char *at = (char *)1;
	pthread_t thread;
	int zero = OK(open("/dev/zero", O_RDONLY));
	EQ(pthread_create(&thread, NULL, takes_away, &at), 0);
	for (char *p; (p = __atomic_load_n(&at, __ATOMIC_SEQ_CST));) {
		ssize_t n = read(zero, p, PAGE);
		/* Or the part that was moved before it went. */
		EXPECT((n > 0 && n <= PAGE) || (n == -1 && errno == EFAULT));
	}
	EQ(pthread_join(thread, NULL), 0);
}

/* A signal that comes at any moment of such a call. */
static volatile int alarms;

static void on_alarm(int sig)
{
	(void)sig;
	alarms++;
}

CHECK(signals_between)
{
	on_signal_flags(SIGALRM, on_alarm, SA_RESTART);
	struct itimerval often = { .it_interval = { 0, 500 }, .it_value = { 0, 500 } };
	OK(setitimer(ITIMER_REAL, &often, NULL));
	while (alarms < 200)
		warm_up();
}
