/*
 * Reading plain files again and again: a platform may let a thread do so by itself after a while. Whatever happens to the
 * descriptor, the file or its position meanwhile, each read must give what it gives the first time.
 */
#include "check.h"
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/socket.h>

/* Reads of each kind: the first are the kernel's in any case. */
enum { OFTEN = 200, STEP = 16, SIZE = 64 * STEP * OFTEN };

static unsigned char byte_at(long offset, int seed)
{
	return (unsigned char)(offset * 7 + offset / 251 + seed);
}

static void fill(unsigned char *bytes, long offset, long len, int seed)
{
	for (long i = 0; i < len; i++)
		bytes[i] = byte_at(offset + i, seed);
}

/* A file of SIZE bytes that depend on the seed. */
static void make(const char *name, int seed)
{
	static unsigned char bytes[SIZE];
	int fd = open(name, O_CREAT | O_TRUNC | O_WRONLY, 0644);
	EXPECT(fd >= 0);
	fill(bytes, 0, SIZE, seed);
	EQ(write(fd, bytes, SIZE), SIZE);
	EQ(close(fd), 0);
}

static int opened(const char *name, int flags)
{
	int fd = open(name, flags);
	EXPECT(fd >= 0);
	return fd;
}

static void expect_bytes(const unsigned char *bytes, long offset, long len, int seed)
{
	for (long i = 0; i < len; i++)
		EQ(bytes[i], byte_at(offset + i, seed));
}

static void expect_pread(int fd, long offset, int seed)
{
	unsigned char bytes[STEP];
	EQ(pread(fd, bytes, STEP, offset), STEP);
	expect_bytes(bytes, offset, STEP, seed);
}

/* Reads at the position, which is known to be `offset`. */
static void expect_read(int fd, long offset, int seed)
{
	unsigned char bytes[STEP];
	EQ(read(fd, bytes, STEP), STEP);
	expect_bytes(bytes, offset, STEP, seed);
}

/* Reads OFTEN times from the position `offset` on; where that is then. */
static long read_on(int fd, long offset, int seed)
{
	for (int i = 0; i < OFTEN; i++, offset += STEP)
		expect_read(fd, offset, seed);
	return offset;
}

static void pread_often(int fd, int seed)
{
	for (int i = 0; i < OFTEN; i++)
		expect_pread(fd, i * 31, seed);
}

static void reap_ok(pid_t pid)
{
	int status;
	EQ(waitpid(pid, &status, 0), pid);
	EQ(status, 0);
}

CHECK(pread_gives_the_contents_and_moves_nothing)
{
	make("f", 1);
	int fd = opened("f", O_RDONLY);
	pread_often(fd, 1);
	EQ(lseek(fd, 0, SEEK_CUR), 0);
	unsigned char bytes[2 * STEP];
	EQ(pread(fd, bytes, sizeof bytes, SIZE - STEP), STEP);
	expect_bytes(bytes, SIZE - STEP, STEP, 1);
	EQ(pread(fd, bytes, sizeof bytes, SIZE), 0);
	EQ(pread(fd, bytes, sizeof bytes, 1L << 40), 0);
	EQ(pread(fd, bytes, 0, 0), 0);
	expect_read(fd, 0, 1);
}

CHECK(errors_stay_what_they_are)
{
	make("f", 1);
	int fd = opened("f", O_RDONLY), out = opened("f", O_WRONLY);
	unsigned char bytes[STEP];
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(pages != MAP_FAILED);
	EQ(munmap(pages + 4096, 4096), 0);
	pread_often(fd, 1);
	read_on(fd, 0, 1);
	for (int i = 0; i < OFTEN; i++) {
		ERR(pread(fd, bytes, STEP, -1), EINVAL);
		ERR(pread(fd, bytes, STEP, LONG_MAX), EINVAL);
		ERR(pread(fd, (void *)1, STEP, 0), EFAULT);
		ERR(pread(fd, pages + 4096, STEP, 0), EFAULT);
		ERR(pread(fd, (void *)0x7fff00000000, STEP, 0), EFAULT);
		ERR(pread(fd, (void *)0x7fff10000000, STEP, 0), EFAULT);
		ERR(read(fd, (void *)0x7fff10000000, STEP), EFAULT);
		ERR(read(fd, (void *)1, STEP), EFAULT);
		EQ(pread(fd, pages + 4088, STEP, 0), 8);
		ERR(lseek(fd, -1, SEEK_SET), EINVAL);
		ERR(lseek(fd, -OFTEN * STEP - 1, SEEK_CUR), EINVAL);
		ERR(lseek(fd, LONG_MAX, SEEK_CUR), EINVAL);
		ERR(lseek(fd, 0, 77), EINVAL);
		ERR(pread(out, bytes, STEP, 0), EBADF);
		ERR(read(out, bytes, STEP), EBADF);
	}
	expect_read(fd, OFTEN * STEP, 1);
}

CHECK(read_moves_the_position)
{
	make("f", 1);
	int fd = opened("f", O_RDONLY);
	long at = read_on(fd, 0, 1);
	EQ(lseek(fd, 0, SEEK_CUR), at);
	for (int i = 0; i < OFTEN; i++) {
		EQ(lseek(fd, 5 * i, SEEK_SET), 5 * i);
		expect_read(fd, 5 * i, 1);
		EQ(lseek(fd, 3, SEEK_CUR), 5 * i + STEP + 3);
		expect_read(fd, 5 * i + STEP + 3, 1);
		EQ(lseek(fd, -STEP, SEEK_END), SIZE - STEP);
		expect_read(fd, SIZE - STEP, 1);
		unsigned char bytes[STEP];
		EQ(read(fd, bytes, STEP), 0);
		struct iovec iov = { bytes, STEP };
		EQ(lseek(fd, 100, SEEK_SET), 100);
		EQ(readv(fd, &iov, 1), STEP);
		expect_bytes(bytes, 100, STEP, 1);
		expect_read(fd, 100 + STEP, 1);
		expect_pread(fd, 7, 1);
		EQ(lseek(fd, 0, SEEK_CUR), 100 + 2 * STEP);
	}
}

CHECK(duplicates_share_the_position)
{
	make("f", 1);
	int fd = opened("f", O_RDONLY);
	long at = read_on(fd, 0, 1);
	int other = dup(fd);
	for (int i = 0; i < OFTEN; i++, at += 2 * STEP) {
		expect_read(other, at, 1);
		expect_read(fd, at + STEP, 1);
	}
	EQ(close(fd), 0);
	at = read_on(other, at, 1);
	EQ(dup2(other, fd), fd);
	EQ(close(other), 0);
	read_on(fd, at, 1);
}

CHECK(children_share_the_position)
{
	make("f", 1);
	int fd = opened("f", O_RDONLY);
	long at = read_on(fd, 0, 1);
	for (int i = 0; i < 4; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			read_on(fd, at, 1);
			_exit(0);
		}
		reap_ok(pid);
		at = read_on(fd, at + OFTEN * STEP, 1);
	}
}

CHECK(a_closed_descriptor_is_closed)
{
	make("f", 1);
	make("g", 2);
	for (int i = 0; i < 4; i++) {
		int fd = opened("f", O_RDONLY);
		unsigned char bytes[STEP];
		pread_often(fd, 1);
		long at = read_on(fd, 0, 1);
		if (i % 2)
			EQ(close(fd), 0);
		else
			EQ(close_range(fd, fd, 0), 0);
		ERR(pread(fd, bytes, STEP, 0), EBADF);
		ERR(read(fd, bytes, STEP), EBADF);
		ERR(lseek(fd, 0, SEEK_CUR), EBADF);
		EQ(opened("g", O_RDONLY), fd);
		expect_read(fd, 0, 2);
		expect_pread(fd, at, 2);
		pread_often(fd, 2);
		EQ(close(fd), 0);
	}
}

CHECK(a_replaced_descriptor_is_the_other_file)
{
	make("f", 1);
	make("g", 2);
	int fd = opened("f", O_RDONLY), other = opened("g", O_RDONLY);
	read_on(other, 0, 2);
	pread_often(fd, 1);
	read_on(fd, 0, 1);
	EQ(dup2(other, fd), fd);
	long at = read_on(fd, OFTEN * STEP, 2);
	pread_often(fd, 2);
	expect_read(other, at, 2);
	int ends[2];
	EQ(pipe(ends), 0);
	EQ(dup2(ends[0], fd), fd);
	unsigned char byte;
	ERR(pread(fd, &byte, 1, 0), ESPIPE);
	EQ(write(ends[1], "x", 1), 1);
	EQ(read(fd, &byte, 1), 1);
	EQ(byte, 'x');
}

CHECK(writes_of_others_are_seen)
{
	make("f", 1);
	int fd = opened("f", O_RDONLY), both = opened("f", O_RDWR);
	unsigned char bytes[STEP];
	for (int seed = 2; seed < 12; seed++) {
		pread_often(fd, seed - 1);
		EQ(lseek(fd, 0, SEEK_SET), 0);
		read_on(fd, 0, seed - 1);
		pread_often(both, seed - 1);
		pid_t pid = fork();
		if (pid == 0) {
			make("f", seed);
			_exit(0);
		}
		reap_ok(pid);
		expect_pread(fd, 0, seed);
		expect_pread(both, STEP, seed);
		expect_read(fd, OFTEN * STEP, seed);
	}
	for (int i = 0; i < OFTEN; i++) {
		fill(bytes, i, STEP, 77);
		EQ(pwrite(both, bytes, STEP, i), STEP);
		expect_pread(fd, i, 77);
		expect_pread(both, i, 77);
	}
}

CHECK(sizes_are_followed)
{
	make("f", 1);
	int fd = opened("f", O_RDONLY);
	unsigned char bytes[STEP];
	pread_often(fd, 1);
	EQ(truncate("f", 10), 0);
	EQ(pread(fd, bytes, STEP, 0), 10);
	EQ(pread(fd, bytes, STEP, 10), 0);
	for (int i = 0; i < OFTEN; i++)
		EQ(pread(fd, bytes, STEP, 4), 6);
	EQ(truncate("f", 1000), 0);
	EQ(pread(fd, bytes, STEP, 10), STEP);
	for (int i = 0; i < STEP; i++)
		EQ(bytes[i], 0);
	EQ(unlink("f"), 0);
	EQ(pread(fd, bytes, STEP, 0), STEP);
	expect_bytes(bytes, 0, 10, 1);
}

CHECK(shared_mappings_are_seen)
{
	make("f", 1);
	int fd = opened("f", O_RDONLY), both = opened("f", O_RDWR);
	pread_often(fd, 1);
	unsigned char *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, both, 0), byte;
	EXPECT(map != MAP_FAILED);
	for (int i = 0; i < OFTEN; i++) {
		map[5] = (unsigned char)i;
		EQ(pread(fd, &byte, 1, 5), 1);
		EQ(byte, i);
	}
}

CHECK(the_access_time_moves_after_a_change)
{
	make("f", 1);
	int fd = opened("f", O_RDONLY);
	struct stat st;
	const struct timespec old[2] = { { 1000, 0 }, { 2000, 0 } };
	for (int i = 0; i < 3; i++) {
		pread_often(fd, 1);
		EQ(futimens(fd, old), 0);
		EQ(fstat(fd, &st), 0);
		EQ(st.st_atim.tv_sec, 1000);
		expect_pread(fd, 0, 1);
		EQ(fstat(fd, &st), 0);
		EXPECT(st.st_atim.tv_sec > 2000);
	}
}

CHECK(watchers_hear_of_reads)
{
	make("f", 1);
	int fd = opened("f", O_RDONLY), in = inotify_init1(IN_NONBLOCK);
	pread_often(fd, 1);
	long at = read_on(fd, 0, 1);
	EXPECT(in >= 0);
	for (int i = 0; i < 4; i++) {
		int wd = inotify_add_watch(in, "f", IN_ACCESS);
		EXPECT(wd >= 0);
		struct inotify_event event;
		expect_pread(fd, 0, 1);
		EQ(read(in, &event, sizeof event), sizeof event);
		EQ(event.mask, IN_ACCESS);
		expect_read(fd, at, 1);
		EQ(read(in, &event, sizeof event), sizeof event);
		EQ(inotify_rm_watch(in, wd), 0);
		while (read(in, &event, sizeof event) > 0)
			;
		pread_often(fd, 1);
		at = read_on(fd, at + STEP, 1);
	}
}

CHECK(a_descriptor_in_a_message_has_the_position)
{
	make("f", 1);
	int fd = opened("f", O_RDONLY), ends[2];
	long at = read_on(fd, 0, 1);
	EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	char byte = 0;
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .head = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec iov = { &byte, 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
	EQ(sendmsg(ends[0], &message, 0), 1);
	at = read_on(fd, at, 1);
	pid_t pid = fork();
	if (pid == 0) {
		EQ(close(fd), 0);
		int got;
		EQ(recvmsg(ends[1], &message, 0), 1);
		memcpy(&got, CMSG_DATA(&control.head), sizeof got);
		read_on(got, at, 1);
		_exit(0);
	}
	reap_ok(pid);
	expect_read(fd, at + OFTEN * STEP, 1);
}

CHECK(proc_shows_the_position)
{
	make("f", 1);
	int fd = opened("f", O_RDONLY);
	char path[64], text[64];
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	for (long at = 0; at < 3 * OFTEN * STEP;) {
		at = read_on(fd, at, 1);
		FILE *info = fopen(path, "r");
		long pos = -1;
		EXPECT(info && fgets(text, sizeof text, info) && sscanf(text, "pos: %ld", &pos) == 1);
		EQ(pos, at);
		fclose(info);
	}
}

static int shared_fd;
static pthread_barrier_t barrier;

static void *other_thread(void *offset)
{
	long *at = offset;
	pthread_barrier_wait(&barrier);
	*at = read_on(shared_fd, *at, 1);
	pread_often(shared_fd, 1);
	pthread_barrier_wait(&barrier);
	/* It is closed and another file's by now. */
	pthread_barrier_wait(&barrier);
	expect_pread(shared_fd, 0, 2);
	pread_often(shared_fd, 2);
	return NULL;
}

CHECK(threads_share_positions_and_descriptors)
{
	make("f", 1);
	make("g", 2);
	pthread_t thread;
	shared_fd = opened("f", O_RDONLY);
	long at = read_on(shared_fd, 0, 1);
	EQ(pthread_barrier_init(&barrier, NULL, 2), 0);
	EQ(pthread_create(&thread, NULL, other_thread, &at), 0);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	read_on(shared_fd, at, 1);
	EQ(close(shared_fd), 0);
	EQ(opened("g", O_RDONLY), shared_fd);
	pthread_barrier_wait(&barrier);
	pread_often(shared_fd, 2);
	EQ(pthread_join(thread, NULL), 0);
}

static void *reads_and_ends(void *seed)
{
	long offset = lseek(shared_fd, 0, SEEK_CUR);
	read_on(shared_fd, offset, *(int *)seed);
	return NULL;
}

/* The next thread may get what the platform had for the one that ended. */
CHECK(ended_threads_leave_the_position)
{
	static int one = 1, two = 2;
	make("f", 1);
	make("g", 2);
	pthread_t thread;
	int first = opened("f", O_RDONLY);
	for (int i = 0; i < 4; i++) {
		shared_fd = first;
		EQ(pthread_create(&thread, NULL, reads_and_ends, &one), 0);
		EQ(pthread_join(thread, NULL), 0);
		/* Others use the same number for another file, and another position. */
		pid_t pid = vfork();
		if (pid == 0) {
			int fd = open("g", O_RDONLY);
			dup2(fd, first);
			read_on(first, 0, 2);
			_exit(0);
		}
		reap_ok(pid);
		shared_fd = opened("g", O_RDONLY);
		EQ(pthread_create(&thread, NULL, reads_and_ends, &two), 0);
		EQ(pthread_join(thread, NULL), 0);
		EQ(lseek(shared_fd, 0, SEEK_CUR), OFTEN * STEP);
		EQ(close(shared_fd), 0);
		EQ(lseek(first, 0, SEEK_CUR), (i + 1) * OFTEN * STEP);
	}
}

static unsigned char times_read[SIZE / STEP];

static void *reader(void *unused)
{
	(void)unused;
	unsigned char bytes[STEP];
	for (;;) {
		ssize_t got = read(shared_fd, bytes, STEP);
		if (got == 0)
			return NULL;
		EQ(got, STEP);
		uint32_t record;
		memcpy(&record, bytes, sizeof record);
		__atomic_add_fetch(&times_read[record], 1, __ATOMIC_SEQ_CST);
	}
}

CHECK(racing_threads_read_every_byte_once)
{
	int fd = open("f", O_CREAT | O_RDWR, 0644);
	for (uint32_t record = 0; record < SIZE / STEP; record++) {
		unsigned char bytes[STEP] = { 0 };
		memcpy(bytes, &record, sizeof record);
		EQ(write(fd, bytes, STEP), STEP);
	}
	shared_fd = opened("f", O_RDONLY);
	pthread_t threads[3];
	for (int i = 0; i < 3; i++)
		EQ(pthread_create(&threads[i], NULL, reader, NULL), 0);
	for (int i = 0; i < 3; i++)
		EQ(pthread_join(threads[i], NULL), 0);
	for (uint32_t record = 0; record < SIZE / STEP; record++)
		EQ(times_read[record], 1);
}

CHECK(a_thread_with_descriptors_of_its_own)
{
	make("f", 1);
	make("g", 2);
	int fd = opened("f", O_RDONLY);
	pread_often(fd, 1);
	EQ(unshare(CLONE_FILES), 0);
	pread_often(fd, 1);
	EQ(close(fd), 0);
	unsigned char byte;
	ERR(pread(fd, &byte, 1, 0), EBADF);
	EQ(opened("g", O_RDONLY), fd);
	pread_often(fd, 2);
}

CHECK(a_vfork_child_has_descriptors_of_its_own)
{
	make("f", 1);
	make("g", 2);
	int fd = opened("f", O_RDONLY);
	pread_often(fd, 1);
	long at = read_on(fd, 0, 1);
	pid_t pid = vfork();
	if (pid == 0) {
		pread_often(fd, 1);
		close(fd);
		if (open("g", O_RDONLY) != fd)
			_exit(1);
		pread_often(fd, 2);
		read_on(fd, 0, 2);
		_exit(0);
	}
	reap_ok(pid);
	pread_often(fd, 1);
	read_on(fd, at, 1);
}

CHECK(many_descriptors_come_and_go)
{
	enum { FILES = 100 };
	int fds[FILES];
	for (int i = 0; i < 8; i++) {
		char name[2] = { (char)('a' + i) };
		make(name, i);
	}
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < FILES; i++) {
			char name[2] = { (char)('a' + i % 8) };
			fds[i] = opened(name, O_RDONLY);
		}
		for (int i = 0; i < FILES; i++)
			for (int k = 0; k < 8; k++)
				expect_pread(fds[i], i * 3 + k, i % 8);
		for (int i = 0; i < FILES; i += 2)
			EQ(close(fds[i]), 0);
		for (int i = 0; i < FILES; i++)
			if (i % 2 == 0) {
				unsigned char byte;
				ERR(pread(fds[i], &byte, 1, 0), EBADF);
			} else {
				expect_pread(fds[i], i, i % 8);
			}
		for (int i = 0; i < FILES; i++)
			close(fds[i]);
	}
}
