/*
 * Pipes that see many calls: a platform may let threads read and write such a pipe by themselves after a while. Whatever
 * happens to the pipe, its ends or its users meanwhile, each call must give what it gives the first time.
 */
#include "check.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/socket.h>

/* Calls of each kind: the first are the kernel's in any case. */
enum { OFTEN = 300, CAPACITY = 65536 };

struct pipe {
	int out, in;
};

static struct pipe new_pipe(void)
{
	int fd[2];
	OK(pipe(fd));
	return (struct pipe){ fd[0], fd[1] };
}

/* So many calls by this thread that it has what it can get. */
static void use_times(struct pipe p, int times)
{
	char c = 1;
	for (int i = 0; i < times; i++) {
		EQ(write(p.in, &c, 1), 1);
		EQ(read(p.out, &c, 1), 1);
	}
}

static void use(struct pipe p)
{
	use_times(p, OFTEN);
}

static struct pipe used_pipe(void)
{
	struct pipe p = new_pipe();
	use(p);
	return p;
}

/* Until the process sleeps: it waits in a call by then. */
static void await_sleep(pid_t pid)
{
	char path[64], stat[512], state = 0;
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	while (state != 'S') {
		sched_yield();
		read_file(path, stat, sizeof stat);
		char *end = strrchr(stat, ')');
		state = end ? end[2] : 0;
	}
}

/* A child that echoes bytes from one pipe to another until there are no more. */
static void echo(int from, int to)
{
	char c;
	while (read(from, &c, 1) == 1)
		EQ(write(to, &c, 1), 1);
}

static void ask(struct pipe there, struct pipe back, char c)
{
	char got;
	EQ(write(there.in, &c, 1), 1);
	EQ(read(back.out, &got, 1), 1);
	EQ(got, c);
}

CHECK(two_processes_talk)
{
	struct pipe there = new_pipe(), back = new_pipe();
	CHILD(pid) {
		close(there.in);
		close(back.out);
		echo(there.out, back.in);
	}
	close(there.out);
	close(back.in);
	for (int i = 0; i < 4 * OFTEN; i++)
		ask(there, back, i);
	close(there.in);
	char c;
	EQ(read(back.out, &c, 1), 0);
	REAP(pid);
}

/* Byte number `at` of all streams. */
static unsigned char byte_at(unsigned long at)
{
	return at * 31 + at / 253;
}

static void emit(int fd, unsigned long total, unsigned step)
{
	static unsigned char bytes[CAPACITY * 3];
	unsigned long at = 0;
	for (unsigned i = 0; at < total; i++) {
		unsigned long len = 1 + (i * 7919ul + step) % step;
		len = len < total - at ? len : total - at;
		for (unsigned long k = 0; k < len; k++)
			bytes[k] = byte_at(at + k);
		EQ(write(fd, bytes, len), len);
		at += len;
	}
}

static unsigned long expect_some(int fd, unsigned long at, unsigned long most)
{
	static unsigned char bytes[CAPACITY * 3];
	long got = OK(read(fd, bytes, most));
	for (long k = 0; k < got; k++)
		EQ(bytes[k], byte_at(at + k));
	return got;
}

static void stream(unsigned long total, unsigned out_step, unsigned in_step)
{
	struct pipe p = new_pipe();
	CHILD(pid) {
		close(p.out);
		emit(p.in, total, out_step);
	}
	close(p.in);
	unsigned long at = 0, got, i = 0;
	while ((got = expect_some(p.out, at, 1 + (i++ * 104729ul) % in_step)) > 0)
		at += got;
	EQ(at, total);
	close(p.out);
	REAP(pid);
}

CHECK(streams_arrive_whole_and_in_order)
{
	stream(200000, 100, 70);
	stream(8 << 20, 5000, 9000);
	stream(2 << 20, 3 * CAPACITY, 1000);
	stream(2 << 20, 1000, 3 * CAPACITY);
	stream(16 << 20, 3 * CAPACITY, 3 * CAPACITY);
}

CHECK(small_writes_are_not_split)
{
	enum { WRITERS = 3, RECORD = 100, RECORDS = 2000 };
	struct pipe p = new_pipe();
	pid_t pids[WRITERS];
	for (int w = 0; w < WRITERS; w++) {
		pids[w] = OK(fork());
		if (pids[w] == 0) {
			char record[RECORD];
			memset(record, 'a' + w, RECORD);
			for (int i = 0; i < RECORDS; i++)
				EQ(write(p.in, record, RECORD), RECORD);
			_exit(0);
		}
	}
	close(p.in);
	int seen = 0;
	for (;;) {
		char record[RECORD];
		long have = 0, got;
		while (have < RECORD && (got = OK(read(p.out, record + have, RECORD - have))) > 0)
			have += got;
		if (have == 0)
			break;
		EQ(have, RECORD);
		for (int k = 1; k < RECORD; k++)
			EQ(record[k], record[0]);
		seen++;
	}
	EQ(seen, WRITERS * RECORDS);
	for (int w = 0; w < WRITERS; w++)
		REAP(pids[w]);
}

/* A child with both ends of a used pipe, that has used it itself; `then` goes on there. */
#define PARTNER(pid, p) CHILD(pid) for (bool first_ = (use(p), true); first_; first_ = false)

CHECK(the_last_writer_goes_while_a_reader_waits)
{
	for (int i = 0; i < 4; i++) {
		struct pipe p = used_pipe();
		PARTNER(pid, p) {
			char c;
			close(p.in);
			EQ(read(p.out, &c, 1), 0);
			EQ(read(p.out, &c, 1), 0);
		}
		await_sleep(pid);
		close(p.in);
		REAP(pid);
		close(p.out);
	}
}

CHECK(a_writer_is_killed_while_a_reader_waits)
{
	struct pipe p = used_pipe();
	struct gate used = gate_new();
	PARTNER(writer, p) {
		gate_open(used);
		pause();
	}
	gate_wait(used);
	PARTNER(reader, p) {
		char c;
		close(p.in);
		EQ(read(p.out, &c, 1), 0);
	}
	close(p.in);
	await_sleep(reader);
	OK(kill(writer, SIGKILL));
	EQ(wait_exit(writer), 128 + SIGKILL);
	REAP(reader);
}

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
	(void)sig;
	signals++;
}

static void handle(int sig, int flags)
{
	struct sigaction act = { .sa_handler = on_signal, .sa_flags = flags };
	signals = 0;
	OK(sigaction(sig, &act, NULL));
}

static void fill(int fd)
{
	static char bytes[CAPACITY];
	OK(fcntl(fd, F_SETFL, O_NONBLOCK));
	while (write(fd, bytes, 4096) > 0)
		;
	EQ(errno, EAGAIN);
	OK(fcntl(fd, F_SETFL, 0));
}

CHECK(the_last_reader_goes_while_a_writer_waits)
{
	for (int i = 0; i < 4; i++) {
		struct pipe p = used_pipe();
		PARTNER(pid, p) {
			static char bytes[CAPACITY];
			handle(SIGPIPE, 0);
			fill(p.in);
			close(p.out);
			ERR(write(p.in, bytes, i % 2 ? 1 : CAPACITY), EPIPE);
			EQ(signals, 1);
			signal(SIGPIPE, SIG_IGN);
			for (int k = 0; k < OFTEN; k++)
				ERR(write(p.in, bytes, 1), EPIPE);
			signal(SIGPIPE, SIG_DFL);
			FAIL("%zd", write(p.in, bytes, 1));
		}
		await_sleep(pid);
		close(p.out);
		EQ(wait_exit(pid), 128 + SIGPIPE);
		close(p.in);
	}
}

CHECK(half_a_write_counts_when_the_last_reader_goes)
{
	struct pipe p = used_pipe();
	PARTNER(pid, p) {
		static char bytes[CAPACITY * 2];
		close(p.out);
		handle(SIGPIPE, 0);
		EQ(write(p.in, bytes, sizeof bytes), CAPACITY);
		EQ(signals, 1);
		ERR(write(p.in, bytes, 1), EPIPE);
		EQ(signals, 2);
	}
	await_sleep(pid);
	close(p.out);
	REAP(pid);
}

CHECK(signals_end_waits)
{
	struct pipe p = used_pipe(), ready = new_pipe();
	PARTNER(pid, p) {
		static char bytes[CAPACITY * 2];
		char c;
		handle(SIGUSR1, 0);
		for (int i = 0; i < 3; i++) {
			use(p);
			EQ(write(ready.in, "x", 1), 1);
			ERR(read(p.out, &c, 1), EINTR);
			EQ(signals, i + 1);
		}
		EQ(write(ready.in, "x", 1), 1);
		EQ(write(p.in, bytes, sizeof bytes), CAPACITY);
		EQ(signals, 4);
		EQ(write(ready.in, "x", 1), 1);
		ERR(write(p.in, bytes, 1), EINTR);
		EQ(signals, 5);
		for (int left = CAPACITY; left > 0;)
			left -= OK(read(p.out, bytes, left));
		handle(SIGUSR1, SA_RESTART);
		EQ(write(ready.in, "x", 1), 1);
		EQ(read(p.out, &c, 1), 1);
		EQ(c, 'r');
		EQ(signals, 1);
	}
	char c;
	for (int i = 0; i < 6; i++) {
		EQ(read(ready.out, &c, 1), 1);
		await_sleep(pid);
		OK(kill(pid, SIGUSR1));
	}
	/* The handler has run when it sleeps again; an ignored signal ends nothing. */
	await_sleep(pid);
	OK(kill(pid, SIGCHLD));
	EQ(write(p.in, "r", 1), 1);
	REAP(pid);
}

CHECK(a_stopped_reader_goes_on)
{
	struct pipe p = used_pipe();
	PARTNER(pid, p) {
		char c;
		EQ(read(p.out, &c, 1), 1);
		EQ(c, 's');
	}
	int status;
	await_sleep(pid);
	OK(kill(pid, SIGSTOP));
	EQ(waitpid(pid, &status, WUNTRACED), pid);
	EXPECT(WIFSTOPPED(status));
	OK(kill(pid, SIGCONT));
	EQ(waitpid(pid, &status, WCONTINUED), pid);
	EQ(write(p.in, "s", 1), 1);
	REAP(pid);
}

CHECK(a_traced_reader_goes_on)
{
	struct pipe p = used_pipe();
	PARTNER(pid, p) {
		char c;
		EQ(read(p.out, &c, 1), 1);
		EQ(c, 't');
		use(p);
	}
	await_sleep(pid);
	OK(ptrace(PTRACE_SEIZE, pid, 0, 0));
	OK(ptrace(PTRACE_INTERRUPT, pid, 0, 0));
	int status;
	EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFSTOPPED(status));
	OK(ptrace(PTRACE_CONT, pid, 0, 0));
	EQ(write(p.in, "t", 1), 1);
	REAP(pid);
}

CHECK(whether_calls_wait_is_as_told)
{
	struct pipe p = used_pipe();
	static char bytes[CAPACITY * 2];
	for (int i = 0; i < OFTEN; i++) {
		int off = 0, on = 1;
		if (i % 2)
			OK(fcntl(p.out, F_SETFL, O_NONBLOCK));
		else
			OK(ioctl(p.out, FIONBIO, &on));
		ERR(read(p.out, bytes, 1), EAGAIN);
		ERR(read(p.out, bytes, 1), EAGAIN);
		EQ(write(p.in, bytes, 3), 3);
		EQ(read(p.out, bytes, 100), 3);
		OK(ioctl(p.out, FIONBIO, &off));
		EQ(write(p.in, bytes, 5), 5);
		EQ(read(p.out, bytes, 100), 5);
	}
	OK(fcntl(p.out, F_SETFL, O_NONBLOCK));
	OK(fcntl(p.in, F_SETFL, O_NONBLOCK));
	use(p);
	for (int i = 0; i < OFTEN; i++) {
		ERR(read(p.out, bytes, 1), EAGAIN);
		EQ(write(p.in, bytes, sizeof bytes), CAPACITY);
		ERR(write(p.in, bytes, sizeof bytes), EAGAIN);
		ERR(write(p.in, bytes, 1), EAGAIN);
		EQ(read(p.out, bytes, 4095), 4095);
		ERR(write(p.in, bytes, 4096), EAGAIN);
		EQ(read(p.out, bytes, 1), 1);
		EQ(write(p.in, bytes, 4096), 4096);
		EQ(read(p.out, bytes, sizeof bytes), CAPACITY);
	}
}

CHECK(bad_memory)
{
	struct pipe p = used_pipe();
	char *pages = OK(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	OK(mprotect(pages + 4096, 4096, PROT_NONE));
	for (int i = 0; i < OFTEN; i++) {
		char c = 'k';
		ERR(write(p.in, (void *)1, 1), EFAULT);
		ERR(write(p.in, pages + 4096, 1), EFAULT);
		ERR(write(p.in, (void *)0x7fff00000000, 1), EFAULT);
		EQ(write(p.in, &c, 1), 1);
		ERR(read(p.out, (void *)1, 1), EFAULT);
		ERR(read(p.out, pages + 4096, 1), EFAULT);
		ERR(read(p.out, (void *)0x7fff10000000, 1), EFAULT);
		EQ(read(p.out, pages, 100), 1);
		EQ(pages[0], 'k');
		EQ(write(p.in, &c, 0), 0);
		EQ(read(p.out, &c, 0), 0);
		ERR(write(p.out, &c, 1), EBADF);
		ERR(read(p.in, &c, 1), EBADF);
	}
}

CHECK(polling)
{
	for (int way = 0; way < 4; way++) {
		struct pipe p = used_pipe();
		PARTNER(pid, p) {
			char c = 'p';
			for (int i = 0; i < OFTEN; i++) {
				OK(raise(SIGSTOP));
				EQ(write(p.in, &c, 1), 1);
			}
		}
		struct pollfd fd = { p.out, POLLIN, 0 };
		struct epoll_event event = { EPOLLIN | (way == 3 ? EPOLLET : 0), { 0 } };
		int epoll = OK(epoll_create1(0));
		if (way >= 2)
			OK(epoll_ctl(epoll, EPOLL_CTL_ADD, p.out, &event));
		for (int i = 0; i < OFTEN; i++) {
			int status;
			fd_set set;
			char c = 0;
			EQ(waitpid(pid, &status, WUNTRACED), pid);
			EXPECT(WIFSTOPPED(status));
			EQ(poll(&fd, 1, 0), 0);
			FD_ZERO(&set);
			FD_SET(p.out, &set);
			OK(kill(pid, SIGCONT));
			if (way == 0)
				EQ(poll(&fd, 1, -1), 1);
			else if (way == 1)
				EQ(select(p.out + 1, &set, NULL, NULL, NULL), 1);
			else
				EQ(epoll_wait(epoll, &event, 1, -1), 1);
			EQ(read(p.out, &c, 1), 1);
			EQ(c, 'p');
		}
		REAP(pid);
		close(epoll);
	}
}

CHECK(a_writer_is_polled_for_room)
{
	struct pipe p = used_pipe();
	fill(p.in);
	struct pollfd fd = { p.in, POLLOUT, 0 };
	EQ(poll(&fd, 1, 0), 0);
	PARTNER(pid, new_pipe()) {
		static char bytes[CAPACITY];
		for (int left = CAPACITY; left > 0;)
			left -= OK(read(p.out, bytes, 100));
	}
	EQ(poll(&fd, 1, -1), 1);
	REAP(pid);
	EQ(poll(&fd, 1, 0), 1);
	fd = (struct pollfd){ p.out, POLLIN, 0 };
	EQ(poll(&fd, 1, 0), 0);
}

CHECK(sizes_are_told_and_changed)
{
	struct pipe p = used_pipe();
	static char bytes[4 * CAPACITY];
	for (int i = 0; i < OFTEN; i++) {
		int waiting = -1;
		EQ(write(p.in, bytes, i), i);
		OK(ioctl(p.out, FIONREAD, &waiting));
		EQ(waiting, i);
		EQ(fcntl(p.in, F_GETPIPE_SZ), CAPACITY);
		if (i > 0)
			EQ(read(p.out, bytes, sizeof bytes), i);
	}
	PARTNER(pid, p) {
		char c;
		EQ(read(p.out, &c, 1), 1);
	}
	await_sleep(pid);
	EQ(fcntl(p.in, F_SETPIPE_SZ, 2 * CAPACITY), 2 * CAPACITY);
	EQ(write(p.in, bytes, 1), 1);
	REAP(pid);
	OK(fcntl(p.in, F_SETFL, O_NONBLOCK));
	EQ(write(p.in, bytes, sizeof bytes), 2 * CAPACITY);
	ERR(fcntl(p.in, F_SETPIPE_SZ, CAPACITY), EBUSY);
}

CHECK(splice_and_tee)
{
	struct pipe a = used_pipe(), b = used_pipe(), c = used_pipe();
	PARTNER(pid, a) {
		char byte;
		EQ(read(a.out, &byte, 1), 1);
		emit(b.in, 1000, 100);
	}
	await_sleep(pid);
	ERR(tee(c.out, a.in, 1, SPLICE_F_NONBLOCK), EAGAIN);
	EQ(write(c.in, "xy", 2), 2);
	EQ(tee(c.out, a.in, 1, 0), 1);
	REAP(pid);
	EQ(splice(b.out, NULL, c.in, NULL, 1000, 0), 1000);
	char two[3] = { 0 };
	EQ(read(c.out, two, 2), 2);
	STREQ(two, "xy");
	for (unsigned long at = 0; at < 1000;)
		at += expect_some(c.out, at, 77);
	use(a);
	use(b);
	use(c);
}

CHECK(packets)
{
	struct pipe p = used_pipe();
	char bytes[100];
	OK(fcntl(p.in, F_SETFL, O_DIRECT));
	for (int i = 0; i < OFTEN; i++) {
		EQ(write(p.in, "abc", 3), 3);
		EQ(write(p.in, "de", 2), 2);
		EQ(read(p.out, bytes, 100), 3);
		EQ(read(p.out, bytes, 1), 1);
		OK(fcntl(p.out, F_SETFL, O_NONBLOCK));
		ERR(read(p.out, bytes, 1), EAGAIN);
		OK(fcntl(p.out, F_SETFL, 0));
	}
}

CHECK(numbers_change_hands)
{
	struct pipe p = used_pipe(), q = used_pipe();
	char c;
	for (int i = 0; i < 20; i++) {
		use(p);
		use(q);
		int spare = OK(dup(p.out));
		EQ(write(p.in, "p", 1), 1);
		EQ(write(q.in, "q", 1), 1);
		OK(dup2(q.out, p.out));
		EQ(read(p.out, &c, 1), 1);
		EQ(c, 'q');
		OK(dup2(spare, p.out));
		EQ(read(p.out, &c, 1), 1);
		EQ(c, 'p');
		OK(close(p.out));
		ERR(read(p.out, &c, 1), EBADF);
		EQ(OK(dup(spare)), p.out);
		OK(close(spare));
		use(p);
	}
	CHILD(pid) {
		OK(dup2(p.out, 0));
		OK(dup2(p.in, 1));
		for (int i = 0; i < OFTEN; i++) {
			EQ(write(1, "c", 1), 1);
			EQ(read(0, &c, 1), 1);
		}
		EQ(read(0, &c, 1), 1);
	}
	await_sleep(pid);
	EQ(write(p.in, "c", 1), 1);
	REAP(pid);
}

CHECK(ends_are_passed_on)
{
	int sockets[2];
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	struct pipe p = used_pipe();
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { "x", 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &p.in, sizeof(int));
	EQ(sendmsg(sockets[0], &message, 0), 1);
	close(p.in);
	CHILD(pid) {
		char c;
		iov.iov_base = &c;
		close(p.out);
		EQ(recvmsg(sockets[1], &message, 0), 1);
		memcpy(&p.in, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
		emit(p.in, 100000, 100);
	}
	close(sockets[0]);
	close(sockets[1]);
	unsigned long at = 0, got;
	while ((got = expect_some(p.out, at, 1000)) > 0)
		at += got;
	EQ(at, 100000);
	REAP(pid);
}

static struct pipe shared;

static void *read_one(void *unused)
{
	char c;
	use((struct pipe){ *(int *)unused, shared.in });
	EQ(read(shared.out, &c, 1), 1);
	return NULL;
}

CHECK(threads_of_a_process_share_a_pipe)
{
	enum { THREADS = 12 };
	for (int round = 0; round < 3; round++) {
		pthread_t threads[THREADS];
		shared = used_pipe();
		for (int i = 0; i < THREADS; i++)
			EQ(pthread_create(&threads[i], NULL, read_one, &shared.out), 0);
		for (int i = 0; i < THREADS; i++)
			EQ(write(shared.in, "t", 1), 1);
		for (int i = 0; i < THREADS; i++)
			EQ(pthread_join(threads[i], NULL), 0);
		/* A process ends though its threads wait. */
		CHILD(pid) {
			char c;
			for (int i = 0; i < THREADS; i++)
				EQ(pthread_create(&threads[i], NULL, read_one, &shared.out), 0);
			EQ(read(shared.out, &c, 1), 1);
			/* It must not be over before it is killed, if it was this thread that read. */
			for (;;)
				pause();
		}
		EQ(write(shared.in, "t", 1), 1);
		OK(kill(pid, SIGKILL));
		EQ(wait_exit(pid), 128 + SIGKILL);
	}
}

CHECK(more_pipes_than_can_be_hosted)
{
	enum { PIPES = 80, TIMES = 20 };
	static struct pipe pipes[PIPES];
	struct rlimit limit = { 1024, 1024 };
	setrlimit(RLIMIT_NOFILE, &limit);
	for (int i = 0; i < PIPES; i++)
		use_times(pipes[i] = new_pipe(), TIMES);
	CHILD(pid) {
		for (int i = 0; i < PIPES; i++)
			use_times(pipes[i], TIMES);
	}
	REAP(pid);
	for (int i = 0; i < PIPES; i++)
		use_times(pipes[i], TIMES);
}

/* Something that a pipe is asked for while its other end is in use. */
static unsigned long disturb(struct pipe p, int how, unsigned long at)
{
	static unsigned char bytes[CAPACITY];
	struct iovec iov = { bytes, 1 + how % 500 };
	struct pollfd fd = { p.out, POLLIN, 0 };
	int waiting;
	switch (how % 7) {
	case 0:
		return expect_some(p.out, at, 1 + how % 700);
	case 1: {
		long got = OK(readv(p.out, &iov, 1));
		for (long k = 0; k < got; k++)
			EQ(bytes[k], byte_at(at + k));
		return got;
	}
	case 2:
		EXPECT(poll(&fd, 1, -1) == 1);
		return 0;
	case 3:
		OK(ioctl(p.out, FIONREAD, &waiting));
		return 0;
	case 4:
		EXPECT(poll(&fd, 1, 0) >= 0);
		return 0;
	case 5:
		OK(fcntl(p.out, F_SETPIPE_SZ, 2 * CAPACITY));
		return 0;
	default:
		OK(fcntl(p.out, F_SETFL, O_NONBLOCK));
		OK(fcntl(p.out, F_SETFL, 0));
		return 0;
	}
}

/* Again and again a pipe is taken from those who use it, at another moment each time: nothing is lost or comes twice. */
CHECK(nothing_is_lost_in_between)
{
	enum { ROUNDS = 20 };
	for (int round = 0; round < ROUNDS; round++) {
		unsigned long total = 20000 + round * 100, at = 0;
		struct pipe p = new_pipe();
		CHILD(pid) {
			close(p.out);
			emit(p.in, total, round % 3 ? 60 : 6000);
		}
		close(p.in);
		for (int i = 0; i < 40 + round; i++)
			at += expect_some(p.out, at, 1 + i % 90);
		for (int i = 0; at < total; i++)
			at += disturb(p, i % 5 ? 7 * i : round + i, at);
		EQ(expect_some(p.out, at, 1), 0);
		REAP(pid);
		close(p.out);
	}
}
