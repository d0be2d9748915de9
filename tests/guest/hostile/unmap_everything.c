/* Unmaps its memory: all of it, all but the running page, its stack, its vDSO; piece by piece and at once. */
#include "hostile.h"

#include <linux/rseq.h>
#include <sys/rseq.h>

#define TOP 0x7ffffffff000ul

static int end_of(void (*act)(void))
{
	pid_t pid = fork();
	NEED(pid >= 0);
	if (pid == 0) {
		act();
		_exit(1);
	}
	return reap(pid);
}

static void all_at_once(void)
{
	syscall(SYS_munmap, 0, TOP);
}

static void piece_by_piece(void)
{
	for (unsigned long at = 0; at < TOP; at += TOP / 64 & ~4095ul)
		syscall(SYS_munmap, at, TOP / 64 & ~4095ul);
}

static void protect_all(void)
{
	char line[512];
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long from[200], to[200];
	int n = 0;
	while (n < 200 && fgets(line, sizeof line, f))
		if (sscanf(line, "%lx-%lx", &from[n], &to[n]) == 2)
			n++;
	for (int i = 0; i < n; i++)
		syscall(SYS_mprotect, from[i], to[i] - from[i], PROT_NONE);
}

/*
 * Code on one page of its own that unmaps everything below and above it, makes some calls without any
 * stack, and exits with 7 if they work.
 */
static void all_but_one_page(void)
{
	static const unsigned char code[] = {
		0xb8, 0x0b, 0, 0, 0,             /* mov eax, munmap */
		0x31, 0xff,                      /* xor edi, edi */
		0x48, 0x89, 0xde,                /* mov rsi, rbx: up to this page */
		0x0f, 0x05,                      /* syscall */
		0xb8, 0x0b, 0, 0, 0,             /* mov eax, munmap */
		0x48, 0x8d, 0xbb, 0, 0x10, 0, 0, /* lea rdi, [rbx + 4096] */
		0x4c, 0x89, 0xe6,                /* mov rsi, r12: the rest */
		0x0f, 0x05,                      /* syscall */
		0xb8, 0x27, 0, 0, 0,             /* mov eax, getpid */
		0x0f, 0x05,                      /* syscall */
		0x85, 0xc0,                      /* test eax, eax */
		0x74, 0x0c,                      /* jz fail */
		0xb8, 0xe7, 0, 0, 0,             /* mov eax, exit_group */
		0xbf, 0x07, 0, 0, 0,             /* mov edi, 7 */
		0x0f, 0x05,                      /* syscall */
		0x0f, 0x0b,                      /* fail: ud2 */
	};
	unsigned char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(p, code, sizeof code);
	register unsigned long page __asm__("rbx") = (unsigned long)p;
	register unsigned long rest __asm__("r12") = TOP - (unsigned long)p - 4096;
	__asm__ volatile("jmp *%0" ::"r"(p), "r"(page), "r"(rest) : "memory");
}

static void no_stack(void)
{
	__asm__ volatile("xor %%esp, %%esp; mov $39, %%eax; syscall; mov $8, %%edi; mov $231, %%eax; syscall" ::: "memory");
}

static void unmap_while_running(void)
{
	/* Other threads run in what goes away. */
	pthread_t thread;
	for (int i = 0; i < 4; i++)
		pthread_create(&thread, NULL, (void *(*)(void *))(void *)pause, NULL);
	all_at_once();
}

/* The kernel writes to a thread's rseq area whenever it is preempted, and this is going to be unmapped. */
static void give_up_rseq(void)
{
	if (__rseq_size > 0)
		syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, 32, RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
}

int main(void)
{
	give_up_rseq();
	struct rlimit core = { 0, 0 };
	setrlimit(RLIMIT_CORE, &core);
	NEED(WTERMSIG(end_of(all_at_once)) == SIGSEGV);
	NEED(WTERMSIG(end_of(piece_by_piece)) == SIGSEGV);
	NEED(WTERMSIG(end_of(protect_all)) == SIGSEGV);
	NEED(WTERMSIG(end_of(unmap_while_running)) == SIGSEGV);
	int status = end_of(all_but_one_page);
	NEED(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	status = end_of(no_stack);
	NEED(WIFEXITED(status) && WEXITSTATUS(status) == 8);
	puts("ok unmap_everything");
	return 0;
}
