/* Directory reading and extended attributes: getdents64(2), readdir(3), xattr(7). */
#include "check.h"
#include <sys/xattr.h>

struct entry {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

static int count_entries(const char *path)
{
	DIR *d = opendir(path);
	EXPECT(d);
	int n = 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void make_files(int n)
{
	char name[32];
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof name, "file-%d", i);
		OK(close(OK(open(name, O_WRONLY | O_CREAT, 0600))));
	}
}

CHECK(empty_directory_has_two_entries)
{
	OK(mkdir("d", 0755));
	EQ(count_entries("d"), 2);
	write_file("d/x", "");
	EQ(count_entries("d"), 3);
	OK(unlink("d/x"));
	EQ(count_entries("d"), 2);
}

CHECK(getdents_fields)
{
	char buf[2048] __attribute__((aligned(8)));
	struct stat st;
	bool seen_file = false, seen_link = false, seen_dir = false, seen_fifo = false, seen_dot = false;
	OK(mkdir("d", 0755));
	write_file("d/file", "");
	OK(symlink("x", "d/link"));
	OK(mkdir("d/dir", 0755));
	OK(mkfifo("d/fifo", 0600));
	int fd = OK(open("d", O_RDONLY | O_DIRECTORY));
	long n = OK(syscall(SYS_getdents64, fd, buf, sizeof buf));
	for (long at = 0; at < n;) {
		struct entry *e = (struct entry *)(buf + at);
		EXPECT(e->reclen % 8 == 0 && e->reclen >= 24);
		OK(fstatat(fd, e->name, &st, AT_SYMLINK_NOFOLLOW));
		if (strcmp(e->name, ".."))
			EQ(e->ino, st.st_ino);
		if (e->type != DT_UNKNOWN)
			EQ(e->type, (st.st_mode & S_IFMT) >> 12);
		seen_file |= !strcmp(e->name, "file");
		seen_link |= !strcmp(e->name, "link");
		seen_dir |= !strcmp(e->name, "dir");
		seen_fifo |= !strcmp(e->name, "fifo");
		seen_dot |= !strcmp(e->name, ".");
		at += e->reclen;
	}
	EXPECT(seen_file && seen_link && seen_dir && seen_fifo && seen_dot);
	EQ(syscall(SYS_getdents64, fd, buf, sizeof buf), 0);
}

CHECK(getdents_errors)
{
	char buf[512];
	write_file("f", "");
	ERR(syscall(SYS_getdents64, 99, buf, sizeof buf), EBADF);
	ERR(syscall(SYS_getdents64, OK(open("f", O_RDONLY)), buf, sizeof buf), ENOTDIR);
	int fd = OK(open(".", O_RDONLY));
	/* Too small for the first entry. */
	ERR(syscall(SYS_getdents64, fd, buf, 10), EINVAL);
	ERR(syscall(SYS_getdents64, fd, BAD_PTR, 512), EFAULT);
	EXPECT(syscall(SYS_getdents64, fd, buf, sizeof buf) > 0);
	ERR(syscall(SYS_getdents64, OK(open(".", O_PATH)), buf, sizeof buf), EBADF);
	int removed;
	OK(mkdir("gone", 0755));
	removed = OK(open("gone", O_RDONLY));
	OK(rmdir("gone"));
	ERR(syscall(SYS_getdents64, removed, buf, sizeof buf), ENOENT);
}

CHECK(old_getdents)
{
	struct old {
		unsigned long ino, off;
		unsigned short reclen;
		char name[];
	};
	char buf[1024] __attribute__((aligned(8)));
	OK(mkdir("d", 0755));
	write_file("d/only", "");
	long n = OK(syscall(SYS_getdents, OK(open("d", O_RDONLY)), buf, sizeof buf));
	int count = 0;
	for (long at = 0; at < n;) {
		struct old *e = (struct old *)(buf + at);
		if (!strcmp(e->name, "only"))
			EQ(buf[at + e->reclen - 1], DT_REG);
		count++;
		at += e->reclen;
	}
	EQ(count, 3);
}

CHECK(many_entries_in_small_pieces)
{
	char buf[200] __attribute__((aligned(8))), seen[300] = { 0 };
	make_files(300);
	int fd = OK(open(".", O_RDONLY));
	long n;
	while ((n = OK(syscall(SYS_getdents64, fd, buf, sizeof buf))) > 0)
		for (long at = 0; at < n;) {
			struct entry *e = (struct entry *)(buf + at);
			if (!strncmp(e->name, "file-", 5))
				seen[atoi(e->name + 5)]++;
			at += e->reclen;
		}
	for (int i = 0; i < 300; i++)
		EQ(seen[i], 1);
}

CHECK(rewind_and_seek)
{
	make_files(20);
	DIR *d = opendir(".");
	EXPECT(d);
	char names[22][32];
	long places[22];
	for (int i = 0; i < 22; i++) {
		places[i] = telldir(d);
		struct dirent *e = readdir(d);
		EXPECT(e);
		strcpy(names[i], e->d_name);
	}
	EXPECT(!readdir(d));
	rewinddir(d);
	STREQ(readdir(d)->d_name, names[0]);
	seekdir(d, places[13]);
	STREQ(readdir(d)->d_name, names[13]);
	closedir(d);
}

CHECK(rewind_sees_new_files)
{
	DIR *d = opendir(".");
	int n = 0;
	while (readdir(d))
		n++;
	EQ(n, 2);
	write_file("new", "");
	rewinddir(d);
	n = 0;
	while (readdir(d))
		n++;
	EQ(n, 3);
	closedir(d);
}

CHECK(delete_while_reading)
{
	make_files(200);
	DIR *d = opendir(".");
	struct dirent *e;
	int n = 0;
	while ((e = readdir(d)))
		if (e->d_name[0] != '.') {
			OK(unlink(e->d_name));
			n++;
		}
	closedir(d);
	EQ(n, 200);
	EQ(count_entries("."), 2);
}

CHECK(dup_shares_the_directory_position)
{
	char buf[32768] __attribute__((aligned(8)));
	int fd = OK(open(".", O_RDONLY)), copy = OK(dup(fd));
	EXPECT(OK(syscall(SYS_getdents64, fd, buf, sizeof buf)) > 0);
	EQ(syscall(SYS_getdents64, copy, buf, sizeof buf), 0);
	EQ(lseek(fd, 0, SEEK_SET), 0);
	EXPECT(OK(syscall(SYS_getdents64, copy, buf, sizeof buf)) > 0);
}

CHECK(root_directory_is_readable)
{
	EXPECT(count_entries("/") > 5);
	EXPECT(count_entries("/proc/self/fd") >= 5);
	EXPECT(count_entries("/dev") > 5);
}

/* The name of an attribute that this file system takes. */
static void need_xattr(void)
{
	write_file("f", "");
	if (setxattr("f", "user.probe", "x", 1, 0) && errno == EOPNOTSUPP)
		SKIP("no user attributes in this file system");
	removexattr("f", "user.probe");
}

CHECK(xattr_set_get_remove)
{
	char buf[16] = { 0 };
	need_xattr();
	OK(setxattr("f", "user.a", "value", 5, 0));
	EQ(getxattr("f", "user.a", buf, sizeof buf), 5);
	MEMEQ(buf, "value", 5);
	EQ(getxattr("f", "user.a", NULL, 0), 5);
	ERR(getxattr("f", "user.a", buf, 3), ERANGE);
	ERR(getxattr("f", "user.b", buf, 16), ENODATA);
	OK(setxattr("f", "user.a", "", 0, 0));
	EQ(getxattr("f", "user.a", buf, 16), 0);
	OK(removexattr("f", "user.a"));
	ERR(removexattr("f", "user.a"), ENODATA);
}

CHECK(xattr_create_and_replace)
{
	need_xattr();
	ERR(setxattr("f", "user.a", "x", 1, XATTR_REPLACE), ENODATA);
	OK(setxattr("f", "user.a", "x", 1, XATTR_CREATE));
	ERR(setxattr("f", "user.a", "y", 1, XATTR_CREATE), EEXIST);
	OK(setxattr("f", "user.a", "y", 1, XATTR_REPLACE));
	ERR(setxattr("f", "user.a", "y", 1, 99), EINVAL);
}

CHECK(xattr_list)
{
	char buf[64] = { 0 };
	need_xattr();
	OK(setxattr("f", "user.one", "1", 1, 0));
	OK(setxattr("f", "user.two", "2", 1, 0));
	ssize_t n = OK(listxattr("f", buf, sizeof buf));
	bool one = false, two = false;
	for (ssize_t at = 0; at < n; at += strlen(buf + at) + 1) {
		one |= !strcmp(buf + at, "user.one");
		two |= !strcmp(buf + at, "user.two");
	}
	EXPECT(one && two);
	EQ(listxattr("f", NULL, 0), n);
	ERR(listxattr("f", buf, 3), ERANGE);
}

CHECK(xattr_names_and_sizes)
{
	char name[300] = "user.";
	static char big[70000];
	need_xattr();
	memset(name + 5, 'n', 280);
	name[256] = 0;
	ERR(setxattr("f", name, "x", 1, 0), ERANGE);
	name[255] = 0;
	OK(setxattr("f", name, "x", 1, 0));
	ERR(setxattr("f", "", "x", 1, 0), ERANGE);
	ERR(setxattr("f", "nonsense", "x", 1, 0), EOPNOTSUPP);
	ERR(setxattr("f", "user.", "x", 1, 0), EINVAL);
	ERR(setxattr("f", "user.big", big, 65537, 0), E2BIG);
}

CHECK(xattr_through_descriptors_and_links)
{
	char buf[8];
	need_xattr();
	int fd = OK(open("f", O_RDONLY));
	OK(fsetxattr(fd, "user.fd", "1", 1, 0));
	EQ(getxattr("f", "user.fd", buf, 8), 1);
	OK(symlink("f", "l"));
	EQ(getxattr("l", "user.fd", buf, 8), 1);
	EQ(fgetxattr(fd, "user.fd", buf, 8), 1);
	/* Symbolic links take no user attributes. */
	ERR(lsetxattr("l", "user.x", "1", 1, 0), EPERM);
	ERR(fsetxattr(OK(open("f", O_PATH)), "user.x", "1", 1, 0), EBADF);
	ERR(getxattr("none", "user.x", buf, 8), ENOENT);
	OK(fremovexattr(fd, "user.fd"));
}

CHECK(xattr_on_directories_and_rename)
{
	char buf[8];
	need_xattr();
	OK(mkdir("d", 0755));
	OK(setxattr("d", "user.d", "dir", 3, 0));
	EQ(getxattr("d", "user.d", buf, 8), 3);
	OK(setxattr("f", "user.f", "file", 4, 0));
	OK(rename("f", "g"));
	EQ(getxattr("g", "user.f", buf, 8), 4);
	OK(link("g", "h"));
	EQ(getxattr("h", "user.f", buf, 8), 4);
}

CHECK(xattr_permissions)
{
	need_root();
	need_xattr();
	OK(chmod("f", 0644));
	OK(setxattr("f", "user.a", "1", 1, 0));
	CHILD(pid) {
		char buf[8];
		OK(setresuid(1001, 1001, 1001));
		EQ(getxattr("f", "user.a", buf, 8), 1);
		ERR(setxattr("f", "user.b", "1", 1, 0), EACCES);
		ERR(getxattr("f", "trusted.a", buf, 8), ENODATA);
		ERR(setxattr("f", "trusted.a", "1", 1, 0), EPERM);
	}
	REAP(pid);
}
