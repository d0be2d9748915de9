/* futex(2) and futex_waitv(2), without the priority-inheritance operations. */
#include "check.h"
#include <linux/futex.h>
#include <pthread.h>
#include <time.h>

typedef uint32_t word;

static long futex(word *at, int op, uint32_t val, const void *timeout_or_val2, word *at2, uint32_t val3)
{
	return syscall(SYS_futex, at, op, val, timeout_or_val2, at2, val3);
}

static word *shared_words(void)
{
	return OK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
}

static struct timespec in_ns(clockid_t clock, long ns)
{
	struct timespec t;
	OK(clock_gettime(clock, &t));
	t.tv_nsec += ns;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

CHECK(wait_other_value)
{
	word w = 1;
	ERR(futex(&w, FUTEX_WAIT, 0, NULL, NULL, 0), EAGAIN);
	ERR(futex(&w, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0), EAGAIN);
}

CHECK(wake_nobody)
{
	word w = 0;
	EQ(futex(&w, FUTEX_WAKE, INT_MAX, NULL, NULL, 0), 0);
}

CHECK(bad_arguments)
{
	word w[2] = { 0 };
	struct timespec wrong = { 0, 1000000000 }, negative = { -1, 0 };
	ERR(futex((word *)((char *)w + 1), FUTEX_WAIT, 0, NULL, NULL, 0), EINVAL);
	ERR(futex((word *)((char *)w + 1), FUTEX_WAKE, 1, NULL, NULL, 0), EINVAL);
	ERR(futex(NULL, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
	ERR(futex(KERNEL_PTR, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
	ERR(futex(w, FUTEX_WAIT, 0, &wrong, NULL, 0), EINVAL);
	ERR(futex(w, FUTEX_WAIT, 0, &negative, NULL, 0), EINVAL);
	ERR(futex(w, FUTEX_WAIT, 0, BAD_PTR, NULL, 0), EFAULT);
	ERR(futex(w, 99, 0, NULL, NULL, 0), ENOSYS);
	ERR(futex(w, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0), EINVAL);
	ERR(futex(w, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0), EINVAL);
	ERR(futex(w, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, 0), ENOSYS);
}

CHECK(wait_on_unmapped_memory)
{
	word *w = shared_words();
	OK(munmap(w, 4096));
	ERR(futex(w, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
	ERR(futex(w, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), EFAULT);
}

CHECK(relative_timeout)
{
	word w = 0;
	struct timespec tick = { 0, 2000000 }, zero = { 0, 0 };
	ERR(futex(&w, FUTEX_WAIT, 0, &tick, NULL, 0), ETIMEDOUT);
	ERR(futex(&w, FUTEX_WAIT, 0, &zero, NULL, 0), ETIMEDOUT);
}

CHECK(absolute_timeout)
{
	word w = 0;
	struct timespec past = { 1, 0 };
	ERR(futex(&w, FUTEX_WAIT_BITSET, 0, &past, NULL, FUTEX_BITSET_MATCH_ANY), ETIMEDOUT);
	struct timespec soon = in_ns(CLOCK_MONOTONIC, 2000000);
	ERR(futex(&w, FUTEX_WAIT_BITSET, 0, &soon, NULL, FUTEX_BITSET_MATCH_ANY), ETIMEDOUT);
	soon = in_ns(CLOCK_REALTIME, 2000000);
	ERR(futex(&w, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &soon, NULL, FUTEX_BITSET_MATCH_ANY), ETIMEDOUT);
}

CHECK(wait_and_wake_across_processes)
{
	word *w = shared_words();
	CHILD(pid) OK(futex(w, FUTEX_WAIT, 0, NULL, NULL, 0));
	await_state(pid, 'S');
	w[0] = 1;
	EQ(futex(w, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
	REAP(pid);
}

CHECK(file_mapping_at_different_addresses)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
	OK(ftruncate(fd, 8192));
	word *a = OK(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	CHILD(pid) {
		word *b = OK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4096));
		OK(munmap(a, 8192));
		OK(futex(b + 3, FUTEX_WAIT, 0, NULL, NULL, 0));
	}
	await_state(pid, 'S');
	/* The next word and the private key are other futexes. */
	EQ(futex(a + 1024 + 2, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
	EQ(futex(a + 1024 + 3, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 0);
	EQ(futex(a + 1024 + 3, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
	REAP(pid);
}

CHECK(private_memory_is_apart_after_fork)
{
	static word w;
	struct gate done = gate_new();
	CHILD(pid) {
		struct timespec limit = { 0, 300000000 };
		ERR(futex(&w, FUTEX_WAIT, 0, &limit, NULL, 0), ETIMEDOUT);
		gate_open(done);
	}
	await_state(pid, 'S');
	EQ(futex(&w, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
	gate_wait(done);
	REAP(pid);
}

CHECK(wake_counts)
{
	word *w = shared_words();
	pid_t pids[5];
	for (int i = 0; i < 5; i++) {
		pids[i] = OK(fork());
		if (pids[i] == 0) {
			OK(futex(w, FUTEX_WAIT, 0, NULL, NULL, 0));
			_exit(0);
		}
	}
	for (int i = 0; i < 5; i++)
		await_state(pids[i], 'S');
	EQ(futex(w, FUTEX_WAKE, 2, NULL, NULL, 0), 2);
	EQ(futex(w, FUTEX_WAKE, INT_MAX, NULL, NULL, 0), 3);
	for (int i = 0; i < 5; i++)
		REAP(pids[i]);
}

CHECK(wake_in_order_of_waiting)
{
	word *w = shared_words();
	struct gate up = gate_new();
	pid_t pids[3];
	for (int i = 0; i < 3; i++) {
		pids[i] = OK(fork());
		if (pids[i] == 0) {
			OK(futex(w, FUTEX_WAIT, 0, NULL, NULL, 0));
			EQ(write(up.fd[1], &i, sizeof i), sizeof i);
			_exit(0);
		}
		await_state(pids[i], 'S');
	}
	for (int i = 0; i < 3; i++) {
		int who = -1;
		EQ(futex(w, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
		EQ(read(up.fd[0], &who, sizeof who), sizeof who);
		EQ(who, i);
	}
	for (int i = 0; i < 3; i++)
		REAP(pids[i]);
}

CHECK(bitset_selects_waiters)
{
	word *w = shared_words();
	CHILD(a) OK(futex(w, FUTEX_WAIT_BITSET, 0, NULL, NULL, 1));
	CHILD(b) OK(futex(w, FUTEX_WAIT_BITSET, 0, NULL, NULL, 2));
	await_state(a, 'S');
	await_state(b, 'S');
	EQ(futex(w, FUTEX_WAKE_BITSET, INT_MAX, NULL, NULL, 4), 0);
	EQ(futex(w, FUTEX_WAKE_BITSET, INT_MAX, NULL, NULL, 2), 1);
	REAP(b);
	EQ(futex(w, FUTEX_WAKE, INT_MAX, NULL, NULL, 0), 1);
	REAP(a);
}

CHECK(requeue_moves_waiters)
{
	word *w = shared_words();
	pid_t pids[4];
	for (int i = 0; i < 4; i++) {
		pids[i] = OK(fork());
		if (pids[i] == 0) {
			OK(futex(w, FUTEX_WAIT, 0, NULL, NULL, 0));
			_exit(0);
		}
	}
	for (int i = 0; i < 4; i++)
		await_state(pids[i], 'S');
	/* Wakes one and moves two: three in all. */
	EQ(futex(w, FUTEX_REQUEUE, 1, (void *)2, w + 1, 0), 3);
	EQ(futex(w + 1, FUTEX_WAKE, INT_MAX, NULL, NULL, 0), 2);
	EQ(futex(w, FUTEX_WAKE, INT_MAX, NULL, NULL, 0), 1);
	for (int i = 0; i < 4; i++)
		REAP(pids[i]);
}

CHECK(cmp_requeue_checks_the_value)
{
	word *w = shared_words();
	w[0] = 5;
	ERR(futex(w, FUTEX_CMP_REQUEUE, 1, (void *)1, w + 1, 4), EAGAIN);
	CHILD(pid) OK(futex(w, FUTEX_WAIT, 5, NULL, NULL, 0));
	await_state(pid, 'S');
	EQ(futex(w, FUTEX_CMP_REQUEUE, 0, (void *)1, w + 1, 5), 1);
	EQ(futex(w, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
	EQ(futex(w + 1, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
	REAP(pid);
	ERR(futex(w, FUTEX_REQUEUE, -1, (void *)1, w + 1, 0), EINVAL);
}

CHECK(wake_op)
{
	word *w = shared_words();
	CHILD(a) OK(futex(w, FUTEX_WAIT, 0, NULL, NULL, 0));
	CHILD(b) OK(futex(w + 1, FUTEX_WAIT, 0, NULL, NULL, 0));
	await_state(a, 'S');
	await_state(b, 'S');
	/* w[1] += 3; wake one of w[0]; wake one of w[1] if its old value was 0. */
	EQ(futex(w, FUTEX_WAKE_OP, 1, (void *)1, w + 1, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 0)), 2);
	EQ(w[1], 3);
	EQ(futex(w, FUTEX_WAKE_OP, 1, (void *)1, w + 1, FUTEX_OP(FUTEX_OP_SET, 9, FUTEX_OP_CMP_GT, 100)), 0);
	EQ(w[1], 9);
	REAP(a);
	REAP(b);
}

CHECK(killed_waiter_leaves_the_queue)
{
	word *w = shared_words();
	CHILD(a) futex(w, FUTEX_WAIT, 0, NULL, NULL, 0);
	await_state(a, 'S');
	CHILD(b) OK(futex(w, FUTEX_WAIT, 0, NULL, NULL, 0));
	await_state(b, 'S');
	OK(kill(a, SIGKILL));
	EQ(wait_exit(a), 128 + SIGKILL);
	EQ(futex(w, FUTEX_WAKE, 2, NULL, NULL, 0), 1);
	REAP(b);
}

CHECK(timed_out_waiter_leaves_the_queue)
{
	word *w = shared_words();
	struct timespec tick = { 0, 1000000 };
	ERR(futex(w, FUTEX_WAIT, 0, &tick, NULL, 0), ETIMEDOUT);
	EQ(futex(w, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
}

#define WAITV(list, n, timeout, clock) syscall(449, list, n, 0, timeout, clock)

static struct futex_waitv waitv_entry(word *at, uint64_t value)
{
	return (struct futex_waitv){ .val = value, .uaddr = (uintptr_t)at, .flags = FUTEX_32 };
}

CHECK(waitv_wakes_with_the_index)
{
	word *w = shared_words();
	CHILD(pid) {
		struct futex_waitv v[3] = { waitv_entry(w, 0), waitv_entry(w + 1, 0), waitv_entry(w + 2, 0) };
		EQ(WAITV(v, 3, NULL, 0), 1);
	}
	await_state(pid, 'S');
	EQ(futex(w + 1, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
	REAP(pid);
}

CHECK(waitv_errors)
{
	word w[2] = { 0 };
	struct futex_waitv v[2] = { waitv_entry(w, 0), waitv_entry(w + 1, 1) };
	ERR(WAITV(v, 2, NULL, 0), EAGAIN);
	ERR(WAITV(v, 0, NULL, 0), EINVAL);
	ERR(WAITV(v, 129, NULL, 0), EINVAL);
	ERR(WAITV(BAD_PTR, 1, NULL, 0), EFAULT);
	v[0].flags = 0x100;
	ERR(WAITV(v, 1, NULL, 0), EINVAL);
	v[0] = waitv_entry(w, 0);
	v[0].__reserved = 1;
	ERR(WAITV(v, 1, NULL, 0), EINVAL);
	v[0] = waitv_entry(w, 0);
	struct timespec soon = in_ns(CLOCK_MONOTONIC, 1000000);
	ERR(WAITV(v, 1, &soon, CLOCK_MONOTONIC), ETIMEDOUT);
	ERR(WAITV(v, 1, &soon, CLOCK_BOOTTIME), EINVAL);
}

static word turn;

static void *take_turns(void *arg)
{
	(void)arg;
	for (int i = 0; i < 300; i++) {
		while (__atomic_load_n(&turn, __ATOMIC_SEQ_CST) != 1)
			futex(&turn, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
		__atomic_store_n(&turn, 0, __ATOMIC_SEQ_CST);
		futex(&turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	}
	return NULL;
}

CHECK(threads_take_turns)
{
	pthread_t thread;
	EQ(pthread_create(&thread, NULL, take_turns, NULL), 0);
	for (int i = 0; i < 300; i++) {
		while (__atomic_load_n(&turn, __ATOMIC_SEQ_CST) != 0)
			futex(&turn, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
		__atomic_store_n(&turn, 1, __ATOMIC_SEQ_CST);
		futex(&turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	}
	EQ(pthread_join(thread, NULL), 0);
	EQ(turn, 0);
}

CHECK(many_waiters_on_many_words)
{
	word *w = shared_words();
	pid_t pids[30];
	for (int i = 0; i < 30; i++) {
		pids[i] = OK(fork());
		if (pids[i] == 0) {
			OK(futex(w + i, FUTEX_WAIT, 0, NULL, NULL, 0));
			_exit(0);
		}
	}
	for (int i = 29; i >= 0; i--) {
		await_state(pids[i], 'S');
		EQ(futex(w + i, FUTEX_WAKE, INT_MAX, NULL, NULL, 0), 1);
		REAP(pids[i]);
	}
}

static word cow_word;

static void *wait_private(void *arg)
{
	*(pid_t *)arg = syscall(SYS_gettid);
	while (cow_word == 0)
		futex(&cow_word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	return NULL;
}

CHECK(fork_does_not_lose_a_private_waiter)
{
	/* Copy-on-write moves the page under the waiter; its key is the address. */
	pthread_t thread;
	volatile pid_t tid = 0;
	EQ(pthread_create(&thread, NULL, wait_private, (void *)&tid), 0);
	while (!tid)
		sched_yield();
	await_task_state(getpid(), tid, 'S');
	CHILD(pid) {
		cow_word = 1;
		EQ(futex(&cow_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 0);
	}
	REAP(pid);
	EQ(cow_word, 0);
	cow_word = 2;
	EQ(futex(&cow_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 1);
	EQ(pthread_join(thread, NULL), 0);
}
