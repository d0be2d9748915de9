/*
 * Writing plain files again and again: a platform may let a thread do so by itself after a while. Whatever happens to the
 * descriptor, the file or its position meanwhile, each write must do what it does the first time.
 */
#include "check.h"
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/mount.h>

/* Writes of each kind: the first are the kernel's in any case. */
enum { OFTEN = 200, STEP = 64, RECORDS = 4 * OFTEN };

static void fill(unsigned char *bytes, long offset, int seed)
{
	for (long i = 0; i < STEP; i++)
		bytes[i] = (unsigned char)((offset + i) * 7 + (offset + i) / 251 + seed);
}

static int made(const char *name, int flags)
{
	int fd = open(name, O_CREAT | O_TRUNC | flags, 0644);
	EXPECT(fd >= 0);
	return fd;
}

/* One write at the position, which is known to be `offset`. */
static void write_one(int fd, long offset, int seed)
{
	unsigned char bytes[STEP];
	fill(bytes, offset, seed);
	EQ(write(fd, bytes, STEP), STEP);
}

/* OFTEN writes from the position `offset` on; where that is then. */
static long write_on(int fd, long offset, int seed)
{
	for (int i = 0; i < OFTEN; i++, offset += STEP)
		write_one(fd, offset, seed);
	return offset;
}

static void pwrite_one(int fd, long offset, int seed)
{
	unsigned char bytes[STEP];
	fill(bytes, offset, seed);
	EQ(pwrite(fd, bytes, STEP, offset), STEP);
}

static void expect_bytes(const char *name, long from, long to, int seed)
{
	unsigned char bytes[STEP], wanted[STEP];
	int fd = open(name, O_RDONLY);
	EXPECT(fd >= 0);
	for (; from < to; from += STEP) {
		EQ(pread(fd, bytes, STEP, from), STEP);
		fill(wanted, from, seed);
		EQ(memcmp(bytes, wanted, STEP), 0);
	}
	EQ(close(fd), 0);
}

static struct stat status(const char *name)
{
	struct stat st;
	EQ(stat(name, &st), 0);
	return st;
}

static void reap_ok(pid_t pid)
{
	int status;
	EQ(waitpid(pid, &status, 0), pid);
	EQ(status, 0);
}

CHECK(write_moves_the_position_and_the_size)
{
	int fd = made("f", O_WRONLY);
	long at = 0;
	for (int i = 0; i < 6; i++) {
		at = write_on(fd, at, 1);
		EQ(lseek(fd, 0, SEEK_CUR), at);
		EQ(lseek(fd, 0, SEEK_END), at);
		EQ(status("f").st_size, at);
	}
	expect_bytes("f", 0, at, 1);
	EQ(lseek(fd, 640, SEEK_SET), 640);
	write_on(fd, 640, 2);
	expect_bytes("f", 0, 640, 1);
	expect_bytes("f", 640, 640 + OFTEN * STEP, 2);
	EQ(status("f").st_size, at);
	EQ(status("f").st_blocks, (at + 4095) / 4096 * 8);
}

CHECK(pwrite_moves_nothing)
{
	int fd = made("f", O_RDWR);
	for (int i = 0; i < OFTEN; i++)
		pwrite_one(fd, i * STEP, 1);
	EQ(lseek(fd, 0, SEEK_CUR), 0);
	for (int i = 0; i < OFTEN; i++)
		pwrite_one(fd, (OFTEN - 1 - i) * STEP, 2);
	EQ(lseek(fd, 0, SEEK_CUR), 0);
	expect_bytes("f", 0, OFTEN * STEP, 2);
}

CHECK(large_files_and_writes)
{
	enum { LARGE = 3 << 20 };
	static unsigned char bytes[LARGE], got[LARGE];
	long at = 0, sizes[] = { 1 << 16, 1 << 20, (1 << 20) + 1, LARGE, 4096 };
	int fd = made("f", O_RDWR);
	for (long i = 0; i < LARGE; i++)
		bytes[i] = (unsigned char)(i * 3 + i / 4096);
	for (int i = 0; i < 5; i++)
		for (int k = 0; k < 12; k++, at += sizes[i])
			EQ(write(fd, bytes, sizes[i]), sizes[i]);
	EQ(status("f").st_size, at);
	EQ(lseek(fd, 0, SEEK_CUR), at);
	EQ(pread(fd, got, LARGE, at - 12 * 4096 - LARGE), LARGE);
	EQ(memcmp(bytes, got, LARGE), 0);
	/* Far away is a hole. */
	for (int i = 0; i < OFTEN; i++)
		EQ(pwrite(fd, bytes, 1, (1L << 33) + i), 1);
	EQ(status("f").st_size, (1L << 33) + OFTEN);
	for (int i = 0; i < OFTEN; i++)
		EQ(pwrite(fd, bytes, 100, i), 100);
	EXPECT(status("f").st_blocks * 512 < at + (1 << 20));
}

CHECK(vectors_are_written_whole)
{
	int fd = made("f", O_RDWR);
	unsigned char a[STEP], b[STEP], c[STEP];
	struct iovec iov[] = { { a, STEP }, { NULL, 0 }, { b, STEP }, { c, STEP } };
	for (long at = 0, i = 0; i < OFTEN; i++, at += 3 * STEP) {
		fill(a, at, 1);
		fill(b, at + STEP, 1);
		fill(c, at + 2 * STEP, 1);
		EQ(writev(fd, iov, 4), 3 * STEP);
		EQ(lseek(fd, 0, SEEK_CUR), at + 3 * STEP);
	}
	expect_bytes("f", 0, OFTEN * 3 * STEP, 1);
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(pages != MAP_FAILED);
	EQ(munmap(pages + 4096, 4096), 0);
	struct iovec broken[] = { { a, STEP }, { pages + 4096, STEP } };
	long at = lseek(fd, 0, SEEK_CUR);
	EQ(writev(fd, broken, 2), STEP);
	EQ(lseek(fd, 0, SEEK_CUR), at + STEP);
	ERR(writev(fd, broken + 1, 1), EFAULT);
	ERR(writev(fd, iov, -1), EINVAL);
	ERR(writev(fd, (void *)1, 1), EFAULT);
	EQ(writev(fd, iov, 0), 0);
	EQ(lseek(fd, 0, SEEK_CUR), at + STEP);
}

CHECK(errors_stay_what_they_are)
{
	int fd = made("f", O_WRONLY), in = open("f", O_RDONLY);
	unsigned char bytes[STEP] = { 0 };
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(pages != MAP_FAILED);
	EQ(munmap(pages + 4096, 4096), 0);
	long at = write_on(fd, 0, 1);
	for (int i = 0; i < OFTEN; i++) {
		ERR(pwrite(fd, bytes, STEP, -1), EINVAL);
		ERR(pwrite(fd, bytes, STEP, LONG_MAX), EINVAL);
		ERR(pwrite(fd, (void *)1, STEP, 0), EFAULT);
		ERR(write(fd, pages + 4096, STEP), EFAULT);
		ERR(write(fd, (void *)0x7fff00000000, STEP), EFAULT);
		ERR(write(fd, (void *)0x7fff10000000, STEP), EFAULT);
		ERR(pwrite(fd, (void *)0x7fff10000000, STEP, 0), EFAULT);
		EQ(write(fd, bytes, 0), 0);
		EQ(pwrite(fd, bytes, 0, 1 << 20), 0);
		EQ(lseek(fd, 0, SEEK_CUR), at);
		ERR(lseek(fd, -1, SEEK_SET), EINVAL);
		ERR(read(fd, bytes, STEP), EBADF);
		ERR(pread(fd, bytes, STEP, 0), EBADF);
		ERR(write(in, bytes, STEP), EBADF);
		ERR(pwrite(in, bytes, STEP, 0), EBADF);
	}
	EQ(write(fd, pages + 4088, STEP), 8);
	EQ(lseek(fd, 0, SEEK_CUR), at + 8);
	EQ(status("f").st_size, at + 8);
}

CHECK(others_read_what_was_written)
{
	int fd = made("f", O_RDWR), in = open("f", O_RDONLY);
	unsigned char bytes[STEP], wanted[STEP];
	long at = 0;
	for (int i = 0; i < OFTEN; i++, at += STEP) {
		EQ(read(in, bytes, STEP), 0);
		write_one(fd, at, 1);
		fill(wanted, at, 1);
		EQ(read(in, bytes, STEP), STEP);
		EQ(memcmp(bytes, wanted, STEP), 0);
		EQ(pread(fd, bytes, STEP, at), STEP);
		EQ(memcmp(bytes, wanted, STEP), 0);
	}
	at = write_on(fd, at, 1);
	pid_t pid = fork();
	if (pid == 0) {
		expect_bytes("f", 0, at, 1);
		_exit(0);
	}
	reap_ok(pid);
}

CHECK(duplicates_and_children_share_the_position)
{
	int fd = made("f", O_RDWR), other = dup(fd);
	long at = write_on(fd, 0, 1);
	for (int i = 0; i < OFTEN; i++, at += 2 * STEP) {
		write_one(other, at, 1);
		write_one(fd, at + STEP, 1);
	}
	for (int i = 0; i < 4; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			write_on(fd, at, 1);
			_exit(0);
		}
		reap_ok(pid);
		at = write_on(other, at + OFTEN * STEP, 1);
	}
	EQ(close(fd), 0);
	at = write_on(other, at, 1);
	EQ(lseek(other, 0, SEEK_CUR), at);
	expect_bytes("f", 0, at, 1);
}

CHECK(closed_and_replaced_descriptors)
{
	for (int i = 0; i < 4; i++) {
		int fd = made("f", O_WRONLY);
		write_on(fd, 0, 1);
		EQ(close(fd), 0);
		unsigned char bytes[STEP];
		ERR(write(fd, bytes, STEP), EBADF);
		ERR(pwrite(fd, bytes, STEP, 0), EBADF);
		EQ(made("g", O_WRONLY), fd);
		write_on(fd, 0, 2);
		int f = open("f", O_WRONLY);
		EQ(dup2(f, fd), fd);
		write_on(fd, 0, 3);
		EQ(close(f), 0);
		EQ(close(fd), 0);
		expect_bytes("f", 0, OFTEN * STEP, 3);
		expect_bytes("g", 0, OFTEN * STEP, 2);
	}
}

CHECK(appending_goes_to_the_end)
{
	int fd = made("f", O_RDWR), tail = open("f", O_WRONLY | O_APPEND);
	long end = write_on(fd, 0, 1);
	for (int i = 0; i < OFTEN; i++, end += 2 * STEP) {
		write_one(tail, end, 1);
		EQ(lseek(tail, 0, SEEK_CUR), end + STEP);
		EQ(lseek(fd, 0, SEEK_END), end + STEP);
		write_one(fd, end + STEP, 1);
	}
	EQ(fcntl(fd, F_SETFL, O_APPEND), 0);
	EQ(lseek(fd, 0, SEEK_SET), 0);
	end = write_on(fd, end, 1);
	EQ(fcntl(fd, F_SETFL, 0), 0);
	EQ(lseek(fd, 0, SEEK_SET), 0);
	write_on(fd, 0, 2);
	expect_bytes("f", 0, OFTEN * STEP, 2);
	expect_bytes("f", OFTEN * STEP, end, 1);
	EQ(status("f").st_size, end);
}

CHECK(truncation_is_followed)
{
	int fd = made("f", O_RDWR);
	unsigned char bytes[STEP], zeros[STEP] = { 0 };
	for (int i = 0; i < 4; i++) {
		long at = lseek(fd, 0, SEEK_CUR), end = write_on(fd, at, 1);
		EQ(truncate("f", STEP), 0);
		EQ(status("f").st_size, STEP);
		write_one(fd, end, 1);
		EQ(status("f").st_size, end + STEP);
		EQ(pread(fd, bytes, STEP, STEP), STEP);
		EQ(memcmp(bytes, zeros, STEP), 0);
		EQ(close(open("f", O_WRONLY | O_TRUNC)), 0);
		EQ(status("f").st_size, 0);
		EQ(status("f").st_blocks, 0);
		EQ(ftruncate(fd, 100), 0);
	}
}

static bool is_before(struct timespec one, struct timespec other)
{
	return one.tv_sec < other.tv_sec || (one.tv_sec == other.tv_sec && one.tv_nsec < other.tv_nsec);
}

CHECK(times_follow_writes)
{
	int fd = made("f", O_RDWR);
	const struct timespec old[2] = { { 1000, 0 }, { 2000, 0 } };
	struct timespec before, after;
	write_on(fd, 0, 1);
	for (int i = 0; i < 5; i++) {
		EQ(futimens(fd, old), 0);
		struct stat st = status("f");
		EQ(st.st_mtim.tv_sec, 2000);
		clock_gettime(CLOCK_REALTIME_COARSE, &before);
		write_on(fd, 0, 1);
		st = status("f");
		clock_gettime(CLOCK_REALTIME, &after);
		EXPECT(st.st_mtim.tv_sec >= before.tv_sec && st.st_mtim.tv_sec <= after.tv_sec);
		EXPECT(st.st_ctim.tv_sec == st.st_mtim.tv_sec);
		EQ(st.st_atim.tv_sec, 1000);
		/* They stay while nobody writes. */
		usleep(30000);
		struct stat again = status("f");
		EQ(memcmp(&again.st_mtim, &st.st_mtim, sizeof st.st_mtim), 0);
		/* And move on with the next write, which may be one that nobody has told the kernel of. */
		write_one(fd, OFTEN * STEP, 1);
		EQ(fstat(fd, &again), 0);
		EXPECT(is_before(st.st_mtim, again.st_mtim));
		EQ(lseek(fd, 0, SEEK_SET), 0);
	}
}

CHECK(times_are_in_the_order_of_the_writes)
{
	struct stat f, g;
	int fd = made("f", O_WRONLY);
	for (int i = 0; i < 5; i++) {
		write_on(fd, i * OFTEN * STEP, 1);
		int other = made("g", O_WRONLY);
		write_one(other, 0, 1);
		EQ(close(other), 0);
		write_on(fd, i * OFTEN * STEP, 1);
		f = status("f");
		g = status("g");
		EXPECT(!is_before(f.st_mtim, g.st_mtim));
	}
}

CHECK(the_first_read_after_a_write_is_noted)
{
	int fd = made("f", O_RDWR), in = open("f", O_RDONLY);
	const struct timespec old[2] = { { 1000, 0 }, { 2000, 0 } };
	unsigned char byte;
	for (int i = 0; i < 4; i++) {
		write_on(fd, 0, 1);
		EQ(futimens(fd, old), 0);
		EQ(lseek(fd, 0, SEEK_SET), 0);
		for (int k = 0; k < OFTEN; k++)
			EQ(pread(in, &byte, 1, k), 1);
		EXPECT(status("f").st_atim.tv_sec > 2000);
		write_on(fd, 0, 1);
		EQ(lseek(fd, 0, SEEK_SET), 0);
	}
}

CHECK(limits_on_sizes_hold)
{
	signal(SIGXFSZ, SIG_IGN);
	int fd = made("f", O_WRONLY);
	long at = write_on(fd, 0, 1);
	struct rlimit limit, old;
	EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = at + STEP + 10;
	EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	unsigned char bytes[STEP];
	fill(bytes, at, 1);
	EQ(write(fd, bytes, STEP), STEP);
	fill(bytes, at + STEP, 1);
	EQ(write(fd, bytes, STEP), 10);
	for (int i = 0; i < OFTEN; i++) {
		ERR(write(fd, bytes, STEP), EFBIG);
		ERR(pwrite(fd, bytes, STEP, at + STEP + 10), EFBIG);
		pwrite_one(fd, i, 1);
	}
	EQ(status("f").st_size, at + STEP + 10);
	EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
	EQ(lseek(fd, at + STEP, SEEK_SET), at + STEP);
	at = write_on(fd, at + STEP, 1);
	/* Somebody else's child limits only itself. */
	pid_t pid = fork();
	if (pid == 0) {
		limit.rlim_cur = 100;
		EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
		for (int i = 0; i < OFTEN; i++)
			ERR(pwrite(fd, bytes, STEP, 100), EFBIG);
		_exit(0);
	}
	reap_ok(pid);
	write_on(fd, at, 1);
}

CHECK(set_user_id_bits_go_with_a_write)
{
	need_root();
	int fd = made("f", O_RDWR);
	EQ(chmod(".", 0777), 0);
	EQ(fchown(fd, 1000, 1000), 0);
	pid_t pid = fork();
	if (pid == 0) {
		EQ(setuid(1000), 0);
		long at = 0;
		for (int i = 0; i < 4; i++) {
			at = write_on(fd, at, 1);
			EQ(fchmod(fd, 04755), 0);
			EQ(status("f").st_mode & 07777, 04755);
			write_one(fd, at, 1);
			at += STEP;
			EQ(status("f").st_mode & 07777, 0755);
			at = write_on(fd, at, 1);
			EQ(fchmod(fd, 02755), 0);
			pwrite_one(fd, 0, 1);
			EQ(status("f").st_mode & 07777, 0755);
		}
		expect_bytes("f", 0, at, 1);
		_exit(0);
	}
	reap_ok(pid);
}

CHECK(shared_mappings_agree)
{
	int fd = made("f", O_RDWR);
	write_on(fd, 0, 1);
	unsigned char *map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), wanted[STEP];
	EXPECT(map != MAP_FAILED);
	for (int i = 0; i < OFTEN; i++) {
		pwrite_one(fd, i * STEP, 2);
		fill(wanted, i * STEP, 2);
		EQ(memcmp(map + i * STEP, wanted, STEP), 0);
		map[5] = (unsigned char)i;
		unsigned char byte;
		EQ(pread(fd, &byte, 1, 5), 1);
		EQ(byte, i);
	}
	/* Also when the file has been made a program of somebody else's meanwhile. */
	EQ(fchmod(fd, 0755), 0);
	write_on(fd, OFTEN * STEP, 2);
	fill(wanted, 5 * STEP, 2);
	EQ(memcmp(map + 5 * STEP, wanted, STEP), 0);
}

CHECK(what_was_written_can_be_executed)
{
	static const char script[] = "#!/proc/self/exe\n";
	char bytes[4096];
	for (int round = 0; round < 3; round++) {
		int in = open("/proc/self/exe", O_RDONLY), fd = open("program", O_CREAT | O_TRUNC | O_WRONLY, 0755);
		EXPECT(in >= 0 && fd >= 0);
		ssize_t got;
		while ((got = read(in, bytes, sizeof bytes)) > 0)
			EQ(write(fd, bytes, got), got);
		ERR(execl("program", "program", "--list", NULL), ETXTBSY);
		EQ(close(fd), 0);
		pid_t pid = fork();
		if (pid == 0) {
			EQ(dup2(open("/dev/null", O_WRONLY), 1), 1);
			execl("program", "program", "--list", NULL);
			_exit(1);
		}
		reap_ok(pid);
		/* And written again when it has ended. */
		fd = open("program", O_WRONLY);
		EXPECT(fd >= 0);
		EQ(write(fd, script, sizeof script - 1), sizeof script - 1);
		write_on(fd, sizeof script - 1, 1);
		EQ(close(in), 0);
		EQ(close(fd), 0);
	}
}

CHECK(watchers_hear_of_writes)
{
	int fd = made("f", O_WRONLY), in = inotify_init1(IN_NONBLOCK);
	long at = write_on(fd, 0, 1);
	EXPECT(in >= 0);
	for (int i = 0; i < 4; i++) {
		int wd = inotify_add_watch(in, "f", IN_MODIFY);
		EXPECT(wd >= 0);
		struct inotify_event event;
		write_one(fd, at, 1);
		EQ(read(in, &event, sizeof event), sizeof event);
		EQ(event.mask, IN_MODIFY);
		EQ(inotify_rm_watch(in, wd), 0);
		while (read(in, &event, sizeof event) > 0)
			;
		at = write_on(fd, at + STEP, 1);
	}
}

static int shared_fd;

static void *writer(void *number)
{
	uint32_t record[STEP / 4] = { *(uint32_t *)number };
	for (uint32_t i = 0; i < RECORDS; i++) {
		record[1] = i;
		EQ(write(shared_fd, record, STEP), STEP);
	}
	return NULL;
}

/* None is written over another's, and each thread's come in its order. */
CHECK(racing_threads_write_every_record_once)
{
	enum { THREADS = 3 };
	pthread_t threads[THREADS];
	uint32_t numbers[THREADS], next[THREADS] = { 0 }, record[STEP / 4];
	shared_fd = made("f", O_RDWR);
	for (uint32_t i = 0; i < THREADS; i++) {
		numbers[i] = i;
		EQ(pthread_create(&threads[i], NULL, writer, &numbers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		EQ(pthread_join(threads[i], NULL), 0);
	EQ(status("f").st_size, (long)THREADS * RECORDS * STEP);
	EQ(lseek(shared_fd, 0, SEEK_SET), 0);
	for (int i = 0; i < THREADS * RECORDS; i++) {
		EQ(read(shared_fd, record, STEP), STEP);
		EXPECT(record[0] < THREADS);
		EQ(record[1], next[record[0]]++);
	}
}

CHECK(racing_processes_write_every_record_once)
{
	enum { CHILDREN = 3 };
	uint32_t next[CHILDREN] = { 0 }, record[STEP / 4];
	shared_fd = made("f", O_RDWR);
	pid_t pids[CHILDREN];
	for (uint32_t i = 0; i < CHILDREN; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			writer(&i);
			_exit(0);
		}
	}
	for (int i = 0; i < CHILDREN; i++)
		reap_ok(pids[i]);
	EQ(lseek(shared_fd, 0, SEEK_SET), 0);
	for (int i = 0; i < CHILDREN * RECORDS; i++) {
		EQ(read(shared_fd, record, STEP), STEP);
		EXPECT(record[0] < CHILDREN);
		EQ(record[1], next[record[0]]++);
	}
	EQ(read(shared_fd, record, STEP), 0);
}

/* What is set aside for one file's writer is there for others that need it. */
CHECK(a_full_file_system_is_full_to_the_last_page)
{
	need_root();
	static unsigned char page[4096];
	EQ(mkdir("m", 0700), 0);
	if (mount("none", "m", "tmpfs", 0, "size=4m") != 0)
		SKIP("no mount(2) here");
	int fd = made("m/f", O_WRONLY), other = made("m/g", O_WRONLY);
	long pages = 0;
	for (; pages < 100; pages++)
		EQ(write(fd, page, sizeof page), sizeof page);
	for (; write(other, page, sizeof page) == sizeof page; pages++)
		;
	EQ(errno, ENOSPC);
	EQ(pages, 1024);
	ERR(write(fd, page, sizeof page), ENOSPC);
	EQ(ftruncate(other, 0), 0);
	for (pages = 100; write(fd, page, sizeof page) == sizeof page; pages++)
		;
	EQ(errno, ENOSPC);
	EQ(pages, 1024);
	EQ(status("m/f").st_size, 4 << 20);
	EQ(close(fd), 0);
	EQ(close(other), 0);
	EQ(umount("m"), 0);
}

/* Neither end of a copy between them has a position, however much goes by. */
CHECK(null_and_zero_go_on_for_ever)
{
	static unsigned char bytes[1 << 20];
	int null = open("/dev/null", O_WRONLY), zero = open("/dev/zero", O_RDONLY);
	EXPECT(null >= 0 && zero >= 0);
	for (int i = 0; i < 5000; i++) {
		bytes[i] = bytes[sizeof bytes - 1 - i] = 1;
		if (i < OFTEN) {
			EQ(read(zero, bytes, sizeof bytes), sizeof bytes);
			EQ(bytes[i] | bytes[sizeof bytes - 1 - i], 0);
		}
		EQ(write(null, bytes, sizeof bytes), sizeof bytes);
	}
	/* Nobody looks at what is thrown away. */
	EQ(write(null, (void *)1, 1), 1);
	EQ(lseek(null, 0, SEEK_CUR), 0);
	EQ(lseek(zero, 5, SEEK_SET), 0);
	EQ(lseek(zero, -5, SEEK_CUR), 0);
	EQ(pread(zero, bytes, STEP, 1L << 40), STEP);
	EQ(dup2(zero, null), null);
	ERR(write(null, bytes, STEP), EBADF);
	EQ(read(null, bytes, STEP), STEP);
}
