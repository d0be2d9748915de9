/* Signals: sigaction(2), sigprocmask(2), sigqueue(3), sigtimedwait(2), kill(2), sigaltstack(2). */
#include "check.h"
#include <setjmp.h>
#include <sys/ucontext.h>

static volatile sig_atomic_t hits, depth, max_depth;
static volatile int order[64];
static volatile int n_order;
static siginfo_t last_info;
static sigjmp_buf jump;

static void count(int sig)
{
	(void)sig;
	hits++;
}

static void record(int sig, siginfo_t *info, void *context)
{
	(void)context;
	last_info = *info;
	if (n_order < 64)
		order[n_order++] = info->si_code == SI_QUEUE ? info->si_value.sival_int : sig;
	hits++;
}

static void reenter(int sig)
{
	depth++;
	if (depth > max_depth)
		max_depth = depth;
	if (hits++ < 2)
		raise(sig);
	depth--;
}

static void jump_out(int sig)
{
	siglongjmp(jump, sig);
}

static void unblock_all(void)
{
	sigset_t none;
	sigemptyset(&none);
	OK(sigprocmask(SIG_SETMASK, &none, NULL));
}

CHECK(sigaction_validation)
{
	struct sigaction sa = { .sa_handler = count };
	ERR(sigaction(0, &sa, NULL), EINVAL);
	ERR(sigaction(65, &sa, NULL), EINVAL);
	ERR(sigaction(SIGKILL, &sa, NULL), EINVAL);
	ERR(sigaction(SIGSTOP, &sa, NULL), EINVAL);
	OK(sigaction(SIGKILL, NULL, &sa));
	EQ(sa.sa_handler, SIG_DFL);
	ERR(syscall(SYS_rt_sigaction, SIGUSR1, &sa, NULL, 4), EINVAL);
}

CHECK(sigaction_reads_back)
{
	struct sigaction sa = { .sa_handler = count, .sa_flags = SA_RESTART | SA_NODEFER }, old;
	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, SIGUSR2);
	OK(sigaction(SIGUSR1, &sa, &old));
	EQ(old.sa_handler, SIG_DFL);
	OK(sigaction(SIGUSR1, NULL, &old));
	EQ(old.sa_handler, count);
	EQ(old.sa_flags & (SA_RESTART | SA_NODEFER | SA_SIGINFO), SA_RESTART | SA_NODEFER);
	EXPECT(sigismember(&old.sa_mask, SIGUSR2));
	EXPECT(!sigismember(&old.sa_mask, SIGUSR1));
}

CHECK(raise_runs_handler_before_returning)
{
	on_signal_flags(SIGUSR1, count, 0);
	for (int i = 1; i <= 100; i++) {
		OK(raise(SIGUSR1));
		EQ(hits, i);
	}
}

CHECK(handler_masks_its_signal)
{
	on_signal_flags(SIGUSR1, reenter, 0);
	OK(raise(SIGUSR1));
	EQ(hits, 3);
	EQ(max_depth, 1);
}

CHECK(nodefer_reenters)
{
	on_signal_flags(SIGUSR1, reenter, SA_NODEFER);
	OK(raise(SIGUSR1));
	EQ(hits, 3);
	EQ(max_depth, 3);
}

CHECK(resethand_resets)
{
	struct sigaction sa;
	on_signal_flags(SIGUSR1, count, SA_RESETHAND);
	OK(raise(SIGUSR1));
	EQ(hits, 1);
	OK(sigaction(SIGUSR1, NULL, &sa));
	EQ(sa.sa_handler, SIG_DFL);
	CHILD(pid) raise(SIGUSR1);
	EQ(wait_exit(pid), 128 + SIGUSR1);
}

static sigset_t mask_in_handler;

static void read_mask(int sig)
{
	(void)sig;
	sigprocmask(SIG_SETMASK, NULL, &mask_in_handler);
}

CHECK(sa_mask_in_handler)
{
	struct sigaction sa = { .sa_handler = read_mask };
	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, SIGUSR2);
	OK(sigaction(SIGUSR1, &sa, NULL));
	block_signal(SIGHUP);
	OK(raise(SIGUSR1));
	EXPECT(sigismember(&mask_in_handler, SIGUSR1));
	EXPECT(sigismember(&mask_in_handler, SIGUSR2));
	EXPECT(sigismember(&mask_in_handler, SIGHUP));
	EXPECT(!sigismember(&mask_in_handler, SIGTERM));
	sigset_t after;
	OK(sigprocmask(SIG_SETMASK, NULL, &after));
	EXPECT(!sigismember(&after, SIGUSR1));
	EXPECT(sigismember(&after, SIGHUP));
}

CHECK(block_and_pending)
{
	sigset_t pending;
	on_signal_flags(SIGUSR1, count, 0);
	block_signal(SIGUSR1);
	for (int i = 0; i < 3; i++)
		OK(raise(SIGUSR1));
	EQ(hits, 0);
	OK(sigpending(&pending));
	EXPECT(sigismember(&pending, SIGUSR1));
	unblock_all();
	/* Standard signals do not queue. */
	EQ(hits, 1);
	OK(sigpending(&pending));
	EXPECT(!sigismember(&pending, SIGUSR1));
}

CHECK(kill_and_stop_cannot_be_blocked)
{
	sigset_t all, got;
	sigfillset(&all);
	OK(sigprocmask(SIG_SETMASK, &all, NULL));
	OK(sigprocmask(SIG_SETMASK, NULL, &got));
	EXPECT(!sigismember(&got, SIGKILL));
	EXPECT(!sigismember(&got, SIGSTOP));
	EXPECT(sigismember(&got, SIGTERM));
	ERR(syscall(SYS_rt_sigprocmask, 99, &all, NULL, 8), EINVAL);
	ERR(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, 16), EINVAL);
	OK(syscall(SYS_rt_sigprocmask, 99, NULL, &got, 8));
}

CHECK(realtime_signals_queue_in_order)
{
	on_siginfo(SIGRTMIN, record, 0);
	on_siginfo(SIGRTMIN + 1, record, 0);
	block_signal(SIGRTMIN);
	block_signal(SIGRTMIN + 1);
	for (int i = 0; i < 5; i++) {
		OK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 100 + i }));
		OK(sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 200 + i }));
	}
	unblock_all();
	EQ(n_order, 10);
	/* Each number keeps its order. Handlers nest, so the higher number runs first here. */
	int low = 0, high = 0;
	for (int i = 0; i < 10; i++)
		if (order[i] >= 200)
			EQ(order[i], 200 + low++);
		else
			EQ(order[i], 100 + high++);
	EQ(low, 5);
	EQ(high, 5);
}

CHECK(lowest_realtime_signal_is_taken_first)
{
	sigset_t set = sigset_of(SIGRTMIN);
	sigaddset(&set, SIGRTMIN + 1);
	sigaddset(&set, SIGUSR1);
	OK(sigprocmask(SIG_BLOCK, &set, NULL));
	OK(raise(SIGRTMIN + 1));
	OK(raise(SIGRTMIN));
	OK(raise(SIGUSR1));
	EQ(sigwaitinfo(&set, NULL), SIGUSR1);
	EQ(sigwaitinfo(&set, NULL), SIGRTMIN);
	EQ(sigwaitinfo(&set, NULL), SIGRTMIN + 1);
}

CHECK(sigqueue_value_and_sender)
{
	on_siginfo(SIGUSR1, record, 0);
	OK(sigqueue(getpid(), SIGUSR1, (union sigval){ .sival_ptr = (void *)0x123456789abcull }));
	EQ(hits, 1);
	EQ(last_info.si_code, SI_QUEUE);
	EQ(last_info.si_pid, getpid());
	EQ(last_info.si_uid, getuid());
	EQ(last_info.si_value.sival_ptr, 0x123456789abcll);
	ERR(sigqueue(getpid(), 65, (union sigval){ 0 }), EINVAL);
	OK(sigqueue(getpid(), 0, (union sigval){ 0 }));
}

CHECK(rt_sigqueueinfo_forging)
{
	struct gate go = gate_new();
	CHILD(pid) gate_wait(go);
	siginfo_t info = { .si_code = SI_USER };
	ERR(syscall(SYS_rt_sigqueueinfo, pid, SIGUSR1, &info), EPERM);
	info.si_code = SI_TKILL;
	ERR(syscall(SYS_rt_sigqueueinfo, pid, SIGUSR1, &info), EPERM);
	info.si_code = 5;
	ERR(syscall(SYS_rt_sigqueueinfo, pid, SIGUSR1, &info), EPERM);
	info.si_code = -60;
	OK(syscall(SYS_rt_sigqueueinfo, pid, SIGUSR1, &info));
	EQ(wait_exit(pid), 128 + SIGUSR1);
}

CHECK(kill_siginfo)
{
	on_siginfo(SIGUSR1, record, 0);
	OK(kill(getpid(), SIGUSR1));
	EQ(last_info.si_signo, SIGUSR1);
	EQ(last_info.si_code, SI_USER);
	EQ(last_info.si_pid, getpid());
	OK(raise(SIGUSR1));
	EQ(last_info.si_code, SI_TKILL);
	EQ(last_info.si_pid, getpid());
}

CHECK(sigtimedwait_takes_pending)
{
	siginfo_t info;
	struct timespec zero = { 0, 0 };
	sigset_t set = sigset_of(SIGUSR1);
	block_signal(SIGUSR1);
	ERR(sigtimedwait(&set, &info, &zero), EAGAIN);
	OK(sigqueue(getpid(), SIGUSR1, (union sigval){ .sival_int = 7 }));
	EQ(sigtimedwait(&set, &info, &zero), SIGUSR1);
	EQ(info.si_code, SI_QUEUE);
	EQ(info.si_value.sival_int, 7);
	ERR(sigtimedwait(&set, &info, &zero), EAGAIN);
	struct timespec wrong = { 0, 2000000000 };
	ERR(sigtimedwait(&set, &info, &wrong), EINVAL);
	struct timespec tick = { 0, 1000000 };
	ERR(sigtimedwait(&set, &info, &tick), EAGAIN);
}

CHECK(sigwaitinfo_blocks_until_sent)
{
	sigset_t set = sigset_of(SIGUSR1);
	block_signal(SIGUSR1);
	pid_t self = getpid();
	CHILD(pid) {
		await_state(self, 'S');
		OK(sigqueue(self, SIGUSR1, (union sigval){ .sival_int = 42 }));
	}
	siginfo_t info;
	EQ(sigwaitinfo(&set, &info), SIGUSR1);
	EQ(info.si_value.sival_int, 42);
	EQ(info.si_pid, pid);
	REAP(pid);
}

CHECK(sigwaitinfo_interrupted_by_other_handler)
{
	on_signal_flags(SIGUSR2, count, SA_RESTART);
	sigset_t set = sigset_of(SIGUSR1);
	block_signal(SIGUSR1);
	pid_t self = getpid();
	CHILD(pid) {
		await_state(self, 'S');
		OK(kill(self, SIGUSR2));
	}
	siginfo_t info;
	ERR(sigwaitinfo(&set, &info), EINTR);
	EQ(hits, 1);
	REAP(pid);
}

CHECK(sigsuspend_swaps_the_mask)
{
	sigset_t none, after;
	sigemptyset(&none);
	on_signal_flags(SIGUSR1, count, SA_RESTART);
	block_signal(SIGUSR1);
	OK(raise(SIGUSR1));
	ERR(sigsuspend(&none), EINTR);
	EQ(hits, 1);
	OK(sigprocmask(SIG_SETMASK, NULL, &after));
	EXPECT(sigismember(&after, SIGUSR1));
}

CHECK(pause_returns_eintr)
{
	on_signal_flags(SIGUSR1, count, SA_RESTART);
	pid_t self = getpid();
	CHILD(pid) {
		await_state(self, 'S');
		OK(kill(self, SIGUSR1));
	}
	ERR(pause(), EINTR);
	EQ(hits, 1);
	REAP(pid);
}

CHECK(ignored_signal_is_dropped)
{
	sigset_t pending;
	signal(SIGUSR1, SIG_IGN);
	OK(raise(SIGUSR1));
	block_signal(SIGUSR1);
	OK(raise(SIGUSR1));
	/* Blocked signals are queued even while ignored, in case the action changes. */
	OK(sigpending(&pending));
	EXPECT(sigismember(&pending, SIGUSR1));
	signal(SIGUSR1, SIG_IGN);
	OK(sigpending(&pending));
	EXPECT(!sigismember(&pending, SIGUSR1));
}

CHECK(default_ignored_signals)
{
	int sigs[] = { SIGCHLD, SIGURG, SIGWINCH, SIGCONT };
	for (int i = 0; i < 4; i++)
		OK(raise(sigs[i]));
}

CHECK(default_action_terminates)
{
	for (int sig = 1; sig <= 64; sig++) {
		if (sig == SIGCHLD || sig == SIGURG || sig == SIGWINCH || sig == SIGCONT ||
		    sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU)
			continue;
		CHILD(pid) syscall(SYS_kill, getpid(), sig);
		EQ(wait_exit(pid), 128 + sig);
	}
}

CHECK(core_dump_status_bit)
{
	struct rlimit lim;
	OK(getrlimit(RLIMIT_CORE, &lim));
	int sigs[] = { SIGQUIT, SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS, SIGTRAP };
	for (int i = 0; i < 8; i++) {
		CHILD(pid) kill(getpid(), sigs[i]);
		int status = wait_status(pid);
		EQ(WTERMSIG(status), sigs[i]);
		/* The limit is 0, so nothing was dumped. */
		EXPECT(!WCOREDUMP(status));
	}
}

CHECK(sigkill_is_unstoppable)
{
	CHILD(pid) {
		sigset_t all;
		sigfillset(&all);
		OK(sigprocmask(SIG_SETMASK, &all, NULL));
		raise(SIGSTOP);
		for (;;)
			pause();
	}
	int status;
	EQ(waitpid(pid, &status, WUNTRACED), pid);
	OK(kill(pid, SIGKILL));
	EQ(wait_exit(pid), 128 + SIGKILL);
}

CHECK(stopped_process_holds_its_signals)
{
	CHILD(pid) {
		on_signal_flags(SIGUSR1, count, 0);
		raise(SIGSTOP);
		_exit(hits);
	}
	int status;
	EQ(waitpid(pid, &status, WUNTRACED), pid);
	OK(kill(pid, SIGUSR1));
	EQ(waitpid(pid, &status, WNOHANG), 0);
	OK(kill(pid, SIGCONT));
	EQ(wait_exit(pid), 1);
}

CHECK(sigcont_drops_pending_stops)
{
	sigset_t pending;
	block_signal(SIGTSTP);
	OK(raise(SIGTSTP));
	OK(sigpending(&pending));
	EXPECT(sigismember(&pending, SIGTSTP));
	OK(raise(SIGCONT));
	OK(sigpending(&pending));
	EXPECT(!sigismember(&pending, SIGTSTP));
	block_signal(SIGCONT);
	OK(raise(SIGCONT));
	OK(raise(SIGTSTP));
	OK(sigpending(&pending));
	EXPECT(!sigismember(&pending, SIGCONT));
}

CHECK(kill_process_group)
{
	struct gate ready = gate_new();
	pid_t pids[3];
	for (int i = 0; i < 3; i++) {
		pids[i] = OK(fork());
		if (pids[i] == 0) {
			setpgid(0, i ? pids[0] : 0);
			gate_open(ready);
			for (;;)
				pause();
		}
		setpgid(pids[i], pids[0]);
	}
	for (int i = 0; i < 3; i++)
		gate_wait(ready);
	OK(kill(-pids[0], SIGTERM));
	for (int i = 0; i < 3; i++)
		EQ(wait_exit(pids[i]), 128 + SIGTERM);
	ERR(kill(-pids[0], 0), ESRCH);
}

CHECK(kill_zero_is_own_group)
{
	struct gate ready = gate_new();
	on_signal_flags(SIGUSR1, count, 0);
	CHILD(pid) {
		signal(SIGUSR1, SIG_DFL);
		gate_open(ready);
		for (;;)
			pause();
	}
	gate_wait(ready);
	OK(kill(0, SIGUSR1));
	EQ(hits, 1);
	EQ(wait_exit(pid), 128 + SIGUSR1);
}

CHECK(kill_errors)
{
	ERR(kill(getpid(), 65), EINVAL);
	ERR(kill(getpid(), -1), EINVAL);
	ERR(kill(0x3fffffff, 0), ESRCH);
	ERR(kill(INT_MIN, SIGTERM), ESRCH);
	OK(kill(getpid(), 0));
	ERR(syscall(SYS_tgkill, getpid(), -1, SIGTERM), EINVAL);
	ERR(syscall(SYS_tgkill, -1, getpid(), SIGTERM), EINVAL);
	ERR(syscall(SYS_tgkill, 1, getpid(), 0), ESRCH);
	ERR(syscall(SYS_tkill, 0, SIGTERM), EINVAL);
	OK(syscall(SYS_tgkill, getpid(), getpid(), 0));
}

CHECK(kill_needs_permission)
{
	need_root();
	struct gate go = gate_new(), ready = gate_new();
	CHILD(other) {
		OK(setresuid(1001, 1001, 1001));
		gate_open(ready);
		gate_wait(go);
	}
	gate_wait(ready);
	CHILD(pid) {
		OK(setresuid(1002, 1002, 1002));
		ERR(kill(other, SIGTERM), EPERM);
		ERR(kill(other, 0), EPERM);
		ERR(kill(1, SIGTERM), EPERM);
		OK(kill(getpid(), 0));
	}
	REAP(pid);
	CHILD(same) {
		OK(setresuid(1001, 1003, 1003));
		OK(kill(other, 0));
	}
	REAP(same);
	gate_open(go);
	REAP(other);
}

CHECK(sigcont_within_a_session_needs_no_permission)
{
	need_root();
	struct gate ready = gate_new();
	CHILD(other) {
		gate_open(ready);
		for (;;)
			pause();
	}
	gate_wait(ready);
	CHILD(pid) {
		OK(setresuid(1002, 1002, 1002));
		ERR(kill(other, SIGTERM), EPERM);
		OK(kill(other, SIGCONT));
	}
	REAP(pid);
	OK(kill(other, SIGKILL));
	EQ(wait_exit(other), 128 + SIGKILL);
}

CHECK(sigchld_info_exit)
{
	sigset_t set = sigset_of(SIGCHLD);
	block_signal(SIGCHLD);
	CHILD(pid) _exit(23);
	siginfo_t info;
	EQ(sigwaitinfo(&set, &info), SIGCHLD);
	EQ(info.si_code, CLD_EXITED);
	EQ(info.si_pid, pid);
	EQ(info.si_uid, getuid());
	EQ(info.si_status, 23);
	EQ(wait_exit(pid), 23);
}

CHECK(sigchld_info_stop_continue_kill)
{
	sigset_t set = sigset_of(SIGCHLD);
	block_signal(SIGCHLD);
	siginfo_t info;
	CHILD(pid) for (;;)
		pause();
	OK(kill(pid, SIGSTOP));
	EQ(sigwaitinfo(&set, &info), SIGCHLD);
	EQ(info.si_code, CLD_STOPPED);
	EQ(info.si_status, SIGSTOP);
	OK(kill(pid, SIGCONT));
	EQ(sigwaitinfo(&set, &info), SIGCHLD);
	EQ(info.si_code, CLD_CONTINUED);
	EQ(info.si_status, SIGCONT);
	OK(kill(pid, SIGKILL));
	EQ(sigwaitinfo(&set, &info), SIGCHLD);
	EQ(info.si_code, CLD_KILLED);
	EQ(info.si_status, SIGKILL);
	EQ(info.si_pid, pid);
	EQ(wait_exit(pid), 128 + SIGKILL);
}

CHECK(nocldstop_hides_stops)
{
	on_signal_flags(SIGCHLD, count, SA_NOCLDSTOP);
	CHILD(pid) for (;;)
		pause();
	OK(kill(pid, SIGSTOP));
	int status;
	while (waitpid(pid, &status, WUNTRACED) != pid)
		;
	OK(kill(pid, SIGCONT));
	while (waitpid(pid, &status, WCONTINUED) != pid)
		;
	EQ(hits, 0);
	OK(kill(pid, SIGKILL));
	wait_status(pid);
	EQ(hits, 1);
}

CHECK(nocldwait_leaves_no_zombie)
{
	on_signal_flags(SIGCHLD, count, SA_NOCLDWAIT);
	CHILD(pid) _exit(1);
	int got;
	do
		got = waitpid(pid, NULL, 0);
	while (got == -1 && errno == EINTR);
	EQ(got, -1);
	EQ(errno, ECHILD);
	EQ(hits, 1);
}

static char *alt_stack;
static volatile sig_atomic_t ran_on_alt;

static void on_alt(int sig)
{
	(void)sig;
	char here;
	stack_t ss;
	sigaltstack(NULL, &ss);
	ran_on_alt = &here >= alt_stack && &here < alt_stack + 65536 && (ss.ss_flags & SS_ONSTACK);
	ss.ss_flags = SS_DISABLE;
	/* The active stack cannot be changed. */
	if (sigaltstack(&ss, NULL) != -1 || errno != EPERM)
		ran_on_alt = 0;
}

static void set_alt_stack(int flags)
{
	alt_stack = OK(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	stack_t ss = { .ss_sp = alt_stack, .ss_size = 65536, .ss_flags = flags };
	OK(sigaltstack(&ss, NULL));
}

CHECK(altstack_is_used)
{
	set_alt_stack(0);
	on_signal_flags(SIGUSR1, on_alt, SA_ONSTACK);
	OK(raise(SIGUSR1));
	EQ(ran_on_alt, 1);
	on_signal_flags(SIGUSR1, on_alt, 0);
	OK(raise(SIGUSR1));
	EQ(ran_on_alt, 0);
}

CHECK(altstack_rules)
{
	stack_t ss = { .ss_sp = malloc(65536), .ss_size = 100 }, old;
	ERR(sigaltstack(&ss, NULL), ENOMEM);
	ss.ss_size = 65536;
	ss.ss_flags = 0x40;
	ERR(sigaltstack(&ss, NULL), EINVAL);
	ss.ss_flags = 0;
	OK(sigaltstack(&ss, &old));
	EQ(old.ss_flags, SS_DISABLE);
	OK(sigaltstack(NULL, &old));
	EQ(old.ss_sp, ss.ss_sp);
	EQ(old.ss_size, 65536);
	EQ(old.ss_flags, 0);
	CHILD(pid) {
		OK(sigaltstack(NULL, &old));
		EQ(old.ss_size, 65536);
	}
	REAP(pid);
	ss.ss_flags = SS_DISABLE;
	OK(sigaltstack(&ss, NULL));
	OK(sigaltstack(NULL, &old));
	EQ(old.ss_flags, SS_DISABLE);
}

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif
static volatile int flags_in_handler;

static void see_alt_flags(int sig)
{
	(void)sig;
	stack_t ss;
	sigaltstack(NULL, &ss);
	flags_in_handler = ss.ss_flags;
}

CHECK(altstack_autodisarm)
{
	stack_t old;
	set_alt_stack(SS_AUTODISARM);
	on_signal_flags(SIGUSR1, see_alt_flags, SA_ONSTACK);
	OK(raise(SIGUSR1));
	EQ(flags_in_handler, SS_DISABLE);
	OK(sigaltstack(NULL, &old));
	EQ((unsigned)old.ss_flags, SS_AUTODISARM);
}

__attribute__((noinline)) static int recurse(int n)
{
	volatile char pad[4096];
	pad[0] = n;
	return n <= 0 ? 0 : recurse(n + 1) + pad[0];
}

CHECK(stack_overflow_on_altstack)
{
	set_alt_stack(0);
	on_signal_flags(SIGSEGV, jump_out, SA_ONSTACK);
	if (sigsetjmp(jump, 1) == 0) {
		recurse(1);
		FAIL("unlimited recursion returned");
	}
	/* And once more: the mask came back. */
	if (sigsetjmp(jump, 1) == 0) {
		recurse(1);
		FAIL("unlimited recursion returned");
	}
}

CHECK(siglongjmp_restores_mask)
{
	sigset_t mask;
	on_signal_flags(SIGUSR1, jump_out, 0);
	for (volatile int i = 0; i < 10; i++) {
		int sig = sigsetjmp(jump, 1);
		if (sig == 0) {
			raise(SIGUSR1);
			FAIL("the handler returned");
		}
		EQ(sig, SIGUSR1);
	}
	OK(sigprocmask(SIG_SETMASK, NULL, &mask));
	EXPECT(!sigismember(&mask, SIGUSR1));
}

CHECK(fork_clears_pending)
{
	sigset_t pending;
	block_signal(SIGUSR1);
	OK(raise(SIGUSR1));
	CHILD(pid) {
		OK(sigpending(&pending));
		EXPECT(!sigismember(&pending, SIGUSR1));
		sigset_t mask;
		OK(sigprocmask(SIG_SETMASK, NULL, &mask));
		EXPECT(sigismember(&mask, SIGUSR1));
	}
	REAP(pid);
	OK(sigpending(&pending));
	EXPECT(sigismember(&pending, SIGUSR1));
}

CHECK(fork_inherits_handlers)
{
	on_signal_flags(SIGUSR1, count, 0);
	CHILD(pid) {
		OK(raise(SIGUSR1));
		EQ(hits, 1);
	}
	REAP(pid);
	EQ(hits, 0);
}

CHECK(pending_limit)
{
	struct rlimit lim = { 5, 5 };
	OK(setrlimit(RLIMIT_SIGPENDING, &lim));
	block_signal(SIGRTMIN);
	int sent = 0;
	while (sent < 1000 && sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = sent }) == 0)
		sent++;
	EXPECT(sent <= 5);
	EQ(errno, EAGAIN);
}

CHECK(many_realtime_signals)
{
	on_signal_flags(SIGRTMIN, count, 0);
	block_signal(SIGRTMIN);
	for (int i = 0; i < 500; i++)
		OK(raise(SIGRTMIN));
	unblock_all();
	EQ(hits, 500);
}

CHECK(signal_ping_pong)
{
	sigset_t set = sigset_of(SIGUSR1);
	block_signal(SIGUSR1);
	pid_t self = getpid();
	CHILD(pid) for (int i = 0; i < 200; i++) {
		EQ(sigwaitinfo(&set, NULL), SIGUSR1);
		OK(kill(self, SIGUSR1));
	}
	for (int i = 0; i < 200; i++) {
		OK(kill(pid, SIGUSR1));
		EQ(sigwaitinfo(&set, NULL), SIGUSR1);
	}
	REAP(pid);
}

CHECK(handler_sees_interrupted_spin)
{
	on_signal_flags(SIGUSR1, count, 0);
	pid_t self = getpid();
	CHILD(pid) OK(kill(self, SIGUSR1));
	while (!hits)
		;
	REAP(pid);
}

CHECK(handler_may_fork)
{
	on_signal_flags(SIGUSR1, count, 0);
	CHILD(pid) {
		OK(raise(SIGUSR1));
		_exit(hits);
	}
	EQ(wait_exit(pid), 1);
}
