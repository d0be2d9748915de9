/* Arguments and environments as large as exec takes, and larger; hostile vectors. */
#include "hostile.h"

enum { STRING = 128 * 1024 - 1, MANY = 100000 };

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "--count")) {
		size_t bytes = 0;
		for (int i = 0; i < argc; i++)
			bytes += strlen(argv[i]) + 1;
		for (char **e = environ; *e; e++)
			bytes += strlen(*e) + 1;
		_exit(bytes == strtoull(argv[2], NULL, 10) ? 0 : 1);
	}
	char *text = malloc(STRING + 1), number[32];
	memset(text, 'a', STRING);
	text[STRING] = 0;
	char **many = calloc(MANY + 8, sizeof(char *));
	char *no_env[] = { NULL };

	/* Twelve of the longest strings. */
	many[0] = "huge_argv";
	many[1] = "--count";
	many[2] = number;
	for (int i = 3; i < 15; i++)
		many[i] = text;
	snprintf(number, sizeof number, "%08zu", 10 + 8 + 9 + 12 * ((size_t)STRING + 1));
	pid_t pid = fork();
	NEED(pid >= 0);
	if (pid == 0) {
		execve("/proc/self/exe", many, no_env);
		_exit(2);
	}
	NEED(reap(pid) == 0);

	/* As many short ones as fit. */
	for (int i = 3; i < MANY; i++)
		many[i] = "x";
	snprintf(number, sizeof number, "%08zu", 10 + 8 + 9 + (MANY - 3) * (size_t)2);
	pid = fork();
	NEED(pid >= 0);
	if (pid == 0) {
		execve("/proc/self/exe", many, no_env);
		_exit(2);
	}
	NEED(reap(pid) == 0);

	/* Too much: refused, and this process goes on. */
	for (int i = 3; i < 200; i++)
		many[i] = text;
	for (int i = 0; i < 3; i++) {
		NEED(execve("/proc/self/exe", many, no_env) == -1 && errno == E2BIG);
		NEED(execve("/proc/self/exe", no_env, many) == -1 && errno == E2BIG);
	}

	/* A vector without an end, up to the end of its mapping. */
	size_t size = 8 << 20;
	char **endless = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(endless != MAP_FAILED);
	for (size_t i = 0; i < size / sizeof(char *); i++)
		endless[i] = "";
	NEED(execve("/proc/self/exe", endless, no_env) == -1 && (errno == E2BIG || errno == EFAULT));
	puts("ok huge_argv");
	return 0;
}
