/*
 * Jumps to every syscall instruction in the runtime's text: each call number from some of them, what would be
 * dangerous from all, with arguments that would do something on the host.
 */
#include "jump.h"

enum { LAST_NUMBER = 470, X32 = 0x40000000 };

/* The host must not even answer these. */
static const int forbidden[] = {
	SYS_open, SYS_openat, SYS_openat2, SYS_creat, SYS_unlink, SYS_unlinkat, SYS_rename, SYS_renameat2, SYS_mkdir,
	SYS_rmdir, SYS_link, SYS_symlink, SYS_mknod, SYS_chmod, SYS_chown, SYS_truncate, SYS_stat, SYS_readlink,
	SYS_access, SYS_chdir, SYS_chroot, SYS_ioctl, SYS_fcntl, SYS_dup, SYS_dup2, SYS_socket, SYS_connect, SYS_bind,
	SYS_recvmsg, SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_pidfd_open, SYS_pidfd_getfd, SYS_fork,
	SYS_vfork, SYS_clone3, SYS_execve, SYS_execveat, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev,
	SYS_mount, SYS_umount2, SYS_setns, SYS_unshare, SYS_bpf, SYS_io_uring_setup, SYS_perf_event_open,
	SYS_userfaultfd, SYS_memfd_create, SYS_prlimit64, SYS_setrlimit, SYS_seccomp, SYS_rt_sigaction,
	SYS_rt_sigprocmask, SYS_set_tid_address, SYS_arch_prctl, SYS_getpid, SYS_setsid, SYS_setpgid, SYS_setuid,
	SYS_sched_setaffinity, SYS_process_madvise, SYS_shmget, SYS_shmat, SYS_msgget, SYS_semget, SYS_keyctl,
	SYS_splice, SYS_sendfile, SYS_copy_file_range, SYS_move_pages, SYS_timer_create, SYS_setitimer,
};

static uint64_t site;
static long wanted;

static bool is_forbidden(long number)
{
	for (size_t i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++)
		if (forbidden[i] == (number & ~X32))
			return true;
	return number & X32;
}

/* Arguments by which each call would do something that shows, if it were made, without hurting this machine. */
static void arguments(long number, uint64_t shape, uint64_t *a)
{
	static char other[512];
	static uint64_t vector[2];
	snprintf(other, sizeof other, "%s-made", canary);
	vector[0] = (uint64_t)other;
	vector[1] = 16;
	uint64_t path = (uint64_t)canary;
	const uint64_t shapes[][6] = {
		{ path, (uint64_t)other, 0, 0, 0, 0 },
		{ AT_FDCWD, path, O_CREAT | O_RDWR, 0600, 0, 0 },
		{ 1, (uint64_t)vector, 1, 0, 0, 0 },
		{ 0, 0, 0, 0, 0, 0 },
		{ PLATFORM_BASE, PAGE, 7, 0x32, -1, 0 },
	};
	memcpy(a, shapes[shape % 5], sizeof shapes[0]);
	switch (number & ~X32) {
	case SYS_kill:
		/* The process group: the runner gave uvm one of its own. Never everybody. */
		a[0] = 0;
		a[1] = SIGTERM;
		break;
	case SYS_tkill:
	case SYS_tgkill:
	case SYS_rt_sigqueueinfo:
	case SYS_rt_tgsigqueueinfo:
		a[0] = getppid();
		a[1] = getppid();
		a[2] = SIGTERM;
		break;
	case SYS_creat:
	case SYS_mkdir:
	case SYS_mknod:
		a[0] = (uint64_t)other;
		a[1] = 0600;
		break;
	case SYS_open:
		a[1] = O_CREAT | O_RDWR;
		a[2] = 0600;
		break;
	case SYS_socket:
		a[0] = 1;
		a[1] = 1;
		break;
	case SYS_reboot:
	case SYS_sethostname:
	case SYS_setdomainname:
	case SYS_settimeofday:
	case SYS_clock_settime:
	case SYS_pause:
		/* Were these let through, the machine should not pay for it. */
		memset(a, 0xff, 6 * sizeof *a);
	}
}

static void attack(uint64_t shape)
{
	uint64_t a[6];
	arguments(wanted, shape, a);
	long result = native_call(site, new_stack(), wanted, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (is_forbidden(wanted)) {
		char text[200];
		int length = snprintf(text, sizeof text, "call %#lx at %#lx gave %ld\n", wanted, site, result);
		if (write(2, text, length) == length)
			_exit(BREACH);
	}
}

static pid_t running[AT_ONCE];
static long started;

static void settle_all(void)
{
	for (int i = 0; i < AT_ONCE; i++) {
		if (running[i])
			must_be_harmless(settle(running[i]), "a call", 0);
		running[i] = 0;
	}
}

static void start(uint64_t at, long number, uint64_t shape)
{
	site = at;
	wanted = number;
	int place = started++ % AT_ONCE;
	if (place == 0)
		settle_all();
	running[place] = start_attack(attack, shape);
}

int main(int argc, char **argv)
{
	bool platform = begin(argc, argv, "runtime_calls");
	if (platform) {
		find_sites();
		for (long number = 0; number <= LAST_NUMBER; number++)
			for (int k = 0; k < 2; k++)
				start(sites[(number + k * 3) % site_count], number, k);
		for (int i = 0; i < site_count; i++)
			for (size_t k = i % 3; k < sizeof forbidden / sizeof forbidden[0]; k += 3)
				start(sites[i], forbidden[k], i + k);
		for (long number = 0; number <= LAST_NUMBER; number += 7)
			start(sites[number % site_count], number | X32, number);
		/* Numbers of nobody, and negative ones. */
		for (long number = 1000; number < 1040; number++)
			start(sites[number % site_count], number, number);
		for (int i = 0; i < 40; i++)
			start(sites[i % site_count], random_u64(), i);
		settle_all();
		fprintf(stderr, "runtime_calls: %ld calls at %d places\n", started, site_count);
	}
	return end(platform);
}
