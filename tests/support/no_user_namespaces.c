/*
 * Runs a command that cannot make user namespaces by unshare or clone: a seccomp filter refuses them, for it and all it
 * starts. The flags of clone3 are in memory, out of a filter's sight; the tests check clone3, so it stays.
 */
#include <linux/sched.h>
#include <sys/syscall.h>

#include "filter.h"

int main(int, char **argv)
{
	struct sock_filter code[] = {
		LOAD(arch),
		IF_EQUAL(AUDIT_ARCH_X86_64, 1, 0),
		GIVE(SECCOMP_RET_ALLOW),
		LOAD(nr),
		IF_EQUAL(SYS_clone, 2, 0),
		IF_EQUAL(SYS_unshare, 1, 0),
		GIVE(SECCOMP_RET_ALLOW),
		LOAD(args[0]),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_NEWUSER, 0, 1),
		REFUSE(EPERM),
		GIVE(SECCOMP_RET_ALLOW),
	};
	return run_filtered(argv, code, sizeof code / sizeof *code);
}
