/* Processes and threads that end in odd orders: leaders first, parents first, in the middle of exec, all at once. */
#include "hostile.h"

static void *pause_forever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static void *exit_thread(void *arg)
{
	syscall(SYS_exit, (long)arg);
	return NULL;
}

static void *exit_group(void *arg)
{
	_exit((long)arg);
}

static void *exec_false(void *arg)
{
	char *argv[] = { "false", NULL };
	execv("/bin/false", argv);
	return arg;
}

static void *kill_self(void *arg)
{
	kill(getpid(), SIGKILL);
	return arg;
}

static void *fault(void *arg)
{
	*(volatile int *)8 = 1;
	return arg;
}

static void *fork_and_exit(void *arg)
{
	pid_t pid = fork();
	if (pid == 0) {
		if (fork() == 0)
			_exit(1);
		_exit(2);
	}
	return arg;
}

static void *vfork_and_exit(void *arg)
{
	pid_t pid = vfork();
	if (pid == 0)
		_exit(3);
	return arg;
}

static void *(*const deeds[])(void *) = {
	pause_forever, exit_thread, exit_thread, fork_and_exit, vfork_and_exit, exit_group, exec_false, kill_self, fault,
};

static void start(void *(*deed)(void *))
{
	pthread_t thread;
	pthread_create(&thread, NULL, deed, (void *)(long)random_below(256));
}

/* One process: some threads with random deeds, and then a random end of its leader. */
static void chaos(void)
{
	unsigned threads = random_below(6);
	for (unsigned i = 0; i < threads; i++)
		start(deeds[random_below(sizeof deeds / sizeof deeds[0])]);
	switch (random_below(5)) {
	case 0:
		/* The leader goes, and a thread that surely ends the process stays. */
		start(exit_group);
		syscall(SYS_exit, 7);
		break;
	case 1:
		_exit(9);
	case 2:
		raise(SIGSTOP);
		_exit(9);
	case 3:
		exec_false(NULL);
		_exit(9);
	default:
		kill(getpid(), SIGTERM);
		_exit(9);
	}
}

int main(int argc, char **argv)
{
	int rounds = 150;
	random_state = argc > 1 ? strtoull(argv[1], NULL, 0) : 20250801;
	/* Orphans come here, so that all of them can be waited for. */
	NEED(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	for (int i = 0; i < rounds; i++) {
		random_u64();
		pid_t pid = fork();
		NEED(pid >= 0);
		if (pid == 0)
			chaos();
		int status;
		NEED(waitpid(pid, &status, WUNTRACED) == pid);
		if (WIFSTOPPED(status)) {
			kill(pid, random_below(2) ? SIGKILL : SIGCONT);
			NEED(waitpid(pid, &status, 0) == pid);
		}
		NEED(WIFEXITED(status) || WIFSIGNALED(status));
	}
	while (wait(NULL) > 0)
		;
	NEED(errno == ECHILD);
	puts("ok exit_orders");
	return 0;
}
