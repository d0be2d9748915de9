/* Threads and processes that never make a system call, ended from outside and by their own timers. */
#include "hostile.h"

static void *spin(void *arg)
{
	for (;;)
		__asm__ volatile("" ::: "memory");
	return arg;
}

int main(int argc, char **argv)
{
	bool forever = has_option(argc, argv, "--forever");
	pid_t pids[4];
	for (int i = 0; i < 4; i++) {
		pids[i] = fork();
		NEED(pids[i] >= 0);
		if (pids[i] == 0) {
			pthread_t thread;
			/* The odd ones stop by themselves. */
			if (i % 2 && !forever)
				alarm(1);
			NEED(pthread_create(&thread, NULL, spin, NULL) == 0);
			spin(NULL);
		}
	}
	NEED(WTERMSIG(reap(pids[1])) == SIGALRM);
	NEED(WTERMSIG(reap(pids[3])) == SIGALRM);
	for (int i = 0; i < 4; i += 2) {
		int status;
		NEED(kill(pids[i], SIGSTOP) == 0);
		NEED(waitpid(pids[i], &status, WUNTRACED) == pids[i] && WIFSTOPPED(status));
		NEED(kill(pids[i], SIGKILL) == 0);
		NEED(WTERMSIG(reap(pids[i])) == SIGKILL);
	}
	puts("ok spinner");
	return 0;
}
