/* Closes every descriptor there is, its own standard ones and those it never opened, and goes on working. */
#include "hostile.h"

static int work_without_descriptors(void)
{
	int p[2];
	if (close_range(0, ~0u, 0))
		return 2;
	for (int fd = -5; fd < 2000; fd++)
		if (close(fd) != -1 || errno != EBADF)
			return 3;
	if (pipe(p) || p[0] != 0 || p[1] != 1)
		return 4;
	pid_t pid = fork();
	if (pid == 0) {
		close(0);
		_exit(write(1, "x", 1) == 1 ? 0 : 1);
	}
	char c;
	int status;
	if (read(0, &c, 1) != 1 || waitpid(pid, &status, 0) != pid || status)
		return 5;
	close_range(0, ~0u, 0);
	pid = fork();
	if (pid == 0) {
		char *argv[] = { "true", NULL };
		execv("/bin/true", argv);
		_exit(1);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		return 6;
	if (open("/", O_RDONLY) != 0)
		return 7;
	return 0;
}

int main(void)
{
	pid_t pid = fork();
	NEED(pid >= 0);
	if (pid == 0)
		_exit(work_without_descriptors());
	int status = reap(pid);
	NEED(status == 0);
	puts("ok close_everything");
	return 0;
}
