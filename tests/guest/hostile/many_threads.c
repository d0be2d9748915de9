/* A thousand threads at once, blocked in all sorts of ways, and a process that ends under them. */
#include "hostile.h"
#include <poll.h>
#include <semaphore.h>

enum { THREADS = 1000 };

static sem_t started, go;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int pipe_fds[2], released;

static void *block(void *arg)
{
	long n = (long)arg;
	char c;
	sem_post(&started);
	switch (n % 4) {
	case 0:
		while (sem_wait(&go))
			;
		break;
	case 1:
		NEED(read(pipe_fds[0], &c, 1) == 1);
		break;
	case 2:
		pthread_mutex_lock(&lock);
		while (!released)
			pthread_cond_wait(&cond, &lock);
		pthread_mutex_unlock(&lock);
		break;
	default: {
		struct pollfd p = { .fd = pipe_fds[0], .events = POLLIN };
		NEED(poll(&p, 1, -1) == 1);
	}
	}
	return arg;
}

static void start(pthread_t *threads)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 32768);
	for (long i = 0; i < THREADS; i++)
		NEED(pthread_create(&threads[i], &attr, block, (void *)i) == 0);
	for (int i = 0; i < THREADS; i++)
		while (sem_wait(&started))
			;
}

int main(void)
{
	static pthread_t threads[THREADS];
	static char bytes[THREADS];
	NEED(sem_init(&started, 0, 0) == 0 && sem_init(&go, 0, 0) == 0 && pipe(pipe_fds) == 0);
	start(threads);
	for (int i = 0; i < THREADS; i++)
		sem_post(&go);
	pthread_mutex_lock(&lock);
	released = 1;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
	/* More than the readers take, so that the pollers find some. */
	NEED(write(pipe_fds[1], bytes, THREADS) == THREADS);
	for (long i = 0; i < THREADS; i++) {
		void *result;
		NEED(pthread_join(threads[i], &result) == 0 && (long)result == i);
	}
	pid_t pid = fork();
	NEED(pid >= 0);
	if (pid == 0) {
		released = 0;
		start(threads);
		_exit(3);
	}
	NEED(WEXITSTATUS(reap(pid)) == 3);
	puts("ok many_threads");
	return 0;
}
