/*
 * Forks without end. By default the user's process limit (set here, as an unprivileged user) holds it;
 * with --unbounded nothing does, for a guest whose machine must hold it. Ends after a second either way.
 */
#include "hostile.h"

static void bomb(void)
{
	signal(SIGCHLD, SIG_IGN);
	for (;;)
		fork();
}

int main(int argc, char **argv)
{
	pid_t leader = fork();
	NEED(leader >= 0);
	if (leader == 0) {
		NEED(setpgid(0, 0) == 0);
		if (!has_option(argc, argv, "--unbounded")) {
			if (geteuid() == 0)
				NEED(setresuid(54321, 54321, 54321) == 0);
			set_limit(RLIMIT_NPROC, 64);
		}
		bomb();
	}
	setpgid(leader, leader);
	sleep(1);
	/* One signal to the group must reach every process that is being made meanwhile. */
	NEED(kill(-leader, SIGKILL) == 0);
	NEED(WIFSIGNALED(reap(leader)));
	/* As a guest this may be the first process, which has inherited them all. */
	while (kill(-leader, 0) == 0) {
		waitpid(-1, NULL, WNOHANG);
		sched_yield();
	}
	puts("ok fork_bomb");
	return 0;
}
