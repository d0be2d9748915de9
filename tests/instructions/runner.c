/*
 * Executes pieces of machine code one by one, each from the same state, until an exception ends it, and tells what came
 * of it: the signal and what it says, registers, flags, selectors, extended state and memory.
 *
 *   runner FILE SEED [--without-vectors] [--tell FROM TO]
 *
 * FILE holds a length byte and the code for each piece. One line for each 256 pieces, a hash of all outcomes; with --tell
 * also a line for each piece from FROM to TO. Everything lies where no address differs from run to run.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

enum { PAGE = 4096, DATA_PAGES = 2, CODE_PAGES = 3, BLOCK = 256, WORDS = 64, XSTATE_MAX = 16384 };

#define DATA 0x1000000000ull
#define CODE 0x1010000000ull
/* Where each piece begins. */
#define START (CODE + PAGE + 2048)
#define FS_BASE (DATA + 0x400)
#define GS_BASE (DATA + 0x800)
/* Beyond this uvm keeps what is its own. */
#define PLATFORM 0x7fff00000000ull

enum { AC = 0x40000, FP_STATE_SW = 464, HEADER = 512 };

/* What came of one piece, as words that can be compared. */
struct outcome {
	uint64_t words[WORDS];
	int count;
};

static const unsigned char *stream, *next_piece, *stream_end;
static unsigned char data_template[DATA_PAGES * PAGE], xstate_template[XSTATE_MAX];
static size_t xstate_size;
static uint64_t seed, own_fs;
static long at = -1, tell_from = -1, tell_to = -1;
static int with_vectors = 1;
static uint64_t block_hash = 1;
static struct { unsigned at, size; } component[64];

static const char *const NAMES[] = { "signal", "code", "addr", "trapno", "error", "rip", "flags", "r8", "r9", "r10", "r11",
	"r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp", "fs_base", "gs_base", "cs_ss",
	"ds_es", "fs_gs", "x87", "mxcsr", "xmm", "ymm", "opmask", "zmm_low", "zmm_high", "pkru", "data", "text" };

static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
	return hash ^ hash >> 29;
}

static uint64_t draw(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15ull;
	uint64_t z = *state;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static uint64_t hash_of(const void *from, size_t size)
{
	const unsigned char *bytes = from;
	uint64_t hash = 7, word;
	for (size_t i = 0; i + 8 <= size; i += 8) {
		memcpy(&word, bytes + i, 8);
		hash = mix(hash, word);
	}
	return hash;
}

/* A value that an instruction may make something of: mostly a place in the data. */
static uint64_t value(uint64_t *state)
{
	uint64_t r = draw(state), kind = r >> 60;
	if (kind < 9)
		return DATA + PAGE + ((r & 0xff8) - 0x800);
	if (kind < 12)
		return r & 0x3f;
	if (kind < 13)
		return -(r & 0xff);
	if (kind < 14)
		return r & 0xffffffff;
	return r | 1ull << 62;
}

static void fill_templates(void)
{
	uint64_t state = seed;
	for (size_t i = 0; i < sizeof data_template; i += 8) {
		uint64_t word = draw(&state) & 3 ? draw(&state) : value(&state);
		memcpy(data_template + i, &word, 8);
	}
}

/* Reads what the handler was given and makes the template of it, with something in every register. */
static void fill_xstate(const unsigned char *fp)
{
	uint64_t state = seed + 1, features;
	uint32_t size;
	memcpy(&features, fp + FP_STATE_SW + 8, 8);
	memcpy(&size, fp + FP_STATE_SW + 16, 4);
	if (size > XSTATE_MAX)
		_exit(3);
	xstate_size = size;
	memcpy(xstate_template, fp, size);
	for (unsigned n = 2; n < 20; n++) {
		unsigned a, b, c, d;
		__cpuid_count(0xd, n, a, b, c, d);
		if (features >> n & 1 && b + a <= size) {
			component[n].at = b;
			component[n].size = a;
		}
	}
	memset(xstate_template, 0, 32);
	xstate_template[0] = 0x7f; /* FCW */
	xstate_template[1] = 0x03;
	xstate_template[4] = 0xff; /* FTW: all in use */
	xstate_template[24] = 0x80; /* MXCSR */
	xstate_template[25] = 0x1f;
	for (unsigned i = 0; i < 8; i++) {
		long double number = (double)(int64_t)draw(&state) / (1 << (i * 3));
		memset(xstate_template + 32 + 16 * i, 0, 16);
		memcpy(xstate_template + 32 + 16 * i, &number, 10);
	}
	for (unsigned i = 160; i < 416; i += 8) {
		uint64_t word = draw(&state);
		if ((word & 7) == 0) {
			double number = (double)(int64_t)draw(&state) / 65536;
			memcpy(&word, &number, 8);
		}
		memcpy(xstate_template + i, &word, 8);
	}
	uint64_t used = 3;
	for (unsigned n = 2; n < 8; n++) {
		if (n == 3 || n == 4 || !component[n].size)
			continue;
		used |= 1ull << n;
		for (unsigned i = 0; i < component[n].size; i += 8) {
			uint64_t word = draw(&state);
			memcpy(xstate_template + component[n].at + i, &word, 8);
		}
	}
	uint64_t before;
	memcpy(&before, fp + HEADER, 8);
	used |= before & 1 << 9;
	memcpy(xstate_template + HEADER, &used, 8);
}

static void add(struct outcome *o, uint64_t word)
{
	o->words[o->count++] = word;
}

/* A component that is not in use is in its initial state. */
static void add_component(struct outcome *o, const unsigned char *fp, uint64_t used, unsigned n)
{
	static const unsigned char zeros[2048];
	int there = used >> n & 1;
	unsigned size = component[n].size;
	add(o, size > sizeof zeros ? 0 : hash_of(there ? fp + component[n].at : zeros, size));
}

static void add_xstate(struct outcome *o, const unsigned char *fp)
{
	static const unsigned char zeros[512], initial[32] = { 0x7f, 0x03 };
	uint64_t used, x87 = 3;
	uint32_t mxcsr;
	memcpy(&used, fp + HEADER, 8);
	x87 = mix(x87, hash_of(used & 1 ? fp : initial, 24));
	for (unsigned i = 0; i < 8; i++) {
		uint64_t low = 0;
		uint16_t high = 0;
		if (used & 1) {
			memcpy(&low, fp + 32 + 16 * i, 8);
			memcpy(&high, fp + 40 + 16 * i, 2);
		}
		x87 = mix(mix(x87, low), high);
	}
	add(o, x87);
	memcpy(&mxcsr, fp + 24, 4);
	add(o, mxcsr);
	add(o, hash_of(used & 2 ? fp + 160 : zeros, 256));
	add_component(o, fp, used, 2);
	add_component(o, fp, used, 5);
	add_component(o, fp, used, 6);
	add_component(o, fp, used, 7);
	add_component(o, fp, used, 9);
}

static void judge(struct outcome *o, int sig, const siginfo_t *info, const ucontext_t *uc)
{
	const greg_t *g = uc->uc_mcontext.gregs;
	unsigned ds, es, fs, gs;
	uint64_t fs_base, gs_base;
	__asm__("mov %%ds, %0" : "=r"(ds));
	__asm__("mov %%es, %0" : "=r"(es));
	__asm__("mov %%fs, %0" : "=r"(fs));
	__asm__("mov %%gs, %0" : "=r"(gs));
	fs_base = own_fs;
	__asm__("rdgsbase %0" : "=r"(gs_base));
	if (gs_base >= PLATFORM)
		gs_base = 0; /* uvm's table of instructions says so of a base that is 0 */
	o->count = 0;
	add(o, sig);
	add(o, info->si_code);
	add(o, (uint64_t)info->si_addr);
	add(o, with_vectors ? g[REG_TRAPNO] : 0);
	add(o, with_vectors ? g[REG_ERR] : 0);
	add(o, g[REG_RIP]);
	add(o, g[REG_EFL]);
	for (int i = REG_R8; i <= REG_RSP; i++)
		add(o, g[i]);
	add(o, fs_base);
	add(o, gs_base);
	add(o, g[REG_CSGSFS]);
	add(o, (uint64_t)ds << 16 | es);
	add(o, (uint64_t)fs << 16 | gs);
	add_xstate(o, (const unsigned char *)uc->uc_mcontext.fpregs);
	add(o, hash_of((void *)DATA, DATA_PAGES * PAGE));
	add(o, hash_of((void *)CODE, CODE_PAGES * PAGE));
}

static void tell(const struct outcome *o, const unsigned char *piece)
{
	printf("%ld", at);
	for (int i = 0; i < o->count; i++)
		printf(" %s=%llx", NAMES[i], (unsigned long long)o->words[i]);
	printf(" bytes=");
	for (int i = 0; i < piece[0]; i++)
		printf("%02x", piece[1 + i]);
	printf("\n");
}

/* Everything as every piece finds it. */
static void prepare(ucontext_t *uc)
{
	greg_t *g = uc->uc_mcontext.gregs;
	uint64_t state = mix(seed, at);
	memcpy((void *)DATA, data_template, sizeof data_template);
	memset((void *)CODE, 0xcc, CODE_PAGES * PAGE);
	memcpy((void *)START, next_piece + 1, next_piece[0]);
	for (int i = REG_R8; i < REG_RSP; i++)
		g[i] = value(&state);
	if (draw(&state) & 3)
		g[REG_RCX] &= 0x1f;
	g[REG_RSP] = DATA + PAGE + (draw(&state) & 0x3f8);
	g[REG_RIP] = START;
	uint64_t r = draw(&state);
	uint64_t flags = 0x202 | (r & 0x8d5);
	if ((r >> 16 & 15) == 0)
		flags |= 0x400; /* DF */
	if ((r >> 20 & 63) == 0)
		flags |= 0x100; /* TF */
	if ((r >> 26 & 63) == 0)
		flags |= AC;
	g[REG_EFL] = flags;
	g[REG_CSGSFS] = 0x2bull << 48 | 0x33;
	memcpy(uc->uc_mcontext.fpregs, xstate_template, xstate_size);
	__asm__ volatile("mov %0, %%ds\n\t mov %0, %%es\n\t mov %0, %%fs\n\t mov %0, %%gs" : : "r"(0));
}

__attribute__((no_stack_protector)) static void handler(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	uint64_t found_fs;
	__asm__ volatile("pushfq\n\t andq %0, (%%rsp)\n\t popfq" : : "i"(~AC) : "memory", "cc");
	__asm__ volatile("rdfsbase %0\n\t wrfsbase %1" : "=&r"(found_fs) : "r"(own_fs) : "memory");
	if (at < 0) {
		fill_xstate((unsigned char *)uc->uc_mcontext.fpregs);
	} else {
		uint64_t real = own_fs;
		struct outcome o;
		own_fs = found_fs;
		judge(&o, sig, info, uc);
		own_fs = real;
		for (int i = 0; i < o.count; i++)
			block_hash = mix(block_hash, o.words[i]);
		if (at >= tell_from && at < tell_to)
			tell(&o, next_piece);
		next_piece += 1 + next_piece[0];
	}
	at++;
	int over = next_piece >= stream_end;
	if (at && (at % BLOCK == 0 || over)) {
		printf("block %ld %016llx\n", (at - 1) / BLOCK, (unsigned long long)block_hash);
		block_hash = 1;
	}
	if (over)
		exit(0);
	prepare(uc);
	__asm__ volatile("wrgsbase %0" : : "r"(GS_BASE));
	__asm__ volatile("wrfsbase %0" : : "r"(FS_BASE) : "memory");
}

static void map(uint64_t where, size_t size, int prot)
{
	void *got = mmap((void *)where, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (got != (void *)where) {
		perror("mmap");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	seed = strtoull(argv[2], 0, 10);
	for (int i = 3; i < argc; i++) {
		if (strcmp(argv[i], "--without-vectors") == 0)
			with_vectors = 0;
		else if (strcmp(argv[i], "--tell") == 0 && i + 2 < argc) {
			tell_from = atol(argv[i + 1]);
			tell_to = atol(argv[i + 2]);
			i += 2;
		} else
			return 2;
	}
	int fd = open(argv[1], O_RDONLY);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) != 0 || st.st_size == 0)
		return 2;
	unsigned char *all = malloc(st.st_size);
	for (off_t got = 0, n; got < st.st_size; got += n)
		if ((n = read(fd, all + got, st.st_size - got)) <= 0)
			return 2;
	stream = next_piece = all;
	stream_end = stream + st.st_size;

	/* One CPU: some instructions tell its number. */
	cpu_set_t set, one;
	sched_getaffinity(0, sizeof set, &set);
	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE && !CPU_COUNT(&one); cpu++)
		if (CPU_ISSET(cpu, &set))
			CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof one, &one);

	map(DATA, DATA_PAGES * PAGE, PROT_READ | PROT_WRITE);
	map(CODE, CODE_PAGES * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
	fill_templates();
	__asm__("rdfsbase %0" : "=r"(own_fs));
	stack_t stack = { .ss_sp = malloc(1 << 18), .ss_size = 1 << 18 };
	sigaltstack(&stack, 0);
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	sigfillset(&sa.sa_mask);
	static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS };
	for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
		sigaction(signals[i], &sa, 0);
	static char buffer[1 << 16];
	setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
	__asm__ volatile("int3");
	return 4;
}
