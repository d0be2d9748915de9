/* Threads, processes, sleeps and random numbers: what it prints depends on all of them. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char order[1024];
static int used;

static unsigned random_number(void)
{
	unsigned number;
	if (getrandom(&number, sizeof number, 0) != sizeof number)
		abort();
	return number;
}

static void *work(void *name)
{
	for (int i = 0; i < 10; i++) {
		struct timespec t = { 0, random_number() % 1000000 };
		if (i % 3 == 0)
			nanosleep(&t, NULL);
		pthread_mutex_lock(&mutex);
		order[used++] = *(char *)name;
		pthread_mutex_unlock(&mutex);
	}
	return NULL;
}

int main(void)
{
	pthread_t threads[4];
	int fds[2];
	if (pipe(fds))
		return 1;
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, work, &"abcd"[i]);
	for (int i = 0; i < 3; i++) {
		if (fork() == 0) {
			char text[32];
			usleep(random_number() % 1000);
			int n = snprintf(text, sizeof text, "%d:%08x ", getpid(), random_number());
			_exit(write(fds[1], text, n) != n);
		}
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 3; i++) {
		int status;
		printf("%d ", wait(&status));
	}
	close(fds[1]);
	char text[256] = { 0 };
	ssize_t n = read(fds[0], text, sizeof text - 1);
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	unsigned char *at_random = (unsigned char *)getauxval(AT_RANDOM);
	printf("%s %zd %s %lld.%09ld %p %02x%02x\n", order, n, text, (long long)now.tv_sec, now.tv_nsec, malloc(10),
	       at_random[0], at_random[15]);
	return 0;
}
