/* Bad pointers: EFAULT for every call, errno order, strings and structures at a page's end, partial transfers. */
#include "check.h"
#include <linux/futex.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <time.h>

/* Every kind of pointer that must not be followed. */
static void *const bad[] = { BAD_PTR, KERNEL_PTR, (void *)0x8000000000000000ull, (void *)-1, (void *)-4096 };

#define EACH_BAD(p) for (size_t i_ = 0; i_ < sizeof bad / sizeof bad[0]; i_++) for (void *p = bad[i_]; p; p = NULL)

/* Memory that can be read but not written. */
static void *read_only(void)
{
	return OK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

/* Copies a string so that it ends (with its NUL, or one byte before it) right at a page that cannot be read. */
static char *at_border(const char *s, bool with_nul)
{
	char *border = page_border();
	size_t n = strlen(s) + with_nul;
	memcpy(border - n, s, n);
	return border - n;
}

CHECK(paths)
{
	struct stat st;
	struct statx stx;
	struct statfs fs;
	char buf[16];
	struct open_how how = { .flags = O_RDONLY };
	EACH_BAD(p) {
		ERR(open(p, O_RDONLY), EFAULT);
		ERR(syscall(SYS_openat, AT_FDCWD, p, O_RDONLY), EFAULT);
		ERR(syscall(SYS_openat2, AT_FDCWD, p, &how, sizeof how), EFAULT);
		ERR(syscall(SYS_stat, p, &st), EFAULT);
		ERR(syscall(SYS_lstat, p, &st), EFAULT);
		ERR(syscall(SYS_newfstatat, AT_FDCWD, p, &st, 0), EFAULT);
		ERR(syscall(SYS_statx, AT_FDCWD, p, 0, STATX_SIZE, &stx), EFAULT);
		ERR(syscall(SYS_access, p, F_OK), EFAULT);
		ERR(chdir(p), EFAULT);
		ERR(mkdir(p, 0755), EFAULT);
		ERR(rmdir(p), EFAULT);
		ERR(unlink(p), EFAULT);
		ERR(readlink(p, buf, 16), EFAULT);
		ERR(chmod(p, 0), EFAULT);
		ERR(chown(p, -1, -1), EFAULT);
		ERR(truncate(p, 0), EFAULT);
		ERR(mknod(p, S_IFREG, 0), EFAULT);
		ERR(syscall(SYS_statfs, p, &fs), EFAULT);
		ERR(syscall(SYS_utimensat, AT_FDCWD, p, NULL, 0), EFAULT);
		ERR(execve(p, NULL, NULL), EFAULT);
		ERR(chroot(p), EFAULT);
	}
}

CHECK(second_paths)
{
	write_file("f", "");
	EACH_BAD(p) {
		ERR(link("f", p), EFAULT);
		ERR(link(p, "g"), EFAULT);
		ERR(symlink("f", p), EFAULT);
		ERR(symlink(p, "l"), EFAULT);
		ERR(rename("f", p), EFAULT);
		ERR(rename(p, "g"), EFAULT);
		ERR(syscall(SYS_renameat2, AT_FDCWD, "f", AT_FDCWD, p, 0), EFAULT);
	}
	OK(access("f", F_OK));
}

CHECK(path_at_the_end_of_a_page)
{
	write_file("file", "x");
	OK(close(OK(open(at_border("file", true), O_RDONLY))));
	OK(access(at_border("./././file", true), F_OK));
	ERR(open(at_border("file", false), O_RDONLY), EFAULT);
	ERR(mkdir(at_border("dir", false), 0755), EFAULT);
	ERR(open(page_border(), O_RDONLY), EFAULT);
}

CHECK(result_structures)
{
	write_file("f", "");
	int fd = OK(open("f", O_RDWR));
	EACH_BAD(p) {
		ERR(syscall(SYS_fstat, fd, p), EFAULT);
		ERR(syscall(SYS_stat, "f", p), EFAULT);
		ERR(syscall(SYS_newfstatat, AT_FDCWD, "f", p, 0), EFAULT);
		ERR(syscall(SYS_statx, AT_FDCWD, "f", 0, STATX_SIZE, p), EFAULT);
		ERR(syscall(SYS_fstatfs, fd, p), EFAULT);
		ERR(syscall(SYS_uname, p), EFAULT);
		ERR(syscall(SYS_sysinfo, p), EFAULT);
		ERR(syscall(SYS_getrusage, RUSAGE_SELF, p), EFAULT);
		ERR(syscall(SYS_getrlimit, RLIMIT_NOFILE, p), EFAULT);
		ERR(syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, p), EFAULT);
		ERR(syscall(SYS_times, p), EFAULT);
		ERR(syscall(SYS_getcwd, p, 4096), EFAULT);
		ERR(syscall(SYS_readlink, "/proc/self/exe", p, 4096), EFAULT);
		ERR(syscall(SYS_getdents64, OK(open(".", O_RDONLY)), p, 4096), EFAULT);
		ERR(syscall(SYS_getresuid, p, p, p), EFAULT);
		ERR(syscall(SYS_getrandom, p, 8, 0), EFAULT);
		ERR(syscall(SYS_sched_getaffinity, 0, 128, p), EFAULT);
		ERR(syscall(SYS_pipe2, p, 0), EFAULT);
		ERR(syscall(SYS_getitimer, ITIMER_REAL, p), EFAULT);
		ERR(syscall(SYS_get_robust_list, 0, p, p), EFAULT);
	}
}

CHECK(result_into_read_only_memory)
{
	void *p = read_only();
	write_file("f", "abc");
	int fd = OK(open("f", O_RDWR));
	ERR(read(fd, p, 3), EFAULT);
	ERR(pread(fd, p, 3, 0), EFAULT);
	ERR(syscall(SYS_fstat, fd, p), EFAULT);
	ERR(syscall(SYS_uname, p), EFAULT);
	ERR(syscall(SYS_clock_gettime, CLOCK_REALTIME, p), EFAULT);
	ERR(syscall(SYS_getrandom, p, 8, 0), EFAULT);
	/* Reading from it is fine. */
	EQ(write(fd, p, 3), 3);
	/* Nothing was read, so the position is where the write left it. */
	EQ(lseek(fd, 0, SEEK_CUR), 3);
}

CHECK(failed_calls_leave_no_descriptors)
{
	int before = OK(dup(0));
	close(before);
	for (int i = 0; i < 10; i++) {
		ERR(syscall(SYS_pipe2, BAD_PTR, 0), EFAULT);
		ERR(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, BAD_PTR), EFAULT);
		ERR(open(BAD_PTR, O_RDONLY), EFAULT);
		ERR(syscall(SYS_pipe2, read_only(), 0), EFAULT);
	}
	EQ(dup(0), before);
}

CHECK(file_reads_and_writes)
{
	write_file("f", "0123456789");
	int fd = OK(open("f", O_RDWR));
	EACH_BAD(p) {
		ERR(read(fd, p, 4), EFAULT);
		ERR(write(fd, p, 4), EFAULT);
		ERR(pread(fd, p, 4, 0), EFAULT);
		ERR(pwrite(fd, p, 4, 0), EFAULT);
		ERR(readv(fd, p, 1), EFAULT);
		ERR(writev(fd, p, 1), EFAULT);
	}
	EQ(lseek(fd, 0, SEEK_CUR), 0);
	/* At the end of the file nothing needs the buffer. */
	EQ(pread(fd, BAD_PTR, 4, 100), 0);
	EQ(read(fd, BAD_PTR, 0), 0);
	EQ(write(fd, BAD_PTR, 0), 0);
}

CHECK(partial_file_read)
{
	char *border = page_border();
	write_file("f", "0123456789");
	int fd = OK(open("f", O_RDONLY));
	EQ(read(fd, border - 4, 10), 4);
	MEMEQ(border - 4, "0123", 4);
	EQ(lseek(fd, 0, SEEK_CUR), 4);
	ERR(read(fd, border, 4), EFAULT);
	EQ(lseek(fd, 0, SEEK_CUR), 4);
}

CHECK(partial_file_write)
{
	char *border = page_border(), buf[16];
	memcpy(border - 4, "abcd", 4);
	int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
	EQ(write(fd, border - 4, 10), 4);
	EQ(lseek(fd, 0, SEEK_CUR), 4);
	ERR(write(fd, border, 10), EFAULT);
	EQ(pread(fd, buf, 16, 0), 4);
	MEMEQ(buf, "abcd", 4);
}

CHECK(partial_vectors)
{
	char *border = page_border(), a[4], buf[16];
	write_file("f", "0123456789");
	int fd = OK(open("f", O_RDWR));
	struct iovec in[] = { { a, 4 }, { BAD_PTR, 4 } };
	EQ(readv(fd, in, 2), 4);
	EQ(lseek(fd, 0, SEEK_CUR), 4);
	struct iovec in2[] = { { a, 2 }, { border - 1, 5 } };
	EQ(readv(fd, in2, 2), 3);
	struct iovec out[] = { { "XY", 2 }, { BAD_PTR, 4 }, { "Z", 1 } };
	EQ(writev(fd, out, 3), 2);
	EQ(pread(fd, buf, 16, 0), 10);
	MEMEQ(buf, "0123456XY9", 10);
	/* The vector itself at the border. */
	struct iovec *v = (struct iovec *)border - 1;
	*v = (struct iovec){ a, 1 };
	EQ(readv(fd, v, 1), 1);
	ERR(readv(fd, v, 2), EFAULT);
}

CHECK(partial_pipe_transfers)
{
	int p[2];
	char *border = page_border(), buf[16];
	OK(pipe2(p, O_NONBLOCK));
	memcpy(border - 4, "abcd", 4);
	ERR(write(p[1], BAD_PTR, 4), EFAULT);
	ERR(read(p[0], buf, 4), EAGAIN);
	/* With nothing to read, the buffer is not looked at. */
	ERR(read(p[0], BAD_PTR, 4), EAGAIN);
	EQ(write(p[1], "wxyz", 4), 4);
	ERR(read(p[0], BAD_PTR, 4), EFAULT);
	EQ(read(p[0], buf, 16), 4);
	MEMEQ(buf, "wxyz", 4);
}

CHECK(signal_calls)
{
	sigset_t set;
	sigemptyset(&set);
	EACH_BAD(p) {
		ERR(syscall(SYS_rt_sigaction, SIGUSR1, p, NULL, 8), EFAULT);
		ERR(syscall(SYS_rt_sigaction, SIGUSR1, NULL, p, 8), EFAULT);
		ERR(syscall(SYS_rt_sigprocmask, SIG_BLOCK, p, NULL, 8), EFAULT);
		ERR(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, p, 8), EFAULT);
		ERR(syscall(SYS_rt_sigpending, p, 8), EFAULT);
		ERR(syscall(SYS_rt_sigsuspend, p, 8), EFAULT);
		ERR(syscall(SYS_rt_sigtimedwait, p, NULL, NULL, 8), EFAULT);
		ERR(syscall(SYS_rt_sigtimedwait, &set, NULL, p, 8), EFAULT);
		ERR(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, p), EFAULT);
		ERR(syscall(SYS_sigaltstack, p, NULL), EFAULT);
		ERR(syscall(SYS_sigaltstack, NULL, p), EFAULT);
	}
}

CHECK(sigprocmask_applies_before_the_old_mask_faults)
{
	sigset_t set = sigset_of(SIGUSR1), now;
	ERR(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, BAD_PTR, 8), EFAULT);
	OK(sigprocmask(SIG_SETMASK, NULL, &now));
	EXPECT(sigismember(&now, SIGUSR1));
}

CHECK(time_calls)
{
	struct timespec t = { 0, 0 };
	EACH_BAD(p) {
		ERR(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, p), EFAULT);
		ERR(syscall(SYS_clock_getres, CLOCK_MONOTONIC, p), EFAULT);
		ERR(syscall(SYS_gettimeofday, p, NULL), EFAULT);
		ERR(syscall(SYS_gettimeofday, NULL, p), EFAULT);
		ERR(syscall(SYS_time, p), EFAULT);
		ERR(syscall(SYS_nanosleep, p, NULL), EFAULT);
		ERR(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, p, NULL), EFAULT);
		ERR(syscall(SYS_setitimer, ITIMER_REAL, p, NULL), EFAULT);
		ERR(syscall(SYS_timer_create, CLOCK_MONOTONIC, p, NULL), EFAULT);
		ERR(syscall(SYS_timerfd_settime, OK(timerfd_create(CLOCK_MONOTONIC, 0)), 0, p, NULL), EFAULT);
		ERR(syscall(SYS_utimensat, AT_FDCWD, ".", p, 0), EFAULT);
	}
	OK(syscall(SYS_nanosleep, &t, BAD_PTR));
}

CHECK(polling_calls)
{
	struct epoll_event ev = { .events = EPOLLOUT };
	int p2[2], ep = OK(epoll_create1(0));
	OK(pipe(p2));
	OK(epoll_ctl(ep, EPOLL_CTL_ADD, p2[1], &ev));
	EACH_BAD(p) {
		ERR(syscall(SYS_poll, p, 1, 0), EFAULT);
		ERR(syscall(SYS_ppoll, NULL, 0, p, NULL, 8), EFAULT);
		ERR(syscall(SYS_ppoll, NULL, 0, NULL, p, 8), EFAULT);
		ERR(syscall(SYS_select, 5, p, NULL, NULL, NULL), EFAULT);
		ERR(syscall(SYS_select, 0, NULL, NULL, NULL, p), EFAULT);
		ERR(syscall(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, p2[0], p), EFAULT);
		ERR(syscall(SYS_epoll_wait, ep, p, 1, 0), EFAULT);
	}
	/* poll() writes revents into memory that it must be able to write. */
	struct pollfd *ro = read_only();
	ERR(syscall(SYS_poll, ro, 1, 0), EFAULT);
}

CHECK(epoll_wait_partial_result)
{
	int p[2], q[2], ep = OK(epoll_create1(0));
	struct epoll_event ev = { .events = EPOLLOUT };
	OK(pipe(p));
	OK(pipe(q));
	OK(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &ev));
	OK(epoll_ctl(ep, EPOLL_CTL_ADD, q[1], &ev));
	/* Room for one event before the border: that one is delivered. */
	EQ(syscall(SYS_epoll_wait, ep, page_border() - sizeof ev, 2, 0), 1);
	struct epoll_event both[2];
	EQ(epoll_wait(ep, both, 2, 0), 2);
}

CHECK(socket_calls)
{
	int s[2], t = OK(socket(AF_UNIX, SOCK_STREAM, 0)), v = 1;
	socklen_t len = 4;
	struct sockaddr_un a;
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	EACH_BAD(p) {
		ERR(bind(t, p, 10), EFAULT);
		ERR(connect(t, p, 10), EFAULT);
		ERR(getsockname(t, p, &len), EFAULT);
		ERR(getsockname(t, (struct sockaddr *)&a, p), EFAULT);
		ERR(getsockopt(t, SOL_SOCKET, SO_TYPE, p, &len), EFAULT);
		ERR(getsockopt(t, SOL_SOCKET, SO_TYPE, &v, p), EFAULT);
		ERR(setsockopt(t, SOL_SOCKET, SO_SNDBUF, p, 4), EFAULT);
		ERR(send(s[0], p, 4, 0), EFAULT);
		ERR(sendmsg(s[0], p, 0), EFAULT);
		ERR(recvmsg(s[0], p, MSG_DONTWAIT), EFAULT);
		ERR(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, p), EFAULT);
	}
	EQ(write(s[0], "x", 1), 1);
	ERR(recv(s[1], BAD_PTR, 1, 0), EFAULT);
	struct iovec v1 = { BAD_PTR, 5 };
	struct msghdr m = { .msg_iov = &v1, .msg_iovlen = 1 };
	ERR(sendmsg(s[0], &m, 0), EFAULT);
	m.msg_iov = BAD_PTR;
	ERR(sendmsg(s[0], &m, 0), EFAULT);
}

CHECK(memory_and_futex_calls)
{
	int w = 0;
	EACH_BAD(p) {
		uintptr_t aligned = (uintptr_t)p & ~3ul;
		ERR(syscall(SYS_futex, aligned, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
		ERR(syscall(SYS_futex, &w, FUTEX_WAIT, 0, p, NULL, 0), EFAULT);
		char *page = read_only();
		ERR(syscall(SYS_mincore, page, 4096, p), EFAULT);
		ERR(syscall(SYS_memfd_create, p, 0), EFAULT);
	}
}

CHECK(other_calls)
{
	write_file("f", "");
	int fd = OK(open("f", O_RDWR));
	EACH_BAD(p) {
		ERR(syscall(SYS_prctl, PR_SET_NAME, p), EFAULT);
		ERR(syscall(SYS_prctl, PR_GET_NAME, p), EFAULT);
		ERR(syscall(SYS_setrlimit, RLIMIT_CORE, p), EFAULT);
		ERR(syscall(SYS_sched_setaffinity, 0, 8, p), EFAULT);
		ERR(syscall(SYS_sched_setparam, 0, p), EFAULT);
		ERR(fcntl(fd, F_SETLK, p), EFAULT);
		ERR(fcntl(fd, F_GETLK, p), EFAULT);
		ERR(ioctl(fd, FIONREAD, p), EFAULT);
		ERR(syscall(SYS_arch_prctl, 0x1003, p), EFAULT);
		ERR(syscall(SYS_sendfile, 1, fd, p, 1), EFAULT);
		ERR(syscall(SYS_copy_file_range, fd, p, fd, NULL, 1, 0), EFAULT);
		ERR(syscall(SYS_setxattr, "f", p, "x", 1, 0), EFAULT);
	}
}

CHECK(wait_status_into_a_bad_pointer)
{
	CHILD(pid) _exit(1);
	siginfo_t info;
	OK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	ERR(syscall(SYS_wait4, pid, BAD_PTR, 0, NULL), EFAULT);
	/* The child was reaped all the same. */
	ERR(waitpid(pid, NULL, 0), ECHILD);
}

CHECK(waitid_into_a_bad_pointer)
{
	CHILD(pid) _exit(1);
	ERR(syscall(SYS_waitid, P_PID, pid, BAD_PTR, WEXITED, NULL), EFAULT);
	ERR(waitpid(pid, NULL, 0), ECHILD);
}

CHECK(descriptor_errors_come_first)
{
	ERR(read(99, BAD_PTR, 4), EBADF);
	ERR(write(99, BAD_PTR, 4), EBADF);
	ERR(syscall(SYS_fstat, 99, BAD_PTR), EBADF);
	ERR(syscall(SYS_getdents64, 99, BAD_PTR, 10), EBADF);
	ERR(readv(99, BAD_PTR, 1), EBADF);
	ERR(bind(99, BAD_PTR, 10), EBADF);
	ERR(syscall(SYS_epoll_wait, 99, BAD_PTR, 1, 0), EBADF);
}

CHECK(value_errors_come_first)
{
	ERR(syscall(SYS_rt_sigprocmask, SIG_BLOCK, BAD_PTR, NULL, 9), EINVAL);
	ERR(syscall(SYS_getrlimit, 99, BAD_PTR), EINVAL);
	ERR(syscall(SYS_pipe2, BAD_PTR, 0x40000000), EINVAL);
	ERR(syscall(SYS_getrusage, 99, BAD_PTR), EINVAL);
	ERR(syscall(SYS_readlink, BAD_PTR, BAD_PTR, 0), EINVAL);
	ERR(syscall(SYS_epoll_wait, OK(epoll_create1(0)), BAD_PTR, 0, 0), EINVAL);
	ERR(syscall(SYS_getrandom, BAD_PTR, 8, 0x100), EINVAL);
	ERR(syscall(SYS_clock_gettime, 99, BAD_PTR), EINVAL);
}

CHECK(length_that_wraps_around)
{
	char c;
	write_file("f", "abc");
	int fd = OK(open("f", O_RDWR));
	ERR(syscall(SYS_read, fd, &c, -1l), EFAULT);
	ERR(syscall(SYS_write, fd, (char *)-4096, 8192), EFAULT);
	ERR(syscall(SYS_getrandom, KERNEL_PTR, -1l, 0), EFAULT);
}

CHECK(structure_across_the_border)
{
	char *border = page_border();
	ERR(syscall(SYS_uname, border - 100), EFAULT);
	ERR(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, border - 8), EFAULT);
	OK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, border - 16));
	ERR(syscall(SYS_nanosleep, border - 8, NULL), EFAULT);
	struct stat *st = (struct stat *)(border - sizeof *st);
	OK(syscall(SYS_stat, ".", st));
	EXPECT(S_ISDIR(st->st_mode));
	ERR(syscall(SYS_stat, ".", border - sizeof *st + 8), EFAULT);
	int p[2];
	OK(pipe(p));
	ERR(syscall(SYS_pipe2, border - 4, 0), EFAULT);
	OK(syscall(SYS_pipe2, border - 8, 0));
}

CHECK(argument_strings)
{
	char *argv[] = { "x", at_border("unterminated", false), NULL };
	ERR(execve("/bin/true", argv, NULL), EFAULT);
	char **v = (char **)page_border() - 1;
	v[0] = "x";
	ERR(execve("/bin/true", v, NULL), EFAULT);
}

CHECK(unknown_numbers_are_enosys)
{
	ERR(syscall(9999, 0, 0, 0, 0, 0, 0), ENOSYS);
	ERR(syscall(-1l, 0), ENOSYS);
	ERR(syscall(423, 0), ENOSYS);
}

CHECK(eventfd_is_read_whole)
{
	uint64_t v;
	char *border = page_border();
	int fd = OK(eventfd(3, EFD_NONBLOCK));
	ERR(read(fd, border - 5, 100), EFAULT);
	/* What could not be handed out is gone all the same. */
	ERR(read(fd, &v, 8), EAGAIN);
}
