/*
 * Every system call number from 0 to 470 (and some that do not exist) with wild arguments, each number in
 * a process of its own, and then processes that make calls of random numbers. Without options it leaves out what could hurt the machine it runs on and other
 * processes of the user; with --guest it leaves nothing out, except that nothing is done to its parent.
 *
 *   wild_calls [--guest] [--seed N] [--calls N] [--seconds N]
 *
 * After that it goes on with random numbers until so many seconds are over.
 */
#include "hostile.h"
#include <dirent.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

enum { LAST_NUMBER = 470, MIXED = 150, ANY = -1 };

/* Dangerous on a real machine even for an unprivileged user: they reach other processes or shared objects. */
static const int native_only_skips[] = {
	SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_pidfd_send_signal,
	SYS_fork, SYS_vfork, SYS_clone, SYS_clone3, SYS_ptrace, SYS_process_vm_writev, SYS_process_madvise, SYS_process_mrelease,
	SYS_prlimit64, SYS_setpriority, SYS_ioprio_set, SYS_sched_setparam, SYS_sched_setscheduler, SYS_sched_setaffinity,
	SYS_sched_setattr, SYS_migrate_pages, SYS_move_pages, SYS_kcmp, SYS_msgctl, SYS_semctl, SYS_shmctl, SYS_msgget,
	SYS_semget, SYS_shmget, SYS_reboot, SYS_kexec_load, SYS_kexec_file_load, SYS_init_module, SYS_finit_module,
	SYS_delete_module, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_swapon, SYS_swapoff, SYS_settimeofday,
	SYS_clock_settime, SYS_adjtimex, SYS_clock_adjtime, SYS_sethostname, SYS_setdomainname, SYS_acct, SYS_syslog,
	SYS_quotactl, SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_add_key, SYS_request_key, SYS_keyctl,
	SYS_unshare, SYS_setns, SYS_sync, SYS_syncfs, SYS_mq_open, SYS_mq_unlink, SYS_io_uring_setup, SYS_vhangup,
};

/* In both modes: calls that end the process before anything has been tried. */
static const int always_skips[] = { SYS_exit, SYS_exit_group };

/* Their first argument names a process: not the one that counts the children here. */
static const int names_a_process[] = {
	SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_pidfd_open, SYS_prlimit64,
	SYS_process_vm_writev, SYS_sched_setaffinity, SYS_sched_setparam, SYS_sched_setscheduler, SYS_sched_setattr,
};

/* What a guest may be allowed to do by itself: half of the random calls are of these, with arguments that make sense to them. */
static const int often[] = {
	SYS_read, SYS_pread64, SYS_write, SYS_pwrite64, SYS_readv, SYS_writev, SYS_lseek, SYS_ftruncate, SYS_futex, SYS_mmap, SYS_munmap,
	SYS_mremap, SYS_madvise, SYS_mprotect, SYS_brk, SYS_dup, SYS_dup2, SYS_close, SYS_fcntl, SYS_poll, SYS_sendfile, SYS_splice,
};

/* As often in a guest, whose sockets and devices lead nowhere else. */
static const int often_of_guests[] = {
	SYS_bind, SYS_connect, SYS_listen, SYS_accept4, SYS_sendto, SYS_recvfrom, SYS_sendmsg, SYS_recvmsg, SYS_shutdown, SYS_setsockopt,
	SYS_getsockopt, SYS_getsockname, SYS_getpeername, SYS_ioctl, SYS_fallocate, SYS_read, SYS_write, SYS_pread64, SYS_pwrite64,
};

/* Of sockets, terminals, disks, loop devices, clocks. */
static const unsigned requests[] = {
	0x541b, 0x5421, 0x5452, 0x8901, 0x8905, 0x8910, 0x8912, 0x8913, 0x8915, 0x8927, 0x5401, 0x5402, 0x5403, 0x5404, 0x5409, 0x540b,
	0x540f, 0x5410, 0x5411, 0x5412, 0x5413, 0x5414, 0x5415, 0x5418, 0x541e, 0x541f, 0x5420, 0x5422, 0x5423, 0x5424, 0x5425, 0x545c,
	0x80045430, 0x40045431, 0x1260, 0x125d, 0x1261, 0x125f, 0x1277, 0x127f, 0x80081272, 0x301, 0x4c00, 0x4c01, 0x4c04, 0x4c05, 0x4c07,
	0x4c0a, 0x4c80, 0x4c82, 0x7001, 0x7002, 0x7003, 0x7004, 0x7005, 0x7006, 0x40247007, 0x80247008, 0x80247009, 0x4024700a,
	0x8008700b, 0x4008700c, 0x4028700f, 0x80287010,
};

#define IN(list, n) in_list(list, sizeof list / sizeof list[0], n)

static bool in_list(const int *list, size_t size, int n)
{
	for (size_t i = 0; i < size; i++)
		if (list[i] == n)
			return true;
	return false;
}

static char *buffer, *border;
/* The process that counts the children. */
static pid_t counter;

static uint32_t wild_half(void)
{
	static const uint32_t ends[] = { 0x7fffffff, 0x80000000, 0x80000001, 0xffffffff, 0xfffffffe };
	return random_below(2) ? random_below(64) : ends[random_below(sizeof ends / sizeof *ends)];
}

/* What structures in memory are made of. */
static uint64_t wild_word(void)
{
	switch (random_below(8)) {
	case 0:
		return random_u64();
	case 1:
	case 2:
		return (uint64_t)wild_half() << 32 | wild_half();
	case 3:
		return INT64_MAX + (uint64_t)random_below(3);
	default:
		return random_below(64);
	}
}

/* What is in `buffer` for sockets: an address of each family, 64 bytes each, a question, and a message. */
enum { ADDRESSES = 256, QUESTION = 448, MESSAGE = 512 };

/* Sockets, and devices as far as the guest may use them. None of them need be there. */
static void open_more(void)
{
	static const char *const devices[] = { "/dev/rtc0", "/dev/ptmx", "/dev/loop0", "/dev/loop-control", "/dev/ttyS0", "/dev/port",
						"/dev/vda" };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	socklen_t length = sizeof four;
	int listens = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listens, (void *)&four, sizeof four) || listen(listens, 2) || getsockname(listens, (void *)&four, &length))
		return;
	int stream = socket(AF_INET6, SOCK_STREAM, 0), datagrams = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&four, sizeof four);
	six.sin6_port = four.sin_port;
	bind(stream, (void *)&six, sizeof six);
	bind(datagrams, (void *)&six, sizeof six);
	socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
		open(devices[i], O_RDWR | O_NONBLOCK | O_NOCTTY);
	struct {
		struct nlmsghdr head;
		struct rtgenmsg body;
	} question = { { sizeof question, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 }, { AF_UNSPEC } };
	struct iovec *parts = (void *)(buffer + MESSAGE + 64);
	struct msghdr message = { buffer + ADDRESSES, 16, parts, 2, buffer + 1024, 64, 0 };
	memcpy(buffer + ADDRESSES, &four, sizeof four);
	memcpy(buffer + ADDRESSES + 64, &six, sizeof six);
	memcpy(buffer + ADDRESSES + 128, &kernel, sizeof kernel);
	memcpy(buffer + QUESTION, &question, sizeof question);
	memcpy(buffer + MESSAGE, &message, sizeof message);
	parts[0] = (struct iovec){ buffer + QUESTION, sizeof question };
	parts[1] = (struct iovec){ buffer + 2048, 3000 };
}

static void prepare(bool guest)
{
	static char name[] = "file";
	int p[2];
	buffer = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	border = buffer + (1 << 16) - 4096;
	NEED(buffer != MAP_FAILED && mprotect(border, 4096, PROT_NONE) == 0);
	for (int i = 0; i < (1 << 16) - 4096; i += 8)
		*(uint64_t *)(buffer + i) = wild_word();
	strcpy(buffer, name);
	strcpy(buffer + 64, "directory/../file");
	strcpy(buffer + 128, ".");
	strcpy(border - 5, name);
	/* One of each kind, from descriptor 3 on. */
	int ok = open("file", O_RDWR | O_CREAT, 0600) >= 0 && open(".", O_RDONLY) >= 0 && pipe(p) == 0 &&
		 socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 && eventfd(0, 0) >= 0 && epoll_create1(0) >= 0 &&
		 memfd_create("m", 0) >= 0;
	NEED(ok);
	if (guest)
		open_more();
}

static uint64_t wild_argument(void)
{
	static const uint64_t odd[] = {
		0, 1, 2, 3, 8, 4096, 4095, 0x7fffffff, 0x80000000, 0xffffffff, UINT64_MAX, UINT64_MAX - 1,
		UINT64_MAX - 99, 0x7fffffffffffffff, 0x8000000000000000, 0x800000000000, 0x7ffffffff000,
		0xffffffffff600000, 0xffff800000000000,
	};
	switch (random_below(8)) {
	case 0:
		return odd[random_below(sizeof odd / sizeof odd[0])];
	case 1:
		return random_below(16);
	case 2:
		return (uint64_t)buffer + random_below(4) * 64;
	case 3:
		return (uint64_t)buffer + random_below(60000);
	case 4:
		return (uint64_t)border - random_below(40);
	case 5:
		return 1ull << random_below(64);
	case 6:
		return random_below(5000);
	default:
		return random_u64();
	}
}

/* Arguments that most often lead somewhere: a descriptor that is open, memory that is there, a small number. */
static void sane_arguments(int number, uint64_t *a)
{
	for (int k = 0; k < 6; k++)
		a[k] = random_below(8) ? random_below(64) : wild_argument();
	a[0] = 3 + random_below(10);
	a[1] = (uint64_t)buffer + random_below(16) * 8;
	if (number == SYS_futex || number == SYS_poll || number == SYS_munmap || number == SYS_mremap || number == SYS_madvise ||
	    number == SYS_mprotect)
		a[0] = (uint64_t)buffer + random_below(16) * 4096;
	if (number == SYS_futex)
		a[1] = 128 + random_below(14);
	if (number == SYS_poll || number == SYS_dup2 || number == SYS_fcntl || number == SYS_splice || number == SYS_sendfile)
		a[1] = random_below(16);
}

static void socket_and_device_arguments(int number, uint64_t *a)
{
	static const int levels[] = { SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, 270 };
	uint64_t address = (uint64_t)buffer + ADDRESSES + random_below(3) * 64, length = random_below(4) ? 28 - random_below(3) * 8 : 12;
	a[0] = 3 + random_below(24);
	switch (number) {
	case SYS_bind:
	case SYS_connect:
		a[1] = address;
		a[2] = length;
		break;
	case SYS_sendto:
		a[1] = (uint64_t)buffer + (random_below(2) ? QUESTION : random_below(1 << 15));
		a[2] = random_below(2) ? 20 : random_below(70000);
		a[4] = random_below(2) ? address : 0;
		a[5] = length;
		break;
	case SYS_recvfrom:
		a[2] = random_below(2) ? random_below(64) : random_below(70000);
		break;
	case SYS_sendmsg:
	case SYS_recvmsg:
		a[1] = (uint64_t)buffer + MESSAGE;
		break;
	case SYS_setsockopt:
	case SYS_getsockopt:
		a[1] = levels[random_below(5)];
		a[3] = (uint64_t)buffer + random_below(16) * 8;
		a[4] = number == SYS_setsockopt ? 4 + random_below(13) : (uint64_t)buffer + random_below(16) * 8;
		break;
	case SYS_ioctl:
		a[1] = requests[random_below(sizeof requests / sizeof *requests)];
		a[2] = random_below(4) ? (uint64_t)buffer + random_below(64) * 8 : wild_argument();
		break;
	case SYS_fallocate:
		a[1] = random_below(4) ? random_below(64) : 3;
		a[2] = random_below(2) ? random_below(64) * 512 : wild_argument();
		a[3] = random_below(2) ? random_below(64) * 512 : wild_argument();
		break;
	}
}

static void interrupt(int sig)
{
	(void)sig;
}

/* Blocked calls are interrupted again and again; after a while the process ends. */
static void set_guards(void)
{
	struct sigaction sa = { .sa_handler = interrupt };
	sigaction(SIGALRM, &sa, NULL);
	struct itimerval every = { { 0, 5000 }, { 0, 5000 } };
	setitimer(ITIMER_REAL, &every, NULL);
	set_limit(RLIMIT_CORE, 0);
	set_limit(RLIMIT_AS, 1u << 30);
	set_limit(RLIMIT_FSIZE, 16 << 20);
	set_limit(RLIMIT_CPU, 5);
	set_limit(RLIMIT_NOFILE, 256);
}

static bool is_tried(int number, bool guest)
{
	return !IN(always_skips, number) && (guest || !IN(native_only_skips, number));
}

/* Calls of one number, or of random ones (ANY). */
static void call_wildly(int wanted, int calls, bool guest)
{
	set_guards();
	prepare(guest);
	for (int i = 0; i < calls; i++) {
		uint64_t a[6];
		int number = wanted;
		while (wanted == ANY && !is_tried(number = random_below(LAST_NUMBER + 1), guest))
			;
		for (int k = 0; k < 6; k++)
			a[k] = wild_argument();
		if (wanted == ANY && random_below(2)) {
			number = often[random_below(sizeof often / sizeof *often)];
			sane_arguments(number, a);
		}
		if (wanted == ANY && guest && random_below(3) == 0) {
			number = often_of_guests[random_below(sizeof often_of_guests / sizeof *often_of_guests)];
			sane_arguments(number, a);
			socket_and_device_arguments(number, a);
		}
		/* Whom signals of a descriptor go to. */
		if (guest && (number == SYS_fcntl || number == SYS_ioctl) && (a[1] == F_SETOWN || a[1] == 0x8901 || a[1] == 0x8902))
			a[2] = getpid();
		/* A negative, zero or small first argument would name the parent or everybody. */
		if (guest && IN(names_a_process, number))
			a[0] = random_below(2) ? (uint64_t)getpid() : 1000000 + random_below(1000000);
		/* Its second argument does: whoever attaches to the one that counts stops it. */
		if (guest && number == SYS_ptrace && (pid_t)a[1] == counter)
			a[1] = getpid();
		syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	}
	_exit(0);
}

static void on_deadline(int sig)
{
	(void)sig;
}

/* Whatever the child did to its guards, this ends it. */
static void reap_by_deadline(pid_t pid)
{
	struct sigaction sa = { .sa_handler = on_deadline };
	struct itimerval limit = { { 0, 100000 }, { 0, 400000 } }, off = { 0 };
	int status;
	NEED(sigaction(SIGALRM, &sa, NULL) == 0 && setitimer(ITIMER_REAL, &limit, NULL) == 0);
	while (waitpid(pid, &status, 0) != pid) {
		NEED(errno == EINTR);
		kill(pid, SIGKILL);
	}
	NEED(setitimer(ITIMER_REAL, &off, NULL) == 0);
	/* Its process group may hold more by now; as a guest's first process this one inherits them. */
	kill(-pid, SIGKILL);
	while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
		;
}

/* Calls may leave names in it that are of no use to those who come later. */
static void own_directory(void)
{
	char name[] = "wild-XXXXXX";
	NEED(mkdtemp(name) && chmod(name, 0777) == 0 && chdir(name) == 0);
}

static void try_in_a_process(int number, int calls, uint64_t seed, bool guest)
{
	counter = getpid();
	random_state = seed;
	for (int i = 0; i < 10; i++)
		random_u64();
	pid_t pid = fork();
	NEED(pid >= 0);
	if (pid == 0) {
		setpgid(0, 0);
		int null = open("/dev/null", O_RDWR);
		for (int fd = 0; fd < 3; fd++)
			dup2(null, fd);
		close(null);
		own_directory();
		if (!guest) {
			if (geteuid() == 0)
				/* Somebody who owns nothing: nobody may own the device that is descriptor 0. */
				NEED(setresgid(54321, 54321, 54321) == 0 && setresuid(54321, 54321, 54321) == 0);
			prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		}
		call_wildly(number, calls, guest);
	}
	setpgid(pid, pid);
	reap_by_deadline(pid);
}

static const char *option(int argc, char **argv, const char *name, const char *otherwise)
{
	for (int i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], name))
			return argv[i + 1];
	return otherwise;
}

/* Of the clock that cannot be set: the calls may set the other one. */
static time_t seconds_now(void)
{
	struct timespec now;
	NEED(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
	return now.tv_sec;
}

static void remove_tree(const char *path)
{
	pid_t pid = fork();
	if (pid == 0) {
		/* The calls may have changed any mode. */
		execl("/bin/sh", "sh", "-c", "chmod -R u+rwx \"$1\"; rm -rf \"$1\"", "sh", path, NULL);
		_exit(1);
	}
	reap(pid);
}

int main(int argc, char **argv)
{
	bool guest = has_option(argc, argv, "--guest");
	int calls = atoi(option(argc, argv, "--calls", "12"));
	uint64_t seed = strtoull(option(argc, argv, "--seed", "4711"), NULL, 0);
	time_t begun = seconds_now(), seconds = atol(option(argc, argv, "--seconds", "0"));
	char directory[] = "/tmp/uvm-wild-XXXXXX";
	NEED(mkdtemp(directory) && chdir(directory) == 0);
	if (!guest && geteuid() == 0)
		NEED(chmod(".", 0777) == 0);
	printf("wild_calls: seed %llu, %d calls of each\n", (unsigned long long)seed, calls);
	fflush(stdout);
	int tried = 0;
	for (int number = 0; number <= LAST_NUMBER; number++)
		if (is_tried(number, guest)) {
			try_in_a_process(number, calls, seed * 1000003 + number + 1, guest);
			tried++;
		}
	for (int i = 0; i < MIXED; i++)
		try_in_a_process(ANY, calls * 10, seed * 7000003 + i + 1, guest);
	uint64_t more = MIXED;
	for (; seconds_now() - begun < seconds; more++)
		try_in_a_process(ANY, calls * 10, seed * 7000003 + more + 1, guest);
	NEED(chdir("/") == 0);
	remove_tree(directory);
	printf("ok wild_calls: %d numbers, %llu mixed\n", tried, (unsigned long long)more);
	return 0;
}
