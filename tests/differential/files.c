/*
 * Random file calls, told line by line: the same seed must give the same lines on Linux and under uvm.
 *
 *   files BASE SEED STEPS
 *
 * Works in a new directory below BASE, which is its root directory where it may chroot and is deep enough not to be left
 * otherwise. Left out is what depends on the file system: sizes and link counts of directories, numbers, times, and devices,
 * which a mount may forbid.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FDS = 8, FIRST_FD = 90, BAD_FD = 77, DEPTH = 40, ROOM = 5000 };

static uint64_t state;
static long step;
static char work[512];
static int rooted;
static char bytes[ROOM];

static uint32_t below(uint32_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 11) % n;
}

/* Some path, often to something that is there. */
static const char *path(char *to)
{
	static const char *const names[] = { "a", "b", "c", "d", "l", "m", "a", "b", "c", ".", ".." };
	int parts = 1 + below(4);
	to[0] = 0;
	if (below(12) == 0)
		strcat(strcpy(to, work), "/");
	for (int i = 0; i < parts; i++) {
		if (i)
			strcat(to, below(8) ? "/" : "//");
		strcat(to, names[below(11)]);
	}
	if (below(8) == 0)
		strcat(to, "/");
	if (below(200) == 0)
		to[0] = 0;
	if (below(300) == 0) {
		memset(to, 'x', 300);
		to[300] = 0;
	}
	return to;
}

/* A path as it is told: without the name of the working directory, which is another one each time. */
static const char *shown(const char *text)
{
	size_t len = strlen(work);
	return strncmp(text, work, len) == 0 ? text + len : text;
}

static void tell(const char *call, const char *a, const char *b, long result)
{
	const char *error = result < 0 ? strerrorname_np(errno) : "";
	printf("%ld %s %s %s = %ld %s\n", step, call, shown(a), shown(b), result < 0 ? -1 : result, error);
}

static void tell_stat(const struct stat *st)
{
	int dir = S_ISDIR(st->st_mode);
	int link = S_ISLNK(st->st_mode);
	printf("\t%o %ld %d %d %ld\n", st->st_mode, dir ? 0 : (long)st->st_nlink, (int)st->st_uid, (int)st->st_gid,
	       dir || link ? 0 : (long)st->st_size);
}

static int some_fd(void)
{
	return below(20) ? FIRST_FD + (int)below(FDS) : BAD_FD;
}

/* Never waits for the other end of a FIFO. */
static int open_flags(void)
{
	static const int more[] = { O_CREAT, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY, O_NOFOLLOW, O_PATH, O_NOATIME };
	int flags = O_NONBLOCK | below(3);
	for (size_t i = 0; i < sizeof more / sizeof *more; i++)
		if (below(4) == 0)
			flags |= more[i];
	return flags;
}

static void open_something(void)
{
	char p[ROOM];
	int slot = FIRST_FD + below(FDS), flags = open_flags();
	mode_t mode = below(2) ? 0644 : below(010000);
	close(slot);
	int fd = open(path(p), flags, mode);
	tell("open", p, "", fd < 0 ? -1 : 0);
	printf("\tflags %o mode %o\n", flags, mode);
	if (fd < 0)
		return;
	printf("\tF_GETFL %o\n", fcntl(fd, F_GETFL));
	if (fd != slot) {
		dup2(fd, slot);
		close(fd);
	}
}

static void open_by_openat2(void)
{
	char p[ROOM];
	/* What is mounted above is not ours to compare. */
	uint64_t not_asked = RESOLVE_NO_MAGICLINKS | (rooted ? 0 : RESOLVE_NO_XDEV);
	struct open_how how = { .flags = open_flags(), .resolve = below(32) & ~not_asked };
	if (how.flags & O_CREAT)
		how.mode = 0644;
	long fd = syscall(SYS_openat2, below(2) ? AT_FDCWD : some_fd(), path(p), &how, sizeof how);
	tell("openat2", p, "", fd < 0 ? -1 : 0);
	printf("\t%llo %llx\n", how.flags, how.resolve);
	if (fd >= 0)
		close((int)fd);
}

/* Go somewhere, say where that is, and come back. */
static void visit(int fd)
{
	char p[ROOM] = "";
	int result = fd >= 0 ? fchdir(fd) : chdir(path(p));
	tell(fd >= 0 ? "fchdir" : "chdir", p, "", result);
	char *here = getcwd(p, sizeof p);
	tell("getcwd", here && strncmp(here, work, strlen(work)) == 0 ? here : "elsewhere", "", here ? 0 : -1);
	if (chdir(work) < 0)
		exit(2);
}

/* A call on one path or two, which are made first. */
#define PATH(name, call) (path(p), result = (call), tell(name, p, "", result))
#define PATHS(name, call) (path(p), path(q), result = (call), tell(name, p, q, result))

static void change_names(void)
{
	char p[ROOM], q[ROOM];
	long result;
	switch (below(9)) {
	case 0: return PATH("mkdir", mkdir(p, below(2) ? 0755 : below(010000)));
	case 1: return PATH("rmdir", rmdir(p));
	case 2: return PATH("unlink", unlink(p));
	case 3: return PATHS("rename", rename(p, q));
	case 4: return PATHS("renameat2", renameat2(AT_FDCWD, p, AT_FDCWD, q, below(4)));
	case 5: return PATHS("link", link(p, q));
	case 6: return PATHS("symlink", symlink(p, q));
	case 7: return PATH("mknod", mknod(p, (below(2) ? S_IFIFO : 0) | 0644, 0));
	case 8: return PATH("unlinkat", unlinkat(some_fd(), p, below(2) ? AT_REMOVEDIR : 0));
	}
}

static void change_attributes(void)
{
	char p[ROOM];
	long result;
	switch (below(6)) {
	case 0: return PATH("chmod", chmod(p, below(010000)));
	case 1: return PATH("chown", chown(p, (int)below(4) - 1, (int)below(4) - 1));
	case 2: return PATH("truncate", truncate(p, below(3) ? (long)below(9000) : -1));
	case 3: return tell("fchmod", "", "", fchmod(some_fd(), below(010000)));
	case 4: return tell("ftruncate", "", "", ftruncate(some_fd(), below(9000)));
	}
	struct timespec times[2] = {
		{ 5, below(2) ? UTIME_NOW : below(2) ? UTIME_OMIT : 7 },
		{ 6, below(2) ? UTIME_NOW : below(2) ? UTIME_OMIT : 1200000000 },
	};
	PATH("utimensat", utimensat(AT_FDCWD, p, times, below(2) ? AT_SYMLINK_NOFOLLOW : 0));
}

static void look(void)
{
	char p[ROOM], q[ROOM];
	struct stat st;
	int mode = below(8);
	long result;
	switch (below(5)) {
	case 0: return PATH("access", access(p, mode));
	case 1: return PATH("faccessat", faccessat(AT_FDCWD, p, mode, below(2) ? AT_EACCESS : 0));
	case 2: {
		ssize_t len = readlink(path(p), q, 100);
		return tell("readlink", p, "", len < 0 ? -1 : 0);
	}
	case 3: result = fstatat(AT_FDCWD, path(p), &st, below(2) ? AT_SYMLINK_NOFOLLOW : 0); break;
	default: strcpy(p, ""), result = fstat(some_fd(), &st);
	}
	tell("stat", p, "", result);
	if (result == 0)
		tell_stat(&st);
}

static void move_bytes(void)
{
	char to[ROOM];
	struct stat a, b;
	int fd = some_fd(), other = some_fd();
	off_t offset = below(5000);
	int len = below(ROOM);
	switch (below(9)) {
	case 0: return tell("write", "", "", write(fd, bytes, len));
	case 1: return tell("read", "", "", read(fd, to, len));
	case 2: return tell("pwrite", "", "", pwrite(fd, bytes, len, offset - 50));
	case 3: return tell("pread", "", "", pread(fd, to, len, offset - 50));
	case 4:
		/* Where a directory's entries are is its file system's affair. */
		if (fstat(fd, &a) == 0 && S_ISDIR(a.st_mode))
			return;
		return tell("lseek", "", "", lseek(fd, offset - 100, below(3)));
	case 5: return tell("copy_file_range", "", "", copy_file_range(fd, NULL, other, NULL, len, 0));
	case 6:
		/* From a file to itself Linux moves pages, of which it is open what they hold. */
		if (fstat(fd, &a) == 0 && fstat(other, &b) == 0 && a.st_ino == b.st_ino)
			return;
		return tell("sendfile", "", "", sendfile(fd, other, below(2) ? &offset : NULL, len));
	case 7: {
		static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE };
		return tell("fallocate", "", "", fallocate(fd, modes[below(3)], offset, len));
	}
	}
	struct iovec parts[] = { { bytes, below(100) }, { bytes, below(100) }, { bytes, below(100) } };
	tell("writev", "", "", writev(fd, parts, 3));
}

static void lock_something(void)
{
	struct flock range = { .l_type = below(3), .l_start = (long)below(200) - 20, .l_len = (long)below(200) - 50 };
	int fd = some_fd(), ofd = below(2), result;
	switch (below(3)) {
	case 0: return tell("flock", "", "", flock(fd, (below(3) ? LOCK_SH + (int)below(2) : LOCK_UN) | LOCK_NB));
	case 1: return tell("setlk", "", "", fcntl(fd, ofd ? F_OFD_SETLK : F_SETLK, &range));
	}
	result = fcntl(fd, F_OFD_GETLK, &range);
	tell("getlk", "", "", result);
	if (result == 0)
		printf("\t%d %ld %ld\n", range.l_type, (long)range.l_start, (long)range.l_len);
}

static void tell_contents(const char *name)
{
	char part[4096];
	unsigned sum = 0;
	ssize_t got;
	int fd = open(name, O_RDONLY);
	if (fd < 0)
		return tell("open", name, "", fd);
	while ((got = read(fd, part, sizeof part)) > 0)
		for (ssize_t i = 0; i < got; i++)
			sum = sum * 31 + (unsigned char)part[i];
	printf("\t%s holds %x\n", name, sum);
	close(fd);
}

/* What is left at the end. */
static void tell_tree(const char *dir, int depth)
{
	struct dirent **entries;
	int count = depth < 8 ? scandir(dir, &entries, NULL, alphasort) : 0;
	for (int i = 0; i < count; i++) {
		char name[ROOM];
		struct stat st;
		snprintf(name, sizeof name, "%s/%s", dir, entries[i]->d_name);
		if (strcmp(entries[i]->d_name, ".") && strcmp(entries[i]->d_name, "..")) {
			int result = lstat(name, &st);
			tell("left", name, "", result);
			if (result == 0)
				tell_stat(&st);
			if (result == 0 && S_ISREG(st.st_mode))
				tell_contents(name);
			if (result == 0 && S_ISDIR(st.st_mode))
				tell_tree(name, depth + 1);
		}
		free(entries[i]);
	}
	if (count > 0)
		free(entries);
}

static void enter(const char *base)
{
	if (chdir(base) < 0)
		exit(2);
	rooted = geteuid() == 0 && chroot(".") == 0;
	if (rooted) {
		if ((mkdir("w", 0777) < 0 && errno != EEXIST) || chdir("/w") < 0)
			exit(2);
	} else {
		for (int i = 0; i < DEPTH; i++)
			if ((mkdir("w", 0777) < 0 && errno != EEXIST) || chdir("w") < 0)
				exit(2);
	}
	if (!getcwd(work, sizeof work))
		exit(2);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	umask(022);
	enter(argv[1]);
	state = strtoull(argv[2], NULL, 10) * 2654435761u + 88172645463325252u;
	memset(bytes, 'z', sizeof bytes);
	for (long steps = atol(argv[3]); step < steps; step++) {
		switch (below(16)) {
		case 0: case 1: case 2: open_something(); break;
		case 3: open_by_openat2(); break;
		case 4: visit(some_fd()); break;
		case 5: visit(-1); break;
		case 6: case 7: case 8: case 9: change_names(); break;
		case 10: change_attributes(); break;
		case 11: case 12: look(); break;
		case 13: case 14: move_bytes(); break;
		case 15: lock_something(); break;
		}
	}
	tell_tree(".", 0);
	return fflush(stdout) == 0 ? 0 : 2;
}
