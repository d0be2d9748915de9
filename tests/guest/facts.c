/* What a program may be told without a system call of its own: ids. */
#include "check.h"
#include <pthread.h>
#include <setjmp.h>
#include <sys/time.h>

enum { OFTEN = 300 };

/* Each site is called often: the first calls of a site and those after it was patched must agree. */
#define OFTEN_EQ(call, want) \
	do { \
		for (int i_ = 0; i_ < OFTEN; i_++) \
			EQ(call, want); \
	} while (0)

static long ask(long nr)
{
	return syscall(nr);
}

CHECK(ids_stay_the_same_over_many_calls)
{
	static const long calls[] = { SYS_getpid, SYS_gettid,  SYS_getppid, SYS_getuid,
				      SYS_geteuid, SYS_getgid, SYS_getegid };
	for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
		long first = ask(calls[i]);
		OFTEN_EQ(ask(calls[i]), first);
	}
	OFTEN_EQ(ask(SYS_getpid), getpid());
}

CHECK(upper_half_of_the_number_is_ignored)
{
	pid_t self = getpid();
	for (int i = 0; i < OFTEN; i++) {
		long got;
		__asm__ volatile("syscall" : "=a"(got) : "a"(0x7700000000L | SYS_getpid) : "rcx", "r11", "memory");
		EQ(got, self);
		__asm__ volatile("syscall" : "=a"(got) : "a"(0xffffff00L | SYS_getpid) : "rcx", "r11", "memory");
		EQ(got, -ENOSYS);
	}
}

CHECK(registers_and_flags_survive)
{
	for (int i = 0; i < OFTEN; i++) {
		unsigned long after, hidden, rax, rcx, r11, site;
		__asm__ volatile("movq $0x11223344, -64(%%rsp)\n\t" /* in the red zone */
				 "lea 1f(%%rip), %[site]\n\t"
				 "mov $39, %%eax\n\t"
				 "syscall\n"
				 "1:\n\t"
				 "mov -64(%%rsp), %[hidden]"
				 : "=&a"(rax), "=&c"(rcx), [hidden] "=&r"(hidden), [site] "=&r"(site)
				 :
				 : "r11", "memory", "cc");
		__asm__ volatile("lea -256(%%rsp), %%rsp\n\t"
				 "xor %%eax, %%eax\n\t"
				 "sub $1, %%rax\n\t" /* carry, sign, parity */
				 "mov $186, %%eax\n\t"
				 "syscall\n\t"
				 "pushfq\n\t"
				 "pop %1\n\t"
				 "mov %%r11, %0\n\t"
				 "lea 256(%%rsp), %%rsp"
				 : "=&r"(r11), "=&r"(after)
				 :
				 : "rax", "rcx", "r11", "memory", "cc");
		EQ(rax, (unsigned long)getpid());
		EQ(rcx, site);
		EQ(hidden, 0x11223344UL);
		EQ(r11, after);
		EQ(after & 0x8d5, 0x95UL);
	}
}

/* A grandchild whose parent ends sees another parent, even in the middle of asking. */
CHECK(getppid_after_reparenting)
{
	EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	pid_t self = getpid();
	struct gate known = gate_new(), gone = gate_new();
	CHILD(middle) {
		pid_t parent = getpid();
		CHILD(grandchild) {
			OFTEN_EQ(ask(SYS_getppid), parent);
			gate_open(known);
			char byte;
			EQ(read(gone.fd[0], &byte, 1), 1);
			OFTEN_EQ(ask(SYS_getppid), self);
		}
		char byte;
		EQ(read(known.fd[0], &byte, 1), 1);
		NE(grandchild, 0);
	}
	REAP(middle);
	gate_open(gone);
	int status;
	EXPECT(OK(wait(&status)) > 0);
	EQ(status, 0);
}

CHECK(reparented_while_asking)
{
	EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	pid_t self = getpid();
	CHILD(middle) {
		CHILD(grandchild) {
			while (ask(SYS_getppid) != self)
				;
		}
		NE(grandchild, 0);
	}
	REAP(middle);
	int status;
	EXPECT(OK(wait(&status)) > 0);
	EQ(status, 0);
}

static void *own_ids(void *arg)
{
	pid_t *got = arg;
	for (int i = 0; i < OFTEN; i++) {
		got[0] = (pid_t)ask(SYS_getpid);
		got[1] = (pid_t)ask(SYS_gettid);
	}
	return NULL;
}

CHECK(threads_have_ids_of_their_own)
{
	pid_t got[8][2];
	pthread_t threads[8];
	for (int i = 0; i < 8; i++)
		EQ(pthread_create(&threads[i], NULL, own_ids, got[i]), 0);
	for (int i = 0; i < 8; i++) {
		EQ(pthread_join(threads[i], NULL), 0);
		EQ(got[i][0], getpid());
		NE(got[i][1], getpid());
		for (int k = 0; k < i; k++)
			NE(got[i][1], got[k][1]);
	}
}

static void *becomes_alice(void *arg)
{
	EQ(syscall(SYS_setresuid, 1000, 1001, 1002), 0);
	OFTEN_EQ(ask(SYS_getuid), 1000);
	OFTEN_EQ(ask(SYS_geteuid), 1001);
	return arg;
}

/* The system call changes the calling thread alone. */
CHECK(setuid_of_one_thread)
{
	need_root();
	OFTEN_EQ(ask(SYS_getuid), 0);
	pthread_t thread;
	EQ(pthread_create(&thread, NULL, becomes_alice, NULL), 0);
	EQ(pthread_join(thread, NULL), 0);
	OFTEN_EQ(ask(SYS_getuid), 0);
	OFTEN_EQ(ask(SYS_geteuid), 0);
	EQ(syscall(SYS_setresgid, 7, 8, 9), 0);
	OFTEN_EQ(ask(SYS_getgid), 7);
	OFTEN_EQ(ask(SYS_getegid), 8);
}

CHECK(forked_children_ask_anew)
{
	pid_t self = getpid();
	OFTEN_EQ(ask(SYS_getpid), self);
	for (int i = 0; i < 4; i++) {
		struct gate up = gate_new();
		CHILD(pid) {
			OFTEN_EQ(ask(SYS_getppid), self);
			pid_t mine = (pid_t)ask(SYS_getpid);
			OFTEN_EQ(ask(SYS_gettid), mine);
			EQ(write(up.fd[1], &mine, sizeof mine), sizeof mine);
		}
		pid_t mine;
		EQ(read(up.fd[0], &mine, sizeof mine), sizeof mine);
		EQ(mine, pid);
		REAP(pid);
	}
	OFTEN_EQ(ask(SYS_getpid), self);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int signal)
{
	(void)signal;
	alarms++;
}

/* A signal reaches a thread that does nothing but ask. */
CHECK(signals_reach_who_only_asks)
{
	signal(SIGALRM, on_alarm);
	struct itimerval often = { .it_interval = { 0, 1000 }, .it_value = { 0, 1000 } };
	OK(setitimer(ITIMER_REAL, &often, NULL));
	pid_t self = getpid();
	while (alarms < 50)
		EQ(ask(SYS_getpid), self);
}

static sigjmp_buf back;

static void on_fault(int signal)
{
	siglongjmp(back, signal);
}

/* What is read for an answer cannot be changed, whatever is asked for. */
CHECK(no_address_above_the_programs_can_be_written)
{
	signal(SIGSEGV, on_fault);
	for (volatile unsigned long at = 0x7fff08000000UL; at < 0x7fff08004000UL; at += 4096) {
		unsigned char seen;
		if (mincore((void *)at, 4096, &seen) == 0)
			SKIP("cpu: memory of the program's own happens to lie there");
		EQ(mprotect((void *)at, 4096, PROT_READ | PROT_WRITE), -1);
		int caught = sigsetjmp(back, 1);
		if (!caught) {
			*(volatile char *)at = 1;
			FAIL("written at %#lx", at);
		}
		EQ(caught, SIGSEGV);
	}
	OFTEN_EQ(ask(SYS_getpid), getpid());
}
