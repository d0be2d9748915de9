/* Pipes and FIFOs: pipe(7), fifo(7). */
#include "check.h"
#include <sys/ioctl.h>

static void count(int sig);
static volatile sig_atomic_t hits;

static void count(int sig)
{
	(void)sig;
	hits++;
}

static void set_nonblock(int fd)
{
	OK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK));
}

/* Fills a pipe with single pages; how many bytes fitted. */
static size_t fill(int fd)
{
	static char page[4096];
	size_t n = 0;
	set_nonblock(fd);
	while (write(fd, page, sizeof page) == sizeof page)
		n += sizeof page;
	EQ(errno, EAGAIN);
	return n;
}

CHECK(pipe_moves_bytes)
{
	int p[2];
	char buf[16];
	OK(pipe(p));
	EQ(p[1], p[0] + 1);
	EQ(write(p[1], "abc", 3), 3);
	EQ(write(p[1], "def", 3), 3);
	EQ(read(p[0], buf, 4), 4);
	MEMEQ(buf, "abcd", 4);
	EQ(read(p[0], buf, 16), 2);
	ERR(read(p[1], buf, 1), EBADF);
	ERR(write(p[0], buf, 1), EBADF);
}

CHECK(pipe2_flags)
{
	int p[2];
	OK(pipe2(p, O_CLOEXEC | O_NONBLOCK));
	EQ(fcntl(p[0], F_GETFD), FD_CLOEXEC);
	EXPECT(fcntl(p[1], F_GETFL) & O_NONBLOCK);
	EQ(fcntl(p[0], F_GETFL) & O_ACCMODE, O_RDONLY);
	EQ(fcntl(p[1], F_GETFL) & O_ACCMODE, O_WRONLY);
	ERR(pipe2(p, O_APPEND), EINVAL);
	ERR(pipe(BAD_PTR), EFAULT);
}

CHECK(pipe_eof_and_epipe)
{
	int p[2];
	char c;
	OK(pipe(p));
	EQ(write(p[1], "x", 1), 1);
	OK(close(p[1]));
	EQ(read(p[0], &c, 1), 1);
	EQ(read(p[0], &c, 1), 0);
	OK(close(p[0]));
	OK(pipe(p));
	OK(close(p[0]));
	on_signal_flags(SIGPIPE, count, 0);
	ERR(write(p[1], "x", 1), EPIPE);
	EQ(hits, 1);
	signal(SIGPIPE, SIG_IGN);
	ERR(write(p[1], "x", 1), EPIPE);
}

CHECK(sigpipe_kills)
{
	int p[2];
	OK(pipe(p));
	OK(close(p[0]));
	CHILD(pid) write(p[1], "x", 1);
	EQ(wait_exit(pid), 128 + SIGPIPE);
}

CHECK(eof_needs_every_writer_closed)
{
	int p[2];
	char c;
	OK(pipe(p));
	set_nonblock(p[0]);
	int copy = OK(dup(p[1]));
	OK(close(p[1]));
	ERR(read(p[0], &c, 1), EAGAIN);
	OK(close(copy));
	EQ(read(p[0], &c, 1), 0);
}

CHECK(nonblocking_empty_and_full)
{
	int p[2];
	char c;
	OK(pipe2(p, O_NONBLOCK));
	ERR(read(p[0], &c, 1), EAGAIN);
	EQ(fill(p[1]), 65536);
	ERR(write(p[1], "x", 1), EAGAIN);
	char page[4096];
	EQ(read(p[0], page, 4096), 4096);
	EQ(write(p[1], "x", 1), 1);
}

CHECK(small_writes_are_all_or_nothing)
{
	int p[2];
	static char buf[8192];
	OK(pipe2(p, O_NONBLOCK));
	fill(p[1]);
	EQ(read(p[0], buf, 4096), 4096);
	EQ(write(p[1], buf, 100), 100);
	/* 3,996 bytes of room at most: an atomic write must not be cut. */
	ERR(write(p[1], buf, 4096), EAGAIN);
	/* A larger one may be, and is. */
	EXPECT(write(p[1], buf, 5000) > 0);
}

CHECK(partial_nonblocking_write)
{
	int p[2];
	static char buf[100000];
	OK(pipe2(p, O_NONBLOCK));
	EQ(write(p[1], buf, sizeof buf), 65536);
	ERR(write(p[1], buf, sizeof buf), EAGAIN);
}

CHECK(blocking_write_larger_than_the_pipe)
{
	int p[2];
	static char buf[1 << 20], in[1 << 20];
	for (size_t i = 0; i < sizeof buf; i++)
		buf[i] = i * 7 + (i >> 8);
	OK(pipe(p));
	CHILD(pid) {
		close(p[0]);
		EQ(write(p[1], buf, sizeof buf), sizeof buf);
	}
	close(p[1]);
	size_t have = 0;
	ssize_t n;
	while ((n = OK(read(p[0], in + have, 5000))) > 0)
		have += n;
	EQ(have, sizeof buf);
	MEMEQ(in, buf, sizeof buf);
	REAP(pid);
}

CHECK(blocked_writer_gets_epipe)
{
	int p[2];
	static char buf[1 << 17];
	OK(pipe(p));
	CHILD(pid) {
		close(p[0]);
		signal(SIGPIPE, SIG_IGN);
		/* What was moved before the reader went away is not reported as an error. */
		ssize_t n = OK(write(p[1], buf, sizeof buf));
		EXPECT(n >= 65536 && n < (ssize_t)sizeof buf);
		ERR(write(p[1], buf, 1), EPIPE);
	}
	close(p[1]);
	await_state(pid, 'S');
	close(p[0]);
	REAP(pid);
}

CHECK(interrupted_write_reports_progress)
{
	int p[2];
	static char buf[1 << 17];
	OK(pipe(p));
	CHILD(pid) {
		on_signal_flags(SIGUSR1, count, SA_RESTART);
		EQ(write(p[1], buf, sizeof buf), 65536);
		EQ(hits, 1);
	}
	await_state(pid, 'S');
	OK(kill(pid, SIGUSR1));
	REAP(pid);
}

CHECK(blocked_read_gets_data)
{
	int p[2];
	OK(pipe(p));
	CHILD(pid) {
		char buf[10];
		EQ(read(p[0], buf, 10), 3);
	}
	await_state(pid, 'S');
	EQ(write(p[1], "abc", 3), 3);
	REAP(pid);
}

CHECK(blocked_read_gets_eof)
{
	int p[2];
	OK(pipe(p));
	CHILD(pid) {
		char c;
		close(p[1]);
		EQ(read(p[0], &c, 1), 0);
	}
	await_state(pid, 'S');
	close(p[1]);
	REAP(pid);
}

CHECK(atomic_writes_do_not_interleave)
{
	int p[2];
	OK(pipe(p));
	enum { WRITERS = 4, ROUNDS = 50, SIZE = 4096 };
	pid_t pids[WRITERS];
	for (int w = 0; w < WRITERS; w++) {
		pids[w] = OK(fork());
		if (pids[w] == 0) {
			char buf[SIZE];
			memset(buf, 'a' + w, SIZE);
			for (int i = 0; i < ROUNDS; i++)
				EQ(write(p[1], buf, SIZE), SIZE);
			_exit(0);
		}
	}
	close(p[1]);
	char buf[SIZE];
	for (int i = 0; i < WRITERS * ROUNDS; i++) {
		size_t have = 0;
		while (have < SIZE)
			have += OK(read(p[0], buf + have, SIZE - have));
		for (int k = 1; k < SIZE; k++)
			EQ(buf[k], buf[0]);
	}
	for (int w = 0; w < WRITERS; w++)
		REAP(pids[w]);
}

CHECK(setpipe_size)
{
	int p[2];
	OK(pipe(p));
	EQ(fcntl(p[0], F_GETPIPE_SZ), 65536);
	EQ(fcntl(p[1], F_SETPIPE_SZ, 10000), 16384);
	EQ(fcntl(p[0], F_GETPIPE_SZ), 16384);
	EQ(fcntl(p[1], F_SETPIPE_SZ, 1), 4096);
	EQ(fcntl(p[1], F_SETPIPE_SZ, 131072), 131072);
	EQ(fill(p[1]), 131072);
	ERR(fcntl(p[1], F_SETPIPE_SZ, 4096), EBUSY);
	ERR(fcntl(OK(open(".", O_RDONLY)), F_GETPIPE_SZ), EBADF);
	if (!is_root())
		ERR(fcntl(p[1], F_SETPIPE_SZ, 1 << 30), EPERM);
}

CHECK(fionread_counts)
{
	int p[2], n = -1;
	OK(pipe(p));
	OK(ioctl(p[0], FIONREAD, &n));
	EQ(n, 0);
	EQ(write(p[1], "abcde", 5), 5);
	OK(ioctl(p[0], FIONREAD, &n));
	EQ(n, 5);
	OK(ioctl(p[1], FIONREAD, &n));
	EQ(n, 5);
}

CHECK(zero_length)
{
	int p[2];
	char c;
	OK(pipe(p));
	EQ(write(p[1], "", 0), 0);
	EQ(read(p[0], &c, 0), 0);
	OK(close(p[0]));
	EQ(write(p[1], "", 0), 0);
}

CHECK(packet_mode)
{
	int p[2];
	char buf[16];
	OK(pipe2(p, O_DIRECT));
	EQ(write(p[1], "abc", 3), 3);
	EQ(write(p[1], "defg", 4), 4);
	EQ(read(p[0], buf, 16), 3);
	EQ(read(p[0], buf, 2), 2);
	/* The rest of a packet is gone. */
	OK(close(p[1]));
	EQ(read(p[0], buf, 16), 0);
}

CHECK(pipe_stat)
{
	struct stat a, b;
	char path[64], target[64] = { 0 }, want[64];
	int p[2];
	OK(pipe(p));
	OK(fstat(p[0], &a));
	OK(fstat(p[1], &b));
	EXPECT(S_ISFIFO(a.st_mode));
	EQ(a.st_ino, b.st_ino);
	snprintf(path, sizeof path, "/proc/self/fd/%d", p[0]);
	OK(readlink(path, target, sizeof target - 1));
	snprintf(want, sizeof want, "pipe:[%lu]", (unsigned long)a.st_ino);
	STREQ(target, want);
}

CHECK(fifo_open_blocks_for_the_other_end)
{
	OK(mkfifo("fifo", 0600));
	CHILD(pid) {
		int fd = OK(open("fifo", O_WRONLY));
		EQ(write(fd, "hi", 2), 2);
	}
	await_state(pid, 'S');
	char buf[4];
	int fd = OK(open("fifo", O_RDONLY));
	EQ(read(fd, buf, 4), 2);
	REAP(pid);
	EQ(read(fd, buf, 4), 0);
}

CHECK(fifo_reader_blocks_for_a_writer)
{
	OK(mkfifo("fifo", 0600));
	CHILD(pid) {
		char buf[4];
		int fd = OK(open("fifo", O_RDONLY));
		EQ(read(fd, buf, 4), 1);
	}
	await_state(pid, 'S');
	int fd = OK(open("fifo", O_WRONLY));
	EQ(write(fd, "x", 1), 1);
	REAP(pid);
}

CHECK(fifo_nonblocking_open)
{
	char c;
	OK(mkfifo("fifo", 0600));
	ERR(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
	int rd = OK(open("fifo", O_RDONLY | O_NONBLOCK));
	EQ(read(rd, &c, 1), 0);
	int wr = OK(open("fifo", O_WRONLY | O_NONBLOCK));
	ERR(read(rd, &c, 1), EAGAIN);
	EQ(write(wr, "x", 1), 1);
	EQ(read(rd, &c, 1), 1);
}

CHECK(fifo_open_read_write)
{
	char c;
	OK(mkfifo("fifo", 0600));
	int fd = OK(open("fifo", O_RDWR));
	EQ(write(fd, "x", 1), 1);
	EQ(read(fd, &c, 1), 1);
	ERR(lseek(fd, 0, SEEK_SET), ESPIPE);
}

CHECK(fifo_open_interrupted)
{
	OK(mkfifo("fifo", 0600));
	CHILD(pid) {
		on_signal_flags(SIGUSR1, count, 0);
		ERR(open("fifo", O_RDONLY), EINTR);
	}
	await_state(pid, 'S');
	OK(kill(pid, SIGUSR1));
	REAP(pid);
}

CHECK(fifo_outlives_its_name)
{
	char c;
	OK(mkfifo("fifo", 0600));
	int fd = OK(open("fifo", O_RDWR));
	OK(unlink("fifo"));
	EQ(write(fd, "x", 1), 1);
	EQ(read(fd, &c, 1), 1);
}

CHECK(fifo_data_is_gone_with_the_last_close)
{
	char c;
	OK(mkfifo("fifo", 0600));
	int fd = OK(open("fifo", O_RDWR));
	EQ(write(fd, "x", 1), 1);
	OK(close(fd));
	fd = OK(open("fifo", O_RDONLY | O_NONBLOCK));
	EQ(read(fd, &c, 1), 0);
}

CHECK(pipe_reopened_through_proc)
{
	char path[64], c;
	int p[2];
	OK(pipe(p));
	snprintf(path, sizeof path, "/proc/self/fd/%d", p[0]);
	int wr = OK(open(path, O_WRONLY));
	EQ(write(wr, "z", 1), 1);
	EQ(read(p[0], &c, 1), 1);
	EQ(c, 'z');
}

CHECK(ping_pong)
{
	int a[2], b[2];
	char c = 0;
	OK(pipe(a));
	OK(pipe(b));
	CHILD(pid) {
		close(a[1]);
		while (read(a[0], &c, 1) == 1) {
			c++;
			EQ(write(b[1], &c, 1), 1);
		}
	}
	for (int i = 0; i < 200; i++) {
		c = i;
		EQ(write(a[1], &c, 1), 1);
		EQ(read(b[0], &c, 1), 1);
		EQ(c, (char)(i + 1));
	}
	close(a[1]);
	REAP(pid);
}

CHECK(splices_of_one_pipe_share_its_bytes)
{
	enum { PAGES = 2000, MOVERS = 2 };
	static char page[4096];
	static const char *names[MOVERS] = { "0", "1" };
	pid_t pids[MOVERS];
	int p[2];
	OK(pipe(p));
	for (int i = 0; i < MOVERS; i++) {
		CHILD(pid) {
			OK(close(p[1]));
			int out = OK(open(names[i], O_WRONLY | O_CREAT, 0600));
			while (OK(splice(p[0], NULL, out, NULL, 65536, 0)) > 0)
				;
		}
		pids[i] = pid;
	}
	for (int i = 0; i < PAGES; i++)
		EQ(write(p[1], page, sizeof page), sizeof page);
	OK(close(p[1]));
	off_t total = 0;
	for (int i = 0; i < MOVERS; i++) {
		struct stat st;
		REAP(pids[i]);
		OK(stat(names[i], &st));
		total += st.st_size;
	}
	EQ(total, PAGES * (long)sizeof page);
}
