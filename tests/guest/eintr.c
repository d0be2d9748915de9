/* Interrupted calls: which fail with EINTR, which restart, and restart_syscall(2). See signal(7). */
#include "check.h"
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

static volatile sig_atomic_t hits;
static volatile int wake_fd = -1;

static void count(int sig)
{
	(void)sig;
	hits++;
}

/* A handler that also makes the interrupted call able to finish once it is restarted. */
static void count_and_feed(int sig)
{
	(void)sig;
	hits++;
	if (wake_fd >= 0 && write(wake_fd, "r", 1) != 1)
		abort();
}

/* A child that sends SIGUSR1 once this process is blocked in a call. */
static pid_t signal_when_blocked(void)
{
	pid_t self = getpid();
	CHILD(pid) {
		await_state(self, 'S');
		OK(kill(self, SIGUSR1));
	}
	return pid;
}

/* Runs a call that blocks, with a handler of these flags, and hands its errno (0: it succeeded). */
#define INTERRUPT(handler, flags, call) \
	({ \
		on_signal_flags(SIGUSR1, handler, flags); \
		pid_t sender_ = signal_when_blocked(); \
		errno = 0; \
		long long r_ = (long long)(call); \
		int e_ = r_ == -1 ? errno : 0; \
		REAP(sender_); \
		EQ(hits, 1); \
		e_; \
	})

CHECK(read_interrupted)
{
	int p[2];
	char c;
	OK(pipe(p));
	EQ(INTERRUPT(count, 0, read(p[0], &c, 1)), EINTR);
}

CHECK(read_restarted)
{
	int p[2];
	char c = 0;
	OK(pipe(p));
	wake_fd = p[1];
	EQ(INTERRUPT(count_and_feed, SA_RESTART, read(p[0], &c, 1)), 0);
	EQ(c, 'r');
}

CHECK(readv_restarted)
{
	int p[2];
	char c = 0;
	struct iovec v = { &c, 1 };
	OK(pipe(p));
	wake_fd = p[1];
	EQ(INTERRUPT(count_and_feed, SA_RESTART, readv(p[0], &v, 1)), 0);
	EQ(c, 'r');
}

CHECK(poll_never_restarts)
{
	int p[2];
	OK(pipe(p));
	struct pollfd pfd = { .fd = p[0], .events = POLLIN };
	EQ(INTERRUPT(count, SA_RESTART, poll(&pfd, 1, -1)), EINTR);
}

CHECK(select_never_restarts)
{
	int p[2];
	fd_set set;
	OK(pipe(p));
	FD_ZERO(&set);
	FD_SET(p[0], &set);
	EQ(INTERRUPT(count, SA_RESTART, select(p[0] + 1, &set, NULL, NULL, NULL)), EINTR);
}

CHECK(epoll_wait_never_restarts)
{
	struct epoll_event ev;
	int ep = OK(epoll_create1(0));
	EQ(INTERRUPT(count, SA_RESTART, epoll_wait(ep, &ev, 1, -1)), EINTR);
}

CHECK(nanosleep_interrupted_tells_the_rest)
{
	struct timespec long_time = { 1000, 0 }, rest = { 0, 0 };
	EQ(INTERRUPT(count, SA_RESTART, nanosleep(&long_time, &rest)), EINTR);
	/* The timer slack may make it a little more than was asked for. */
	EXPECT(rest.tv_sec >= 900 && rest.tv_sec <= 1000);
}

CHECK(clock_nanosleep_absolute_interrupted)
{
	struct timespec at;
	OK(clock_gettime(CLOCK_MONOTONIC, &at));
	at.tv_sec += 1000;
	struct timespec rest = { 77, 77 };
	EQ(INTERRUPT(count, SA_RESTART, -!!clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, &rest)), errno);
	on_signal_flags(SIGUSR1, count, 0);
	pid_t sender = signal_when_blocked();
	EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, &rest), EINTR);
	REAP(sender);
	EQ(rest.tv_sec, 77);
}

CHECK(futex_wait_without_timeout_restarts)
{
	/* No handler flag SA_RESTART: EINTR. */
	int word = 0;
	EQ(INTERRUPT(count, 0, syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0)), EINTR);
}

static int futex_word;

static void count_and_wake(int sig)
{
	(void)sig;
	hits++;
	futex_word = 1;
}

CHECK(futex_wait_restarted_sees_the_new_value)
{
	/* With SA_RESTART the wait starts over, and finds another value. */
	EQ(INTERRUPT(count_and_wake, SA_RESTART, syscall(SYS_futex, &futex_word, FUTEX_WAIT, 0, NULL, NULL, 0)),
	   EAGAIN);
}

CHECK(futex_wait_with_timeout_interrupted)
{
	int word = 0;
	struct timespec long_time = { 1000, 0 };
	EQ(INTERRUPT(count, 0, syscall(SYS_futex, &word, FUTEX_WAIT, 0, &long_time, NULL, 0)), EINTR);
}

CHECK(sem_wait_interrupted)
{
	sem_t sem;
	OK(sem_init(&sem, 0, 0));
	EQ(INTERRUPT(count, 0, sem_wait(&sem)), EINTR);
}

static sem_t posted;

static void count_and_post(int sig)
{
	(void)sig;
	hits++;
	sem_post(&posted);
}

CHECK(sem_wait_restarted)
{
	OK(sem_init(&posted, 0, 0));
	EQ(INTERRUPT(count_and_post, SA_RESTART, sem_wait(&posted)), 0);
}

CHECK(semop_never_restarts)
{
	int id = OK(semget(IPC_PRIVATE, 1, 0600));
	struct sembuf down = { 0, -1, 0 };
	EQ(INTERRUPT(count, SA_RESTART, semop(id, &down, 1)), EINTR);
	OK(semctl(id, 0, IPC_RMID));
}

CHECK(accept_interrupted_and_restarted)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "s" };
	int s = OK(socket(AF_UNIX, SOCK_STREAM, 0));
	OK(bind(s, (struct sockaddr *)&addr, sizeof addr));
	OK(listen(s, 5));
	EQ(INTERRUPT(count, 0, accept(s, NULL, NULL)), EINTR);
	hits = 0;
	on_signal_flags(SIGUSR1, count, SA_RESTART);
	pid_t self = getpid();
	CHILD(pid) {
		await_state(self, 'S');
		OK(kill(self, SIGUSR1));
		OK(connect(OK(socket(AF_UNIX, SOCK_STREAM, 0)), (struct sockaddr *)&addr, sizeof addr));
	}
	OK(accept(s, NULL, NULL));
	EQ(hits, 1);
	REAP(pid);
}

CHECK(recv_restarted_unless_it_has_a_timeout)
{
	int s[2];
	char c = 0;
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	wake_fd = s[1];
	EQ(INTERRUPT(count_and_feed, SA_RESTART, recv(s[0], &c, 1, 0)), 0);
	EQ(c, 'r');
	hits = 0;
	struct timeval tv = { 1000, 0 };
	OK(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	EQ(INTERRUPT(count, SA_RESTART, recv(s[0], &c, 1, 0)), EINTR);
}

CHECK(flock_interrupted)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0600)), other = OK(open("f", O_RDWR));
	OK(flock(other, LOCK_EX));
	EQ(INTERRUPT(count, 0, flock(fd, LOCK_EX)), EINTR);
}

CHECK(posix_lock_interrupted)
{
	struct gate ready = gate_new(), go = gate_new();
	struct flock lock = { .l_type = F_WRLCK };
	int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
	CHILD(holder) {
		OK(fcntl(fd, F_SETLK, &lock));
		gate_open(ready);
		gate_wait(go);
	}
	gate_wait(ready);
	EQ(INTERRUPT(count, 0, fcntl(fd, F_SETLKW, &lock)), EINTR);
	gate_open(go);
	REAP(holder);
}

CHECK(sigsuspend_and_pause_are_eintr)
{
	EQ(INTERRUPT(count, SA_RESTART, pause()), EINTR);
	hits = 0;
	sigset_t none;
	sigemptyset(&none);
	EQ(INTERRUPT(count, SA_RESTART, sigsuspend(&none)), EINTR);
}

CHECK(ppoll_mask_lets_the_signal_in)
{
	sigset_t none;
	sigemptyset(&none);
	on_signal_flags(SIGUSR1, count, 0);
	block_signal(SIGUSR1);
	OK(raise(SIGUSR1));
	EQ(hits, 0);
	struct timespec long_time = { 1000, 0 };
	ERR(ppoll(NULL, 0, &long_time, &none), EINTR);
	EQ(hits, 1);
	sigset_t now;
	OK(sigprocmask(SIG_SETMASK, NULL, &now));
	EXPECT(sigismember(&now, SIGUSR1));
}

CHECK(pselect_mask_lets_the_signal_in)
{
	sigset_t none;
	sigemptyset(&none);
	on_signal_flags(SIGUSR1, count, 0);
	block_signal(SIGUSR1);
	OK(raise(SIGUSR1));
	ERR(pselect(0, NULL, NULL, NULL, NULL, &none), EINTR);
	EQ(hits, 1);
}

CHECK(epoll_pwait_mask_lets_the_signal_in)
{
	sigset_t none;
	struct epoll_event ev;
	sigemptyset(&none);
	on_signal_flags(SIGUSR1, count, 0);
	block_signal(SIGUSR1);
	OK(raise(SIGUSR1));
	ERR(epoll_pwait(OK(epoll_create1(0)), &ev, 1, -1, &none), EINTR);
	EQ(hits, 1);
}

CHECK(ignored_signal_does_not_interrupt)
{
	int p[2];
	char c = 0;
	OK(pipe(p));
	signal(SIGUSR1, SIG_IGN);
	pid_t self = getpid();
	CHILD(pid) {
		await_state(self, 'S');
		OK(kill(self, SIGUSR1));
		OK(kill(self, SIGWINCH));
		EQ(write(p[1], "x", 1), 1);
	}
	EQ(read(p[0], &c, 1), 1);
	REAP(pid);
}

CHECK(blocked_signal_does_not_interrupt)
{
	int p[2];
	char c = 0;
	OK(pipe(p));
	on_signal_flags(SIGUSR1, count, 0);
	block_signal(SIGUSR1);
	pid_t self = getpid();
	CHILD(pid) {
		await_state(self, 'S');
		OK(kill(self, SIGUSR1));
		EQ(write(p[1], "x", 1), 1);
	}
	EQ(read(p[0], &c, 1), 1);
	EQ(hits, 0);
	REAP(pid);
}

CHECK(nanosleep_goes_on_after_stop_and_continue)
{
	CHILD(pid) {
		struct timespec nap = { 0, 200000000 }, before, after;
		OK(clock_gettime(CLOCK_MONOTONIC, &before));
		OK(nanosleep(&nap, NULL));
		OK(clock_gettime(CLOCK_MONOTONIC, &after));
		long long ns = (after.tv_sec - before.tv_sec) * 1000000000ll + after.tv_nsec - before.tv_nsec;
		EXPECT(ns >= 200000000);
	}
	await_state(pid, 'S');
	OK(kill(pid, SIGSTOP));
	int status;
	EQ(waitpid(pid, &status, WUNTRACED), pid);
	OK(kill(pid, SIGCONT));
	REAP(pid);
}

CHECK(read_and_poll_go_on_after_stop_and_continue)
{
	int p[2], q[2];
	OK(pipe(p));
	OK(pipe(q));
	CHILD(pid) {
		char c;
		EQ(read(p[0], &c, 1), 1);
		struct pollfd pfd = { .fd = q[0], .events = POLLIN };
		EQ(poll(&pfd, 1, 1000000), 1);
	}
	int status;
	for (int i = 0; i < 2; i++) {
		await_state(pid, 'S');
		OK(kill(pid, SIGSTOP));
		EQ(waitpid(pid, &status, WUNTRACED), pid);
		OK(kill(pid, SIGCONT));
		await_state(pid, 'S');
		EQ(write(i ? q[1] : p[1], "x", 1), 1);
	}
	REAP(pid);
}

CHECK(epoll_wait_after_stop_is_eintr)
{
	/* signal(7): interrupted by a stop signal even without a handler; sigtimedwait likewise. */
	int ep = OK(epoll_create1(0));
	CHILD(pid) {
		struct epoll_event ev;
		ERR(epoll_wait(ep, &ev, 1, -1), EINTR);
	}
	await_state(pid, 'S');
	OK(kill(pid, SIGSTOP));
	int status;
	EQ(waitpid(pid, &status, WUNTRACED), pid);
	OK(kill(pid, SIGCONT));
	REAP(pid);
}

CHECK(two_handlers_before_the_restart)
{
	int p[2];
	OK(pipe(p));
	CHILD(pid) {
		char c = 0;
		on_signal_flags(SIGUSR1, count, SA_RESTART);
		on_signal_flags(SIGUSR2, count, SA_RESTART);
		EQ(read(p[0], &c, 1), 1);
		EQ(hits, 2);
	}
	await_state(pid, 'S');
	OK(kill(pid, SIGSTOP));
	int status;
	EQ(waitpid(pid, &status, WUNTRACED), pid);
	OK(kill(pid, SIGUSR1));
	OK(kill(pid, SIGUSR2));
	OK(kill(pid, SIGCONT));
	await_state(pid, 'S');
	EQ(write(p[1], "x", 1), 1);
	REAP(pid);
}

CHECK(one_restarting_and_one_not)
{
	int p[2];
	OK(pipe(p));
	CHILD(pid) {
		char c = 0;
		on_signal_flags(SIGUSR1, count, 0);
		ERR(read(p[0], &c, 1), EINTR);
		EQ(hits, 1);
	}
	await_state(pid, 'S');
	OK(kill(pid, SIGUSR1));
	REAP(pid);
}

CHECK(storm_of_restarts)
{
	int p[2];
	char c = 0;
	OK(pipe(p));
	on_signal_flags(SIGUSR1, count, SA_RESTART);
	pid_t self = getpid();
	CHILD(pid) {
		for (int i = 0; i < 300; i++)
			OK(kill(self, SIGUSR1));
		EQ(write(p[1], "x", 1), 1);
	}
	EQ(read(p[0], &c, 1), 1);
	EXPECT(hits >= 1);
	REAP(pid);
}

static void *read_in_thread(void *arg)
{
	char c;
	EQ(read(*(int *)arg, &c, 1), 1);
	return NULL;
}

CHECK(signal_to_another_thread_does_not_interrupt)
{
	int p[2];
	pthread_t thread;
	OK(pipe(p));
	on_signal_flags(SIGUSR1, count, 0);
	block_signal(SIGUSR1);
	EQ(pthread_create(&thread, NULL, read_in_thread, &p[0]), 0);
	sigset_t set = sigset_of(SIGUSR1);
	OK(sigprocmask(SIG_UNBLOCK, &set, NULL));
	/* The reader has the signal blocked, so this thread takes it. */
	OK(kill(getpid(), SIGUSR1));
	while (!hits)
		;
	EQ(write(p[1], "x", 1), 1);
	EQ(pthread_join(thread, NULL), 0);
}
