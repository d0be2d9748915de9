/* Credentials and permissions: credentials(7), capabilities(7), setresuid(2), access(2), chmod(2), chown(2). */
#include "check.h"
#include <grp.h>
#include <sys/fsuid.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>

enum { ALICE = 1001, BOB = 1002, STAFF = 2001 };

static void become(uid_t uid, gid_t gid)
{
	OK(setgroups(0, NULL));
	OK(setresgid(gid, gid, gid));
	OK(setresuid(uid, uid, uid));
}

#define AS(uid, gid, statements) \
	do { \
		CHILD(as_pid) { \
			become(uid, gid); \
			statements; \
		} \
		REAP(as_pid); \
	} while (0)

static mode_t mode_of(const char *path)
{
	struct stat st;
	OK(lstat(path, &st));
	return st.st_mode & 07777;
}

static struct stat stat_of(const char *path)
{
	struct stat st;
	OK(lstat(path, &st));
	return st;
}

static void make(const char *path, uid_t uid, gid_t gid, mode_t mode)
{
	OK(close(OK(open(path, O_WRONLY | O_CREAT, 0600))));
	OK(chown(path, uid, gid));
	OK(chmod(path, mode));
}

static void get_caps(struct __user_cap_data_struct *data)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	OK(syscall(SYS_capget, &h, data));
}

static long set_caps(uint32_t effective, uint32_t permitted)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];
	get_caps(data);
	data[0].effective = effective;
	data[0].permitted = permitted;
	data[0].inheritable = 0;
	data[1].effective = data[1].permitted = data[1].inheritable = 0;
	return syscall(SYS_capset, &h, data);
}

CHECK(ids_read_back)
{
	uid_t r, e, s;
	OK(getresuid(&r, &e, &s));
	EQ(r, getuid());
	EQ(e, geteuid());
	gid_t gr, ge, gs;
	OK(getresgid(&gr, &ge, &gs));
	EQ(gr, getgid());
	ERR(syscall(SYS_getresuid, BAD_PTR, &e, &s), EFAULT);
	ERR(getgroups(-1, NULL), EINVAL);
	EXPECT(getgroups(0, NULL) >= 0);
}

CHECK(unprivileged_cannot_change_ids)
{
	if (is_root())
		become(ALICE, ALICE);
	ERR(setuid(0), EPERM);
	ERR(setgid(0), EPERM);
	ERR(setresuid(0, -1, -1), EPERM);
	ERR(setreuid(-1, 0), EPERM);
	ERR(setgroups(0, NULL), EPERM);
	OK(setuid(getuid()));
	OK(setresuid(-1, -1, -1));
}

CHECK(setuid_as_root_sets_all)
{
	uid_t r, e, s;
	need_root();
	OK(setuid(ALICE));
	OK(getresuid(&r, &e, &s));
	EQ(r, ALICE);
	EQ(e, ALICE);
	EQ(s, ALICE);
	ERR(setuid(0), EPERM);
}

CHECK(seteuid_and_back)
{
	uid_t r, e, s;
	need_root();
	OK(seteuid(ALICE));
	OK(getresuid(&r, &e, &s));
	EQ(r, 0);
	EQ(e, ALICE);
	EQ(s, 0);
	/* Without privilege setuid() changes the effective id only. */
	OK(setuid(0));
	EQ(geteuid(), 0);
}

CHECK(setresuid_unprivileged_permutations)
{
	uid_t r, e, s;
	need_root();
	OK(setresuid(10, 20, 30));
	OK(setresuid(20, 30, 10));
	OK(getresuid(&r, &e, &s));
	EQ(r, 20);
	EQ(e, 30);
	EQ(s, 10);
	ERR(setresuid(40, -1, -1), EPERM);
	OK(setresuid(-1, -1, 20));
	OK(setresuid(20, 20, 20));
	ERR(setresuid(-1, 10, -1), EPERM);
}

CHECK(setreuid_moves_the_saved_id)
{
	uid_t r, e, s;
	need_root();
	OK(setreuid(-1, ALICE));
	OK(getresuid(&r, &e, &s));
	EQ(r, 0);
	EQ(e, ALICE);
	/* The effective id differs from the old real id, so the saved one follows. */
	EQ(s, ALICE);
	OK(setreuid(ALICE, -1));
	OK(getresuid(&r, &e, &s));
	EQ(r, ALICE);
	EQ(s, ALICE);
}

CHECK(setregid_and_setresgid)
{
	gid_t r, e, s;
	need_root();
	OK(setresgid(10, 20, 30));
	OK(getresgid(&r, &e, &s));
	EQ(r, 10);
	EQ(e, 20);
	EQ(s, 30);
	OK(setgid(50));
	EQ(getgid(), 50);
	OK(setresuid(ALICE, ALICE, ALICE));
	ERR(setgid(60), EPERM);
	OK(setgid(50));
}

CHECK(supplementary_groups)
{
	gid_t list[3] = { 11, 22, 33 }, got[10];
	need_root();
	OK(setgroups(3, list));
	EQ(getgroups(10, got), 3);
	EQ(got[0] + got[1] + got[2], 66);
	EQ(getgroups(0, NULL), 3);
	ERR(getgroups(2, got), EINVAL);
	ERR(setgroups(70000, list), EINVAL);
	CHILD(pid) EQ(getgroups(0, NULL), 3);
	REAP(pid);
	OK(setgroups(0, NULL));
	EQ(getgroups(10, got), 0);
}

CHECK(setfsuid_returns_the_old_id)
{
	need_root();
	OK(chmod(".", 0777));
	EQ(setfsuid(ALICE), 0);
	EQ(setfsuid(-1), ALICE);
	/* Only file accesses go by it. */
	OK(close(OK(open("f", O_WRONLY | O_CREAT, 0600))));
	EQ(stat_of("f").st_uid, ALICE);
	EQ(geteuid(), 0);
	EQ(setfsuid(0), ALICE);
}

CHECK(file_permission_classes)
{
	need_root();
	make("f", ALICE, STAFF, 0640);
	AS(ALICE, ALICE, OK(open("f", O_RDWR)));
	AS(BOB, STAFF, OK(open("f", O_RDONLY)); ERR(open("f", O_WRONLY), EACCES));
	AS(BOB, BOB, ERR(open("f", O_RDONLY), EACCES));
	/* The first class that fits decides, even when another would allow more. */
	OK(chmod("f", 0077));
	AS(ALICE, STAFF, ERR(open("f", O_RDONLY), EACCES));
	OK(chmod("f", 0706));
	AS(BOB, STAFF, ERR(open("f", O_RDONLY), EACCES));
}

CHECK(supplementary_group_grants)
{
	need_root();
	make("f", 0, STAFF, 0640);
	CHILD(pid) {
		gid_t list[1] = { STAFF };
		OK(setgroups(1, list));
		OK(setresgid(BOB, BOB, BOB));
		OK(setresuid(BOB, BOB, BOB));
		OK(open("f", O_RDONLY));
		ERR(open("f", O_WRONLY), EACCES);
	}
	REAP(pid);
}

CHECK(root_overrides)
{
	need_root();
	make("f", ALICE, ALICE, 0);
	OK(open("f", O_RDWR));
	ERR(access("f", X_OK), EACCES);
	OK(chmod("f", 0001));
	OK(access("f", X_OK));
}

CHECK(directory_search_and_write)
{
	need_root();
	OK(mkdir("d", 0755));
	make("d/f", 0, 0, 0644);
	OK(chmod("d", 0744));
	AS(ALICE, ALICE, ERR(open("d/f", O_RDONLY), EACCES); OK(open("d", O_RDONLY)); ERR(chdir("d"), EACCES));
	OK(chmod("d", 0711));
	AS(ALICE, ALICE, OK(open("d/f", O_RDONLY)); ERR(open("d", O_RDONLY), EACCES);
	   ERR(open("d/new", O_WRONLY | O_CREAT, 0600), EACCES); ERR(unlink("d/f"), EACCES);
	   ERR(mkdir("d/x", 0755), EACCES); ERR(rename("d/f", "d/g"), EACCES); ERR(symlink("x", "d/l"), EACCES));
}

CHECK(unprivileged_checks_bind_the_owner)
{
	if (is_root()) {
		OK(chmod(".", 0777));
		become(ALICE, ALICE);
	}
	write_file("f", "abc");
	OK(chmod("f", 0));
	ERR(open("f", O_RDONLY), EACCES);
	ERR(access("f", R_OK), EACCES);
	OK(access("f", F_OK));
	OK(chmod("f", 0200));
	OK(open("f", O_WRONLY));
	ERR(open("f", O_RDWR), EACCES);
	OK(mkdir("d", 0755));
	OK(chmod("d", 0500));
	ERR(open("d/x", O_WRONLY | O_CREAT, 0600), EACCES);
	OK(chmod("d", 0700));
}

CHECK(open_descriptor_keeps_its_rights)
{
	char c;
	need_root();
	make("f", 0, 0, 0600);
	int fd = OK(open("f", O_RDWR));
	EQ(write(fd, "x", 1), 1);
	AS(ALICE, ALICE, EQ(pread(fd, &c, 1, 0), 1); EQ(pwrite(fd, "y", 1, 0), 1); ERR(fchmod(fd, 0777), EPERM));
}

CHECK(chmod_needs_ownership)
{
	need_root();
	make("f", ALICE, ALICE, 0666);
	AS(BOB, BOB, ERR(chmod("f", 0777), EPERM));
	AS(ALICE, ALICE, OK(chmod("f", 0600)));
	EQ(mode_of("f"), 0600);
}

CHECK(chmod_drops_foreign_setgid)
{
	need_root();
	make("f", ALICE, STAFF, 0755);
	/* Not a member of the group: the setgid bit is silently not set. */
	AS(ALICE, ALICE, OK(chmod("f", 02755)));
	EQ(mode_of("f"), 0755);
	AS(ALICE, STAFF, OK(chmod("f", 02755)));
	EQ(mode_of("f"), 02755);
}

CHECK(chown_rules)
{
	need_root();
	make("f", ALICE, ALICE, 0644);
	AS(ALICE, ALICE, ERR(chown("f", BOB, -1), EPERM); ERR(chown("f", -1, STAFF), EPERM); OK(chown("f", -1, ALICE)));
	AS(BOB, BOB, ERR(chown("f", BOB, BOB), EPERM));
	CHILD(pid) {
		gid_t list[1] = { STAFF };
		OK(setgroups(1, list));
		OK(setresgid(ALICE, ALICE, ALICE));
		OK(setresuid(ALICE, ALICE, ALICE));
		OK(chown("f", ALICE, STAFF));
	}
	REAP(pid);
	EQ(stat_of("f").st_gid, STAFF);
	OK(chown("f", -1, -1));
	OK(fchown(OK(open("f", O_RDONLY)), BOB, -1));
	EQ(stat_of("f").st_uid, BOB);
	EQ(stat_of("f").st_gid, STAFF);
}

CHECK(chown_clears_setuid)
{
	need_root();
	make("f", ALICE, ALICE, 06755);
	OK(chown("f", BOB, BOB));
	EQ(mode_of("f"), 0755);
	/* Without group execution setgid once meant mandatory locking: it stays. */
	OK(chmod("f", 06745));
	OK(chown("f", ALICE, ALICE));
	EQ(mode_of("f") & 04000, 0);
	OK(mkdir("d", 0755));
	OK(chmod("d", 06755));
	OK(chown("d", BOB, BOB));
	EQ(mode_of("d"), 06755);
}

/* Gives a file capabilities (CAP_NET_RAW); false when a file has had none since the last time. */
static bool renew_file_caps(const char *path)
{
	static const unsigned char caps[20] = { 1, 0, 0, 2, 0, 0x20 };
	bool had = removexattr(path, "security.capability") == 0;
	if (!had)
		EQ(errno, ENODATA);
	OK(setxattr(path, "security.capability", caps, sizeof caps, 0));
	return had;
}

CHECK(changes_clear_file_capabilities)
{
	char byte = 'x';
	need_root();
	if (!has_capability(CAP_SETFCAP))
		SKIP("needs CAP_SETFCAP");
	make("f", 0, 0, 0755);
	int fd = OK(open("f", O_RDWR));
	EXPECT(!renew_file_caps("f"));
	OK(chmod("f", 0700));
	EXPECT(renew_file_caps("f"));
	EQ(write(fd, &byte, 1), 1);
	EXPECT(!renew_file_caps("f"));
	EQ(pwrite(fd, &byte, 1, 0), 1);
	EXPECT(!renew_file_caps("f"));
	OK(ftruncate(fd, 0));
	EXPECT(!renew_file_caps("f"));
	OK(truncate("f", 0));
	EXPECT(!renew_file_caps("f"));
	OK(close(OK(open("f", O_WRONLY | O_TRUNC))));
	EXPECT(!renew_file_caps("f"));
	OK(fallocate(fd, 0, 0, 100));
	EXPECT(!renew_file_caps("f"));
	OK(chown("f", ALICE, ALICE));
	EXPECT(!renew_file_caps("f"));
	OK(lchown("f", -1, -1));
	EXPECT(!renew_file_caps("f"));
}

CHECK(write_clears_setuid)
{
	need_root();
	make("f", ALICE, ALICE, 06777);
	AS(BOB, BOB, {
		int fd = OK(open("f", O_WRONLY));
		EQ(write(fd, "x", 1), 1);
	});
	EQ(mode_of("f"), 0777);
	OK(chmod("f", 06777));
	AS(BOB, BOB, OK(truncate("f", 0)));
	EQ(mode_of("f"), 0777);
	write_file("from", "abc");
	OK(chmod("from", 0644));
	OK(chmod("f", 06777));
	AS(BOB, BOB, {
		int fd = OK(open("f", O_WRONLY));
		int from = OK(open("from", O_RDONLY));
		EQ(sendfile(fd, from, NULL, 3), 3);
		EQ(sendfile(fd, from, NULL, 3), 0);
	});
	EQ(mode_of("f"), 0777);
	OK(chmod("f", 04777));
	AS(BOB, BOB, EQ(copy_file_range(OK(open("from", O_RDONLY)), NULL, OK(open("f", O_WRONLY)), NULL, 3, 0), 3));
	EQ(mode_of("f"), 0777);
	OK(chmod("f", 04777));
	/* Root has CAP_FSETID. */
	int fd = OK(open("f", O_WRONLY));
	EQ(write(fd, "x", 1), 1);
	EQ(mode_of("f"), 04777);
}

CHECK(new_files_get_the_callers_ids)
{
	need_root();
	OK(chmod(".", 0777));
	AS(ALICE, STAFF, write_file("f", ""); OK(mkdir("d", 0755)); OK(symlink("x", "l")));
	EQ(stat_of("f").st_uid, ALICE);
	EQ(stat_of("f").st_gid, STAFF);
	EQ(stat_of("d").st_gid, STAFF);
	EQ(stat_of("l").st_uid, ALICE);
}

CHECK(setgid_directory_gives_its_group)
{
	need_root();
	OK(mkdir("d", 0755));
	OK(chown("d", 0, STAFF));
	OK(chmod("d", 02777));
	AS(ALICE, ALICE, write_file("d/f", ""); OK(mkdir("d/sub", 0755)));
	EQ(stat_of("d/f").st_gid, STAFF);
	EQ(stat_of("d/sub").st_gid, STAFF);
	EQ(mode_of("d/sub"), 02755);
	/* A setgid file of a group one is not in: the bit is dropped. */
	AS(ALICE, ALICE, OK(close(OK(open("d/g", O_WRONLY | O_CREAT, 02755)))));
	EQ(mode_of("d/g"), 0755);
}

CHECK(sticky_directory)
{
	need_root();
	OK(mkdir("d", 0755));
	OK(chmod("d", 01777));
	make("d/alice", ALICE, ALICE, 0666);
	make("d/bob", BOB, BOB, 0666);
	AS(BOB, BOB, ERR(unlink("d/alice"), EPERM); ERR(rename("d/alice", "d/mine"), EPERM);
	   ERR(rename("d/bob", "d/alice"), EPERM); OK(unlink("d/bob")));
	AS(ALICE, ALICE, OK(unlink("d/alice")));
	make("d/bob", BOB, BOB, 0666);
	OK(chown("d", ALICE, ALICE));
	/* The owner of the directory may. */
	AS(ALICE, ALICE, OK(unlink("d/bob")));
}

static bool setting(const char *path)
{
	char text[8];
	read_file(path, text, sizeof text);
	return atoi(text) > 0;
}

CHECK(links_are_protected_as_the_settings_say)
{
	need_root();
	bool hard = setting("/proc/sys/fs/protected_hardlinks"), sym = setting("/proc/sys/fs/protected_symlinks");
	OK(mkdir("shared", 0700));
	OK(chmod("shared", 01777));
	make("shared/f", ALICE, ALICE, 0644);
	OK(symlink("f", "shared/link"));
	OK(lchown("shared/link", ALICE, ALICE));
	AS(BOB, BOB, EQ(link("shared/f", "shared/g") == -1, hard));
	AS(BOB, BOB, EQ(open("shared/link", O_RDONLY) == -1, sym));
}

CHECK(access_uses_real_ids)
{
	need_root();
	make("f", ALICE, ALICE, 0600);
	CHILD(pid) {
		OK(setresuid(BOB, ALICE, ALICE));
		ERR(access("f", R_OK), EACCES);
		OK(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS));
		OK(open("f", O_RDONLY));
	}
	REAP(pid);
	CHILD(other) {
		OK(setresuid(ALICE, 0, 0));
		OK(access("f", R_OK));
		make("g", 0, 0, 0600);
		ERR(access("g", R_OK), EACCES);
	}
	REAP(other);
}

CHECK(capability_sets_of_this_process)
{
	struct __user_cap_data_struct d[2];
	get_caps(d);
	if (is_root()) {
		EXPECT(d[0].effective & (1u << CAP_CHOWN));
		EXPECT(d[0].permitted & (1u << CAP_SETUID));
		EQ(d[0].inheritable, 0);
	} else {
		EQ(d[0].effective, 0);
		EQ(d[0].permitted, 0);
	}
}

CHECK(capget_versions)
{
	struct __user_cap_header_struct h = { 0x1234, 0 };
	struct __user_cap_data_struct d[2];
	ERR(syscall(SYS_capget, &h, d), EINVAL);
	EQ(h.version, _LINUX_CAPABILITY_VERSION_3);
	h.version = 0x1234;
	/* Only a probe for the version. */
	OK(syscall(SYS_capget, &h, NULL));
	h = (struct __user_cap_header_struct){ _LINUX_CAPABILITY_VERSION_3, -1 };
	ERR(syscall(SYS_capget, &h, d), EINVAL);
	h.pid = 0x3fffffff;
	ERR(syscall(SYS_capget, &h, d), ESRCH);
	ERR(syscall(SYS_capget, BAD_PTR, d), EFAULT);
}

CHECK(capset_drops_and_cannot_raise)
{
	struct __user_cap_data_struct d[2];
	if (!is_root()) {
		ERR(set_caps(1, 1), EPERM);
		SKIP("needs root");
	}
	OK(set_caps(1u << CAP_CHOWN, 1u << CAP_CHOWN | 1u << CAP_SETUID));
	get_caps(d);
	EQ(d[0].effective, 1u << CAP_CHOWN);
	make("f", 0, 0, 0600);
	OK(chown("f", ALICE, -1));
	/* Uid 0 without CAP_DAC_OVERRIDE is nobody special. */
	ERR(open("f", O_RDONLY), EACCES);
	ERR(set_caps(1u << CAP_SETGID, 1u << CAP_SETGID), EPERM);
	OK(set_caps(1u << CAP_SETUID, 1u << CAP_CHOWN | 1u << CAP_SETUID));
	ERR(chown("f", BOB, -1), EPERM);
	OK(set_caps(0, 0));
	ERR(setuid(ALICE), EPERM);
}

CHECK(setuid_drops_capabilities)
{
	struct __user_cap_data_struct d[2];
	need_root();
	OK(seteuid(ALICE));
	get_caps(d);
	EQ(d[0].effective, 0);
	NE(d[0].permitted, 0);
	OK(seteuid(0));
	get_caps(d);
	NE(d[0].effective, 0);
	OK(setresuid(ALICE, ALICE, ALICE));
	get_caps(d);
	EQ(d[0].effective, 0);
	EQ(d[0].permitted, 0);
}

CHECK(keepcaps_keeps_permitted)
{
	struct __user_cap_data_struct d[2];
	need_root();
	make("f", ALICE, ALICE, 0);
	OK(prctl(PR_SET_KEEPCAPS, 1));
	OK(setresuid(ALICE, ALICE, ALICE));
	get_caps(d);
	EQ(d[0].effective, 0);
	NE(d[0].permitted, 0);
	OK(set_caps(1u << CAP_DAC_OVERRIDE, 1u << CAP_DAC_OVERRIDE));
	OK(open("f", O_RDWR));
}

CHECK(bounding_set)
{
	ERR(prctl(PR_CAPBSET_READ, 99), EINVAL);
	if (!is_root()) {
		ERR(prctl(PR_CAPBSET_DROP, CAP_CHOWN), EPERM);
		SKIP("needs root");
	}
	EQ(prctl(PR_CAPBSET_READ, CAP_SYS_BOOT), 1);
	OK(prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT));
	EQ(prctl(PR_CAPBSET_READ, CAP_SYS_BOOT), 0);
	ERR(prctl(PR_CAPBSET_DROP, 99), EINVAL);
	CHILD(pid) EQ(prctl(PR_CAPBSET_READ, CAP_SYS_BOOT), 0);
	REAP(pid);
}

CHECK(ambient_and_securebits)
{
	EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0), 0);
	OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
	ERR(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0), EPERM);
	EQ(prctl(PR_GET_SECUREBITS), 0);
	if (is_root()) {
		OK(prctl(PR_SET_SECUREBITS, 1 << 2));
		EQ(prctl(PR_GET_SECUREBITS), 1 << 2);
		/* No fix-up: capabilities now survive the change of user. */
		struct __user_cap_data_struct d[2];
		OK(setresuid(ALICE, ALICE, ALICE));
		get_caps(d);
		NE(d[0].effective, 0);
	} else {
		ERR(prctl(PR_SET_SECUREBITS, 1), EPERM);
	}
}

CHECK(symlinks_have_no_permissions)
{
	need_root();
	write_file("f", "");
	OK(symlink("f", "l"));
	EQ(mode_of("l"), 0777);
	OK(lchown("l", ALICE, ALICE));
	EQ(stat_of("l").st_uid, ALICE);
	EQ(stat_of("f").st_uid, 0);
}

CHECK(setpriority_needs_privilege)
{
	if (has_capability(CAP_SYS_NICE)) {
		OK(setpriority(PRIO_PROCESS, 0, -5));
		EQ(getpriority(PRIO_PROCESS, 0), -5);
	}
	if (is_root())
		become(ALICE, ALICE);
	int nice_now = getpriority(PRIO_PROCESS, 0);
	ERR(setpriority(PRIO_PROCESS, 0, nice_now - 1), EACCES);
	errno = 0;
	EQ(nice(-1), -1);
	EXPECT(errno == EPERM || errno == EACCES);
}

CHECK(privileged_calls_are_refused)
{
	if (is_root())
		become(ALICE, ALICE);
	ERR(syscall(SYS_sethostname, "x", 1), EPERM);
	ERR(syscall(SYS_reboot, 0, 0, 0, 0), EPERM);
	ERR(syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, 0), EPERM);
	ERR(syscall(SYS_umount2, "/proc", 0), EPERM);
	ERR(syscall(SYS_swapoff, "/none"), EPERM);
	ERR(syscall(SYS_chroot, "/"), EPERM);
	struct rlimit lim;
	OK(getrlimit(RLIMIT_NOFILE, &lim));
	lim.rlim_max++;
	ERR(setrlimit(RLIMIT_NOFILE, &lim), EPERM);
}

CHECK(prctl_dumpable_after_setuid)
{
	need_root();
	EQ(prctl(PR_GET_DUMPABLE), 1);
	OK(setresuid(ALICE, ALICE, ALICE));
	NE(prctl(PR_GET_DUMPABLE), 1);
}
