/*
 * Makes host processes and threads by jumping to the runtime's clone: with all kinds of flags, and with the token of a
 * clone that the supervisor has just asked a sibling for.
 */
#include "jump.h"
#include <linux/sched.h>
#include <sched.h>

/* As in guest-runtime's `abi`. */
enum { NR_HELLO = 110, TOKENS = 200 };

static uint64_t site;
static void *stack, *child_stack;

/* What a thread or process that should not be would do: say so. */
static void *child_area(void)
{
	uint64_t *words = new_stack();
	for (int i = 0; i < FAKE_STACK / 8; i++)
		words[i] = (uint64_t)jump_pad;
	return words;
}

static const uint64_t flag_sets[] = {
	SIGCHLD,
	0,
	CLONE_VM | CLONE_VFORK | SIGCHLD,
	CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD,
	CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |
		CLONE_CHILD_CLEARTID,
	CLONE_PARENT,
	CLONE_PARENT | SIGCHLD,
	CLONE_PARENT | SIGKILL,
	CLONE_UNTRACED | SIGCHLD,
	CLONE_PTRACE | SIGCHLD,
	CLONE_PIDFD | SIGCHLD,
	CLONE_FILES | SIGCHLD,
	CLONE_NEWUSER | SIGCHLD,
	CLONE_NEWNS | SIGCHLD,
	CLONE_NEWPID | SIGCHLD,
	CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP,
	CLONE_IO | SIGCHLD,
	CLONE_CHILD_CLEARTID | SIGCHLD,
	CLONE_SETTLS | CLONE_VM,
	UINT64_MAX,
	0xffffffff00000000ul | SIGCHLD,
};
enum { FLAG_SETS = sizeof flag_sets / sizeof flag_sets[0] };

static void clone_by_jump(uint64_t which)
{
	static const long numbers[] = { SYS_clone, SYS_fork, SYS_vfork, SYS_clone3 };
	struct clone_args args = { .flags = flag_sets[which / 4] & ~0xfful, .exit_signal = SIGCHLD };
	long number = numbers[which % 4], result;
	if (number == SYS_clone3)
		result = native_call(site, stack, number, (uint64_t)&args, sizeof args, 0, 0, 0, 0);
	else
		result = native_call(site, stack, number, flag_sets[which / 4], (uint64_t)child_stack + 0x8000,
				     (uint64_t)child_stack, (uint64_t)child_stack, (uint64_t)child_stack, random_u64());
	if (result >= 0)
		_exit(BREACH);
}

/* Says hello for a process that nobody expects. */
static void hello(uint64_t token)
{
	if (native_call(site, stack, NR_HELLO, token, 0, 0, 0, 0, 0) >= 0)
		_exit(BREACH);
}

static void *keep_forking(void *arg)
{
	for (;;) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(0);
		if (pid > 0)
			waitpid(pid, NULL, 0);
	}
	return arg;
}

/* Whatever a page holds that looks like a token is tried at once: a clone by us, instead of the one that was asked for. */
static void steal(uint64_t as)
{
	pthread_t thread;
	stack = new_stack();
	NEED(pthread_create(&thread, NULL, keep_forking, NULL) == 0);
	for (int i = 0; i < TOKENS;) {
		volatile uint64_t *words = (uint64_t *)(SHARED_BASE + SHARED_STRIDE);
		for (unsigned at = 64; at < PAGE / 8 && i < TOKENS; at++) {
			uint64_t token = words[at];
			if (token >> 48 == 0 || token >> 48 == 0xffff)
				continue;
			i++;
			if (as % 2 == 0)
				native_call(site, stack, NR_HELLO, token, 0, 0, 0, 0, 0);
			for (int k = 0; as % 2 == 1 && k < 2; k++)
				native_call(site, stack, SYS_clone, flag_sets[k], 0, 0, 0, 0, token);
		}
		i++;
	}
}

/* As many as it can, while real ones are made. */
static void storm(uint64_t arg)
{
	pthread_t thread;
	stack = new_stack();
	NEED(pthread_create(&thread, NULL, keep_forking, NULL) == 0);
	for (uint64_t i = 0; i < 2000; i++)
		native_call(site, stack, SYS_clone, flag_sets[(i + arg) % 4], 0, 0, 0, 0, random_u64());
}

int main(int argc, char **argv)
{
	bool platform = begin(argc, argv, "native_clone");
	if (platform) {
		find_sites();
		site = find_returning_site();
		if (!site)
			site = sites[0];
		stack = new_stack();
		child_stack = child_area();
		try_all("clone", clone_by_jump, FLAG_SETS * 4);
		for (int i = 0; i < site_count; i++) {
			site = sites[i];
			try_attack("clone", clone_by_jump, 0);
			try_attack("hello", hello, random_u64());
		}
		site = find_returning_site();
		try_all("hello", hello, 8);
		try_all("a stolen token", steal, 8);
		try_all("a storm of clones", storm, 8);
	}
	return end(platform);
}
