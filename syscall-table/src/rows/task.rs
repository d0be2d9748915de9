//! Processes and threads: life cycle, ids, credentials, limits, sessions, tracing.

/// Expands `callback! { task [extra tokens] rows... }` once; see the crate's documentation for the row syntax.
#[macro_export]
macro_rules! task_rows {
    ($($callback:ident)::+ $(, $($extra:tt)*)?) => {
        $($callback)::+! { task [$($($extra)*)?]
             39 getpid () -> Pid, full, guest;
             56 clone (flags: Flags(CLONE), child_stack: Addr, parent_tid: Out(Int), child_tid: Addr, tls: Addr) -> Pid, partial "no namespaces, no cgroups, no chosen ids", blocks, kernel, asked;
             57 fork () -> Pid, full, kernel;
             58 vfork () -> Pid, full, blocks, kernel;
             59 execve (path: Path, argv: Argv, envp: Envp) -> Int, full, blocks, kernel;
             60 exit (status: Int) -> Never, full, kernel, always;
             61 wait4 (pid: Pid, wstatus: Out(WaitStatus), options: Flags(WAIT4), rusage: Out(Rusage)) -> Pid, full, blocks, kernel;
             97 getrlimit (resource: Enum(RLIMIT), rlim: Out(Rlimit)) -> Int, full, kernel;
             98 getrusage (who: Enum(RUSAGE), usage: Out(Rusage)) -> Int, full, kernel;
            100 times (buf: Out(Tms)) -> Ticks, full, kernel;
            101 ptrace (request: Enum(PTRACE), pid: Pid, addr: By(request), data: By(request)) -> Int, partial "no seccomp events, PTRACE_GET_SYSCALL_INFO or system call emulation", kernel;
            102 getuid () -> Uid, full, guest;
            104 getgid () -> Gid, full, guest;
            105 setuid (uid: Uid) -> Int, full, kernel;
            106 setgid (gid: Gid) -> Int, full, kernel;
            107 geteuid () -> Uid, full, guest;
            108 getegid () -> Gid, full, guest;
            109 setpgid (pid: Pid, pgid: Pid) -> Int, full, kernel;
            110 getppid () -> Pid, full, guest, asked;
            111 getpgrp () -> Pid, full, kernel;
            112 setsid () -> Pid, full, kernel;
            113 setreuid (ruid: Uid, euid: Uid) -> Int, full, kernel;
            114 setregid (rgid: Gid, egid: Gid) -> Int, full, kernel;
            115 getgroups (size: Int, list: OutArray(Gid, size)) -> Int, full, kernel;
            116 setgroups (size: Int, list: InArray(Gid, size)) -> Int, full, kernel;
            117 setresuid (ruid: Uid, euid: Uid, suid: Uid) -> Int, full, kernel;
            118 getresuid (ruid: Out(Uid), euid: Out(Uid), suid: Out(Uid)) -> Int, full, kernel;
            119 setresgid (rgid: Gid, egid: Gid, sgid: Gid) -> Int, full, kernel;
            120 getresgid (rgid: Out(Gid), egid: Out(Gid), sgid: Out(Gid)) -> Int, full, kernel;
            121 getpgid (pid: Pid) -> Pid, full, kernel;
            122 setfsuid (fsuid: Uid) -> Uid, full, kernel;
            123 setfsgid (fsgid: Gid) -> Gid, full, kernel;
            124 getsid (pid: Pid) -> Pid, full, kernel;
            125 capget (hdrp: InOut(CapHeader), datap: Out(CapData)) -> Int, full, kernel;
            126 capset (hdrp: InOut(CapHeader), datap: In(CapData)) -> Int, full, kernel;
            135 personality (persona: Flags(PERSONALITY)) -> Hex, full, kernel;
            153 vhangup () -> Int, refused(EPERM) "terminals are hung up by their other end", kernel;
            157 prctl (option: Enum(PRCTL), arg2: By(option), arg3: By(option), arg4: By(option), arg5: By(option)) -> Int, partial "options of rare hardware and of merging, naming and huge pages are EINVAL", kernel, checked;
            158 arch_prctl (code: Enum(ARCH_PRCTL), addr: By(code)) -> Int, partial "segment bases, CPUID faulting; the state of AMX is given to nobody", kernel;
            160 setrlimit (resource: Enum(RLIMIT), rlim: In(Rlimit)) -> Int, full, kernel;
            186 gettid () -> Pid, full, guest;
            218 set_tid_address (tidptr: Addr) -> Pid, full, kernel;
            231 exit_group (status: Int) -> Never, full, kernel, always;
            247 waitid (idtype: Enum(ID_TYPE), id: Pid, infop: Out(Siginfo), options: Flags(WAIT), rusage: Out(Rusage)) -> Int, full, blocks, kernel;
            272 unshare (flags: Flags(NAMESPACES)) -> Int, partial "no namespaces", kernel;
            273 set_robust_list (head: Addr, len: Size) -> Int, full, kernel;
            274 get_robust_list (pid: Pid, head: Out(Pointer), len: Out(Ulong)) -> Int, full, kernel;
            302 prlimit64 (pid: Pid, resource: Enum(RLIMIT), new_limit: In(Rlimit), old_limit: Out(Rlimit)) -> Int, full, kernel;
            308 setns (fd: Fd, nstype: Flags(NAMESPACES)) -> Int, refused(EPERM) "the machine has no namespaces", kernel;
            312 kcmp (pid1: Pid, pid2: Pid, kind: Enum(KCMP), idx1: Hex, idx2: Hex) -> Int, partial "files, memory, tables and handlers; no I/O contexts, semaphores and epoll targets", kernel;
            317 seccomp (operation: Enum(SECCOMP), flags: Flags(SECCOMP_FILTER), args: By(operation)) -> Int, refused(EINVAL) "filters are not interpreted yet; as in a kernel without seccomp", kernel;
            322 execveat (dirfd: DirFd, path: Path, argv: Argv, envp: Envp, flags: Flags(EXECVEAT)) -> Int, full, blocks, kernel;
            434 pidfd_open (pid: Pid, flags: Flags(PIDFD_OPEN)) -> Fd, full, kernel;
            435 clone3 (cl_args: InOut(CloneArgs), size: Size) -> Pid, partial "no namespaces, no cgroups, no chosen ids", blocks, kernel;
            438 pidfd_getfd (pidfd: Fd, targetfd: Fd, flags: Hex) -> Fd, full, kernel;
        }
    };
}
