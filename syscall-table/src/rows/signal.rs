//! Signals: actions, masks, sending and waiting.

/// Expands `callback! { signal [extra tokens] rows... }` once; see the crate's documentation for the row syntax.
#[macro_export]
macro_rules! signal_rows {
    ($($callback:ident)::+ $(, $($extra:tt)*)?) => {
        $($callback)::+! { signal [$($($extra)*)?]
             13 rt_sigaction (signum: Signal, act: In(Sigaction), oldact: Out(Sigaction), sigsetsize: Size) -> Int, full, kernel;
             14 rt_sigprocmask (how: Enum(SIG_HOW), set: In(SigSet), oldset: Out(SigSet), sigsetsize: Size) -> Int, full, kernel;
             15 rt_sigreturn () -> Int, full, kernel, always;
             34 pause () -> Int, full, blocks, kernel;
             62 kill (pid: Pid, sig: Signal) -> Int, full, kernel;
            127 rt_sigpending (set: Out(SigSet), sigsetsize: Size) -> Int, full, kernel;
            128 rt_sigtimedwait (set: In(SigSet), info: Out(Siginfo), timeout: In(Timespec), sigsetsize: Size) -> Signal, full, blocks, kernel;
            129 rt_sigqueueinfo (tgid: Pid, sig: Signal, info: In(Siginfo)) -> Int, full, kernel;
            130 rt_sigsuspend (mask: In(SigSet), sigsetsize: Size) -> Int, full, blocks, kernel;
            131 sigaltstack (ss: In(AltStack), old_ss: Out(AltStack)) -> Int, full, kernel, always;
            200 tkill (tid: Pid, sig: Signal) -> Int, full, kernel;
            219 restart_syscall () -> Int, full, blocks, kernel, always;
            234 tgkill (tgid: Pid, tid: Pid, sig: Signal) -> Int, full, kernel;
            297 rt_tgsigqueueinfo (tgid: Pid, tid: Pid, sig: Signal, info: In(Siginfo)) -> Int, full, kernel;
            424 pidfd_send_signal (pidfd: Fd, sig: Signal, info: In(Siginfo), flags: Flags(PIDFD_SIGNAL)) -> Int, partial "pidfds name processes, not threads", kernel;
        }
    };
}
