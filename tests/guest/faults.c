/* Fault signals: their codes and addresses, recovery, and what a handler may change in the frame. */
#include "check.h"
#include <cpuid.h>
#include <immintrin.h>
#include <setjmp.h>
#include <sys/ucontext.h>

static sigjmp_buf fault;
static volatile siginfo_t info;
static volatile greg_t fault_rip, fault_cr2, fault_trapno, fault_err;

static void catch_fault(int sig, siginfo_t *si, void *context)
{
	ucontext_t *uc = context;
	info = *si;
	fault_rip = uc->uc_mcontext.gregs[REG_RIP];
	fault_cr2 = uc->uc_mcontext.gregs[REG_CR2];
	fault_trapno = uc->uc_mcontext.gregs[REG_TRAPNO];
	fault_err = uc->uc_mcontext.gregs[REG_ERR];
	siglongjmp(fault, sig);
}

static const int fault_signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };

/* Runs the statement; the signal it raised, or 0. */
#define FAULT(statement) \
	({ \
		for (int i_ = 0; i_ < 5; i_++) \
			on_siginfo(fault_signals[i_], catch_fault, 0); \
		int sig_ = sigsetjmp(fault, 1); \
		if (sig_ == 0) { \
			statement; \
		} \
		sig_; \
	})

static char *map_page(int prot)
{
	return OK(mmap(NULL, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

CHECK(segv_maperr)
{
	EQ(FAULT(*(volatile int *)8), SIGSEGV);
	EQ(info.si_code, SEGV_MAPERR);
	EQ(info.si_addr, 8);
	EQ(fault_cr2, 8);
	EQ(fault_trapno, 14);
	/* A read from user mode of a page that is not there. */
	EQ(fault_err, 4);
	EQ(FAULT(*(volatile int *)16 = 1), SIGSEGV);
	EQ(fault_err, 6);
}

CHECK(segv_accerr)
{
	char *p = map_page(PROT_READ);
	EQ(FAULT(*(volatile char *)(p + 5) = 1), SIGSEGV);
	EQ(info.si_code, SEGV_ACCERR);
	EQ(info.si_addr, p + 5);
	OK(mprotect(p, 4096, PROT_NONE));
	EQ(FAULT((void)*(volatile char *)(p + 7)), SIGSEGV);
	EQ(info.si_code, SEGV_ACCERR);
	EQ(info.si_addr, p + 7);
}

CHECK(segv_kernel_address)
{
	EQ(FAULT((void)*(volatile char *)KERNEL_PTR), SIGSEGV);
	EQ(info.si_code, SEGV_MAPERR);
}

CHECK(segv_non_canonical)
{
	EQ(FAULT((void)*(volatile char *)0x8000000000000000ull), SIGSEGV);
	EQ(info.si_code, SI_KERNEL);
	EQ(info.si_addr, 0);
	EQ(fault_trapno, 13);
}

CHECK(privileged_instructions)
{
	EQ(FAULT(__asm__ volatile("hlt")), SIGSEGV);
	EQ(info.si_code, SI_KERNEL);
	EQ(info.si_addr, 0);
	EQ(FAULT(__asm__ volatile("cli")), SIGSEGV);
	EQ(info.si_code, SI_KERNEL);
	EQ(FAULT(__asm__ volatile("mov %%cr0, %%rax" ::: "rax")), SIGSEGV);
	EQ(info.si_code, SI_KERNEL);
	EQ(FAULT(__asm__ volatile("wrmsr")), SIGSEGV);
	EQ(FAULT(__asm__ volatile("inb $0x60, %%al" ::: "rax")), SIGSEGV);
}

CHECK(sigill_ud2)
{
	EQ(FAULT(__asm__ volatile("ud2")), SIGILL);
	EQ(info.si_code, ILL_ILLOPN);
	EQ(info.si_addr, fault_rip);
	EQ(*(unsigned short *)fault_rip, 0x0b0f);
	EQ(fault_trapno, 6);
}

CHECK(sigfpe_divide)
{
	volatile int zero = 0;
	EQ(FAULT(__asm__ volatile("cltd; idivl %0" ::"m"(zero) : "rax", "rdx")), SIGFPE);
	EQ(info.si_code, FPE_INTDIV);
	EQ(info.si_addr, fault_rip);
	volatile int minus_one = -1;
	EQ(FAULT(__asm__ volatile("movl $0x80000000, %%eax; cltd; idivl %0" ::"m"(minus_one) : "rax", "rdx")), SIGFPE);
	EQ(info.si_code, FPE_INTDIV);
}

CHECK(sigfpe_sse)
{
	volatile double zero = 0;
	unsigned csr = _mm_getcsr();
	EQ(FAULT({
		   _mm_setcsr(csr & ~(1u << 9));
		   volatile double r = 1.0 / zero;
		   (void)r;
	   }),
	   SIGFPE);
	EQ(info.si_code, FPE_FLTDIV);
}

CHECK(sigtrap_int3)
{
	EQ(FAULT(__asm__ volatile("int3")), SIGTRAP);
	EQ(info.si_code, SI_KERNEL);
	/* The saved pc is past the instruction. */
	EQ(((unsigned char *)fault_rip)[-1], 0xcc);
	EQ(fault_trapno, 3);
}

CHECK(sigtrap_single_step)
{
	EQ(FAULT(__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; nop" ::: "memory", "cc")), SIGTRAP);
	EQ(info.si_code, TRAP_TRACE);
}

static volatile long steps_behind;
extern char step_behind[];

static void count_step(int sig, siginfo_t *si, void *context)
{
	(void)sig, (void)si;
	steps_behind += ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] == (greg_t)step_behind;
}

/* However often the same site is called. */
CHECK(single_steps_go_on_behind_a_call)
{
	enum { OFTEN = 200 };
	on_siginfo(SIGTRAP, count_step, 0);
	steps_behind = 0;
	for (int i = 0; i < OFTEN; i++) {
		long pid;
		__asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; orq $0x100, (%%rsp); popfq\n\t"
				 "mov %1, %%eax; syscall; nop; nop\n"
				 "step_behind:\n\t"
				 "nop; pushfq; andq $~0x100, (%%rsp); popfq; lea 128(%%rsp), %%rsp"
				 : "=&a"(pid)
				 : "i"(SYS_getsid), "D"(0)
				 : "rcx", "r11", "memory", "cc");
		EQ(pid >= 0, 1);
	}
	EQ(steps_behind, OFTEN);
}

CHECK(jump_to_null)
{
	EQ(FAULT(((void (*volatile)(void))0)()), SIGSEGV);
	EQ(info.si_addr, 0);
	EQ(fault_rip, 0);
	EQ(info.si_code, SEGV_MAPERR);
}

CHECK(sigbus_past_end_of_file)
{
	write_file("f", "abc");
	int fd = OK(open("f", O_RDWR));
	char *p = OK(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	EQ(FAULT((void)*(volatile char *)(p + 4096 + 3)), SIGBUS);
	EQ(info.si_code, BUS_ADRERR);
	EQ(info.si_addr, p + 4096 + 3);
	EQ(FAULT(*(volatile char *)(p + 4096) = 1), SIGBUS);
}

CHECK(misaligned_access_across_a_border)
{
	char *border = page_border();
	EQ(FAULT((void)*(volatile uint64_t *)(border - 4)), SIGSEGV);
	EQ(info.si_addr, border);
}

CHECK(repeated_recovery)
{
	for (volatile int i = 0; i < 1000; i++)
		EQ(FAULT(*(volatile int *)8), SIGSEGV);
}

CHECK(blocked_fault_kills)
{
	CHILD(pid) {
		on_siginfo(SIGSEGV, catch_fault, 0);
		block_signal(SIGSEGV);
		*(volatile int *)8 = 1;
	}
	EQ(wait_exit(pid), 128 + SIGSEGV);
}

CHECK(ignored_fault_kills)
{
	CHILD(pid) {
		signal(SIGSEGV, SIG_IGN);
		*(volatile int *)8 = 1;
	}
	EQ(wait_exit(pid), 128 + SIGSEGV);
	CHILD(other) {
		signal(SIGFPE, SIG_IGN);
		/* Sent, not caused: this one can be ignored. */
		raise(SIGFPE);
		_exit(5);
	}
	EQ(wait_exit(other), 5);
}

static void fault_again(int sig)
{
	(void)sig;
	*(volatile int *)8 = 1;
}

CHECK(fault_in_handler_kills)
{
	CHILD(pid) {
		on_signal_flags(SIGSEGV, fault_again, 0);
		*(volatile int *)8 = 1;
	}
	EQ(wait_exit(pid), 128 + SIGSEGV);
}

CHECK(unhandled_faults_kill)
{
	CHILD(segv) *(volatile int *)8 = 1;
	EQ(wait_exit(segv), 128 + SIGSEGV);
	CHILD(ill) __asm__ volatile("ud2");
	EQ(wait_exit(ill), 128 + SIGILL);
	CHILD(trap) __asm__ volatile("int3");
	EQ(wait_exit(trap), 128 + SIGTRAP);
	CHILD(hlt) __asm__ volatile("hlt");
	EQ(wait_exit(hlt), 128 + SIGSEGV);
	CHILD(abrt) abort();
	EQ(wait_exit(abrt), 128 + SIGABRT);
}

__attribute__((noinline)) static int recurse(int n)
{
	volatile char pad[4096];
	pad[0] = n;
	return n <= 0 ? 0 : recurse(n + 1) + pad[0];
}

CHECK(stack_overflow_kills)
{
	CHILD(pid) recurse(1);
	EQ(wait_exit(pid), 128 + SIGSEGV);
}

CHECK(no_stack_for_the_frame_kills)
{
	CHILD(pid) {
		on_siginfo(SIGUSR1, catch_fault, 0);
		pid_t self = getpid();
		__asm__ volatile("mov %0, %%rsp; mov %1, %%edi; mov %2, %%esi; mov %3, %%eax; syscall; ud2" ::"r"(4096ul),
				 "r"(self), "i"(SIGUSR1), "i"(SYS_kill)
				 : "rax", "rdi", "rsi", "rcx", "r11", "memory");
	}
	EQ(wait_exit(pid), 128 + SIGSEGV);
}

static void skip_instruction(int sig, siginfo_t *si, void *context)
{
	ucontext_t *uc = context;
	(void)sig;
	info = *si;
	uc->uc_mcontext.gregs[REG_RIP] += 2;
	uc->uc_mcontext.gregs[REG_RBX] = 0x1234567812345678;
	uc->uc_mcontext.gregs[REG_R15] ^= 0xff;
}

CHECK(handler_changes_registers)
{
	on_siginfo(SIGILL, skip_instruction, 0);
	uint64_t rbx = 0, r15 = 0;
	__asm__ volatile("mov $0x0f, %%r15; xor %%ebx, %%ebx; ud2; mov %%rbx, %0; mov %%r15, %1"
			 : "=r"(rbx), "=r"(r15)::"rbx", "r15");
	EQ(rbx, 0x1234567812345678);
	EQ(r15, 0xf0);
}

static void map_it(int sig, siginfo_t *si, void *context)
{
	(void)sig;
	(void)context;
	mprotect((void *)((uintptr_t)si->si_addr & ~4095ul), 4096, PROT_READ | PROT_WRITE);
}

CHECK(handler_repairs_and_retries)
{
	volatile int *p = (volatile int *)map_page(PROT_NONE);
	on_siginfo(SIGSEGV, map_it, 0);
	p[3] = 77;
	EQ(p[3], 77);
}

static void nothing(int sig, siginfo_t *si, void *context)
{
	(void)sig;
	(void)si;
	(void)context;
	/* Spoil what a handler may spoil. */
	__asm__ volatile("pxor %%xmm0, %%xmm0; pxor %%xmm1, %%xmm1; pxor %%xmm15, %%xmm15; fninit; std; cld"
			 ::: "xmm0", "xmm1", "xmm15", "cc");
}

#define SYSCALL_KILL_SELF "mov %%r12d, %%edi; mov $10, %%esi; mov $62, %%eax; syscall"

static uint64_t regs_in[7] __attribute__((used)) = { 0x1111, 0x2222, 0x3333, 0x4444, 0x5555, 0x6666, 0x7777 };
static uint64_t regs_out[7] __attribute__((used));

CHECK(general_registers_survive_a_handler)
{
	on_siginfo(SIGUSR1, nothing, 0);
	register long self __asm__("r12") = getpid();
	__asm__ volatile("mov regs_in(%%rip), %%rbx; mov regs_in+8(%%rip), %%rdx; mov regs_in+16(%%rip), %%r8;"
			 "mov regs_in+24(%%rip), %%r9; mov regs_in+32(%%rip), %%r10; mov regs_in+40(%%rip), %%r13;"
			 "mov regs_in+48(%%rip), %%r14;" SYSCALL_KILL_SELF
			 ";mov %%rbx, regs_out(%%rip); mov %%rdx, regs_out+8(%%rip); mov %%r8, regs_out+16(%%rip);"
			 "mov %%r9, regs_out+24(%%rip); mov %%r10, regs_out+32(%%rip); mov %%r13, regs_out+40(%%rip);"
			 "mov %%r14, regs_out+48(%%rip)"
			 :
			 : "r"(self)
			 : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r13", "r14", "memory");
	MEMEQ(regs_in, regs_out, sizeof regs_in);
}

CHECK(syscall_returns_with_rip_and_flags_in_rcx_and_r11)
{
	uint64_t rcx = 0, r11 = 0, next = 0, flags = 0;
	__asm__ volatile("pushfq; pop %%rdx; mov $39, %%eax; syscall; 1: lea 1b(%%rip), %%rsi; mov %%rcx, %0; mov %%r11, %1;"
			 "mov %%rsi, %2; mov %%rdx, %3"
			 : "=m"(rcx), "=m"(r11), "=m"(next), "=m"(flags)::"rax", "rcx", "rdx", "rsi", "r11", "memory");
	EQ(rcx, next);
	/* The flags at the call; pushfq itself sees RF clear. */
	EQ(r11 & ~0x10000ull, flags & ~0x10000ull);
}

CHECK(xmm_registers_survive_a_handler)
{
	on_siginfo(SIGUSR1, nothing, 0);
	register long self __asm__("r12") = getpid();
	uint64_t in[4] = { 0x0123456789abcdef, 0xfedcba9876543210, 0x5555aaaa5555aaaa, 0x1 }, out[4] = { 0 };
	__asm__ volatile("movdqu (%1), %%xmm0; movdqu 16(%1), %%xmm15;" SYSCALL_KILL_SELF
			 ";movdqu %%xmm0, (%0); movdqu %%xmm15, 16(%0)"
			 :
			 : "r"(out), "r"(in), "r"(self)
			 : "rax", "rcx", "rdi", "rsi", "r11", "xmm0", "xmm1", "xmm15", "memory");
	MEMEQ(in, out, sizeof in);
}

__attribute__((target("avx"))) static void ymm_round(uint64_t *in, uint64_t *out)
{
	register long self __asm__("r12") = getpid();
	__asm__ volatile("vmovdqu (%1), %%ymm0; vmovdqu 32(%1), %%ymm7;" SYSCALL_KILL_SELF
			 ";vmovdqu %%ymm0, (%0); vmovdqu %%ymm7, 32(%0)"
			 :
			 : "r"(out), "r"(in), "r"(self)
			 : "rax", "rcx", "rdi", "rsi", "r11", "xmm0", "xmm1", "xmm7", "xmm15", "memory");
}

CHECK(ymm_registers_survive_a_handler)
{
	if (!__builtin_cpu_supports("avx"))
		SKIP("cpu: no AVX");
	on_siginfo(SIGUSR1, nothing, 0);
	uint64_t in[8], out[8] = { 0 };
	for (int i = 0; i < 8; i++)
		in[i] = 0x1111111111111111ull * (i + 1);
	ymm_round(in, out);
	MEMEQ(in, out, sizeof in);
}

CHECK(xmm_registers_survive_calls)
{
	uint64_t in[4] = { 0x0123456789abcdef, 0xfedcba9876543210, 0x5555aaaa5555aaaa, 0x1 }, out[4] = { 0 };
	for (int i = 0; i < 100; i++) {
		__asm__ volatile("movdqu (%1), %%xmm3; movdqu 16(%1), %%xmm11; mov $39, %%eax; syscall;"
				 "mov $24, %%eax; syscall; movdqu %%xmm3, (%0); movdqu %%xmm11, 16(%0)"
				 :
				 : "r"(out), "r"(in)
				 : "rax", "rcx", "r11", "xmm3", "xmm11", "memory");
		MEMEQ(in, out, sizeof in);
	}
}

CHECK(x87_and_mxcsr_survive_a_handler)
{
	on_siginfo(SIGUSR1, nothing, 0);
	unsigned short cw = 0x0f7f, cw_after = 0;
	unsigned csr = _mm_getcsr() | 0x6000;
	_mm_setcsr(csr);
	__asm__ volatile("fldcw %0" ::"m"(cw));
	OK(kill(getpid(), SIGUSR1));
	__asm__ volatile("fnstcw %0" : "=m"(cw_after));
	unsigned csr_after = _mm_getcsr();
	EQ(cw_after, cw);
	EQ(csr_after, csr);
}

static volatile unsigned short cw_in_handler;
static volatile unsigned csr_in_handler;

static void read_fpu(int sig)
{
	(void)sig;
	unsigned short cw;
	__asm__ volatile("fnstcw %0" : "=m"(cw));
	cw_in_handler = cw;
	csr_in_handler = _mm_getcsr();
}

CHECK(handler_starts_with_a_fresh_fpu)
{
	on_signal_flags(SIGUSR1, read_fpu, 0);
	unsigned short cw = 0x0f7f;
	__asm__ volatile("fldcw %0" ::"m"(cw));
	_mm_setcsr(_mm_getcsr() | 0x6000);
	OK(kill(getpid(), SIGUSR1));
	EQ(cw_in_handler, 0x37f);
	EQ(csr_in_handler, 0x1f80);
}

static void change_xmm(int sig, siginfo_t *si, void *context)
{
	(void)sig;
	(void)si;
	ucontext_t *uc = context;
	uc->uc_mcontext.fpregs->_xmm[5].element[0] = 0x600dcafe;
}

CHECK(handler_changes_xmm_in_the_frame)
{
	on_siginfo(SIGUSR1, change_xmm, 0);
	register long self __asm__("r12") = getpid();
	uint32_t out[4] = { 0 };
	__asm__ volatile("pxor %%xmm5, %%xmm5;" SYSCALL_KILL_SELF ";movdqu %%xmm5, (%0)"
			 :
			 : "r"(out), "r"(self)
			 : "rax", "rcx", "rdi", "rsi", "r11", "xmm5", "memory");
	EQ(out[0], 0x600dcafe);
}

static volatile greg_t seen_cs_gs_fs, seen_eflags;
static volatile bool df_in_handler;

static void see_flags(int sig, siginfo_t *si, void *context)
{
	(void)sig;
	(void)si;
	ucontext_t *uc = context;
	uint64_t flags;
	__asm__ volatile("pushfq; pop %0" : "=r"(flags));
	df_in_handler = flags & 0x400;
	seen_eflags = uc->uc_mcontext.gregs[REG_EFL];
	seen_cs_gs_fs = uc->uc_mcontext.gregs[REG_CSGSFS];
}

CHECK(direction_flag_is_clear_in_handlers)
{
	on_siginfo(SIGUSR1, see_flags, 0);
	register long self __asm__("r12") = getpid();
	__asm__ volatile("std;" SYSCALL_KILL_SELF "; cld" ::"r"(self) : "rax", "rcx", "rdi", "rsi", "r11", "memory", "cc");
	EXPECT(!df_in_handler);
	EXPECT(seen_eflags & 0x400);
	EQ(seen_cs_gs_fs & 0xffff, 0x33);
}

static volatile int64_t frame_xstate_magic, frame_xstate_size, frame_end_magic;

static void see_xstate(int sig, siginfo_t *si, void *context)
{
	(void)sig;
	(void)si;
	ucontext_t *uc = context;
	char *fp = (char *)uc->uc_mcontext.fpregs;
	frame_xstate_magic = *(uint32_t *)(fp + 464);
	uint32_t extended = *(uint32_t *)(fp + 468);
	frame_xstate_size = *(uint32_t *)(fp + 480);
	if (frame_xstate_magic == 0x46505853)
		frame_end_magic = *(uint32_t *)(fp + frame_xstate_size);
	if (extended != frame_xstate_size + 4)
		frame_end_magic = -1;
}

CHECK(frame_holds_xsave_area)
{
	unsigned a, b, c, d;
	__cpuid(1, a, b, c, d);
	if (!(c & bit_OSXSAVE))
		SKIP("cpu: no XSAVE");
	on_siginfo(SIGUSR1, see_xstate, 0);
	OK(kill(getpid(), SIGUSR1));
	EQ(frame_xstate_magic, 0x46505853);
	EXPECT(frame_xstate_size >= 576);
	EQ(frame_end_magic, 0x46505845);
}

static volatile uintptr_t handler_sp;

static void see_sp(int sig)
{
	(void)sig;
	handler_sp = (uintptr_t)__builtin_frame_address(0);
}

CHECK(red_zone_and_alignment)
{
	on_signal_flags(SIGUSR1, see_sp, 0);
	register long self __asm__("r12") = getpid();
	uint64_t kept;
	__asm__ volatile("movabs $0x1122334455667788, %%rax; mov %%rax, -128(%%rsp);" SYSCALL_KILL_SELF "; mov -128(%%rsp), %0"
			 : "=r"(kept)
			 : "r"(self)
			 : "rax", "rcx", "rdi", "rsi", "r11", "memory");
	EQ(kept, 0x1122334455667788);
	EQ(handler_sp % 16, 0);
}

static void raise_nested(int sig)
{
	(void)sig;
	int got = FAULT(*(volatile int *)8);
	if (got != SIGSEGV)
		abort();
}

CHECK(fault_inside_another_handler)
{
	on_signal_flags(SIGUSR1, raise_nested, 0);
	for (int i = 0; i < 10; i++)
		OK(raise(SIGUSR1));
}

CHECK(read_fault_on_code_fetch_has_instruction_bit)
{
	char *p = map_page(PROT_READ | PROT_WRITE);
	EQ(FAULT(((void (*)(void))p)()), SIGSEGV);
	EQ(fault_rip, p);
	EQ(fault_err & 0x14, 0x14);
}

CHECK(sigreturn_with_a_bad_frame_kills)
{
	CHILD(pid) {
		__asm__ volatile("mov $4096, %%esp; mov $15, %%eax; syscall" ::: "rax", "rcx", "r11", "memory");
	}
	EQ(wait_exit(pid), 128 + SIGSEGV);
}
