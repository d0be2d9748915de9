/* /proc as proc(5) describes it: what ps, top, free, glibc and debuggers read. */
#include "check.h"
#include <elf.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>

static char text[1 << 17];

static const char *file(const char *path)
{
	read_file(path, text, sizeof text);
	return text;
}

/* The text after "key" on its line in a "key: value" file. */
static const char *field(const char *path, const char *key)
{
	const char *at = file(path);
	size_t n = strlen(key);
	while (at && *at) {
		if (!strncmp(at, key, n) && (at[n] == ':' || at[n] == ' ' || at[n] == '\t'))
			return at + n + 1 + strspn(at + n + 1, " \t");
		at = strchr(at, '\n');
		at = at ? at + 1 : NULL;
	}
	FAIL("%s has no %s", path, key);
}

static long number(const char *path, const char *key)
{
	return strtol(field(path, key), NULL, 10);
}

struct stat_fields {
	int pid;
	char comm[64];
	char state;
	int ppid, pgrp, session, tty, tpgid;
	unsigned flags;
	unsigned long minflt, cminflt, majflt, cmajflt, utime, stime;
	long cutime, cstime, priority, nice, threads, itreal;
	unsigned long long start;
	unsigned long vsize;
	long rss;
};

static struct stat_fields parse_stat(const char *path)
{
	struct stat_fields s = { 0 };
	const char *at = file(path), *open = strchr(at, '('), *close = strrchr(at, ')');
	EXPECT(open && close && close > open);
	s.pid = atoi(at);
	memcpy(s.comm, open + 1, close - open - 1);
	int n = sscanf(close + 2, "%c %d %d %d %d %d %u %lu %lu %lu %lu %lu %lu %ld %ld %ld %ld %ld %ld %llu %lu %ld",
		       &s.state, &s.ppid, &s.pgrp, &s.session, &s.tty, &s.tpgid, &s.flags, &s.minflt, &s.cminflt,
		       &s.majflt, &s.cmajflt, &s.utime, &s.stime, &s.cutime, &s.cstime, &s.priority, &s.nice,
		       &s.threads, &s.itreal, &s.start, &s.vsize, &s.rss);
	EQ(n, 22);
	return s;
}

CHECK(self_is_this_process)
{
	char target[32] = { 0 }, want[32];
	OK(readlink("/proc/self", target, sizeof target - 1));
	snprintf(want, sizeof want, "%d", getpid());
	STREQ(target, want);
	memset(target, 0, sizeof target);
	OK(readlink("/proc/thread-self", target, sizeof target - 1));
	snprintf(want, sizeof want, "%d/task/%d", getpid(), getpid());
	STREQ(target, want);
}

CHECK(status_ids_and_names)
{
	char want[64];
	OK(prctl(PR_SET_NAME, "na me)("));
	snprintf(want, sizeof want, "na me)(\n");
	EXPECT(!strncmp(field("/proc/self/status", "Name"), want, strlen(want)));
	EQ(number("/proc/self/status", "Pid"), getpid());
	EQ(number("/proc/self/status", "Tgid"), getpid());
	EQ(number("/proc/self/status", "PPid"), getppid());
	EQ(number("/proc/self/status", "TracerPid"), 0);
	EQ(number("/proc/self/status", "Threads"), 1);
	snprintf(want, sizeof want, "%d\t%d\t%d\t%d\n", getuid(), geteuid(), geteuid(), geteuid());
	EXPECT(!strncmp(field("/proc/self/status", "Uid"), want, strlen(want)));
	snprintf(want, sizeof want, "R (running)\n");
	EXPECT(!strncmp(field("/proc/self/status", "State"), want, strlen(want)));
}

CHECK(status_memory_is_plausible)
{
	long rss = number("/proc/self/status", "VmRSS"), size = number("/proc/self/status", "VmSize");
	EXPECT(rss > 0 && size >= rss);
	char *p = OK(mmap(NULL, 32 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	EXPECT(number("/proc/self/status", "VmSize") >= size + (32 << 10));
	memset(p, 1, 32 << 20);
	EXPECT(number("/proc/self/status", "VmRSS") >= rss + (24 << 10));
}

CHECK(status_signals)
{
	block_signal(SIGUSR1);
	OK(raise(SIGUSR1));
	signal(SIGUSR2, SIG_IGN);
	on_signal_flags(SIGHUP, _exit, 0);
	EQ(strtoull(field("/proc/self/status", "SigBlk"), NULL, 16) & (1ull << (SIGUSR1 - 1)), 1ull << (SIGUSR1 - 1));
	EQ(strtoull(field("/proc/self/status", "SigPnd"), NULL, 16) & (1ull << (SIGUSR1 - 1)), 1ull << (SIGUSR1 - 1));
	EQ(strtoull(field("/proc/self/status", "SigIgn"), NULL, 16) & (1ull << (SIGUSR2 - 1)), 1ull << (SIGUSR2 - 1));
	EQ(strtoull(field("/proc/self/status", "SigCgt"), NULL, 16) & 1, 1);
}

CHECK(status_capabilities_and_groups)
{
	unsigned long long eff = strtoull(field("/proc/self/status", "CapEff"), NULL, 16);
	EQ((eff >> CAP_CHOWN) & 1, has_capability(CAP_CHOWN));
	EQ(number("/proc/self/status", "NoNewPrivs"), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	field("/proc/self/status", "Groups");
	field("/proc/self/status", "CapBnd");
	field("/proc/self/status", "Cpus_allowed");
}

CHECK(stat_of_self)
{
	OK(prctl(PR_SET_NAME, "odd ) name"));
	struct stat_fields s = parse_stat("/proc/self/stat");
	EQ(s.pid, getpid());
	STREQ(s.comm, "odd ) name");
	EQ(s.state, 'R');
	EQ(s.ppid, getppid());
	EQ(s.pgrp, getpgrp());
	EQ(s.session, getsid(0));
	EQ(s.threads, 1);
	EXPECT(s.vsize > 4096 && s.rss > 0);
}

CHECK(stat_start_time_is_after_boot)
{
	struct stat_fields s = parse_stat("/proc/self/stat");
	double up = 0;
	EQ(sscanf(file("/proc/uptime"), "%lf", &up), 1);
	EXPECT(s.start / 100.0 <= up + 1);
	CHILD(pid) {
		struct stat_fields c = parse_stat("/proc/self/stat");
		EXPECT(c.start >= s.start);
	}
	REAP(pid);
}

CHECK(stat_cpu_time_grows)
{
	struct stat_fields a = parse_stat("/proc/self/stat"), b;
	do
		b = parse_stat("/proc/self/stat");
	while (b.utime + b.stime < a.utime + a.stime + 3);
	EXPECT(b.utime + b.stime >= a.utime + a.stime + 3);
}

CHECK(states_of_a_child)
{
	struct gate go = gate_new();
	CHILD(pid) {
		gate_wait(go);
		raise(SIGSTOP);
	}
	await_state(pid, 'S');
	gate_open(go);
	await_state(pid, 'T');
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/status", pid);
	EXPECT(strstr(file(path), "State:\tT (stopped)\n"));
	OK(kill(pid, SIGCONT));
	await_state(pid, 'Z');
	EXPECT(strstr(file(path), "State:\tZ (zombie)\n"));
	snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
	EQ(read_file(path, text, sizeof text), 0);
	REAP(pid);
	ERR(open(path, O_RDONLY), ENOENT);
}

CHECK(open_file_of_a_dead_process)
{
	char path[64], buf[64];
	struct gate go = gate_new();
	CHILD(pid) gate_wait(go);
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	int fd = OK(open(path, O_RDONLY));
	snprintf(path, sizeof path, "/proc/%d", pid);
	int dir = OK(open(path, O_RDONLY | O_DIRECTORY));
	gate_open(go);
	REAP(pid);
	ERR(read(fd, buf, sizeof buf), ESRCH);
	EXPECT(openat(dir, "stat", O_RDONLY) == -1);
}

CHECK(maps_lists_mappings)
{
	char *p = OK(mmap(NULL, 3 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)), want[200];
	write_file("mapped file", "x");
	char *q = OK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, OK(open("mapped file", O_RDWR)), 0));
	OK(mprotect(p + 4096, 4096, PROT_READ | PROT_WRITE));
	file("/proc/self/maps");
	snprintf(want, sizeof want, "%lx-%lx rw-p 00000000 00:00 0", (long)p + 4096, (long)p + 8192);
	EXPECT(strstr(text, want));
	snprintf(want, sizeof want, "%lx-%lx rw-s 00000000 ", (long)q, (long)q + 4096);
	const char *line = strstr(text, want);
	EXPECT(line);
	const char *end = strchr(line, '\n');
	EXPECT(end - 12 > line && !strncmp(end - 12, "/mapped file", 12));
	EXPECT(strstr(text, "[stack]\n"));
	OK(unlink("mapped file"));
	file("/proc/self/maps");
	EXPECT(strstr(text, "/mapped file (deleted)\n"));
}

CHECK(maps_is_sorted_and_covers_known_addresses)
{
	static int data = 1;
	char stack;
	bool saw_code = false, saw_data = false, saw_stack = false;
	unsigned long last = 0;
	FILE *f = fopen("/proc/self/maps", "r");
	char line[4600];
	EXPECT(f);
	while (fgets(line, sizeof line, f)) {
		unsigned long from, to, off, inode;
		char perm[5], dev[16];
		EQ(sscanf(line, "%lx-%lx %4s %lx %15s %lu", &from, &to, perm, &off, dev, &inode), 6);
		EXPECT(from >= last && to > from);
		last = to;
		if ((unsigned long)check_run >= from && (unsigned long)check_run < to)
			saw_code = perm[0] == 'r' && perm[2] == 'x' && inode != 0;
		if ((unsigned long)&data >= from && (unsigned long)&data < to)
			saw_data = perm[1] == 'w';
		if ((unsigned long)&stack >= from && (unsigned long)&stack < to)
			saw_stack = perm[1] == 'w' && strstr(line, "[stack]");
	}
	fclose(f);
	EXPECT(saw_code && saw_data && saw_stack);
}

CHECK(smaps_and_statm)
{
	unsigned long size, resident, shared, code;
	EXPECT(strstr(file("/proc/self/smaps"), "\nRss:"));
	EQ(sscanf(file("/proc/self/statm"), "%lu %lu %lu %lu", &size, &resident, &shared, &code), 4);
	EXPECT(size >= resident && resident > 0);
}

CHECK(fd_directory)
{
	char path[64], target[PATH_MAX] = { 0 }, want[PATH_MAX + 8], cwd[PATH_MAX];
	write_file("f", "");
	int fd = OK(open("f", O_RDONLY));
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	OK(readlink(path, target, sizeof target - 1));
	EXPECT(getcwd(cwd, sizeof cwd));
	snprintf(want, sizeof want, "%s/f", cwd);
	STREQ(target, want);
	struct stat st;
	OK(lstat(path, &st));
	EQ(st.st_mode, S_IFLNK | 0500);
	OK(unlink("f"));
	memset(target, 0, sizeof target);
	OK(readlink(path, target, sizeof target - 1));
	strcat(want, " (deleted)");
	STREQ(target, want);
	OK(close(fd));
	ERR(readlink(path, target, sizeof target), ENOENT);
}

CHECK(fd_directory_lists_open_descriptors)
{
	bool seen[200] = { false };
	OK(dup2(0, 150));
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	while ((e = readdir(d)))
		if (atoi(e->d_name) < 200)
			seen[atoi(e->d_name)] = true;
	EXPECT(seen[150]);
	EXPECT(!seen[151]);
	EXPECT(seen[dirfd(d)]);
	closedir(d);
}

CHECK(fdinfo_shows_position_and_flags)
{
	char path[64];
	write_file("f", "0123456789");
	int fd = OK(open("f", O_RDWR | O_APPEND | O_CLOEXEC));
	OK(lseek(fd, 7, SEEK_SET));
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	EQ(number(path, "pos"), 7);
	EQ(strtol(field(path, "flags"), NULL, 8) & (O_ACCMODE | O_APPEND | O_CLOEXEC), O_RDWR | O_APPEND | O_CLOEXEC);
}

CHECK(exe_cwd_and_root_links)
{
	char target[PATH_MAX] = { 0 }, cwd[PATH_MAX];
	struct stat a, b;
	OK(readlink("/proc/self/cwd", target, sizeof target - 1));
	EXPECT(getcwd(cwd, sizeof cwd));
	STREQ(target, cwd);
	OK(stat("/proc/self/cwd", &a));
	OK(stat(".", &b));
	EQ(a.st_ino, b.st_ino);
	memset(target, 0, sizeof target);
	OK(readlink("/proc/self/root", target, sizeof target - 1));
	STREQ(target, "/");
	memset(target, 0, sizeof target);
	OK(readlink("/proc/self/exe", target, sizeof target - 1));
	OK(stat(target, &b));
	OK(stat("/proc/self/exe", &a));
	EQ(a.st_ino, b.st_ino);
}

CHECK(cmdline_and_environ)
{
	CHILD(pid) {
		char *argv[] = { "sh", "-c", "tr '\\0' '|' < /proc/$$/cmdline > cmdline; tr '\\0' '|' < /proc/$$/environ > environ", NULL };
		char *env[] = { "A=1", "PATH=/usr/bin:/bin", NULL };
		execve("/bin/sh", argv, env);
		_exit(99);
	}
	REAP(pid);
	EXPECT(!strncmp(file("cmdline"), "sh|-c|tr ", 9));
	STREQ(file("environ"), "A=1|PATH=/usr/bin:/bin|");
}

CHECK(comm_can_be_written)
{
	char name[17];
	int fd = OK(open("/proc/self/comm", O_WRONLY));
	EQ(write(fd, "renamed", 7), 7);
	OK(prctl(PR_GET_NAME, name));
	STREQ(name, "renamed");
	STREQ(file("/proc/self/comm"), "renamed\n");
}

static void *stay(void *arg)
{
	gate_wait(*(struct gate *)arg);
	return NULL;
}

CHECK(task_directory)
{
	struct gate go = gate_new();
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		EQ(pthread_create(&threads[i], NULL, stay, &go), 0);
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	int n = 0;
	bool self = false;
	while ((e = readdir(d)))
		if (e->d_name[0] != '.') {
			n++;
			self |= atoi(e->d_name) == getpid();
		}
	closedir(d);
	EQ(n, 5);
	EXPECT(self);
	EQ(number("/proc/self/status", "Threads"), 5);
	EQ(parse_stat("/proc/self/stat").threads, 5);
	for (int i = 0; i < 4; i++)
		gate_open(go);
	for (int i = 0; i < 4; i++)
		EQ(pthread_join(threads[i], NULL), 0);
}

CHECK(a_thread_is_found_but_not_listed)
{
	char path[64];
	struct gate go = gate_new();
	pthread_t thread;
	EQ(pthread_create(&thread, NULL, stay, &go), 0);
	pid_t tid = 0;
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	while ((e = readdir(d)))
		if (e->d_name[0] != '.' && atoi(e->d_name) != getpid())
			tid = atoi(e->d_name);
	closedir(d);
	EXPECT(tid);
	snprintf(path, sizeof path, "/proc/%d/status", tid);
	EQ(number(path, "Tgid"), getpid());
	d = opendir("/proc");
	while ((e = readdir(d)))
		NE(atoi(e->d_name), tid);
	closedir(d);
	gate_open(go);
	EQ(pthread_join(thread, NULL), 0);
}

CHECK(mounts_lists_root_and_proc)
{
	bool root = false, proc = false;
	FILE *f = fopen("/proc/self/mounts", "r");
	char line[4096], dev[1000], dir[1000], type[100];
	EXPECT(f);
	while (fgets(line, sizeof line, f)) {
		EXPECT(sscanf(line, "%999s %999s %99s", dev, dir, type) == 3);
		root |= !strcmp(dir, "/");
		proc |= !strcmp(dir, "/proc") && !strcmp(type, "proc");
	}
	fclose(f);
	EXPECT(root && proc);
	EXPECT(strstr(file("/proc/self/mountinfo"), " / / "));
	EXPECT(strstr(file("/proc/filesystems"), "proc\n"));
}

CHECK(limits_file)
{
	struct rlimit lim = { 100, 200 };
	OK(setrlimit(RLIMIT_NOFILE, &lim));
	const char *line = strstr(file("/proc/self/limits"), "Max open files");
	unsigned long soft, hard;
	EXPECT(line);
	EQ(sscanf(line + 14, "%lu %lu", &soft, &hard), 2);
	EQ(soft, 100);
	EQ(hard, 200);
	EXPECT(!strncmp(text, "Limit ", 6));
}

CHECK(auxv_matches)
{
	Elf64_auxv_t v[64];
	int n = read_file("/proc/self/auxv", (char *)v, sizeof v) / sizeof v[0];
	bool ended = false;
	for (int i = 0; i < n; i++) {
		if (v[i].a_type == AT_NULL)
			ended = true;
		if (v[i].a_type == AT_PAGESZ)
			EQ(v[i].a_un.a_val, 4096);
		if (v[i].a_type == AT_RANDOM)
			EQ(v[i].a_un.a_val, getauxval(AT_RANDOM));
	}
	EXPECT(ended);
}

CHECK(mem_of_self)
{
	static char secret[] = "in memory";
	char buf[10];
	int fd = OK(open("/proc/self/mem", O_RDWR));
	EQ(pread(fd, buf, 10, (off_t)(uintptr_t)secret), 10);
	STREQ(buf, "in memory");
	EQ(pwrite(fd, "IN", 2, (off_t)(uintptr_t)secret), 2);
	STREQ(secret, "IN memory");
	ERR(pread(fd, buf, 1, 8), EIO);
}

CHECK(meminfo)
{
	long total = number("/proc/meminfo", "MemTotal");
	EXPECT(total > 1024);
	EXPECT(number("/proc/meminfo", "MemFree") <= total);
	EXPECT(number("/proc/meminfo", "MemAvailable") <= total);
	field("/proc/meminfo", "Buffers");
	field("/proc/meminfo", "Cached");
	field("/proc/meminfo", "SwapTotal");
	struct sysinfo si;
	OK(sysinfo(&si));
	EQ(si.totalram * si.mem_unit / 1024, total);
}

CHECK(stat_of_the_machine)
{
	unsigned long user, nice_, sys, idle;
	EQ(sscanf(file("/proc/stat"), "cpu %lu %lu %lu %lu", &user, &nice_, &sys, &idle), 4);
	EXPECT(strstr(text, "\ncpu0 "));
	EXPECT(strstr(text, "\nbtime "));
	EXPECT(strstr(text, "\nprocesses "));
	EXPECT(strstr(text, "\nctxt "));
	int cpus = 0;
	for (const char *at = text; (at = strstr(at, "\ncpu")); at++)
		cpus++;
	EQ(cpus, sysconf(_SC_NPROCESSORS_ONLN));
}

CHECK(uptime_and_loadavg)
{
	double up, idle, a, b, c;
	int running, total, last;
	EQ(sscanf(file("/proc/uptime"), "%lf %lf", &up, &idle), 2);
	EXPECT(up >= 0);
	EQ(sscanf(file("/proc/loadavg"), "%lf %lf %lf %d/%d %d", &a, &b, &c, &running, &total, &last), 6);
	EXPECT(total >= 1 && last >= 1);
}

CHECK(cpuinfo)
{
	int n = 0;
	file("/proc/cpuinfo");
	for (const char *at = text; (at = strstr(at, "processor\t:")); at++)
		n++;
	EXPECT(n >= 1);
	EXPECT(strstr(text, "flags\t"));
	EXPECT(strstr(text, "model name\t"));
}

CHECK(version_and_sys_kernel)
{
	EXPECT(!strncmp(file("/proc/version"), "Linux version ", 14));
	STREQ(file("/proc/sys/kernel/ostype"), "Linux\n");
	EXPECT(atoi(file("/proc/sys/kernel/osrelease")) >= 5);
	EXPECT(atol(file("/proc/sys/kernel/pid_max")) > 1000);
	EXPECT(strlen(file("/proc/sys/kernel/hostname")) > 1);
	EXPECT(strlen(file("/proc/sys/kernel/random/boot_id")) == 37);
	char first[64];
	strcpy(first, file("/proc/sys/kernel/random/uuid"));
	EXPECT(strcmp(first, file("/proc/sys/kernel/random/uuid")));
}

CHECK(only_numbers_of_real_processes)
{
	struct gate go = gate_new();
	CHILD(pid) gate_wait(go);
	bool self = false, child = false;
	DIR *d = opendir("/proc");
	struct dirent *e;
	while ((e = readdir(d)))
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9') {
			self |= atoi(e->d_name) == getpid();
			child |= atoi(e->d_name) == pid;
		}
	closedir(d);
	EXPECT(self && child);
	gate_open(go);
	REAP(pid);
}

CHECK(writes_are_refused)
{
	ERR(open("/proc/new", O_WRONLY | O_CREAT, 0600), ENOENT);
	ERR(mkdir("/proc/new", 0755), ENOENT);
	EXPECT(unlink("/proc/self/stat") == -1);
	EXPECT(open("/proc/self/none", O_RDONLY) == -1);
	EQ(errno, ENOENT);
	if (!is_root()) {
		ERR(open("/proc/uptime", O_WRONLY), EACCES);
		ERR(open("/proc/self/stat", O_WRONLY), EACCES);
	}
}

CHECK(files_have_size_zero_but_content)
{
	struct stat st;
	struct statfs fs;
	OK(stat("/proc/self/status", &st));
	EQ(st.st_size, 0);
	EXPECT(S_ISREG(st.st_mode));
	OK(stat("/proc", &st));
	EXPECT(S_ISDIR(st.st_mode));
	EQ(st.st_ino, 1);
	OK(statfs("/proc/self", &fs));
	EQ(fs.f_type, 0x9fa0);
}

CHECK(owners_of_process_directories)
{
	struct stat st;
	char path[64];
	OK(stat("/proc/self/", &st));
	EQ(st.st_uid, geteuid());
	EQ(st.st_mode, S_IFDIR | 0555);
	need_root();
	struct gate go = gate_new(), ready = gate_new();
	CHILD(pid) {
		OK(setresuid(1001, 1001, 1001));
		OK(prctl(PR_SET_DUMPABLE, 1));
		gate_open(ready);
		gate_wait(go);
	}
	gate_wait(ready);
	snprintf(path, sizeof path, "/proc/%d", pid);
	OK(stat(path, &st));
	EQ(st.st_uid, 1001);
	gate_open(go);
	REAP(pid);
}
