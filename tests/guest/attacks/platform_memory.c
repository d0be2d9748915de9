/* Unmaps, overwrites, protects and replaces the runtime's text, pages, windows, blocks and stacks. */
#include "jump.h"
#include <linux/futex.h>
#include <sys/shm.h>
#include <sys/uio.h>

struct target {
	uint64_t at, length;
};

/* What there is of the platform, by its own layout. */
static const struct target targets[] = {
	{ PLATFORM_BASE, PAGE },
	{ PLATFORM_BASE, RUNTIME_MAX },
	/* What other processes are told by as well. */
	{ FACTS_BASE, PAGE },
	{ FACTS_BASE + PAGE, 256 * PAGE },
	{ SHARED_BASE, PAGE },
	{ SHARED_BASE + PAGE, SHARED_STRIDE - PAGE },
	{ SHARED_BASE + SHARED_STRIDE, SHARED_STRIDE },
	{ SHARED_BASE, 4096 * SHARED_STRIDE },
	{ PRIVATE_BASE, PAGE },
	{ PRIVATE_BASE + PAGE, PRIVATE_STRIDE - PAGE },
	{ PRIVATE_BASE + PRIVATE_STRIDE, PRIVATE_STRIDE },
	{ PRIVATE_BASE, 4096 * PRIVATE_STRIDE },
	{ PLATFORM_BASE, 0xfffff000 },
	{ PLATFORM_BASE - PAGE, 2 * PAGE },
};
enum { TARGETS = sizeof targets / sizeof targets[0] };

static uint64_t text_sum(void)
{
	uint64_t sum = 0;
	for (uint64_t at = PLATFORM_BASE; at < PLATFORM_BASE + PAGE; at += 8)
		sum = sum * 31 + *(volatile uint64_t *)at;
	return sum;
}

#define REFUSED(call) \
	do { \
		long result_ = (call); \
		if (result_ != -1) { \
			fprintf(stderr, "%s: %s on %#lx gives %#lx\n", attack_name, #call, (unsigned long)t->at, result_); \
			_exit(BREACH); \
		} \
	} while (0)

/* Ordinary calls must refuse, with an errno, and nothing has changed. */
static void by_calls(uint64_t which)
{
	const struct target *t = &targets[which];
	void *at = (void *)t->at, *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	static const int protections[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE | PROT_EXEC };
	uint64_t sum = text_sum();
	for (int i = 0; i < 4; i++) {
		REFUSED(syscall(SYS_mprotect, at, t->length, protections[i]));
		REFUSED(syscall(SYS_pkey_mprotect, at, t->length, protections[i], -1));
		REFUSED(syscall(SYS_mmap, at, t->length, protections[i], MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
		REFUSED(syscall(SYS_mmap, at, t->length, protections[i], MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
	}
	REFUSED(syscall(SYS_mremap, at, t->length, t->length + PAGE, MREMAP_MAYMOVE));
	REFUSED(syscall(SYS_mremap, at, t->length, PAGE, 0));
	REFUSED(syscall(SYS_mremap, page, PAGE, t->length, MREMAP_MAYMOVE | MREMAP_FIXED, at));
	REFUSED(syscall(SYS_mremap, at, 0, PAGE, MREMAP_MAYMOVE));
	REFUSED(syscall(SYS_madvise, at, t->length, MADV_DONTNEED));
	REFUSED(syscall(SYS_madvise, at, t->length, MADV_REMOVE));
	REFUSED(syscall(SYS_remap_file_pages, at, t->length, 0, 0, 0));
	/* The last one begins in the guest's own part, where a page fits. */
	if (t->at >= PLATFORM_BASE)
		REFUSED(syscall(SYS_shmat, shmget(IPC_PRIVATE, PAGE, 0600), at, SHM_REMAP));
	REFUSED(syscall(SYS_brk, at) == (long)at ? 0 : -1);
	/* Some kernels let one unmap what is not there; it must still be there. */
	syscall(SYS_munmap, at, t->length);
	if (text_sum() != sum || !is_readable(SHARED_BASE))
		_exit(BREACH);
}

/* The kernel must not read or write there for the guest. */
static void by_copies(uint64_t which)
{
	const struct target *t = &targets[which];
	char *at = (char *)t->at, buffer[64];
	/* The last one begins in the guest's own part. */
	if (t->at < PLATFORM_BASE)
		at += PAGE;
	int p[2], zero = open("/dev/zero", O_RDONLY), fd = open("/proc/self/mem", O_RDWR);
	NEED(pipe(p) == 0 && zero >= 0);
	struct iovec here = { buffer, sizeof buffer }, there = { at, sizeof buffer };
	REFUSED(read(zero, at, 64));
	REFUSED(write(p[1], at, 64));
	REFUSED(readv(zero, &there, 1));
	REFUSED(process_vm_readv(getpid(), &here, 1, &there, 1, 0));
	REFUSED(process_vm_writev(getpid(), &here, 1, &there, 1, 0));
	REFUSED(fd < 0 ? -1 : pread(fd, buffer, 64, (off_t)at));
	REFUSED(fd < 0 ? -1 : pwrite(fd, buffer, 64, (off_t)at));
	REFUSED(open(at, O_RDONLY));
	REFUSED(syscall(SYS_pipe2, at, 0));
	REFUSED(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, at, 8));
	REFUSED(syscall(SYS_getrandom, at, 64, 0));
	REFUSED(syscall(SYS_futex, at, FUTEX_WAIT, 12345, NULL));
	REFUSED(syscall(SYS_execve, at, NULL, NULL));
	/* The id that a thread's end clears, and the list of futexes it holds: noticed at the end only. */
	syscall(SYS_set_tid_address, at);
	struct {
		void *next;
		long offset;
		void *pending;
	} list = { &list, at - (char *)&list, NULL };
	syscall(SYS_set_robust_list, &list, sizeof list);
}

static uint64_t site;
static void *stack;

/* The host's own-memory calls by jumps, and life after that. */
static void by_jumps(uint64_t which)
{
	const struct target *t = &targets[which / 8];
	switch (which % 8) {
	case 0:
		native_call(site, stack, SYS_munmap, t->at, t->length, 0, 0, 0, 0);
		break;
	case 1:
		native_call(site, stack, SYS_mprotect, t->at, t->length, PROT_NONE, 0, 0, 0);
		break;
	case 2:
		native_call(site, stack, SYS_mprotect, t->at, t->length, PROT_READ, 0, 0, 0);
		break;
	case 3:
		native_call(site, stack, SYS_mmap, t->at, t->length, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		break;
	case 4:
		native_call(site, stack, SYS_mremap, t->at, t->length, t->length, MREMAP_MAYMOVE | MREMAP_FIXED,
			    0x10000000, 0);
		break;
	case 5:
		native_call(site, stack, SYS_madvise, t->at, t->length, MADV_DONTNEED, 0, 0, 0);
		break;
	case 6:
		native_call(site, stack, SYS_madvise, t->at, t->length, MADV_REMOVE, 0, 0, 0);
		break;
	default:
		native_call(site, stack, SYS_mprotect, t->at, t->length, PROT_READ | PROT_WRITE | PROT_EXEC, 0, 0, 0);
		memset((void *)t->at, 0xcc, t->length > 1 << 20 ? 1 << 20 : t->length);
	}
	for (int i = 0; i < 20; i++)
		getppid();
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	close(open("/etc/passwd", O_RDONLY));
}

/* Code of one's own where the filter trusts the instruction pointer most: still nothing but own-memory calls. */
static void own_text(uint64_t by_map)
{
	static const unsigned char code[] = { 0x0f, 0x05, 0xc3 }; /* syscall; ret */
	uint64_t at = PLATFORM_BASE;
	if (by_map)
		native_call(site, stack, SYS_mmap, at, PAGE, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	else
		native_call(site, stack, SYS_mprotect, at, PAGE, 7, 0, 0, 0);
	memcpy((void *)at, code, sizeof code);
	int (*call)(void) = (int (*)(void))at;
	long result;
	__asm__ volatile("call *%1" : "=a"(result) : "r"(call), "a"(SYS_unlink), "D"(canary) : "rcx", "r11", "memory");
	_exit(BREACH);
}

/* Plain stores: into what can be written, and into what should not be. */
static void by_stores(uint64_t which)
{
	const struct target *t = &targets[which / 3];
	uint64_t length = t->length > 1 << 20 ? 1 << 20 : t->length;
	for (uint64_t at = t->at; at < t->at + length; at += 8) {
		uint64_t value = which % 3 == 0 ? 0 : which % 3 == 1 ? UINT64_MAX : random_u64();
		*(volatile uint64_t *)at = value;
	}
	for (int i = 0; i < 20; i++)
		getppid();
	close(open("/etc/passwd", O_RDONLY));
}

static void *keep_calling(void *arg)
{
	for (;;)
		close(open("/etc/passwd", O_RDONLY));
	return arg;
}

/* The same while another thread is in calls. */
static void by_stores_beside(uint64_t which)
{
	pthread_t thread;
	NEED(pthread_create(&thread, NULL, keep_calling, NULL) == 0);
	for (int i = 0; i < 50; i++)
		by_stores(which);
}

static void by_jumps_beside(uint64_t which)
{
	pthread_t thread;
	NEED(pthread_create(&thread, NULL, keep_calling, NULL) == 0);
	usleep(1000);
	by_jumps(which);
}

int main(int argc, char **argv)
{
	bool platform = begin(argc, argv, "platform_memory");
	if (platform) {
		for (uint64_t i = 0; i < TARGETS; i++) {
			NEED(finish_attack("by calls", by_calls, i) == 0);
			NEED(finish_attack("by copies", by_copies, i) == 0);
		}
		try_all("by stores", by_stores, TARGETS * 3);
		try_all("by stores beside a caller", by_stores_beside, TARGETS * 3);
		find_sites();
		site = find_returning_site();
		/* Without one the same jumps may lose their way behind the call: that is an attack too. */
		if (!site)
			site = sites[0];
		stack = new_stack();
		try_all("by jumps", by_jumps, TARGETS * 8);
		try_all("by jumps beside a caller", by_jumps_beside, TARGETS * 8);
		try_all("own text", own_text, 2);
	}
	return end(platform);
}
