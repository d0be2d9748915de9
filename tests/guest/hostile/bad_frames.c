/* rt_sigreturn(2) from frames full of random bytes and from real frames with single fields spoilt. */
#include "hostile.h"
#include <sys/ucontext.h>

static void spoil(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	(void)sig;
	(void)info;
	uint64_t value = random_below(3) ? random_u64() : random_u64() & 0xffff;
	switch (random_below(6)) {
	case 0:
		uc->uc_mcontext.gregs[random_below(23)] = value;
		break;
	case 1:
		uc->uc_mcontext.gregs[REG_CSGSFS] = value;
		break;
	case 2:
		uc->uc_mcontext.gregs[REG_EFL] = value;
		break;
	case 3:
		uc->uc_mcontext.fpregs = (void *)value;
		break;
	case 4: {
		/* The extended state: its header, its sizes, its features. */
		uint64_t *area = (uint64_t *)uc->uc_mcontext.fpregs;
		area[random_below(100)] = value;
		break;
	}
	default:
		uc->uc_flags = value;
		uc->uc_link = (void *)value;
		memset(&uc->uc_sigmask, 0xff, 8);
		uc->uc_stack.ss_size = value;
		uc->uc_stack.ss_flags = value;
	}
}

static void from_random_bytes(void)
{
	static uint64_t area[2048] __attribute__((aligned(64)));
	for (int i = 0; i < 2048; i++)
		area[i] = random_u64();
	__asm__ volatile("mov %0, %%rsp; mov $15, %%eax; syscall; ud2" ::"r"(area + random_below(1024)) : "memory");
}

int main(int argc, char **argv)
{
	random_state = argc > 1 ? strtoull(argv[1], NULL, 0) : 77;
	struct rlimit core = { 0, 0 };
	setrlimit(RLIMIT_CORE, &core);
	for (int i = 0; i < 400; i++) {
		random_u64();
		pid_t pid = fork();
		NEED(pid >= 0);
		if (pid == 0) {
			alarm(5);
			if (i % 4 == 0)
				from_random_bytes();
			struct sigaction sa = { .sa_sigaction = spoil, .sa_flags = SA_SIGINFO };
			sigaction(SIGUSR1, &sa, NULL);
			for (int k = 0; k < 5; k++)
				kill(getpid(), SIGUSR1);
			_exit(0);
		}
		/* A spoilt context may do anything but outlive this; a stray jump can stop it only by a signal or exit. */
		reap(pid);
	}
	puts("ok bad_frames");
	return 0;
}
