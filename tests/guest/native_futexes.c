/*
 * Private futexes. They may be done without a kernel's help, so everything that breaks into a wait is tried: signals, stops,
 * ends, programs that replace others, tracers. Each wait is made from one site, before it was called often and after.
 */
#include "check.h"
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <time.h>

enum { OFTEN = 200 };

static long futex(int *word, int op, int val, const void *timeout, int *word2, int val3)
{
	long result;
	register const void *r10 __asm__("r10") = timeout;
	register int *r8 __asm__("r8") = word2;
	register long r9 __asm__("r9") = val3;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(SYS_futex), "D"(word), "S"(op), "d"(val), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

static __attribute__((noinline)) long wait_on(int *word, int val, const struct timespec *timeout)
{
	return futex(word, FUTEX_WAIT_PRIVATE, val, timeout, NULL, 0);
}

static __attribute__((noinline)) long wake(int *word, int count)
{
	return futex(word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* Has the sites used often enough that they may be made faster. */
static void warm_up(void)
{
	int word = 0;
	struct timespec short_time = { 0, 1 };
	for (int i = 0; i < OFTEN; i++) {
		EQ(wait_on(&word, 1, NULL), -EAGAIN);
		EQ(wait_on(&word, 0, &short_time), -ETIMEDOUT);
		EQ(wake(&word, 1), 0);
	}
}

static long long now(clockid_t clock)
{
	struct timespec at;
	OK(clock_gettime(clock, &at));
	return at.tv_sec * 1000000000LL + at.tv_nsec;
}

struct waiter {
	pthread_t thread;
	volatile pid_t tid;
	int *word;
	int val;
	const struct timespec *timeout;
	volatile long result;
};

static void *waits(void *arg)
{
	struct waiter *w = arg;
	w->tid = gettid();
	w->result = wait_on(w->word, w->val, w->timeout);
	return NULL;
}

static void begin(struct waiter *w)
{
	EQ(pthread_create(&w->thread, NULL, waits, w), 0);
	while (!w->tid)
		sched_yield();
	await_task_state(getpid(), w->tid, 'S');
}

static long end(struct waiter *w)
{
	EQ(pthread_join(w->thread, NULL), 0);
	return w->result;
}

CHECK(waiters_sleep_and_are_woken_in_order)
{
	for (int round = 0; round < 2; round++) {
		int word = 0;
		struct waiter w[3] = { { .word = &word }, { .word = &word }, { .word = &word } };
		for (int i = 0; i < 3; i++)
			begin(&w[i]);
		for (int i = 0; i < 3; i++) {
			w[i].result = 1;
			EQ(wake(&word, 1), 1);
			EQ(end(&w[i]), 0);
		}
		EQ(wake(&word, 1), 0);
		warm_up();
	}
}

CHECK(requeue_and_wake_op)
{
	warm_up();
	int from = 0, to = 0;
	struct waiter w[4];
	for (int i = 0; i < 4; i++) {
		w[i] = (struct waiter){ .word = &from };
		begin(&w[i]);
	}
	EQ(futex(&from, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2L, &to, 5), -EAGAIN);
	EQ(futex(&from, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2L, &to, 0), 3);
	EQ(end(&w[0]), 0);
	EQ(wake(&to, 1), 1);
	EQ(end(&w[1]), 0);
	EQ(futex(&from, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1L, &to, FUTEX_OP(FUTEX_OP_ADD, 7, FUTEX_OP_CMP_EQ, 0)), 2);
	EQ(to, 7);
	EQ(end(&w[2]), 0);
	EQ(end(&w[3]), 0);
}

static volatile int handled;

static void on_handled(int sig)
{
	(void)sig;
	handled++;
}

CHECK(signals_with_and_without_restart)
{
	for (int round = 0; round < 2; round++) {
		int word = 0;
		struct waiter w = { .word = &word };
		on_signal_flags(SIGUSR1, on_handled, 0);
		begin(&w);
		OK(pthread_kill(w.thread, SIGUSR1));
		EQ(end(&w), -EINTR);

		on_signal_flags(SIGUSR1, on_handled, SA_RESTART);
		w = (struct waiter){ .word = &word };
		begin(&w);
		for (int i = 0; i < 5; i++) {
			int before = handled;
			OK(pthread_kill(w.thread, SIGUSR1));
			while (handled == before)
				sched_yield();
			await_task_state(getpid(), w.tid, 'S');
		}
		EQ(wake(&word, 1), 1);
		EQ(end(&w), 0);

		/* With a timeout there is no restart. */
		struct timespec long_time = { 100, 0 };
		w = (struct waiter){ .word = &word, .timeout = &long_time };
		begin(&w);
		OK(pthread_kill(w.thread, SIGUSR1));
		EQ(end(&w), -EINTR);
		warm_up();
	}
}

CHECK(what_runs_no_handler_neither_ends_nor_prolongs)
{
	warm_up();
	signal(SIGUSR1, SIG_IGN);
	int word = 0;
	struct timespec time = { 0, 300000000 };
	long long start = now(CLOCK_MONOTONIC);
	struct waiter w = { .word = &word, .timeout = &time };
	begin(&w);
	while (now(CLOCK_MONOTONIC) - start < 200000000) {
		pthread_kill(w.thread, SIGUSR1);
		pthread_kill(w.thread, SIGWINCH);
		sched_yield();
	}
	EQ(end(&w), -ETIMEDOUT);
	long long took = now(CLOCK_MONOTONIC) - start;
	EXPECT(took >= 300000000);
}

CHECK(timeouts)
{
	int word = 0;
	for (int i = 0; i < OFTEN; i++) {
		struct timespec bad = { 0, 1000000000 }, past = { 1, 0 }, soon = { 0, 1000000 };
		long long start = now(CLOCK_MONOTONIC);
		EQ(wait_on(&word, 0, &soon), -ETIMEDOUT);
		EXPECT(now(CLOCK_MONOTONIC) - start >= 1000000);
		EQ(wait_on(&word, 0, &bad), -EINVAL);
		EQ(wait_on(&word, 0, (void *)BAD_PTR), -EFAULT);
		EQ(wait_on(BAD_PTR, 0, NULL), -EFAULT);
		EQ(wait_on((int *)((char *)&word + 1), 0, NULL), -EINVAL);
		for (int real = 0; real < 2; real++) {
			clockid_t clock = real ? CLOCK_REALTIME : CLOCK_MONOTONIC;
			int op = FUTEX_WAIT_BITSET_PRIVATE | (real ? FUTEX_CLOCK_REALTIME : 0);
			long long until = now(clock) + 1000000;
			struct timespec at = { until / 1000000000, until % 1000000000 };
			EQ(futex(&word, op, 0, &at, NULL, -1), -ETIMEDOUT);
			EXPECT(now(clock) >= until);
			EQ(futex(&word, op, 0, &past, NULL, -1), -ETIMEDOUT);
			EQ(futex(&word, op, 0, &at, NULL, 0), -EINVAL);
		}
		EQ(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 1, NULL, NULL, 0), -EINVAL);
		EQ(futex(&word, FUTEX_REQUEUE_PRIVATE, 1, (void *)-1L, &word, 0), -EINVAL);
		EQ(futex(&word, 99 | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0), -ENOSYS);
	}
}

CHECK(processes_do_not_share_private_futexes)
{
	warm_up();
	int *word = OK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	struct waiter w = { .word = word };
	begin(&w);
	CHILD(other)
	{
		EQ(wake(word, 9), 0);
		EQ(futex(word, FUTEX_WAKE, 9, NULL, NULL, 0), 0);
	}
	REAP(other);
	EQ(futex(word, FUTEX_WAKE, 9, NULL, NULL, 0), 0);
	EQ(wake(word, 9), 1);
	EQ(end(&w), 0);
}

CHECK(stop_and_continue)
{
	warm_up();
	struct gate ready = gate_new();
	CHILD(stopped)
	{
		int word = 0;
		struct timespec time = { 0, 500000000 };
		gate_open(ready);
		/* Once without an end, which comes from another thread after the stop. */
		EQ(wait_on(&word, 0, &time), -ETIMEDOUT);
	}
	gate_wait(ready);
	await_state(stopped, 'S');
	OK(kill(stopped, SIGSTOP));
	int status;
	EQ(waitpid(stopped, &status, WUNTRACED), stopped);
	EXPECT(WIFSTOPPED(status));
	await_state(stopped, 'T');
	OK(kill(stopped, SIGCONT));
	REAP(stopped);
}

static int forever;

static void *waits_forever(void *arg)
{
	*(volatile pid_t *)arg = gettid();
	wait_on(&forever, 0, NULL);
	return NULL;
}

static void leave_waiting(void)
{
	for (int i = 0; i < 3; i++) {
		pthread_t thread;
		static volatile pid_t tid;
		tid = 0;
		EQ(pthread_create(&thread, NULL, waits_forever, (void *)&tid), 0);
		while (!tid)
			sched_yield();
		await_task_state(getpid(), tid, 'S');
	}
}

CHECK(exit_with_waiting_threads)
{
	warm_up();
	CHILD(exits)
	{
		leave_waiting();
		_exit(7);
	}
	EQ(wait_exit(exits), 7);
	CHILD(killed)
	{
		leave_waiting();
		raise(SIGKILL);
	}
	EQ(wait_exit(killed), 128 + SIGKILL);
}

static int execed(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return 5;
}

__attribute__((constructor)) static void set_entry(void)
{
	check_exec_entry = execed;
}

static void *execs(void *arg)
{
	char *const args[] = { "native_futexes", "@", NULL };
	execv("/proc/self/exe", args);
	return arg;
}

CHECK(exec_with_waiting_threads)
{
	warm_up();
	for (int from_thread = 0; from_thread < 2; from_thread++) {
		CHILD(replaced)
		{
			leave_waiting();
			if (!from_thread)
				execs(NULL);
			pthread_t thread;
			EQ(pthread_create(&thread, NULL, execs, NULL), 0);
			wait_on(&forever, 0, NULL);
			_exit(9);
		}
		EQ(wait_exit(replaced), 5);
	}
}

/* A call that looks at several futexes meets those who wake one. */
struct waitv {
	uint64_t val, uaddr;
	uint32_t flags, reserved;
};

static void *waits_for_two(void *arg)
{
	struct waiter *w = arg;
	static int never;
	struct waitv both[] = { { 0, (uint64_t)&never, FUTEX_32 | FUTEX_PRIVATE_FLAG, 0 },
				{ 0, (uint64_t)w->word, FUTEX_32 | FUTEX_PRIVATE_FLAG, 0 } };
	w->tid = gettid();
	w->result = syscall(SYS_futex_waitv, both, 2, 0, NULL, 0);
	return NULL;
}

CHECK(waitv_and_wake_meet)
{
	warm_up();
	int word = 0, other = 0;
	struct waiter before = { .word = &other }, w = { .word = &word };
	begin(&before);
	EQ(pthread_create(&w.thread, NULL, waits_for_two, &w), 0);
	while (!w.tid)
		sched_yield();
	await_task_state(getpid(), w.tid, 'S');
	EQ(wake(&word, 1), 1);
	EQ(end(&w), 1);
	/* Who waited before is not forgotten: it is woken, or was told to look again. */
	wake(&other, 1);
	EQ(end(&before), 0);
}

CHECK(a_tracer_may_come)
{
	warm_up();
	struct gate ready = gate_new();
	CHILD(traced)
	{
		int word = 0;
		struct waiter w = { .word = &word };
		begin(&w);
		gate_open(ready);
		long result = wait_on(&forever, 0, &(struct timespec){ 0, 300000000 });
		EXPECT(result == -ETIMEDOUT || result == 0);
		__atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
		wake(&word, 1);
		result = end(&w);
		EXPECT(result == 0 || result == -EAGAIN);
	}
	gate_wait(ready);
	await_state(traced, 'S');
	OK(ptrace(PTRACE_ATTACH, traced, 0, 0));
	int status;
	EQ(waitpid(traced, &status, 0), traced);
	EXPECT(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	for (int i = 0; i < 8; i++) {
		OK(ptrace(PTRACE_SYSCALL, traced, 0, 0));
		EQ(waitpid(traced, &status, 0), traced);
		if (!WIFSTOPPED(status))
			break;
	}
	if (WIFSTOPPED(status))
		OK(ptrace(PTRACE_DETACH, traced, 0, 0));
	if (!WIFEXITED(status))
		status = wait_status(traced);
	EQ(status, 0);
}

/* Turns of two threads, with signals that break in at any moment: no wake is lost and no call made twice. */
static int turn;

static void *takes_turns(void *arg)
{
	long me = (long)arg;
	for (int i = 0; i < 3000; i++) {
		int seen;
		while (((seen = __atomic_load_n(&turn, __ATOMIC_SEQ_CST)) & 1) != me) {
			long result = wait_on(&turn, seen, NULL);
			EXPECT(result == 0 || result == -EAGAIN || result == -EINTR);
		}
		__atomic_fetch_add(&turn, 1, __ATOMIC_SEQ_CST);
		wake(&turn, 1);
	}
	return NULL;
}

/* Each signal asks for the next: between two of them there is time to go on, however slow the machine. */
static atomic_bool storm;

static void on_storm(int signal)
{
	on_handled(signal);
	struct itimerval soon = { .it_value = { 0, 300 } };
	if (storm)
		setitimer(ITIMER_REAL, &soon, NULL);
}

CHECK(turns_under_a_storm_of_signals)
{
	for (int restart = 0; restart < 2; restart++) {
		on_signal_flags(SIGALRM, on_storm, restart ? SA_RESTART : 0);
		storm = true;
		on_storm(SIGALRM);
		pthread_t other;
		turn = 0;
		EQ(pthread_create(&other, NULL, takes_turns, (void *)1L), 0);
		takes_turns((void *)0L);
		EQ(pthread_join(other, NULL), 0);
		storm = false;
		EQ(turn, 6000);
	}
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int queued, taken;

static void *consumes(void *arg)
{
	pthread_mutex_lock(&mutex);
	while (taken < 2000) {
		struct timespec at;
		clock_gettime(CLOCK_REALTIME, &at);
		at.tv_sec += 10;
		while (!queued && taken < 2000)
			EQ(pthread_cond_timedwait(&changed, &mutex, &at), 0);
		if (queued)
			queued--, taken++;
		pthread_cond_broadcast(&changed);
	}
	pthread_mutex_unlock(&mutex);
	return arg;
}

CHECK(condition_variables)
{
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		EQ(pthread_create(&threads[i], NULL, consumes, NULL), 0);
	for (int i = 0; i < 2000; i++) {
		pthread_mutex_lock(&mutex);
		queued++;
		pthread_cond_signal(&changed);
		pthread_mutex_unlock(&mutex);
	}
	for (int i = 0; i < 4; i++)
		EQ(pthread_join(threads[i], NULL), 0);
	EQ(taken, 2000);
}
