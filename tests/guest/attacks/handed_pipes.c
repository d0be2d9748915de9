/*
 * Ends of host pipes that the host was made to hand in: every call on them by the runtime's own syscall instructions, ends kept
 * open after the guest's were closed, pages that lie about what is in use, and others who use the same pipe meanwhile.
 */
#include "jump.h"
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>

/* The first number that a pipe is handed in with, and the first that none is. */
enum { FIRST = 16, END = 32 };
/* Calls after which a pipe is handed in for certain. */
enum { OFTEN = 300, CAPACITY = 65536 };
enum { HANDED = 7, NOT_HANDED = 8 };

static uint64_t site;

struct pipe {
	int out, in;
};

static void use(struct pipe p)
{
	char c = 1;
	for (int i = 0; i < OFTEN; i++)
		NEED(write(p.in, &c, 1) == 1 && read(p.out, &c, 1) == 1);
}

/* Both ends are handed in, as FIRST and the number behind it. */
static struct pipe handed_pipe(void)
{
	int fd[2];
	NEED(pipe(fd) == 0);
	struct pipe p = { fd[0], fd[1] };
	use(p);
	return p;
}

static long host_call(long number, uint64_t fd, void *bytes, uint64_t len)
{
	return native_call(site, new_stack(), number, fd, (uint64_t)bytes, len, 0, 0, 0);
}

/* Which of the two numbers is the writing end, by which a byte was written now. */
static uint64_t writing_end(void)
{
	char c = 'w';
	if (host_call(SYS_write, FIRST, &c, 1) == 1)
		return FIRST;
	return host_call(SYS_write, FIRST + 1, &c, 1) == 1 ? FIRST + 1 : 0;
}

static void used_natively(uint64_t unused)
{
	(void)unused;
	char c = 0;
	struct pipe p = handed_pipe();
	uint64_t in = writing_end();
	if (!in || read(p.out, &c, 1) != 1 || c != 'w')
		_exit(NOT_HANDED);
	NEED(write(p.in, "g", 1) == 1);
	NEED(host_call(SYS_read, FIRST + FIRST + 1 - in, &c, 1) == 1 && c == 'g');
	_exit(HANDED);
}

/* Whatever else takes a descriptor does not come back. */
static const int others[] = {
	SYS_pread64, SYS_pwrite64, SYS_readv, SYS_writev, SYS_preadv2, SYS_pwritev2, SYS_lseek, SYS_fstat, SYS_fcntl, SYS_ioctl,
	SYS_dup, SYS_dup2, SYS_dup3, SYS_splice, SYS_tee, SYS_vmsplice, SYS_sendfile, SYS_poll, SYS_fchmod, SYS_fchown,
	SYS_sendmsg, SYS_epoll_create1, SYS_openat, SYS_mmap,
};

static void other_call(uint64_t which)
{
	static char bytes[256];
	long number = others[which];
	handed_pipe();
	long result = number == SYS_mmap ? native_call(site, new_stack(), SYS_mmap, 0, PAGE, PROT_READ, MAP_SHARED, FIRST, 0)
					 : native_call(site, new_stack(), number, FIRST, (uint64_t)bytes, 1, 0, 0, 0);
	fprintf(stderr, "handed_pipes: call %ld gave %ld\n", number, result);
	_exit(BREACH);
}

/* Reading and writing of what is no pipe is not even answered. */
static void other_number(uint64_t which)
{
	static const uint32_t numbers[] = { 0, 1, 2, 3, 4, 5, 15, END, 100, 511, 512, 0x7fffffff, 0xffffffff };
	static char byte;
	handed_pipe();
	host_call(which % 2 ? SYS_write : SYS_read, numbers[which / 2], &byte, 1);
	_exit(BREACH);
}

static void await(int fd)
{
	char c;
	NEED(read(fd, &c, 1) == 1);
}

static uint64_t kept;

static void *keeps(void *unused)
{
	char byte;
	(void)unused;
	for (;;)
		host_call(SYS_read, kept, &byte, 1);
	return NULL;
}

/* An attacker goes on with the host's ends when it has closed the guest's: it waits for bytes, or sends some. */
static void ends_kept(uint64_t sends)
{
	static char bytes[CAPACITY];
	int ready[2];
	struct pipe p = handed_pipe();
	NEED(pipe(ready) == 0);
	pid_t attacker = fork();
	if (attacker == 0) {
		use(p);
		uint64_t in = writing_end();
		await(p.out);
		kept = FIRST + FIRST + 1 - in;
		pthread_t thread;
		if (!sends)
			NEED(pthread_create(&thread, NULL, keeps, NULL) == 0);
		close(p.in);
		for (int i = 0; sends && i < OFTEN; i++)
			host_call(SYS_write, in, bytes, 1);
		close(p.out);
		NEED(write(ready[1], "r", 1) == 1);
		for (;;)
			host_call(sends ? SYS_write : SYS_sched_yield, in, bytes, 1);
	}
	await(ready[0]);
	/* The reader sees the end, the writer a broken pipe, whatever ends of the host's are open. */
	if (sends) {
		close(p.in);
		for (int left = CAPACITY; left > 0 && read(p.out, bytes, 1) > 0; left--)
			;
		NEED(read(p.out, bytes, 1) == 0);
	} else {
		signal(SIGPIPE, SIG_IGN);
		close(p.out);
		for (int i = 0; i < OFTEN; i++)
			NEED(write(p.in, bytes, 1) == -1 && errno == EPIPE);
	}
	kill(attacker, SIGKILL);
	reap(attacker);
}

/* Words of the page that say which pipe may be used, and then that one is in use. */
static _Atomic uint64_t *word_of(uint64_t number)
{
	for (uint64_t page = SHARED_BASE; page < SHARED_BASE + 64 * SHARED_STRIDE; page += SHARED_STRIDE)
		for (uint64_t *word = (uint64_t *)page; (uint64_t)word < page + PAGE; word++)
			if ((*word & 0xffff) == number && (*word >> 16 & 0xffff) - 1 < 2 && *word >> 32 && *word >> 32 < 64)
				return (_Atomic uint64_t *)word;
	_exit(0);
}

/* Every word of the page that is 0 says that the pipe is in use: whoever takes it back need not wait for long, or for ever. */
static void always_busy(uint64_t how)
{
	int ready[2];
	struct pipe p = handed_pipe();
	NEED(pipe(ready) == 0);
	pid_t attacker = fork();
	if (attacker == 0) {
		use(p);
		_Atomic uint64_t *grant = word_of(FIRST);
		uint64_t state = *grant;
		NEED(write(ready[1], "r", 1) == 1);
		for (;;) {
			_Atomic uint64_t *word = (_Atomic uint64_t *)((uint64_t)grant & -PAGE);
			/* Behind the grants: where the runtime keeps what it uses. */
			for (unsigned i = 0; i < PAGE / 8; i++)
				if (word[i] == 0 && &word[i] > grant)
					word[i] = state;
		}
	}
	await(ready[0]);
	/* Whatever is asked for, it comes to an end: the attacker runs on, and is killed if it has to be. */
	struct pollfd fd = { p.out, POLLIN, 0 };
	if (how == 0) {
		NEED(poll(&fd, 1, 0) == 0);
		use(p);
	} else {
		NEED(fcntl(p.in, F_SETPIPE_SZ, 2 * CAPACITY) == 2 * CAPACITY);
		use(p);
	}
	kill(attacker, SIGKILL);
	reap(attacker);
}

static void forged_descriptor(uint64_t which)
{
	static const uint64_t lies[] = { 3, 5, END, 511, 0xffff, 15, FIRST + 1, FIRST + 9 };
	struct pipe p = handed_pipe();
	_Atomic uint64_t *word = word_of(FIRST);
	char c = 'f';
	for (int i = 0; i < OFTEN; i++) {
		*word = (*word & ~0xfffful) | lies[which];
		if (write(p.in, &c, 1) != 1)
			break;
		*word = (*word & ~0xfffful) | lies[which];
		if (read(p.out, &c, 1) != 1)
			break;
	}
}

/* What the guest says to have been moved already. */
static void forged_progress(uint64_t which)
{
	static const uint64_t moved[] = { 1, CAPACITY - 1, 1ul << 31, 1ul << 47, ~0ul, 1ul << 63 };
	static char bytes[CAPACITY];
	struct pipe p = handed_pipe();
	_Atomic uint64_t *page = (_Atomic uint64_t *)((uint64_t)word_of(FIRST) & -PAGE);
	pid_t pid = fork();
	if (pid == 0) {
		for (int i = 0; i < OFTEN; i++)
			for (int k = 100; k < 256; k++)
				if (page[k] == 0)
					page[k] = moved[which];
		write(p.in, bytes, sizeof bytes);
		read(p.out, bytes, sizeof bytes);
		_exit(0);
	}
	reap(pid);
	use(handed_pipe());
}

int main(int argc, char **argv)
{
	bool platform = begin(argc, argv, "handed_pipes");
	if (platform) {
		find_sites();
		site = find_returning_site();
		NEED(site);
		NEED(WEXITSTATUS(finish_attack("pipes", used_natively, 0)) == HANDED);
		for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
			int status = finish_attack("another call", other_call, i);
			NEED(WIFSIGNALED(status));
		}
		for (uint64_t i = 0; i < 26; i++)
			finish_attack("another number", other_number, i);
		for (uint64_t i = 0; i < 2; i++)
			NEED(finish_attack("kept ends", ends_kept, i) == 0);
		for (uint64_t i = 0; i < 2; i++)
			NEED(finish_attack("always busy", always_busy, i) == 0);
		for (uint64_t i = 0; i < 8; i++)
			finish_attack("a forged descriptor", forged_descriptor, i);
		for (uint64_t i = 0; i < 6; i++)
			finish_attack("forged progress", forged_progress, i);
	}
	return end(platform);
}
