/*
 * Code that changes: system-call instructions that appear, move, vanish and are entered in the middle,
 * on pages that are written while they run, shared between two mappings, and changed by another thread.
 */
#include "hostile.h"

typedef long (*function)(void);

static unsigned char *code_page(int prot)
{
	unsigned char *p = mmap(NULL, 8192, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(p != MAP_FAILED);
	return p;
}

/* mov eax, NUMBER; syscall; ret */
static void emit_call(unsigned char *at, uint32_t number)
{
	at[0] = 0xb8;
	memcpy(at + 1, &number, 4);
	memcpy(at + 5, "\x0f\x05\xc3", 3);
}

static void rewritten_many_times(void)
{
	unsigned char *p = code_page(PROT_READ | PROT_WRITE | PROT_EXEC);
	long pid = getpid(), uid = getuid();
	for (int i = 0; i < 3000; i++) {
		unsigned char *at = p + random_below(8192 - 8);
		emit_call(at, SYS_getpid);
		NEED(((function)at)() == pid);
		emit_call(at, SYS_getuid);
		NEED(((function)at)() == uid);
		/* mov eax, 5; nop; nop; ret */
		memcpy(at, "\xb8\x05\0\0\0\x90\x90\xc3", 8);
		NEED(((function)at)() == 5);
	}
}

static void write_then_execute(void)
{
	unsigned char *p = code_page(PROT_READ | PROT_WRITE);
	for (int i = 0; i < 300; i++) {
		NEED(mprotect(p, 8192, PROT_READ | PROT_WRITE) == 0);
		emit_call(p + 4090, i % 2 ? SYS_getpid : SYS_gettid);
		NEED(mprotect(p, 8192, PROT_READ | PROT_EXEC) == 0);
		for (int k = 0; k < 5; k++)
			NEED(((function)(p + 4090))() == getpid());
		/* The bytes must read as they were written, whatever was done to the site. */
		unsigned char want[8];
		emit_call(want, i % 2 ? SYS_getpid : SYS_gettid);
		NEED(!memcmp(p + 4090, want, 8));
	}
}

static void entered_in_the_middle(void)
{
	unsigned char *p = code_page(PROT_READ | PROT_WRITE | PROT_EXEC);
	/* mov eax, 0xc3050f90; ret: "syscall; ret" hides in the immediate. */
	memcpy(p, "\xb8\x90\x0f\x05\xc3\xc3", 6);
	for (int i = 0; i < 200; i++) {
		NEED(((function)p)() == 0xc3050f90l);
		/* Entered one byte into the immediate. */
		long r;
		__asm__ volatile("call *%1" : "=a"(r) : "r"(p + 2), "a"(SYS_getpid) : "rcx", "r11", "memory");
		NEED(r == getpid());
	}
	/* Jump between the number and the syscall of a site that has run. */
	emit_call(p + 100, SYS_getpid);
	for (int i = 0; i < 200; i++) {
		NEED(((function)(p + 100))() == getpid());
		long r;
		__asm__ volatile("call *%1" : "=a"(r) : "r"(p + 105), "a"(SYS_getuid) : "rcx", "r11", "memory");
		NEED(r == getuid());
	}
}

static void two_mappings(void)
{
	int fd = memfd_create("code", 0);
	NEED(fd >= 0 && ftruncate(fd, 4096) == 0);
	unsigned char *w = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned char *x = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	NEED(w != MAP_FAILED && x != MAP_FAILED);
	for (int i = 0; i < 300; i++) {
		emit_call(w + i, SYS_getpid);
		NEED(((function)(x + i))() == getpid());
		NEED(w[i + 5] == 0x0f && w[i + 6] == 0x05);
	}
}

static unsigned char *shared_code;
static volatile bool stop;

static void *toggle(void *arg)
{
	/* Two bytes at an even address: replaced in one store, as the architecture allows. */
	while (!stop) {
		*(volatile uint16_t *)(shared_code + 6) = 0x9090;
		*(volatile uint16_t *)(shared_code + 6) = 0x050f;
	}
	return arg;
}

static void changed_by_another_thread(void)
{
	pthread_t thread;
	shared_code = code_page(PROT_READ | PROT_WRITE | PROT_EXEC);
	/* nop; mov eax, 39; syscall; ret */
	memcpy(shared_code, "\x90\xb8\x27\0\0\0\x0f\x05\xc3", 9);
	NEED(pthread_create(&thread, NULL, toggle, NULL) == 0);
	for (int i = 0; i < 20000; i++) {
		long r = ((function)shared_code)();
		NEED(r == getpid() || r == 39);
	}
	stop = true;
	pthread_join(thread, NULL);
}

int main(void)
{
	rewritten_many_times();
	write_then_execute();
	entered_in_the_middle();
	two_mappings();
	changed_by_another_thread();
	puts("ok self_modifying");
	return 0;
}
