/*
 * Runs a command on a host that forbids looking into other processes: a seccomp filter refuses ptrace and all that could
 * stand in for it, for the command and all it starts.
 */
#include <sys/syscall.h>

#include "filter.h"

#define WITHOUT(number) IF_EQUAL(number, 0, 1), REFUSE(EPERM)

int main(int, char **argv)
{
	struct sock_filter code[] = {
		LOAD(arch),
		IF_EQUAL(AUDIT_ARCH_X86_64, 1, 0),
		GIVE(SECCOMP_RET_ALLOW),
		LOAD(nr),
		WITHOUT(SYS_ptrace),
		WITHOUT(SYS_process_vm_readv),
		WITHOUT(SYS_process_vm_writev),
		WITHOUT(SYS_kcmp),
		WITHOUT(SYS_pidfd_getfd),
		GIVE(SECCOMP_RET_ALLOW),
	};
	return run_filtered(argv, code, sizeof code / sizeof *code);
}
