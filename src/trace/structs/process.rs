//! Processes, their limits and their privileges.

use syscall_table::flags;

use crate::trace::memory::Fields;
use crate::trace::text::{self, Braces, put};

/// What wait4(2) says about a child, 4 bytes.
pub(super) fn wait_status(status: Fields<'_>) -> String {
    let status = status.u32(0);
    let signal = text::signal_name((status & 0x7f).into());
    match status & 0x7f {
        0 => format!("[{{WIFEXITED(s) && WEXITSTATUS(s) == {}}}]", (status >> 8) & 0xff),
        0x7f if status == 0xffff => "[{WIFCONTINUED(s)}]".into(),
        0x7f => {
            let stopped_by = text::signal_name(((status >> 8) & 0x7f).into());
            format!("[{{WIFSTOPPED(s) && WSTOPSIG(s) == {stopped_by}}}]")
        }
        _ if status & 0x80 != 0 => format!("[{{WIFSIGNALED(s) && WTERMSIG(s) == {signal} && WCOREDUMP(s)}}]"),
        _ => format!("[{{WIFSIGNALED(s) && WTERMSIG(s) == {signal}}}]"),
    }
}

/// `struct rlimit64`, 16 bytes.
pub(super) fn rlimit(limit: Fields<'_>) -> String {
    let amount = |limit: u64| match limit {
        u64::MAX => "RLIM64_INFINITY".to_owned(),
        _ if limit > 1024 && limit.is_multiple_of(1024) => format!("{}*1024", limit / 1024),
        _ => limit.to_string(),
    };
    Braces::new()
        .field("rlim_cur", amount(limit.u64(0)))
        .field("rlim_max", amount(limit.u64(8)))
        .end()
}

/// The beginning of `struct rusage`, 144 bytes.
pub(super) fn rusage(usage: Fields<'_>) -> String {
    Braces::new()
        .field("ru_utime", super::time::timeval(Fields(usage.slice(0, 16))))
        .field("ru_stime", super::time::timeval(Fields(usage.slice(16, 16))))
        .abbreviated()
}

/// `struct clone_args`, up to 88 bytes, of which a caller may give a part.
pub(super) fn clone_args(args: Fields<'_>) -> String {
    let clone_flags = args.u64(0);
    let named = flags::CLONE_BITS.display(clone_flags);
    let mut fields = Braces::new().field("flags", named);
    let pointers = [
        ("pidfd", 8, 0x1000),
        ("child_tid", 16, 0x0120_0000),
        ("parent_tid", 24, 0x0010_0000),
    ];
    for (name, at, flag) in pointers {
        if clone_flags & flag != 0 {
            fields = fields.field(name, text::addr(args.u64(at)));
        }
    }
    fields = fields
        .field(
            "exit_signal",
            match args.u64(32) {
                0 => "0".into(),
                signal => text::signal_name(signal),
            },
        )
        .field("stack", text::addr(args.u64(40)))
        .field("stack_size", text::hex(args.u64(48)));
    // CLONE_SETTLS
    if clone_flags & 0x8_0000 != 0 {
        fields = fields.field("tls", text::addr(args.u64(56)));
    }
    if args.u64(72) != 0 {
        fields = fields
            .field("set_tid", text::addr(args.u64(64)))
            .field("set_tid_size", args.u64(72));
    }
    // CLONE_INTO_CGROUP
    if clone_flags & 0x2_0000_0000 != 0 {
        fields = fields.field("cgroup", args.u64(80));
    }
    fields.end()
}

/// `struct __user_cap_header_struct`, 8 bytes.
pub(super) fn cap_header(header: Fields<'_>) -> String {
    Braces::new()
        .field("version", flags::CAP_VERSION.display(header.u32(0).into()))
        .field("pid", header.i32(4))
        .end()
}

/// Two `struct __user_cap_data_struct`, 24 bytes: the lower and the upper halves of three sets.
pub(super) fn cap_data(data: Fields<'_>) -> String {
    let set = |at: usize| capabilities(u64::from(data.u32(at)) | u64::from(data.u32(at + 12)) << 32);
    Braces::new()
        .field("effective", set(0))
        .field("permitted", set(4))
        .field("inheritable", set(8))
        .end()
}

fn capabilities(set: u64) -> String {
    if set == 0 {
        return "0".into();
    }
    let mut text = String::new();
    for bit in (0..64).filter(|bit| set & (1 << bit) != 0) {
        let separator = if text.is_empty() { "" } else { "|" };
        match flags::CAP.name_of(bit) {
            Some(name) => put!(text, "{separator}1<<{name}"),
            None => put!(text, "{separator}{:#x}", 1_u64 << bit),
        }
    }
    text
}

/// `struct sched_attr`, 56 bytes.
pub(super) fn sched_attr(attr: Fields<'_>) -> String {
    Braces::new()
        .field("size", attr.u32(0))
        .field("sched_policy", flags::SCHED.display(attr.u32(4).into()))
        .field("sched_flags", flags::SCHED_ATTR.display(attr.u64(8)))
        .field("sched_nice", attr.i32(16))
        .field("sched_priority", attr.u32(20))
        .field("sched_runtime", attr.u64(24))
        .field("sched_deadline", attr.u64(32))
        .field("sched_period", attr.u64(40))
        .end()
}
