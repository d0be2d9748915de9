/*
 * A runtime that lies: takes the place of the real one in its own process and talks to the supervisor by itself. It rings
 * with random traps, and answers commands truly, wrongly or not at all. What it begins with is the seed.
 *
 *   fake_runtime [--seed N] [--count N | --seconds N] [--layout N,...]
 */
#include "jump.h"
#include "layout.h"
#include <sched.h>

enum { KINDS = 6, REPLY = 1, EXIT = 4, REGISTERS = 27, ARENA = 1 << 18, TURNS = 400, HELLO = 110 };
enum { OP_CALL = 1, OP_COPY_IN, OP_COPY_OUT, OP_GET, OP_SET, OP_CLONE, OP_SET_BIT, OP_TAKE };
enum { R_RAX = 10, R_RDX = 12, R_ORIG_RAX = 15, R_RIP = 16, R_FLAGS = 18, R_RSP = 19, R_FS = 21, R_GS = 22 };
static const int argument_registers[] = { 14, 13, 12, 7, 9, 8 };

static char *arena;
static uint32_t seen;
static int children;

/* The host's own call, from where the filter takes it for the runtime's. */
static long host(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
	long result;
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	register uint64_t r9 __asm__("r9") = f;
	/* A call pushes its return address: not into the red zone. */
	__asm__ volatile("lea -128(%%rsp), %%rsp; call *%[at]; lea 128(%%rsp), %%rsp"
			 : "=a"(result), "+r"(r10), "+r"(r8), "+r"(r9)
			 : "a"(number), "D"(a), "S"(b), "d"(c), [at] "r"(PLATFORM_BASE)
			 : "rcx", "r11", "memory");
	return result;
}

static volatile uint32_t *word(uint64_t at)
{
	return (uint32_t *)(SHARED_BASE + at);
}

static void tell(enum part which, uint32_t value)
{
	*word(layout[which]) = value;
	host(SYS_futex, (uint64_t)word(layout[which]), 1, 1 << 30, 0, 0, 0);
}

/* The next answer; false when none comes. */
static bool wait_for_answer(void)
{
	struct timespec limit = { 0, 4000000 };
	for (int i = 0; i < 4; i++) {
		if (*word(layout[RSP]) != seen) {
			seen = *word(layout[RSP]);
			return true;
		}
		host(SYS_futex, (uint64_t)word(layout[RSP]), 0, seen, (uint64_t)&limit, 0, 0);
	}
	return false;
}

static uint64_t wild(void)
{
	static const uint64_t odd[] = {
		0, 1, 2, 3, 4096, 4095, 0x7fffffff, 0x80000000, 0xffffffff, UINT64_MAX, UINT64_MAX - 99, 1ul << 63, 1ul << 47,
		PLATFORM_BASE, PLATFORM_BASE - 1, SHARED_BASE, PRIVATE_BASE, 0x7ffffffff000, 0xffffffffff600000,
	};
	switch (random_below(8)) {
	case 0:
		return odd[random_below(sizeof odd / sizeof odd[0])];
	case 1:
	case 2:
		return (uint64_t)arena + random_below(ARENA);
	case 3:
		return (uint64_t)arena + random_below(64) * PAGE;
	case 4:
		return 1ul << random_below(64);
	case 5:
	case 6:
		return random_below(32);
	default:
		return random_u64();
	}
}

struct segment {
	uint64_t addr;
	uint32_t length;
	uint16_t offset, flags;
};

/* Memory that comes with the call, as its arguments name it or as it pleases. */
static uint32_t random_segments(void)
{
	volatile struct segment *segment = (struct segment *)(SHARED_BASE + layout[SEGMENT]);
	volatile uint64_t *regs = (uint64_t *)(SHARED_BASE + layout[REGS]);
	for (uint64_t i = 0; i < layout[SEGMENTS]; i++) {
		segment[i].addr = random_below(8) ? regs[argument_registers[random_below(6)]] - random_below(8) * random_below(8) : wild();
		segment[i].length = random_below(8) ? random_below(5000) : random_u64();
		segment[i].offset = random_below(8) ? random_below(0x8000) : random_u64();
		segment[i].flags = random_below(8) ? random_below(4) : random_u64();
	}
	return random_below(8) ? random_below(layout[SEGMENTS] + 1) : random_u64();
}

static void random_trap(void)
{
	volatile uint64_t *regs = (uint64_t *)(SHARED_BASE + layout[REGS]);
	volatile uint32_t *request = word(layout[REQUEST]), *exception = word(layout[EXCEPTION]);
	static const int signals[] = { 4, 5, 7, 8, 11, 31, 9, 19, 63, 0, -1, 64, 65, 1000 };
	bool plain = random_below(8);
	for (int i = 0; i < REGISTERS; i++)
		regs[i] = plain ? (uint64_t)arena + i * 64 : wild();
	if (plain)
		regs[R_FS] = regs[R_GS] = 0;
	for (int i = 0; i < 6; i++)
		regs[argument_registers[i]] = wild();
	/* All but ends, most of the time. */
	uint64_t number = random_below(470);
	if ((number == SYS_exit || number == SYS_exit_group) && random_below(8))
		number = SYS_clone;
	if (random_below(50) == 0)
		number = random_u64();
	if (number == SYS_clone && random_below(2))
		regs[argument_registers[0]] = SIGCHLD;
	regs[R_RAX] = regs[R_ORIG_RAX] = number;
	regs[R_RIP] = random_below(4) ? (uint64_t)arena : wild();
	regs[R_RSP] = random_below(4) ? (uint64_t)arena + ARENA / 2 : wild();
	regs[R_FLAGS] = random_below(4) ? 0x202 : random_u64();
	request[0] = random_below(4) ? 1 : random_below(20) ? random_below(KINDS) : random_u64();
	request[1] = random_below(4) ? 0 : random_u64();
	request[2] = random_below(2);
	request[3] = random_segments();
	exception[0] = signals[random_below(sizeof signals / sizeof signals[0])];
	exception[1] = random_below(4) ? 1 + random_below(4) : random_u64();
	for (int i = 2; i < 8; i++)
		exception[i] = random_below(2) ? 0 : random_u64();
}

static bool in_arena(uint64_t at, uint64_t length)
{
	return at >= (uint64_t)arena && length <= ARENA && at + length <= (uint64_t)arena + ARENA;
}

/* In a new process: what the supervisor expects of it, or something else. */
static void be_child(uint64_t token)
{
	children = 100;
	if (random_below(8) == 0)
		token ^= 1ul << random_below(64);
	if (random_below(8))
		host(SYS_prctl, 1, SIGKILL, 0, 0, 0, 0);
	long bell = host(HELLO, token, 0, 0, 0, 0, 0);
	if (bell <= 0)
		host(SYS_exit_group, 0, 0, 0, 0, 0, 0);
	host(SYS_mmap, SHARED_BASE, 4096 * SHARED_STRIDE, 3, MAP_SHARED | MAP_FIXED, bell, 0);
	if (random_below(4))
		host(SYS_close, bell, 0, 0, 0, 0, 0);
	seen = 0;
}

/* True in a child. */
static bool carry_out(uint32_t op, const volatile uint64_t *a, volatile int64_t *result)
{
	char *window = (char *)SHARED_BASE + PAGE;
	switch (op) {
	case OP_CALL:
		*result = host(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
		break;
	case OP_TAKE:
		*result = host(HELLO, a[0], 0, 0, 0, 0, 0);
		break;
	case OP_COPY_IN:
		if (in_arena(a[1], a[2]))
			memcpy(window + a[0] % 0x8000, (char *)a[1], a[2] % 0x8000);
		*result = in_arena(a[1], a[2]) ? (int64_t)a[2] : 0;
		break;
	case OP_COPY_OUT:
		if (in_arena(a[0], a[2]))
			memcpy((char *)a[0], window + a[1] % 0x8000, a[2] % 0x8000);
		*result = in_arena(a[0], a[2]) ? (int64_t)a[2] : 0;
		break;
	case OP_CLONE:
		/* Neither threads nor what shares memory: they need a stack. */
		if ((a[0] & CLONE_VM) || children++ > 2) {
			*result = random_below(2) ? -EAGAIN : (int64_t)random_below(40000);
			break;
		}
		bool denied = random_below(4) == 0;
		*result = host(SYS_clone, a[0], 0, 0, 0, 0, a[2]);
		if (*result == 0) {
			while (denied)
				__asm__ volatile("" ::: "memory");
			be_child(a[2]);
			return true;
		}
		if (denied)
			*result = -EAGAIN;
		break;
	default:
		*result = 0;
	}
	return false;
}

/* True in a child that they made. */
static bool answer_commands(void)
{
	uint32_t count = *word(layout[ANSWER_COUNT]);
	bool honest = random_below(4);
	for (uint32_t i = 0; i < count && i < layout[COMMANDS]; i++) {
		uint64_t at = SHARED_BASE + layout[COMMAND] + i * layout[COMMAND_SIZE];
		volatile int64_t *result = (int64_t *)(at + layout[RESULT]);
		if (!honest && random_below(2)) {
			*result = random_below(2) ? (int64_t)wild() : -(int64_t)random_below(200);
			continue;
		}
		if (carry_out(*(volatile uint32_t *)at, (uint64_t *)(at + layout[ARGS]), result))
			return true;
		if (*result < 0 && random_below(8))
			break;
	}
	return false;
}

static void noise(void)
{
	switch (random_below(5)) {
	case 0:
		*word(random_below(1024) * 4) = random_u64();
		break;
	case 1:
		tell(DONE, *word(layout[DONE]) + random_below(3));
		break;
	case 2:
		tell(REQ, random_below(2) ? *word(layout[REQ]) + 1 : random_u64());
		break;
	case 3:
		for (int i = 0; i < 64; i++)
			*word(PAGE + random_below(0x4000) * 4) = wild();
		break;
	default:
		*word(layout[RSP]) = random_u64();
	}
}

static void converse(void)
{
	bool running = true;
	for (int i = 0; i < TURNS; i++) {
		if (random_below(32) == 0)
			noise();
		if (running) {
			random_trap();
			tell(REQ, *word(layout[REQ]) + 1);
			running = false;
		}
		if (!wait_for_answer()) {
			/* The call waits, or the conversation is lost. */
			if (random_below(2))
				break;
			continue;
		}
		uint32_t action = *word(layout[ANSWER]);
		if (action == EXIT)
			break;
		if (action != REPLY)
			running = true;
		else if (!answer_commands() && random_below(64))
			tell(DONE, *word(layout[DONE]) + 1);
	}
	host(random_below(2) ? SYS_exit : SYS_exit_group, 0, 0, 0, 0, 0, 0);
}

static uint64_t site, seed;

static void lie(uint64_t which)
{
	static const unsigned char code[] = { 0x0f, 0x05, 0xc3 }; /* syscall; ret */
	random_state = (seed + which) * 0x9e3779b97f4a7c15ul | 1;
	/* The kernel may be told to write anywhere about the arena: not to what others see. */
	NEED(munmap((void *)shared, PAGE) == 0);
	arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(arena != MAP_FAILED);
	for (int i = 0; i < ARENA / 8; i++)
		((uint64_t *)arena)[i] = random_below(4) ? random_below(64) : wild();
	for (int i = 0; i < 64; i++)
		strcpy(arena + i * PAGE, i % 3 ? "/etc/passwd" : i % 2 ? "/tmp" : "name");
	int p[2], null = open("/dev/null", O_RDWR);
	/* What is written to any of them says nothing. */
	for (int fd = 0; fd < 3; fd++)
		NEED(dup2(null, fd) == fd);
	NEED(open("/etc/passwd", O_RDONLY) >= 0 && pipe2(p, O_NONBLOCK) == 0 && open("/tmp", O_RDONLY) >= 0);
	/* Whom it may signal or trace is decided by this. */
	set_limit(RLIMIT_AS, 1ul << 32);
	set_limit(RLIMIT_FSIZE, 16 << 20);
	set_limit(RLIMIT_NPROC, 64);
	set_limit(RLIMIT_CPU, 5);
	NEED(setresgid(54321, 54321, 54321) == 0 && setresuid(54321, 54321, 54321) == 0);
	/* The image's header: nobody needs it any more. */
	native_call(site, new_stack(), SYS_mprotect, PLATFORM_BASE, PAGE, 7, 0, 0, 0);
	memcpy((void *)PLATFORM_BASE, code, sizeof code);
	seen = *word(layout[RSP]);
	converse();
}

/* Several at once. What one exits with is a random number too. */
static void lie_together(void)
{
	pid_t running[AT_ONCE];
	for (int i = 0; i < AT_ONCE; i++)
		running[i] = start_attack(lie, i);
	for (int i = 0; i < AT_ONCE; i++)
		settle(running[i]);
}

int main(int argc, char **argv)
{
	bool platform = begin(argc, argv, "fake_runtime");
	if (platform) {
		seed = strtoull(option(argc, argv, "--seed", "1"), NULL, 0);
		uint64_t count = strtoull(option(argc, argv, "--count", "96"), NULL, 0);
		time_t seconds = atol(option(argc, argv, "--seconds", "0")), begun = time(NULL);
		read_layout(argc, argv);
		find_sites();
		site = find_returning_site();
		NEED(site);
		uint64_t done = 0;
		while (done < count || time(NULL) - begun < seconds) {
			lie_together();
			check_sibling();
			seed += AT_ONCE;
			done += AT_ONCE;
		}
		fprintf(stderr, "fake_runtime: %lu conversations, the next seed is %lu\n", (unsigned long)done, (unsigned long)seed);
	}
	return end(platform);
}
