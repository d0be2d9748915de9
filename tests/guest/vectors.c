/*
 * Registers over calls, faults, signals and new threads: vector registers at the widest the processor has, general ones
 * and flags. Each kind of call is made often, so that both the first, trapped one and later, patched ones are tried.
 */
#include "check.h"
#include <sys/time.h>

enum { MANY = 200, WIDTH = 64, COUNT = 32 };

/* Contents of all vector registers, and of the mask registers behind them. */
struct vectors {
	_Alignas(64) unsigned char reg[COUNT][WIDTH];
	uint64_t mask[8];
};

static bool wide(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

static void fill(struct vectors *v, unsigned seed)
{
	memset(v, 0, sizeof *v);
	for (unsigned i = 0; i < COUNT; i++)
		for (unsigned j = 0; j < WIDTH; j++)
			v->reg[i][j] = seed + i * 67 + j * 3 + 1;
	for (unsigned i = 0; i < 8; i++)
		v->mask[i] = 0x0123456789abcdefull * (i + seed + 1);
}

#define Z(n) "vmovdqu64 64*" #n "(%[in]), %%zmm" #n "\n\t"
#define ZS(n) "vmovdqu64 %%zmm" #n ", 64*" #n "(%[out])\n\t"
#define Y(n) "vmovdqu 64*" #n "(%[in]), %%ymm" #n "\n\t"
#define YS(n) "vmovdqu %%ymm" #n ", 64*" #n "(%[out])\n\t"
#define X(n) "movdqu 64*" #n "(%[in]), %%xmm" #n "\n\t"
#define XS(n) "movdqu %%xmm" #n ", 64*" #n "(%[out])\n\t"
#define K(n) "kmovq 2048+8*" #n "(%[in]), %%k" #n "\n\t"
#define KS(n) "kmovq %%k" #n ", 2048+8*" #n "(%[out])\n\t"
#define LOW(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15)
#define HIGH(F) F(16) F(17) F(18) F(19) F(20) F(21) F(22) F(23) F(24) F(25) F(26) F(27) F(28) F(29) F(30) F(31)
#define MASKS(F) F(1) F(2) F(3) F(4) F(5) F(6) F(7)
#define LOW_CLOBBERS "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", \
	"xmm12", "xmm13", "xmm14", "xmm15"

/* BODY with all vector registers loaded from `in` and stored to `out` afterwards. */
#define AROUND(NAME, BODY) \
	__attribute__((target("avx512f,avx512bw"))) static long NAME##_512(struct vectors *in, struct vectors *out, long arg) \
	{ \
		long rax; \
		__asm__ volatile(LOW(Z) HIGH(Z) MASKS(K) BODY LOW(ZS) HIGH(ZS) MASKS(KS) : "=&a"(rax) \
			: [in] "b"(in), [out] "r"(out), "D"(arg) : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc", \
			LOW_CLOBBERS, "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", \
			"xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", "k7"); \
		return rax; \
	} \
	__attribute__((target("avx"))) static long NAME##_256(struct vectors *in, struct vectors *out, long arg) \
	{ \
		long rax; \
		__asm__ volatile(LOW(Y) BODY LOW(YS) : "=&a"(rax) : [in] "b"(in), [out] "r"(out), "D"(arg) \
			: "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc", LOW_CLOBBERS); \
		return rax; \
	} \
	static long NAME##_128(struct vectors *in, struct vectors *out, long arg) \
	{ \
		long rax; \
		__asm__ volatile(LOW(X) BODY LOW(XS) : "=&a"(rax) : [in] "b"(in), [out] "r"(out), "D"(arg) \
			: "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc", LOW_CLOBBERS); \
		return rax; \
	} \
	static void NAME(unsigned seed, long arg, long expect) \
	{ \
		struct vectors in, out; \
		fill(&in, seed); \
		memset(&out, 0, sizeof out); \
		long got; \
		size_t width; \
		unsigned count = 16; \
		if (wide()) { \
			got = NAME##_512(&in, &out, arg), width = 64, count = 32; \
			for (unsigned i = 1; i < 8; i++) \
				EQ(out.mask[i], in.mask[i]); \
		} else if (__builtin_cpu_supports("avx")) { \
			got = NAME##_256(&in, &out, arg), width = 32; \
		} else { \
			got = NAME##_128(&in, &out, arg), width = 16; \
		} \
		EQ(got, expect); \
		for (unsigned i = 0; i < count; i++) \
			EXPECT(memcmp(in.reg[i], out.reg[i], width) == 0); \
	}

AROUND(over_getpid, "mov $39, %%eax\n\tsyscall\n\t")
AROUND(over_number_in_register, "mov $39, %%esi\n\tmov %%esi, %%eax\n\tnopl (%%rax)\n\tsyscall\n\tcmp $-4095, %%rax\n\t")
AROUND(over_getcwd, "sub $4224, %%rsp\n\tlea 128(%%rsp), %%rdi\n\tmov $4096, %%esi\n\tmov $79, %%eax\n\tsyscall\n\t"
		    "add $4224, %%rsp\n\txor %%eax, %%eax\n\t")
AROUND(over_mmap, "xor %%edi, %%edi\n\tmov $8192, %%esi\n\tmov $3, %%edx\n\tmov $0x22, %%r10d\n\tmov $-1, %%r8\n\txor %%r9d, %%r9d\n\t"
		  "mov $9, %%eax\n\tsyscall\n\tmov %%rax, %%rdi\n\tmov $8192, %%esi\n\tmov $11, %%eax\n\tsyscall\n\t")
AROUND(until_set, "1: cmpl $0, (%%rdi)\n\tje 1b\n\txor %%eax, %%eax\n\t")
AROUND(over_fault, "mov (%%rdi), %%eax\n\txor %%eax, %%eax\n\t")

CHECK(calls_keep_vector_registers)
{
	long pid = getpid();
	for (unsigned i = 0; i < MANY; i++) {
		over_getpid(i, 0, pid);
		over_number_in_register(i, 0, pid);
		over_getcwd(i, 0, 0);
		over_mmap(i, 0, 0);
	}
}

static volatile int flag;

static void clobber(void)
{
	/* What a handler may do to the registers of the program that it interrupts. */
	if (wide())
		__asm__ volatile(".irp n, 0,1,2,3,4,5,6,7,8,15\n\tvpxor %%xmm\\n, %%xmm\\n, %%xmm\\n\n\t.endr" ::: LOW_CLOBBERS);
	else
		__asm__ volatile(".irp n, 0,1,2,3,4,5,6,7,8,15\n\tpxor %%xmm\\n, %%xmm\\n\n\t.endr" ::: LOW_CLOBBERS);
}

static void on_alarm(int sig)
{
	(void)sig;
	clobber();
	flag = 1;
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	clobber();
	/* mov (%rdi), %eax has two bytes. */
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

CHECK(an_interrupted_program_keeps_vector_registers)
{
	struct sigaction sa = { .sa_handler = on_alarm };
	OK(sigaction(SIGALRM, &sa, NULL));
	for (unsigned i = 0; i < 20; i++) {
		flag = 0;
		struct itimerval soon = { .it_value.tv_usec = 2000 };
		OK(setitimer(ITIMER_REAL, &soon, NULL));
		until_set(i, (long)&flag, 0);
	}
}

CHECK(a_faulting_program_keeps_vector_registers)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	OK(sigaction(SIGSEGV, &sa, NULL));
	for (unsigned i = 0; i < 50; i++)
		over_fault(i, 8, 0);
}

/* General registers and flags after a call, as `after_call` leaves them. */
struct general {
	uint64_t rdx, rsi, r8, r9, r10, rbx, rbp, red_zone, flags, rcx, r11, behind;
};

__asm__(".text\n"
	"after_call:\n"
	"	push %rbx\n	push %rbp\n	push %r12\n	mov %rdi, %r12\n"
	"	mov $0x1111111111111111, %rdx\n	mov $0x2222222222222222, %rsi\n	mov $0x3333333333333333, %r8\n"
	"	mov $0x4444444444444444, %r9\n	mov $0x5555555555555555, %r10\n	mov $0x6666666666666666, %rbx\n"
	"	mov $0x7777777777777777, %rbp\n"
	"	movq $0x5a5a, -16(%rsp)\n"
	"	stc\n"
	"	mov $39, %eax\n"
	"	syscall\n"
	"1:	mov %rdx, (%r12)\n	mov %rsi, 8(%r12)\n	mov %r8, 16(%r12)\n	mov %r9, 24(%r12)\n"
	"	mov %r10, 32(%r12)\n	mov %rbx, 40(%r12)\n	mov %rbp, 48(%r12)\n"
	"	mov -16(%rsp), %rdx\n	mov %rdx, 56(%r12)\n"
	"	pushfq\n	pop %rdx\n	mov %rdx, 64(%r12)\n"
	"	mov %rcx, 72(%r12)\n	mov %r11, 80(%r12)\n"
	"	lea 1b(%rip), %rdx\n	mov %rdx, 88(%r12)\n"
	"	pop %r12\n	pop %rbp\n	pop %rbx\n	ret\n");
void after_call(struct general *);

CHECK(calls_keep_general_registers_and_flags)
{
	enum { CARRY = 1, ARITHMETIC = 0x8d5 };
	for (unsigned i = 0; i < MANY; i++) {
		struct general g = { 0 };
		after_call(&g);
		EQ(g.rdx, 0x1111111111111111);
		EQ(g.rsi, 0x2222222222222222);
		EQ(g.r8, 0x3333333333333333);
		EQ(g.r9, 0x4444444444444444);
		EQ(g.r10, 0x5555555555555555);
		EQ(g.rbx, 0x6666666666666666);
		EQ(g.rbp, 0x7777777777777777);
		EQ(g.red_zone, 0x5a5a);
		EQ(g.flags & CARRY, CARRY);
		/* What the instruction leaves behind. */
		EQ(g.rcx, g.behind);
		EQ(g.r11 & ARITHMETIC, g.flags & ARITHMETIC);
	}
}
