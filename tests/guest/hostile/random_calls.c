/*
 * Random sequences of system calls that print what each returned. Arguments come from small pools of good and
 * bad values, so that calls meet each other's files and descriptors; nothing blocks, and nothing that may
 * differ (addresses, times) is printed. So the same seed gives the same text again, and comparing the text of
 * a native run with a guest's shows where the two kernels disagree (some orders of errors also differ between
 * Linux releases).
 *
 *   random_calls [--seed N] [--sequences N] [--calls N] [--user UID]
 */
#include "hostile.h"
#include <dirent.h>
#include <limits.h>
#include <stdarg.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>

#define PICK(list) ((list)[random_below(sizeof(list) / sizeof((list)[0]))])
#define BAD ((void *)8)

static char line[400];
static int line_length;
static char *scratch, *border;

__attribute__((format(printf, 1, 2))) static void note(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	line_length += vsnprintf(line + line_length, sizeof line - line_length, fmt, ap);
	va_end(ap);
}

static long result(long value)
{
	int e = errno;
	if (value == -1)
		note(" = %s", strerrorname_np(e) ? strerrorname_np(e) : "?");
	else
		note(" = %ld", value);
	return value;
}

/* For calls whose result is an address. */
static void result_ok(bool ok)
{
	int e = errno;
	note(" = %s", ok ? "ok" : strerrorname_np(e));
}

static int any_fd(void)
{
	static const int fds[] = { 3, 3, 4, 4, 5, 5, 6, 7, 8, 9, 10, 11, 12, -1, 99, AT_FDCWD };
	int fd = PICK(fds);
	note(" %d", fd);
	return fd;
}

static int dir_fd(void)
{
	int fd = random_below(3) ? AT_FDCWD : (int)random_below(8) + 3;
	note(" at%d", fd);
	return fd;
}

static const char *any_path(void)
{
	static const char *const paths[] = {
		"a", "a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/f", "l", "l/", "l/a", "dl", "dl/a", "loop", "loop/x", "d/../a",
		"./a", "a/", "a/.", "d/", "d/.", "d/..", "", ".", "..", "none/x", "d//a", "fifo", "sock", "/", "/proc/none", "a/b",
	};
	unsigned i = random_below(40);
	if (i == 38) {
		note(" bad");
		return BAD;
	}
	if (i == 39) {
		note(" border");
		return border - 2;
	}
	const char *path = PICK(paths);
	note(" \"%s\"", path);
	return path;
}

static void *any_buffer(void)
{
	unsigned i = random_below(12);
	if (i == 0) {
		note(" bad");
		return BAD;
	}
	if (i == 1) {
		note(" border");
		return border - 5;
	}
	note(" buf");
	return scratch;
}

static long any_number(void)
{
	static const long numbers[] = { 0, 0, 1, 2, 3, 5, 8, 10, 64, 100, 4095, 4096, 5000, 8192, -1, -2, INT_MAX, LONG_MAX, LONG_MIN };
	long n = PICK(numbers);
	note(" %ld", n);
	return n;
}

static size_t any_size(void)
{
	static const size_t sizes[] = { 0, 1, 2, 3, 5, 7, 10, 64, 100, 1000, 4096 };
	size_t n = PICK(sizes);
	note(" %zu", n);
	return n;
}

static int any_flags(const int *list, unsigned n, unsigned how_many)
{
	int flags = 0;
	for (unsigned i = random_below(how_many + 1); i > 0; i--)
		flags |= list[random_below(n)];
	note(" 0x%x", flags);
	return flags;
}
#define FLAGS(how_many, ...) \
	({ \
		static const int list_[] = { __VA_ARGS__ }; \
		any_flags(list_, sizeof list_ / sizeof list_[0], how_many); \
	})

static int any_mode(void)
{
	static const int modes[] = { 0, 0400, 0600, 0644, 0755, 0777, 01777, 02755, 04755, 0111, 0222 };
	int mode = PICK(modes);
	note(" 0%o", mode);
	return mode;
}

static void note_stat(const struct stat *st)
{
	note(" mode %o nlink %lu", st->st_mode, S_ISDIR(st->st_mode) ? 0ul : (unsigned long)st->st_nlink);
	if (S_ISREG(st->st_mode) || S_ISLNK(st->st_mode))
		note(" size %ld", (long)st->st_size);
}

static int open_flags(void)
{
	return FLAGS(4, O_WRONLY, O_RDWR, O_RDWR, O_CREAT, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY, O_NOFOLLOW, O_PATH,
		     O_CLOEXEC, O_NOATIME, O_TMPFILE, O_SYNC) |
	       O_NONBLOCK;
}

static void do_open(void)
{
	int dir = dir_fd();
	const char *path = any_path();
	int flags = open_flags(), mode = any_mode();
	result(syscall(SYS_openat, dir, path, flags, mode));
}

static void do_openat2(void)
{
	int dir = dir_fd();
	const char *path = any_path();
	uint64_t how[3] = { open_flags(), 0, 0 };
	how[1] = how[0] & (O_CREAT | O_TMPFILE) || !random_below(4) ? any_mode() : 0;
	how[2] = FLAGS(2, 1, 2, 4, 8, 16, 64);
	result(syscall(SYS_openat2, dir, path, how, random_below(8) ? 24 : any_size()));
}

static void do_close(void)
{
	result(close(any_fd()));
}

static void do_dup(void)
{
	switch (random_below(3)) {
	case 0:
		result(dup(any_fd()));
		break;
	case 1: {
		int from = any_fd(), to = any_fd();
		result(to >= 3 || to < 0 ? dup2(from, to) : 0);
		break;
	}
	default: {
		int from = any_fd(), to = any_fd(), flags = FLAGS(1, O_CLOEXEC, O_APPEND);
		result(dup3(from, to, flags));
	}
	}
}

static void do_fcntl(void)
{
	static const int cmds[] = { F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD, F_DUPFD_CLOEXEC, F_GETPIPE_SZ, F_GET_SEALS,
				    F_GETOWN, F_GETSIG, F_GETLEASE, 7777 };
	int cmd = PICK(cmds), fd = any_fd();
	note(" cmd %d", cmd);
	long arg = cmd == F_SETFL ? (FLAGS(2, O_APPEND, O_RDWR, O_NOATIME) | O_NONBLOCK) : cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC ? 3 + random_below(9) : any_number();
	if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC)
		note(" %ld", arg);
	result(fcntl(fd, cmd, arg));
}

static void do_lock(void)
{
	struct flock lock = { .l_type = random_below(4), .l_whence = random_below(4), .l_start = any_number(), .l_len = any_number() };
	static const int cmds[] = { F_SETLK, F_GETLK, F_OFD_SETLK, F_OFD_GETLK };
	int cmd = PICK(cmds), fd = any_fd();
	note(" cmd %d type %d whence %d", cmd, lock.l_type, lock.l_whence);
	if (result(fcntl(fd, cmd, &lock)) == 0 && (cmd == F_GETLK || cmd == F_OFD_GETLK))
		note(" type %d start %ld len %ld", lock.l_type, (long)lock.l_start, (long)lock.l_len);
}

static void do_flock(void)
{
	int fd = any_fd();
	result(flock(fd, FLAGS(1, LOCK_SH, LOCK_EX, LOCK_UN, 32) | LOCK_NB));
}

static void do_read(void)
{
	int fd = any_fd();
	void *buf = any_buffer();
	size_t n = any_size();
	if (random_below(2))
		result(read(fd, buf, n));
	else
		result(pread(fd, buf, n, any_number()));
}

static void do_write(void)
{
	int fd = any_fd();
	void *buf = any_buffer();
	size_t n = any_size();
	if (random_below(2))
		result(write(fd, buf, n));
	else {
		long at = any_number();
		result(pwrite(fd, buf, n, at > 1 << 20 ? 1 << 20 : at));
	}
}

static void do_vector(void)
{
	struct iovec v[3];
	int fd = any_fd(), n = random_below(5) - 1;
	for (int i = 0; i < 3; i++)
		v[i] = (struct iovec){ any_buffer(), any_size() };
	n = n > 3 ? 3 : n;
	note(" %d", n);
	switch (random_below(4)) {
	case 0:
		result(syscall(SYS_readv, fd, v, n));
		break;
	case 1:
		result(syscall(SYS_writev, fd, v, n));
		break;
	case 2:
		result(syscall(SYS_preadv, fd, v, n, 1, 0));
		break;
	default:
		result(syscall(SYS_pwritev2, fd, v, n, 1, 0, FLAGS(1, 1, 2, 4, 8, 16, 64, 1 << 20)));
	}
}

static void do_seek(void)
{
	int fd = any_fd();
	long at = any_number();
	int whence = random_below(6);
	note(" %d", whence);
	/* What holes there are, and how a directory counts, is the file system's affair. */
	struct stat st;
	if ((whence == SEEK_DATA || whence == SEEK_HOLE) || (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)))
		return;
	result(lseek(fd, at, whence));
}

static void do_truncate(void)
{
	long n = any_number();
	n = n > 1 << 20 ? 1 << 20 : n;
	if (random_below(2))
		result(truncate(any_path(), n));
	else
		result(ftruncate(any_fd(), n));
}

static void do_fallocate(void)
{
	int fd = any_fd(), mode = FLAGS(2, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, 0x100);
	long at = any_number(), n = any_number();
	if (at > 1 << 20 || n > 1 << 20)
		return;
	result(fallocate(fd, mode, at, n));
}

static void do_names(void)
{
	const char *path = any_path();
	switch (random_below(12)) {
	case 0:
	case 1:
		note(" mkdir");
		result(mkdir(path, any_mode()));
		break;
	case 2:
		note(" rmdir");
		result(rmdir(path));
		break;
	case 3:
		note(" unlink");
		result(unlink(path));
		break;
	case 4: {
		int dir = dir_fd();
		note(" unlinkat");
		result(unlinkat(dir, path, FLAGS(1, AT_REMOVEDIR, AT_SYMLINK_FOLLOW)));
		break;
	}
	case 5: {
		int dir = dir_fd();
		note(" linkat");
		result(linkat(AT_FDCWD, path, dir, any_path(), FLAGS(1, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH, 1)));
		break;
	}
	case 6:
		note(" symlink");
		result(symlink(path, any_path()));
		break;
	case 7: {
		int dir = dir_fd();
		note(" rename");
		result(renameat2(dir, path, AT_FDCWD, any_path(), FLAGS(1, RENAME_NOREPLACE, RENAME_EXCHANGE, 8)));
		break;
	}
	case 8:
		note(" rename");
		result(rename(path, any_path()));
		break;
	case 9: {
		long n;
		note(" readlink");
		n = result(readlink(path, scratch, any_size()));
		if (n > 0)
			note(" %.*s", (int)n, scratch);
		break;
	}
	case 10: {
		int mode = any_mode();
		note(" mknod");
		result(mknod(path, mode | FLAGS(1, S_IFREG, S_IFIFO, S_IFSOCK, S_IFDIR, S_IFLNK, 0170000), 0));
		break;
	}
	default:
		note(" chdir");
		/* Never out of its own directory: other names would be somebody else's. */
		if (path == BAD || (path[0] != '/' && strcmp(path, "..")))
			result(chdir(path));
	}
}

static void do_stat(void)
{
	struct stat st;
	const char *path = any_path();
	long r;
	switch (random_below(4)) {
	case 0:
		r = result(stat(path, &st));
		break;
	case 1:
		r = result(lstat(path, &st));
		break;
	case 2:
		r = result(fstat(any_fd(), &st));
		break;
	default: {
		int dir = any_fd();
		r = result(fstatat(dir, path, &st, FLAGS(2, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_NO_AUTOMOUNT, 1)));
	}
	}
	/* The root and its parent are not this program's. */
	if (r == 0 && (path == BAD || path[0] != '/'))
		note_stat(&st);
}

static void do_modes(void)
{
	const char *path = any_path();
	switch (random_below(7)) {
	case 0:
		if (path != BAD && (path[0] == '/' || !strcmp(path, "..")))
			return;
		result(chmod(path, any_mode()));
		break;
	case 1:
		result(fchmod(any_fd(), any_mode()));
		break;
	case 2:
		result(access(path, random_below(10)));
		break;
	case 3: {
		int dir = any_fd();
		result(syscall(SYS_faccessat2, dir, path, random_below(9), FLAGS(1, AT_EACCESS, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, 1)));
		break;
	}
	case 4:
		result(umask(any_mode() & 0777));
		break;
	case 5:
		result(syscall(SYS_fchownat, any_fd(), path, -1, -1, FLAGS(1, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, 1)));
		break;
	default: {
		struct timespec t[2] = { { 1000, random_below(2) ? UTIME_OMIT : 5 }, { 2000, random_below(2) ? UTIME_NOW : 2000000000 } };
		int dir = any_fd();
		result(utimensat(dir, path, t, FLAGS(1, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, 1)));
	}
	}
}

static void do_descriptors(void)
{
	int p[2];
	switch (random_below(7)) {
	case 0:
		result(pipe2(p, FLAGS(1, O_CLOEXEC, O_APPEND) | O_NONBLOCK));
		break;
	case 1:
		result(socketpair(AF_UNIX, (1 + random_below(6)) | SOCK_NONBLOCK, 0, p));
		break;
	case 2:
		result(eventfd(random_below(3), FLAGS(1, EFD_SEMAPHORE, EFD_CLOEXEC, 64) | EFD_NONBLOCK));
		break;
	case 3:
		result(epoll_create1(FLAGS(1, EPOLL_CLOEXEC, 1)));
		break;
	case 4:
		result(memfd_create("m", FLAGS(1, MFD_CLOEXEC, MFD_ALLOW_SEALING, 64)));
		break;
	case 5:
		result(timerfd_create(random_below(9), FLAGS(1, TFD_CLOEXEC, 1) | TFD_NONBLOCK));
		break;
	default:
		result(inotify_init1(FLAGS(1, IN_CLOEXEC, 1) | IN_NONBLOCK));
	}
}

static void do_epoll(void)
{
	struct epoll_event ev = { .events = FLAGS(3, EPOLLIN, EPOLLOUT, EPOLLONESHOT, EPOLLRDHUP, (int)EPOLLET, EPOLLPRI) };
	int ep = any_fd();
	if (random_below(3)) {
		int fd = any_fd(), op = random_below(5);
		note(" op %d", op);
		result(syscall(SYS_epoll_ctl, ep, op, fd, random_below(8) ? &ev : BAD));
	} else {
		struct epoll_event got[8];
		note(" wait");
		long n = result(syscall(SYS_epoll_wait, ep, got, random_below(9) - 1, 0));
		uint32_t all = 0;
		for (long i = 0; i < n; i++)
			all |= got[i].events;
		note(" 0x%x", all);
	}
}

static void do_poll(void)
{
	struct pollfd v[3];
	for (int i = 0; i < 3; i++)
		v[i] = (struct pollfd){ any_fd(), FLAGS(3, POLLIN, POLLOUT, POLLPRI, POLLRDHUP), 0 };
	result(poll(v, 3, 0));
	note(" %x %x %x", v[0].revents, v[1].revents, v[2].revents);
}

static void do_ioctl(void)
{
	int n = 0, fd = any_fd();
	static const unsigned long requests[] = { FIONREAD, FIONBIO, FIOCLEX, FIONCLEX, TIOCGWINSZ, TCGETS, 0x12345 };
	unsigned long request = PICK(requests);
	note(" 0x%lx", request);
	n = 1;
	struct stat st;
	/* How long a directory is, is the file system's affair. */
	if (request == FIONREAD && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
		return;
	if (result(ioctl(fd, request, random_below(6) ? (void *)&n : BAD)) == 0 && request == FIONREAD)
		note(" %d", n);
}

static void do_transfer(void)
{
	int in = any_fd(), out = any_fd();
	off_t a = random_below(6), b = random_below(6);
	off_t *pa = random_below(2) ? &a : NULL, *pb = random_below(2) ? &b : NULL;
	size_t n = any_size();
	note(" %d %d", pa ? (int)a : -1, pb ? (int)b : -1);
	switch (random_below(4)) {
	case 0:
		note(" sendfile");
		result(syscall(SYS_sendfile, out, in, pa, n));
		break;
	case 1:
		note(" splice");
		result(syscall(SYS_splice, in, pa, out, pb, n, SPLICE_F_NONBLOCK));
		break;
	case 2:
		note(" tee");
		result(tee(in, out, n, SPLICE_F_NONBLOCK));
		break;
	default:
		note(" copy");
		result(syscall(SYS_copy_file_range, in, pa, out, pb, n, random_below(10) == 0));
	}
}

static void do_signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, 1 + random_below(30));
	switch (random_below(5)) {
	case 0:
		result(syscall(SYS_rt_sigprocmask, random_below(4), random_below(6) ? &set : BAD, NULL, random_below(6) ? 8 : 4));
		/* Keep what is sent here from ending the sequence. */
		sigfillset(&set);
		sigprocmask(SIG_BLOCK, &set, NULL);
		break;
	case 1: {
		int sig = random_below(70) - 2;
		note(" kill %d", sig);
		if (sig != SIGKILL && sig != SIGSTOP)
			result(kill(getpid(), sig));
		break;
	}
	case 2:
		note(" pending");
		result(syscall(SYS_rt_sigpending, random_below(6) ? &set : BAD, random_below(6) ? 8 : 9));
		uint64_t bits;
		memcpy(&bits, &set, 8);
		note(" %lx", (unsigned long)bits);
		break;
	case 3: {
		struct timespec zero = { 0, random_below(5) ? 0 : -1 };
		note(" timedwait");
		result(syscall(SYS_rt_sigtimedwait, random_below(6) ? &set : BAD, NULL, &zero, 8));
		break;
	}
	default: {
		int sig = random_below(70) - 2;
		note(" action %d", sig);
		result(syscall(SYS_rt_sigaction, sig, random_below(3) ? NULL : BAD, NULL, random_below(6) ? 8 : 4));
	}
	}
}

static void do_memory(void)
{
	static char *area;
	if (!area)
		area = mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *at = area + random_below(16) * 4096 + (random_below(8) ? 0 : 1);
	size_t n = (random_below(5)) * 4096 + (random_below(6) ? 0 : 7);
	note(" +%ld %zu", (long)(at - area), n);
	switch (random_below(7)) {
	case 0: {
		int prot = FLAGS(2, PROT_READ, PROT_WRITE, PROT_EXEC, 0x40), flags = FLAGS(2, MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE);
		int fd = any_fd();
		if (n > 16 * 4096 - (size_t)(at - area))
			return;
		result_ok(mmap(at, n, prot, flags | MAP_FIXED, fd, random_below(4) ? 0 : 4096 * random_below(3)) != MAP_FAILED);
		break;
	}
	case 1:
		note(" munmap");
		if (n > 16 * 4096 - (size_t)(at - area))
			return;
		result(munmap(at, n));
		break;
	case 2:
		note(" mprotect");
		if (n > 16 * 4096 - (size_t)(at - area))
			return;
		result(mprotect(at, n, FLAGS(2, PROT_READ, PROT_WRITE, PROT_EXEC, 0x40)));
		break;
	case 3: {
		static const int advices[] = { 0, 1, 2, 3, 4, 8, 10, 11, 12, 14, 15, 18, 19, 99 };
		int advice = PICK(advices);
		note(" madvise %d", advice);
		if (n > 16 * 4096 - (size_t)(at - area))
			return;
		result(madvise(at, n, advice));
		break;
	}
	case 4:
		note(" msync");
		if (n > 16 * 4096 - (size_t)(at - area))
			return;
		result(msync(at, n, FLAGS(2, MS_SYNC, MS_ASYNC, MS_INVALIDATE, 8)));
		break;
	case 5:
		note(" mincore");
		if (n > 16 * 4096 - (size_t)(at - area))
			return;
		result(mincore(at, n, any_buffer()));
		break;
	default:
		note(" read");
		result(pread(any_fd(), at, n, 0));
	}
}

static void do_sockets(void)
{
	struct sockaddr_un a = { .sun_family = random_below(6) ? AF_UNIX : AF_INET };
	static const char *const names[] = { "sock", "sock2", "a", "d", "none/x" };
	strcpy(a.sun_path, PICK(names));
	static const socklen_t lengths[] = { 110, 110, 110, 20, 2, 0, 1, 200 };
	socklen_t length = PICK(lengths);
	int fd = any_fd();
	note(" %s/%u/%d", a.sun_path, length, a.sun_family);
	switch (random_below(10)) {
	case 0:
		note(" socket");
		result(socket(random_below(5) ? AF_UNIX : 77, (random_below(7)) | SOCK_NONBLOCK, random_below(3)));
		break;
	case 1:
		note(" bind");
		result(bind(fd, random_below(8) ? (void *)&a : BAD, length));
		break;
	case 2:
		note(" listen");
		result(listen(fd, 3));
		break;
	case 3:
		note(" connect");
		result(connect(fd, (void *)&a, length));
		break;
	case 4:
		note(" accept");
		result(accept4(fd, NULL, NULL, FLAGS(1, SOCK_CLOEXEC, 1) | SOCK_NONBLOCK));
		break;
	case 5:
		note(" send");
		result(send(fd, any_buffer(), any_size(), FLAGS(1, MSG_DONTWAIT, MSG_OOB, MSG_EOR) | MSG_NOSIGNAL));
		break;
	case 6:
		note(" recv");
		result(recv(fd, any_buffer(), any_size(), FLAGS(1, MSG_PEEK, MSG_TRUNC, MSG_OOB) | MSG_DONTWAIT));
		break;
	case 7:
		note(" shutdown");
		result(shutdown(fd, random_below(4)));
		break;
	case 8: {
		int value = 0;
		socklen_t size = random_below(6);
		static const int names_[] = { SO_TYPE, SO_ERROR, SO_DOMAIN, SO_ACCEPTCONN, SO_PASSCRED, SO_REUSEADDR, 9999 };
		int name = PICK(names_);
		note(" getsockopt %d %u", name, size);
		if (result(getsockopt(fd, SOL_SOCKET, name, &value, &size)) == 0)
			note(" %d %u", value, size);
		break;
	}
	default: {
		struct sockaddr_un got;
		socklen_t size = random_below(120);
		note(" name %u", size);
		if (result(random_below(2) ? getsockname(fd, (void *)&got, &size) : getpeername(fd, (void *)&got, &size)) == 0)
			note(" %u", size);
	}
	}
}

static void do_attributes(void)
{
	static const char *const names[] = { "user.a", "user.b", "user.", "trusted.x", "nonsense", "" };
	const char *name = PICK(names), *path = any_path();
	note(" %s", name);
	/* The names of the root and its parent belong to others. */
	if (path != BAD && (path[0] == '/' || !strcmp(path, "..") || !strcmp(path, ".")))
		return;
	switch (random_below(4)) {
	case 0:
		note(" set");
		result(setxattr(path, name, scratch, any_size() & 0xff, FLAGS(1, XATTR_CREATE, XATTR_REPLACE, 4)));
		break;
	case 1:
		note(" get");
		result(getxattr(path, name, scratch, any_size()));
		break;
	case 2:
		note(" remove");
		result(removexattr(path, name));
		break;
	default:
		note(" fget");
		result(fgetxattr(any_fd(), name, scratch, any_size()));
	}
}

static void do_process(void)
{
	switch (random_below(10)) {
	case 0:
		note(" wait");
		result(wait4(random_below(3) - 1, NULL, FLAGS(1, WUNTRACED, WCONTINUED, 64) | WNOHANG, NULL));
		break;
	case 1:
		note(" setpgid");
		result(setpgid(0, random_below(2) ? 0 : -1));
		break;
	case 2: {
		struct rlimit lim;
		int what = random_below(20);
		note(" getrlimit %d", what);
		long r = getrlimit(what, &lim);
		result(r);
		break;
	}
	case 3: {
		int option = random_below(60);
		note(" prctl %d", option);
		/* Reading ones only. */
		if (option == PR_GET_PDEATHSIG || option == PR_GET_DUMPABLE || option == PR_GET_KEEPCAPS || option == PR_GET_NO_NEW_PRIVS)
			result(prctl(option, scratch, 0, 0, 0));
		break;
	}
	case 4: {
		static const int ops[] = { 0, 1, 3, 4, 5, 9, 10, 128, 129, 99 };
		static uint32_t word[2];
		struct timespec zero = { 0, 0 };
		int op = PICK(ops);
		uint32_t *at = (uint32_t *)((char *)word + (random_below(6) ? 0 : 2));
		note(" futex %d +%d", op, (int)((char *)at - (char *)word));
		/* The requeueing ones take a number in place of the time. */
		void *time = op >= 3 && op <= 5 ? NULL : &zero;
		result(syscall(SYS_futex, at, op, random_below(2), time, word + 1, random_below(2)));
		break;
	}
	case 5:
		note(" priority");
		result(getpriority(random_below(2), random_below(2) ? 0 : -1));
		break;
	case 6:
		note(" sched %d", (int)syscall(SYS_sched_get_priority_max, random_below(6)));
		result(syscall(SYS_sched_getparam, random_below(2) ? 0 : -1, random_below(4) ? scratch : BAD));
		break;
	case 7: {
		struct itimerspec its = { { 0, 0 }, { random_below(2) ? 1000 : -1, random_below(4) ? 0 : 1000000000 } };
		int fd = any_fd();
		note(" timerfd %ld %ld", (long)its.it_value.tv_sec, its.it_value.tv_nsec);
		result(timerfd_settime(fd, FLAGS(1, TFD_TIMER_ABSTIME, 2, 8) & ~TFD_TIMER_ABSTIME, &its, NULL));
		break;
	}
	case 8:
		note(" inotify");
		result(inotify_add_watch(any_fd(), any_path(), FLAGS(2, IN_CREATE, IN_DELETE, IN_ONLYDIR, IN_DONT_FOLLOW, IN_OPEN)));
		break;
	default:
		note(" clone");
		result(syscall(SYS_clone, FLAGS(1, CLONE_THREAD, CLONE_SIGHAND) | (CLONE_THREAD & ~0), 0, 0, 0, 0));
	}
}

static const struct {
	const char *name;
	void (*run)(void);
	int weight;
} operations[] = {
	{ "open", do_open, 14 },	 { "openat2", do_openat2, 5 },	  { "close", do_close, 5 },	     { "dup", do_dup, 4 },
	{ "fcntl", do_fcntl, 5 },	 { "lock", do_lock, 4 },	  { "flock", do_flock, 2 },	     { "read", do_read, 6 },
	{ "write", do_write, 6 },	 { "vector", do_vector, 3 },	  { "seek", do_seek, 3 },	     { "truncate", do_truncate, 3 },
	{ "fallocate", do_fallocate, 2 }, { "names", do_names, 14 },	  { "stat", do_stat, 6 },	     { "modes", do_modes, 6 },
	{ "new", do_descriptors, 6 },	 { "epoll", do_epoll, 5 },	  { "poll", do_poll, 3 },	     { "ioctl", do_ioctl, 3 },
	{ "transfer", do_transfer, 5 },	 { "signals", do_signals, 4 },	  { "memory", do_memory, 5 },	     { "sockets", do_sockets, 10 },
	{ "attributes", do_attributes, 3 }, { "process", do_process, 5 },
};

static void set_up(const char *directory)
{
	int sum = 0;
	char loop[] = "loop";
	NEED(mkdir(directory, 0777) == 0 && chdir(directory) == 0);
	sum |= mkdir("d", 0755) | mkdir("d/e", 0755) | symlink("a", "l") | symlink("d", "dl") | symlink(loop, loop);
	int fd = open("a", O_WRONLY | O_CREAT, 0644);
	NEED(write(fd, "0123456789", 10) == 10 && close(fd) == 0 && sum == 0);
	close(open("d/b", O_WRONLY | O_CREAT, 0600));
	scratch = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	border = scratch + 2 * 4096;
	NEED(scratch != MAP_FAILED && mprotect(border, 4096, PROT_NONE) == 0);
	memset(scratch, 'x', 2 * 4096);
	close_range(3, ~0u, 0);
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	set_limit(RLIMIT_CORE, 0);
	set_limit(RLIMIT_NOFILE, 40);
}

static void run_sequence(uint64_t seed, int sequence, int calls)
{
	int total = 0;
	for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++)
		total += operations[i].weight;
	random_state = seed * 1000003 + sequence + 1;
	for (int i = 0; i < 10; i++)
		random_u64();
	for (int i = 0; i < calls; i++) {
		int at = random_below(total);
		size_t which = 0;
		while (at >= operations[which].weight)
			at -= operations[which++].weight;
		line_length = 0;
		errno = 0;
		note("%d.%d %s", sequence, i, operations[which].name);
		operations[which].run();
		puts(line);
		/* Told one by one, so that a call that ends the sequence is seen. */
		fflush(stdout);
	}
}

static long option(int argc, char **argv, const char *name, long otherwise)
{
	for (int i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], name))
			return strtol(argv[i + 1], NULL, 0);
	return otherwise;
}

int main(int argc, char **argv)
{
	char base[] = "/tmp/uvm-random-XXXXXX", name[64], remove[128];
	long seed = option(argc, argv, "--seed", 1), sequences = option(argc, argv, "--sequences", 50);
	long calls = option(argc, argv, "--calls", 40), user = option(argc, argv, "--user", -1);
	NEED(mkdtemp(base) && chmod(base, 0777) == 0 && chdir(base) == 0);
	umask(022);
	for (int i = 0; i < sequences; i++) {
		fflush(stdout);
		pid_t pid = fork();
		NEED(pid >= 0);
		if (pid == 0) {
			setpgid(0, 0);
			alarm(10);
			/* Links may lead anywhere: as root, not out of here. */
			if (geteuid() == 0)
				NEED(chroot(".") == 0);
			if (user >= 0 && geteuid() == 0)
				NEED(setresgid(user, user, user) == 0 && setresuid(user, user, user) == 0);
			snprintf(name, sizeof name, "s%d", i);
			set_up(name);
			run_sequence(seed, i, calls);
			_exit(0);
		}
		int status = reap(pid);
		printf("%d ends with %d\n", i, status);
	}
	snprintf(remove, sizeof remove, "chmod -R u+rwx %s; rm -rf %s", base, base);
	NEED(chdir("/") == 0 && system(remove) == 0);
	puts("ok random_calls");
	return 0;
}
