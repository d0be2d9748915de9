/* execve(2), execveat(2): what the new program gets, what it loses, and what is refused. */
#include "check.h"
#include <elf.h>
#include <pthread.h>
#include <sys/auxv.h>

/* The ways this program acts when a check executes it: argv[1] is one of these. */
static int show_args(int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		printf("[%s]", argv[i]);
	return 0;
}

static int show_env(void)
{
	for (char **e = environ; *e; e++)
		printf("[%s]", *e);
	return 0;
}

static int show_fds(void)
{
	for (int fd = 3; fd < 100; fd++)
		if (fcntl(fd, F_GETFD) != -1)
			printf("[%d]", fd);
	return 0;
}

static int show_signals(void)
{
	struct sigaction usr1, usr2;
	sigset_t mask, pending;
	stack_t ss;
	sigaction(SIGHUP, NULL, &usr1);
	sigaction(SIGALRM, NULL, &usr2);
	sigprocmask(SIG_SETMASK, NULL, &mask);
	sigpending(&pending);
	sigaltstack(NULL, &ss);
	printf("[%s][%s][%d][%d][%d]", usr1.sa_handler == SIG_DFL ? "default" : "other",
	       usr2.sa_handler == SIG_IGN ? "ignored" : "other", sigismember(&mask, SIGUSR1),
	       sigismember(&pending, SIGUSR1), ss.ss_flags == SS_DISABLE);
	return 0;
}

static int show_ids(void)
{
	printf("[%d][%d][%d][%d]", getpid(), (int)syscall(SYS_gettid), getpgrp(), getppid());
	return 0;
}

static int show_auxv(void)
{
	const unsigned char *random = (void *)getauxval(AT_RANDOM);
	int nonzero = 0;
	for (int i = 0; i < 16; i++)
		nonzero += random[i] != 0;
	printf("[%lu][%d][%s][%lu][%lu]", getauxval(AT_PAGESZ), nonzero > 8, (char *)getauxval(AT_EXECFN),
	       getauxval(AT_SECURE), getauxval(AT_CLKTCK));
	printf("[%d][%d]", getauxval(AT_UID) == getuid(), getauxval(AT_EGID) == getegid());
	printf("[%d]", getauxval(AT_PHNUM) > 0 && getauxval(AT_PHENT) == sizeof(Elf64_Phdr));
	printf("[%s]", (char *)getauxval(AT_PLATFORM));
	return 0;
}

static int show_self(void)
{
	char exe[PATH_MAX] = { 0 }, comm[64];
	if (readlink("/proc/self/exe", exe, sizeof exe - 1) < 0)
		return 1;
	int fd = open("/proc/self/comm", O_RDONLY);
	ssize_t n = read(fd, comm, sizeof comm - 1);
	comm[n > 0 ? n - 1 : 0] = 0;
	printf("[%s][%s]", exe, comm);
	return 0;
}

static int show_threads(void)
{
	struct stat st;
	if (stat("/proc/self/task", &st))
		return 1;
	printf("[%d][%d]", (int)syscall(SYS_gettid) == getpid(), (int)st.st_nlink - 2);
	return 0;
}

static int as_program(int argc, char **argv)
{
	const char *mode = argv[1] + 1;
	int r = 99;
	if (!strncmp(mode, "args", 4))
		r = show_args(argc, argv);
	else if (!strcmp(mode, "env"))
		r = show_env();
	else if (!strcmp(mode, "fds"))
		r = show_fds();
	else if (!strcmp(mode, "signals"))
		r = show_signals();
	else if (!strcmp(mode, "ids"))
		r = show_ids();
	else if (!strcmp(mode, "auxv"))
		r = show_auxv();
	else if (!strcmp(mode, "self"))
		r = show_self();
	else if (!strcmp(mode, "one-thread"))
		r = show_threads();
	fflush(stdout);
	return r;
}

__attribute__((constructor)) static void set_entry(void)
{
	check_exec_entry = as_program;
}

static const char *self_path(void)
{
	static char path[PATH_MAX];
	if (!path[0]) {
		ssize_t n = OK(readlink("/proc/self/exe", path, sizeof path - 1));
		path[n] = 0;
	}
	return path;
}

/* Output of a child that runs the statement, which should end in an exec. */
#define OUTPUT_OF(buf, statement) \
	do { \
		int out_[2]; \
		OK(pipe2(out_, O_CLOEXEC)); \
		CHILD(pid_) { \
			dup2(out_[1], 1); \
			statement; \
			FAIL("exec: %s", check_errno_name(errno)); \
		} \
		close(out_[1]); \
		size_t have_ = 0; \
		ssize_t n_; \
		while ((n_ = OK(read(out_[0], buf + have_, sizeof buf - 1 - have_))) > 0) \
			have_ += n_; \
		buf[have_] = 0; \
		close(out_[0]); \
		EQ(wait_exit(pid_), 0); \
	} while (0)

static void make_script(const char *name, const char *text)
{
	write_file(name, text);
	OK(chmod(name, 0755));
}

CHECK(argv_and_env_arrive)
{
	char buf[1000];
	char *argv[] = { "zero", "@args", "", "with space", "\xff\xfe", NULL }, *env[] = { NULL };
	OUTPUT_OF(buf, execve(self_path(), argv, env));
	STREQ(buf, "[zero][@args][][with space][\xff\xfe]");
	char *eargv[] = { "x", "@env", NULL }, *eenv[] = { "A=1", "B=", "odd", NULL };
	OUTPUT_OF(buf, execve(self_path(), eargv, eenv));
	STREQ(buf, "[A=1][B=][odd]");
}

CHECK(empty_argv_gets_one_string)
{
	/* Since Linux 5.18 argv[0] is an empty string then. */
	CHILD(pid) {
		char *argv[] = { NULL };
		execve("/bin/true", argv, NULL);
		_exit(99);
	}
	NE(wait_exit(pid), 99);
}

CHECK(long_argv)
{
	static char *argv[5003];
	static char buf[400];
	argv[0] = "x";
	argv[1] = "@env";
	for (int i = 2; i < 5002; i++)
		argv[i] = "argument-argument";
	char *env[] = { "Z=z", NULL };
	OUTPUT_OF(buf, execve(self_path(), argv, env));
	STREQ(buf, "[Z=z]");
}

CHECK(e2big)
{
	/* One string of more than 128 KiB. */
	char *big = OK(mmap(NULL, 200000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	memset(big, 'a', 199999);
	char *argv[] = { "x", "@env", big, NULL };
	ERR(execve(self_path(), argv, NULL), E2BIG);
	big[131071] = 0;
	char buf[100];
	OUTPUT_OF(buf, execve(self_path(), argv, NULL));
	/* More than a quarter of the stack limit in all. */
	static char *many[200];
	for (int i = 0; i < 199; i++)
		many[i] = big;
	struct rlimit lim = { 8 << 20, 8 << 20 };
	OK(setrlimit(RLIMIT_STACK, &lim));
	ERR(execve(self_path(), many, NULL), E2BIG);
}

CHECK(exec_errors)
{
	char *argv[] = { "x", NULL };
	write_file("plain", "nothing\n");
	ERR(execve("none", argv, NULL), ENOENT);
	ERR(execve("", argv, NULL), ENOENT);
	ERR(execve("plain", argv, NULL), EACCES);
	ERR(execve("plain/x", argv, NULL), ENOTDIR);
	ERR(execve(".", argv, NULL), EACCES);
	OK(chmod("plain", 0755));
	ERR(execve("plain", argv, NULL), ENOEXEC);
	write_file("empty", "");
	OK(chmod("empty", 0755));
	ERR(execve("empty", argv, NULL), ENOEXEC);
	OK(mkfifo("fifo", 0777));
	ERR(execve("fifo", argv, NULL), EACCES);
	OK(symlink("loop", "loop"));
	ERR(execve("loop", argv, NULL), ELOOP);
}

CHECK(exec_bad_pointers)
{
	char *argv[] = { "x", BAD_PTR, NULL };
	ERR(execve(BAD_PTR, argv, NULL), EFAULT);
	ERR(execve(self_path(), argv, NULL), EFAULT);
	ERR(execve(self_path(), BAD_PTR, NULL), EFAULT);
	char *good[] = { "x", NULL };
	ERR(execve(self_path(), good, BAD_PTR), EFAULT);
}

CHECK(exec_wrong_elf)
{
	char *argv[] = { "x", NULL };
	Elf64_Ehdr h = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT }, .e_type = ET_EXEC,
			 .e_machine = EM_AARCH64, .e_version = EV_CURRENT, .e_ehsize = sizeof h,
			 .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 1, .e_phoff = sizeof h };
	int fd = OK(open("f", O_WRONLY | O_CREAT, 0755));
	EQ(write(fd, &h, sizeof h), sizeof h);
	OK(close(fd));
	ERR(execve("f", argv, NULL), ENOEXEC);
	/* Truncated before its program headers. */
	h.e_machine = EM_X86_64;
	fd = OK(open("g", O_WRONLY | O_CREAT, 0755));
	EQ(write(fd, &h, sizeof h), sizeof h);
	OK(close(fd));
	pid_t pid = OK(fork());
	if (pid == 0) {
		execve("g", argv, NULL);
		_exit(50);
	}
	EQ(wait_exit(pid), 50);
}

CHECK(text_file_busy)
{
	char *argv[] = { "x", NULL };
	make_script("s", "#!/bin/true\n");
	int fd = OK(open("s", O_RDWR));
	ERR(execve("s", argv, NULL), ETXTBSY);
	OK(close(fd));
	if (access(self_path(), W_OK) == 0)
		ERR(open("/proc/self/exe", O_WRONLY), ETXTBSY);
}

CHECK(script_passes_its_argument)
{
	char buf[500];
	OK(symlink(self_path(), "self"));
	make_script("s", "#!./self @args one two  \nrest\n");
	char *argv[] = { "ignored", "a", "b", NULL };
	/* All that follows the interpreter is one argument. */
	OUTPUT_OF(buf, execve("./s", argv, NULL));
	STREQ(buf, "[./self][@args one two][./s][a][b]");
}

CHECK(script_without_argument)
{
	char buf[500];
	OK(symlink(self_path(), "self"));
	make_script("s", "#! \t ./self\t\n");
	char *argv[] = { "ignored", "@args", NULL };
	CHILD(pid) {
		close(1);
		execve("./s", argv, NULL);
		_exit(99);
	}
	/* It runs as "self ./s @args": no such check, nothing to do. */
	EQ(wait_exit(pid), 0);
	(void)buf;
}

CHECK(script_without_newline)
{
	char buf[500];
	OK(symlink(self_path(), "self"));
	make_script("s", "#!./self @args");
	char *argv[] = { "s", NULL };
	OUTPUT_OF(buf, execve("./s", argv, NULL));
	STREQ(buf, "[./self][@args][./s]");
}

CHECK(nested_scripts)
{
	char buf[500];
	OK(symlink(self_path(), "self"));
	make_script("s1", "#!./self @args\n");
	make_script("s2", "#!./s1 two\n");
	make_script("s3", "#!./s2 three\n");
	char *argv[] = { "x", "end", NULL };
	OUTPUT_OF(buf, execve("./s3", argv, NULL));
	STREQ(buf, "[./self][@args][./s1][two][./s2][three][./s3][end]");
}

CHECK(script_recursion_ends)
{
	char *argv[] = { "x", NULL };
	make_script("s", "#!./s\n");
	ERR(execve("./s", argv, NULL), ELOOP);
}

CHECK(script_bad_interpreters)
{
	char *argv[] = { "x", NULL };
	make_script("missing", "#!/no/such/interpreter\n");
	ERR(execve("./missing", argv, NULL), ENOENT);
	make_script("nothing", "#!\n");
	ERR(execve("./nothing", argv, NULL), ENOEXEC);
	make_script("blank", "#!   \n");
	ERR(execve("./blank", argv, NULL), ENOEXEC);
	make_script("dir", "#!/\n");
	ERR(execve("./dir", argv, NULL), EACCES);
	char long_line[600] = "#!/";
	memset(long_line + 3, 'a', 500);
	long_line[503] = '\n';
	make_script("long", long_line);
	ERR(execve("./long", argv, NULL), ENOEXEC);
}

CHECK(close_on_exec)
{
	char buf[500];
	char *argv[] = { "x", "@fds", NULL };
	OK(close_range(3, 59, 0));
	OK(dup2(0, 10));
	OK(fcntl(0, F_DUPFD_CLOEXEC, 11));
	OK(dup2(0, 12));
	OK(fcntl(12, F_SETFD, FD_CLOEXEC));
	OK(dup3(0, 13, 0));
	OUTPUT_OF(buf, execve(self_path(), argv, NULL));
	STREQ(buf, "[10][13]");
}

CHECK(failed_exec_changes_nothing)
{
	char *argv[] = { "x", NULL };
	int fd = OK(fcntl(0, F_DUPFD_CLOEXEC, 10));
	char *page = OK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	strcpy(page, "still here");
	make_script("bad", "#!/no/such/interpreter\n");
	for (int i = 0; i < 20; i++) {
		ERR(execve("./bad", argv, NULL), ENOENT);
		ERR(execve("./none", argv, NULL), ENOENT);
	}
	STREQ(page, "still here");
	EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

CHECK(execveat_flags)
{
	char buf[500];
	char *argv[] = { "x", "@args", NULL };
	OK(symlink(self_path(), "self"));
	int dir = OK(open(".", O_RDONLY | O_DIRECTORY));
	OUTPUT_OF(buf, syscall(SYS_execveat, dir, "self", argv, NULL, 0));
	STREQ(buf, "[x][@args]");
	ERR(syscall(SYS_execveat, dir, "self", argv, NULL, AT_SYMLINK_NOFOLLOW), ELOOP);
	ERR(syscall(SYS_execveat, dir, "self", argv, NULL, 0x40000000), EINVAL);
	ERR(syscall(SYS_execveat, 99, "self", argv, NULL, 0), EBADF);
	ERR(syscall(SYS_execveat, dir, "", argv, NULL, 0), ENOENT);
	int fd = OK(open(self_path(), O_PATH));
	OUTPUT_OF(buf, syscall(SYS_execveat, fd, "", argv, NULL, AT_EMPTY_PATH));
	STREQ(buf, "[x][@args]");
	OUTPUT_OF(buf, fexecve(fd, argv, environ));
	STREQ(buf, "[x][@args]");
}

CHECK(execveat_script_from_cloexec_fd)
{
	char *argv[] = { "x", NULL };
	make_script("s", "#!/bin/true\n");
	int fd = OK(open("s", O_RDONLY | O_CLOEXEC));
	/* The interpreter could not open /dev/fd/N any more. */
	ERR(syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH), ENOENT);
}

CHECK(memfd_can_be_executed)
{
	char buf[1 << 16], out[200];
	ssize_t n;
	int from = OK(open(self_path(), O_RDONLY)), fd = OK(memfd_create("copy", MFD_CLOEXEC));
	while ((n = OK(read(from, buf, sizeof buf))) > 0)
		EQ(write(fd, buf, n), n);
	char *argv[] = { "from memory", "@args", NULL };
	OUTPUT_OF(out, syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH));
	STREQ(out, "[from memory][@args]");
}

CHECK(signals_after_exec)
{
	char buf[200];
	char *argv[] = { "x", "@signals", NULL };
	char stack[65536];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof stack };
	OK(sigaltstack(&ss, NULL));
	on_signal_flags(SIGHUP, _exit, 0);
	signal(SIGALRM, SIG_IGN);
	block_signal(SIGUSR1);
	/* Handlers are reset, ignored stays ignored, mask and pending signals stay, the alternate stack goes. */
	OUTPUT_OF(buf, raise(SIGUSR1); execve(self_path(), argv, NULL));
	/* This runner resets the mask only when it runs checks. */
	STREQ(buf, "[default][ignored][1][1][1]");
}

CHECK(ids_after_exec)
{
	char buf[200], want[200];
	char *argv[] = { "x", "@ids", NULL };
	int out[2];
	OK(pipe(out));
	CHILD(pid) {
		dup2(out[1], 1);
		execve(self_path(), argv, NULL);
	}
	ssize_t n = OK(read(out[0], buf, sizeof buf - 1));
	buf[n] = 0;
	snprintf(want, sizeof want, "[%d][%d][%d][%d]", pid, pid, getpgrp(), getpid());
	STREQ(buf, want);
	REAP(pid);
}

static char *const ids_argv[] = { "x", "@ids", NULL };

static void *exec_in_thread(void *arg)
{
	(void)arg;
	execve(self_path(), ids_argv, NULL);
	_exit(98);
}

static void *sleep_forever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

CHECK(exec_from_another_thread_keeps_the_pid)
{
	char buf[200], want[200];
	int out[2];
	OK(pipe(out));
	self_path();
	CHILD(pid) {
		pthread_t threads[6];
		dup2(out[1], 1);
		for (int i = 0; i < 5; i++)
			EQ(pthread_create(&threads[i], NULL, sleep_forever, NULL), 0);
		EQ(pthread_create(&threads[5], NULL, exec_in_thread, NULL), 0);
		for (;;)
			pause();
	}
	ssize_t n = OK(read(out[0], buf, sizeof buf - 1));
	buf[n] = 0;
	snprintf(want, sizeof want, "[%d][%d][%d][%d]", pid, pid, getpgrp(), getpid());
	STREQ(buf, want);
	REAP(pid);
}

CHECK(exec_with_other_threads_running)
{
	char buf[200];
	char *argv[] = { "x", "@one-thread", NULL };
	for (int round = 0; round < 5; round++) {
		OUTPUT_OF(buf, {
			pthread_t thread;
			for (int i = 0; i < 10; i++)
				EQ(pthread_create(&thread, NULL, sleep_forever, NULL), 0);
			execve(self_path(), argv, NULL);
		});
		STREQ(buf, "[1][1]");
	}
}

CHECK(auxiliary_vector)
{
	char buf[4200], want[4200];
	char *argv[] = { "x", "@auxv", NULL };
	OK(symlink(self_path(), "self"));
	OUTPUT_OF(buf, execve("./self", argv, NULL));
	snprintf(want, sizeof want, "[4096][1][./self][0][100][1][1][1][x86_64]");
	STREQ(buf, want);
}

CHECK(proc_self_exe_and_comm)
{
	char buf[4200], want[4200];
	char *argv[] = { "another name", "@self", NULL };
	OK(symlink(self_path(), "a-rather-long-link-name"));
	OUTPUT_OF(buf, execve("./a-rather-long-link-name", argv, NULL));
	snprintf(want, sizeof want, "[%s][a-rather-long-l]", self_path());
	STREQ(buf, want);
}

CHECK(comm_of_a_script_is_the_script)
{
	char buf[4200];
	OK(symlink(self_path(), "self"));
	make_script("s", "#!./self @self\n");
	char *argv[] = { "x", NULL };
	OUTPUT_OF(buf, execve("./s", argv, NULL));
	EXPECT(strlen(buf) > 4 && !strcmp(buf + strlen(buf) - 3, "[s]"));
}

CHECK(setuid_program)
{
	char buf[1 << 16], out[200];
	ssize_t n;
	need_root();
	int from = OK(open(self_path(), O_RDONLY)), fd = OK(open("copy", O_WRONLY | O_CREAT, 0755));
	while ((n = OK(read(from, buf, sizeof buf))) > 0)
		EQ(write(fd, buf, n), n);
	OK(close(fd));
	OK(chown("copy", 1001, 1002));
	OK(chmod("copy", 06755));
	OK(chmod(".", 0755));
	char *argv[] = { "x", "@auxv", NULL };
	/* AT_UID and AT_EGID are the real user and the effective group: AT_SECURE follows from the difference. */
	OUTPUT_OF(out, OK(setresgid(1003, 1003, 1003)); OK(setresuid(1003, 1003, 1003)); execve("./copy", argv, NULL));
	STREQ(out, "[4096][1][./copy][1][100][1][1][1][x86_64]");
}

CHECK(no_new_privs_disarms_setuid)
{
	char buf[1 << 16], out[200];
	ssize_t n;
	need_root();
	int from = OK(open(self_path(), O_RDONLY)), fd = OK(open("copy", O_WRONLY | O_CREAT, 0755));
	while ((n = OK(read(from, buf, sizeof buf))) > 0)
		EQ(write(fd, buf, n), n);
	OK(close(fd));
	OK(chown("copy", 1001, 1001));
	OK(chmod("copy", 04755));
	char *argv[] = { "x", "@auxv", NULL };
	OUTPUT_OF(out, OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); OK(setresuid(1003, 1003, 1003));
		  execve("./copy", argv, NULL));
	STREQ(out, "[4096][1][./copy][0][100][1][1][1][x86_64]");
}

CHECK(exec_resets_memory_and_limits_stay)
{
	char *argv[] = { "x", "@env", NULL };
	char buf[100];
	struct rlimit lim = { 50, 60 };
	OK(setrlimit(RLIMIT_NOFILE, &lim));
	for (int i = 0; i < 20; i++)
		OUTPUT_OF(buf, execve(self_path(), argv, NULL));
}

CHECK(exec_chain)
{
	/* sh is dynamic: the program interpreter is loaded too. */
	CHILD(pid) {
		execl("/bin/sh", "sh", "-c", "exec sh -c 'exec sh -c \"exit 7\"'", NULL);
		_exit(99);
	}
	EQ(wait_exit(pid), 7);
}
