//! Processes, signals and times.

use super::*;

#[test]
fn signals_have_names_sets_and_handlers() {
    let action = Guest::default().longs(P, &[0x5653_9a03_9be9, 0x1400_0000, 0x7f79_0265_8050, 2]);
    assert_eq!(
        line("rt_sigaction", &[10, P, 0, 8], 0, &action),
        "rt_sigaction(SIGUSR1, {sa_handler=0x56539a039be9, sa_mask=[INT], sa_flags=SA_RESTORER|SA_RESTART, \
         sa_restorer=0x7f7902658050}, NULL, 8) = 0"
    );
    let sets = Guest::default().longs(P, &[!0x1_8000_0000]).longs(Q, &[0x1_0200]);
    assert_eq!(
        line("rt_sigprocmask", &[2, P, Q, 8], 0, &sets),
        "rt_sigprocmask(SIG_SETMASK, ~[RTMIN RT_1], [USR1 CHLD], 8) = 0"
    );
    let info = Guest::default()
        .longs(Q, &[0x200])
        .words(P, &[10, 0, 0, 0, 7137, 0])
        .longs(R, &[0, 0]);
    let info = Guest(
        info.0
            .into_iter()
            .map(|(addr, mut bytes)| {
                (addr, {
                    bytes.resize(128, 0);
                    bytes
                })
            })
            .collect(),
    );
    assert_eq!(
        line("rt_sigtimedwait", &[Q, P, R, 8], 10, &info),
        "rt_sigtimedwait([USR1], {si_signo=SIGUSR1, si_code=SI_USER, si_pid=7137, si_uid=0}, {tv_sec=0, \
         tv_nsec=0}, 8) = 10 (SIGUSR1)"
    );
    assert_eq!(line("kill", &[7137, 10], 0, &info), "kill(7137, SIGUSR1) = 0");
}

#[test]
fn delivered_signals_tell_what_they_carry() {
    let mut info = [0; 128];
    for (at, word) in [(0, 17_u32), (8, 1), (16, 7138), (24, 3)] {
        info[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    assert_eq!(
        signal_event(&info),
        "--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=7138, si_uid=0, si_status=3, si_utime=0, \
         si_stime=0} ---"
    );
    info = [0; 128];
    for (at, word) in [(0, 11_u32), (8, 1), (16, 0x1234)] {
        info[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    assert_eq!(
        signal_event(&info),
        "--- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=0x1234} ---"
    );
}

#[test]
fn times_left_show_after_an_interruption_only() {
    let guest = Guest::default().longs(P, &[1, 0]).longs(Q, &[0, 5]);
    assert_eq!(
        line("nanosleep", &[P, Q], 0, &guest),
        "nanosleep({tv_sec=1, tv_nsec=0}, 0x2000) = 0"
    );
    assert_eq!(
        line("nanosleep", &[P, Q], -516, &guest),
        "nanosleep({tv_sec=1, tv_nsec=0}, {tv_sec=0, tv_nsec=5}) = ? ERESTART_RESTARTBLOCK (Interrupted by signal)"
    );
    assert_eq!(
        line("clock_gettime", &[1, Q], 0, &guest),
        "clock_gettime(CLOCK_MONOTONIC, {tv_sec=0, tv_nsec=5}) = 0"
    );
}

#[test]
fn processes_are_cloned_and_waited_for() {
    let guest = Guest::default().words(P, &[0x300]).words(Q, &[7139]);
    assert_eq!(
        line("clone", &[0x0120_0011, 0, 0, 0x7f79_0261_9a10, 0], 7138, &guest),
        "clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD, \
         child_tidptr=0x7f7902619a10) = 7138"
    );
    assert_eq!(
        line("clone", &[0x18_0000, 0x9000, Q, 0, 0x8000], 7139, &guest),
        "clone(child_stack=0x9000, flags=CLONE_SETTLS|CLONE_PARENT_SETTID, parent_tid=[7139], tls=0x8000) = 7139"
    );
    assert_eq!(
        line("wait4", &[7138, P, 0, 0], 7138, &guest),
        "wait4(7138, [{WIFEXITED(s) && WEXITSTATUS(s) == 3}], 0, NULL) = 7138"
    );
    assert_eq!(
        line(
            "wait4",
            &[u64::MAX, P, 2, 0],
            7140,
            &Guest::default().words(P, &[0x89])
        ),
        "wait4(-1, [{WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL && WCOREDUMP(s)}], WSTOPPED, NULL) = 7140"
    );
    let args = Guest::default()
        .longs(P, &[0x10_0000, 0, 0, Q, 17, 0, 0, 0, 0, 0, 0])
        .words(Q, &[7141]);
    assert_eq!(
        line("clone3", &[P, 88], 7141, &args),
        "clone3({flags=CLONE_PARENT_SETTID, parent_tid=0x2000, exit_signal=SIGCHLD, stack=NULL, stack_size=0} => \
         {parent_tid=[7141]}, 88) = 7141"
    );
    assert_eq!(line("exit_group", &[3], 0, &args), "exit_group(3) = ?");
}

#[test]
fn programs_are_started_with_their_arguments() {
    let guest = Guest::default()
        .with(
            P,
            b"/bin/true\0true\0this argument is longer than thirty-two bytes\0",
        )
        .longs(Q, &[P + 10, P + 15, 0])
        .longs(R, &[P, P, 0]);
    assert_eq!(
        line("execve", &[P, Q, R], 0, &guest),
        r#"execve("/bin/true", ["true", "this argument is longer than thi"...], 0x3000 /* 2 vars */) = 0"#
    );
    assert_eq!(
        line("execve", &[P, 0x66, 0], -14, &guest),
        r#"execve("/bin/true", 0x66, NULL) = -1 EFAULT (Bad address)"#
    );
}

#[test]
fn limits_and_ids_are_readable() {
    let guest = Guest::default().longs(P, &[8 << 20, u64::MAX]).words(Q, &[0]);
    assert_eq!(
        line("prlimit64", &[0, 3, 0, P], 0, &guest),
        "prlimit64(0, RLIMIT_STACK, NULL, {rlim_cur=8192*1024, rlim_max=RLIM64_INFINITY}) = 0"
    );
    assert_eq!(
        line("getresuid", &[Q, Q, Q], 0, &guest),
        "getresuid([0], [0], [0]) = 0"
    );
    assert_eq!(
        line("setresuid", &[0xffff_ffff, 5, 0], 0, &guest),
        "setresuid(-1, 5, 0) = 0"
    );
    assert_eq!(line("getgroups", &[1, Q], 1, &guest), "getgroups(1, [0]) = 1");
    assert_eq!(line("umask", &[0o22], 0o22, &guest), "umask(022) = 022");
}

#[test]
fn prctl_depends_on_its_option() {
    let guest = Guest::default().with(P, b"myname\0").words(Q, &[15]);
    assert_eq!(
        line("prctl", &[15, P], 0, &guest),
        r#"prctl(PR_SET_NAME, "myname") = 0"#
    );
    assert_eq!(
        line("prctl", &[2, Q], 0, &guest),
        "prctl(PR_GET_PDEATHSIG, [SIGTERM]) = 0"
    );
    assert_eq!(
        line("prctl", &[3], 1, &guest),
        "prctl(PR_GET_DUMPABLE) = 1 (SUID_DUMP_USER)"
    );
    assert_eq!(
        line("prctl", &[38], -22, &guest),
        "prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) = -1 EINVAL (Invalid argument)"
    );
    let value = Guest::default().longs(P, &[0x7f79_0261_9740]);
    assert_eq!(
        line("arch_prctl", &[0x1003, P], 0, &value),
        "arch_prctl(ARCH_GET_FS, [0x7f7902619740]) = 0"
    );
    assert_eq!(
        line("arch_prctl", &[0x1002, P], 0, &value),
        "arch_prctl(ARCH_SET_FS, 0x1000) = 0"
    );
}

#[test]
fn cpu_masks_are_lists() {
    let guest = Guest::default().longs(P, &[3, 0, 0, 0]);
    assert_eq!(
        line("sched_getaffinity", &[0, 128, P], 32, &guest),
        "sched_getaffinity(0, 128, [0 1]) = 32"
    );
    assert_eq!(
        line("sched_getscheduler", &[0], 0, &guest),
        "sched_getscheduler(0) = 0 (SCHED_OTHER)"
    );
}
