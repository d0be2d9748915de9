/*
 * Descriptors of files that the host was made to hand in for writing: every call on them by the runtime's own syscall
 * instructions, writes that are longer or go further than was set aside, what is left of them when the guest has closed its own, has
 * forked, or the file is one that nobody may write, and pages that lie about them.
 */
#include "jump.h"
#include <pthread.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>

/* The first number that anything is handed in with for writing, the numbers of each bound, and the first that nothing is. */
enum { FIRST = 512, EACH = 16, END = 624 };
/* Writes after which a file is handed in for certain. */
enum { OFTEN = 200 };
enum { HANDED = 7, NOT_HANDED = 8 };

static const uint64_t bound = 1ul << 18, most = 1ul << 20;
static uint64_t site;
static char name[64];
static const char *dir = "/tmp";

/* Writes a file of its own so often that it is handed in. */
static int handed_file(void)
{
	char bytes[64];
	memset(bytes, 'x', sizeof bytes);
	snprintf(name, sizeof name, "%s/written-%d", dir, (int)getpid());
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
	NEED(fd >= 0);
	for (int i = 0; i < OFTEN; i++)
		NEED(pwrite(fd, bytes, sizeof bytes, 0) == sizeof bytes && write(fd, bytes, 1) == 1);
	return fd;
}

static long host_pwrite(uint64_t number, uint64_t len, uint64_t at)
{
	static char bytes[64] = "evil";
	return native_call(site, new_stack(), SYS_pwrite64, number, (uint64_t)bytes, len, at, 0, 0);
}

static void writes(uint64_t unused)
{
	(void)unused;
	char bytes[4];
	int fd = handed_file();
	if (host_pwrite(FIRST, 4, 0) != 4)
		_exit(NOT_HANDED);
	NEED(pread(fd, bytes, 4, 0) == 4 && !memcmp(bytes, "evil", 4));
	_exit(HANDED);
}

/* Whatever else takes a descriptor does not come back. */
static const int others[] = {
	SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2, SYS_pread64, SYS_lseek,
	SYS_fstat, SYS_fcntl, SYS_ioctl, SYS_flock, SYS_fsync, SYS_ftruncate, SYS_fallocate, SYS_fchmod, SYS_fchown,
	SYS_dup, SYS_dup2, SYS_dup3, SYS_sendfile, SYS_splice, SYS_copy_file_range, SYS_futimesat, SYS_utimensat,
	SYS_fsetxattr, SYS_sendmsg, SYS_mmap, SYS_execveat, SYS_statx, SYS_io_uring_setup,
};

static void other_call(uint64_t which)
{
	static uint64_t vector[2];
	static char bytes[256];
	long number = others[which];
	vector[0] = (uint64_t)bytes;
	vector[1] = sizeof bytes;
	handed_file();
	long result = number == SYS_mmap ? native_call(site, new_stack(), SYS_mmap, 0, PAGE, PROT_WRITE, MAP_SHARED, FIRST, 0)
					 : native_call(site, new_stack(), number, FIRST, (uint64_t)vector, 1, 0, 0, 0);
	fprintf(stderr, "handed_writes: call %ld gave %ld\n", number, result);
	_exit(BREACH);
}

/* Further or longer than was set aside, or by a number that nothing is handed in with. */
static void too_much(uint64_t which)
{
	const struct {
		uint64_t number, len, at;
	} all[] = {
		{ FIRST, 1, bound }, { FIRST, 1, bound + most }, { FIRST, 1, 1ul << 32 }, { FIRST, 1, 1ul << 62 }, { FIRST, 1, ~0ul },
		{ FIRST, most + 1, 0 }, { FIRST, 1ul << 32, 0 }, { FIRST, ~0ul, 0 }, { FIRST | 1ul << 32, 1, bound },
		{ 0, 1, 0 }, { 1, 1, 0 }, { 3, 1, 0 }, { 16, 1, 0 }, { 32, 1, 0 }, { FIRST - 1, 1, 0 }, { END, 1, 0 }, { ~0u, 1, 0 },
		{ FIRST + EACH, 1, 4 * bound }, { END - 1, 1, 1ul << 30 },
	};
	handed_file();
	if (which < sizeof all / sizeof all[0])
		host_pwrite(all[which].number, all[which].len, all[which].at);
	_exit(BREACH);
}

static void to_the_bound(uint64_t unused)
{
	(void)unused;
	static char bytes[1 << 20];
	struct stat st;
	int fd = handed_file();
	long done = native_call(site, new_stack(), SYS_pwrite64, FIRST, (uint64_t)bytes, most, bound - 1, 0, 0);
	NEED(done == (long)most && fstat(fd, &st) == 0 && st.st_size == (long)(bound + most) - 1);
}

static void after_close(uint64_t unused)
{
	(void)unused;
	close(handed_file());
	getppid();
	_exit(host_pwrite(FIRST, 4, 0) == -EBADF ? 0 : BREACH);
}

static void after_fork(uint64_t unused)
{
	(void)unused;
	handed_file();
	pid_t pid = fork();
	if (pid == 0)
		_exit(host_pwrite(FIRST, 4, 0) == -EBADF ? 0 : BREACH);
	_exit(WEXITSTATUS(reap(pid)));
}

static bool begins_evil(void)
{
	char bytes[4];
	int fd = open(name, O_RDONLY);
	NEED(fd >= 0 && read(fd, bytes, 4) == 4 && close(fd) == 0);
	return !memcmp(bytes, "evil", 4);
}

static _Atomic int step;

static void wait_for_step(int wanted)
{
	while (step < wanted)
		;
}

static long late;

/* Keeps the descriptor, as a thread that makes no calls has no answer with which to close it. */
static void *keeper(void *fd)
{
	*(int *)fd = handed_file();
	step = 1;
	wait_for_step(2);
	late = host_pwrite(FIRST, 4, 0);
	step = 3;
	return NULL;
}

/* What is left when the file gets bits that a write would clear, or was closed and is executed. */
static void kept(uint64_t executed)
{
	pthread_t thread;
	struct stat st;
	int fd;
	NEED(pthread_create(&thread, NULL, keeper, &fd) == 0);
	wait_for_step(1);
	if (executed) {
		NEED(fchmod(fd, 0755) == 0 && close(fd) == 0);
		pid_t pid = fork();
		if (pid == 0) {
			execl(name, name, NULL);
			_exit(errno == ENOEXEC ? 0 : 1);
		}
		NEED(WEXITSTATUS(reap(pid)) == 0);
	} else {
		NEED(chmod(name, 04755) == 0);
	}
	step = 2;
	wait_for_step(3);
	NEED(stat(name, &st) == 0);
	if (late >= 0 || begins_evil() || (st.st_mode & 07777) != (executed ? 0755 : 04755))
		_exit(BREACH);
	/* Whoever writes now by the rules does. */
	fd = open(name, O_RDWR);
	char bytes[4];
	for (int i = 0; i < OFTEN; i++)
		NEED(pwrite(fd, "good", 4, 0) == 4);
	NEED(pread(fd, bytes, 4, 0) == 4 && !memcmp(bytes, "good", 4));
}

/* A file system that is full: what was set aside is there for others, and what may be written is no more than was set aside. */
static void full(uint64_t unused)
{
	(void)unused;
	static char page[PAGE];
	struct stat st;
	snprintf(name, sizeof name, "/tmp/mount-%d", (int)getpid());
	NEED(mkdir(name, 0700) == 0);
	if (mount("none", name, "tmpfs", 0, "size=4m") != 0)
		_exit(0);
	NEED(chdir(name) == 0);
	int fd = open("f", O_RDWR | O_CREAT, 0644), other = open("g", O_RDWR | O_CREAT, 0644);
	for (int i = 0; i < OFTEN; i++)
		NEED(pwrite(fd, page, 64, 0) == 64);
	while (write(other, page, sizeof page) == sizeof page)
		;
	NEED(errno == ENOSPC);
	for (int i = 0; i < OFTEN; i++)
		NEED(pwrite(fd, page, PAGE, PAGE) < 0 && errno == ENOSPC);
	NEED(fstat(fd, &st) == 0 && st.st_size == 64 && fstat(other, &st) == 0 && st.st_size == (4 << 20) - (long)PAGE);
	host_pwrite(FIRST, 1, bound);
	_exit(BREACH);
}

/* What is kept after the file is closed stays set aside, until others need it: then it writes nothing any more. */
static void hoarded(uint64_t unused)
{
	(void)unused;
	static char page[PAGE], place[64];
	pthread_t thread;
	struct stat st;
	int fd;
	snprintf(place, sizeof place, "/tmp/hoard-%d", (int)getpid());
	NEED(mkdir(place, 0700) == 0);
	if (mount("none", place, "tmpfs", 0, "size=8m") != 0)
		_exit(0);
	dir = place;
	NEED(pthread_create(&thread, NULL, keeper, &fd) == 0);
	wait_for_step(1);
	NEED(close(fd) == 0 && chdir(place) == 0);
	int other = open("g", O_RDWR | O_CREAT, 0644);
	while (write(other, page, sizeof page) == sizeof page)
		;
	NEED(errno == ENOSPC && fstat(other, &st) == 0 && st.st_size == (8 << 20) - (long)PAGE);
	step = 2;
	wait_for_step(3);
	if (late >= 0 || begins_evil())
		_exit(BREACH);
	/* Its owner goes on by the rules. */
	NEED(unlink("g") == 0 && close(other) == 0);
	fd = open(name, O_RDWR);
	char bytes[4];
	for (int i = 0; i < OFTEN; i++)
		NEED(pwrite(fd, "good", 4, 0) == 4);
	NEED(pread(fd, bytes, 4, 0) == 4 && !memcmp(bytes, "good", 4));
}

/* The word of the page that says what was handed in; the position is behind it. */
static _Atomic uint64_t *grant_word(void)
{
	for (uint64_t page = SHARED_BASE; page < SHARED_BASE + 64 * SHARED_STRIDE; page += SHARED_STRIDE)
		for (uint64_t *word = (uint64_t *)page; (uint64_t)word < page + PAGE; word++)
			if ((*word & 0xffff) == FIRST && *word >> 32 && *word & 1 << 18)
				return (_Atomic uint64_t *)word;
	_exit(0);
}

static void forged_position(uint64_t which)
{
	static const uint64_t positions[] = { ~0ul, ~0ul - 1, 1ul << 63, (1ul << 63) - 1, 1ul << 62, 1 << 18, 5 };
	static char bytes[64];
	int fd = handed_file();
	struct iovec iov = { bytes, sizeof bytes };
	_Atomic uint64_t *word = grant_word();
	for (int i = 0; i < OFTEN; i++) {
		word[1] = positions[which];
		write(fd, bytes, sizeof bytes);
		word[1] = positions[which];
		lseek(fd, 1, SEEK_CUR);
		word[1] = positions[which];
		writev(fd, &iov, 1);
		word[1] = positions[which];
		lseek(fd, 0, SEEK_END);
	}
	word[1] = positions[which];
	close(fd);
}

/* Others, of other kinds, with other bounds, with none. */
static void forged_state(uint64_t which)
{
	static const uint64_t kind = 1ul << 32 | 1 << 18;
	static const uint64_t states[] = {
		kind | 3, kind | 5, kind | END, kind | (FIRST + 1), kind | 0xffff, kind | 6 << 20 | FIRST, kind | 7 << 20 | FIRST,
		kind | 15 << 20 | FIRST, 1ul << 32 | FIRST, 1ul << 32 | 1 << 17 | FIRST, 0,
	};
	static char bytes[64];
	int fd = handed_file();
	_Atomic uint64_t *word = grant_word();
	for (int i = 0; i < OFTEN; i++) {
		word[0] = states[which];
		word[1] = 0;
		pwrite(fd, bytes, sizeof bytes, 0);
		word[0] = states[which];
		pwrite(fd, bytes, sizeof bytes, (long)bound + i);
		word[0] = states[which];
		write(fd, bytes, sizeof bytes);
	}
	close(fd);
}

/* The host's own table of the stub emptied behind the supervisor's back: the guest's files go on. */
static void closed_natively(uint64_t which)
{
	char bytes[64] = { 0 };
	int fd = handed_file();
	for (int i = 0; i < OFTEN; i++) {
		long number = which ? SYS_close_range : SYS_close;
		native_call(site, new_stack(), number, FIRST, which ? 0xffffffff : 0, which > 1 ? 2 : 0, 0, 0, 0);
		if (pwrite(fd, bytes, sizeof bytes, 0) != sizeof bytes)
			_exit(BREACH);
		close(fd);
		fd = handed_file();
	}
}

int main(int argc, char **argv)
{
	bool platform = begin(argc, argv, "handed_writes");
	if (platform) {
		find_sites();
		site = find_returning_site();
		NEED(site);
		NEED(WEXITSTATUS(finish_attack("writing", writes, 0)) == HANDED);
		for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
			int status = finish_attack("another call", other_call, i);
			NEED(WIFSIGNALED(status));
		}
		for (uint64_t i = 0; i < 19; i++) {
			int status = finish_attack("too much", too_much, i);
			NEED(WIFSIGNALED(status));
		}
		NEED(finish_attack("the bound", to_the_bound, 0) == 0);
		NEED(finish_attack("a closed file", after_close, 0) == 0);
		NEED(finish_attack("a fork", after_fork, 0) == 0);
		for (uint64_t i = 0; i < 2; i++)
			NEED(finish_attack("a kept descriptor", kept, i) == 0);
		finish_attack("a full file system", full, 0);
		NEED(finish_attack("a hoard", hoarded, 0) == 0);
		for (uint64_t i = 0; i < 7; i++)
			finish_attack("a forged position", forged_position, i);
		for (uint64_t i = 0; i < 11; i++)
			finish_attack("a forged state", forged_state, i);
		for (uint64_t i = 0; i < 3; i++)
			finish_attack("an empty table", closed_natively, i);
	}
	return end(platform);
}
