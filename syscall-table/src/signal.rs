//! Names of signals.

/// Names of the signals from 1 to 31; the real-time signals follow.
static NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// Names of the real-time signals 32 to 64, which Linux counts from `SIGRTMIN`, the C library's 32 to 34 included.
static REAL_TIME_NAMES: [&str; 33] = [
    "SIGRTMIN", "SIGRT_1", "SIGRT_2", "SIGRT_3", "SIGRT_4", "SIGRT_5", "SIGRT_6", "SIGRT_7", "SIGRT_8",
    "SIGRT_9", "SIGRT_10", "SIGRT_11", "SIGRT_12", "SIGRT_13", "SIGRT_14", "SIGRT_15", "SIGRT_16",
    "SIGRT_17", "SIGRT_18", "SIGRT_19", "SIGRT_20", "SIGRT_21", "SIGRT_22", "SIGRT_23", "SIGRT_24",
    "SIGRT_25", "SIGRT_26", "SIGRT_27", "SIGRT_28", "SIGRT_29", "SIGRT_30", "SIGRT_31", "SIGRT_32",
];

/// The name of a signal, from 1 to 64: `SIGCHLD` for 17, `SIGRT_2` for 34.
pub fn name(signal: u64) -> Option<&'static str> {
    let index = usize::try_from(signal.checked_sub(1)?).ok()?;
    NAMES.iter().chain(&REAL_TIME_NAMES).nth(index).copied()
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn names_follow_the_numbers() {
        assert_eq!(name(0), None);
        assert_eq!(name(1), Some("SIGHUP"));
        assert_eq!(name(17), Some("SIGCHLD"));
        assert_eq!(name(31), Some("SIGSYS"));
        assert_eq!(name(32), Some("SIGRTMIN"));
        assert_eq!(name(64), Some("SIGRT_32"));
        assert_eq!(name(65), None);
    }
}
