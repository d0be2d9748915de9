/*
 * Other ways into a kernel: int 0x80, sysenter, the vsyscall page, x32 numbers, far jumps into 32-bit code. Whatever each
 * of them gives, it is nothing of the host's.
 */
#include "attack.h"

enum { X32 = 0x40000000, CODE = 256 };

/* A page that 32-bit registers can point to: code at its start, the canary's path behind it. */
static unsigned char *low_page(void)
{
	unsigned char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	NEED(page != MAP_FAILED);
	snprintf((char *)page + CODE, PAGE - CODE, "%s", canary);
	return page;
}

/* i386 numbers: unlink, open, stat, getpid, execve, socketcall, and two of nothing. */
static const int i386[] = { 10, 5, 106, 20, 11, 102, 999, -1 };

static void int80(uint64_t which)
{
	unsigned char *page = low_page();
	int result;
	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(i386[which]), "b"(page + CODE), "c"(O_RDWR), "d"(0), "S"(0), "D"(0)
			 : "r8", "r9", "r10", "r11", "memory");
	/* The canary is no file of the guest's root. */
	if (result >= 0 && (which < 3 || which == 4))
		_exit(BREACH);
}

static void sysenter(uint64_t which)
{
	unsigned char *page = low_page();
	/* The entry takes the sixth argument from the stack that ebp points to. */
	__asm__ volatile("mov %1, %%rbp; sysenter" ::"a"(i386[which]), "r"((uint64_t)page + 2048), "b"(page + CODE), "c"(O_RDWR), "d"(0)
			 : "memory");
}

static void vsyscall(uint64_t which)
{
	uint64_t at = 0xffffffffff600000ul + (which % 5) * 0x400;
	struct timespec where[2] = { 0 };
	long result;
	__asm__ volatile("call *%1"
			 : "=a"(result)
			 : "r"(at), "D"(which < 5 ? (uint64_t)where : PLATFORM_BASE), "S"(0)
			 : "rcx", "r11", "rdx", "memory");
}

static void x32(uint64_t number)
{
	long result;
	register long r10 __asm__("r10") = 0600;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number | X32), "D"(AT_FDCWD), "S"(canary), "d"(O_RDWR | O_CREAT), "r"(r10)
			 : "rcx", "r11", "memory");
	if (result != -ENOSYS)
		_exit(BREACH);
}

/* The upper half of rax: the number is the lower one to Linux. */
static void upper_half(uint64_t number)
{
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number | 0xdeadbeef00000000ul), "D"(-1), "S"(0) : "rcx", "r11", "memory");
}

/* 32-bit code by a far return: its `syscall` and `int 0x80` are the host's compatibility entries. */
static void compatibility(uint64_t which)
{
	static const unsigned char codes[][4] = { { 0xcd, 0x80, 0xf4 }, { 0x0f, 0x05, 0xf4 }, { 0x0f, 0x34, 0xf4 } };
	unsigned char *page = low_page();
	memcpy(page, codes[which / 8], 3);
	__asm__ volatile("mov %3, %%rsp; mov %3, %%rbp; pushq $0x23; pushq %2; lretq" ::"a"(i386[which % 8]), "b"(page + CODE),
			 "r"((uint64_t)page), "r"((uint64_t)page + 3072), "c"(O_RDWR), "d"(0)
			 : "memory");
}

int main(int argc, char **argv)
{
	bool platform = begin(argc, argv, "foreign_entry");
	try_all("int 0x80", int80, 8);
	try_all("sysenter", sysenter, 8);
	try_all("vsyscall", vsyscall, 10);
	for (uint64_t i = 0; i < 470; i += 3)
		NEED(finish_attack("x32", x32, i) == 0);
	NEED(finish_attack("x32", x32, SYS_openat) == 0);
	try_all("upper half", upper_half, 8);
	try_all("32-bit code", compatibility, 24);
	return end(platform);
}
