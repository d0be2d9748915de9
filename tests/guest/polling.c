/* Readiness: poll(2), select(2), epoll(7), eventfd(2), timerfd_create(2), signalfd(2). */
#include "check.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

static int poll_one(int fd, short events, int timeout)
{
	struct pollfd p = { .fd = fd, .events = events };
	int n = OK(poll(&p, 1, timeout));
	EQ(n, p.revents != 0);
	return p.revents;
}

static void ep_add(int ep, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };
	OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
}

/* The events of the single entry, or 0 when nothing is ready. */
static uint32_t ep_now(int ep)
{
	struct epoll_event ev[2];
	int n = OK(epoll_wait(ep, ev, 2, 0));
	EXPECT(n <= 1);
	return n ? ev[0].events : 0;
}

CHECK(poll_pipe_states)
{
	int p[2];
	OK(pipe(p));
	EQ(poll_one(p[0], POLLIN, 0), 0);
	EQ(poll_one(p[1], POLLOUT, 0), POLLOUT);
	EQ(write(p[1], "x", 1), 1);
	EQ(poll_one(p[0], POLLIN | POLLRDNORM, 0), POLLIN | POLLRDNORM);
	close(p[1]);
	EQ(poll_one(p[0], POLLIN, 0), POLLIN | POLLHUP);
	char c;
	EQ(read(p[0], &c, 1), 1);
	EQ(poll_one(p[0], POLLIN, 0), POLLHUP);
	EQ(poll_one(p[0], 0, 0), POLLHUP);
	OK(pipe(p));
	close(p[0]);
	EQ(poll_one(p[1], POLLOUT, 0), POLLOUT | POLLERR);
}

CHECK(poll_special_descriptors)
{
	write_file("f", "");
	EQ(poll_one(OK(open("f", O_RDWR)), POLLIN | POLLOUT, 0), POLLIN | POLLOUT);
	EQ(poll_one(99, POLLIN, 0), POLLNVAL);
	EQ(poll_one(-1, POLLIN, 0), 0);
	EQ(poll_one(OK(open("/dev/null", O_RDWR)), POLLIN | POLLOUT, 0), POLLIN | POLLOUT);
}

CHECK(poll_counts_entries)
{
	int p[2], q[2];
	OK(pipe(p));
	OK(pipe(q));
	struct pollfd v[4] = { { p[0], POLLIN, 99 }, { p[1], POLLOUT, 0 }, { 98, POLLIN, 0 }, { q[1], POLLOUT, 0 } };
	EQ(poll(v, 4, -1), 3);
	EQ(v[0].revents, 0);
	EQ(v[2].revents, POLLNVAL);
	EQ(poll(NULL, 0, 0), 0);
	EQ(poll(NULL, 0, 1), 0);
}

CHECK(poll_limits)
{
	struct pollfd v = { 0, 0, 0 };
	struct rlimit lim = { 70, 70 };
	OK(setrlimit(RLIMIT_NOFILE, &lim));
	ERR(syscall(SYS_poll, &v, 71, 0), EINVAL);
	ERR(syscall(SYS_poll, BAD_PTR, 1, 0), EFAULT);
	struct timespec wrong = { 0, -1 };
	ERR(syscall(SYS_ppoll, &v, 1, &wrong, NULL, 8), EINVAL);
	struct timespec zero = { 0, 0 };
	sigset_t none;
	sigemptyset(&none);
	ERR(syscall(SYS_ppoll, &v, 1, &zero, &none, 4), EINVAL);
}

CHECK(poll_wakes_on_write)
{
	int p[2];
	OK(pipe(p));
	CHILD(pid) EQ(poll_one(p[0], POLLIN, -1), POLLIN);
	await_state(pid, 'S');
	EQ(write(p[1], "x", 1), 1);
	REAP(pid);
}

CHECK(poll_wakes_on_hangup)
{
	int p[2];
	OK(pipe(p));
	CHILD(pid) {
		close(p[1]);
		EQ(poll_one(p[0], POLLIN, -1), POLLHUP);
	}
	await_state(pid, 'S');
	close(p[1]);
	REAP(pid);
}

CHECK(ppoll_updates_its_timeout)
{
	struct timespec tick = { 0, 2000000 };
	EQ(syscall(SYS_ppoll, NULL, 0, &tick, NULL, 8), 0);
	EQ(tick.tv_sec, 0);
	EQ(tick.tv_nsec, 0);
}

CHECK(select_sets)
{
	int p[2], q[2];
	OK(pipe(p));
	OK(pipe(q));
	EQ(write(p[1], "x", 1), 1);
	fd_set in, out, ex;
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_ZERO(&ex);
	FD_SET(p[0], &in);
	FD_SET(q[0], &in);
	FD_SET(q[1], &out);
	FD_SET(q[1], &ex);
	EQ(select(q[1] + 1, &in, &out, &ex, NULL), 2);
	EXPECT(FD_ISSET(p[0], &in));
	EXPECT(!FD_ISSET(q[0], &in));
	EXPECT(FD_ISSET(q[1], &out));
	EXPECT(!FD_ISSET(q[1], &ex));
}

CHECK(select_errors)
{
	fd_set in;
	struct timeval zero = { 0, 0 };
	FD_ZERO(&in);
	FD_SET(40, &in);
	ERR(select(41, &in, NULL, NULL, &zero), EBADF);
	EQ(select(40, &in, NULL, NULL, &zero), 0);
	ERR(select(-1, &in, NULL, NULL, &zero), EINVAL);
	struct timeval wrong = { -1, 0 };
	ERR(select(0, NULL, NULL, NULL, &wrong), EINVAL);
	ERR(select(8, BAD_PTR, NULL, NULL, &zero), EFAULT);
	struct timeval tick = { 0, 2000 };
	EQ(select(0, NULL, NULL, NULL, &tick), 0);
	EQ(tick.tv_sec, 0);
	EQ(tick.tv_usec, 0);
}

CHECK(select_sees_closed_pipe)
{
	int p[2];
	fd_set in;
	OK(pipe(p));
	close(p[1]);
	FD_ZERO(&in);
	FD_SET(p[0], &in);
	EQ(select(p[0] + 1, &in, NULL, NULL, NULL), 1);
}

CHECK(epoll_level_triggered)
{
	int p[2], ep = OK(epoll_create1(EPOLL_CLOEXEC));
	char c;
	OK(pipe(p));
	ep_add(ep, p[0], EPOLLIN, 7);
	EQ(ep_now(ep), 0);
	EQ(write(p[1], "xy", 2), 2);
	struct epoll_event ev;
	EQ(epoll_wait(ep, &ev, 1, -1), 1);
	EQ(ev.data.u64, 7);
	EQ(ep_now(ep), EPOLLIN);
	EQ(read(p[0], &c, 1), 1);
	EQ(ep_now(ep), EPOLLIN);
	EQ(read(p[0], &c, 1), 1);
	EQ(ep_now(ep), 0);
	close(p[1]);
	EQ(ep_now(ep), EPOLLHUP);
}

CHECK(epoll_edge_triggered)
{
	int p[2], ep = OK(epoll_create1(0));
	char c;
	OK(pipe(p));
	ep_add(ep, p[0], EPOLLIN | EPOLLET, 0);
	EQ(ep_now(ep), 0);
	EQ(write(p[1], "x", 1), 1);
	EQ(ep_now(ep), EPOLLIN);
	EQ(ep_now(ep), 0);
	EQ(write(p[1], "y", 1), 1);
	EQ(ep_now(ep), EPOLLIN);
	EQ(ep_now(ep), 0);
	/* Reading a part makes no new edge. */
	EQ(read(p[0], &c, 1), 1);
	EQ(ep_now(ep), 0);
}

CHECK(epoll_edge_on_add_and_mod)
{
	int p[2], ep = OK(epoll_create1(0));
	OK(pipe(p));
	EQ(write(p[1], "x", 1), 1);
	ep_add(ep, p[0], EPOLLIN | EPOLLET, 0);
	EQ(ep_now(ep), EPOLLIN);
	EQ(ep_now(ep), 0);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	OK(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &ev));
	EQ(ep_now(ep), EPOLLIN);
}

CHECK(epoll_oneshot)
{
	int p[2], ep = OK(epoll_create1(0));
	OK(pipe(p));
	ep_add(ep, p[0], EPOLLIN | EPOLLONESHOT, 0);
	EQ(write(p[1], "x", 1), 1);
	EQ(ep_now(ep), EPOLLIN);
	EQ(ep_now(ep), 0);
	EQ(write(p[1], "x", 1), 1);
	EQ(ep_now(ep), 0);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT };
	OK(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &ev));
	EQ(ep_now(ep), EPOLLIN);
	EQ(ep_now(ep), 0);
}

CHECK(epoll_ctl_errors)
{
	int p[2], ep = OK(epoll_create1(0));
	struct epoll_event ev = { .events = EPOLLIN };
	OK(pipe(p));
	ERR(epoll_create1(1), EINVAL);
	ERR(epoll_create(0), EINVAL);
	OK(epoll_create(1));
	OK(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev));
	ERR(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev), EEXIST);
	ERR(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &ev), ENOENT);
	ERR(epoll_ctl(ep, EPOLL_CTL_DEL, p[1], &ev), ENOENT);
	ERR(epoll_ctl(ep, 99, p[0], &ev), EINVAL);
	ERR(epoll_ctl(ep, EPOLL_CTL_ADD, 99, &ev), EBADF);
	ERR(epoll_ctl(99, EPOLL_CTL_ADD, p[0], &ev), EBADF);
	ERR(epoll_ctl(p[0], EPOLL_CTL_ADD, p[1], &ev), EINVAL);
	ERR(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &ev), EINVAL);
	write_file("f", "");
	ERR(epoll_ctl(ep, EPOLL_CTL_ADD, OK(open("f", O_RDONLY)), &ev), EPERM);
	ERR(epoll_ctl(ep, EPOLL_CTL_ADD, OK(open(".", O_RDONLY)), &ev), EPERM);
	ERR(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], BAD_PTR), EFAULT);
	OK(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
}

CHECK(epoll_wait_errors)
{
	struct epoll_event ev;
	int p[2], ep = OK(epoll_create1(0));
	OK(pipe(p));
	ERR(epoll_wait(ep, &ev, 0, 0), EINVAL);
	ERR(epoll_wait(ep, &ev, -1, 0), EINVAL);
	ERR(epoll_wait(p[0], &ev, 1, 0), EINVAL);
	ERR(epoll_wait(99, &ev, 1, 0), EBADF);
	ep_add(ep, p[1], EPOLLOUT, 0);
	ERR(epoll_wait(ep, BAD_PTR, 1, 0), EFAULT);
	EQ(ep_now(ep), EPOLLOUT);
}

CHECK(epoll_many_ready_round_robin)
{
	int p[10][2], ep = OK(epoll_create1(0)), seen[10] = { 0 };
	for (int i = 0; i < 10; i++) {
		OK(pipe(p[i]));
		EQ(write(p[i][1], "x", 1), 1);
		ep_add(ep, p[i][0], EPOLLIN, i);
	}
	/* With room for few, everybody gets a turn. */
	for (int round = 0; round < 4; round++) {
		struct epoll_event ev[3];
		EQ(epoll_wait(ep, ev, 3, 0), 3);
		for (int i = 0; i < 3; i++)
			seen[ev[i].data.u64]++;
	}
	for (int i = 0; i < 10; i++)
		EXPECT(seen[i] >= 1);
}

CHECK(epoll_closed_descriptor_leaves)
{
	int p[2], ep = OK(epoll_create1(0));
	OK(pipe(p));
	EQ(write(p[1], "x", 1), 1);
	ep_add(ep, p[0], EPOLLIN, 0);
	int copy = OK(dup(p[0]));
	close(p[0]);
	/* The open file lives on in the copy, and so does its entry. */
	EQ(ep_now(ep), EPOLLIN);
	close(copy);
	EQ(ep_now(ep), 0);
}

CHECK(epoll_nested)
{
	int p[2], inner = OK(epoll_create1(0)), outer = OK(epoll_create1(0));
	char c;
	OK(pipe(p));
	ep_add(inner, p[0], EPOLLIN, 0);
	ep_add(outer, inner, EPOLLIN, 0);
	EQ(ep_now(outer), 0);
	EQ(poll_one(inner, POLLIN, 0), 0);
	EQ(write(p[1], "x", 1), 1);
	EQ(ep_now(outer), EPOLLIN);
	EQ(poll_one(outer, POLLIN, 0), POLLIN);
	EQ(read(p[0], &c, 1), 1);
	EQ(ep_now(outer), 0);
}

CHECK(epoll_loop_is_refused)
{
	int a = OK(epoll_create1(0)), b = OK(epoll_create1(0)), c = OK(epoll_create1(0));
	struct epoll_event ev = { .events = EPOLLIN };
	ep_add(a, b, EPOLLIN, 0);
	ep_add(b, c, EPOLLIN, 0);
	ERR(epoll_ctl(c, EPOLL_CTL_ADD, a, &ev), ELOOP);
	ERR(epoll_ctl(b, EPOLL_CTL_ADD, a, &ev), ELOOP);
}

CHECK(epoll_nesting_depth)
{
	int ep[8];
	struct epoll_event ev = { .events = EPOLLIN };
	int i, r = 0;
	for (i = 0; i < 8; i++)
		ep[i] = OK(epoll_create1(0));
	for (i = 0; i < 7 && r == 0; i++)
		r = epoll_ctl(ep[i + 1], EPOLL_CTL_ADD, ep[i], &ev);
	EQ(r, -1);
	EQ(errno, ELOOP);
	EXPECT(i >= 4);
}

/* How many descriptors of an instance, which watches an event through some levels, one more may watch. */
static int watch_by_many(int levels, int *ep)
{
	int event = OK(eventfd(0, 0)), n = 0;
	for (int i = 0; i < levels; i++)
		ep[i] = OK(epoll_create1(0));
	ep_add(ep[levels - 1], event, EPOLLIN, 0);
	for (int i = levels - 2; i > 0; i--)
		ep_add(ep[i], ep[i + 1], EPOLLIN, 0);
	struct epoll_event ev = { .events = EPOLLIN };
	while (n < 600 && epoll_ctl(ep[0], EPOLL_CTL_ADD, OK(dup(ep[1])), &ev) == 0)
		n++;
	EQ(errno, EINVAL);
	EQ(write(event, &(uint64_t){ 1 }, 8), 8);
	EQ(epoll_wait(ep[0], &ev, 1, 0), 1);
	return n;
}

CHECK(epoll_paths)
{
	int ep[5];
	EQ(watch_by_many(2, ep), 500);
	for (int i = 3; i < 600; i++)
		close(i);
	EQ(watch_by_many(3, ep), 100);
	EQ(watch_by_many(4, ep), 50);
	EQ(watch_by_many(5, ep), 10);
}

CHECK(epoll_paths_that_end)
{
	int a = OK(epoll_create1(0)), b = OK(epoll_create1(0)), c = OK(epoll_create1(0)), event = OK(eventfd(0, 0));
	struct epoll_event ev = { .events = EPOLLIN };
	int fds[101];
	for (int i = 0; i < 101; i++)
		ep_add(a, fds[i] = OK(dup(b)), EPOLLIN, 0);
	ep_add(b, c, EPOLLIN, 0);
	ERR(epoll_ctl(c, EPOLL_CTL_ADD, event, &ev), EINVAL);
	ERR(epoll_ctl(c, EPOLL_CTL_DEL, event, &ev), ENOENT);
	OK(epoll_ctl(a, EPOLL_CTL_DEL, fds[0], &ev));
	ep_add(c, event, EPOLLIN, 0);
	ERR(epoll_ctl(a, EPOLL_CTL_ADD, fds[0], &ev), EINVAL);
	ERR(epoll_ctl(a, EPOLL_CTL_ADD, fds[1], &ev), EEXIST);
	close(a);
	OK(epoll_ctl(c, EPOLL_CTL_DEL, event, &ev));
	ep_add(c, event, EPOLLIN, 0);
}

/* Instances that watch each other by many descriptors each, and nothing else: only their levels count, and each is looked at once. */
CHECK(epoll_many_ways_to_nothing)
{
	int ep[6];
	struct epoll_event ev = { .events = EPOLLIN };
	for (int i = 0; i < 6; i++)
		ep[i] = OK(epoll_create1(0));
	for (int i = 3; i >= 0; i--)
		for (int k = 0; k < 200; k++)
			ep_add(ep[i], OK(dup(ep[i + 1])), EPOLLIN, 0);
	ERR(epoll_ctl(ep[5], EPOLL_CTL_ADD, ep[0], &ev), ELOOP);
	ERR(epoll_ctl(ep[4], EPOLL_CTL_ADD, OK(eventfd(0, 0)), &ev), EINVAL);
}

CHECK(epoll_exclusive)
{
	int p[2], ep = OK(epoll_create1(0));
	OK(pipe(p));
	ep_add(ep, p[0], EPOLLIN | EPOLLEXCLUSIVE, 0);
	EQ(write(p[1], "x", 1), 1);
	EQ(ep_now(ep), EPOLLIN);
	struct epoll_event ev = { .events = EPOLLIN };
	ERR(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &ev), EINVAL);
	ev.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT;
	ERR(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &ev), EINVAL);
}

CHECK(epoll_wakes_a_waiter)
{
	int p[2], ep = OK(epoll_create1(0));
	OK(pipe(p));
	ep_add(ep, p[0], EPOLLIN, 0);
	CHILD(pid) {
		struct epoll_event ev;
		EQ(epoll_wait(ep, &ev, 1, -1), 1);
	}
	await_state(pid, 'S');
	EQ(write(p[1], "x", 1), 1);
	REAP(pid);
}

CHECK(epoll_add_while_waiting)
{
	int p[2], ep = OK(epoll_create1(0));
	OK(pipe(p));
	EQ(write(p[1], "x", 1), 1);
	CHILD(pid) {
		struct epoll_event ev;
		EQ(epoll_wait(ep, &ev, 1, -1), 1);
		EQ(ev.data.u64, 5);
	}
	await_state(pid, 'S');
	ep_add(ep, p[0], EPOLLIN, 5);
	REAP(pid);
}

static volatile sig_atomic_t signals_counted;

static void count_signal(int sig)
{
	(void)sig;
	signals_counted++;
}

CHECK(epoll_pwait_now_leaves_a_signal)
{
	struct epoll_event ev;
	sigset_t usr1, none, pending;
	int ep = OK(epoll_create1(0));
	sigemptyset(&none);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	signal(SIGUSR1, count_signal);
	OK(sigprocmask(SIG_BLOCK, &usr1, NULL));
	OK(raise(SIGUSR1));
	signals_counted = 0;
	EQ(epoll_pwait(ep, &ev, 1, 0, &none), 0);
	EQ(signals_counted, 0);
	OK(sigpending(&pending));
	EQ(sigismember(&pending, SIGUSR1), 1);
	ERR(epoll_pwait(ep, &ev, 1, 10000, &none), EINTR);
	EQ(signals_counted, 1);
}

CHECK(epoll_pwait2_timeout)
{
	struct epoll_event ev;
	int ep = OK(epoll_create1(0));
	struct timespec tick = { 0, 1000000 }, wrong = { 0, 1000000000 };
	EQ(syscall(SYS_epoll_pwait2, ep, &ev, 1, &tick, NULL, 0), 0);
	ERR(syscall(SYS_epoll_pwait2, ep, &ev, 1, &wrong, NULL, 0), EINVAL);
	EQ(epoll_wait(ep, &ev, 1, 1), 0);
}

CHECK(epoll_rdhup)
{
	int s[2], ep = OK(epoll_create1(0));
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	ep_add(ep, s[0], EPOLLIN | EPOLLRDHUP, 0);
	EQ(ep_now(ep), 0);
	OK(shutdown(s[1], SHUT_WR));
	EQ(ep_now(ep), EPOLLIN | EPOLLRDHUP);
	close(s[1]);
	EQ(ep_now(ep), EPOLLIN | EPOLLRDHUP | EPOLLHUP);
}

CHECK(eventfd_counter)
{
	uint64_t v = 5;
	int fd = OK(eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC));
	EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	EQ(write(fd, &v, 8), 8);
	EQ(read(fd, &v, 8), 8);
	EQ(v, 8);
	ERR(read(fd, &v, 8), EAGAIN);
	v = UINT64_MAX;
	ERR(write(fd, &v, 8), EINVAL);
	v = UINT64_MAX - 1;
	EQ(write(fd, &v, 8), 8);
	v = 1;
	ERR(write(fd, &v, 8), EAGAIN);
	EQ(poll_one(fd, POLLIN | POLLOUT, 0), POLLIN);
	ERR(read(fd, &v, 7), EINVAL);
	ERR(write(fd, &v, 7), EINVAL);
	ERR(eventfd(0, 0x40000000), EINVAL);
}

CHECK(eventfd_semaphore)
{
	uint64_t v;
	int fd = OK(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
	EQ(read(fd, &v, 8), 8);
	EQ(v, 1);
	EQ(read(fd, &v, 8), 8);
	EQ(v, 1);
	ERR(read(fd, &v, 8), EAGAIN);
}

CHECK(eventfd_blocks)
{
	int fd = OK(eventfd(0, 0));
	CHILD(pid) {
		uint64_t v;
		EQ(read(fd, &v, 8), 8);
		EQ(v, 9);
	}
	await_state(pid, 'S');
	uint64_t v = 9;
	EQ(write(fd, &v, 8), 8);
	REAP(pid);
}

CHECK(eventfd_edge_per_write)
{
	uint64_t v = 1;
	int fd = OK(eventfd(0, 0)), ep = OK(epoll_create1(0));
	ep_add(ep, fd, EPOLLIN | EPOLLET, 0);
	for (int i = 0; i < 3; i++) {
		EQ(write(fd, &v, 8), 8);
		EQ(ep_now(ep), EPOLLIN);
		EQ(ep_now(ep), 0);
	}
}

CHECK(timerfd_expires)
{
	uint64_t n = 0;
	struct itimerspec its = { .it_value = { 0, 1000000 } }, old;
	int fd = OK(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
	OK(timerfd_settime(fd, 0, &its, &old));
	EQ(old.it_value.tv_nsec, 0);
	EQ(read(fd, &n, 8), 8);
	EQ(n, 1);
	OK(timerfd_gettime(fd, &its));
	EQ(its.it_value.tv_nsec, 0);
	ERR(read(fd, &n, 4), EINVAL);
}

CHECK(timerfd_periodic_counts)
{
	uint64_t n = 0, total = 0;
	struct itimerspec its = { { 0, 1000000 }, { 0, 1000000 } };
	int fd = OK(timerfd_create(CLOCK_MONOTONIC, 0));
	OK(timerfd_settime(fd, 0, &its, NULL));
	while (total < 5) {
		EQ(read(fd, &n, 8), 8);
		EXPECT(n >= 1);
		total += n;
	}
	OK(timerfd_gettime(fd, &its));
	EQ(its.it_interval.tv_nsec, 1000000);
	EXPECT(its.it_value.tv_nsec <= 1000000);
}

CHECK(timerfd_absolute_in_the_past)
{
	uint64_t n = 0;
	struct itimerspec its = { .it_value = { 0, 1 } };
	int fd = OK(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK));
	OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &its, NULL));
	EQ(poll_one(fd, POLLIN, -1), POLLIN);
	EQ(read(fd, &n, 8), 8);
	EQ(n, 1);
	ERR(read(fd, &n, 8), EAGAIN);
}

CHECK(timerfd_disarm_and_errors)
{
	struct itimerspec its = { .it_value = { 1000, 0 } }, off = { 0 }, old;
	int fd = OK(timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK));
	OK(timerfd_settime(fd, 0, &its, NULL));
	OK(timerfd_settime(fd, 0, &off, &old));
	EXPECT(old.it_value.tv_sec >= 990);
	EQ(poll_one(fd, POLLIN, 0), 0);
	its.it_value.tv_nsec = 1000000000;
	ERR(timerfd_settime(fd, 0, &its, NULL), EINVAL);
	ERR(timerfd_settime(fd, 0x100, &off, NULL), EINVAL);
	ERR(timerfd_settime(0, 0, &off, NULL), EINVAL);
	ERR(timerfd_create(99, 0), EINVAL);
	ERR(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0), EINVAL);
	ERR(timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
}

CHECK(signalfd_reads_signals)
{
	struct signalfd_siginfo si[3];
	sigset_t set = sigset_of(SIGUSR1);
	sigaddset(&set, SIGRTMIN);
	OK(sigprocmask(SIG_BLOCK, &set, NULL));
	int fd = OK(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
	ERR(read(fd, si, sizeof si), EAGAIN);
	EQ(poll_one(fd, POLLIN, 0), 0);
	OK(kill(getpid(), SIGUSR1));
	OK(sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 12 }));
	EQ(poll_one(fd, POLLIN, 0), POLLIN);
	EQ(read(fd, si, sizeof si), 2 * sizeof si[0]);
	EQ(si[0].ssi_signo, SIGUSR1);
	EQ(si[0].ssi_pid, getpid());
	EQ(si[0].ssi_code, SI_USER);
	EQ(si[1].ssi_signo, SIGRTMIN);
	EQ(si[1].ssi_int, 12);
	ERR(read(fd, si, 10), EINVAL);
}

CHECK(signalfd_change_mask_and_errors)
{
	struct signalfd_siginfo si;
	sigset_t a = sigset_of(SIGUSR1), b = sigset_of(SIGUSR2);
	block_signal(SIGUSR1);
	block_signal(SIGUSR2);
	int fd = OK(signalfd(-1, &a, SFD_NONBLOCK));
	OK(raise(SIGUSR2));
	ERR(read(fd, &si, sizeof si), EAGAIN);
	EQ(signalfd(fd, &b, 0), fd);
	EQ(read(fd, &si, sizeof si), sizeof si);
	EQ(si.ssi_signo, SIGUSR2);
	ERR(signalfd(0, &a, 0), EINVAL);
	ERR(signalfd(99, &a, 0), EBADF);
	ERR(signalfd(-1, &a, 1), EINVAL);
}

CHECK(signalfd_blocks_until_sent)
{
	sigset_t set = sigset_of(SIGUSR1);
	block_signal(SIGUSR1);
	CHILD(pid) {
		struct signalfd_siginfo si;
		EQ(read(OK(signalfd(-1, &set, 0)), &si, sizeof si), sizeof si);
		EQ(si.ssi_signo, SIGUSR1);
		EQ(si.ssi_pid, getppid());
	}
	await_state(pid, 'S');
	OK(kill(pid, SIGUSR1));
	REAP(pid);
}

CHECK(signalfd_sigchld)
{
	struct signalfd_siginfo si;
	sigset_t set = sigset_of(SIGCHLD);
	block_signal(SIGCHLD);
	int fd = OK(signalfd(-1, &set, 0)), ep = OK(epoll_create1(0));
	ep_add(ep, fd, EPOLLIN, 0);
	CHILD(pid) _exit(4);
	struct epoll_event ev;
	EQ(epoll_wait(ep, &ev, 1, -1), 1);
	EQ(read(fd, &si, sizeof si), sizeof si);
	EQ(si.ssi_code, CLD_EXITED);
	EQ(si.ssi_status, 4);
	EQ(si.ssi_pid, pid);
	EQ(wait_exit(pid), 4);
}

static void *write_later(void *arg)
{
	await_state(getpid(), 'S');
	EQ(write(*(int *)arg, "x", 1), 1);
	return NULL;
}

CHECK(poll_woken_by_another_thread)
{
	int p[2];
	pthread_t thread;
	OK(pipe(p));
	EQ(pthread_create(&thread, NULL, write_later, &p[1]), 0);
	EQ(poll_one(p[0], POLLIN, -1), POLLIN);
	EQ(pthread_join(thread, NULL), 0);
}

static struct pollfd watched;

static void *watch_more_later(void *arg)
{
	await_state(getpid(), 'S');
	watched.events |= POLLPRI;
	EQ(write(*(int *)arg, "x", 1), 1);
	return NULL;
}

CHECK(poll_leaves_what_is_asked_for)
{
	int p[2];
	pthread_t thread;
	OK(pipe(p));
	watched = (struct pollfd){ p[0], POLLIN, 0 };
	EQ(pthread_create(&thread, NULL, watch_more_later, &p[1]), 0);
	EQ(poll(&watched, 1, -1), 1);
	EQ(pthread_join(thread, NULL), 0);
	EQ(watched.revents, POLLIN);
	EQ(watched.events, POLLIN | POLLPRI);
}

CHECK(many_waiters_on_one_pipe)
{
	int p[2];
	pid_t pids[5];
	OK(pipe(p));
	for (int i = 0; i < 5; i++) {
		pids[i] = OK(fork());
		if (pids[i] == 0) {
			EQ(poll_one(p[0], POLLIN, -1), POLLIN);
			_exit(0);
		}
	}
	for (int i = 0; i < 5; i++)
		await_state(pids[i], 'S');
	EQ(write(p[1], "x", 1), 1);
	for (int i = 0; i < 5; i++)
		REAP(pids[i]);
}

CHECK(poll_hundreds)
{
	struct rlimit lim;
	static struct pollfd v[400];
	OK(getrlimit(RLIMIT_NOFILE, &lim));
	if (lim.rlim_cur < 500)
		lim.rlim_cur = 500 < lim.rlim_max ? 500 : lim.rlim_max;
	OK(setrlimit(RLIMIT_NOFILE, &lim));
	for (int i = 0; i < 400; i += 2) {
		int p[2];
		OK(pipe(p));
		v[i] = (struct pollfd){ p[0], POLLIN, 0 };
		v[i + 1] = (struct pollfd){ p[1], POLLOUT, 0 };
	}
	EQ(poll(v, 400, 0), 200);
}
