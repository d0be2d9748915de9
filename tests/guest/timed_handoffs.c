/* Hand-overs that are waited for with long timeouts: none may end by the time, however the clock moves meanwhile. */
#include "check.h"
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#define LONG 100

static struct timespec later(clockid_t clock)
{
	struct timespec t;
	OK(clock_gettime(clock, &t));
	t.tv_sec += LONG;
	return t;
}

/* What takes a while and calls nobody. */
static void compute(int amount)
{
	volatile unsigned n = amount;
	for (int i = 0; i < amount; i++)
		n = n * 1664525 + 1013904223;
}

struct pair {
	sem_t there, back;
	int rounds;
};

static void down(sem_t *sem)
{
	struct timespec until = later(CLOCK_REALTIME);
	while (sem_timedwait(sem, &until) != 0)
		EQ(errno, EINTR);
}

static void *echo(void *arg)
{
	struct pair *pair = arg;
	for (int i = 0; i < pair->rounds; i++) {
		down(&pair->there);
		compute(i % 7 * 1000);
		OK(sem_post(&pair->back));
	}
	return NULL;
}

static void *ask(void *arg)
{
	struct pair *pair = arg;
	pthread_t other;
	EQ(pthread_create(&other, NULL, echo, pair), 0);
	for (int i = 0; i < pair->rounds; i++) {
		compute(i % 5 * 1000);
		OK(sem_post(&pair->there));
		down(&pair->back);
	}
	EQ(pthread_join(other, NULL), 0);
	return NULL;
}

CHECK(between_threads)
{
	struct pair pairs[3];
	pthread_t threads[3];
	for (int i = 0; i < 3; i++) {
		OK(sem_init(&pairs[i].there, 0, 0));
		OK(sem_init(&pairs[i].back, 0, 0));
		pairs[i].rounds = 500;
		EQ(pthread_create(&threads[i], NULL, ask, &pairs[i]), 0);
	}
	for (int i = 0; i < 3; i++)
		EQ(pthread_join(threads[i], NULL), 0);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int turn;

static void *take_turns(void *arg)
{
	int me = (int)(intptr_t)arg;
	for (int i = 0; i < 300; i++) {
		EQ(pthread_mutex_lock(&mutex), 0);
		struct timespec until = later(CLOCK_REALTIME);
		while (turn % 4 != me)
			EQ(pthread_cond_timedwait(&changed, &mutex, &until), 0);
		turn++;
		EQ(pthread_cond_broadcast(&changed), 0);
		EQ(pthread_mutex_unlock(&mutex), 0);
	}
	return NULL;
}

CHECK(in_turns)
{
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		EQ(pthread_create(&threads[i], NULL, take_turns, (void *)(intptr_t)i), 0);
	for (int i = 0; i < 4; i++)
		EQ(pthread_join(threads[i], NULL), 0);
	EQ(turn, 1200);
}

static void receive(int fd)
{
	struct pollfd ready = { fd, POLLIN, 0 };
	char byte;
	EQ(poll(&ready, 1, LONG * 1000), 1);
	EQ(read(fd, &byte, 1), 1);
}

CHECK(between_processes)
{
	int there[2], back[2];
	OK(pipe(there));
	OK(pipe(back));
	CHILD(pid)
	{
		for (int i = 0; i < 500; i++) {
			receive(there[0]);
			compute(i % 7 * 1000);
			EQ(write(back[1], "b", 1), 1);
		}
	}
	for (int i = 0; i < 500; i++) {
		compute(i % 5 * 1000);
		EQ(write(there[1], "a", 1), 1);
		receive(back[0]);
	}
	REAP(pid);
}

CHECK(by_epoll_and_eventfd)
{
	int fd = eventfd(0, 0), epoll = epoll_create1(0);
	OK(fd);
	OK(epoll);
	struct epoll_event event = { .events = EPOLLIN };
	OK(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
	CHILD(pid)
	{
		for (int i = 0; i < 200; i++) {
			compute(100000);
			OK(eventfd_write(fd, 1));
		}
	}
	eventfd_t sum = 0, got;
	while (sum < 200) {
		EQ(epoll_wait(epoll, &event, 1, LONG * 1000), 1);
		OK(eventfd_read(fd, &got));
		sum += got;
	}
	REAP(pid);
}

CHECK(by_signals)
{
	sigset_t set = sigset_of(SIGUSR1);
	struct timespec wait = { LONG, 0 };
	OK(sigprocmask(SIG_BLOCK, &set, NULL));
	for (int i = 0; i < 50; i++) {
		pid_t parent = getpid();
		CHILD(pid)
		{
			compute(i * 1000);
			OK(kill(parent, SIGUSR1));
		}
		EQ(sigtimedwait(&set, NULL, &wait), SIGUSR1);
		REAP(pid);
	}
}

static void vfork_once(void)
{
	pid_t pid = vfork();
	if (pid == 0)
		_exit(7);
	OK(pid);
	int status;
	EQ(waitpid(pid, &status, 0), pid);
	EQ(WEXITSTATUS(status), 7);
}

/* An alarm is running all the time, and would end the process. */
CHECK(children_under_an_alarm)
{
	alarm(LONG);
	for (int i = 0; i < 50; i++) {
		CHILD(pid) compute(i * 10000);
		REAP(pid);
		vfork_once();
	}
	EXPECT(alarm(0) > LONG / 2);
}
