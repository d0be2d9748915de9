/* File locks: flock(2), fcntl(2) F_SETLK and F_OFD_SETLK. */
#include "check.h"
#include <sys/file.h>

static int lock_file(void)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
	OK(ftruncate(fd, 100));
	return fd;
}

static int set(int fd, int cmd, short type, off_t start, off_t len)
{
	struct flock l = { .l_type = type, .l_start = start, .l_len = len };
	return fcntl(fd, cmd, &l);
}

static struct flock get(int fd, int cmd, short type, off_t start, off_t len)
{
	struct flock l = { .l_type = type, .l_start = start, .l_len = len };
	OK(fcntl(fd, cmd, &l));
	return l;
}

CHECK(flock_conflicts)
{
	int a = lock_file(), b = OK(open("f", O_RDONLY));
	OK(flock(a, LOCK_SH));
	OK(flock(b, LOCK_SH | LOCK_NB));
	ERR(flock(a, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	OK(flock(b, LOCK_UN));
	OK(flock(a, LOCK_EX | LOCK_NB));
	ERR(flock(b, LOCK_SH | LOCK_NB), EWOULDBLOCK);
	ERR(flock(a, 0), EINVAL);
	ERR(flock(99, LOCK_EX), EBADF);
	ERR(flock(OK(open("f", O_PATH)), LOCK_EX), EBADF);
}

CHECK(flock_belongs_to_the_open_file)
{
	int a = lock_file(), copy = OK(dup(a)), other = OK(open("f", O_RDWR));
	OK(flock(a, LOCK_EX));
	OK(flock(copy, LOCK_EX | LOCK_NB));
	CHILD(pid) {
		OK(flock(a, LOCK_EX | LOCK_NB));
		ERR(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	}
	REAP(pid);
	OK(close(a));
	ERR(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	OK(close(copy));
	OK(flock(other, LOCK_EX | LOCK_NB));
}

CHECK(flock_waits)
{
	int a = lock_file();
	OK(flock(a, LOCK_EX));
	CHILD(pid) {
		int b = OK(open("f", O_RDWR));
		OK(flock(b, LOCK_EX));
	}
	await_state(pid, 'S');
	OK(flock(a, LOCK_UN));
	REAP(pid);
	OK(flock(a, LOCK_EX | LOCK_NB));
}

CHECK(posix_locks_conflict_between_processes)
{
	int fd = lock_file();
	OK(set(fd, F_SETLK, F_WRLCK, 10, 10));
	CHILD(pid) {
		ERR(set(fd, F_SETLK, F_RDLCK, 15, 1), EAGAIN);
		OK(set(fd, F_SETLK, F_WRLCK, 20, 10));
		OK(set(fd, F_SETLK, F_WRLCK, 0, 10));
		struct flock l = get(fd, F_GETLK, F_WRLCK, 0, 0);
		EQ(l.l_type, F_WRLCK);
		EQ(l.l_start, 10);
		EQ(l.l_len, 10);
		EQ(l.l_pid, getppid());
		EQ(l.l_whence, SEEK_SET);
	}
	REAP(pid);
	EQ(get(fd, F_GETLK, F_WRLCK, 0, 0).l_type, F_UNLCK);
}

CHECK(posix_locks_shared)
{
	int fd = lock_file();
	OK(set(fd, F_SETLK, F_RDLCK, 0, 0));
	CHILD(pid) {
		OK(set(fd, F_SETLK, F_RDLCK, 0, 0));
		ERR(set(fd, F_SETLK, F_WRLCK, 50, 1), EAGAIN);
	}
	REAP(pid);
	OK(set(fd, F_SETLK, F_WRLCK, 0, 0));
}

CHECK(posix_lock_split_and_merge)
{
	int fd = lock_file();
	OK(set(fd, F_SETLK, F_WRLCK, 0, 100));
	OK(set(fd, F_SETLK, F_UNLCK, 40, 20));
	CHILD(pid) {
		EQ(get(fd, F_GETLK, F_WRLCK, 0, 0).l_len, 40);
		EQ(get(fd, F_GETLK, F_WRLCK, 40, 0).l_start, 60);
		OK(set(fd, F_SETLK, F_WRLCK, 40, 20));
	}
	REAP(pid);
	OK(set(fd, F_SETLK, F_RDLCK, 40, 20));
	OK(set(fd, F_SETLK, F_WRLCK, 40, 20));
	CHILD(other) EQ(get(fd, F_GETLK, F_WRLCK, 0, 0).l_len, 100);
	REAP(other);
}

CHECK(posix_lock_ranges)
{
	int fd = lock_file();
	OK(lseek(fd, 50, SEEK_SET));
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = 10, .l_len = -20 };
	OK(fcntl(fd, F_SETLK, &l));
	CHILD(pid) {
		struct flock got = get(fd, F_GETLK, F_WRLCK, 0, 0);
		EQ(got.l_start, 40);
		EQ(got.l_len, 20);
	}
	REAP(pid);
	l = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -5 };
	OK(fcntl(fd, F_SETLK, &l));
	CHILD(other) {
		struct flock got = get(fd, F_GETLK, F_WRLCK, 70, 0);
		EQ(got.l_start, 95);
		EQ(got.l_len, 0);
	}
	REAP(other);
	l = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = -1 };
	ERR(fcntl(fd, F_SETLK, &l), EINVAL);
	l = (struct flock){ .l_type = 9 };
	ERR(fcntl(fd, F_SETLK, &l), EINVAL);
	l = (struct flock){ .l_type = F_WRLCK, .l_whence = 9 };
	ERR(fcntl(fd, F_SETLK, &l), EINVAL);
	ERR(fcntl(fd, F_SETLK, BAD_PTR), EFAULT);
}

CHECK(posix_lock_access_mode)
{
	lock_file();
	int rd = OK(open("f", O_RDONLY)), wr = OK(open("f", O_WRONLY));
	OK(set(rd, F_SETLK, F_RDLCK, 0, 1));
	ERR(set(rd, F_SETLK, F_WRLCK, 0, 1), EBADF);
	ERR(set(wr, F_SETLK, F_RDLCK, 0, 1), EBADF);
	OK(set(wr, F_SETLK, F_WRLCK, 0, 1));
}

CHECK(posix_locks_are_not_inherited)
{
	int fd = lock_file();
	OK(set(fd, F_SETLK, F_WRLCK, 0, 0));
	CHILD(pid) {
		ERR(set(fd, F_SETLK, F_WRLCK, 0, 0), EAGAIN);
		/* Unlocking what one does not hold does nothing. */
		OK(set(fd, F_SETLK, F_UNLCK, 0, 0));
		ERR(set(fd, F_SETLK, F_WRLCK, 0, 0), EAGAIN);
	}
	REAP(pid);
}

CHECK(closing_any_descriptor_releases_posix_locks)
{
	int fd = lock_file();
	OK(set(fd, F_SETLK, F_WRLCK, 0, 0));
	OK(close(OK(open("f", O_RDONLY))));
	CHILD(pid) OK(set(fd, F_SETLK, F_WRLCK, 0, 0));
	REAP(pid);
}

CHECK(exit_releases_posix_locks)
{
	int fd = lock_file();
	struct gate ready = gate_new(), go = gate_new();
	CHILD(pid) {
		OK(set(fd, F_SETLK, F_WRLCK, 0, 0));
		gate_open(ready);
		gate_wait(go);
	}
	gate_wait(ready);
	ERR(set(fd, F_SETLK, F_WRLCK, 0, 0), EAGAIN);
	gate_open(go);
	OK(set(fd, F_SETLKW, F_WRLCK, 0, 0));
	REAP(pid);
}

CHECK(posix_lock_waits)
{
	int fd = lock_file();
	OK(set(fd, F_SETLK, F_WRLCK, 0, 10));
	CHILD(pid) OK(set(fd, F_SETLKW, F_WRLCK, 5, 1));
	await_state(pid, 'S');
	OK(set(fd, F_SETLK, F_UNLCK, 0, 10));
	REAP(pid);
}

CHECK(posix_deadlock_is_detected)
{
	int fd = lock_file();
	struct gate ready = gate_new();
	OK(set(fd, F_SETLK, F_WRLCK, 0, 1));
	CHILD(pid) {
		OK(set(fd, F_SETLK, F_WRLCK, 1, 1));
		gate_open(ready);
		OK(set(fd, F_SETLKW, F_WRLCK, 0, 1));
	}
	gate_wait(ready);
	await_state(pid, 'S');
	ERR(set(fd, F_SETLKW, F_WRLCK, 1, 1), EDEADLK);
	OK(set(fd, F_SETLK, F_UNLCK, 0, 1));
	REAP(pid);
}

CHECK(ofd_locks_belong_to_the_open_file)
{
	int a = lock_file(), b = OK(open("f", O_RDWR)), copy = OK(dup(a));
	OK(set(a, F_OFD_SETLK, F_WRLCK, 0, 10));
	ERR(set(b, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
	OK(set(copy, F_OFD_SETLK, F_WRLCK, 5, 1));
	struct flock l = get(b, F_OFD_GETLK, F_WRLCK, 0, 0);
	EQ(l.l_type, F_WRLCK);
	EQ(l.l_pid, -1);
	/* Closing another descriptor of the file does not matter. */
	OK(close(OK(open("f", O_RDONLY))));
	ERR(set(b, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
	OK(close(a));
	ERR(set(b, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
	OK(close(copy));
	OK(set(b, F_OFD_SETLK, F_WRLCK, 5, 1));
	struct flock with_pid = { .l_type = F_WRLCK, .l_pid = 1 };
	ERR(fcntl(b, F_OFD_SETLK, &with_pid), EINVAL);
}

CHECK(ofd_and_posix_locks_conflict)
{
	int a = lock_file(), b = OK(open("f", O_RDWR));
	OK(set(a, F_OFD_SETLK, F_WRLCK, 0, 0));
	/* Even within one process. */
	ERR(set(b, F_SETLK, F_WRLCK, 0, 0), EAGAIN);
	EQ(get(b, F_GETLK, F_WRLCK, 0, 0).l_pid, -1);
	/* flock() locks are a world of their own. */
	OK(flock(b, LOCK_EX | LOCK_NB));
}

CHECK(ofd_lock_waits)
{
	int a = lock_file();
	OK(set(a, F_OFD_SETLK, F_WRLCK, 0, 0));
	CHILD(pid) OK(set(OK(open("f", O_RDWR)), F_OFD_SETLKW, F_WRLCK, 0, 0));
	await_state(pid, 'S');
	OK(set(a, F_OFD_SETLK, F_UNLCK, 0, 0));
	REAP(pid);
}

CHECK(killed_waiter_is_forgotten)
{
	int fd = lock_file();
	OK(set(fd, F_SETLK, F_WRLCK, 0, 0));
	CHILD(waiter) set(fd, F_SETLKW, F_WRLCK, 0, 0);
	await_state(waiter, 'S');
	OK(kill(waiter, SIGKILL));
	EQ(wait_exit(waiter), 128 + SIGKILL);
	OK(set(fd, F_SETLK, F_UNLCK, 0, 0));
	CHILD(next) OK(set(fd, F_SETLK, F_WRLCK, 0, 0));
	REAP(next);
}

CHECK(lockf_uses_posix_locks)
{
	int fd = lock_file();
	OK(lockf(fd, F_LOCK, 10));
	CHILD(pid) {
		ERR(lockf(fd, F_TEST, 10), EACCES);
		ERR(lockf(fd, F_TLOCK, 10), EAGAIN);
	}
	REAP(pid);
	OK(lockf(fd, F_ULOCK, 10));
	OK(lockf(fd, F_TEST, 10));
}

CHECK(leases_and_locks_on_pipes)
{
	int p[2];
	OK(pipe(p));
	EQ(fcntl(lock_file(), F_GETLEASE), F_UNLCK);
	OK(set(p[0], F_SETLK, F_RDLCK, 0, 0));
}
