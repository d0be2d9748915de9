/* Idle processes: itself and as many more as it is told. Says "idle" when all are there, and waits to be killed. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int more = argc > 1 ? atoi(argv[1]) : 0, ready[2];
	if (pipe(ready) != 0)
		return 1;
	for (int i = 0; i < more; i++) {
		pid_t pid = fork();
		if (pid < 0)
			return 1;
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (write(ready[1], "", 1) != 1)
				_exit(1);
			for (;;)
				pause();
		}
	}
	for (int i = 0; i < more; i++) {
		char c;
		if (read(ready[0], &c, 1) != 1)
			return 1;
	}
	puts("idle");
	fflush(stdout);
	for (;;)
		pause();
}
