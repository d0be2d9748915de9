/* Threads: clone(2) with CLONE_THREAD, pthreads(7), tgkill(2), exit_group(2), robust futexes. */
#include "check.h"
#include <linux/futex.h>
#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long counter;
static volatile sig_atomic_t hits;
static volatile pid_t handler_tid;

static pid_t my_tid(void)
{
	return syscall(SYS_gettid);
}

/* A join only waits for the cleared thread id; the thread itself goes a moment later. */
static void await_thread_gone(pid_t tid)
{
	while (syscall(SYS_tgkill, getpid(), tid, 0) == 0)
		sched_yield();
	EQ(errno, ESRCH);
}

static void note_thread(int sig)
{
	(void)sig;
	handler_tid = my_tid();
	hits++;
}

static void *add_many(void *arg)
{
	for (int i = 0; i < 2000; i++) {
		pthread_mutex_lock(&lock);
		counter++;
		pthread_mutex_unlock(&lock);
	}
	return arg;
}

static void *echo(void *arg)
{
	return arg;
}

static void *pause_forever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

CHECK(create_and_join)
{
	pthread_t thread;
	void *result;
	for (long i = 0; i < 100; i++) {
		EQ(pthread_create(&thread, NULL, echo, (void *)i), 0);
		EQ(pthread_join(thread, &result), 0);
		EQ(result, i);
	}
}

CHECK(two_hundred_threads)
{
	pthread_t threads[200];
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	for (long i = 0; i < 200; i++)
		EQ(pthread_create(&threads[i], &attr, add_many, (void *)i), 0);
	for (long i = 0; i < 200; i++) {
		void *result;
		EQ(pthread_join(threads[i], &result), 0);
		EQ(result, i);
	}
	EQ(counter, 200 * 2000);
}

CHECK(mutex_contention)
{
	pthread_t threads[8];
	for (int i = 0; i < 8; i++)
		EQ(pthread_create(&threads[i], NULL, add_many, NULL), 0);
	for (int i = 0; i < 8; i++)
		EQ(pthread_join(threads[i], NULL), 0);
	EQ(counter, 8 * 2000);
}

static int queue[4], queued, taken, sum;

static void *consume(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&lock);
	for (;;) {
		while (queued == 0 && taken < 1000)
			pthread_cond_wait(&cond, &lock);
		if (taken >= 1000)
			break;
		sum += queue[--queued];
		taken++;
		pthread_cond_broadcast(&cond);
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

CHECK(condition_variable_queue)
{
	pthread_t threads[3];
	for (int i = 0; i < 3; i++)
		EQ(pthread_create(&threads[i], NULL, consume, NULL), 0);
	for (int i = 1; i <= 1000; i++) {
		pthread_mutex_lock(&lock);
		while (queued == 4)
			pthread_cond_wait(&cond, &lock);
		queue[queued++] = i;
		pthread_cond_broadcast(&cond);
		pthread_mutex_unlock(&lock);
	}
	for (int i = 0; i < 3; i++)
		EQ(pthread_join(threads[i], NULL), 0);
	EQ(sum, 1000 * 1001 / 2);
}

static pthread_barrier_t barrier;
static int phase_count[50];

static void *barrier_rounds(void *arg)
{
	for (int i = 0; i < 50; i++) {
		__sync_fetch_and_add(&phase_count[i], 1);
		pthread_barrier_wait(&barrier);
		if (phase_count[i] != 5)
			return (void *)1;
		pthread_barrier_wait(&barrier);
	}
	return arg;
}

CHECK(barriers)
{
	pthread_t threads[5];
	pthread_barrier_init(&barrier, NULL, 5);
	for (int i = 0; i < 5; i++)
		EQ(pthread_create(&threads[i], NULL, barrier_rounds, NULL), 0);
	for (int i = 0; i < 5; i++) {
		void *result;
		EQ(pthread_join(threads[i], &result), 0);
		EQ(result, 0);
	}
}

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static long guarded_a, guarded_b;

static void *read_and_write(void *arg)
{
	for (int i = 0; i < 500; i++) {
		if (i % 5 == 0) {
			pthread_rwlock_wrlock(&rwlock);
			guarded_a++;
			guarded_b++;
		} else {
			pthread_rwlock_rdlock(&rwlock);
			if (guarded_a != guarded_b)
				arg = (void *)1;
		}
		pthread_rwlock_unlock(&rwlock);
	}
	return arg;
}

CHECK(reader_writer_lock)
{
	pthread_t threads[6];
	for (int i = 0; i < 6; i++)
		EQ(pthread_create(&threads[i], NULL, read_and_write, NULL), 0);
	for (int i = 0; i < 6; i++) {
		void *result;
		EQ(pthread_join(threads[i], &result), 0);
		EQ(result, 0);
	}
	EQ(guarded_a, 600);
}

static __thread int local = 5;

static void *change_local(void *arg)
{
	local += 1;
	return (void *)(long)(arg == &local ? -1 : local);
}

CHECK(thread_local_storage)
{
	pthread_t thread;
	void *result;
	local = 50;
	EQ(pthread_create(&thread, NULL, change_local, &local), 0);
	EQ(pthread_join(thread, &result), 0);
	EQ(result, 6);
	EQ(local, 50);
}

static void *store_ids(void *arg)
{
	pid_t *ids = arg;
	ids[0] = getpid();
	ids[1] = my_tid();
	ids[2] = getppid();
	return NULL;
}

CHECK(ids_in_threads)
{
	pid_t ids[3];
	pthread_t thread;
	EQ(pthread_create(&thread, NULL, store_ids, ids), 0);
	EQ(pthread_join(thread, NULL), 0);
	EQ(ids[0], getpid());
	NE(ids[1], getpid());
	EQ(ids[2], getppid());
	EQ(my_tid(), getpid());
}

CHECK(clear_child_tid_wakes)
{
	static char stack[65536] __attribute__((aligned(16)));
	static volatile pid_t tid_word;
	int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
		    CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
	/* The new thread shares everything: it only does one system call, from assembly. */
	long tid;
	register long r10 __asm__("r10") = (long)&tid_word;
	register long r8 __asm__("r8") = 0;
	__asm__ volatile("syscall; test %%rax, %%rax; jnz 1f; mov $60, %%eax; xor %%edi, %%edi; syscall; 1:"
			 : "=a"(tid)
			 : "a"(SYS_clone), "D"((long)flags), "S"(stack + sizeof stack), "d"(&tid_word), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	EXPECT(tid > 0);
	pid_t seen;
	while ((seen = tid_word) != 0) {
		EQ(seen, tid);
		syscall(SYS_futex, &tid_word, FUTEX_WAIT, seen, NULL, NULL, 0);
	}
	await_thread_gone(tid);
}

CHECK(threads_share_files_and_cwd)
{
	pthread_t thread;
	OK(mkdir("d", 0755));
	write_file("d/f", "");
	EQ(pthread_create(&thread, NULL, (void *(*)(void *))(void *)chdir, "d"), 0);
	EQ(pthread_join(thread, NULL), 0);
	OK(access("f", F_OK));
	int fd = OK(open("f", O_RDONLY));
	EQ(pthread_create(&thread, NULL, (void *(*)(void *))(void *)close, (void *)(long)fd), 0);
	EQ(pthread_join(thread, NULL), 0);
	ERR(fcntl(fd, F_GETFD), EBADF);
}

struct target {
	pid_t tid;
	struct gate ready;
	struct gate go;
};

static void *announce_and_wait(void *arg)
{
	struct target *t = arg;
	t->tid = my_tid();
	gate_open(t->ready);
	gate_wait(t->go);
	return NULL;
}

CHECK(tgkill_reaches_that_thread)
{
	struct target t = { 0, gate_new(), gate_new() };
	pthread_t thread;
	on_signal_flags(SIGUSR1, note_thread, SA_RESTART);
	EQ(pthread_create(&thread, NULL, announce_and_wait, &t), 0);
	gate_wait(t.ready);
	OK(syscall(SYS_tgkill, getpid(), t.tid, SIGUSR1));
	while (!hits)
		sched_yield();
	EQ(handler_tid, t.tid);
	ERR(syscall(SYS_tgkill, t.tid, t.tid, 0), ESRCH);
	/* kill() of a thread id reaches the whole process. */
	OK(kill(t.tid, 0));
	gate_open(t.go);
	EQ(pthread_join(thread, NULL), 0);
	await_thread_gone(t.tid);
}

CHECK(process_signal_goes_to_an_unblocked_thread)
{
	struct target t = { 0, gate_new(), gate_new() };
	pthread_t thread;
	on_signal_flags(SIGUSR1, note_thread, SA_RESTART);
	EQ(pthread_create(&thread, NULL, announce_and_wait, &t), 0);
	gate_wait(t.ready);
	block_signal(SIGUSR1);
	OK(kill(getpid(), SIGUSR1));
	while (!hits)
		sched_yield();
	EQ(handler_tid, t.tid);
	gate_open(t.go);
	EQ(pthread_join(thread, NULL), 0);
}

static void *mask_of_thread(void *arg)
{
	pthread_sigmask(SIG_SETMASK, NULL, arg);
	return NULL;
}

CHECK(signal_mask_is_inherited_per_thread)
{
	pthread_t thread;
	sigset_t mask;
	block_signal(SIGUSR2);
	EQ(pthread_create(&thread, NULL, mask_of_thread, &mask), 0);
	EQ(pthread_join(thread, NULL), 0);
	EXPECT(sigismember(&mask, SIGUSR2));
	EXPECT(!sigismember(&mask, SIGUSR1));
}

static void *pending_in_thread(void *arg)
{
	struct target *t = arg;
	sigset_t pending;
	block_signal(SIGUSR1);
	t->tid = my_tid();
	gate_open(t->ready);
	gate_wait(t->go);
	sigpending(&pending);
	return (void *)(long)sigismember(&pending, SIGUSR1);
}

CHECK(directed_signal_is_pending_for_one_thread_only)
{
	struct target t = { 0, gate_new(), gate_new() };
	pthread_t thread;
	void *result;
	sigset_t pending;
	block_signal(SIGUSR1);
	EQ(pthread_create(&thread, NULL, pending_in_thread, &t), 0);
	gate_wait(t.ready);
	OK(syscall(SYS_tgkill, getpid(), t.tid, SIGUSR1));
	OK(sigpending(&pending));
	EXPECT(!sigismember(&pending, SIGUSR1));
	gate_open(t.go);
	EQ(pthread_join(thread, &result), 0);
	EQ(result, 1);
}

static void *exit_group_now(void *arg)
{
	_exit((long)arg);
}

CHECK(exit_group_from_a_thread)
{
	CHILD(pid) {
		pthread_t threads[5];
		for (int i = 0; i < 4; i++)
			EQ(pthread_create(&threads[i], NULL, pause_forever, NULL), 0);
		EQ(pthread_create(&threads[4], NULL, exit_group_now, (void *)42), 0);
		for (;;)
			pause();
	}
	EQ(wait_exit(pid), 42);
}

static int closed_early[2];

static void *read_three(void *tid)
{
	char buf[10];
	__atomic_store_n((pid_t *)tid, gettid(), __ATOMIC_SEQ_CST);
	EQ(read(closed_early[0], buf, 10), 3);
	return NULL;
}

CHECK(a_blocked_read_keeps_its_file)
{
	OK(pipe(closed_early));
	pthread_t thread;
	pid_t tid = 0;
	EQ(pthread_create(&thread, NULL, read_three, &tid), 0);
	while (!__atomic_load_n(&tid, __ATOMIC_SEQ_CST))
		sched_yield();
	await_task_state(getpid(), tid, 'S');
	/* The number is free for another file, and the call goes on with the old one. */
	OK(close(closed_early[0]));
	EQ(open("/dev/null", O_RDONLY), closed_early[0]);
	EQ(write(closed_early[1], "abc", 3), 3);
	EQ(pthread_join(thread, NULL), 0);
}

static void *exit_thread_after_leader(void *arg)
{
	pid_t self = getpid();
	(void)arg;
	await_task_state(self, self, 'Z');
	_exit(33);
}

CHECK(leader_exits_first)
{
	CHILD(pid) {
		pthread_t thread;
		EQ(pthread_create(&thread, NULL, exit_thread_after_leader, NULL), 0);
		/* Only this thread: the process stays until the other one ends it. */
		syscall(SYS_exit, 5);
	}
	EQ(wait_exit(pid), 33);
}

CHECK(last_thread_gives_the_leaders_code)
{
	CHILD(pid) {
		/* Plain exit(2) of the only thread: its code is the process's. */
		syscall(SYS_exit, 21);
	}
	EQ(wait_exit(pid), 21);
}

static void *end_this_thread(void *arg)
{
	struct target *t = arg;
	gate_open(t->ready);
	syscall(SYS_exit, 77);
	return NULL;
}

CHECK(thread_exit_code_is_dropped)
{
	CHILD(pid) {
		struct target t = { 0, gate_new(), gate_new() };
		pthread_t thread;
		EQ(pthread_create(&thread, NULL, end_this_thread, &t), 0);
		gate_wait(t.ready);
		EQ(pthread_join(thread, NULL), 0);
		_exit(8);
	}
	EQ(wait_exit(pid), 8);
}

CHECK(fatal_signal_ends_all_threads)
{
	struct gate ready = gate_new();
	CHILD(pid) {
		pthread_t thread;
		for (int i = 0; i < 10; i++)
			EQ(pthread_create(&thread, NULL, pause_forever, NULL), 0);
		gate_open(ready);
		for (;;)
			pause();
	}
	gate_wait(ready);
	OK(kill(pid, SIGTERM));
	EQ(wait_exit(pid), 128 + SIGTERM);
}

static void *crash(void *arg)
{
	*(volatile int *)8 = 1;
	return arg;
}

CHECK(crash_of_one_thread_ends_the_process)
{
	CHILD(pid) {
		pthread_t thread;
		EQ(pthread_create(&thread, NULL, crash, NULL), 0);
		for (;;)
			pause();
	}
	EQ(wait_exit(pid), 128 + SIGSEGV);
}

CHECK(stop_and_continue_all_threads)
{
	struct gate ready = gate_new();
	CHILD(pid) {
		pthread_t thread;
		for (int i = 0; i < 5; i++)
			EQ(pthread_create(&thread, NULL, pause_forever, NULL), 0);
		gate_open(ready);
		for (;;)
			pause();
	}
	gate_wait(ready);
	int status;
	OK(kill(pid, SIGSTOP));
	EQ(waitpid(pid, &status, WUNTRACED), pid);
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/task", pid);
	DIR *d = opendir(path);
	EXPECT(d);
	struct dirent *e;
	int n = 0;
	while ((e = readdir(d)))
		if (e->d_name[0] != '.') {
			await_task_state(pid, atoi(e->d_name), 'T');
			n++;
		}
	closedir(d);
	EQ(n, 6);
	OK(kill(pid, SIGCONT));
	EQ(waitpid(pid, &status, WCONTINUED), pid);
	OK(kill(pid, SIGKILL));
	EQ(wait_exit(pid), 128 + SIGKILL);
}

static pthread_mutex_t robust;

static void *die_with_lock(void *arg)
{
	pthread_mutex_lock(&robust);
	return arg;
}

CHECK(robust_mutex_owner_died)
{
	pthread_mutexattr_t attr;
	pthread_t thread;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&robust, &attr);
	EQ(pthread_create(&thread, NULL, die_with_lock, NULL), 0);
	EQ(pthread_join(thread, NULL), 0);
	EQ(pthread_mutex_lock(&robust), EOWNERDEAD);
	EQ(pthread_mutex_consistent(&robust), 0);
	EQ(pthread_mutex_unlock(&robust), 0);
	EQ(pthread_mutex_lock(&robust), 0);
}

static pthread_mutex_t robusts[200];

static void *die_with_lock_of(void *arg)
{
	struct robust_list_head *head = NULL;
	size_t size = 0;
	OK(syscall(SYS_get_robust_list, 0, &head, &size));
	pthread_mutex_lock(arg);
	/* The list has something now. */
	EXPECT(head->list.next != &head->list);
	return arg;
}

CHECK(many_owners_die_one_after_another)
{
	pthread_mutexattr_t attr;
	pthread_t thread;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	for (int i = 0; i < 200; i++) {
		pthread_mutex_init(&robusts[i], &attr);
		EQ(pthread_create(&thread, NULL, die_with_lock_of, &robusts[i]), 0);
		EQ(pthread_join(thread, NULL), 0);
		EQ(pthread_mutex_lock(&robusts[i]), EOWNERDEAD);
	}
}

CHECK(none_of_the_lists_that_a_thread_named_is_left_behind)
{
	struct robust_list_head *own = NULL, *head = NULL, other = { { &other.list }, 0, NULL };
	size_t size = 0;
	OK(syscall(SYS_get_robust_list, 0, &own, &size));
	/* By one site, again and again, and by another. */
	for (int i = 0; i < 200; i++) {
		struct robust_list_head *named = i % 3 == 0 ? NULL : i % 3 == 1 ? &other : own;
		OK(syscall(SYS_set_robust_list, named, sizeof other));
		OK(syscall(SYS_get_robust_list, 0, &head, &size));
		EQ((long)head, (long)named);
	}
	OK(syscall(SYS_set_robust_list, &other, sizeof other));
	CHILD(pid) {
		OK(syscall(SYS_get_robust_list, 0, &head, &size));
		/* glibc names its own in a child, a bare one has none. */
		EXPECT(head != &other);
	}
	REAP(pid);
	OK(syscall(SYS_set_robust_list, own, sizeof other));
}

enum { MAPPERS = 40, MAPPED = 16 << 20 };

static pthread_barrier_t all_map;
static int mapped_file;

static void *map_the_file(void *arg)
{
	for (int i = 0; i < 4; i++) {
		pthread_barrier_wait(&all_map);
		/* To populate takes long: the others wait for it, in the middle of their own. */
		char *p = mmap(NULL, MAPPED, PROT_READ, MAP_SHARED | MAP_POPULATE, mapped_file, 0);
		EXPECT(p != MAP_FAILED && p[MAPPED - 1] == 'x');
		OK(munmap(p, MAPPED));
	}
	return arg;
}

CHECK(many_map_a_file_at_once)
{
	pthread_t threads[MAPPERS];
	mapped_file = OK(open("mapped", O_RDWR | O_CREAT, 0600));
	EQ(pwrite(mapped_file, "x", 1, MAPPED - 1), 1);
	pthread_barrier_init(&all_map, NULL, MAPPERS);
	for (long i = 0; i < MAPPERS; i++)
		EQ(pthread_create(&threads[i], NULL, map_the_file, (void *)i), 0);
	for (long i = 0; i < MAPPERS; i++)
		EQ(pthread_join(threads[i], NULL), 0);
}

static volatile bool storm_is_over;
static pthread_t in_the_storm;

static void *storm(void *arg)
{
	while (!storm_is_over)
		pthread_kill(in_the_storm, SIGUSR1);
	return arg;
}

CHECK(signals_break_into_neither_fork_nor_mmap)
{
	pthread_t threads[2];
	int fd = OK(open("/proc/self/exe", O_RDONLY));
	struct sigaction sa = { .sa_handler = note_thread, .sa_flags = SA_RESTART };
	OK(sigaction(SIGUSR1, &sa, NULL));
	in_the_storm = pthread_self();
	for (int i = 0; i < 2; i++)
		EQ(pthread_create(&threads[i], NULL, storm, NULL), 0);
	for (int i = 0; i < 300; i++) {
		void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
		EXPECT(p != MAP_FAILED);
		OK(munmap(p, 4096));
		if (i % 20 == 0) {
			pid_t pid = OK(fork());
			if (pid == 0)
				_exit(0);
			EQ(wait_exit(pid), 0);
		}
	}
	storm_is_over = true;
	for (int i = 0; i < 2; i++)
		EQ(pthread_join(threads[i], NULL), 0);
}

CHECK(robust_mutex_wakes_a_waiter_in_another_process)
{
	pthread_mutex_t *m = OK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	pthread_mutexattr_t attr;
	struct gate ready = gate_new();
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(m, &attr);
	pid_t self = getpid();
	CHILD(pid) {
		EQ(pthread_mutex_lock(m), 0);
		gate_open(ready);
		await_state(self, 'S');
		/* Dies with the lock held. */
	}
	gate_wait(ready);
	EQ(pthread_mutex_lock(m), EOWNERDEAD);
	REAP(pid);
}

CHECK(robust_list_syscalls)
{
	struct robust_list_head *head = NULL;
	size_t size = 0;
	OK(syscall(SYS_get_robust_list, 0, &head, &size));
	EQ(size, 24);
	ERR(syscall(SYS_set_robust_list, head, 23), EINVAL);
	OK(syscall(SYS_set_robust_list, head, 24));
	ERR(syscall(SYS_get_robust_list, 0x3fffffff, &head, &size), ESRCH);
}

static void cleanup(void *arg)
{
	*(int *)arg = 1;
}

static void *cancellable(void *arg)
{
	struct target *t = arg;
	static int cleaned;
	pthread_cleanup_push(cleanup, &cleaned);
	t->tid = my_tid();
	gate_open(t->ready);
	pause();
	pthread_cleanup_pop(0);
	return NULL;
}

CHECK(cancellation)
{
	struct target t = { 0, gate_new(), gate_new() };
	pthread_t thread;
	void *result;
	EQ(pthread_create(&thread, NULL, cancellable, &t), 0);
	gate_wait(t.ready);
	EQ(pthread_cancel(thread), 0);
	EQ(pthread_join(thread, &result), 0);
	EQ(result, PTHREAD_CANCELED);
}

static void *fork_in_thread(void *arg)
{
	(void)arg;
	pid_t pid = fork();
	if (pid == 0)
		_exit(my_tid() == getpid() ? 4 : 5);
	int status;
	return (void *)(long)(waitpid(pid, &status, 0) == pid ? WEXITSTATUS(status) : 99);
}

CHECK(fork_from_a_thread)
{
	pthread_t thread;
	void *result;
	EQ(pthread_create(&thread, NULL, fork_in_thread, NULL), 0);
	EQ(pthread_join(thread, &result), 0);
	EQ(result, 4);
}

static volatile pid_t child_of_other;

static void *fork_and_stay(void *arg)
{
	struct target *t = arg;
	child_of_other = fork();
	if (child_of_other == 0)
		_exit(6);
	gate_open(t->ready);
	gate_wait(t->go);
	return NULL;
}

CHECK(wait_for_a_child_of_another_thread)
{
	struct target t = { 0, gate_new(), gate_new() };
	pthread_t thread;
	EQ(pthread_create(&thread, NULL, fork_and_stay, &t), 0);
	gate_wait(t.ready);
	ERR(waitpid(child_of_other, NULL, __WNOTHREAD), ECHILD);
	EQ(wait_exit(child_of_other), 6);
	gate_open(t.go);
	EQ(pthread_join(thread, NULL), 0);
}

static void *thread_name(void *arg)
{
	prctl(PR_SET_NAME, "worker");
	(void)arg;
	return NULL;
}

CHECK(names_are_per_thread)
{
	pthread_t thread;
	char before[17], after[17];
	OK(prctl(PR_GET_NAME, before));
	EQ(pthread_create(&thread, NULL, thread_name, NULL), 0);
	EQ(pthread_join(thread, NULL), 0);
	OK(prctl(PR_GET_NAME, after));
	STREQ(before, after);
}

CHECK(nptl_setuid_changes_all_threads)
{
	need_root();
	struct target t = { 0, gate_new(), gate_new() };
	pthread_t thread;
	EQ(pthread_create(&thread, NULL, announce_and_wait, &t), 0);
	gate_wait(t.ready);
	OK(setresuid(1001, 1001, 1001));
	char path[64], buf[4096];
	snprintf(path, sizeof path, "/proc/self/task/%d/status", t.tid);
	read_file(path, buf, sizeof buf);
	EXPECT(strstr(buf, "Uid:\t1001\t1001\t1001\t1001"));
	gate_open(t.go);
	EQ(pthread_join(thread, NULL), 0);
}

CHECK(nested_creation_chain)
{
	CHILD(pid) {
		for (int i = 0; i < 20; i++) {
			pthread_t thread;
			EQ(pthread_create(&thread, NULL, fork_in_thread, NULL), 0);
			void *result;
			EQ(pthread_join(thread, &result), 0);
			EQ(result, 4);
		}
	}
	REAP(pid);
}

CHECK(arch_prctl_fs_and_gs)
{
	unsigned long fs = 0, gs = 1;
	OK(syscall(SYS_arch_prctl, 0x1003, &fs));
	unsigned long self;
	__asm__("mov %%fs:0, %0" : "=r"(self));
	EQ(self, fs);
	static unsigned long there = 0xabcdef;
	OK(syscall(SYS_arch_prctl, 0x1001, &there));
	OK(syscall(SYS_arch_prctl, 0x1004, &gs));
	EQ(gs, &there);
	__asm__ volatile("mov %%gs:0, %0" : "=r"(self));
	EQ(self, 0xabcdef);
	ERR(syscall(SYS_arch_prctl, 0x1001, KERNEL_PTR), EPERM);
	ERR(syscall(SYS_arch_prctl, 0x7777, 0), EINVAL);
}
