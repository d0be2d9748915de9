/* Descriptors and file contents: open(2), dup(2), fcntl(2), lseek(2), pread(2), truncate(2), ... */
#include "check.h"
#include <sys/ioctl.h>

static int make(const char *name, const char *text)
{
	write_file(name, text);
	return OK(open(name, O_RDWR | O_CLOEXEC));
}

static void expect_content(const char *name, const char *want)
{
	char buf[8192];
	read_file(name, buf, sizeof buf);
	STREQ(buf, want);
}

CHECK(open_lowest_fd)
{
	int a = OK(open(".", O_RDONLY)), b = OK(open(".", O_RDONLY)), c = OK(open(".", O_RDONLY));
	EQ(b, a + 1);
	EQ(c, a + 2);
	OK(close(b));
	OK(close(a));
	EQ(open(".", O_RDONLY), a);
	EQ(open(".", O_RDONLY), b);
}

CHECK(open_missing)
{
	ERR(open("none", O_RDONLY), ENOENT);
	ERR(open("none/x", O_RDONLY | O_CREAT, 0600), ENOENT);
	ERR(open("", O_RDONLY), ENOENT);
	ERR(open("", O_RDONLY | O_CREAT, 0600), ENOENT);
}

CHECK(open_excl)
{
	int fd = OK(open("f", O_WRONLY | O_CREAT | O_EXCL, 0600));
	OK(close(fd));
	ERR(open("f", O_WRONLY | O_CREAT | O_EXCL, 0600), EEXIST);
	OK(symlink("nowhere", "link"));
	ERR(open("link", O_WRONLY | O_CREAT | O_EXCL, 0600), EEXIST);
	ERR(open(".", O_RDONLY | O_CREAT | O_EXCL, 0600), EEXIST);
	ERR(access("nowhere", F_OK), ENOENT);
}

CHECK(open_create_through_symlink)
{
	OK(symlink("target", "link"));
	OK(close(OK(open("link", O_WRONLY | O_CREAT, 0600))));
	OK(access("target", F_OK));
}

CHECK(open_directory_for_writing)
{
	ERR(open(".", O_WRONLY), EISDIR);
	ERR(open(".", O_RDWR), EISDIR);
	ERR(open(".", O_RDONLY | O_CREAT, 0600), EISDIR);
	ERR(open(".", O_RDONLY | O_TRUNC), EISDIR);
}

CHECK(open_o_directory)
{
	write_file("f", "");
	ERR(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
	OK(symlink(".", "d"));
	OK(open("d", O_RDONLY | O_DIRECTORY));
	ERR(open("d", O_RDONLY | O_DIRECTORY | O_NOFOLLOW), ENOTDIR);
}

CHECK(open_nofollow)
{
	write_file("f", "");
	OK(symlink("f", "link"));
	ERR(open("link", O_RDONLY | O_NOFOLLOW), ELOOP);
	OK(open("f", O_RDONLY | O_NOFOLLOW));
}

CHECK(open_trunc)
{
	write_file("f", "content");
	OK(close(OK(open("f", O_WRONLY | O_TRUNC))));
	expect_content("f", "");
}

CHECK(open_append)
{
	write_file("f", "abc");
	int fd = OK(open("f", O_RDWR | O_APPEND));
	EQ(lseek(fd, 0, SEEK_CUR), 0);
	EQ(write(fd, "d", 1), 1);
	EQ(lseek(fd, 0, SEEK_CUR), 4);
	OK(lseek(fd, 0, SEEK_SET));
	EQ(write(fd, "e", 1), 1);
	/* The documented Linux oddity: pwrite on an O_APPEND file appends, whatever the offset. */
	EQ(pwrite(fd, "f", 1, 0), 1);
	EQ(lseek(fd, 0, SEEK_CUR), 5);
	expect_content("f", "abcdef");
}

CHECK(access_modes)
{
	char c;
	write_file("f", "abc");
	int rd = OK(open("f", O_RDONLY)), wr = OK(open("f", O_WRONLY));
	ERR(write(rd, "x", 1), EBADF);
	ERR(read(wr, &c, 1), EBADF);
	ERR(ftruncate(rd, 0), EINVAL);
	ERR(fallocate(rd, 0, 0, 10), EBADF);
	EQ(fcntl(rd, F_GETFL) & O_ACCMODE, O_RDONLY);
	EQ(fcntl(wr, F_GETFL) & O_ACCMODE, O_WRONLY);
}

CHECK(access_mode_three)
{
	char c;
	write_file("f", "abc");
	int fd = OK(open("f", O_ACCMODE));
	ERR(read(fd, &c, 1), EBADF);
	ERR(write(fd, &c, 1), EBADF);
}

CHECK(create_mode_and_umask)
{
	struct stat st;
	umask(027);
	int fd = OK(open("f", O_WRONLY | O_CREAT, 0666));
	OK(fstat(fd, &st));
	EQ(st.st_mode, S_IFREG | 0640);
	EQ(umask(0), 027);
	/* The mode of the new file does not bind the open that made it. */
	fd = OK(open("ro", O_RDWR | O_CREAT, 0400));
	EQ(write(fd, "x", 1), 1);
	OK(fstat(fd, &st));
	EQ(st.st_mode, S_IFREG | 0400);
}

CHECK(creat_is_trunc)
{
	write_file("f", "abc");
	int fd = OK(creat("f", 0600));
	EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_WRONLY);
	expect_content("f", "");
}

CHECK(read_directory_fd)
{
	char c;
	int fd = OK(open(".", O_RDONLY));
	ERR(read(fd, &c, 1), EISDIR);
	ERR(write(fd, &c, 1), EBADF);
	ERR(pread(fd, &c, 1, 0), EISDIR);
}

CHECK(read_at_eof)
{
	char buf[16];
	int fd = make("f", "abc");
	EQ(read(fd, buf, 16), 3);
	EQ(read(fd, buf, 16), 0);
	EQ(lseek(fd, 100, SEEK_SET), 100);
	EQ(read(fd, buf, 16), 0);
	EQ(read(fd, buf, 0), 0);
}

CHECK(write_past_end_makes_zeros)
{
	char buf[16] = "zzzzzzzzzzzzzzz";
	int fd = make("f", "ab");
	EQ(pwrite(fd, "c", 1, 5), 1);
	EQ(pread(fd, buf, 16, 0), 6);
	MEMEQ(buf, "ab\0\0\0c", 6);
}

CHECK(bad_fd)
{
	char c;
	ERR(read(99, &c, 1), EBADF);
	ERR(write(-1, &c, 1), EBADF);
	ERR(close(99), EBADF);
	ERR(lseek(99, 0, SEEK_SET), EBADF);
	ERR(fsync(99), EBADF);
	ERR(dup(99), EBADF);
	ERR(fcntl(99, F_GETFD), EBADF);
	ERR(ioctl(99, FIONREAD, &c), EBADF);
	ERR(fchmod(99, 0), EBADF);
	ERR(ftruncate(99, 0), EBADF);
}

CHECK(close_twice)
{
	int fd = OK(open(".", O_RDONLY));
	OK(close(fd));
	ERR(close(fd), EBADF);
}

CHECK(dup_shares_offset)
{
	char c;
	int fd = make("f", "abcdef"), copy = OK(dup(fd));
	EQ(read(fd, &c, 1), 1);
	EQ(read(copy, &c, 1), 1);
	EQ(c, 'b');
	int other = OK(open("f", O_RDONLY));
	EQ(read(other, &c, 1), 1);
	EQ(c, 'a');
	OK(fcntl(fd, F_SETFL, O_APPEND));
	EXPECT(fcntl(copy, F_GETFL) & O_APPEND);
}

CHECK(dup_clears_cloexec)
{
	int fd = OK(open(".", O_RDONLY | O_CLOEXEC));
	EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	EQ(fcntl(dup(fd), F_GETFD), 0);
	EQ(fcntl(fcntl(fd, F_DUPFD, 20), F_GETFD), 0);
	EQ(fcntl(fcntl(fd, F_DUPFD_CLOEXEC, 20), F_GETFD), FD_CLOEXEC);
	OK(fcntl(fd, F_SETFD, 0));
	EQ(fcntl(fd, F_GETFD), 0);
}

CHECK(dup2_replaces)
{
	char c;
	int a = make("a", "A"), b = make("b", "B");
	EQ(dup2(a, b), b);
	EQ(read(b, &c, 1), 1);
	EQ(c, 'A');
	EQ(dup2(a, a), a);
	ERR(dup2(99, 99), EBADF);
	ERR(dup2(99, a), EBADF);
	ERR(dup2(a, -1), EBADF);
	OK(fcntl(a, F_GETFD));
}

CHECK(dup3_flags)
{
	int fd = OK(open(".", O_RDONLY));
	ERR(dup3(fd, fd, 0), EINVAL);
	ERR(dup3(fd, 50, O_APPEND), EINVAL);
	EQ(dup3(fd, 50, O_CLOEXEC), 50);
	EQ(fcntl(50, F_GETFD), FD_CLOEXEC);
	EQ(dup3(fd, 51, 0), 51);
	EQ(fcntl(51, F_GETFD), 0);
}

CHECK(fcntl_dupfd_minimum)
{
	struct rlimit lim;
	int fd = OK(open(".", O_RDONLY));
	EQ(fcntl(fd, F_DUPFD, 40), 40);
	EQ(fcntl(fd, F_DUPFD, 40), 41);
	ERR(fcntl(fd, F_DUPFD, -1), EINVAL);
	OK(getrlimit(RLIMIT_NOFILE, &lim));
	ERR(fcntl(fd, F_DUPFD, lim.rlim_cur), EINVAL);
}

CHECK(fcntl_setfl_changes_only_some)
{
	int fd = OK(open("f", O_WRONLY | O_CREAT, 0600));
	OK(fcntl(fd, F_SETFL, O_RDWR | O_APPEND | O_NONBLOCK | O_CREAT | O_EXCL));
	EQ(fcntl(fd, F_GETFL) & ~0100000, O_WRONLY | O_APPEND | O_NONBLOCK);
	OK(fcntl(fd, F_SETFL, 0));
	EQ(fcntl(fd, F_GETFL) & ~0100000, O_WRONLY);
}

CHECK(fcntl_invalid_command)
{
	ERR(fcntl(0, 9999), EINVAL);
}

CHECK(close_range_plain)
{
	for (int fd = 30; fd < 36; fd++)
		OK(dup2(0, fd));
	OK(close_range(31, 33, 0));
	OK(fcntl(30, F_GETFD));
	ERR(fcntl(31, F_GETFD), EBADF);
	ERR(fcntl(33, F_GETFD), EBADF);
	OK(fcntl(34, F_GETFD));
	ERR(close_range(5, 4, 0), EINVAL);
	ERR(close_range(30, 31, 99), EINVAL);
	/* Holes are no error. */
	OK(close_range(31, 35, 0));
	ERR(fcntl(35, F_GETFD), EBADF);
}

CHECK(close_range_cloexec)
{
	OK(dup2(0, 30));
	OK(dup2(0, 31));
	OK(close_range(30, 30, CLOSE_RANGE_CLOEXEC));
	EQ(fcntl(30, F_GETFD), FD_CLOEXEC);
	EQ(fcntl(31, F_GETFD), 0);
}

CHECK(lseek_whence)
{
	int fd = make("f", "0123456789");
	EQ(lseek(fd, 4, SEEK_SET), 4);
	EQ(lseek(fd, 3, SEEK_CUR), 7);
	EQ(lseek(fd, -1, SEEK_END), 9);
	EQ(lseek(fd, 100, SEEK_END), 110);
	ERR(lseek(fd, -1, SEEK_SET), EINVAL);
	ERR(lseek(fd, -200, SEEK_CUR), EINVAL);
	ERR(lseek(fd, 0, 99), EINVAL);
	EQ(lseek(fd, 0, SEEK_CUR), 110);
}

CHECK(lseek_data_hole)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
	OK(ftruncate(fd, 1 << 20));
	EQ(pwrite(fd, "data", 4, 512 << 10), 4);
	off_t data = OK(lseek(fd, 0, SEEK_DATA));
	EXPECT(data <= 512 << 10);
	off_t hole = OK(lseek(fd, 512 << 10, SEEK_HOLE));
	EXPECT(hole > 512 << 10 && hole <= 1 << 20);
	EQ(lseek(fd, 512 << 10, SEEK_DATA), 512 << 10);
	ERR(lseek(fd, 1 << 20, SEEK_DATA), ENXIO);
	ERR(lseek(fd, 1 << 20, SEEK_HOLE), ENXIO);
	ERR(lseek(fd, -1, SEEK_DATA), ENXIO);
}

CHECK(lseek_unseekable)
{
	int p[2];
	OK(pipe(p));
	ERR(lseek(p[0], 0, SEEK_CUR), ESPIPE);
	char c;
	ERR(pread(p[0], &c, 1, 0), ESPIPE);
	ERR(pwrite(p[1], &c, 1, 0), ESPIPE);
}

CHECK(pread_pwrite)
{
	char buf[8];
	int fd = make("f", "abcdef");
	EQ(lseek(fd, 1, SEEK_SET), 1);
	EQ(pread(fd, buf, 3, 3), 3);
	MEMEQ(buf, "def", 3);
	EQ(pwrite(fd, "XY", 2, 4), 2);
	EQ(lseek(fd, 0, SEEK_CUR), 1);
	expect_content("f", "abcdXY");
	ERR(pread(fd, buf, 1, -1), EINVAL);
	ERR(pwrite(fd, buf, 1, -1), EINVAL);
	EQ(pread(fd, buf, 4, 100), 0);
}

CHECK(readv_writev)
{
	char a[2], b[3], c[10];
	int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
	struct iovec out[] = { { "ab", 2 }, { "", 0 }, { "cdef", 4 } };
	struct iovec in[] = { { a, 2 }, { b, 3 }, { c, 10 } };
	EQ(writev(fd, out, 3), 6);
	OK(lseek(fd, 0, SEEK_SET));
	EQ(readv(fd, in, 3), 6);
	MEMEQ(a, "ab", 2);
	MEMEQ(b, "cde", 3);
	EQ(c[0], 'f');
	EQ(preadv(fd, in, 2, 1), 5);
	MEMEQ(a, "bc", 2);
	EQ(pwritev(fd, out, 1, 4), 2);
	expect_content("f", "abcdab");
}

CHECK(readv_limits)
{
	static struct iovec many[1025];
	char c;
	int fd = make("f", "abc");
	ERR(readv(fd, many, 1025), EINVAL);
	ERR(readv(fd, many, -1), EINVAL);
	EQ(readv(fd, many, 0), 0);
	EQ(readv(fd, many, 1024), 0);
	struct iovec negative[] = { { &c, 1 }, { &c, SIZE_MAX } };
	ERR(readv(fd, negative, 2), EINVAL);
	EQ(lseek(fd, 0, SEEK_CUR), 0);
	ERR(writev(99, many, 1025), EBADF);
}

CHECK(preadv2_flags)
{
	char a[4];
	struct iovec v = { a, 2 };
	int fd = make("f", "abcd");
	EQ(preadv2(fd, &v, 1, 2, 0), 2);
	MEMEQ(a, "cd", 2);
	/* Offset -1 means: use and move the file position. */
	EQ(preadv2(fd, &v, 1, -1, 0), 2);
	EQ(lseek(fd, 0, SEEK_CUR), 2);
	ERR(preadv2(fd, &v, 1, 0, 0x40000000), EOPNOTSUPP);
	v = (struct iovec){ "Z", 1 };
	EQ(pwritev2(fd, &v, 1, 0, RWF_APPEND), 1);
	expect_content("f", "abcdZ");
}

CHECK(truncate_grow_shrink)
{
	struct stat st;
	char buf[10];
	int fd = make("f", "abcdef");
	OK(ftruncate(fd, 3));
	expect_content("f", "abc");
	OK(truncate("f", 8));
	OK(fstat(fd, &st));
	EQ(st.st_size, 8);
	EQ(pread(fd, buf, 10, 0), 8);
	MEMEQ(buf, "abc\0\0\0\0\0", 8);
}

CHECK(truncate_errors)
{
	int p[2];
	write_file("f", "");
	OK(pipe(p));
	ERR(truncate("f", -1), EINVAL);
	ERR(truncate(".", 0), EISDIR);
	ERR(truncate("none", 0), ENOENT);
	ERR(truncate("f/x", 0), ENOTDIR);
	ERR(ftruncate(p[1], 0), EINVAL);
	ERR(ftruncate(OK(open(".", O_RDONLY)), 0), EINVAL);
}

CHECK(fallocate_extends)
{
	struct stat st;
	int fd = make("f", "abc");
	OK(fallocate(fd, 0, 0, 8192));
	OK(fstat(fd, &st));
	EQ(st.st_size, 8192);
	OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 65536));
	OK(fstat(fd, &st));
	EQ(st.st_size, 8192);
	ERR(fallocate(fd, 0, 0, 0), EINVAL);
	ERR(fallocate(fd, 0, -1, 10), EINVAL);
	ERR(fallocate(fd, 0x8000, 0, 10), EOPNOTSUPP);
}

CHECK(fallocate_punch_hole)
{
	char buf[3 * 4096], want[3 * 4096];
	memset(buf, 'x', sizeof buf);
	memcpy(want, buf, sizeof want);
	memset(want + 4000, 0, 4200);
	int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
	EQ(write(fd, buf, sizeof buf), sizeof buf);
	ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096), EOPNOTSUPP);
	OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4000, 4200));
	EQ(pread(fd, buf, sizeof buf, 0), sizeof buf);
	MEMEQ(buf, want, sizeof buf);
}

CHECK(fallocate_on_others)
{
	int p[2];
	OK(pipe(p));
	ERR(fallocate(p[1], 0, 0, 10), ESPIPE);
	ERR(fallocate(99, 0, 0, 10), EBADF);
}

CHECK(copy_file_range_offsets)
{
	int in = make("in", "0123456789"), out = make("out", "");
	off_t from = 2, to = 1;
	EQ(copy_file_range(in, &from, out, &to, 4, 0), 4);
	EQ(from, 6);
	EQ(to, 5);
	EQ(lseek(in, 0, SEEK_CUR), 0);
	EQ(lseek(out, 0, SEEK_CUR), 0);
	OK(lseek(in, 8, SEEK_SET));
	EQ(copy_file_range(in, NULL, out, NULL, 100, 0), 2);
	EQ(lseek(out, 0, SEEK_CUR), 2);
	char buf[8];
	EQ(pread(out, buf, 8, 0), 5);
	MEMEQ(buf, "89345", 5);
	EQ(copy_file_range(in, NULL, out, NULL, 100, 0), 0);
}

CHECK(copy_file_range_errors)
{
	int p[2], in = make("in", "0123456789"), out = make("out", "");
	off_t zero = 0, four = 4;
	OK(pipe(p));
	ERR(copy_file_range(in, NULL, out, NULL, 1, 1), EINVAL);
	ERR(copy_file_range(in, NULL, p[1], NULL, 1, 0), EINVAL);
	ERR(copy_file_range(in, NULL, OK(open(".", O_RDONLY)), NULL, 1, 0), EISDIR);
	ERR(copy_file_range(in, &zero, in, &four, 6, 0), EINVAL);
	int append = OK(open("out", O_WRONLY | O_APPEND));
	ERR(copy_file_range(in, NULL, append, NULL, 1, 0), EBADF);
	ERR(copy_file_range(in, NULL, 99, NULL, 1, 0), EBADF);
}

CHECK(sendfile_file_to_pipe)
{
	int p[2], in = make("in", "0123456789");
	char buf[16];
	OK(pipe(p));
	off_t at = 3;
	EQ(syscall(SYS_sendfile, p[1], in, &at, 4), 4);
	EQ(at, 7);
	EQ(lseek(in, 0, SEEK_CUR), 0);
	EQ(syscall(SYS_sendfile, p[1], in, NULL, 100), 10);
	EQ(lseek(in, 0, SEEK_CUR), 10);
	EQ(read(p[0], buf, 16), 14);
	MEMEQ(buf, "34560123456789", 14);
	ERR(syscall(SYS_sendfile, p[1], p[0], NULL, 1), EINVAL);
	ERR(syscall(SYS_sendfile, 99, in, NULL, 1), EBADF);
}

CHECK(sendfile_file_to_file)
{
	int in = make("in", "0123456789"), out = make("out", "");
	EQ(syscall(SYS_sendfile, out, in, NULL, 6), 6);
	expect_content("out", "012345");
	EQ(syscall(SYS_sendfile, out, in, NULL, 100), 4);
	EQ(syscall(SYS_sendfile, out, in, NULL, 100), 0);
	expect_content("out", "0123456789");
}

CHECK(splice_file_and_pipe)
{
	int p[2], in = make("in", "0123456789"), out = make("out", "");
	OK(pipe(p));
	loff_t at = 2;
	EQ(splice(in, &at, p[1], NULL, 5, 0), 5);
	EQ(at, 7);
	EQ(splice(p[0], NULL, out, NULL, 100, 0), 5);
	expect_content("out", "23456");
	ERR(splice(in, NULL, out, NULL, 5, 0), EINVAL);
	at = 0;
	ERR(splice(in, NULL, p[1], &at, 5, 0), ESPIPE);
	ERR(splice(p[0], NULL, out, NULL, 5, SPLICE_F_NONBLOCK), EAGAIN);
	close(p[1]);
	EQ(splice(p[0], NULL, out, NULL, 5, 0), 0);
}

CHECK(tee_copies)
{
	int a[2], b[2];
	char buf[8];
	OK(pipe(a));
	OK(pipe(b));
	EQ(write(a[1], "hello", 5), 5);
	EQ(tee(a[0], b[1], 3, 0), 3);
	EQ(read(b[0], buf, 8), 3);
	MEMEQ(buf, "hel", 3);
	EQ(read(a[0], buf, 8), 5);
	MEMEQ(buf, "hello", 5);
}

CHECK(vmsplice_writes)
{
	int p[2];
	char buf[8];
	struct iovec v[] = { { "ab", 2 }, { "cd", 2 } };
	OK(pipe(p));
	EQ(vmsplice(p[1], v, 2, 0), 4);
	EQ(read(p[0], buf, 8), 4);
	MEMEQ(buf, "abcd", 4);
}

CHECK(o_tmpfile_linkat)
{
	struct stat st;
	char path[64];
	int fd = open(".", O_TMPFILE | O_RDWR, 0600);
	if (fd == -1 && errno == EOPNOTSUPP)
		SKIP("no O_TMPFILE in this file system");
	OK(fd);
	OK(fstat(fd, &st));
	EQ(st.st_nlink, 0);
	EQ(write(fd, "tmp", 3), 3);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	OK(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
	expect_content("named", "tmp");
	OK(fstat(fd, &st));
	EQ(st.st_nlink, 1);
	ERR(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
}

CHECK(o_tmpfile_excl_stays_unnamed)
{
	char path[64];
	int fd = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
	if (fd == -1 && errno == EOPNOTSUPP)
		SKIP("no O_TMPFILE in this file system");
	OK(fd);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	ERR(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW), ENOENT);
}

CHECK(o_path_fd)
{
	char c;
	struct stat st;
	write_file("f", "abc");
	int fd = OK(open("f", O_PATH));
	EQ(fcntl(fd, F_GETFL), O_PATH);
	ERR(read(fd, &c, 1), EBADF);
	ERR(write(fd, &c, 1), EBADF);
	ERR(lseek(fd, 0, SEEK_SET), EBADF);
	ERR(fchmod(fd, 0600), EBADF);
	ERR(ftruncate(fd, 0), EBADF);
	ERR(fsync(fd), EBADF);
	OK(fstat(fd, &st));
	EQ(st.st_size, 3);
	int copy = OK(dup(fd));
	ERR(read(copy, &c, 1), EBADF);
	OK(close(copy));
}

CHECK(o_path_symlink)
{
	char buf[16];
	struct stat st;
	OK(symlink("target", "link"));
	int fd = OK(open("link", O_PATH | O_NOFOLLOW));
	OK(fstat(fd, &st));
	EXPECT(S_ISLNK(st.st_mode));
	EQ(readlinkat(fd, "", buf, sizeof buf), 6);
	MEMEQ(buf, "target", 6);
}

CHECK(o_path_directory_as_base)
{
	OK(mkdir("d", 0755));
	write_file("d/f", "x");
	int fd = OK(open("d", O_PATH | O_DIRECTORY));
	OK(openat(fd, "f", O_RDONLY));
	OK(fchdir(fd));
	OK(access("f", F_OK));
}

CHECK(reopen_through_proc_fd)
{
	char path[64], c;
	int fd = make("f", "abc");
	OK(unlink("f"));
	EQ(read(fd, &c, 1), 1);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int again = OK(open(path, O_RDONLY));
	EQ(read(again, &c, 1), 1);
	EQ(c, 'a');
}

CHECK(unlinked_file_lives_on)
{
	struct stat st;
	char buf[4];
	int fd = make("f", "abc");
	OK(unlink("f"));
	ERR(access("f", F_OK), ENOENT);
	OK(fstat(fd, &st));
	EQ(st.st_nlink, 0);
	EQ(pwrite(fd, "d", 1, 3), 1);
	EQ(pread(fd, buf, 4, 0), 4);
	MEMEQ(buf, "abcd", 4);
}

CHECK(nofile_limit)
{
	struct rlimit lim = { 16, 16 };
	OK(setrlimit(RLIMIT_NOFILE, &lim));
	int fd;
	while ((fd = open(".", O_RDONLY)) >= 0)
		EXPECT(fd < 16);
	EQ(errno, EMFILE);
	ERR(dup(0), EMFILE);
	ERR(dup2(0, 16), EBADF);
	int p[2];
	ERR(pipe(p), EMFILE);
}

CHECK(fsize_limit)
{
	signal(SIGXFSZ, SIG_IGN);
	struct rlimit lim = { 100, 100 };
	OK(setrlimit(RLIMIT_FSIZE, &lim));
	char buf[64] = { 0 };
	int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
	EQ(write(fd, buf, 64), 64);
	EQ(write(fd, buf, 64), 36);
	ERR(write(fd, buf, 64), EFBIG);
	ERR(ftruncate(fd, 101), EFBIG);
	OK(ftruncate(fd, 100));
}

CHECK(fsize_limit_is_for_files_that_grow)
{
	signal(SIGXFSZ, SIG_IGN);
	int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
	OK(ftruncate(fd, 4000));
	struct rlimit lim = { 1000, 1000 };
	OK(setrlimit(RLIMIT_FSIZE, &lim));
	OK(ftruncate(fd, 4000));
	OK(ftruncate(fd, 3000));
	OK(truncate("f", 2000));
	OK(fallocate(fd, 0, 0, 2000));
	ERR(fallocate(fd, 0, 0, 2001), EFBIG);
	ERR(truncate("f", 2001), EFBIG);
}

CHECK(fsync_and_friends)
{
	int p[2], fd = make("f", "abc");
	OK(fsync(fd));
	OK(fdatasync(fd));
	OK(syncfs(fd));
	OK(fsync(OK(open(".", O_RDONLY))));
	OK(pipe(p));
	ERR(fsync(p[0]), EINVAL);
	OK(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
	EQ(posix_fadvise(p[0], 0, 0, POSIX_FADV_NORMAL), ESPIPE);
	EQ(posix_fadvise(fd, 0, 0, 99), EINVAL);
	OK(readahead(fd, 0, 3));
}

CHECK(dev_null_zero_full)
{
	char buf[64];
	memset(buf, 'x', sizeof buf);
	int null = OK(open("/dev/null", O_RDWR)), zero = OK(open("/dev/zero", O_RDWR));
	int full = OK(open("/dev/full", O_RDWR));
	EQ(read(null, buf, 64), 0);
	EQ(write(null, buf, 64), 64);
	EQ(read(zero, buf, 64), 64);
	for (int i = 0; i < 64; i++)
		EQ(buf[i], 0);
	ERR(write(full, buf, 1), ENOSPC);
	EQ(read(full, buf, 64), 64);
	struct stat st;
	OK(fstat(null, &st));
	EXPECT(S_ISCHR(st.st_mode));
	EQ(st.st_rdev, 0x103);
}

CHECK(dev_urandom)
{
	char a[32], b[32];
	int fd = OK(open("/dev/urandom", O_RDONLY));
	EQ(read(fd, a, 32), 32);
	EQ(read(fd, b, 32), 32);
	EXPECT(memcmp(a, b, 32));
}

CHECK(ioctl_generic)
{
	int n = -1, fd = make("f", "abcdef");
	OK(ioctl(fd, FIONREAD, &n));
	EQ(n, 6);
	ERR(ioctl(fd, TIOCGWINSZ, &n), ENOTTY);
	OK(ioctl(fd, FIOCLEX));
	EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	OK(ioctl(fd, FIONCLEX));
	EQ(fcntl(fd, F_GETFD), 0);
	n = 1;
	OK(ioctl(fd, FIONBIO, &n));
	EXPECT(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

CHECK(large_file_offsets)
{
	char c = 0;
	struct stat st;
	int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
	off_t far = 5ll << 30;
	EQ(pwrite(fd, "x", 1, far), 1);
	OK(fstat(fd, &st));
	EQ(st.st_size, far + 1);
	EXPECT(st.st_blocks < 1000);
	EQ(lseek(fd, -1, SEEK_END), far);
	EQ(read(fd, &c, 1), 1);
	EQ(c, 'x');
}

CHECK(fd_inherited_by_fork_shares_offset)
{
	char c;
	int fd = make("f", "abcdef");
	CHILD(pid) {
		EQ(read(fd, &c, 1), 1);
		OK(close(fd));
	}
	REAP(pid);
	EQ(read(fd, &c, 1), 1);
	EQ(c, 'b');
}
