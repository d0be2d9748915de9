/* Floods of signals: to blocked and running processes, nested, from the fastest timers, and queued to the limit. */
#include "hostile.h"
#include <sys/time.h>
#include <time.h>

static volatile sig_atomic_t hits;

static void count(int sig)
{
	(void)sig;
	hits++;
}

static void handle(int sig, int flags)
{
	struct sigaction sa = { .sa_handler = count, .sa_flags = flags };
	NEED(sigaction(sig, &sa, NULL) == 0);
}

static void many_senders(void)
{
	int p[2];
	NEED(pipe(p) == 0);
	pid_t target = fork();
	NEED(target >= 0);
	if (target == 0) {
		char c;
		close(p[1]);
		for (int sig = SIGRTMIN; sig < SIGRTMIN + 8; sig++)
			handle(sig, SA_RESTART);
		/* Not SA_NODEFER: handlers that come faster than they end would nest until the stack is full. */
		handle(SIGUSR1, SA_RESTART);
		while (read(p[0], &c, 1) > 0)
			;
		_exit(hits > 0 ? 0 : 1);
	}
	close(p[0]);
	pid_t senders[8];
	for (int i = 0; i < 8; i++) {
		senders[i] = fork();
		NEED(senders[i] >= 0);
		if (senders[i] == 0) {
			char path[64], line[256];
			snprintf(path, sizeof path, "/proc/%d/stat", target);
			/* Once it is blocked in read its handlers are there. */
			do {
				int fd = open(path, O_RDONLY);
				ssize_t n = read(fd, line, sizeof line - 1);
				close(fd);
				line[n > 0 ? n : 0] = 0;
			} while (strstr(line, ") R"));
			for (int k = 0; k < 2000; k++)
				kill(target, k % 4 ? SIGRTMIN + i : SIGUSR1);
			_exit(0);
		}
	}
	for (int i = 0; i < 8; i++)
		NEED(reap(senders[i]) == 0);
	close(p[1]);
	NEED(reap(target) == 0);
}

static void start_timers(long ns)
{
	struct itimerspec every = { { 0, ns }, { 0, ns } };
	timer_t timer;
	handle(SIGALRM, SA_RESTART);
	for (int i = 0; i < 8; i++) {
		NEED(timer_create(CLOCK_MONOTONIC, NULL, &timer) == 0);
		NEED(timer_settime(timer, 0, &every, NULL) == 0);
	}
}

static void fast_timers(void)
{
	pid_t pid = fork();
	NEED(pid >= 0);
	if (pid == 0) {
		start_timers(1000000);
		while (hits < 200)
			getppid();
		_exit(0);
	}
	NEED(reap(pid) == 0);
	/* So fast that the process may do nothing but run handlers: it must still be possible to end it. */
	pid = fork();
	NEED(pid >= 0);
	if (pid == 0) {
		start_timers(1);
		for (;;)
			getppid();
	}
	usleep(200000);
	NEED(kill(pid, SIGKILL) == 0);
	NEED(WTERMSIG(reap(pid)) == SIGKILL);
}

static void queue_to_the_limit(void)
{
	set_limit(RLIMIT_SIGPENDING, 3000);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	NEED(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	int n = 0;
	while (sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = n }) == 0)
		NEED(++n < 100000);
	NEED(errno == EAGAIN);
	/* What was queued comes in order. */
	for (int i = 0; i < n; i++) {
		siginfo_t info;
		NEED(sigwaitinfo(&set, &info) == SIGRTMIN && info.si_value.sival_int == i);
	}
}

static void stops_and_continues(void)
{
	pid_t pid = fork();
	NEED(pid >= 0);
	if (pid == 0)
		for (;;)
			getppid();
	for (int i = 0; i < 2000; i++) {
		NEED(kill(pid, SIGSTOP) == 0);
		NEED(kill(pid, SIGCONT) == 0);
	}
	NEED(kill(pid, SIGKILL) == 0);
	int status;
	do
		NEED(waitpid(pid, &status, WUNTRACED | WCONTINUED) == pid);
	while (!WIFSIGNALED(status));
}

int main(void)
{
	many_senders();
	fast_timers();
	queue_to_the_limit();
	stops_and_continues();
	puts("ok signal_flood");
	return 0;
}
