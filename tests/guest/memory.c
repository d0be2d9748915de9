/* Memory: mmap(2), munmap(2), mprotect(2), mremap(2), brk(2), madvise(2), mincore(2), memfd_create(2). */
#include "check.h"
#include <setjmp.h>
#include <sys/shm.h>

#define PAGE 4096ul
static sigjmp_buf fault;
static volatile int fault_code;
static void *volatile fault_address;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	(void)context;
	fault_code = info->si_code;
	fault_address = info->si_addr;
	siglongjmp(fault, sig);
}

/* The signal that a load (or a store) at this address raises, or 0. */
static int touch(volatile char *p, bool store)
{
	on_siginfo(SIGSEGV, on_fault, 0);
	on_siginfo(SIGBUS, on_fault, 0);
	int sig = sigsetjmp(fault, 1);
	if (sig == 0) {
		if (store)
			*p = 1;
		else
			(void)*p;
	}
	return sig;
}

static char *anon(size_t pages, int prot)
{
	return OK(mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

static int file_of(const char *name, size_t size, char fill)
{
	int fd = OK(open(name, O_RDWR | O_CREAT | O_TRUNC, 0600));
	char buf[PAGE];
	memset(buf, fill, sizeof buf);
	for (size_t at = 0; at < size; at += PAGE) {
		size_t n = size - at < PAGE ? size - at : PAGE;
		EQ(write(fd, buf, n), n);
	}
	return fd;
}

static bool is_mapped(void *p)
{
	unsigned char vec;
	return mincore(p, PAGE, &vec) == 0;
}

CHECK(anonymous_is_zero)
{
	char *p = anon(4, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < 4 * PAGE; i++)
		EXPECT(p[i] == 0);
	memset(p, 1, 4 * PAGE);
	OK(munmap(p, 4 * PAGE));
	EQ(touch(p, false), SIGSEGV);
	EQ(fault_code, SEGV_MAPERR);
}

CHECK(mmap_validation)
{
	int fd = file_of("f", PAGE, 'x');
	ERR(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
	ERR(mmap(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0), EINVAL);
	ERR(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 99, 0), EBADF);
	ERR(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 100), EINVAL);
	ERR(mmap((void *)1, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0), EINVAL);
	ERR(mmap(NULL, 1ul << 60, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
	ERR(mmap(NULL, SIZE_MAX, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
	ERR(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, OK(open(".", O_RDONLY)), 0), ENODEV);
	int p[2];
	OK(pipe(p));
	ERR(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, p[0], 0), ENODEV);
}

CHECK(mmap_access_mode)
{
	file_of("f", PAGE, 'x');
	int rd = OK(open("f", O_RDONLY)), wr = OK(open("f", O_WRONLY));
	ERR(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, rd, 0), EACCES);
	ERR(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, wr, 0), EACCES);
	ERR(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, wr, 0), EACCES);
	OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, rd, 0));
	char *p = OK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, rd, 0));
	ERR(mprotect(p, PAGE, PROT_READ | PROT_WRITE), EACCES);
}

CHECK(map_fixed_replaces)
{
	char *p = anon(3, PROT_READ | PROT_WRITE);
	memset(p, 'a', 3 * PAGE);
	EQ(mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), p + PAGE);
	EQ(p[PAGE - 1], 'a');
	EQ(p[PAGE], 0);
	EQ(p[2 * PAGE], 'a');
}

CHECK(map_fixed_noreplace)
{
	char *p = anon(3, PROT_READ);
	ERR(mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
	OK(munmap(p + PAGE, PAGE));
	EQ(mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), p + PAGE);
}

CHECK(mmap_hint_is_taken)
{
	char *p = anon(8, PROT_NONE);
	OK(munmap(p, 8 * PAGE));
	EQ(mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), p);
	char *other = OK(mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	NE(other, p);
}

CHECK(map_32bit)
{
	char *p = OK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));
	EXPECT((uintptr_t)p < 1ul << 31);
}

CHECK(munmap_middle)
{
	char *p = anon(5, PROT_READ | PROT_WRITE);
	memset(p, 'x', 5 * PAGE);
	OK(munmap(p + PAGE, 2 * PAGE));
	EQ(p[0], 'x');
	EQ(p[3 * PAGE], 'x');
	EXPECT(!is_mapped(p + PAGE));
	EXPECT(!is_mapped(p + 2 * PAGE));
	/* Unmapping what is not mapped is fine. */
	OK(munmap(p, 5 * PAGE));
	OK(munmap(p, 5 * PAGE));
	ERR(munmap(p + 1, PAGE), EINVAL);
	ERR(munmap(p, 0), EINVAL);
}

CHECK(mprotect_levels)
{
	char *p = anon(3, PROT_READ | PROT_WRITE);
	p[PAGE] = 'x';
	OK(mprotect(p + PAGE, PAGE, PROT_READ));
	EQ(touch(p + PAGE, false), 0);
	EQ(touch(p + PAGE, true), SIGSEGV);
	EQ(fault_code, SEGV_ACCERR);
	EQ(fault_address, p + PAGE);
	OK(mprotect(p + PAGE, PAGE, PROT_NONE));
	EQ(touch(p + PAGE, false), SIGSEGV);
	OK(mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE));
	EQ(p[PAGE], 'x');
	EQ(touch(p + PAGE, true), 0);
	ERR(mprotect(p + 1, PAGE, PROT_READ), EINVAL);
	ERR(mprotect(p, PAGE, 0x100), EINVAL);
	OK(mprotect(p, 0, PROT_READ));
}

CHECK(mprotect_over_a_hole)
{
	char *p = anon(3, PROT_READ | PROT_WRITE);
	OK(munmap(p + PAGE, PAGE));
	ERR(mprotect(p, 3 * PAGE, PROT_READ), ENOMEM);
	/* What lay before the hole has changed. */
	EQ(touch(p, true), SIGSEGV);
	EQ(touch(p + 2 * PAGE, true), 0);
}

CHECK(execute_code_in_a_mapping)
{
	static const unsigned char code[] = { 0xb8, 0x2a, 0, 0, 0, 0xc3 }; /* mov eax, 42; ret */
	char *p = anon(1, PROT_READ | PROT_WRITE);
	memcpy(p, code, sizeof code);
	OK(mprotect(p, PAGE, PROT_READ | PROT_EXEC));
	EQ(((int (*)(void))p)(), 42);
}

CHECK(execute_without_permission)
{
	static const unsigned char code[] = { 0xc3 };
	char *p = anon(1, PROT_READ | PROT_WRITE);
	memcpy(p, code, sizeof code);
	on_siginfo(SIGSEGV, on_fault, 0);
	if (sigsetjmp(fault, 1) == 0) {
		((void (*)(void))p)();
		FAIL("ran code in a page that is not executable");
	}
	EQ(fault_code, SEGV_ACCERR);
	EQ(fault_address, p);
}

CHECK(mremap_grow_and_move)
{
	char *p = anon(2, PROT_READ | PROT_WRITE);
	memset(p, 'x', 2 * PAGE);
	/* Something right behind it prevents growth in place. */
	char *wall = mmap(p + 2 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	(void)wall;
	ERR(mremap(p, 2 * PAGE, 4 * PAGE, 0), ENOMEM);
	char *q = OK(mremap(p, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE));
	EQ(q[0], 'x');
	EQ(q[2 * PAGE - 1], 'x');
	EQ(q[2 * PAGE], 0);
	EXPECT(q == p || !is_mapped(p));
}

CHECK(mremap_shrink)
{
	char *p = anon(4, PROT_READ | PROT_WRITE);
	EQ(mremap(p, 4 * PAGE, 2 * PAGE, 0), p);
	EXPECT(is_mapped(p + PAGE));
	EXPECT(!is_mapped(p + 2 * PAGE));
}

CHECK(mremap_fixed)
{
	char *p = anon(2, PROT_READ | PROT_WRITE), *to = anon(4, PROT_READ | PROT_WRITE);
	memset(p, 'x', 2 * PAGE);
	memset(to, 'y', 4 * PAGE);
	EQ(mremap(p, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + PAGE), to + PAGE);
	EQ(to[0], 'y');
	EQ(to[PAGE], 'x');
	EQ(to[3 * PAGE], 'y');
	EXPECT(!is_mapped(p));
	ERR(mremap(to, PAGE, PAGE, MREMAP_FIXED, p), EINVAL);
	ERR(mremap(to, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + PAGE), EINVAL);
}

CHECK(mremap_dontunmap)
{
	char *p = anon(2, PROT_READ | PROT_WRITE);
	memset(p, 'x', 2 * PAGE);
	char *q = OK(mremap(p, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL));
	NE(q, p);
	EQ(q[PAGE], 'x');
	EQ(p[PAGE], 0);
}

CHECK(mremap_errors)
{
	char *p = anon(2, PROT_READ);
	ERR(mremap(p + 1, PAGE, PAGE, 0), EINVAL);
	ERR(mremap(p, PAGE, 0, 0), EINVAL);
	ERR(mremap(p, PAGE, PAGE, 0x100), EINVAL);
	OK(munmap(p, 2 * PAGE));
	ERR(mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
}

CHECK(brk_grows_and_shrinks)
{
	char *start = (char *)syscall(SYS_brk, 0);
	EQ(syscall(SYS_brk, start + 3 * PAGE), start + 3 * PAGE);
	memset(start, 'x', 3 * PAGE);
	EQ(syscall(SYS_brk, start + PAGE), start + PAGE);
	EQ(syscall(SYS_brk, start + 3 * PAGE), start + 3 * PAGE);
	EQ(start[2 * PAGE], 0);
	/* A refused request returns where the break stays. */
	EQ(syscall(SYS_brk, 1ul), start + 3 * PAGE);
	EQ(syscall(SYS_brk, 1ul << 62), start + 3 * PAGE);
}

CHECK(madvise_dontneed)
{
	char *p = anon(3, PROT_READ | PROT_WRITE);
	memset(p, 'x', 3 * PAGE);
	OK(madvise(p + PAGE, PAGE, MADV_DONTNEED));
	EQ(p[0], 'x');
	EQ(p[PAGE], 0);
	EQ(p[2 * PAGE], 'x');
	int fd = file_of("f", PAGE, 'f');
	char *q = OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	q[0] = 'c';
	OK(madvise(q, PAGE, MADV_DONTNEED));
	EQ(q[0], 'f');
}

CHECK(madvise_rules)
{
	char *p = anon(3, PROT_READ | PROT_WRITE);
	p[0] = 'x';
	OK(madvise(p, PAGE, MADV_FREE));
	EXPECT(p[0] == 'x' || p[0] == 0);
	OK(madvise(p, PAGE, MADV_WILLNEED));
	OK(madvise(p, PAGE, MADV_SEQUENTIAL));
	OK(madvise(p, 0, MADV_NORMAL));
	ERR(madvise(p, PAGE, 9999), EINVAL);
	ERR(madvise(p + 1, PAGE, MADV_NORMAL), EINVAL);
	OK(munmap(p + PAGE, PAGE));
	ERR(madvise(p, 3 * PAGE, MADV_DONTNEED), ENOMEM);
	OK(madvise(p, PAGE, MADV_DONTFORK));
	CHILD(pid) EXPECT(!is_mapped(p));
	REAP(pid);
}

CHECK(madvise_wipeonfork)
{
	char *p = anon(1, PROT_READ | PROT_WRITE);
	p[0] = 'x';
	OK(madvise(p, PAGE, MADV_WIPEONFORK));
	CHILD(pid) EQ(p[0], 0);
	REAP(pid);
	EQ(p[0], 'x');
}

CHECK(mincore_residency)
{
	unsigned char vec[4] = { 9, 9, 9, 9 };
	char *p = anon(4, PROT_READ | PROT_WRITE);
	OK(madvise(p, 4 * PAGE, MADV_NOHUGEPAGE));
	p[PAGE] = 1;
	OK(mincore(p, 4 * PAGE, vec));
	EQ(vec[0] & 1, 0);
	EQ(vec[1] & 1, 1);
	EQ(vec[2] & 1, 0);
	ERR(mincore(p + 1, PAGE, vec), EINVAL);
	ERR(mincore(p, PAGE, BAD_PTR), EFAULT);
	OK(munmap(p, 4 * PAGE));
	ERR(mincore(p, PAGE, vec), ENOMEM);
}

CHECK(msync_rules)
{
	int fd = file_of("f", 2 * PAGE, 'x');
	char *p = OK(mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	p[0] = 'y';
	OK(msync(p, PAGE, MS_SYNC));
	OK(msync(p, PAGE, MS_ASYNC));
	OK(msync(p, PAGE, MS_SYNC | MS_INVALIDATE));
	ERR(msync(p, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
	ERR(msync(p + 1, PAGE, MS_SYNC), EINVAL);
	ERR(msync(p, PAGE, 0x100), EINVAL);
	OK(munmap(p, PAGE));
	ERR(msync(p, 2 * PAGE, MS_SYNC), ENOMEM);
}

CHECK(shared_anonymous_across_fork)
{
	int *p = OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	p[0] = 1;
	struct gate there = gate_new(), back = gate_new();
	CHILD(pid) {
		EQ(p[0], 1);
		p[0] = 2;
		gate_open(there);
		gate_wait(back);
		EQ(p[0], 3);
	}
	gate_wait(there);
	EQ(p[0], 2);
	p[0] = 3;
	gate_open(back);
	REAP(pid);
}

CHECK(private_file_copy_on_write)
{
	char c;
	int fd = file_of("f", PAGE, 'f');
	char *p = OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	p[0] = 'm';
	EQ(pread(fd, &c, 1, 0), 1);
	EQ(c, 'f');
	EQ(pwrite(fd, "n", 1, 1), 1);
	EQ(p[0], 'm');
}

CHECK(shared_file_coherent_with_read_and_write)
{
	char buf[2];
	int fd = file_of("f", 2 * PAGE, 'f');
	char *p = OK(mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	p[PAGE] = 'm';
	EQ(pread(fd, buf, 2, PAGE), 2);
	MEMEQ(buf, "mf", 2);
	EQ(pwrite(fd, "wz", 2, 100), 2);
	EQ(p[100], 'w');
	EQ(p[101], 'z');
	char *q = OK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, OK(open("f", O_RDONLY)), PAGE));
	EQ(q[0], 'm');
	p[PAGE] = 'n';
	EQ(q[0], 'n');
}

CHECK(shared_file_across_processes)
{
	int fd = file_of("f", PAGE, 0);
	volatile int *p = OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	struct gate there = gate_new(), back = gate_new();
	CHILD(pid) {
		int other = OK(open("f", O_RDWR));
		volatile int *mine = OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0));
		gate_wait(there);
		EQ(mine[0], 11);
		mine[1] = 22;
		gate_open(back);
	}
	p[0] = 11;
	gate_open(there);
	gate_wait(back);
	EQ(p[1], 22);
	REAP(pid);
}

CHECK(mapping_outlives_descriptor_and_name)
{
	int fd = file_of("f", PAGE, 'x');
	char *p = OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	OK(close(fd));
	OK(unlink("f"));
	EQ(p[PAGE - 1], 'x');
	p[0] = 'y';
	EQ(p[0], 'y');
}

CHECK(tail_of_last_page_is_zero)
{
	int fd = file_of("f", 100, 'x');
	char *p = OK(mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
	EQ(p[99], 'x');
	EQ(p[100], 0);
	EQ(p[PAGE - 1], 0);
	EQ(touch(p + PAGE, false), SIGBUS);
	EQ(fault_code, BUS_ADRERR);
	EQ(fault_address, p + PAGE);
}

CHECK(truncate_under_a_mapping)
{
	int fd = file_of("f", 3 * PAGE, 'x');
	char *p = OK(mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	EQ(p[2 * PAGE], 'x');
	OK(ftruncate(fd, PAGE));
	EQ(touch(p, false), 0);
	EQ(touch(p + 2 * PAGE, false), SIGBUS);
	OK(ftruncate(fd, 3 * PAGE));
	EQ(p[2 * PAGE], 0);
}

CHECK(file_grows_under_a_mapping)
{
	int fd = file_of("f", PAGE, 'x');
	char *p = OK(mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0));
	EQ(touch(p + PAGE, false), SIGBUS);
	EQ(pwrite(fd, "late", 4, PAGE), 4);
	EQ(touch(p + PAGE, false), 0);
	MEMEQ(p + PAGE, "late", 4);
}

CHECK(memfd_basics)
{
	struct stat st;
	char path[64], target[128] = { 0 };
	int fd = OK(memfd_create("a name", MFD_CLOEXEC));
	EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	OK(ftruncate(fd, 2 * PAGE));
	char *p = OK(mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	p[PAGE] = 'm';
	char c;
	EQ(pread(fd, &c, 1, PAGE), 1);
	EQ(c, 'm');
	OK(fstat(fd, &st));
	EQ(st.st_nlink, 0);
	EQ(st.st_size, 2 * PAGE);
	EXPECT(S_ISREG(st.st_mode));
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	OK(readlink(path, target, sizeof target - 1));
	STREQ(target, "/memfd:a name (deleted)");
	ERR(memfd_create("x", 0x8000), EINVAL);
	char big[300];
	memset(big, 'a', sizeof big);
	big[250] = 0;
	ERR(memfd_create(big, 0), EINVAL);
}

CHECK(memfd_seals)
{
	int fd = OK(memfd_create("m", MFD_ALLOW_SEALING));
	OK(ftruncate(fd, PAGE));
	EQ(fcntl(fd, F_GET_SEALS), 0);
	OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	ERR(ftruncate(fd, 10), EPERM);
	ERR(ftruncate(fd, 2 * PAGE), EPERM);
	ERR(pwrite(fd, "x", 1, PAGE), EPERM);
	EQ(pwrite(fd, "x", 1, 0), 1);
	char *p = OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
	OK(munmap(p, PAGE));
	OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	ERR(pwrite(fd, "x", 1, 0), EPERM);
	ERR(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), EPERM);
	OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
	ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), EPERM);
	int sealed = OK(memfd_create("m", 0));
	EQ(fcntl(sealed, F_GET_SEALS), F_SEAL_SEAL);
	ERR(fcntl(sealed, F_ADD_SEALS, F_SEAL_GROW), EPERM);
	ERR(fcntl(OK(open(".", O_RDONLY)), F_GET_SEALS), EINVAL);
}

CHECK(growsdown_mapping)
{
	char *base = anon(64, PROT_NONE);
	OK(munmap(base, 64 * PAGE));
	char *p = OK(mmap(base + 63 * PAGE, PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0));
	EQ(touch(p - 1, true), 0);
	EQ(touch(p - PAGE - 1, true), 0);
}

CHECK(main_stack_grows)
{
	struct rlimit lim;
	OK(getrlimit(RLIMIT_STACK, &lim));
	volatile char *far = (char *)((uintptr_t)__builtin_frame_address(0) - (1 << 20));
	*far = 1;
	EQ(*far, 1);
}

CHECK(mlock_basics)
{
	char *p = anon(2, PROT_READ | PROT_WRITE);
	unsigned char vec[2];
	OK(mlock(p, 2 * PAGE));
	OK(mincore(p, 2 * PAGE, vec));
	EQ(vec[0] & vec[1] & 1, 1);
	OK(munlock(p, 2 * PAGE));
	OK(munmap(p + PAGE, PAGE));
	ERR(mlock(p, 2 * PAGE), ENOMEM);
	ERR(mlockall(0), EINVAL);
	OK(munlockall());
}

CHECK(prot_none_holds_data)
{
	char *p = anon(1, PROT_READ | PROT_WRITE);
	strcpy(p, "kept");
	OK(mprotect(p, PAGE, PROT_NONE));
	CHILD(pid) {
		EQ(touch(p, false), SIGSEGV);
		OK(mprotect(p, PAGE, PROT_READ));
		STREQ(p, "kept");
	}
	REAP(pid);
	int fds[2];
	OK(pipe(fds));
	ERR(write(fds[1], p, 4), EFAULT);
}

CHECK(large_reservation)
{
	char *p = OK(mmap(NULL, 64ul << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	OK(mprotect(p + (32ul << 30), PAGE, PROT_READ | PROT_WRITE));
	p[32ul << 30] = 1;
	OK(munmap(p, 64ul << 30));
}

CHECK(many_mappings)
{
	char *p[500];
	for (int i = 0; i < 500; i++) {
		p[i] = anon(1, i & 1 ? PROT_READ | PROT_WRITE : PROT_READ);
		if (i & 1)
			*p[i] = i;
	}
	for (int i = 0; i < 500; i++) {
		EQ(*p[i], i & 1 ? (char)i : 0);
		OK(munmap(p[i], PAGE));
	}
}

CHECK(zero_device_mapping)
{
	int fd = OK(open("/dev/zero", O_RDWR));
	char *p = OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	EQ(p[0], 0);
	p[0] = 1;
	EQ(p[0], 1);
	char *q = OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	CHILD(pid) q[0] = 'c';
	REAP(pid);
	EQ(q[0], 'c');
}

CHECK(reads_into_mapped_file)
{
	int src = file_of("src", PAGE, 's'), dst = file_of("dst", PAGE, 'd');
	char *p = OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, dst, 0));
	EQ(read(OK(open("src", O_RDONLY)), p, 100), 100);
	char c;
	EQ(pread(dst, &c, 1, 99), 1);
	EQ(c, 's');
	EQ(pwrite(src, p, 10, 0), 10);
}

CHECK(process_vm_readv_self_and_child)
{
	static char text[] = "remote";
	char buf[8] = { 0 };
	struct iovec local = { buf, 6 }, remote = { text, 6 };
	EQ(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), 6);
	STREQ(buf, "remote");
	remote.iov_base = BAD_PTR;
	ERR(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), EFAULT);
	ERR(process_vm_readv(0x3fffffff, &local, 1, &remote, 1, 0), ESRCH);
	struct iovec two[] = { { text, 3 }, { BAD_PTR, 3 } };
	EQ(process_vm_readv(getpid(), &local, 1, two, 2, 0), 3);
	ERR(process_vm_readv(getpid(), &local, 1, &remote, 1, 1), EINVAL);
}

CHECK(fork_keeps_private_file_changes)
{
	int fd = file_of("f", PAGE, 'f');
	char *p = OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	p[0] = 'm';
	CHILD(pid) {
		EQ(p[0], 'm');
		p[0] = 'c';
	}
	REAP(pid);
	EQ(p[0], 'm');
}
