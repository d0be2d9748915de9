/* One thread waits for another by looking, and makes no system call. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

static atomic_int set;

static void *other(void *arg)
{
	set = 1;
	return arg;
}

int main(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, other, NULL);
	while (!set)
		;
	pthread_join(thread, NULL);
	puts("seen");
	return 0;
}
