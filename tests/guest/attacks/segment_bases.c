/*
 * Sets %fs and %gs by instruction and goes on making calls: they work, and the bases stay. With the platform's own
 * addresses in them anything may happen, to this process alone.
 */
#include "attack.h"
#include <asm/prctl.h>
#include <sys/auxv.h>
#include <sys/ucontext.h>

#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE 2
#endif

static bool by_instruction(void)
{
	return getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE;
}

static uint64_t read_gs(void)
{
	uint64_t base = 0;
	__asm__ volatile("rdgsbase %0" : "=r"(base));
	return base;
}

static void write_gs(uint64_t base)
{
	__asm__ volatile("wrgsbase %0" ::"r"(base) : "memory");
}

static volatile uint64_t gs_in_handler;

static void handler(int sig)
{
	(void)sig;
	gs_in_handler = read_gs();
}

/* Who has set none may find the platform's own. */
static bool is_base(uint64_t got, uint64_t base)
{
	return got == base || (base == 0 && got >= PLATFORM_BASE);
}

#define SAME(base) \
	do { \
		if (!is_base(read_gs(), base)) { \
			fprintf(stderr, "%s:%d: the base is %#lx, not %#lx\n", __FILE__, __LINE__, read_gs(), (uint64_t)(base)); \
			_exit(1); \
		} \
	} while (0)

static void *thread_body(void *base)
{
	/* A new thread has its maker's. */
	SAME((uint64_t)base);
	write_gs(0x1000);
	getppid();
	SAME(0x1000ul);
	return NULL;
}

static void work_with(uint64_t base)
{
	pthread_t thread;
	char c;
	int p[2];
	write_gs(base);
	for (int i = 0; i < 100; i++) {
		NEED(getppid() == 1 || getppid() > 1);
		SAME(base);
	}
	NEED(pipe(p) == 0 && write(p[1], "x", 1) == 1 && read(p[0], &c, 1) == 1);
	SAME(base);
	NEED(close(open("/etc/passwd", O_RDONLY)) == 0);
	SAME(base);
	signal(SIGUSR1, handler);
	kill(getpid(), SIGUSR1);
	NEED(is_base(gs_in_handler, base));
	SAME(base);
	pid_t pid = fork();
	if (pid == 0) {
		SAME(base);
		_exit(0);
	}
	NEED(reap(pid) == 0);
	SAME(base);
	NEED(pthread_create(&thread, NULL, thread_body, (void *)base) == 0 && pthread_join(thread, NULL) == 0);
	SAME(base);
}

/* By arch_prctl, as a program without the instructions does. */
static void by_call(uint64_t base)
{
	uint64_t got = 1;
	NEED(syscall(SYS_arch_prctl, ARCH_SET_GS, base) == 0);
	NEED(syscall(SYS_arch_prctl, ARCH_GET_GS, &got) == 0 && got == base);
	for (int i = 0; i < 20; i++)
		getppid();
	NEED(syscall(SYS_arch_prctl, ARCH_GET_GS, &got) == 0 && got == base);
}

/* A null selector leaves a base of zero, as on hosts by Intel; anyhow calls go on. */
static void by_selector(uint64_t selector)
{
	__asm__ volatile("mov %0, %%gs" ::"r"((int)selector));
	for (int i = 0; i < 20; i++)
		NEED(getppid() > 0);
	close(open("/etc/passwd", O_RDONLY));
}

/* %fs is the C library's: raw calls only, and back. */
static void fs_base(uint64_t base)
{
	uint64_t old, now;
	long result = 0;
	__asm__ volatile("rdfsbase %0" : "=r"(old));
	__asm__ volatile("wrfsbase %0" ::"r"(base) : "memory");
	for (int i = 0; i < 50; i++)
		__asm__ volatile("syscall" : "=a"(result) : "a"(SYS_getppid) : "rcx", "r11", "memory");
	__asm__ volatile("rdfsbase %0" : "=r"(now));
	__asm__ volatile("wrfsbase %0" ::"r"(old) : "memory");
	NEED(result > 0 && now == base);
}

/* The platform's own addresses, and others of the upper half that belongs to it. */
static const uint64_t hostile[] = {
	PLATFORM_BASE, SHARED_BASE, SHARED_BASE + PAGE, PRIVATE_BASE, PRIVATE_BASE + PRIVATE_STRIDE,
	PRIVATE_BASE + 8, PRIVATE_BASE + 4095 * PRIVATE_STRIDE, 0x7fffffffe000, 0x7fffffffffff, 0x7fff80000000,
};

/* The platform's own: another's block, a page, code, nothing. */
static void hostile_gs(uint64_t which)
{
	write_gs(hostile[which]);
	for (int i = 0; i < 50; i++)
		getppid();
	close(open("/etc/passwd", O_RDONLY));
	fork();
	_exit(0);
}

static void *be_called(void *arg)
{
	for (;;)
		getppid();
	return arg;
}

/* Two threads on one block. */
static void shared_block(uint64_t which)
{
	pthread_t thread;
	NEED(pthread_create(&thread, NULL, be_called, NULL) == 0);
	usleep(1000);
	write_gs(hostile[which]);
	for (int i = 0; i < 2000; i++)
		close(open("/etc/passwd", O_RDONLY));
}

int main(int argc, char **argv)
{
	static const uint64_t bases[] = { 0, 1, 0x1000, 0x7ffe00000000, 0x7ffeffffffff, 0x123456789ab0, 0xffff800000000000, 0x7fff };
	bool platform = begin(argc, argv, "segment_bases");
	for (size_t i = 0; i < sizeof bases / sizeof bases[0]; i++) {
		if (by_instruction()) {
			NEED(finish_attack("%gs", work_with, bases[i]) == 0);
			NEED(finish_attack("%fs", fs_base, bases[i]) == 0);
		}
		if (bases[i] < PLATFORM_BASE)
			NEED(finish_attack("arch_prctl", by_call, bases[i]) == 0);
	}
	for (uint64_t i = 0; i < 4; i++)
		NEED(finish_attack("a selector", by_selector, i) == 0);
	NEED(finish_attack("a selector", by_selector, 0x2b) == 0);
	if (by_instruction()) {
		try_all("a hostile %gs", hostile_gs, sizeof hostile / sizeof hostile[0]);
		try_all("a shared block", shared_block, sizeof hostile / sizeof hostile[0]);
	}
	return end(platform);
}
