/*
 * Blocks every host signal by a forged frame, through the runtime's own sigreturn, and then makes trouble: such a
 * process, and any that needs its siblings to listen, can still be ended; and calls still end it or work.
 */
#include "jump.h"
#include <sys/ucontext.h>

static uint64_t site;
static void *stack, *second_stack;
static volatile bool is_deaf;

/* Goes on at the function with all signals blocked, on a stack of its own. */
static void go_deaf(void (*to)(void), void *on)
{
	ucontext_t *context = calloc(1, 4096);
	char *top = (char *)on + 0xc000;
	memset(&context->uc_sigmask, 0xff, 8);
	context->uc_mcontext.gregs[REG_RIP] = (greg_t)to;
	context->uc_mcontext.gregs[REG_RSP] = (greg_t)(top - 8);
	context->uc_mcontext.gregs[REG_EFL] = 0x202;
	/* cs, gs, fs, ss */
	context->uc_mcontext.gregs[REG_CSGSFS] = 0x33 | 0x2bul << 48;
	uint64_t rax = SYS_rt_sigreturn;
	__asm__ volatile("mov %0, %%rsp; jmp *%1" ::"r"(context), "r"(site), "a"(rax) : "memory");
	__builtin_unreachable();
}

static void spin(void)
{
	is_deaf = true;
	for (;;)
		__asm__ volatile("" ::: "memory");
}

static void call_and_spin(void)
{
	is_deaf = true;
	for (;;)
		__asm__ volatile("syscall" ::"a"(SYS_getppid) : "rcx", "r11", "memory");
}

static void fault(void)
{
	is_deaf = true;
	*(volatile int *)8 = 1;
}

static void divide(void)
{
	is_deaf = true;
	__asm__ volatile("xor %%ecx, %%ecx; mov $1, %%eax; cltd; idivl %%ecx" ::: "eax", "ecx", "edx");
}

static void (*const endings[])(void) = { spin, call_and_spin, fault, divide };

static void deaf(uint64_t which)
{
	go_deaf(endings[which], stack);
}

/* A place that has never made a call: the supervisor may want to hold all threads for it. */
static void call_from_a_new_place(void)
{
	static const unsigned char code[] = { 0xb8, 0x6e, 0, 0, 0, 0x0f, 0x05, 0xc3 }; /* getppid */
	unsigned char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(page, code, sizeof code);
	mprotect(page, PAGE, PROT_READ | PROT_EXEC);
	for (int i = 0; i < 3; i++)
		((int (*)(void))page)();
}

static void *be_deaf(void *arg)
{
	go_deaf(spin, second_stack);
	return arg;
}

/* A deaf thread spins beside one that needs it to stop. */
static void deaf_sibling(uint64_t which)
{
	pthread_t thread;
	static char *const arguments[] = { "true", NULL };
	NEED(pthread_create(&thread, NULL, be_deaf, NULL) == 0);
	while (!is_deaf)
		sched_yield();
	switch (which) {
	case 0:
		_exit(0);
	case 1:
		execv("/attack", arguments);
		execv("/bin/true", arguments);
		break;
	case 2:
		call_from_a_new_place();
		break;
	case 3:
		fault();
		break;
	case 4:
		kill(getpid(), SIGTERM);
		break;
	case 5:
		for (int i = 0; i < 3; i++) {
			pid_t pid = fork();
			if (pid == 0)
				_exit(0);
			if (pid > 0)
				waitpid(pid, NULL, 0);
		}
		break;
	default:
		kill(getpid(), SIGSTOP);
	}
	usleep(10000);
}

/* Frames full of random bytes, for the host this time. */
static void random_frame(uint64_t seed)
{
	static uint64_t area[2048] __attribute__((aligned(64)));
	random_state = seed * 77 + 5;
	for (int i = 0; i < 2048; i++)
		area[i] = random_below(3) ? random_u64() : PLATFORM_BASE + random_below(1 << 16);
	__asm__ volatile("mov %0, %%rsp; jmp *%1" ::"r"(area + random_below(1024)), "r"(site), "a"(SYS_rt_sigreturn)
			 : "memory");
}

/* The alternate stack that the runtime's handlers run on, somewhere else. */
static void move_signal_stack(uint64_t which)
{
	static const stack_t stacks[] = {
		{ .ss_sp = (void *)PLATFORM_BASE, .ss_size = 1 << 16 },
		{ .ss_sp = (void *)0x10000, .ss_size = 1 << 16 },
		{ .ss_sp = (void *)(PRIVATE_BASE + PRIVATE_STRIDE), .ss_size = 1 << 16 },
		{ .ss_flags = SS_DISABLE },
	};
	stack_t to = which < 4 ? stacks[which] : (stack_t){ .ss_sp = second_stack, .ss_size = 1 << 16 };
	native_call(site, stack, SYS_sigaltstack, (uint64_t)&to, 0, 0, 0, 0, 0);
	call_from_a_new_place();
	fault();
}

/* Signals of the guest's own, as fast as it can, to processes that are in the runtime most of the time. */
static void flood(uint64_t arg)
{
	signal(SIGUSR1, SIG_IGN);
	int ready[2];
	char c;
	NEED(pipe(ready) == 0);
	pid_t target = fork_tied();
	if (target == 0) {
		NEED(write(ready[1], "r", 1) == 1);
		for (;;)
			close(open("/etc/passwd", O_RDONLY));
	}
	/* One that is stopped before it is tied to us would stay. */
	NEED(read(ready[0], &c, 1) == 1);
	for (int i = 0; i < 3000; i++)
		kill(target, i % 3 ? SIGUSR1 : i % 2 ? SIGSTOP : SIGCONT);
	kill(target, SIGKILL);
	NEED(WTERMSIG(reap(target)) == SIGKILL);
	(void)arg;
}

/* Once it says that it is deaf it must end by a kill, which settle() sees to; it may also have ended before. */
int main(int argc, char **argv)
{
	bool platform = begin(argc, argv, "host_signals");
	try_all("a flood of signals", flood, 3);
	if (platform) {
		find_sites();
		stack = new_stack();
		second_stack = new_stack();
		for (int k = 0; k < 3; k++) {
			site = sites[k * (site_count - 1) / 2];
			try_all("deaf", deaf, 4);
			try_all("a deaf sibling", deaf_sibling, 7);
			try_all("a random frame", random_frame, 40);
			try_all("another signal stack", move_signal_stack, 5);
		}
	}
	return end(platform);
}
