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
