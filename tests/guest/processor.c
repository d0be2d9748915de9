/*
 * What a program is told of the processor: by CPUID, the auxiliary vector, /proc and sysfs, and that CPUID is an
 * instruction like any other, whoever answers it.
 */
#include "check.h"
#include <asm/prctl.h>
#include <cpuid.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <ucontext.h>

enum { TF = 0x100, PAGE = 4096 };

static unsigned leaf(unsigned number, unsigned sub, int reg)
{
	unsigned r[4];
	__cpuid_count(number, sub, r[0], r[1], r[2], r[3]);
	return r[reg];
}

static char *text_of(const char *path)
{
	static char text[1 << 18];
	int fd = open(path, O_RDONLY);
	size_t size = 0;
	ssize_t n;
	EXPECT(fd >= 0);
	while ((n = read(fd, text + size, sizeof text - 1 - size)) > 0)
		size += n;
	text[size] = 0;
	close(fd);
	return text;
}

static long arch_prctl(int code, unsigned long argument)
{
	return syscall(SYS_arch_prctl, code, argument);
}

/* Let CPUID fault in this thread. */
static void fault(void)
{
	if (arch_prctl(ARCH_SET_CPUID, 0) != 0) {
		EQ(errno, ENODEV);
		SKIP("cpu: CPUID cannot fault");
	}
}

/* What the kernel gave, of which a static glibc shows something else. */
static unsigned long auxiliary(unsigned long key)
{
	unsigned long pair[2];
	int fd = open("/proc/self/auxv", O_RDONLY);
	EXPECT(fd >= 0);
	while (read(fd, pair, sizeof pair) == sizeof pair)
		if (pair[0] == key)
			return pair[1];
	FAIL("no entry %lu", key);
}

CHECK(auxiliary_vector)
{
	EQ(auxiliary(AT_HWCAP), leaf(1, 0, 3));
	bool fsgsbase = auxiliary(AT_HWCAP2) >> 1 & 1;
	if (fsgsbase)
		EXPECT(leaf(7, 0, 1) & 1);
	EXPECT(strcmp((char *)getauxval(AT_PLATFORM), "x86_64") == 0);
}

CHECK(cpuinfo_flags)
{
	static const struct { const char *name; unsigned leaf; int reg, bit; } flags[] = {
		{ " fpu ", 1, 3, 0 }, { " sse2 ", 1, 3, 26 }, { " pni ", 1, 2, 0 }, { " ssse3 ", 1, 2, 9 },
		{ " fma ", 1, 2, 12 }, { " sse4_1 ", 1, 2, 19 }, { " sse4_2 ", 1, 2, 20 }, { " movbe ", 1, 2, 22 },
		{ " popcnt ", 1, 2, 23 }, { " aes ", 1, 2, 25 }, { " xsave ", 1, 2, 26 }, { " avx ", 1, 2, 28 },
		{ " rdrand ", 1, 2, 30 }, { " hypervisor ", 1, 2, 31 }, { " bmi1 ", 7, 1, 3 }, { " avx2 ", 7, 1, 5 },
		{ " bmi2 ", 7, 1, 8 }, { " erms ", 7, 1, 9 }, { " avx512f ", 7, 1, 16 }, { " avx512vl ", 7, 1, 31 },
		{ " vaes ", 7, 2, 9 }, { " rdpid ", 7, 2, 22 }, { " amx_tile ", 7, 3, 24 }, { " abm ", 0x80000001, 2, 5 },
		{ " lahf_lm ", 0x80000001, 2, 0 }, { " rdtscp ", 0x80000001, 3, 27 },
	};
	char *text = text_of("/proc/cpuinfo");
	char *line = strstr(text, "\nflags");
	EXPECT(line);
	char *end = strchr(line + 1, '\n');
	*end = ' ';
	end[1] = 0;
	for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
		int there = flags[i].leaf <= leaf(flags[i].leaf & 0x80000000, 0, 0) &&
			(leaf(flags[i].leaf, 0, flags[i].reg) >> flags[i].bit & 1);
		if (there != (strstr(line, flags[i].name) != 0))
			FAIL("%s: CPUID says %d", flags[i].name, there);
	}
}

CHECK(numbers_of_cpus)
{
	char *text = text_of("/proc/cpuinfo");
	int count = 0;
	for (char *at = text; (at = strstr(at, "processor\t:")); at++)
		count++;
	EQ(sysconf(_SC_NPROCESSORS_ONLN), count);
	EQ(sysconf(_SC_NPROCESSORS_CONF), count);
	cpu_set_t set;
	OK(sched_getaffinity(0, sizeof set, &set));
	EXPECT(CPU_COUNT(&set) <= count);
	int lines = 0;
	text = text_of("/proc/stat");
	for (char *at = text; (at = strstr(at, "\ncpu")); at++)
		lines++;
	EQ(lines, count);
	text = text_of("/sys/devices/system/cpu/online");
	char *last = strrchr(text, '-');
	EQ(atoi(last ? last + 1 : text), count - 1);
}

CHECK(cpu_ids_agree)
{
	cpu_set_t all, one;
	OK(sched_getaffinity(0, sizeof all, &all));
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		OK(sched_setaffinity(0, sizeof one, &one));
		if (leaf(0, 0, 0) >= 0xb && leaf(0xb, 0, 1))
			EQ(leaf(0xb, 0, 3) & 0xff, leaf(1, 0, 1) >> 24);
	}
}

static uint64_t out[6];

CHECK(registers_and_flags)
{
	unsigned a, b, c, d;
	__cpuid_count(0, 0, a, b, c, d);
	uint64_t flags = 0, other = 0;
	__asm__ volatile("movabs $0x1234567800000000, %%rax\n\t"
			 "mov %%rax, %%rcx\n\t mov %%rax, %%rbx\n\t mov %%rax, %%rdx\n\t mov %%rax, %%r11\n\t"
			 "stc\n\t"
			 "cpuid\n\t"
			 "pushfq\n\t pop %%r10\n\t"
			 "mov %%rax, 0(%2)\n\t mov %%rbx, 8(%2)\n\t mov %%rcx, 16(%2)\n\t mov %%rdx, 24(%2)\n\t"
			 "mov %%r10, %0\n\t mov %%r11, %1"
			 : "=&r"(flags), "=&r"(other)
			 : "r"(out)
			 : "rax", "rbx", "rcx", "rdx", "r10", "r11", "memory", "cc");
	EQ(out[0], a);
	EQ(out[1], b);
	EQ(out[2], c);
	EQ(out[3], d);
	EQ(flags & 0x8d5, 1 | (flags & 0x44));
	EQ(other, 0x1234567800000000);
}

CHECK(prefixes)
{
	unsigned a, b, c, d, e, f;
	__cpuid_count(7, 0, a, b, c, d);
#define WITH(BYTES) \
	do { \
		__asm__ volatile(".byte " BYTES ", 0x0f, 0xa2" : "=a"(e), "=b"(f), "=c"(c), "=d"(d) : "a"(7), "c"(0)); \
		EQ(e, a); \
		EQ(f, b); \
	} while (0)
	WITH("0x66");
	WITH("0xf3");
	WITH("0x48");
	WITH("0x2e, 0xf2, 0x66, 0x4f");
}

/* Code at the end of a page with nothing behind it, and in memory that can only be executed. */
CHECK(odd_places)
{
	char *page = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(page != MAP_FAILED);
	OK(munmap(page + PAGE, PAGE));
	/* push %rbx; xor %eax, %eax; jmp to the end; there: cpuid; and at its beginning: pop %rbx; ret */
	static const unsigned char first[] = { 0x53, 0x31, 0xc0, 0xe9 };
	memcpy(page, first, sizeof first);
	int32_t far = PAGE - 4 - 8;
	memcpy(page + 4, &far, 4);
	memcpy(page + PAGE - 4, "\x0f\xa2\x5b\xc3", 4);
	OK(mprotect(page, PAGE, PROT_READ | PROT_EXEC));
	int (*run)(void) = (int (*)(void))page;
	unsigned most = leaf(0, 0, 0);
	EQ(run(), most);
	OK(mprotect(page, PAGE, PROT_EXEC));
	EQ(run(), most);
}

static volatile uintptr_t seen[3];

static void on_step(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	(void)sig;
	uintptr_t rip = uc->uc_mcontext.gregs[REG_RIP];
	if (rip == seen[0]) {
		seen[1] = info->si_code;
		seen[2] = (uintptr_t)info->si_addr;
		uc->uc_mcontext.gregs[REG_EFL] &= ~TF;
	}
}

CHECK(single_step)
{
	struct sigaction sa = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO };
	OK(sigaction(SIGTRAP, &sa, 0));
	uintptr_t behind;
	unsigned a = 0, b, c, d;
	__asm__ volatile("lea 1f(%%rip), %0" : "=r"(behind));
	seen[0] = behind;
	__asm__ volatile("lea 1f(%%rip), %%rcx\n\t mov %%rcx, %4\n\t xor %%ecx, %%ecx\n\t"
			 "pushfq\n\t orq $0x100, (%%rsp)\n\t popfq\n\t"
			 "cpuid\n"
			 "1:\tnop\n\t nop"
			 : "+a"(a), "=b"(b), "=&c"(c), "=d"(d), "=m"(seen[0])
			 :
			 : "memory", "cc");
	EQ(seen[1], TRAP_TRACE);
	EQ(seen[2], seen[0]);
	EQ(a, leaf(0, 0, 0));
}

static volatile int faults;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	unsigned char *code = (unsigned char *)uc->uc_mcontext.gregs[REG_RIP];
	if (sig != SIGSEGV || info->si_code != SI_KERNEL || info->si_addr || code[0] != 0x0f || code[1] != 0xa2 ||
	    uc->uc_mcontext.gregs[REG_TRAPNO] != 13)
		_exit(99);
	faults++;
	uc->uc_mcontext.gregs[REG_RIP] += 2;
	uc->uc_mcontext.gregs[REG_RAX] = 77;
}

static void catch_faults(void)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	OK(sigaction(SIGSEGV, &sa, 0));
}

CHECK(faulting_on_request)
{
	EQ(arch_prctl(ARCH_GET_CPUID, 0), 1);
	EQ(arch_prctl(ARCH_GET_CPUID, 5), 1);
	fault();
	catch_faults();
	EQ(arch_prctl(ARCH_GET_CPUID, 0), 0);
	for (int i = 1; i < 20; i++) {
		EQ(leaf(0, 0, 0), 77);
		EQ(faults, i);
	}
	OK(arch_prctl(ARCH_SET_CPUID, 3));
	EQ(arch_prctl(ARCH_GET_CPUID, 0), 1);
	EXPECT(leaf(0, 0, 0) != 77);
	EQ(faults, 19);
}

static void *thread(void *arg)
{
	(void)arg;
	return (void *)(arch_prctl(ARCH_GET_CPUID, 0) == 0 && leaf(0, 0, 0) == 77 ? 1L : 0L);
}

CHECK(faulting_is_inherited)
{
	fault();
	catch_faults();
	pthread_t t;
	void *result;
	EQ(pthread_create(&t, 0, thread, 0), 0);
	EQ(pthread_join(t, &result), 0);
	EQ((long)result, 1);
	pid_t child = fork();
	if (child == 0)
		_exit((long)thread(0));
	int status;
	EQ(waitpid(child, &status, 0), child);
	EQ(status, 1 << 8);
}

CHECK(faulting_ends_with_exec)
{
	pid_t child = fork();
	if (child == 0) {
		fault();
		execl("/proc/self/exe", "processor", "registers_and_flags", (char *)0);
		_exit(99);
	}
	int status;
	EQ(waitpid(child, &status, 0), child);
	EQ(status, 0);
}

/* All registers around a piece of code: rax rbx rcx rdx rsi rdi rbp r8 to r15 and the flags, in this order. */
struct registers {
	uint64_t a, b, c, d, si, di, bp, r[8], flags;
};

/*
 * void NAME(struct registers *): BODY with these registers, which are stored again behind it. NAME_site is the address of the label
 * `site` in BODY. What follows the body does not change flags, so that it can be moved, and has labels of its own to branch to.
 */
#define CODE(NAME, BODY) \
	void NAME(struct registers *); \
	extern char NAME##_site[]; \
	__asm__(".text\n\t .p2align 6\n" #NAME ":\n\t" \
		"push %rbx\n\t push %rbp\n\t push %r12\n\t push %r13\n\t push %r14\n\t push %r15\n\t push %rdi\n\t" \
		"push 120(%rdi)\n\t popfq\n\t" \
		"mov 0(%rdi), %rax\n\t mov 8(%rdi), %rbx\n\t mov 16(%rdi), %rcx\n\t mov 24(%rdi), %rdx\n\t" \
		"mov 32(%rdi), %rsi\n\t mov 48(%rdi), %rbp\n\t mov 56(%rdi), %r8\n\t mov 64(%rdi), %r9\n\t" \
		"mov 72(%rdi), %r10\n\t mov 80(%rdi), %r11\n\t mov 88(%rdi), %r12\n\t mov 96(%rdi), %r13\n\t" \
		"mov 104(%rdi), %r14\n\t mov 112(%rdi), %r15\n\t mov 40(%rdi), %rdi\n\t" \
		BODY \
		"\n\t pushfq\n\t push %r15\n\t push %r14\n\t push %r13\n\t push %r12\n\t push %r11\n\t push %r10\n\t" \
		"push %r9\n\t push %r8\n\t push %rbp\n\t push %rdi\n\t push %rsi\n\t push %rdx\n\t push %rcx\n\t" \
		"push %rbx\n\t push %rax\n\t push $2\n\t popfq\n\t mov 128(%rsp), %rdi\n\t" \
		"pop 0(%rdi)\n\t pop 8(%rdi)\n\t pop 16(%rdi)\n\t pop 24(%rdi)\n\t pop 32(%rdi)\n\t pop 40(%rdi)\n\t" \
		"pop 48(%rdi)\n\t pop 56(%rdi)\n\t pop 64(%rdi)\n\t pop 72(%rdi)\n\t pop 80(%rdi)\n\t pop 88(%rdi)\n\t" \
		"pop 96(%rdi)\n\t pop 104(%rdi)\n\t pop 112(%rdi)\n\t pop 120(%rdi)\n\t" \
		"pop %rdi\n\t pop %r15\n\t pop %r14\n\t pop %r13\n\t pop %r12\n\t pop %rbp\n\t pop %rbx\n\t ret\n\t" \
		".p2align 4\n" \
		".globl " #NAME "_site\n .set " #NAME "_site, .L" #NAME "_site\n")

#define LOAD "mov $7, %eax\n\t mov $0, %ecx\n"

/* In front of the site: a load of five bytes; loads of registers; nothing that can be moved. */
CODE(after_load, LOAD ".Lafter_load_site:\t cpuid");
CODE(after_registers, "mov %r8d, %eax\n\t mov %r9d, %ecx\n.Lafter_registers_site:\t cpuid");
CODE(before_registers, LOAD "jmp .Lbefore_registers_site\n.Lbefore_registers_site:\t cpuid\n\t mov %esi, %r10d\n\t mov %edi, %r12d");
/* What is branched to: the site, what is in front of it, what is behind it. */
CODE(in_loop, "mov $5, %rsi\n\t" LOAD "mov %r8d, %eax\n.Lin_loop_site:\t cpuid\n\t lea -1(%rsi), %rsi\n\t xchg %rcx, %rsi\n\t"
	      "jrcxz 2f\n\t xchg %rcx, %rsi\n\t mov $7, %eax\n\t mov $0, %ecx\n\t jmp .Lin_loop_site\n2:\t xchg %rcx, %rsi");
CODE(over_load, "mov $0, %ecx\n\t jmp 2f\n1:\t mov $1, %eax\n.Lover_load_site:\t cpuid\n\t jmp 3f\n"
		"2:\t mov $7, %eax\n\t jmp .Lover_load_site\n\t jmp 1b\n3:");
CODE(red_zone, "mov %r8, -8(%rsp)\n\t mov %r9, -128(%rsp)\n\t" LOAD ".Lred_zone_site:\t cpuid\n\t mov -8(%rsp), %r12\n\t"
	       "mov -128(%rsp), %r13");
CODE(vectors, "movq %r8, %xmm0\n\t movq %r9, %xmm15\n\t" LOAD ".Lvectors_site:\t cpuid\n\t movq %xmm0, %r12\n\t movq %xmm15, %r13");
CODE(by_threads, LOAD ".Lby_threads_site:\t cpuid");
CODE(by_forks, LOAD ".Lby_forks_site:\t cpuid");
CODE(stepped, LOAD ".Lstepped_site:\t cpuid\n\t nop\n\t nop\n\t nop");
CODE(shown, LOAD ".Lshown_site:\t cpuid");
CODE(with_gs, LOAD ".Lwith_gs_site:\t cpuid");

/* Each often enough that its site is patched where that is possible. */
enum { OFTEN = 100, DIRECTION = 0x400, ALIGNMENT = 0x40000, STATUS = 0x8d5 };

/* What leaf 7 is, asked for by an instruction that is in no pattern. */
static void ask(unsigned r[4])
{
	__asm__ volatile(".byte 0x66, 0x0f, 0xa2" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(7), "c"(0));
}

static struct registers some_registers(uint64_t flags)
{
	struct registers r = { 11, 12, 13, 14, 0x1111222233334444, 16, 17, { 7, 0, 20, 21, 22, 23, 24, 25 }, flags | 0x202 };
	return r;
}

static void run_code(void (*code)(struct registers *), uint64_t flags, int times)
{
	unsigned want[4];
	ask(want);
	while (times--) {
		struct registers in = some_registers(flags), out = in;
		code(&out);
		EQ(out.a, want[0]);
		EQ(out.b, want[1]);
		EQ(out.c, want[2]);
		EQ(out.d, want[3]);
		EQ(out.flags, in.flags);
		if (code != in_loop)
			EQ(out.si, in.si);
		EQ(out.di, in.di);
		EQ(out.bp, in.bp);
		if (code == before_registers) {
			in.r[2] = (uint32_t)in.si;
			in.r[4] = (uint32_t)in.di;
		}
		if (code == red_zone || code == vectors) {
			in.r[4] = in.r[0];
			in.r[5] = in.r[1];
		}
		for (int i = 0; i < 8; i++)
			EQ(out.r[i], in.r[i]);
	}
}

CHECK(patched_registers_and_flags)
{
	static void (*const codes[])(struct registers *) = { after_load, after_registers, before_registers, in_loop, over_load, red_zone, vectors };
	static const uint64_t flags[] = { 0, STATUS, DIRECTION, ALIGNMENT, STATUS | DIRECTION | ALIGNMENT };
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		for (size_t j = 0; j < sizeof flags / sizeof *flags; j++)
			run_code(codes[i], flags[j], OFTEN);
}

static void *run_by_thread(void *arg)
{
	(void)arg;
	run_code(by_threads, STATUS, 20 * OFTEN);
	return 0;
}

CHECK(patched_by_threads)
{
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		EQ(pthread_create(&threads[i], 0, run_by_thread, 0), 0);
	for (int i = 0; i < 4; i++)
		EQ(pthread_join(threads[i], 0), 0);
}

CHECK(patched_in_children)
{
	run_code(by_forks, 0, OFTEN);
	for (int i = 0; i < 3; i++) {
		pid_t child = fork();
		if (child == 0) {
			run_code(by_forks, STATUS, OFTEN);
			_exit(0);
		}
		int status;
		EQ(waitpid(child, &status, 0), child);
		EQ(status, 0);
	}
}

static volatile uintptr_t behind, steps_there;

static void count_step(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	(void)sig;
	if ((uintptr_t)uc->uc_mcontext.gregs[REG_RIP] == behind && info->si_code == TRAP_TRACE && (uintptr_t)info->si_addr == behind)
		steps_there++;
}

CHECK(patched_single_step)
{
	struct sigaction sa = { .sa_sigaction = count_step, .sa_flags = SA_SIGINFO };
	OK(sigaction(SIGTRAP, &sa, 0));
	run_code(stepped, 0, OFTEN);
	behind = (uintptr_t)stepped_site + 2;
	for (int i = 1; i < 5; i++) {
		run_code(stepped, TF, 1);
		EQ(steps_there, i);
	}
}

/* Whoever wants to see faults sees the registers as they were. */
static struct registers at_fault;

static void note_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	(void)sig;
	(void)info;
	at_fault.a = uc->uc_mcontext.gregs[REG_RAX];
	at_fault.b = uc->uc_mcontext.gregs[REG_RBX];
	at_fault.c = uc->uc_mcontext.gregs[REG_RCX];
	at_fault.d = uc->uc_mcontext.gregs[REG_RDX];
	at_fault.si = uc->uc_mcontext.gregs[REG_RIP];
	uc->uc_mcontext.gregs[REG_RIP] += 2;
}

CHECK(patched_and_then_faulting)
{
	struct sigaction sa = { .sa_sigaction = note_fault, .sa_flags = SA_SIGINFO };
	OK(sigaction(SIGSEGV, &sa, 0));
	run_code(shown, 0, OFTEN);
	fault();
	for (int i = 0; i < OFTEN; i++) {
		struct registers r = some_registers(0);
		shown(&r);
		EQ(at_fault.a, 7);
		EQ(at_fault.b, 12);
		EQ(at_fault.c, 0);
		EQ(at_fault.d, 14);
		EQ(at_fault.si, (uintptr_t)shown_site);
		EQ(r.b, 12);
	}
	OK(arch_prctl(ARCH_SET_CPUID, 1));
	run_code(shown, 0, OFTEN);
}

CHECK(patched_with_own_gs)
{
	static uint64_t area[8];
	run_code(with_gs, 0, OFTEN);
	OK(arch_prctl(ARCH_SET_GS, (unsigned long)area));
	run_code(with_gs, STATUS, OFTEN);
	for (int i = 0; i < 8; i++)
		EQ(area[i], 0);
	OK(arch_prctl(ARCH_SET_GS, 0));
	run_code(with_gs, STATUS, OFTEN);
}

/* Text of a file: shared and private, at the end of its last page. */
CHECK(patched_text_of_files)
{
	static const unsigned char text[] = { 0x53, 0xb8, 7, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2, 0x89, 0xd8, 0x5b, 0xc3 };
	unsigned want[4];
	ask(want);
	int fd = open("text", O_RDWR | O_CREAT, 0755);
	EXPECT(fd >= 0);
	OK(ftruncate(fd, 2 * PAGE));
	EQ(pwrite(fd, text, sizeof text, PAGE - 10), sizeof text);
	EQ(pwrite(fd, text, sizeof text, 2 * PAGE - sizeof text), sizeof text);
	for (int kind = MAP_SHARED; kind <= MAP_PRIVATE; kind++) {
		char *map = mmap(0, 2 * PAGE, PROT_READ | PROT_EXEC, kind, fd, 0);
		EXPECT(map != MAP_FAILED);
		for (int i = 0; i < OFTEN; i++) {
			EQ(((unsigned (*)(void))(map + PAGE - 10))(), want[1]);
			EQ(((unsigned (*)(void))(map + 2 * PAGE - sizeof text))(), want[1]);
		}
		/* Whatever became of the text in memory, the file is what it was. */
		unsigned char now[sizeof text];
		EQ(pread(fd, now, sizeof now, PAGE - 10), sizeof now);
		EXPECT(memcmp(now, text, sizeof now) == 0);
		OK(munmap(map, 2 * PAGE));
	}
}

/* Components of the extended state: those of the processor, but of AMX, which has to be asked for, perhaps in vain. */
CHECK(state_components)
{
	enum { GET_SUPP = 0x1021, GET_PERM, REQ_PERM };
	const uint64_t amx = 3 << 17;
	uint64_t supported = 0, permitted = 0;
	if (arch_prctl(GET_SUPP, (unsigned long)&supported) != 0) {
		EQ(errno, EINVAL);
		SKIP("cpu: a kernel without arch_prctl(ARCH_GET_XCOMP_SUPP)");
	}
	uint64_t shown = leaf(0, 0, 0) < 0xd ? 3 : leaf(0xd, 0, 0) | (uint64_t)leaf(0xd, 0, 3) << 32;
	EQ(supported & ~amx, shown & ~amx);
	OK(arch_prctl(GET_PERM, (unsigned long)&permitted));
	EQ(permitted & ~amx, supported & ~amx);
	EQ(permitted & ~supported, 0);
	ERR(arch_prctl(GET_PERM, 8), EFAULT);
	ERR(arch_prctl(REQ_PERM, 2), EOPNOTSUPP);
	if (!(supported & amx))
		ERR(arch_prctl(REQ_PERM, 18), EOPNOTSUPP);
}
