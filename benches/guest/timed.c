/*
 * How long a shell script takes inside, without the start of what it runs in.
 *
 *   timed REPETITIONS SETUP SCRIPT
 *
 * runs SETUP and then SCRIPT by /bin/sh, so many times, and prints the nanoseconds of the shortest SCRIPT.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static double run(const char *script)
{
	double start = now();
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		/* Standard output is for the figures. */
		dup2(2, 1);
		execl("/bin/sh", "sh", "-euc", script, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
		fprintf(stderr, "timed: failed: %s\n", script);
		exit(1);
	}
	return now() - start;
}

int main(int argc, char **argv)
{
	double least = -1;
	if (argc != 4)
		return 2;
	for (int i = 0; i < atoi(argv[1]); i++) {
		run(argv[2]);
		double took = run(argv[3]);
		least = least < 0 || took < least ? took : least;
	}
	printf("%.0f\n", least);
	return 0;
}
