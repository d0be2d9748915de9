/*
 * Descriptors of files that the host was made to hand in for reading: every call on them by the runtime's own syscall
 * instructions, what is left of them when the guest has closed its own or has forked, and pages that lie about them.
 */
#include "jump.h"
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>

/* The first number that anything is handed in with, and the first that nothing is. */
enum { FIRST = 32, END = 512 };
/* Reads after which a file is handed in for certain. */
enum { OFTEN = 200 };
enum { HANDED = 7, NOT_HANDED = 8 };

static uint64_t site;

/* Reads a file of the guest's so often that it is handed in. */
static int handed_file(void)
{
	char bytes[64];
	int fd = open("/etc/passwd", O_RDONLY);
	NEED(fd >= 0);
	for (int i = 0; i < OFTEN; i++)
		NEED(pread(fd, bytes, sizeof bytes, 0) > 0 && read(fd, bytes, 1) >= 0);
	return fd;
}

static long host_pread(uint64_t number)
{
	static char bytes[64];
	return native_call(site, new_stack(), SYS_pread64, number, (uint64_t)bytes, sizeof bytes, 0, 0, 0);
}

static void reads(uint64_t unused)
{
	(void)unused;
	handed_file();
	_exit(host_pread(FIRST) > 0 ? HANDED : NOT_HANDED);
}

/* Whatever else takes a descriptor does not come back. */
static const int others[] = {
	SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2, SYS_pwrite64, SYS_lseek,
	SYS_fstat, SYS_fcntl, SYS_ioctl, SYS_flock, SYS_fsync, SYS_ftruncate, SYS_fallocate, SYS_fchmod, SYS_fchown,
	SYS_dup, SYS_dup2, SYS_dup3, SYS_sendfile, SYS_splice, SYS_copy_file_range, SYS_getdents64, SYS_fchdir,
	SYS_openat, SYS_newfstatat, SYS_futimesat, SYS_utimensat, SYS_fsetxattr, SYS_fgetxattr, SYS_readahead, SYS_fadvise64,
	SYS_epoll_create1, SYS_sendmsg, SYS_sendto, SYS_mmap, SYS_execveat, SYS_fstatfs, SYS_statx, SYS_io_uring_setup,
};

static void other_call(uint64_t which)
{
	static uint64_t vector[2];
	static char bytes[256];
	long number = others[which];
	vector[0] = (uint64_t)bytes;
	vector[1] = sizeof bytes;
	handed_file();
	long result = number == SYS_mmap ? native_call(site, new_stack(), SYS_mmap, 0, PAGE, PROT_READ, MAP_SHARED, FIRST, 0)
					 : native_call(site, new_stack(), number, FIRST, (uint64_t)vector, 1, 0, 0, 0);
	fprintf(stderr, "handed_files: call %ld gave %ld\n", number, result);
	_exit(BREACH);
}

/* pread of what was not handed in: outside of the range it is not even answered. */
static void other_number(uint64_t which)
{
	static const uint32_t numbers[] = { 0, 1, 2, 3, 4, 5, 15, 16, 31, END, 1000, 4095, 0x7fffffff, 0xffffffff };
	handed_file();
	host_pread(numbers[which]);
	_exit(BREACH);
}

static void after_close(uint64_t unused)
{
	(void)unused;
	close(handed_file());
	getppid();
	_exit(host_pread(FIRST) == -EBADF ? 0 : BREACH);
}

static void after_fork(uint64_t unused)
{
	(void)unused;
	handed_file();
	pid_t pid = fork();
	if (pid == 0)
		_exit(host_pread(FIRST) == -EBADF ? 0 : BREACH);
	_exit(WEXITSTATUS(reap(pid)));
}

/* A file of the root's that is copied when it is first written: no longer the one that was handed in. */
static void copied_up(uint64_t unused)
{
	(void)unused;
	char bytes[8];
	int fd = handed_file();
	off_t end = lseek(fd, 0, SEEK_END);
	pid_t pid = fork();
	if (pid == 0) {
		int out = open("/etc/passwd", O_WRONLY | O_APPEND);
		_exit(out >= 0 && write(out, "tail", 4) == 4 ? 0 : 1);
	}
	NEED(WEXITSTATUS(reap(pid)) == 0);
	NEED(pread(fd, bytes, 4, end) == 4 && !memcmp(bytes, "tail", 4));
	NEED(read(fd, bytes, sizeof bytes) == 4 && !memcmp(bytes, "tail", 4));
}

/* The word of the page that says what was handed in; the position is behind it. */
static _Atomic uint64_t *grant_word(void)
{
	for (uint64_t page = SHARED_BASE; page < SHARED_BASE + 64 * SHARED_STRIDE; page += SHARED_STRIDE)
		for (uint64_t *word = (uint64_t *)page; (uint64_t)word < page + PAGE; word++)
			if ((uint32_t)*word == FIRST && *word >> 32 == 1)
				return (_Atomic uint64_t *)word;
	_exit(0);
}

static void forged_position(uint64_t which)
{
	static const uint64_t positions[] = { ~0ul, ~0ul - 1, 1ul << 63, (1ul << 63) - 1, 1ul << 62, 5 };
	char bytes[64];
	int fd = handed_file();
	struct iovec iov = { bytes, sizeof bytes };
	_Atomic uint64_t *word = grant_word();
	for (int i = 0; i < OFTEN; i++) {
		word[1] = positions[which];
		if (read(fd, bytes, sizeof bytes) > 0 && which != 5 && which != 0)
			_exit(BREACH);
		word[1] = positions[which];
		lseek(fd, 1, SEEK_CUR);
		word[1] = positions[which];
		readv(fd, &iov, 1);
		word[1] = positions[which];
		lseek(fd, 0, SEEK_END);
	}
	word[1] = positions[which];
	close(fd);
}

static void forged_descriptor(uint64_t which)
{
	static const uint64_t states[] = { 1, 3, 1ul << 32 | 3, 1ul << 32 | 5, 1ul << 32 | END, 1ul << 32 | (FIRST + 1), 1ul << 32 | 0xffffffff, 0 };
	char bytes[64];
	int fd = handed_file();
	_Atomic uint64_t *word = grant_word();
	for (int i = 0; i < OFTEN; i++) {
		word[0] = states[which];
		word[1] = 0;
		if (pread(fd, bytes, sizeof bytes, 0) < 0 || read(fd, bytes, sizeof bytes) < 0)
			_exit(BREACH);
	}
	close(fd);
}

/* The host's own table of the stub emptied behind the supervisor's back: the guest's files go on. */
static void closed_natively(uint64_t which)
{
	char bytes[64];
	int fd = handed_file();
	for (int i = 0; i < OFTEN; i++) {
		long number = which ? SYS_close_range : SYS_close;
		native_call(site, new_stack(), number, FIRST, which ? 0xffffffff : 0, which > 1 ? 2 : 0, 0, 0, 0);
		if (pread(fd, bytes, sizeof bytes, 0) <= 0)
			_exit(BREACH);
		close(fd);
		fd = handed_file();
	}
}

int main(int argc, char **argv)
{
	bool platform = begin(argc, argv, "handed_files");
	if (platform) {
		find_sites();
		site = find_returning_site();
		NEED(site);
		NEED(WEXITSTATUS(finish_attack("reading", reads, 0)) == HANDED);
		for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
			int status = finish_attack("another call", other_call, i);
			NEED(WIFSIGNALED(status));
		}
		for (uint64_t i = 0; i < 14; i++)
			finish_attack("another number", other_number, i);
		NEED(finish_attack("a closed file", after_close, 0) == 0);
		NEED(finish_attack("a fork", after_fork, 0) == 0);
		NEED(finish_attack("a copied file", copied_up, 0) == 0);
		for (uint64_t i = 0; i < 6; i++)
			finish_attack("a forged position", forged_position, i);
		for (uint64_t i = 0; i < 8; i++)
			finish_attack("a forged descriptor", forged_descriptor, i);
		for (uint64_t i = 0; i < 3; i++)
			finish_attack("an empty table", closed_natively, i);
	}
	return end(platform);
}
