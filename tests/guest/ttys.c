/* Pseudo-terminals, line discipline and job control: pty(7), termios(3), tty_ioctl(4). */
#include "check.h"
#include <ctype.h>
#include <sys/ioctl.h>
#include <termios.h>

static volatile sig_atomic_t hits;

static void count(int sig)
{
	(void)sig;
	hits++;
}

struct pty {
	int master, slave;
};

static int open_slave(int master, int flags)
{
	char name[64];
	OK(grantpt(master));
	OK(unlockpt(master));
	OK(ptsname_r(master, name, sizeof name) == 0 ? 0 : -1);
	return OK(open(name, O_RDWR | flags));
}

/* Without echo, so that the output side holds only what the check wrote. */
static struct pty new_pty(void)
{
	struct pty p;
	struct termios t;
	p.master = posix_openpt(O_RDWR | O_NOCTTY);
	if (p.master == -1 && (errno == EACCES || errno == ENOENT || errno == EPERM))
		SKIP("no pseudo-terminals here");
	OK(p.master);
	p.slave = open_slave(p.master, O_NOCTTY);
	OK(tcgetattr(p.slave, &t));
	t.c_lflag &= ~ECHO;
	OK(tcsetattr(p.slave, TCSANOW, &t));
	return p;
}

static void change(int fd, tcflag_t off, tcflag_t on)
{
	struct termios t;
	OK(tcgetattr(fd, &t));
	t.c_lflag = (t.c_lflag & ~off) | on;
	OK(tcsetattr(fd, TCSANOW, &t));
}

static void type(struct pty p, const char *keys)
{
	EQ(write(p.master, keys, strlen(keys)), strlen(keys));
}

static void expect_read(int fd, const char *want)
{
	char buf[256] = { 0 };
	EQ(read(fd, buf, sizeof buf - 1), strlen(want));
	STREQ(buf, want);
}

/* Returns once the line has come through the line discipline. */
static void type_and_wait(struct pty p, const char *line)
{
	struct pollfd pfd = { .fd = p.slave, .events = POLLIN };
	type(p, line);
	EQ(poll(&pfd, 1, -1), 1);
}

/* Output crosses to the master piece by piece. */
static void expect_output(struct pty p, const char *want)
{
	char buf[256] = { 0 };
	size_t have = 0;
	while (have < strlen(want))
		have += OK(read(p.master, buf + have, sizeof buf - 1 - have));
	STREQ(buf, want);
}

static void expect_line(struct pty p, const char *keys, const char *want)
{
	type(p, keys);
	expect_read(p.slave, want);
}

static void expect_nothing(int fd)
{
	char c;
	int flags = OK(fcntl(fd, F_GETFL));
	OK(fcntl(fd, F_SETFL, flags | O_NONBLOCK));
	ERR(read(fd, &c, 1), EAGAIN);
	OK(fcntl(fd, F_SETFL, flags));
}

/* Runs the block in a new session whose controlling terminal is the slave. */
#define IN_SESSION(p, statements) \
	do { \
		CHILD(session_) { \
			OK(setsid()); \
			OK(ioctl((p).slave, TIOCSCTTY, 0)); \
			statements; \
		} \
		REAP(session_); \
	} while (0)

CHECK(ptmx_gives_a_pair)
{
	char name[64];
	struct pty p = new_pty();
	struct stat st;
	OK(ptsname_r(p.master, name, sizeof name) == 0 ? 0 : -1);
	MEMEQ(name, "/dev/pts/", 9);
	OK(stat(name, &st));
	EXPECT(S_ISCHR(st.st_mode));
	EQ(st.st_rdev >> 8, 136);
	EQ(st.st_uid, getuid());
	EXPECT(isatty(p.slave));
	EXPECT(isatty(p.master));
	int n = -1;
	OK(ioctl(p.master, TIOCGPTN, &n));
	EQ(n, atoi(name + 9));
}

CHECK(locked_slave_cannot_be_opened)
{
	char name[64];
	new_pty();
	int m = OK(posix_openpt(O_RDWR | O_NOCTTY)), lock = -1;
	OK(ptsname_r(m, name, sizeof name) == 0 ? 0 : -1);
	OK(ioctl(m, TIOCGPTLCK, &lock));
	EQ(lock, 1);
	ERR(open(name, O_RDWR | O_NOCTTY), EIO);
	OK(unlockpt(m));
	OK(open(name, O_RDWR | O_NOCTTY));
}

CHECK(slave_through_tiocgptpeer)
{
	struct pty p = new_pty();
	int peer = OK(ioctl(p.master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
	EQ(fcntl(peer, F_GETFD), FD_CLOEXEC);
	type(p, "hi\n");
	expect_read(peer, "hi\n");
}

CHECK(canonical_input_waits_for_a_line)
{
	struct pty p = new_pty();
	type(p, "par");
	expect_nothing(p.slave);
	type(p, "tial\nnext");
	expect_read(p.slave, "partial\n");
	expect_nothing(p.slave);
	type(p, "\r");
	/* ICRNL makes it a newline. */
	expect_read(p.slave, "next\n");
}

CHECK(one_read_gives_one_line)
{
	struct pty p = new_pty();
	char buf[8];
	type(p, "one\ntwo\n");
	EQ(read(p.slave, buf, 2), 2);
	MEMEQ(buf, "on", 2);
	expect_read(p.slave, "e\n");
	expect_read(p.slave, "two\n");
}

CHECK(erase_kill_and_word_erase)
{
	struct pty p = new_pty();
	expect_line(p, "abcd\x7f\x7fX\n", "abX\n");
	expect_line(p, "\x7f\x7fok\n", "ok\n");
	expect_line(p, "rubbish\x15good\n", "good\n");
	expect_line(p, "one two  \x17three\n", "one three\n");
	struct termios t;
	OK(tcgetattr(p.slave, &t));
	t.c_cc[VERASE] = 8;
	OK(tcsetattr(p.slave, TCSANOW, &t));
	expect_line(p, "abc\bd\n", "abd\n");
}

CHECK(literal_next)
{
	struct pty p = new_pty();
	expect_line(p, "a\x16\x03z\n", "a\x03z\n");
}

CHECK(end_of_file_character)
{
	char buf[8];
	struct pty p = new_pty();
	expect_line(p, "abc\x04", "abc");
	type(p, "\x04");
	EQ(read(p.slave, buf, 8), 0);
	expect_line(p, "more\n", "more\n");
}

CHECK(echo_and_control_echo)
{
	struct pty p = new_pty();
	change(p.slave, 0, ECHO | ECHOE | ECHOCTL | ECHOK);
	type(p, "ab");
	expect_output(p, "ab");
	type(p, "\x7f");
	expect_output(p, "\b \b");
	type(p, "\x01");
	expect_output(p, "^A");
	type(p, "\n");
	/* ONLCR on the way out. */
	expect_output(p, "\r\n");
}

CHECK(echonl_without_echo)
{
	struct pty p = new_pty();
	change(p.slave, ECHO, ECHONL);
	type(p, "secret\n");
	expect_output(p, "\r\n");
	expect_read(p.slave, "secret\n");
}

CHECK(output_processing)
{
	struct pty p = new_pty();
	struct termios t;
	EQ(write(p.slave, "a\nb", 3), 3);
	expect_output(p, "a\r\nb");
	OK(tcgetattr(p.slave, &t));
	t.c_oflag &= ~OPOST;
	OK(tcsetattr(p.slave, TCSANOW, &t));
	EQ(write(p.slave, "a\nb", 3), 3);
	expect_output(p, "a\nb");
}

CHECK(raw_mode_min_and_time)
{
	struct pty p = new_pty();
	struct termios t;
	char buf[8];
	OK(tcgetattr(p.slave, &t));
	cfmakeraw(&t);
	t.c_cc[VMIN] = 3;
	t.c_cc[VTIME] = 0;
	OK(tcsetattr(p.slave, TCSANOW, &t));
	CHILD(pid) {
		EQ(read(p.slave, buf, 8), 3);
		MEMEQ(buf, "\x03\x7f\r", 3);
	}
	type(p, "\x03\x7f");
	await_state(pid, 'S');
	type(p, "\r");
	REAP(pid);
	t.c_cc[VMIN] = 0;
	OK(tcsetattr(p.slave, TCSANOW, &t));
	EQ(read(p.slave, buf, 8), 0);
	t.c_cc[VTIME] = 1;
	OK(tcsetattr(p.slave, TCSANOW, &t));
	EQ(read(p.slave, buf, 8), 0);
	type(p, "k");
	EQ(read(p.slave, buf, 8), 1);
}

CHECK(attributes_read_back)
{
	struct pty p = new_pty();
	struct termios t;
	OK(tcgetattr(p.slave, &t));
	EXPECT(t.c_lflag & ICANON);
	EXPECT(t.c_lflag & ISIG);
	EXPECT(t.c_iflag & ICRNL);
	EXPECT(t.c_oflag & ONLCR);
	EQ(t.c_cc[VINTR], 3);
	EQ(t.c_cc[VEOF], 4);
	EQ(t.c_cc[VERASE], 0x7f);
	EQ(t.c_cc[VSUSP], 26);
	EQ(t.c_cflag & CSIZE, CS8);
	EQ(cfgetospeed(&t), B38400);
	ERR(tcgetattr(OK(open("/dev/null", O_RDWR)), &t), ENOTTY);
	/* Both ends show the same settings. */
	struct termios m;
	OK(tcgetattr(p.master, &m));
	EQ(m.c_lflag, t.c_lflag);
}

CHECK(tcsaflush_drops_input)
{
	struct pty p = new_pty();
	struct termios t;
	type_and_wait(p, "lost\n");
	OK(tcgetattr(p.slave, &t));
	OK(tcsetattr(p.slave, TCSAFLUSH, &t));
	expect_nothing(p.slave);
	type_and_wait(p, "also lost\n");
	OK(tcflush(p.slave, TCIFLUSH));
	expect_nothing(p.slave);
}

CHECK(fionread_and_poll)
{
	struct pty p = new_pty();
	int n = -1;
	struct pollfd pfd = { .fd = p.slave, .events = POLLIN | POLLOUT };
	type(p, "abc");
	EQ(poll(&pfd, 1, 0), 1);
	EQ(pfd.revents, POLLOUT);
	type(p, "d\n");
	pfd.events = POLLIN;
	EQ(poll(&pfd, 1, -1), 1);
	EQ(pfd.revents, POLLIN);
	OK(ioctl(p.slave, FIONREAD, &n));
	EQ(n, 5);
	EQ(write(p.slave, "out", 3), 3);
	do
		OK(ioctl(p.master, FIONREAD, &n));
	while (n < 3);
	EQ(n, 3);
}

CHECK(window_size_and_sigwinch)
{
	struct pty p = new_pty();
	struct winsize w;
	OK(ioctl(p.slave, TIOCGWINSZ, &w));
	EQ(w.ws_row, 0);
	struct gate ready = gate_new();
	CHILD(pid) {
		OK(setsid());
		OK(ioctl(p.slave, TIOCSCTTY, 0));
		block_signal(SIGWINCH);
		gate_open(ready);
		sigset_t set = sigset_of(SIGWINCH);
		EQ(sigwaitinfo(&set, NULL), SIGWINCH);
		OK(ioctl(p.slave, TIOCGWINSZ, &w));
		EQ(w.ws_row, 25);
		EQ(w.ws_col, 132);
	}
	gate_wait(ready);
	/* Ignored by default, but kept while it is blocked. */
	w = (struct winsize){ .ws_row = 25, .ws_col = 132 };
	OK(ioctl(p.master, TIOCSWINSZ, &w));
	REAP(pid);
}

CHECK(controlling_terminal)
{
	struct pty p = new_pty();
	IN_SESSION(p, {
		int tty = OK(open("/dev/tty", O_RDWR));
		EXPECT(isatty(tty));
		EQ(tcgetpgrp(p.slave), getpgrp());
		EQ(tcgetsid(p.slave), getsid(0));
		EQ(write(tty, "via tty", 7), 7);
		/* The leader's letting go hangs up the foreground group. */
		signal(SIGHUP, SIG_IGN);
		OK(ioctl(tty, TIOCNOTTY, 0));
		ERR(open("/dev/tty", O_RDWR), ENXIO);
	});
}

CHECK(first_open_by_a_session_leader_takes_it)
{
	char name[64];
	struct pty p = new_pty();
	OK(ptsname_r(p.master, name, sizeof name) == 0 ? 0 : -1);
	CHILD(pid) {
		OK(setsid());
		close(OK(open(name, O_RDWR | O_NOCTTY)));
		ERR(open("/dev/tty", O_RDWR), ENXIO);
		OK(open(name, O_RDWR));
		OK(open("/dev/tty", O_RDWR));
	}
	REAP(pid);
}

CHECK(tiocsctty_rules)
{
	struct pty p = new_pty();
	ERR(ioctl(p.slave, TIOCSCTTY, 0), EPERM);
	IN_SESSION(p, {
		struct pty q = new_pty();
		ERR(ioctl(q.slave, TIOCSCTTY, 0), EPERM);
		OK(ioctl(p.slave, TIOCSCTTY, 0));
		CHILD(other) {
			OK(setsid());
			/* Taken by another session. */
			ERR(ioctl(p.slave, TIOCSCTTY, 0), EPERM);
		}
		REAP(other);
	});
}

CHECK(tcsetpgrp_rules)
{
	struct pty p = new_pty();
	ERR(tcsetpgrp(p.slave, getpgrp()), ENOTTY);
	IN_SESSION(p, {
		struct gate go = gate_new();
		CHILD(job) {
			gate_wait(go);
			EQ(tcgetpgrp(p.slave), getpid());
		}
		OK(setpgid(job, job));
		OK(tcsetpgrp(p.slave, job));
		EQ(tcgetpgrp(p.slave), job);
		gate_open(go);
		REAP(job);
		/* From the background, in an orphaned group: no stop but an error. */
		ERR(tcsetpgrp(p.slave, getpgrp()), ENOTTY);
		signal(SIGTTOU, SIG_IGN);
		ERR(tcsetpgrp(p.slave, -1), EINVAL);
		ERR(tcsetpgrp(p.slave, 0x3fffffff), ESRCH);
		OK(tcsetpgrp(p.slave, getpgrp()));
	});
}

/* Starts a foreground job of its own group that pauses; its pid. */
static pid_t foreground_job(struct pty p, struct gate ready)
{
	CHILD(job) {
		OK(setpgid(0, 0));
		signal(SIGTTOU, SIG_IGN);
		OK(tcsetpgrp(p.slave, getpid()));
		gate_open(ready);
		for (;;)
			pause();
	}
	gate_wait(ready);
	return job;
}

CHECK(interrupt_and_quit_keys)
{
	struct pty p = new_pty();
	struct gate ready = gate_new();
	IN_SESSION(p, {
		pid_t job = foreground_job(p, ready);
		type(p, "\x03");
		EQ(wait_exit(job), 128 + SIGINT);
		job = foreground_job(p, ready);
		type(p, "\x1c");
		EQ(wait_exit(job), 128 + SIGQUIT);
		/* The session leader is in the background group: untouched. */
	});
}

CHECK(suspend_key_stops_the_job)
{
	struct pty p = new_pty();
	struct gate ready = gate_new();
	IN_SESSION(p, {
		int status;
		pid_t job = foreground_job(p, ready);
		type(p, "\x1a");
		EQ(waitpid(job, &status, WUNTRACED), job);
		EXPECT(WIFSTOPPED(status));
		EQ(WSTOPSIG(status), SIGTSTP);
		OK(kill(-job, SIGCONT));
		type(p, "\x03");
		EQ(wait_exit(job), 128 + SIGINT);
	});
}

CHECK(isig_off_passes_the_key)
{
	struct pty p = new_pty();
	change(p.slave, ISIG, 0);
	expect_line(p, "a\x03z\n", "a\x03z\n");
}

CHECK(interrupt_flushes_input)
{
	struct pty p = new_pty();
	IN_SESSION(p, {
		on_signal_flags(SIGINT, count, 0);
		type(p, "half\x03whole\n");
		while (!hits)
			sched_yield();
		expect_read(p.slave, "whole\n");
	});
}

CHECK(background_read_stops)
{
	struct pty p = new_pty();
	IN_SESSION(p, {
		int status;
		CHILD(job) {
			char c;
			OK(setpgid(0, 0));
			EQ(read(p.slave, &c, 1), 1);
			EQ(c, 'x');
		}
		setpgid(job, job);
		EQ(waitpid(job, &status, WUNTRACED), job);
		EXPECT(WIFSTOPPED(status));
		EQ(WSTOPSIG(status), SIGTTIN);
		OK(tcsetpgrp(p.slave, job));
		OK(kill(-job, SIGCONT));
		type(p, "x\n");
		EQ(wait_exit(job), 0);
	});
}

CHECK(background_read_when_ignored_is_eio)
{
	struct pty p = new_pty();
	IN_SESSION(p, {
		CHILD(job) {
			char c;
			OK(setpgid(0, 0));
			signal(SIGTTIN, SIG_IGN);
			ERR(read(p.slave, &c, 1), EIO);
		}
		REAP(job);
	});
}

CHECK(background_write_and_tostop)
{
	struct pty p = new_pty();
	IN_SESSION(p, {
		int status;
		CHILD(free) {
			OK(setpgid(0, 0));
			EQ(write(p.slave, "x", 1), 1);
		}
		REAP(free);
		change(p.slave, 0, TOSTOP);
		CHILD(job) {
			OK(setpgid(0, 0));
			EQ(write(p.slave, "y", 1), 1);
		}
		setpgid(job, job);
		EQ(waitpid(job, &status, WUNTRACED), job);
		EXPECT(WIFSTOPPED(status));
		EQ(WSTOPSIG(status), SIGTTOU);
		OK(tcsetpgrp(p.slave, job));
		OK(kill(-job, SIGCONT));
		EQ(wait_exit(job), 0);
	});
}

CHECK(background_tcsetattr_stops)
{
	struct pty p = new_pty();
	IN_SESSION(p, {
		int status;
		CHILD(job) {
			struct termios t;
			OK(setpgid(0, 0));
			OK(tcgetattr(p.slave, &t));
			OK(tcsetattr(p.slave, TCSANOW, &t));
		}
		setpgid(job, job);
		EQ(waitpid(job, &status, WUNTRACED), job);
		EQ(WSTOPSIG(status), SIGTTOU);
		OK(kill(job, SIGKILL));
		EQ(wait_exit(job), 128 + SIGKILL);
	});
}

CHECK(master_close_hangs_up)
{
	struct pty p = new_pty();
	struct gate ready = gate_new(), up = gate_new();
	CHILD(pid) {
		char c;
		OK(setsid());
		OK(ioctl(p.slave, TIOCSCTTY, 0));
		close(p.master);
		on_signal_flags(SIGHUP, count, 0);
		block_signal(SIGHUP);
		gate_open(ready);
		sigset_t none;
		sigemptyset(&none);
		while (!hits)
			sigsuspend(&none);
		EQ(read(p.slave, &c, 1), 0);
		ERR(write(p.slave, "x", 1), EIO);
		struct pollfd pfd = { .fd = p.slave, .events = POLLIN };
		EQ(poll(&pfd, 1, 0), 1);
		EXPECT(pfd.revents & POLLHUP);
		gate_open(up);
	}
	gate_wait(ready);
	close(p.master);
	gate_wait(up);
	REAP(pid);
}

CHECK(slave_close_is_eio_on_the_master)
{
	char c;
	struct pty p = new_pty();
	EQ(write(p.slave, "last", 4), 4);
	OK(close(p.slave));
	expect_output(p, "last");
	ERR(read(p.master, &c, 1), EIO);
	struct pollfd pfd = { .fd = p.master, .events = POLLIN };
	EQ(poll(&pfd, 1, 0), 1);
	EXPECT(pfd.revents & POLLHUP);
	/* Opening it again revives the pair. */
	p.slave = open_slave(p.master, O_NOCTTY);
	type(p, "again\n");
	/* The new slave starts from the settings that were left. */
	expect_read(p.slave, "again\n");
}

CHECK(leader_exit_hangs_up_the_foreground)
{
	struct pty p = new_pty();
	struct gate up = gate_new(), ready = gate_new();
	OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
	CHILD(leader) {
		OK(setsid());
		OK(ioctl(p.slave, TIOCSCTTY, 0));
		pid_t job = foreground_job(p, ready);
		EQ(write(up.fd[1], &job, sizeof job), sizeof job);
	}
	REAP(leader);
	pid_t job;
	EQ(read(up.fd[0], &job, sizeof job), sizeof job);
	EQ(wait_exit(job), 128 + SIGHUP);
}

CHECK(packet_mode)
{
	char buf[16];
	int on = 1;
	struct pty p = new_pty();
	OK(ioctl(p.master, TIOCPKT, &on));
	EQ(write(p.slave, "abc", 3), 3);
	EQ(read(p.master, buf, 16), 4);
	MEMEQ(buf, "\0abc", 4);
	OK(tcflush(p.slave, TCOFLUSH));
	EQ(read(p.master, buf, 16), 1);
	EXPECT(buf[0] & TIOCPKT_FLUSHWRITE);
}

CHECK(simulated_input)
{
	if (!has_capability(CAP_SYS_ADMIN))
		SKIP("needs CAP_SYS_ADMIN");
	struct pty p = new_pty();
	IN_SESSION(p, {
		char text[] = "in\n";
		for (int i = 0; i < 3; i++)
			OK(ioctl(p.slave, TIOCSTI, &text[i]));
		expect_read(p.slave, "in\n");
	});
}

CHECK(a_blocking_write_waits_until_all_is_written)
{
	enum { ALL = 100000 };
	static char bytes[ALL];
	struct pty p = new_pty();
	struct termios t;
	OK(tcgetattr(p.slave, &t));
	cfmakeraw(&t);
	OK(tcsetattr(p.slave, TCSANOW, &t));
	memset(bytes, 'x', ALL);
	CHILD(pid) {
		long total = 0;
		while (total < ALL) {
			char got[4096];
			total += OK(read(p.master, got, sizeof got));
		}
		EQ(total, ALL);
	}
	EQ(write(p.slave, bytes, ALL), ALL);
	REAP(pid);
	OK(fcntl(p.slave, F_SETFL, O_NONBLOCK));
	/* More than once, as what was written moves on to the reader's side meanwhile. */
	long done;
	while ((done = write(p.slave, bytes, ALL)) > 0)
		EXPECT(done < ALL);
	EQ(done, -1);
	EQ(errno, EAGAIN);
}

CHECK(long_line_is_cut)
{
	struct pty p = new_pty();
	static char line[5000], buf[5000];
	memset(line, 'a', 4999);
	/* The line discipline keeps 4,095 characters of a line, so that its end still fits. */
	int flags = OK(fcntl(p.master, F_GETFL));
	OK(fcntl(p.master, F_SETFL, flags | O_NONBLOCK));
	for (size_t at = 0; at < 4999;) {
		ssize_t n = write(p.master, line + at, 4999 - at);
		if (n <= 0)
			break;
		at += n;
	}
	type(p, "\n");
	EQ(read(p.slave, buf, sizeof buf), 4096);
	EQ(buf[4095], '\n');
}

CHECK(exclusive_use)
{
	char name[64];
	struct pty p = new_pty();
	OK(ptsname_r(p.master, name, sizeof name) == 0 ? 0 : -1);
	OK(ioctl(p.slave, TIOCEXCL, 0));
	if (!has_capability(CAP_SYS_ADMIN))
		ERR(open(name, O_RDWR | O_NOCTTY), EBUSY);
	OK(ioctl(p.slave, TIOCNXCL, 0));
	OK(open(name, O_RDWR | O_NOCTTY));
}

CHECK(terminals_closed_while_they_are_listed)
{
	enum { COUNT = 20 };
	char buf[128] __attribute__((aligned(8)));
	int masters[COUNT], seen = 0;
	unsigned numbers[COUNT];
	for (int i = 0; i < COUNT; i++) {
		struct pty p = new_pty();
		OK(close(p.slave));
		masters[i] = p.master;
		OK(ioctl(p.master, TIOCGPTN, &numbers[i]));
	}
	int dir = OK(open("/dev/pts", O_RDONLY | O_DIRECTORY));
	long n;
	while ((n = OK(syscall(SYS_getdents64, dir, buf, sizeof buf))) > 0)
		for (struct dirent64 *e = (void *)buf; (char *)e < buf + n; e = (void *)((char *)e + e->d_reclen))
			for (int i = 0; i < COUNT; i++)
				if (isdigit(e->d_name[0]) && (unsigned)atoi(e->d_name) == numbers[i]) {
					seen++;
					OK(close(masters[i]));
				}
	EQ(seen, COUNT);
}
