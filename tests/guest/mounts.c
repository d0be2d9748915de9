/* mount(2), umount2(2), pivot_root(2): in a mount name space of its own where there are such. */
#include "check.h"
#include <sys/mount.h>
#include <sys/statfs.h>

static void need_mounts(void)
{
	if (!has_capability(CAP_SYS_ADMIN) || !is_root())
		SKIP("needs CAP_SYS_ADMIN");
	/* Where name spaces are not to be had, each check still unmounts what it mounted. */
	if (syscall(SYS_unshare, CLONE_NEWNS) == 0)
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static void mount_tmpfs(const char *at)
{
	OK(mkdir(at, 0755));
	OK(mount("none", at, "tmpfs", 0, "size=1m,mode=0750"));
}

CHECK(unprivileged_mount_is_refused)
{
	if (is_root())
		OK(setresuid(1001, 1001, 1001));
	ERR(mount("none", ".", "tmpfs", 0, NULL), EPERM);
	ERR(umount2(".", 0), EPERM);
}

CHECK(tmpfs_hides_and_gives_back)
{
	struct stat before, inside;
	struct statfs fs;
	need_mounts();
	OK(mkdir("m", 0755));
	write_file("m/below", "");
	OK(stat("m", &before));
	OK(mount("none", "m", "tmpfs", 0, "mode=0711"));
	OK(stat("m", &inside));
	NE(before.st_dev, inside.st_dev);
	EQ(inside.st_mode & 07777, 0711);
	ERR(access("m/below", F_OK), ENOENT);
	write_file("m/above", "");
	OK(statfs("m", &fs));
	EQ(fs.f_type, 0x01021994);
	OK(umount2("m", 0));
	OK(access("m/below", F_OK));
	ERR(access("m/above", F_OK), ENOENT);
}

CHECK(tmpfs_size_limit)
{
	static char buf[65536];
	need_mounts();
	mount_tmpfs("m");
	int fd = OK(open("m/f", O_WRONLY | O_CREAT, 0600));
	size_t total = 0;
	ssize_t n;
	while ((n = write(fd, buf, sizeof buf)) > 0)
		total += n;
	EQ(errno, ENOSPC);
	EXPECT(total <= 1 << 20);
	OK(close(fd));
	OK(unlink("m/f"));
	fd = OK(open("m/g", O_WRONLY | O_CREAT, 0600));
	EQ(write(fd, buf, sizeof buf), sizeof buf);
	OK(close(fd));
	OK(umount2("m", 0));
}

CHECK(busy_mounts_stay)
{
	need_mounts();
	mount_tmpfs("m");
	int fd = OK(open("m", O_RDONLY));
	ERR(umount2("m", 0), EBUSY);
	OK(close(fd));
	OK(chdir("m"));
	ERR(umount2("../m", 0), EBUSY);
	OK(chdir(".."));
	ERR(rmdir("m"), EBUSY);
	ERR(rename("m", "n"), EBUSY);
	OK(umount2("m", 0));
	OK(rmdir("m"));
}

CHECK(lazy_unmount)
{
	need_mounts();
	mount_tmpfs("m");
	write_file("m/f", "kept");
	int fd = OK(open("m", O_RDONLY));
	OK(umount2("m", MNT_DETACH));
	ERR(access("m/f", F_OK), ENOENT);
	OK(openat(fd, "f", O_RDONLY));
}

CHECK(umount_errors)
{
	need_mounts();
	OK(mkdir("m", 0755));
	ERR(umount2("m", 0), EINVAL);
	ERR(umount2("none", 0), ENOENT);
	ERR(umount2("m", 0x100), EINVAL);
	ERR(mount("none", "m", "no-such-type", 0, NULL), ENODEV);
	ERR(mount("none", "none", "tmpfs", 0, NULL), ENOENT);
	write_file("f", "");
	ERR(mount("none", "f", "tmpfs", 0, NULL), ENOTDIR);
	ERR(mount("none", BAD_PTR, "tmpfs", 0, NULL), EFAULT);
}

CHECK(read_only_mount)
{
	need_mounts();
	mount_tmpfs("m");
	write_file("m/f", "x");
	OK(mount(NULL, "m", NULL, MS_REMOUNT | MS_RDONLY, NULL));
	ERR(open("m/f", O_WRONLY), EROFS);
	ERR(open("m/new", O_WRONLY | O_CREAT, 0600), EROFS);
	ERR(unlink("m/f"), EROFS);
	ERR(mkdir("m/d", 0755), EROFS);
	ERR(chmod("m/f", 0), EROFS);
	ERR(rename("m/f", "m/g"), EROFS);
	ERR(access("m/f", W_OK), EROFS);
	OK(open("m/f", O_RDONLY));
	OK(mount(NULL, "m", NULL, MS_REMOUNT, NULL));
	OK(unlink("m/f"));
	OK(umount2("m", MNT_DETACH));
}

CHECK(bind_mounts)
{
	struct stat a, b;
	need_mounts();
	OK(mkdir("from", 0755));
	OK(mkdir("to", 0755));
	write_file("from/f", "x");
	OK(mount("from", "to", NULL, MS_BIND, NULL));
	OK(stat("from/f", &a));
	OK(stat("to/f", &b));
	EQ(a.st_ino, b.st_ino);
	EQ(a.st_dev, b.st_dev);
	write_file("to/new", "");
	OK(access("from/new", F_OK));
	/* Not across mounts, even of one file system. */
	ERR(link("from/f", "to/hard"), EXDEV);
	ERR(rename("from/f", "to/moved"), EXDEV);
	OK(umount2("to", 0));
	write_file("file", "one");
	write_file("other", "two");
	OK(mount("file", "other", NULL, MS_BIND, NULL));
	char buf[8];
	read_file("other", buf, sizeof buf);
	STREQ(buf, "one");
	ERR(unlink("other"), EBUSY);
	OK(umount2("other", 0));
}

CHECK(dotdot_crosses_mounts)
{
	struct stat here, up;
	need_mounts();
	mount_tmpfs("m");
	OK(mkdir("m/d", 0755));
	OK(stat(".", &here));
	OK(stat("m/d/../..", &up));
	EQ(here.st_ino, up.st_ino);
	char buf[PATH_MAX];
	OK(chdir("m/d"));
	EXPECT(getcwd(buf, sizeof buf));
	EXPECT(strlen(buf) > 4 && !strcmp(buf + strlen(buf) - 4, "/m/d"));
	OK(chdir("../.."));
	OK(umount2("m", 0));
}

CHECK(noexec_and_nosuid)
{
	char *argv[] = { "s", NULL };
	need_mounts();
	OK(mkdir("m", 0755));
	OK(mount("none", "m", "tmpfs", MS_NOEXEC | MS_NODEV, NULL));
	write_file("m/s", "#!/bin/true\n");
	OK(chmod("m/s", 0755));
	ERR(execve("m/s", argv, NULL), EACCES);
	ERR(access("m/s", X_OK), EACCES);
	OK(mknod("m/null", S_IFCHR | 0666, 0x103));
	ERR(open("m/null", O_RDWR), EACCES);
	OK(umount2("m", 0));
}

/* Bytes that are free in the file system of mount_tmpfs. */
static long room(void)
{
	struct statfs fs;
	OK(statfs("m", &fs));
	return fs.f_bfree * fs.f_bsize;
}

CHECK(unmapped_files_are_given_up)
{
	enum { SIZE = 640 << 10 };
	static char data[SIZE];
	need_mounts();
	mount_tmpfs("m");
	long all = room();
	char *p = NULL;
	for (int i = 0; i < 4; i++) {
		int fd = OK(open("m/f", O_RDWR | O_CREAT | O_EXCL, 0600));
		EQ(write(fd, data, SIZE), SIZE);
		p = OK(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
		p[0] = 1;
		OK(close(fd));
		OK(unlink("m/f"));
		if (i < 3)
			OK(munmap(p, SIZE));
	}
	EQ(room(), all - SIZE);
	ERR(umount2("m", 0), EBUSY);
	EQ(p[0], 1);
	CHILD(pid)
		OK(munmap(p, SIZE));
	REAP(pid);
	EQ(room(), all - SIZE);
	OK(munmap(p, SIZE));
	EQ(room(), all);
	OK(umount2("m", 0));
}

CHECK(mounts_are_listed)
{
	static char text[65536];
	need_mounts();
	mount_tmpfs("m");
	char cwd[PATH_MAX], want[PATH_MAX + 64];
	EXPECT(getcwd(cwd, sizeof cwd));
	snprintf(want, sizeof want, "none %s/m tmpfs rw,", cwd);
	read_file("/proc/self/mounts", text, sizeof text);
	EXPECT(strstr(text, want));
	OK(umount2("m", 0));
	read_file("/proc/self/mounts", text, sizeof text);
	EXPECT(!strstr(text, want));
}

CHECK(stacked_mounts)
{
	need_mounts();
	mount_tmpfs("m");
	write_file("m/first", "");
	OK(mount("none", "m", "tmpfs", 0, NULL));
	ERR(access("m/first", F_OK), ENOENT);
	OK(umount2("m", 0));
	OK(access("m/first", F_OK));
	OK(umount2("m", 0));
}

CHECK(mounts_on_dot_stack_up)
{
	need_mounts();
	mount_tmpfs("m");
	OK(mkdir("m/d", 0755));
	OK(chdir("m"));
	OK(mount("none", ".", "tmpfs", 0, NULL));
	OK(mkdir("../m/second", 0755));
	OK(mount("d", ".", NULL, MS_BIND, NULL));
	ERR(access("../m/second", F_OK), ENOENT);
	OK(umount2(".", 0));
	OK(access("../m/second", F_OK));
	ERR(access("../m/d", F_OK), ENOENT);
	OK(access("d", F_OK));
	OK(umount2(".", 0));
	OK(access("../m/d", F_OK));
	ERR(umount2(".", 0), EBUSY);
	OK(chdir(".."));
	OK(umount2("m", 0));
}

CHECK(pivot_root_on_dot)
{
	char back[PATH_MAX];
	need_mounts();
	mount_tmpfs("m");
	OK(mkdir("m/inside", 0755));
	EXPECT(getcwd(back, sizeof back));
	OK(chdir("m"));
	OK(syscall(SYS_pivot_root, ".", "."));
	OK(access("/inside", F_OK));
	/* The old root lies upon the new one, and is not left by ".". */
	ERR(umount2(".", 0), EBUSY);
	OK(chdir(".."));
	ERR(access("inside", F_OK), ENOENT);
	char at[PATH_MAX + 2];
	snprintf(at, sizeof at, "%s/m", back + 1);
	OK(syscall(SYS_pivot_root, ".", at));
	OK(chdir(back));
	OK(access("m/inside", F_OK));
	OK(umount2("m", 0));
}

CHECK(moved_mount)
{
	need_mounts();
	mount_tmpfs("m");
	write_file("m/f", "");
	OK(mkdir("n", 0755));
	OK(mount("m", "n", NULL, MS_MOVE, NULL));
	OK(access("n/f", F_OK));
	ERR(access("m/f", F_OK), ENOENT);
	OK(umount2("n", 0));
}
