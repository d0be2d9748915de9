/* Stacks that overflow: with and without an alternate stack, in a thread, and by handlers that nest without end. */
#include "hostile.h"
#include <setjmp.h>

static sigjmp_buf jump;

static void jump_out(int sig)
{
	siglongjmp(jump, sig);
}

__attribute__((noinline)) static int recurse(int n)
{
	volatile char pad[1000];
	pad[0] = n;
	return n < 0 ? 0 : recurse(n + 1) + pad[0];
}

static void nest(int sig)
{
	volatile char pad[3000];
	pad[0] = sig;
	raise(pad[0]);
}

static void *recurse_in_thread(void *arg)
{
	recurse(0);
	return arg;
}

static void expect_death(void (*act)(void), int sig)
{
	pid_t pid = fork();
	NEED(pid >= 0);
	if (pid == 0) {
		act();
		_exit(0);
	}
	int status = reap(pid);
	NEED(WIFSIGNALED(status) && WTERMSIG(status) == sig);
}

static void plain(void)
{
	recurse(0);
}

static void in_thread(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, recurse_in_thread, NULL);
	pthread_join(thread, NULL);
}

static void nested_handlers(void)
{
	struct sigaction sa = { .sa_handler = nest, .sa_flags = SA_NODEFER };
	sigaction(SIGUSR1, &sa, NULL);
	raise(SIGUSR1);
}

static void handler_without_a_stack(void)
{
	struct sigaction sa = { .sa_handler = jump_out };
	sigaction(SIGSEGV, &sa, NULL);
	recurse(0);
}

int main(void)
{
	struct rlimit core = { 0, 0 };
	setrlimit(RLIMIT_CORE, &core);
	expect_death(plain, SIGSEGV);
	expect_death(in_thread, SIGSEGV);
	expect_death(nested_handlers, SIGSEGV);
	expect_death(handler_without_a_stack, SIGSEGV);
	stack_t ss = { .ss_sp = malloc(65536), .ss_size = 65536 };
	NEED(sigaltstack(&ss, NULL) == 0);
	struct sigaction sa = { .sa_handler = jump_out, .sa_flags = SA_ONSTACK };
	NEED(sigaction(SIGSEGV, &sa, NULL) == 0);
	for (volatile int i = 0; i < 20; i++)
		if (sigsetjmp(jump, 1) == 0) {
			recurse(0);
			NEED(false);
		}
	puts("ok deep_recursion");
	return 0;
}
