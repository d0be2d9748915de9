/* Names: path_resolution(7), link(2), rename(2), unlink(2), mkdir(2), stat(2) and the AT_ flags. */
#include "check.h"
#include <linux/openat2.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

static int open_how(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_how how = { .flags = flags, .resolve = resolve };
	return syscall(SYS_openat2, dir, path, &how, sizeof how);
}

static ino_t ino_of(const char *path)
{
	struct stat st;
	OK(lstat(path, &st));
	return st.st_ino;
}

CHECK(openat_relative_to_directory)
{
	OK(mkdir("d", 0755));
	int dir = OK(open("d", O_RDONLY | O_DIRECTORY));
	OK(close(OK(openat(dir, "f", O_WRONLY | O_CREAT, 0600))));
	OK(access("d/f", F_OK));
	write_file("plain", "");
	int file = OK(open("plain", O_RDONLY));
	ERR(openat(file, "x", O_RDONLY), ENOTDIR);
	ERR(openat(99, "x", O_RDONLY), EBADF);
	/* An absolute path does not look at the descriptor. */
	OK(openat(99, "/", O_RDONLY));
}

CHECK(symlink_loop)
{
	OK(symlink("b", "a"));
	OK(symlink("a", "b"));
	OK(symlink("self/x", "self"));
	struct stat st;
	ERR(open("a", O_RDONLY), ELOOP);
	ERR(stat("self", &st), ELOOP);
	OK(lstat("a", &st));
	ERR(chdir("a"), ELOOP);
	ERR(open("a", O_RDONLY | O_CREAT, 0600), ELOOP);
}

CHECK(symlink_chain_of_forty)
{
	char name[16], next[16];
	write_file("l0", "");
	for (int i = 1; i <= 41; i++) {
		snprintf(name, sizeof name, "l%d", i);
		snprintf(next, sizeof next, "l%d", i - 1);
		OK(symlink(next, name));
	}
	OK(close(OK(open("l40", O_RDONLY))));
	ERR(open("l41", O_RDONLY), ELOOP);
}

CHECK(symlink_limits)
{
	char big[4200];
	memset(big, 'a', sizeof big);
	ERR(symlink("", "x"), ENOENT);
	ERR(symlink("x", ""), ENOENT);
	big[4096] = 0;
	ERR(symlink(big, "x"), ENAMETOOLONG);
	OK(symlink("dangling", "l"));
	ERR(symlink("other", "l"), EEXIST);
	ERR(symlink("x", "l/"), EEXIST);
}

CHECK(readlink_semantics)
{
	char buf[16] = "zzzzzzzzzzzzzzz";
	OK(symlink("0123456789", "l"));
	EQ(readlink("l", buf, 4), 4);
	MEMEQ(buf, "0123z", 5);
	EQ(readlink("l", buf, 16), 10);
	ERR(readlink("l", buf, 0), EINVAL);
	ERR(readlink(".", buf, 16), EINVAL);
	ERR(readlink("none", buf, 16), ENOENT);
	struct stat st;
	OK(lstat("l", &st));
	EQ(st.st_size, 10);
}

CHECK(trailing_slash_on_file)
{
	struct stat st;
	write_file("f", "");
	OK(symlink("f", "l"));
	ERR(stat("f/", &st), ENOTDIR);
	ERR(open("f/", O_RDONLY), ENOTDIR);
	ERR(open("new/", O_WRONLY | O_CREAT, 0600), EISDIR);
	ERR(unlink("f/"), ENOTDIR);
	ERR(lstat("l/", &st), ENOTDIR);
	ERR(access("f/.", F_OK), ENOTDIR);
	ERR(rename("f", "g/"), ENOTDIR);
	ERR(link("f", "g/"), ENOENT);
}

CHECK(trailing_slash_on_directory)
{
	struct stat st;
	OK(mkdir("d/", 0755));
	OK(symlink("d", "l"));
	OK(stat("d/", &st));
	OK(stat("d//.//", &st));
	OK(lstat("l/", &st));
	EXPECT(S_ISDIR(st.st_mode));
	OK(lstat("l", &st));
	EXPECT(S_ISLNK(st.st_mode));
	OK(rename("d/", "e/"));
	OK(rmdir("e/"));
	ERR(rmdir("l/"), ENOTDIR);
}

CHECK(dotdot_at_the_root)
{
	struct stat root, above;
	OK(stat("/", &root));
	OK(stat("/../../..", &above));
	EQ(root.st_ino, above.st_ino);
	EQ(root.st_dev, above.st_dev);
	OK(stat("/../tmp", &above));
	int fd = OK(open("/", O_RDONLY));
	OK(fstatat(fd, "..", &above, 0));
	EQ(root.st_ino, above.st_ino);
}

CHECK(dotdot_of_symlinked_directory)
{
	OK(mkdir("a", 0755));
	OK(mkdir("a/b", 0755));
	OK(symlink("a/b", "l"));
	write_file("a/f", "");
	/* `..` is the parent of the target, not of the link. */
	OK(access("l/../f", F_OK));
}

CHECK(name_too_long)
{
	char name[300], path[5000];
	struct stat st;
	memset(name, 'n', sizeof name);
	name[255] = 0;
	OK(close(OK(open(name, O_WRONLY | O_CREAT, 0600))));
	name[255] = 'n';
	name[256] = 0;
	ERR(open(name, O_WRONLY | O_CREAT, 0600), ENAMETOOLONG);
	ERR(stat(name, &st), ENAMETOOLONG);
	ERR(mkdir(name, 0755), ENAMETOOLONG);
	for (int i = 0; i < 4998; i += 2)
		memcpy(path + i, "./", 2);
	path[4095] = 0;
	OK(stat(path, &st));
	path[4095] = '/';
	path[4096] = 0;
	ERR(stat(path, &st), ENAMETOOLONG);
	ERR(open(path, O_RDONLY), ENAMETOOLONG);
}

CHECK(not_a_directory_in_the_middle)
{
	struct stat st;
	write_file("f", "");
	ERR(stat("f/x", &st), ENOTDIR);
	ERR(stat("f/..", &st), ENOTDIR);
	ERR(mkdir("f/x", 0755), ENOTDIR);
	ERR(unlink("f/x"), ENOTDIR);
	ERR(chdir("f"), ENOTDIR);
	ERR(rmdir("f"), ENOTDIR);
	ERR(rename("f/x", "y"), ENOTDIR);
	OK(symlink("none", "dangling"));
	ERR(stat("dangling/x", &st), ENOENT);
}

CHECK(empty_path)
{
	struct stat st;
	ERR(stat("", &st), ENOENT);
	ERR(access("", F_OK), ENOENT);
	ERR(mkdir("", 0755), ENOENT);
	ERR(unlink(""), ENOENT);
	ERR(rmdir(""), ENOENT);
	ERR(chdir(""), ENOENT);
	ERR(rename("", "x"), ENOENT);
	ERR(chmod("", 0), ENOENT);
}

CHECK(at_empty_path)
{
	struct stat st;
	write_file("f", "abc");
	int fd = OK(open("f", O_RDONLY));
	OK(fstatat(fd, "", &st, AT_EMPTY_PATH));
	EQ(st.st_size, 3);
	ERR(fstatat(fd, "", &st, 0), ENOENT);
	OK(fstatat(AT_FDCWD, "", &st, AT_EMPTY_PATH));
	EXPECT(S_ISDIR(st.st_mode));
	OK(fchownat(fd, "", -1, -1, AT_EMPTY_PATH));
	ERR(fstatat(99, "", &st, AT_EMPTY_PATH), EBADF);
	ERR(fstatat(AT_FDCWD, "f", &st, 0x40000000), EINVAL);
}

CHECK(at_symlink_nofollow)
{
	struct stat st;
	write_file("f", "abc");
	OK(symlink("f", "l"));
	OK(fstatat(AT_FDCWD, "l", &st, AT_SYMLINK_NOFOLLOW));
	EXPECT(S_ISLNK(st.st_mode));
	OK(fstatat(AT_FDCWD, "l", &st, 0));
	EXPECT(S_ISREG(st.st_mode));
	OK(fchownat(AT_FDCWD, "l", -1, -1, AT_SYMLINK_NOFOLLOW));
	OK(lchown("l", -1, -1));
}

CHECK(linkat_follow)
{
	write_file("f", "");
	OK(symlink("f", "l"));
	OK(linkat(AT_FDCWD, "l", AT_FDCWD, "hard", AT_SYMLINK_FOLLOW));
	EQ(ino_of("hard"), ino_of("f"));
	OK(linkat(AT_FDCWD, "l", AT_FDCWD, "hard2", 0));
	EQ(ino_of("hard2"), ino_of("l"));
	ERR(linkat(AT_FDCWD, "l", AT_FDCWD, "x", 0x40000000), EINVAL);
}

CHECK(link_semantics)
{
	struct stat st;
	write_file("f", "");
	OK(link("f", "g"));
	OK(stat("f", &st));
	EQ(st.st_nlink, 2);
	EQ(ino_of("f"), ino_of("g"));
	ERR(link("f", "g"), EEXIST);
	ERR(link("none", "x"), ENOENT);
	OK(mkdir("d", 0755));
	ERR(link("d", "x"), EPERM);
	OK(unlink("f"));
	OK(stat("g", &st));
	EQ(st.st_nlink, 1);
}

CHECK(unlink_errors)
{
	OK(mkdir("d", 0755));
	ERR(unlink("d"), EISDIR);
	ERR(unlink("none"), ENOENT);
	ERR(unlink("."), EISDIR);
	ERR(unlinkat(AT_FDCWD, "d", 0x1000000), EINVAL);
	OK(unlinkat(AT_FDCWD, "d", AT_REMOVEDIR));
	write_file("f", "");
	ERR(unlinkat(AT_FDCWD, "f", AT_REMOVEDIR), ENOTDIR);
}

CHECK(rmdir_errors)
{
	OK(mkdir("d", 0755));
	write_file("d/f", "");
	ERR(rmdir("d"), ENOTEMPTY);
	ERR(rmdir("d/."), EINVAL);
	ERR(rmdir("d/.."), ENOTEMPTY);
	ERR(rmdir("none"), ENOENT);
	OK(unlink("d/f"));
	OK(rmdir("d"));
	OK(symlink(".", "l"));
	ERR(rmdir("l"), ENOTDIR);
}

CHECK(mkdir_mode)
{
	struct stat st;
	umask(022);
	OK(mkdir("d", 0777));
	OK(stat("d", &st));
	EQ(st.st_mode, S_IFDIR | 0755);
	EQ(st.st_nlink, 2);
	OK(mkdir("d/e", 0));
	OK(stat("d", &st));
	EQ(st.st_nlink, 3);
	OK(mkdir("s", 01777));
	OK(stat("s", &st));
	EQ(st.st_mode, S_IFDIR | 01755);
	ERR(mkdir("d", 0755), EEXIST);
	ERR(mkdir("none/x", 0755), ENOENT);
	OK(symlink("nowhere", "l"));
	ERR(mkdir("l", 0755), EEXIST);
	ERR(mkdir(".", 0755), EEXIST);
	ERR(mkdir("/", 0755), EEXIST);
}

CHECK(rename_replaces_file)
{
	char buf[8];
	write_file("a", "A");
	write_file("b", "B");
	int old = OK(open("b", O_RDONLY));
	OK(rename("a", "b"));
	ERR(access("a", F_OK), ENOENT);
	read_file("b", buf, sizeof buf);
	STREQ(buf, "A");
	EQ(read(old, buf, 1), 1);
	EQ(buf[0], 'B');
}

CHECK(rename_same_inode_does_nothing)
{
	write_file("a", "");
	OK(link("a", "b"));
	OK(rename("a", "b"));
	OK(access("a", F_OK));
	OK(access("b", F_OK));
	OK(rename("a", "a"));
}

CHECK(rename_directories)
{
	OK(mkdir("a", 0755));
	OK(mkdir("b", 0755));
	write_file("f", "");
	write_file("a/x", "");
	ERR(rename("a", "f"), ENOTDIR);
	ERR(rename("f", "b"), EISDIR);
	OK(rename("a", "b"));
	OK(access("b/x", F_OK));
	OK(mkdir("c", 0755));
	ERR(rename("c", "b"), ENOTEMPTY);
	ERR(rename("b", "b/inside"), EINVAL);
	ERR(rename("b/x", "b"), ENOTEMPTY);
	ERR(rename("none", "b"), ENOENT);
	ERR(rename(".", "x"), EBUSY);
	ERR(rename("b", "."), EBUSY);
}

CHECK(rename_moves_dotdot)
{
	struct stat a, b;
	OK(mkdir("p", 0755));
	OK(mkdir("q", 0755));
	OK(mkdir("p/d", 0755));
	OK(rename("p/d", "q/d"));
	OK(stat("q/d/..", &a));
	OK(stat("q", &b));
	EQ(a.st_ino, b.st_ino);
	OK(stat("p", &a));
	EQ(a.st_nlink, 2);
	EQ(b.st_nlink, 3);
}

CHECK(renameat2_noreplace)
{
	write_file("a", "A");
	write_file("b", "B");
	ERR(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE), EEXIST);
	OK(renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE));
	OK(access("c", F_OK));
	ERR(renameat2(AT_FDCWD, "c", AT_FDCWD, "d", 0x100), EINVAL);
	ERR(renameat2(AT_FDCWD, "c", AT_FDCWD, "b", RENAME_NOREPLACE | RENAME_EXCHANGE), EINVAL);
}

CHECK(renameat2_exchange)
{
	write_file("a", "A");
	OK(mkdir("d", 0755));
	ino_t a = ino_of("a"), d = ino_of("d");
	OK(renameat2(AT_FDCWD, "a", AT_FDCWD, "d", RENAME_EXCHANGE));
	EQ(ino_of("a"), d);
	EQ(ino_of("d"), a);
	ERR(renameat2(AT_FDCWD, "a", AT_FDCWD, "none", RENAME_EXCHANGE), ENOENT);
}

CHECK(chdir_and_getcwd)
{
	char before[PATH_MAX], after[PATH_MAX];
	OK(mkdir("d", 0755));
	EXPECT(getcwd(before, sizeof before));
	OK(chdir("d"));
	EXPECT(getcwd(after, sizeof after));
	EQ(strlen(after), strlen(before) + 2);
	STREQ(after + strlen(before), "/d");
	ERR(syscall(SYS_getcwd, after, 3), ERANGE);
	EQ(syscall(SYS_getcwd, after, sizeof after), strlen(before) + 3);
	int fd = OK(open("..", O_RDONLY));
	OK(fchdir(fd));
	EXPECT(getcwd(after, sizeof after));
	STREQ(before, after);
	write_file("f", "");
	ERR(fchdir(OK(open("f", O_RDONLY))), ENOTDIR);
	ERR(fchdir(99), EBADF);
}

CHECK(getcwd_of_removed_directory)
{
	char buf[PATH_MAX];
	struct stat st;
	OK(mkdir("d", 0755));
	OK(chdir("d"));
	OK(rmdir("../d"));
	ERR(syscall(SYS_getcwd, buf, sizeof buf), ENOENT);
	ERR(open("f", O_WRONLY | O_CREAT, 0600), ENOENT);
	ERR(mkdir("x", 0755), ENOENT);
	OK(stat(".", &st));
	EQ(st.st_nlink, 0);
	OK(chdir(".."));
}

CHECK(getcwd_follows_rename)
{
	char buf[PATH_MAX];
	OK(mkdir("old", 0755));
	OK(chdir("old"));
	OK(rename("../old", "../new"));
	EXPECT(getcwd(buf, sizeof buf));
	STREQ(strrchr(buf, '/'), "/new");
}

CHECK(cwd_is_per_process)
{
	OK(mkdir("d", 0755));
	CHILD(pid) OK(chdir("d"));
	REAP(pid);
	OK(access("d", F_OK));
}

CHECK(chroot_confines)
{
	struct stat inside, root;
	char buf[PATH_MAX];
	need_root();
	OK(mkdir("jail", 0755));
	OK(mkdir("jail/d", 0755));
	OK(symlink("/d", "jail/l"));
	OK(stat("jail", &inside));
	OK(chdir("jail"));
	OK(chroot("."));
	OK(stat("/", &root));
	EQ(root.st_ino, inside.st_ino);
	OK(stat("/../..", &root));
	EQ(root.st_ino, inside.st_ino);
	OK(stat("/l", &root));
	EXPECT(getcwd(buf, sizeof buf));
	STREQ(buf, "/");
	OK(chdir("/d"));
	EXPECT(getcwd(buf, sizeof buf));
	STREQ(buf, "/d");
	ERR(access("/etc", F_OK), ENOENT);
}

CHECK(getcwd_outside_the_root)
{
	char buf[PATH_MAX];
	need_root();
	OK(mkdir("jail", 0755));
	OK(chroot("jail"));
	long n = OK(syscall(SYS_getcwd, buf, sizeof buf));
	EXPECT(n > 13 && !strncmp(buf, "(unreachable)", 13));
}

CHECK(chroot_errors)
{
	write_file("f", "");
	if (!is_root()) {
		ERR(chroot("."), EPERM);
		SKIP("needs root");
	}
	ERR(chroot("f"), ENOTDIR);
	ERR(chroot("none"), ENOENT);
}

CHECK(stat_fields)
{
	struct stat st;
	write_file("f", "0123456789");
	OK(chmod("f", 0640));
	OK(stat("f", &st));
	EQ(st.st_mode, S_IFREG | 0640);
	EQ(st.st_size, 10);
	EQ(st.st_uid, geteuid());
	EQ(st.st_gid, getegid());
	EQ(st.st_nlink, 1);
	EXPECT(st.st_blksize >= 512);
	EXPECT(st.st_ino != 0);
	ERR(stat("none", &st), ENOENT);
	ERR(fstat(99, &st), EBADF);
}

CHECK(statx_fields)
{
	struct statx x;
	struct stat st;
	write_file("f", "0123456789");
	OK(stat("f", &st));
	OK(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &x));
	EQ(x.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
	EQ(x.stx_size, 10);
	EQ(x.stx_ino, st.st_ino);
	EQ(x.stx_mode, st.st_mode);
	EQ(makedev(x.stx_dev_major, x.stx_dev_minor), st.st_dev);
	EQ(x.stx_mtime.tv_sec, st.st_mtim.tv_sec);
	EQ(x.stx_mtime.tv_nsec, st.st_mtim.tv_nsec);
	EQ(x.stx_uid, geteuid());
	int fd = OK(open("f", O_PATH));
	OK(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &x));
	EQ(x.stx_size, 10);
	ERR(statx(AT_FDCWD, "f", 0, 0x80000000, &x), EINVAL);
	ERR(statx(AT_FDCWD, "f", 0x40000000, STATX_SIZE, &x), EINVAL);
	ERR(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, STATX_SIZE, &x), EINVAL);
	ERR(statx(AT_FDCWD, "none", 0, STATX_SIZE, &x), ENOENT);
}

CHECK(statfs_sane)
{
	struct statfs a, b;
	OK(statfs(".", &a));
	OK(fstatfs(OK(open(".", O_RDONLY)), &b));
	EQ(a.f_type, b.f_type);
	EXPECT(a.f_bsize >= 512);
	EXPECT(a.f_blocks >= a.f_bfree);
	EXPECT(a.f_namelen >= 255);
	ERR(statfs("none", &a), ENOENT);
	OK(statfs("/proc", &a));
	EQ(a.f_type, 0x9fa0);
}

CHECK(faccessat2_flags)
{
	write_file("f", "");
	OK(symlink("none", "l"));
	OK(syscall(SYS_faccessat2, AT_FDCWD, "f", R_OK | W_OK, AT_EACCESS));
	ERR(syscall(SYS_faccessat2, AT_FDCWD, "l", F_OK, 0), ENOENT);
	OK(syscall(SYS_faccessat2, AT_FDCWD, "l", F_OK, AT_SYMLINK_NOFOLLOW));
	ERR(syscall(SYS_faccessat2, AT_FDCWD, "f", 8, 0), EINVAL);
	ERR(syscall(SYS_faccessat2, AT_FDCWD, "f", F_OK, 0x40000000), EINVAL);
	int fd = OK(open("f", O_RDONLY));
	OK(syscall(SYS_faccessat2, fd, "", R_OK, AT_EMPTY_PATH));
	ERR(access("f", X_OK), EACCES);
}

CHECK(fchmodat2_flags)
{
	struct stat st;
	write_file("f", "");
	OK(symlink("f", "l"));
	long r = syscall(452, AT_FDCWD, "f", 0600, 0);
	OK(r);
	OK(stat("f", &st));
	EQ(st.st_mode & 07777, 0600);
	ERR(syscall(452, AT_FDCWD, "l", 0644, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
	int fd = OK(open("f", O_PATH));
	OK(syscall(452, fd, "", 0640, AT_EMPTY_PATH));
	OK(stat("f", &st));
	EQ(st.st_mode & 07777, 0640);
	ERR(syscall(452, AT_FDCWD, "f", 0600, 0x40000000), EINVAL);
}

CHECK(openat2_validation)
{
	char big[sizeof(struct open_how) + 8] = { 0 };
	struct open_how how = { .flags = O_RDONLY };
	OK(syscall(SYS_openat2, AT_FDCWD, ".", &how, sizeof how));
	ERR(syscall(SYS_openat2, AT_FDCWD, ".", &how, 8), EINVAL);
	OK(syscall(SYS_openat2, AT_FDCWD, ".", big, sizeof big));
	big[sizeof big - 1] = 1;
	ERR(syscall(SYS_openat2, AT_FDCWD, ".", big, sizeof big), E2BIG);
	how.mode = 0600;
	ERR(syscall(SYS_openat2, AT_FDCWD, ".", &how, sizeof how), EINVAL);
	ERR(open_how(AT_FDCWD, ".", 1ull << 40, 0), EINVAL);
	ERR(open_how(AT_FDCWD, ".", O_RDONLY, 0x1000), EINVAL);
	ERR(open_how(AT_FDCWD, ".", O_RDONLY, RESOLVE_BENEATH | RESOLVE_IN_ROOT), EINVAL);
}

CHECK(openat2_resolve_beneath)
{
	OK(mkdir("d", 0755));
	write_file("d/f", "");
	write_file("out", "");
	OK(symlink("../out", "d/up"));
	OK(symlink("/", "d/abs"));
	OK(symlink("f", "d/ok"));
	int dir = OK(open("d", O_RDONLY | O_DIRECTORY));
	OK(open_how(dir, "f", O_RDONLY, RESOLVE_BENEATH));
	OK(open_how(dir, "ok", O_RDONLY, RESOLVE_BENEATH));
	ERR(open_how(dir, "../out", O_RDONLY, RESOLVE_BENEATH), EXDEV);
	ERR(open_how(dir, "up", O_RDONLY, RESOLVE_BENEATH), EXDEV);
	ERR(open_how(dir, "abs", O_RDONLY, RESOLVE_BENEATH), EXDEV);
	ERR(open_how(dir, "/", O_RDONLY, RESOLVE_BENEATH), EXDEV);
}

CHECK(openat2_resolve_in_root)
{
	struct stat a, b;
	OK(mkdir("d", 0755));
	write_file("d/f", "x");
	OK(symlink("/f", "d/abs"));
	OK(symlink("../../f", "d/up"));
	int dir = OK(open("d", O_RDONLY | O_DIRECTORY));
	OK(fstat(OK(open_how(dir, "abs", O_RDONLY, RESOLVE_IN_ROOT)), &a));
	OK(fstat(OK(open_how(dir, "up", O_RDONLY, RESOLVE_IN_ROOT)), &b));
	EQ(a.st_ino, b.st_ino);
	EQ(a.st_ino, ino_of("d/f"));
	OK(open_how(dir, "/../f", O_RDONLY, RESOLVE_IN_ROOT));
}

CHECK(openat2_resolve_no_symlinks)
{
	OK(mkdir("d", 0755));
	write_file("d/f", "");
	OK(symlink("d", "l"));
	OK(symlink("d/f", "lf"));
	OK(open_how(AT_FDCWD, "d/f", O_RDONLY, RESOLVE_NO_SYMLINKS));
	ERR(open_how(AT_FDCWD, "l/f", O_RDONLY, RESOLVE_NO_SYMLINKS), ELOOP);
	ERR(open_how(AT_FDCWD, "lf", O_RDONLY, RESOLVE_NO_SYMLINKS), ELOOP);
	OK(open_how(AT_FDCWD, "lf", O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS));
	OK(open_how(AT_FDCWD, "l/f", O_RDONLY, RESOLVE_NO_MAGICLINKS));
	ERR(open_how(AT_FDCWD, "/proc/self/exe", O_RDONLY, RESOLVE_NO_MAGICLINKS), ELOOP);
	ERR(open_how(AT_FDCWD, "/proc", O_RDONLY, RESOLVE_NO_XDEV), EXDEV);
}

CHECK(mknod_kinds)
{
	struct stat st;
	OK(mknod("fifo", S_IFIFO | 0644, 0));
	OK(stat("fifo", &st));
	EXPECT(S_ISFIFO(st.st_mode));
	OK(mknod("reg", S_IFREG | 0600, 0));
	OK(stat("reg", &st));
	EQ(st.st_mode, S_IFREG | 0600);
	OK(mknod("zero", 0600, 0));
	OK(stat("zero", &st));
	EXPECT(S_ISREG(st.st_mode));
	OK(mknod("sock", S_IFSOCK | 0600, 0));
	ERR(open("sock", O_RDONLY), ENXIO);
	ERR(mknod("fifo", S_IFIFO | 0644, 0), EEXIST);
	ERR(mknod("x", S_IFDIR | 0755, 0), EPERM);
	ERR(mknod("x", S_IFLNK | 0755, 0), EINVAL);
}

CHECK(mknod_device)
{
	struct stat st;
	char c = 1;
	if (!is_root()) {
		ERR(mknod("null", S_IFCHR | 0666, makedev(1, 3)), EPERM);
		SKIP("needs root");
	}
	OK(mknod("zero", S_IFCHR | 0600, makedev(1, 5)));
	OK(stat("zero", &st));
	EQ(st.st_rdev, makedev(1, 5));
	EQ(read(OK(open("zero", O_RDONLY)), &c, 1), 1);
	EQ(c, 0);
	OK(mknod("odd", S_IFCHR | 0600, makedev(240, 77)));
	ERR(open("odd", O_RDONLY), ENXIO);
}

CHECK(umask_is_masked)
{
	umask(0);
	EQ(umask(07777), 0);
	EQ(umask(022), 0777);
}

CHECK(deep_directories)
{
	char buf[PATH_MAX];
	for (int i = 0; i < 200; i++) {
		OK(mkdir("directory", 0755));
		OK(chdir("directory"));
	}
	EXPECT(getcwd(buf, sizeof buf));
	EXPECT(strlen(buf) >= 2000);
	struct stat st;
	OK(stat("../../../../../../..", &st));
}

CHECK(names_are_bytes)
{
	char name[2] = { 0, 0 };
	for (int c = 1; c < 256; c++)
		if (c != '/' && c != '.') {
			name[0] = c;
			OK(close(OK(open(name, O_WRONLY | O_CREAT | O_EXCL, 0600))));
		}
	DIR *d = opendir(".");
	int n = 0;
	while (readdir(d))
		n++;
	closedir(d);
	EQ(n, 253 + 2);
}
