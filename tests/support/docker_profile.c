/*
 * Runs a command under what Docker's default seccomp profile lets a container without added capabilities do on x86-64:
 * calls that the profile refuses are EPERM, those newer than it are ENOSYS, and clone3 is ENOSYS so that callers use
 * clone, whose flags a filter can see.
 */
#include <linux/sched.h>
#include <sys/socket.h>

#include "filter.h"

/* The newest call that the profile knows: set_mempolicy_home_node. */
#define NEWEST 450

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

/* By number: the headers may be older than the calls, or than the profile. */
static const unsigned refused[] = {
	103 /* syslog */, 134 /* uselib */, 136 /* ustat */, 139 /* sysfs */, 153 /* vhangup */, 155 /* pivot_root */,
	156 /* _sysctl */, 163 /* acct */, 164 /* settimeofday */, 165 /* mount */, 166 /* umount2 */, 167 /* swapon */,
	168 /* swapoff */, 169 /* reboot */, 170 /* sethostname */, 171 /* setdomainname */, 172 /* iopl */, 173 /* ioperm */,
	174 /* create_module */, 175 /* init_module */, 176 /* delete_module */, 177 /* get_kernel_syms */,
	178 /* query_module */, 179 /* quotactl */, 180 /* nfsservctl */, 181 /* getpmsg */, 182 /* putpmsg */,
	183 /* afs_syscall */, 184 /* tuxcall */, 185 /* security */, 212 /* lookup_dcookie */, 227 /* clock_settime */,
	236 /* vserver */, 237 /* mbind */, 238 /* set_mempolicy */, 239 /* get_mempolicy */, 246 /* kexec_load */,
	248 /* add_key */, 249 /* request_key */, 250 /* keyctl */, 256 /* migrate_pages */, 272 /* unshare */,
	279 /* move_pages */, 298 /* perf_event_open */, 300 /* fanotify_init */, 304 /* open_by_handle_at */, 308 /* setns */,
	312 /* kcmp */, 313 /* finit_module */, 320 /* kexec_file_load */, 321 /* bpf */, 323 /* userfaultfd */,
	425 /* io_uring_setup */, 426 /* io_uring_enter */, 427 /* io_uring_register */, 428 /* open_tree */,
	429 /* move_mount */, 430 /* fsopen */, 431 /* fsconfig */, 432 /* fsmount */, 433 /* fspick */,
	438 /* pidfd_getfd */, 440 /* process_madvise */, 442 /* mount_setattr */, 443 /* quotactl_fd */,
	450 /* set_mempolicy_home_node */,
};

static const struct sock_filter first[] = {
	LOAD(arch),
	IF_EQUAL(AUDIT_ARCH_X86_64, 1, 0),
	GIVE(SECCOMP_RET_ALLOW),
	LOAD(nr),
	BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, NEWEST, 0, 1),
	REFUSE(ENOSYS),
	/* No number is between these; the profile has none of them. */
	BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 334, 0, 2),
	BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 424, 1, 0),
	REFUSE(EPERM),
	IF_EQUAL(435 /* clone3 */, 0, 1),
	REFUSE(ENOSYS),
	IF_EQUAL(56 /* clone */, 0, 4),
	LOAD(args[0]),
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NAMESPACES, 0, 1),
	REFUSE(EPERM),
	GIVE(SECCOMP_RET_ALLOW),
	IF_EQUAL(41 /* socket */, 0, 4),
	LOAD(args[0]),
	IF_EQUAL(AF_VSOCK, 0, 1),
	REFUSE(EPERM),
	GIVE(SECCOMP_RET_ALLOW),
	IF_EQUAL(135 /* personality */, 0, 8),
	LOAD(args[0]),
	IF_EQUAL(0, 4, 0),
	IF_EQUAL(0x8 /* PER_LINUX32 */, 3, 0),
	IF_EQUAL(0x20000 /* UNAME26 */, 2, 0),
	IF_EQUAL(0x20008, 1, 0),
	IF_EQUAL(0xffffffff, 0, 1),
	GIVE(SECCOMP_RET_ALLOW),
	REFUSE(EPERM),
};

int main(int, char **argv)
{
	struct sock_filter code[256];
	unsigned short len = 0;
	for (size_t i = 0; i < sizeof first / sizeof *first; i++)
		code[len++] = first[i];
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		code[len++] = (struct sock_filter)IF_EQUAL(refused[i], 0, 1);
		code[len++] = (struct sock_filter)REFUSE(EPERM);
	}
	code[len++] = (struct sock_filter)GIVE(SECCOMP_RET_ALLOW);

	return run_filtered(argv, code, len);
}
