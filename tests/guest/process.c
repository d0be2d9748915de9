/* Processes: fork(2), vfork(2), clone(2), wait(2), sessions and groups, limits, prctl(2). */
#include "check.h"
#include <linux/sched.h>
#include <spawn.h>
#include <sys/times.h>

static volatile int shared_word;

static long raw_clone3(struct clone_args *args)
{
	return syscall(SYS_clone3, args, sizeof *args);
}

static void on_nothing(int sig)
{
	(void)sig;
}

static volatile sig_atomic_t seen_hup, seen_cont;

static void on_hup(int sig)
{
	(void)sig;
	seen_hup = 1;
}

static void on_cont(int sig)
{
	(void)sig;
	seen_cont = 1;
}

CHECK(fork_return_values)
{
	pid_t self = getpid();
	struct gate up = gate_new();
	CHILD(pid) {
		pid_t mine[2] = { getpid(), getppid() };
		EQ(write(up.fd[1], mine, sizeof mine), sizeof mine);
	}
	pid_t got[2];
	EQ(read(up.fd[0], got, sizeof got), sizeof got);
	EQ(got[0], pid);
	EQ(got[1], self);
	NE(pid, self);
	REAP(pid);
}

CHECK(fork_copies_memory)
{
	shared_word = 1;
	char *page = OK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	strcpy(page, "parent");
	struct gate done = gate_new();
	CHILD(pid) {
		STREQ(page, "parent");
		strcpy(page, "child");
		shared_word = 2;
		gate_open(done);
	}
	gate_wait(done);
	STREQ(page, "parent");
	EQ(shared_word, 1);
	REAP(pid);
}

CHECK(vfork_shares_memory)
{
	shared_word = 1;
	pid_t pid = vfork();
	if (pid == 0) {
		shared_word = 2;
		_exit(7);
	}
	/* The parent only runs on when the child is gone, so it must see the store. */
	EQ(shared_word, 2);
	EQ(wait_exit(pid), 7);
}

CHECK(vfork_child_has_own_descriptors)
{
	int fd = OK(open(".", O_RDONLY));
	pid_t pid = vfork();
	if (pid == 0) {
		close(fd);
		_exit(0);
	}
	OK(fcntl(fd, F_GETFD));
	EQ(wait_exit(pid), 0);
}

CHECK(vfork_exec_releases_parent)
{
	char *argv[] = { "none", NULL };
	pid_t pid = vfork();
	if (pid == 0) {
		execv("/proc/self/exe/none", argv);
		_exit(errno);
	}
	EQ(wait_exit(pid), ENOTDIR);
}

CHECK(posix_spawn_missing_file)
{
	char *argv[] = { "none", NULL };
	pid_t pid;
	EQ(posix_spawn(&pid, "./none", NULL, NULL, argv, environ), ENOENT);
	ERR(waitpid(-1, NULL, 0), ECHILD);
}

CHECK(posix_spawn_list)
{
	char *argv[] = { "x", "--list", NULL };
	posix_spawn_file_actions_t actions;
	int p[2];
	char buf[64];
	pid_t pid;
	OK(pipe(p));
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, p[1], 1);
	posix_spawn_file_actions_addclose(&actions, p[0]);
	posix_spawn_file_actions_addclose(&actions, p[1]);
	EQ(posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ), 0);
	close(p[1]);
	EXPECT(OK(read(p[0], buf, sizeof buf)) > 20);
	MEMEQ(buf, "fork_return_values\n", 19);
	while (OK(read(p[0], buf, sizeof buf)) > 0)
		;
	EQ(wait_exit(pid), 0);
}

CHECK(clone3_basic)
{
	int pidfd = -1;
	pid_t child_tid = 0, parent_tid = 0;
	struct clone_args args = {
		.flags = CLONE_PIDFD | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID,
		.pidfd = (uintptr_t)&pidfd,
		.child_tid = (uintptr_t)&child_tid,
		.parent_tid = (uintptr_t)&parent_tid,
		.exit_signal = SIGCHLD,
	};
	long pid = OK(raw_clone3(&args));
	if (pid == 0)
		_exit(child_tid == (pid_t)syscall(SYS_getpid) ? 9 : 1);
	EQ(parent_tid, pid);
	EQ(child_tid, 0);
	EQ(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
	siginfo_t info = { 0 };
	OK(waitid(P_PIDFD, pidfd, &info, WEXITED));
	EQ(info.si_pid, pid);
	EQ(info.si_status, 9);
}

CHECK(clone3_validation)
{
	struct clone_args args = { .exit_signal = SIGCHLD };
	ERR(syscall(SYS_clone3, &args, 8), EINVAL);
	args.flags = CLONE_THREAD;
	ERR(raw_clone3(&args), EINVAL);
	args.flags = CLONE_SIGHAND;
	ERR(raw_clone3(&args), EINVAL);
	args.flags = 0xff;
	ERR(raw_clone3(&args), EINVAL);
	args = (struct clone_args){ .exit_signal = 300 };
	ERR(raw_clone3(&args), EINVAL);
	args = (struct clone_args){ .exit_signal = SIGCHLD, .stack = 4096 };
	ERR(raw_clone3(&args), EINVAL);
}

CHECK(clone_flag_rules)
{
	ERR(syscall(SYS_clone, CLONE_THREAD, 0, 0, 0, 0), EINVAL);
	ERR(syscall(SYS_clone, CLONE_SIGHAND, 0, 0, 0, 0), EINVAL);
	ERR(syscall(SYS_clone, CLONE_NEWNS | CLONE_FS, 0, 0, 0, 0), EINVAL);
}

CHECK(clone_files_shared)
{
	int fd = OK(open(".", O_RDONLY));
	struct clone_args args = { .flags = CLONE_FILES, .exit_signal = SIGCHLD };
	long pid = OK(raw_clone3(&args));
	if (pid == 0) {
		close(fd);
		_exit(0);
	}
	REAP(pid);
	ERR(fcntl(fd, F_GETFD), EBADF);
}

CHECK(clone_fs_shared)
{
	OK(mkdir("d", 0755));
	write_file("d/inside", "");
	struct clone_args args = { .flags = CLONE_FS, .exit_signal = SIGCHLD };
	long pid = OK(raw_clone3(&args));
	if (pid == 0) {
		umask(0123);
		_exit(chdir("d"));
	}
	REAP(pid);
	OK(access("inside", F_OK));
	EQ(umask(0), 0123);
}

CHECK(clone_parent_makes_a_sibling)
{
	struct gate up = gate_new();
	CHILD(middle) {
		struct clone_args args = { .flags = CLONE_PARENT };
		long pid = OK(raw_clone3(&args));
		if (pid == 0)
			_exit(5);
		EQ(write(up.fd[1], &pid, sizeof pid), sizeof pid);
		ERR(waitpid(pid, NULL, 0), ECHILD);
	}
	long pid;
	EQ(read(up.fd[0], &pid, sizeof pid), sizeof pid);
	EQ(wait_exit(pid), 5);
	REAP(middle);
}

CHECK(clone_without_exit_signal_needs_wall)
{
	struct clone_args args = { .exit_signal = 0 };
	long pid = OK(raw_clone3(&args));
	if (pid == 0)
		_exit(3);
	int status;
	ERR(waitpid(pid, &status, 0), ECHILD);
	EQ(waitpid(pid, &status, __WALL), pid);
	EQ(WEXITSTATUS(status), 3);
	pid = OK(raw_clone3(&args));
	if (pid == 0)
		_exit(4);
	EQ(waitpid(-1, &status, __WCLONE), pid);
	EQ(WEXITSTATUS(status), 4);
}

CHECK(exit_codes)
{
	int codes[] = { 0, 1, 127, 128, 255, 256, 511, -1 };
	for (int i = 0; i < 8; i++) {
		pid_t pid = OK(fork());
		if (pid == 0)
			_exit(codes[i]);
		int status = wait_status(pid);
		EXPECT(WIFEXITED(status));
		EQ(WEXITSTATUS(status), codes[i] & 0xff);
	}
}

CHECK(signal_exit_status)
{
	int sigs[] = { SIGTERM, SIGKILL, SIGHUP, SIGUSR1, SIGRTMIN, SIGRTMAX };
	for (int i = 0; i < 6; i++) {
		CHILD(pid) for (;;)
			pause();
		OK(kill(pid, sigs[i]));
		int status = wait_status(pid);
		EXPECT(WIFSIGNALED(status));
		EQ(WTERMSIG(status), sigs[i]);
		EXPECT(!WCOREDUMP(status));
	}
}

CHECK(wait_no_children)
{
	int status;
	ERR(wait(&status), ECHILD);
	ERR(waitpid(1, &status, 0), ECHILD);
	ERR(waitpid(getpid(), &status, WNOHANG), ECHILD);
	siginfo_t info;
	ERR(waitid(P_ALL, 0, &info, WEXITED), ECHILD);
}

CHECK(wait_option_validation)
{
	siginfo_t info;
	ERR(waitpid(-1, NULL, 0x10000), EINVAL);
	ERR(waitid(P_ALL, 0, &info, 0), EINVAL);
	ERR(waitid(P_ALL, 0, &info, WNOHANG), EINVAL);
	ERR(waitid(99, 0, &info, WEXITED), EINVAL);
	ERR(waitid(P_PID, 0, &info, WEXITED), EINVAL);
	ERR(waitpid(INT_MIN, NULL, 0), ESRCH);
	ERR(waitid(P_PIDFD, 99, &info, WEXITED), EBADF);
}

CHECK(wait_nohang)
{
	struct gate go = gate_new();
	CHILD(pid) gate_wait(go);
	int status = 77;
	EQ(waitpid(pid, &status, WNOHANG), 0);
	EQ(status, 77);
	siginfo_t info = { .si_pid = 5 };
	OK(waitid(P_PID, pid, &info, WEXITED | WNOHANG));
	EQ(info.si_pid, 0);
	gate_open(go);
	REAP(pid);
	ERR(waitpid(pid, &status, WNOHANG), ECHILD);
}

CHECK(waitid_nowait)
{
	CHILD(pid) _exit(4);
	siginfo_t info = { 0 };
	for (int i = 0; i < 3; i++) {
		memset(&info, 0, sizeof info);
		OK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
		EQ(info.si_pid, pid);
		EQ(info.si_code, CLD_EXITED);
		EQ(info.si_status, 4);
		EQ(info.si_signo, SIGCHLD);
		EQ(info.si_uid, getuid());
	}
	EQ(wait_exit(pid), 4);
}

CHECK(waitid_killed_code)
{
	CHILD(pid) for (;;)
		pause();
	OK(kill(pid, SIGKILL));
	siginfo_t info = { 0 };
	OK(waitid(P_ALL, 0, &info, WEXITED));
	EQ(info.si_code, CLD_KILLED);
	EQ(info.si_status, SIGKILL);
}

CHECK(wait_stopped_and_continued)
{
	CHILD(pid) for (;;)
		pause();
	int status;
	OK(kill(pid, SIGSTOP));
	EQ(waitpid(pid, &status, WUNTRACED), pid);
	EXPECT(WIFSTOPPED(status));
	EQ(WSTOPSIG(status), SIGSTOP);
	EQ(waitpid(pid, &status, WUNTRACED | WNOHANG), 0);
	OK(kill(pid, SIGCONT));
	EQ(waitpid(pid, &status, WCONTINUED), pid);
	EXPECT(WIFCONTINUED(status));
	EQ(status, 0xffff);
	EQ(waitpid(pid, &status, WCONTINUED | WNOHANG), 0);
	OK(kill(pid, SIGKILL));
	EQ(wait_exit(pid), 128 + SIGKILL);
}

CHECK(waitid_stopped_codes)
{
	CHILD(pid) for (;;)
		pause();
	siginfo_t info = { 0 };
	OK(kill(pid, SIGTSTP));
	OK(waitid(P_PID, pid, &info, WSTOPPED | WNOWAIT));
	EQ(info.si_code, CLD_STOPPED);
	EQ(info.si_status, SIGTSTP);
	OK(waitid(P_PID, pid, &info, WSTOPPED));
	OK(kill(pid, SIGCONT));
	OK(waitid(P_PID, pid, &info, WCONTINUED));
	EQ(info.si_code, CLD_CONTINUED);
	EQ(info.si_status, SIGCONT);
	OK(kill(pid, SIGKILL));
	OK(waitid(P_PID, pid, &info, WEXITED));
	EQ(info.si_code, CLD_KILLED);
}

CHECK(wait_process_group)
{
	CHILD(a) _exit(1);
	pid_t b = OK(fork());
	if (b == 0) {
		setpgid(0, 0);
		_exit(2);
	}
	setpgid(b, b);
	siginfo_t info = { 0 };
	OK(waitid(P_PGID, b, &info, WEXITED));
	EQ(info.si_pid, b);
	int status;
	EQ(waitpid(0, &status, 0), a);
	ERR(waitpid(-b, &status, 0), ECHILD);
	ERR(waitpid(-1, &status, 0), ECHILD);
}

CHECK(wait4_rusage)
{
	CHILD(pid) {
		volatile unsigned n = 0;
		while (n < 100000000)
			n++;
	}
	struct rusage use;
	int status;
	memset(&use, 0xff, sizeof use);
	EQ(wait4(pid, &status, 0, &use), pid);
	EQ(status, 0);
	EXPECT(use.ru_utime.tv_sec >= 0 && use.ru_utime.tv_usec < 1000000);
	EXPECT(use.ru_utime.tv_sec * 1000000 + use.ru_utime.tv_usec > 0);
	struct rusage children;
	OK(getrusage(RUSAGE_CHILDREN, &children));
	EXPECT(children.ru_utime.tv_sec * 1000000 + children.ru_utime.tv_usec > 0);
}

CHECK(zombie_is_signalable)
{
	CHILD(pid) _exit(0);
	siginfo_t info;
	OK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	EQ(task_state(pid, pid), 'Z');
	OK(kill(pid, 0));
	OK(kill(pid, SIGKILL));
	EQ(wait_exit(pid), 0);
	ERR(kill(pid, 0), ESRCH);
}

CHECK(subreaper_adopts_orphans)
{
	OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
	int on = 0;
	OK(prctl(PR_GET_CHILD_SUBREAPER, &on));
	EQ(on, 1);
	struct gate up = gate_new(), go = gate_new();
	pid_t self = getpid();
	CHILD(middle) {
		CHILD(orphan) {
			gate_wait(go);
			EQ(getppid(), self);
			_exit(6);
		}
		EQ(write(up.fd[1], &orphan, sizeof orphan), sizeof orphan);
	}
	REAP(middle);
	pid_t orphan;
	EQ(read(up.fd[0], &orphan, sizeof orphan), sizeof orphan);
	gate_open(go);
	EQ(wait_exit(orphan), 6);
}

CHECK(orphan_gets_another_parent)
{
	struct gate go = gate_new(), up = gate_new();
	CHILD(middle) {
		pid_t was = getpid();
		CHILD(orphan) {
			gate_wait(go);
			NE(getppid(), was);
			EXPECT(getppid() >= 1);
			gate_open(up);
		}
	}
	REAP(middle);
	gate_open(go);
	gate_wait(up);
}

CHECK(parent_death_signal)
{
	OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
	struct gate ready = gate_new(), up = gate_new();
	CHILD(middle) {
		CHILD(orphan) {
			OK(prctl(PR_SET_PDEATHSIG, SIGTERM));
			gate_open(ready);
			for (;;)
				pause();
		}
		EQ(write(up.fd[1], &orphan, sizeof orphan), sizeof orphan);
		gate_wait(ready);
	}
	REAP(middle);
	pid_t orphan;
	EQ(read(up.fd[0], &orphan, sizeof orphan), sizeof orphan);
	EQ(wait_exit(orphan), 128 + SIGTERM);
}

CHECK(pdeathsig_value)
{
	int sig = -1;
	OK(prctl(PR_SET_PDEATHSIG, SIGUSR1));
	OK(prctl(PR_GET_PDEATHSIG, &sig));
	EQ(sig, SIGUSR1);
	CHILD(pid) {
		OK(prctl(PR_GET_PDEATHSIG, &sig));
		EQ(sig, 0);
	}
	REAP(pid);
	ERR(prctl(PR_SET_PDEATHSIG, 65), EINVAL);
}

CHECK(setsid_rules)
{
	/* The runner made this process a group leader. */
	EQ(getpgrp(), getpid());
	ERR(setsid(), EPERM);
	CHILD(pid) {
		EQ(setsid(), getpid());
		EQ(getpgrp(), getpid());
		EQ(getsid(0), getpid());
		ERR(setpgid(0, 0), EPERM);
		ERR(setsid(), EPERM);
		ERR(open("/dev/tty", O_RDWR), ENXIO);
	}
	REAP(pid);
	NE(getsid(0), pid);
}

CHECK(setpgid_rules)
{
	struct gate go = gate_new();
	ERR(setpgid(0, -1), EINVAL);
	ERR(setpgid(1, 0), ESRCH);
	ERR(setpgid(0, 0x3fffffff), EPERM);
	struct gate ready = gate_new();
	CHILD(elsewhere) {
		OK(setsid());
		gate_open(ready);
		gate_wait(go);
	}
	gate_wait(ready);
	ERR(setpgid(0, elsewhere), EPERM);
	ERR(setpgid(elsewhere, 0), EPERM);
	gate_open(go);
	REAP(elsewhere);
	CHILD(pid) gate_wait(go);
	EQ(getpgid(pid), getpid());
	OK(setpgid(pid, pid));
	EQ(getpgid(pid), pid);
	OK(setpgid(pid, getpid()));
	EQ(getpgid(pid), getpid());
	gate_open(go);
	REAP(pid);
	ERR(getpgid(pid), ESRCH);
	ERR(getsid(pid), ESRCH);
}

CHECK(setpgid_after_exec_is_eacces)
{
	int p[2], in[2];
	char c;
	OK(pipe(p));
	OK(pipe(in));
	CHILD(pid) {
		/* The exec'd program reads its standard input after the exec. */
		dup2(in[0], 0);
		dup2(p[1], 1);
		close(in[1]);
		execl("/bin/sh", "sh", "-c", "echo; read x", NULL);
		_exit(99);
	}
	EQ(read(p[0], &c, 1), 1);
	ERR(setpgid(pid, pid), EACCES);
	close(in[0]);
	close(in[1]);
	EXPECT(wait_exit(pid) <= 1);
}

CHECK(orphaned_stopped_group_gets_hup_and_cont)
{
	OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
	struct gate up = gate_new(), ready = gate_new();
	CHILD(leader) {
		OK(setsid());
		CHILD(middle) {
			pid_t job = OK(fork());
			if (job == 0) {
				setpgid(0, 0);
				on_signal_flags(SIGHUP, on_hup, 0);
				on_signal_flags(SIGCONT, on_cont, 0);
				gate_open(ready);
				raise(SIGSTOP);
				_exit(seen_hup + 2 * seen_cont);
			}
			setpgid(job, job);
			gate_wait(ready);
			int status;
			EQ(waitpid(job, &status, WUNTRACED), job);
			EXPECT(WIFSTOPPED(status));
			EQ(write(up.fd[1], &job, sizeof job), sizeof job);
		}
		REAP(middle);
	}
	REAP(leader);
	pid_t job;
	EQ(read(up.fd[0], &job, sizeof job), sizeof job);
	EQ(wait_exit(job), 3);
}

CHECK(sigtstp_ignored_in_orphaned_group)
{
	OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
	CHILD(leader) {
		OK(setsid());
		/* The parent is in another session, so this group is orphaned: no stop. */
		OK(raise(SIGTSTP));
		OK(raise(SIGTTIN));
		OK(raise(SIGTTOU));
		_exit(8);
	}
	int status;
	EQ(waitpid(leader, &status, WUNTRACED), leader);
	EXPECT(WIFEXITED(status));
	EQ(WEXITSTATUS(status), 8);
}

CHECK(sigchld_ignored_reaps)
{
	signal(SIGCHLD, SIG_IGN);
	CHILD(pid) _exit(3);
	ERR(waitpid(pid, NULL, 0), ECHILD);
	ERR(kill(pid, 0), ESRCH);
}

CHECK(nproc_limit)
{
	if (is_root())
		OK(setresuid(54321, 54321, 54321));
	struct rlimit lim = { 1, 1 };
	OK(setrlimit(RLIMIT_NPROC, &lim));
	ERR(fork(), EAGAIN);
}

CHECK(rlimit_rules)
{
	struct rlimit lim, got;
	OK(getrlimit(RLIMIT_NOFILE, &lim));
	lim.rlim_cur = lim.rlim_max;
	OK(setrlimit(RLIMIT_NOFILE, &lim));
	struct rlimit wrong = { 10, 5 };
	ERR(setrlimit(RLIMIT_NOFILE, &wrong), EINVAL);
	ERR(setrlimit(99, &lim), EINVAL);
	ERR(getrlimit(99, &lim), EINVAL);
	struct rlimit small = { 10, 20 };
	OK(setrlimit(RLIMIT_STACK, &small));
	OK(getrlimit(RLIMIT_STACK, &got));
	EQ(got.rlim_cur, 10);
	EQ(got.rlim_max, 20);
	CHILD(pid) {
		OK(getrlimit(RLIMIT_STACK, &got));
		EQ(got.rlim_max, 20);
	}
	REAP(pid);
	if (!is_root()) {
		small.rlim_max = 21;
		ERR(setrlimit(RLIMIT_STACK, &small), EPERM);
	}
}

CHECK(prlimit_other_process)
{
	struct gate go = gate_new();
	CHILD(pid) {
		gate_wait(go);
		struct rlimit got;
		OK(getrlimit(RLIMIT_CORE, &got));
		EQ(got.rlim_cur, 0);
		EQ(got.rlim_max, 0);
	}
	struct rlimit zero = { 0, 0 }, old;
	OK(prlimit(pid, RLIMIT_CORE, &zero, &old));
	gate_open(go);
	REAP(pid);
	ERR(prlimit(pid, RLIMIT_CORE, NULL, &old), ESRCH);
}

CHECK(cpu_limit_kills)
{
	CHILD(pid) {
		struct rlimit lim = { 1, 2 };
		OK(setrlimit(RLIMIT_CPU, &lim));
		for (;;)
			;
	}
	EQ(wait_exit(pid), 128 + SIGXCPU);
}

CHECK(address_space_limit)
{
	struct rlimit lim = { 256 << 20, 256 << 20 };
	OK(setrlimit(RLIMIT_AS, &lim));
	ERR(mmap(NULL, 512 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
	OK(mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

CHECK(prctl_name)
{
	char name[17], comm[32];
	OK(prctl(PR_SET_NAME, "a-name-longer-than-fifteen"));
	OK(prctl(PR_GET_NAME, name));
	STREQ(name, "a-name-longer-t");
	read_file("/proc/self/comm", comm, sizeof comm);
	STREQ(comm, "a-name-longer-t\n");
	CHILD(pid) {
		OK(prctl(PR_GET_NAME, name));
		STREQ(name, "a-name-longer-t");
	}
	REAP(pid);
}

CHECK(prctl_dumpable)
{
	EQ(prctl(PR_GET_DUMPABLE), 1);
	OK(prctl(PR_SET_DUMPABLE, 0));
	EQ(prctl(PR_GET_DUMPABLE), 0);
	ERR(prctl(PR_SET_DUMPABLE, 2), EINVAL);
	ERR(prctl(PR_SET_DUMPABLE, 3), EINVAL);
}

CHECK(prctl_no_new_privs)
{
	ERR(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
	ERR(prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0), EINVAL);
	OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	CHILD(pid) EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	REAP(pid);
}

CHECK(prctl_keepcaps_and_unknown)
{
	EQ(prctl(PR_GET_KEEPCAPS), 0);
	OK(prctl(PR_SET_KEEPCAPS, 1));
	EQ(prctl(PR_GET_KEEPCAPS), 1);
	ERR(prctl(PR_SET_KEEPCAPS, 2), EINVAL);
	ERR(prctl(0x7fffffff, 0, 0, 0, 0), EINVAL);
}

CHECK(prctl_timerslack)
{
	long before = OK(prctl(PR_GET_TIMERSLACK));
	EXPECT(before > 0);
	OK(prctl(PR_SET_TIMERSLACK, 12345));
	EQ(prctl(PR_GET_TIMERSLACK), 12345);
}

CHECK(nice_and_getpriority)
{
	int before = getpriority(PRIO_PROCESS, 0);
	OK(setpriority(PRIO_PROCESS, 0, before + 3));
	EQ(getpriority(PRIO_PROCESS, 0), before + 3);
	errno = 0;
	EQ(nice(2), before + 5);
	CHILD(pid) EQ(getpriority(PRIO_PROCESS, 0), before + 5);
	REAP(pid);
	EQ(getpriority(PRIO_PGRP, 0), before + 5);
	ERR(setpriority(99, 0, 0), EINVAL);
	ERR(setpriority(PRIO_PROCESS, pid, 0), ESRCH);
	OK(setpriority(PRIO_PROCESS, 0, 1000));
	EQ(getpriority(PRIO_PROCESS, 0), 19);
}

CHECK(sched_affinity)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	OK(sched_getaffinity(0, sizeof set, &set));
	EXPECT(CPU_COUNT(&set) >= 1);
	EXPECT(syscall(SYS_sched_getaffinity, 0, sizeof set, &set) >= 8);
	ERR(syscall(SYS_sched_getaffinity, 0, 0, &set), EINVAL);
	ERR(syscall(SYS_sched_getaffinity, 0, 9, &set), EINVAL);
	OK(sched_setaffinity(0, sizeof set, &set));
	cpu_set_t none;
	CPU_ZERO(&none);
	ERR(sched_setaffinity(0, sizeof none, &none), EINVAL);
	ERR(sched_getaffinity(999999999, sizeof set, &set), ESRCH);
}

CHECK(sched_policy)
{
	struct sched_param param = { 0 };
	EQ(sched_getscheduler(0), SCHED_OTHER);
	OK(sched_getparam(0, &param));
	EQ(param.sched_priority, 0);
	EQ(sched_get_priority_min(SCHED_FIFO), 1);
	EQ(sched_get_priority_max(SCHED_FIFO), 99);
	EQ(sched_get_priority_max(SCHED_OTHER), 0);
	OK(sched_setscheduler(0, SCHED_BATCH, &param));
	EQ(sched_getscheduler(0), SCHED_BATCH);
	param.sched_priority = 5;
	ERR(sched_setscheduler(0, SCHED_OTHER, &param), EINVAL);
	ERR(sched_setscheduler(0, 99, &param), EINVAL);
	OK(sched_yield());
}

CHECK(getrusage_and_times)
{
	struct rusage use;
	struct tms tms;
	OK(getrusage(RUSAGE_SELF, &use));
	EXPECT(use.ru_maxrss > 0);
	OK(getrusage(RUSAGE_THREAD, &use));
	ERR(getrusage(99, &use), EINVAL);
	clock_t a = OK(times(&tms)), b = OK(times(NULL));
	EXPECT(b >= a);
	EQ(sysconf(_SC_CLK_TCK), 100);
}

/*
 * Touches somewhat more bytes than these and gives them back. Linux's count leaves out what each CPU has not yet added,
 * up to 32 pages of them.
 */
static void use_and_free(size_t bytes)
{
	bytes += 8 << 20;
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(p != MAP_FAILED);
	memset(p, 1, bytes);
	OK(munmap(p, bytes));
}

CHECK(the_largest_size_is_remembered)
{
	struct rusage use;
	const long much = 24 << 10;
	CHILD(child) {
		CHILD(grandchild) {
			use_and_free(much << 10);
			OK(getrusage(RUSAGE_SELF, &use));
			EXPECT(use.ru_maxrss >= much);
		}
		OK(getrusage(RUSAGE_CHILDREN, &use));
		EXPECT(use.ru_maxrss < much);
		int status;
		EQ(wait4(grandchild, &status, 0, &use), grandchild);
		EXPECT(use.ru_maxrss >= much);
		OK(getrusage(RUSAGE_CHILDREN, &use));
		EXPECT(use.ru_maxrss >= much);
		OK(getrusage(RUSAGE_SELF, &use));
		EXPECT(use.ru_maxrss < much);
	}
	REAP(child);
	OK(getrusage(RUSAGE_CHILDREN, &use));
	EXPECT(use.ru_maxrss >= much);
	use_and_free(much << 10);
	char text[4096], *high;
	int fd = OK(open("/proc/self/status", O_RDONLY));
	ssize_t n = OK(read(fd, text, sizeof text - 1));
	text[n] = 0;
	EXPECT((high = strstr(text, "VmHWM:")) && strtol(high + 6, NULL, 10) >= much);
	EXPECT((high = strstr(text, "VmPeak:")) && strtol(high + 7, NULL, 10) >= much);
}

CHECK(process_ids)
{
	EQ(syscall(SYS_gettid), getpid());
	EXPECT(getppid() >= 1);
	EQ(getpgid(0), getpgrp());
	EQ(getsid(0), getsid(getpid()));
	EQ(syscall(SYS_set_tid_address, NULL), getpid());
	ERR(getpgid(-1), ESRCH);
}

CHECK(pidfd_open_and_signal)
{
	CHILD(pid) for (;;)
		pause();
	int fd = OK(syscall(SYS_pidfd_open, pid, 0));
	struct pollfd p = { .fd = fd, .events = POLLIN };
	EQ(poll(&p, 1, 0), 0);
	OK(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
	OK(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
	EQ(poll(&p, 1, -1), 1);
	EQ(p.revents & POLLIN, POLLIN);
	EQ(wait_exit(pid), 128 + SIGKILL);
	ERR(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0), ESRCH);
	ERR(syscall(SYS_pidfd_open, pid, 0), ESRCH);
	ERR(syscall(SYS_pidfd_open, getpid(), 1), EINVAL);
	ERR(syscall(SYS_pidfd_open, -1, 0), EINVAL);
}

CHECK(many_children)
{
	pid_t pids[100];
	for (int i = 0; i < 100; i++) {
		pids[i] = OK(fork());
		if (pids[i] == 0)
			_exit(i);
	}
	for (int i = 99; i >= 0; i--)
		EQ(wait_exit(pids[i]), i);
	ERR(wait(NULL), ECHILD);
}

CHECK(deep_fork_chain)
{
	int depth = 0;
	pid_t pid = 0;
	while (depth < 30 && (pid = OK(fork())) == 0)
		depth++;
	if (pid) {
		int code = wait_exit(pid);
		if (depth)
			_exit(code + 1);
		EQ(code, 30);
	} else {
		_exit(1);
	}
}

CHECK(wait_interrupted_by_signal)
{
	on_signal_flags(SIGUSR1, on_nothing, 0);
	pid_t self = getpid();
	CHILD(pid) {
		await_state(self, 'S');
		OK(kill(self, SIGUSR1));
		for (;;)
			pause();
	}
	ERR(waitpid(pid, NULL, 0), EINTR);
	OK(kill(pid, SIGKILL));
	EQ(wait_exit(pid), 128 + SIGKILL);
}

CHECK(wait_restarted_after_signal)
{
	on_signal_flags(SIGUSR1, on_nothing, SA_RESTART);
	pid_t self = getpid();
	CHILD(pid) {
		await_state(self, 'S');
		OK(kill(self, SIGUSR1));
		_exit(3);
	}
	int status;
	EQ(waitpid(pid, &status, 0), pid);
	EQ(WEXITSTATUS(status), 3);
}
