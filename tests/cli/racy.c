/* A lost update, if the other thread comes between two calls out of many. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static volatile int balance = 100;

static void *pay(void *arg)
{
	for (int i = 0; i < 12; i++)
		getppid();
	int seen = balance;
	getppid();
	balance = seen - *(int *)arg;
	return NULL;
}

int main(void)
{
	pthread_t one, two;
	int small = 1, large = 10;
	pthread_create(&one, NULL, pay, &small);
	pthread_create(&two, NULL, pay, &large);
	pthread_join(one, NULL);
	pthread_join(two, NULL);
	printf("%d\n", balance);
	return balance != 89;
}
